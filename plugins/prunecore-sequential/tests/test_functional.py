"""The layers of `torch.nn.functional` do what the modules do, with weights of the module's own."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import prunecore

WIDTH = 12
Layer = Callable[[Tensor, Any], Tensor]


class Between(nn.Module):
    """A layer between two convolutions, called as a module or as a function."""

    def __init__(self, layer: nn.Module, call: Layer, out: int = WIDTH) -> None:
        super().__init__()
        self.before = nn.Conv2d(3, WIDTH, 3)
        self.layer = layer
        self.call = call
        self.after = nn.Conv2d(out, 8, 1)
        self.fc = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.call(torch.relu(self.before(x)), self.layer)
        return self.fc(self.after(x).mean((2, 3)))


class LayerNormOfMaps(nn.LayerNorm):
    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def layer_norm(x: Tensor, m: Any) -> Tensor:
    x = x.permute(0, 2, 3, 1)
    return F.layer_norm(x, (WIDTH,), m.weight, m.bias, m.eps).permute(0, 3, 1, 2)


def layer_norm_by_name(x: Tensor, m: Any) -> Tensor:
    x = F.layer_norm(
        input=x.permute(0, 2, 3, 1), normalized_shape=[WIDTH], bias=m.bias, weight=m.weight
    )
    return x.permute(0, 3, 1, 2)


def by_linear(x: Tensor, m: Any) -> Tensor:
    return F.linear(x.permute(0, 2, 3, 1), m.weight, m.bias).permute(0, 3, 1, 2)


class LinearOfMaps(nn.Linear):
    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def batch_norm(x: Tensor, m: Any) -> Tensor:
    return F.batch_norm(x, m.running_mean, m.running_var, m.weight, m.bias, m.training)


# the module, the function that does the same, and how many channels it makes
CASES: dict[str, tuple[Callable[[], nn.Module], Layer, int]] = {
    "linear": (lambda: LinearOfMaps(WIDTH, 20), by_linear, 20),
    "conv2d": (
        lambda: nn.Conv2d(WIDTH, 20, 3, padding=1),
        lambda x, m: F.conv2d(x, m.weight, m.bias, padding=1),
        20,
    ),
    "depthwise": (
        lambda: nn.Conv2d(WIDTH, WIDTH, 3, groups=WIDTH),
        lambda x, m: F.conv2d(x, m.weight, m.bias, m.stride, m.padding, m.dilation, m.groups),
        WIDTH,
    ),
    "positions_of_groups": (
        lambda: nn.Conv2d(WIDTH, 6, 1, groups=2),
        lambda x, m: torch.conv2d(x, m.weight, m.bias, groups=2),
        6,
    ),
    "conv_transpose2d": (
        lambda: nn.ConvTranspose2d(WIDTH, 10, 2, 2),
        lambda x, m: F.conv_transpose2d(x, m.weight, m.bias, stride=2),
        10,
    ),
    "transposed_depthwise": (
        lambda: nn.ConvTranspose2d(WIDTH, WIDTH, 2, groups=WIDTH),
        lambda x, m: F.conv_transpose2d(x, m.weight, m.bias, groups=WIDTH),
        WIDTH,
    ),
    "batch_norm": (lambda: nn.BatchNorm2d(WIDTH), batch_norm, WIDTH),
    "instance_norm": (
        lambda: nn.InstanceNorm2d(WIDTH, affine=True),
        lambda x, m: F.instance_norm(x, weight=m.weight, bias=m.bias),
        WIDTH,
    ),
    "layer_norm": (lambda: LayerNormOfMaps(WIDTH), layer_norm, WIDTH),
    "layer_norm_by_name": (lambda: LayerNormOfMaps(WIDTH), layer_norm_by_name, WIDTH),
    "layer_norm_of_all": (
        lambda: nn.LayerNorm((WIDTH, 6, 6)),
        lambda x, m: F.layer_norm(x, x.shape[1:], m.weight, m.bias),
        WIDTH,
    ),
    "layer_norm_of_maps_alone": (
        lambda: nn.LayerNorm((6, 6), elementwise_affine=False),
        lambda x, m: F.layer_norm(x, (6, 6)),
        WIDTH,
    ),
    "group_norm_of_one": (
        lambda: nn.GroupNorm(1, WIDTH),
        lambda x, m: F.group_norm(x, 1, m.weight, m.bias),
        WIDTH,
    ),
    "group_norm_by_groups": (
        lambda: nn.GroupNorm(6, WIDTH),
        lambda x, m: F.group_norm(x, 6, m.weight, m.bias, m.eps),
        WIDTH,
    ),
    "group_norm_by_positions": (
        lambda: nn.GroupNorm(3, WIDTH),
        lambda x, m: F.group_norm(x, 3, m.weight, eps=1e-5, bias=m.bias),
        WIDTH,
    ),
    "prelu": (lambda: nn.PReLU(WIDTH), lambda x, m: F.prelu(x, m.weight), WIDTH),
}
if hasattr(F, "rms_norm"):
    CASES["rms_norm"] = (
        lambda: nn.RMSNorm((WIDTH, 6, 6)),
        lambda x, m: F.rms_norm(x, m.normalized_shape, m.weight, m.eps),
        WIDTH,
    )


def filled(model: nn.Module) -> nn.Module:
    """The model with no two weights alike, and statistics of its own."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
            if tensor.is_floating_point():
                tensor.copy_(torch.rand(tensor.shape, generator=generator) - 0.3)
                if name.endswith("running_var"):
                    tensor.abs_().add_(0.1)
    return model


@pytest.mark.parametrize("name", CASES)
def test_a_function_is_cut_as_the_module_is(name: str) -> None:
    make, call, out = CASES[name]
    model = filled(Between(make(), lambda x, m: m(x), out)).eval()
    functional = copy.deepcopy(model)
    functional.call = call
    x = torch.rand(2, 3, 8, 8)
    torch.testing.assert_close(functional(x), model(x))

    small, other = (
        prunecore.prune(net, level=40, input_shape=(3, 8, 8)) for net in (model, functional)
    )
    assert small.report["kept"] == other.report["kept"]
    assert small.report["after"]["params"] == other.report["after"]["params"]
    assert small.report["after"]["macs"] == other.report["after"]["macs"]
    assert "layer.weight" in small.report["kept"] or "affine" in name or "alone" in name
    torch.testing.assert_close(other.model.eval()(x), small.model.eval()(x))


class TwoWeights(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Parameter(torch.rand(16, 3))
        self.second = nn.Parameter(torch.rand(4, 16))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(torch.relu(F.linear(x, self.first)), self.second)


def test_each_weight_of_a_module_is_a_layer() -> None:
    small = prunecore.prune(TwoWeights(), level=50, input_shape=(3,))
    assert list(small.report["kept"]) == ["first", "second"]
    assert small.report["kept"]["first"][1] is None
    assert len(small.report["kept"]["first"][0]) == 8


def test_a_norm_by_the_statistics_of_the_batch_is_free() -> None:
    model = Between(nn.Identity(), lambda x, m: F.batch_norm(x, None, None, training=True))
    small = prunecore.prune(model, level=20, input_shape=(3, 8, 8))
    assert small.report["left_whole"] == []
    assert len(small.report["kept"]["before.weight"][0]) < WIDTH


class OwnStatistics(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.before = nn.Conv2d(3, WIDTH, 1)
        self.register_buffer("mean", torch.zeros(WIDTH))
        self.register_buffer("variance", torch.ones(WIDTH))
        self.after = nn.Conv2d(WIDTH, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.before(x)
        return self.after(F.batch_norm(x, self.mean, self.variance, training=self.training))


def test_a_norm_is_told_whether_the_module_around_it_trains() -> None:
    small = prunecore.prune(OwnStatistics(), level=50, input_shape=(3, 8, 8))
    assert "training=self.training" in small.source
    assert len(small.model.get_buffer("mean")) < WIDTH


class HeldGroups(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.groups = WIDTH
        self.before = nn.Conv2d(3, WIDTH, 1)
        self.weight = nn.Parameter(torch.rand(WIDTH, 1, 3, 3))
        self.after = nn.Conv2d(WIDTH, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.conv2d(self.before(x), self.weight, groups=self.groups)
        return self.after(F.group_norm(x, self.groups))


def test_groups_that_go_are_not_those_that_the_module_holds() -> None:
    small = prunecore.prune(HeldGroups(), level=50, input_shape=(3, 8, 8))
    assert len(small.model.get_parameter("weight")) < WIDTH
    assert "self.groups" not in small.source


class Tied(nn.Module):
    """An encoder's layer whose weight is the decoder's, too, called the other way round."""

    def __init__(self, encoder: nn.Module, decode: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.encoder, self.decode = encoder, decode
        self.between = nn.Conv2d(8, 8, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.sigmoid(self.encoder(x))
        return self.decode(torch.sigmoid(self.between(x)), self.encoder.weight)


@pytest.mark.parametrize(
    ("encoder", "decode"),
    [
        (nn.Conv2d(3, 8, 3), F.conv_transpose2d),
        (nn.ConvTranspose2d(3, 8, 3), F.conv2d),
    ],
)
def test_a_weight_is_cut_that_is_used_the_other_way_round(
    encoder: nn.Module, decode: Callable[[Tensor, Tensor], Tensor]
) -> None:
    small = prunecore.prune(Tied(encoder, decode), level=40, input_shape=(3, 8, 8), mode="random")
    assert not small.report["left_whole"]
    assert small.model.encoder.out_channels < 8
    assert small.model.encoder.in_channels == 3


class Raised(nn.Module):
    """A transposed convolution of a user's, with the names that torch's layers have."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.in_channels, self.out_channels = in_channels, out_channels
        self.weight = nn.Parameter(torch.randn(in_channels, out_channels, 3, 3))

    def forward(self, x: Tensor) -> Tensor:
        return F.conv_transpose2d(x, self.weight)


def test_a_transposed_convolution_of_ones_own_is_cut() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 8, 1), nn.Sigmoid(), Raised(8, 6), nn.Sigmoid(), Raised(6, 4)
    )
    small = prunecore.prune(model, level=40, input_shape=(3, 8, 8), mode="random")
    assert not small.report["left_whole"]


class Weighing(nn.Module):
    """Weighs what it is given by a vector: a product without an axis for channels."""

    def __init__(self, is_computed: bool) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(5, 8), nn.Linear(8, 8)
        self.weight = nn.Parameter(torch.randn(8))
        self.is_computed = is_computed

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight.abs() if self.is_computed else self.weight
        return F.linear(self.second(self.first(x)), weight)


@pytest.mark.parametrize("is_computed", [False, True])
def test_a_vector_of_weights_is_cut_with_what_it_weighs(is_computed: bool) -> None:
    torch.manual_seed(0)
    small = prunecore.prune(Weighing(is_computed), level=40, input_shape=(5,))
    assert small.report["verified"]
    assert small.model.weight.shape[0] == small.model.second.out_features < 8
