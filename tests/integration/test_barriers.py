"""Networks with parts that are not understood, in the style of what people write."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils import _pytree as pytree
from torchvision.ops import DeformConv2d, nms

import prunecore


class LayerNormFunction(torch.autograd.Function):
    """A norm over channels with a gradient of its own."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
        centred = x - x.mean(1, keepdim=True)
        y = centred / (centred.pow(2).mean(1, keepdim=True) + eps).sqrt()
        ctx.save_for_backward(y, weight)
        return weight.view(1, -1, 1, 1) * y + bias.view(1, -1, 1, 1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        y, weight = ctx.saved_tensors
        scaled = gradient * weight.view(1, -1, 1, 1)
        return scaled, (gradient * y).sum((0, 2, 3)), gradient.sum((0, 2, 3)), None


class LayerNorm2d(nn.Module):
    def __init__(self, channels: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return LayerNormFunction.apply(x, self.weight, self.bias, self.eps)


class Restoring(nn.Module):
    """A norm of the user's own, and halves that are multiplied."""

    def __init__(self) -> None:
        super().__init__()
        self.intro = nn.Conv2d(3, 16, 3, padding=1)
        self.norm = LayerNorm2d(16)
        self.conv1, self.conv2 = nn.Conv2d(16, 32, 1), nn.Conv2d(16, 16, 1)
        self.ending = nn.Conv2d(16, 3, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        x = self.intro(image)
        one, other = self.conv1(self.norm(x)).chunk(2, 1)
        return self.ending(x + self.conv2(one * other)) + image


class Siamese(nn.Module):
    """Two inputs through one encoder, and how far apart they come out."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU())
        self.fc1 = nn.Sequential(nn.Linear(8 * 4 * 4, 32), nn.ReLU(), nn.Linear(32, 12))
        self.score = nn.Linear(12, 1)

    def forward(self, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
        one, other = (self.fc1(self.conv(x).flatten(1)) for x in (first, second))
        return self.score((one - other).abs()).sigmoid(), F.pairwise_distance(one, other)


class Deformed(nn.Module):
    """A convolution at places that another one computes."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 24, 3, 2, 1), nn.BatchNorm2d(24), nn.ReLU())
        self.conv = nn.Conv2d(24, 8, 3, padding=1)
        self.offsets = nn.Conv2d(8, 27, 3, padding=1)
        self.deformed = DeformConv2d(8, 8, 3, padding=1)
        self.last = nn.Conv2d(8, 6, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(self.stem(x))
        first, second, mask = self.offsets(x).chunk(3, dim=1)
        return self.last(self.deformed(x, torch.cat((first, second), 1), mask.sigmoid()).relu())


class Transforming(nn.Module):
    """Turns its input before it looks at it."""

    def __init__(self) -> None:
        super().__init__()
        self.localization = nn.Sequential(nn.Conv2d(1, 8, 5), nn.MaxPool2d(2), nn.ReLU())
        self.fc_loc = nn.Sequential(nn.Linear(8 * 6 * 6, 32), nn.ReLU(), nn.Linear(32, 6))
        self.conv, self.fc = nn.Conv2d(1, 10, 5), nn.Linear(10, 10)

    def forward(self, x: Tensor) -> Tensor:
        theta = self.fc_loc(self.localization(x).view(-1, 8 * 6 * 6)).view(-1, 2, 3)
        x = F.grid_sample(x, F.affine_grid(theta, x.size(), False), align_corners=False)
        return self.fc(self.conv(x).relu().mean((2, 3)))


class Boxes(nn.Module):
    """Takes the best of a batch's boxes: how many these are depends on the values."""

    def __init__(self, threshold: float = 0.5) -> None:
        super().__init__()
        self.threshold = threshold

    def forward(self, boxes: Tensor, scores: Tensor) -> list[dict[str, Tensor]]:
        found = []
        for own, score in zip(boxes, scores, strict=True):
            corners = torch.cat([own[:, :2], own[:, :2] + own[:, 2:].abs()], 1)
            best = nms(corners, score, self.threshold)
            found.append({"boxes": corners[best], "scores": score[best]})
        return found


class Detector(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(
            nn.Conv2d(3, 16, 3, 2, 1), nn.ReLU(), nn.Conv2d(16, 16, 3, 2, 1), nn.ReLU()
        )
        self.head = nn.Conv2d(16, 5, 1)
        self.boxes = Boxes()

    def forward(self, x: Tensor) -> list[dict[str, Tensor]]:
        x = self.head(self.backbone(x)).flatten(2).transpose(1, 2)
        return self.boxes(x[..., :4], x[..., 4])


class Shifting(nn.Module):
    """Decides by values, and holds tensors that are neither parameters nor buffers."""

    def __init__(self) -> None:
        super().__init__()
        self.shifts, self.scale = torch.rand(16, 8, 8), torch.tensor(2.0)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.shifts if bool(x.sum() > 0) else x * self.scale


def convolutions(channels: int = 3) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, 32, 1), nn.ReLU(), nn.Conv2d(32, 16, 1))


class Rolling(nn.Module):
    """Takes places by a number that lies in a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("count", torch.tensor(5))

    def forward(self, x: Tensor) -> Tensor:
        count = self.count.item()
        return torch.cat([x[:, count:], x[:, :count]], 1)


class Applying(nn.Module):
    """Holds the call of a function with a gradient of its own, and decides by values."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(16)), nn.Parameter(torch.zeros(16))
        self.norm = LayerNormFunction.apply

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x, self.weight, self.bias, 1e-6) if bool(x.sum() > 0) else x


Shape = Sequence[int] | list[tuple[int, ...]]
NETWORKS: list[tuple[Callable[[], nn.Module], Shape, set[str]]] = [
    (Restoring, (3, 8, 8), {"intro", "conv2"}),
    (Siamese, [(1, 8, 8), (1, 8, 8)], {"fc1.2"}),
    (Deformed, (3, 16, 16), {"offsets"}),
    (Transforming, (1, 16, 16), {"fc_loc.2"}),
    (Detector, (3, 32, 32), {"boxes", "head"}),
    (lambda: nn.Sequential(convolutions(), Shifting(), convolutions(16)), (3, 8, 8), {"1"}),
    (lambda: nn.Sequential(convolutions(), Rolling(), convolutions(16)), (3, 8, 8), {"1"}),
    (lambda: nn.Sequential(convolutions(), Applying(), convolutions(16)), (3, 8, 8), {"1"}),
]


@pytest.mark.parametrize(("make", "shape", "whole"), NETWORKS)
def test_what_is_understood_is_pruned_and_pruned_again(
    make: Callable[[], nn.Module], shape: Shape, whole: set[str]
) -> None:
    torch.manual_seed(0)
    small = prunecore.prune(make(), level=25, input_shape=shape, mode="random")
    left_whole = {entry["layer"] for entry in small.report["left_whole"]}
    assert whole <= left_whole
    assert small.report["verified"]
    shapes = shape if isinstance(shape, list) else [shape]
    output = small.model.train()(*(torch.rand(2, *each) for each in shapes))
    sum(leaf.sum() for leaf in pytree.tree_leaves(output)).backward()
    again = prunecore.prune(small.model, level=10, input_shape=shape, mode="random")
    assert again.report["verified"]


def test_what_is_written_of_torchvision_s_operators_imports_them() -> None:
    source = prunecore.prune(Deformed(), level=25, input_shape=(3, 16, 16)).source
    assert "import torchvision  # noqa: F401, which brings the operators\n" in source
    source = prunecore.prune(Detector(), level=25, input_shape=(3, 32, 32)).source
    assert "from torchvision.ops import nms\n" in source


class Deciding(nn.Module):
    """Branches on numbers."""

    def forward(self, x: Tensor) -> Tensor:
        return -x if x.mean() > 1 else x


class Copied(nn.Module):
    """Copies a channel of a tensor that it changes in place, behind what cannot be followed."""

    def __init__(self) -> None:
        super().__init__()
        self.unknown = Deciding()
        self.first, self.second = nn.Conv2d(3, 8, 1), nn.Conv2d(1, 8, 1)
        self.last = nn.Conv2d(16, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(self.unknown(x)).tanh()
        z = y[:, [3]]
        y.add_(1.5)
        return self.last(torch.cat([y, self.second(z)], 1))


@pytest.mark.parametrize("seed", range(4))
def test_a_copy_stays_one_where_what_changes_is_not_known(seed: int) -> None:
    small = prunecore.prune(Copied(), level=30, input_shape=(3, 4, 4), mode="random", seed=seed)
    assert re.search(r"z = y\[:, (self\.order|\[\d\])\]", small.source)


class Perhaps(nn.Module):
    """Returns nothing of what has other axes."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(8, 8, 1)

    def forward(self, x: Tensor) -> Tensor | None:
        return self.conv(x) if x.ndim == 4 else None


class Asking(nn.Module):
    """Asks for what comes of a barrier, in training too."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.unknown, self.perhaps = nn.Conv2d(3, 8, 1), Deciding(), Perhaps()
        self.last = nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.perhaps(self.unknown(self.first(x)))
        return self.last(x * 2 if self.training else x)


def test_numbers_that_a_barrier_is_asked_with_are_no_draws() -> None:
    small = prunecore.prune(Asking(), level=30, input_shape=(3, 4, 4))
    assert [entry["layer"] for entry in small.report["left_whole"]] == ["unknown", "first"]


class Cache:
    """Keeps something for later calls."""


class Caching(nn.Module):
    """Gives a child something that no graph holds."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 4))
        self.head = Both()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(self.inner(x), Cache())
        return y


class Both(nn.Module):
    def forward(self, x: Tensor, cache: Cache) -> Tensor:
        return x


def test_a_network_of_a_barrier_alone_says_what_to_do_about_it() -> None:
    expected = "For 0 to be followed: Hand on tensors"
    with pytest.raises(prunecore.PrunecoreError, match=expected):
        prunecore.prune(nn.Sequential(Caching()), torch.rand(2, 4), 30)
