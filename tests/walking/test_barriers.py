"""What is not understood: its neighbourhood stays whole, and it runs as it stands."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from prunecore.errors import UnsupportedError

SIZE = 6


class Around(nn.Module):
    """A function of what `reaching` makes, between layers that may be cut."""

    def __init__(self, function: Callable[[Tensor], Tensor], width: int = 8) -> None:
        super().__init__()
        self.before = nn.Conv2d(3, 8, 1)
        self.reaching = nn.Conv2d(8, 8, 1)
        self.after = nn.Conv2d(width, 8, 1)
        self.last = nn.Conv2d(8, 4, 1)
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        x = self.function(self.reaching(self.before(x)))
        return self.last(self.after(x))


def sampled(x: Tensor) -> Tensor:
    places = torch.linspace(-1, 1, 2 * SIZE**2, dtype=x.dtype).view(1, SIZE, SIZE, 2)
    return F.grid_sample(x, places.expand(x.shape[0], -1, -1, -1), align_corners=False)


FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "local_response_norm": lambda x: F.local_response_norm(x, 3),
    "grid_sample": sampled,
    "fft_fft2": lambda x: torch.fft.fft2(x).real,
    "cdist": lambda x: torch.cdist(x, x),
    "renorm_": lambda x: x.renorm_(2, 1, 0.1),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_what_reaches_a_function_without_a_rule_is_left_whole(
    cut: Callable[..., Any], name: str
) -> None:
    result = cut(Around(FUNCTIONS[name]), 3, SIZE, SIZE, strict=False)
    assert "no rule says what" in result.dependencies.left_whole["reaching"]
    assert f"{name.rpartition('fft_')[2]}(" in result.forward
    widths = [layer.out_channels for layer in (result.small.before, result.small.after)]
    assert max(widths) < 8
    assert result.small.reaching.out_channels == 8


class Gathering(Around):
    """Gives a function without a rule a buffer that has been expanded."""

    def __init__(self) -> None:
        super().__init__(nn.Identity())
        self.register_buffer("table", torch.rand(1, SIZE, SIZE))

    def forward(self, x: Tensor) -> Tensor:
        table = torch.renorm(self.table.expand(x.shape[0], -1, -1), 2, 1, 0.1)
        return self.last(self.before(x) + table[:, None])


def test_a_buffer_that_is_expanded_may_reach_one(cut: Callable[..., Any]) -> None:
    result = cut(Gathering(), 3, SIZE, SIZE, strict=False)
    assert result.dependencies.left_whole == {}


def test_it_is_refused_where_all_is_to_be_understood(find: Callable[..., Any]) -> None:
    with pytest.raises(
        UnsupportedError, match="its forward calls grid_sample, and there is no rule"
    ):
        find(Around(FUNCTIONS["grid_sample"]), (2, 3, SIZE, SIZE))


def test_a_parameter_that_reaches_it_is_left_whole_wherever_it_is_used(
    cut: Callable[..., Any],
) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.before = nn.Conv2d(3, 8, 1)
            self.table = nn.Parameter(torch.rand(8, 8))
            self.scale = nn.Parameter(torch.rand(8))
            self.last = nn.Linear(8, 4)

        def forward(self, x: Tensor) -> Tensor:
            x = self.before(x).mean((2, 3)) * self.scale
            x = F.linear(x, self.table) + torch.cdist(self.table, self.table).sum()
            return self.last(x) + torch.vander(self.scale).sum()

    result = cut(Net(), 3, SIZE, SIZE, strict=False)
    assert set(result.dependencies.left_whole) == {"before", "table"}


def test_what_counts_its_channels_stays(cut: Callable[..., Any]) -> None:
    def shifted(x: Tensor) -> Tensor:
        theta = torch.eye(2, 3, dtype=x.dtype).expand(x.shape[0], 2, 3)
        places = F.affine_grid(theta, list(x.shape), align_corners=False)
        return x * places.mean()

    result = cut(Around(shifted), 3, SIZE, SIZE, strict=False)
    assert result.dependencies.left_whole == {
        "reaching": "no rule says what affine_grid does to it"
    }


class Deciding(nn.Module):
    def __init__(self, *parts: nn.Module) -> None:
        super().__init__()
        self.small, self.part, self.layers = nn.Linear(3, 3), nn.ModuleList(), nn.ModuleList(parts)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers[0](x) if x.sum() > 0 else x


def test_what_is_refused_as_a_whole_has_a_part_that_may_be_pruned(find: Callable[..., Any]) -> None:
    part = nn.Sequential(nn.Linear(3, 8), nn.Linear(8, 3))
    with pytest.raises(UnsupportedError, match=r"\. Or prune a part .* \(--module layers\.0\)\."):
        find(Deciding(part), (2, 3), strict=False)
    with pytest.raises(UnsupportedError) as caught:
        find(Deciding(nn.Linear(3, 3)), (2, 3), strict=False)
    assert "--module" not in str(caught.value)


@pytest.mark.parametrize(("width", "is_advised"), [(2, False), (30, True)])
def test_a_part_of_less_than_half_of_the_weights_is_not_advised(
    find: Callable[..., Any], width: int, is_advised: bool
) -> None:
    part = nn.Sequential(nn.Linear(3, width), nn.Linear(width, 3))
    model = nn.Sequential(part, Deciding(nn.Linear(3, 3)))
    with pytest.raises(UnsupportedError) as caught:
        find(model, (2, 3))
    assert ("(--module 0)" in str(caught.value)) is is_advised


class Boxes(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(40, 40), nn.Linear(40, 40))

    def forward(self, features: dict[str, Tensor], sizes: list[int]) -> Any:
        return self.layers(features["0"])


class OfImages(nn.Module):
    """Goes through a list of images, as torchvision's detectors do."""

    def __init__(self) -> None:
        super().__init__()
        self.heads = Boxes()
        self.backbone = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1))

    def forward(self, images: Any) -> list[Any]:
        return [self.heads({"0": self.backbone(image)}, [1]) for image in images]


def test_the_part_that_is_advised_is_given_a_tensor(find: Callable[..., Any]) -> None:
    with pytest.raises(UnsupportedError, match=r"\(--module backbone\)"):
        find(OfImages(), (2, 3, 4, 40))
