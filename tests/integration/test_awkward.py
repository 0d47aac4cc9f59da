"""Operations that other tools stumble over: right, or refused in words, but never wrong.

Each network has one of them. A layer whose channels meet what mixes or counts them is left whole,
and the report says why.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations

import prunecore
from prunecore import UnsupportedError

from .conftest import Cut
from .networks import filled
from .oracle import Subject

WIDTH, SIDE = 12, 8


class Between(nn.Module):
    """An operation, and perhaps a layer that it uses, between two convolutions."""

    def __init__(
        self, operation: Callable[..., Tensor], layer: nn.Module | None = None, out: int = WIDTH
    ) -> None:
        super().__init__()
        self.before = nn.Conv2d(3, WIDTH, 3, padding=1)
        self.layer = layer
        self.operation = operation
        self.after = nn.Conv2d(out, 8, 1)
        self.fc = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.before(x)
        x = self.operation(x) if self.layer is None else self.operation(x, self.layer)
        return self.fc(self.after(x).mean([2, 3]))


def applied(x: Tensor, layer: nn.Module) -> Tensor:
    return layer(x)


def shuffled(x: Tensor) -> Tensor:
    n, c, h, w = x.shape
    return x.view(n, 3, c // 3, h, w).transpose(1, 2).reshape(n, c, h, w)


def shuffled_with_constants(x: Tensor) -> Tensor:
    return x.view(-1, 3, 4, 8, 8).transpose(1, 2).contiguous().view(-1, 12, 8, 8)


def swapped_halves(x: Tensor) -> Tensor:
    left, right = x.chunk(2, 1)
    return torch.cat([right, left], 1)


def gated(x: Tensor) -> Tensor:
    left, right = torch.split(x, [6, 6], dim=1)
    return left * torch.sigmoid(right)


def used_twice(x: Tensor, layer: nn.Module) -> Tensor:
    return layer(F.relu(layer(x)))


def nested_cat(x: Tensor) -> Tensor:
    inner = torch.cat([x, F.relu(x)], 1)
    return torch.cat([torch.tanh(x), inner, torch.cat([x], 1)], 1)


def squeezed(x: Tensor, layer: nn.Module) -> Tensor:
    return x * torch.sigmoid(layer(F.adaptive_avg_pool2d(x, 1)))


def attended(x: Tensor) -> Tensor:
    flat = x.flatten(2)
    weights = torch.softmax(flat.transpose(1, 2) @ flat, -1)
    return (flat @ weights).view(x.shape)


def size_asserted(x: Tensor) -> Tensor:
    torch._assert(x.shape[1] == 12, "twelve channels")
    return x


def size_of_another(x: Tensor) -> Tensor:
    y = F.max_pool2d(x, 8)
    return x.flatten(1).view(-1, y.size(1), 8, 8)


def branching(x: Tensor) -> Tensor:
    return -x if x.sum() > 0 else x


# The channels may go.
FREE: dict[str, Callable[[], nn.Module]] = {
    "shuffle": lambda: Between(shuffled),
    "shuffle_with_constants": lambda: Between(shuffled_with_constants),
    "strided_slice_of_maps": lambda: Between(lambda x: x[..., ::2, 1::2]),
    "constant_view": lambda: Between(lambda x: x.view(-1, 12, 64).view(-1, 12, 8, 8)),
    "glu": lambda: Between(applied, nn.GLU(1), out=6),
    "pixel_shuffle": lambda: Between(applied, nn.PixelShuffle(2), out=3),
    "pixel_unshuffle": lambda: Between(applied, nn.PixelUnshuffle(2), out=48),
    "layer_norm_of_maps": lambda: Between(applied, nn.LayerNorm([SIDE, SIDE])),
    "layer_norm": lambda: Between(applied, nn.LayerNorm([WIDTH, SIDE, SIDE])),
    "layer_norm_last": lambda: Between(
        lambda x, layer: layer(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2), nn.LayerNorm(WIDTH)
    ),
    "group_norm": lambda: Between(applied, nn.GroupNorm(3, WIDTH)),
    "group_norm_of_one": lambda: Between(applied, nn.GroupNorm(1, WIDTH)),
    "depthwise": lambda: Between(applied, nn.Conv2d(WIDTH, WIDTH, 3, groups=WIDTH)),
    "depthwise_multiplier": lambda: Between(applied, nn.Conv2d(WIDTH, 36, 3, groups=WIDTH), 36),
    "groups": lambda: Between(applied, nn.Conv2d(WIDTH, 24, 3, groups=3), out=24),
    "many_groups": lambda: Between(applied, nn.Conv2d(WIDTH, 12, 3, groups=6)),
    "groups_of_one_output": lambda: Between(applied, nn.Conv2d(WIDTH, 4, 3, groups=4), out=4),
    "transposed_groups": lambda: Between(applied, nn.ConvTranspose2d(12, 8, 2, groups=4), out=8),
    "used_twice": lambda: Between(used_twice, nn.Conv2d(WIDTH, WIDTH, 3, padding=1)),
    "nested_cat": lambda: Between(nested_cat, out=48),
    "squeeze_excite": lambda: Between(squeezed, nn.Conv2d(WIDTH, WIDTH, 1)),
    "pad_channels": lambda: Between(lambda x: F.pad(x, (0, 0, 0, 0, 1, 2), value=0.5), out=15),
    "masked": lambda: Between(lambda x: x.masked_fill(x < 0, 0.25)),
    "where": lambda: Between(lambda x: torch.where(x > 0, x, 0.1 * x)),
    "in_place": lambda: Between(lambda x: x.mul_(0.5).add_(1).clamp_(min=0)),
    "size_in_a_reshape": lambda: Between(lambda x: x.view(x.size(0), x.size(1), -1).view(x.shape)),
    "size_of_another": lambda: Between(size_of_another),
    "size_of_maps": lambda: Between(lambda x: x / (x.shape[2] * x.shape[3])),
    "layer_norm_function": lambda: Between(lambda x: F.layer_norm(x, x.shape[1:])),
    "group_norm_function": lambda: Between(lambda x: F.group_norm(x, 3)),
    "instance_norm_function": lambda: Between(lambda x: F.instance_norm(x)),
    "strided_slice": lambda: Between(lambda x: x[:, ::2], out=6),
    "slice": lambda: Between(lambda x: x[:, 2:7], out=5),
    "slices_and_cat": lambda: Between(lambda x: torch.cat([x[:, 6:], x[:, :6]], 1)),
    "flip": lambda: Between(lambda x: x.flip(1)),
    "flip_function": lambda: Between(lambda x: torch.flip(x, [1])),
    "flip_of_maps": lambda: Between(lambda x: x.flip([2, 3])),
    "roll": lambda: Between(lambda x: x.roll(3, 1)),
    "roll_of_maps": lambda: Between(lambda x: torch.roll(x, (1, 2), (2, 3))),
    "channel_shuffle": lambda: Between(applied, nn.ChannelShuffle(3)),
    "index_list": lambda: Between(lambda x: x[:, [0, 2, 5, 3]], out=4),
    "narrow": lambda: Between(lambda x: x.narrow(1, 2, 5), out=5),
    "repeat": lambda: Between(lambda x: x.repeat(1, 2, 1, 1), out=24),
    "repeat_of_maps": lambda: Between(lambda x: x.repeat(1, 1, 2, 1)),
    "repeat_interleave": lambda: Between(lambda x: x.repeat_interleave(2, 1), out=24),
    "tile": lambda: Between(lambda x: x.tile(1, 2, 1, 1), out=24),
    "expand": lambda: Between(lambda x: x.mean((2, 3), keepdim=True).expand(-1, -1, 4, 4)),
    "expand_as": lambda: Between(lambda x: x.mean((2, 3), keepdim=True).expand_as(x)),
    "chunk": lambda: Between(swapped_halves),
    "split": lambda: Between(gated, out=6),
    "shuffle_twice": lambda: Between(
        lambda x: torch.relu(shuffled(x)).view(-1, 4, 3, 8, 8).transpose(1, 2).reshape(x.shape)
    ),
    "shuffle_and_split": lambda: Between(lambda x: gated(shuffled(x)), out=6),
    "split_unequal": lambda: Between(lambda x: torch.cat(torch.split(x, [5, 7], 1)[:1], 1), out=5),
    "gate_of_a_slice": lambda: Between(lambda x: x[:, :6] * x[:, 6:].sigmoid_(), out=6),
    "every_other_twice": lambda: Between(lambda x: torch.cat([x[:, ::2], x[:, 1::2]], 1)),
    "expand_of_new": lambda: Between(lambda x: x + x.new_ones(1, x.size(1), 1, 1).expand_as(x)),
    "add_by_name": lambda: Between(lambda x: torch.add(input=x, other=x.relu(), alpha=2)),
    "view_as": lambda: Between(lambda x: x.flatten(1).view_as(x)),
    "glu_function": lambda: Between(lambda x: F.glu(x, 1), out=6),
    "pixel_shuffle_function": lambda: Between(lambda x: F.pixel_shuffle(x, 2), out=3),
    "unfold": lambda: Between(
        applied, nn.Sequential(nn.Unfold(2, stride=2), nn.Unflatten(2, (4, 4))), out=48
    ),
    "fold": lambda: Between(
        applied, nn.Sequential(nn.Flatten(2), nn.Fold((8, 8), 2, padding=4, stride=2)), out=3
    ),
    "unfold_function": lambda: Between(lambda x: F.unfold(x, 2).view(-1, 48, 7, 7), out=48),
    "new_tensor": lambda: Between(lambda x: x + torch.zeros(1, x.size(1), 1, 1)),
    "appended_zeros": lambda: Between(
        lambda x: torch.cat([x, torch.zeros(x.size(0), 3, 8, 8, dtype=x.dtype)], 1), out=15
    ),
    "pixel_unshuffle_function": lambda: Between(lambda x: F.pixel_unshuffle(x, 2), out=48),
    "einsum": lambda: Between(lambda x: torch.einsum("nchw,nchw->nc", x, x)[..., None, None]),
    "matmul": lambda: Between(attended),
    "normalize": lambda: Between(lambda x: F.normalize(x, dim=1)),
    "appended_half": lambda: Between(
        lambda x: torch.cat([x, torch.zeros_like(x[:, : x.size(1) // 2])], 1), out=18
    ),
}

# Some stay: the layer that makes them, and why.
WHOLE: dict[str, tuple[Callable[[], nn.Module], dict[str, str]]] = {
    "unbind": (
        lambda: Between(lambda x: torch.stack(x.unbind(1)[:5], 1), out=5),
        {"before": "a function takes it alone"},
    ),
    "loop_over_channels": (
        lambda: Between(lambda x: torch.stack([x[:, i] for i in range(int(x.size(1)))], 1)),
        {"before": "a function takes it alone"},
    ),
    "sort": (lambda: Between(lambda x: x.sort(1)[0]), {"before": "sort mixes it"}),
    "topk": (lambda: Between(lambda x: x.topk(3, 1).values, out=3), {"before": "topk mixes it"}),
    "channels_by_channels": (
        lambda: Between(
            lambda x: (
                torch.bmm(x.flatten(2), x.flatten(2).transpose(1, 2))
                .bmm(x.flatten(2))
                .view(x.shape)
            )
        ),
        {"before": "a product has channels along several axes"},
    ),
    "one_output": (
        lambda: Between(applied, nn.Conv2d(WIDTH, 1, 3), out=1),
        {"layer": "it makes a single channel"},
    ),
    "one_output_gate": (
        lambda: Between(lambda x, layer: x * layer(x), nn.Conv2d(WIDTH, 1, 1)),
        {"layer": "it makes a single channel"},
    ),
    "softmax_over_channels": (
        lambda: Between(lambda x: x.softmax(1)),
        {"before": "softmax mixes it"},
    ),
    "mean_over_channels": (
        lambda: Between(lambda x: x - x.mean(1, keepdim=True)),
        {},
    ),
    "cumsum": (lambda: Between(lambda x: x.cumsum(1)), {"before": "cumsum mixes it"}),
    "conv_along_channels": (
        lambda: Between(
            lambda x, layer: layer(x.mean([2, 3]).unsqueeze(1)).transpose(1, 2).unsqueeze(-1),
            nn.Conv1d(1, 1, 3, padding=1),
        ),
        {"before": "conv1d mixes it", "layer": "it makes a single channel"},
    ),
    "conv_of_places": (
        lambda: Between(
            lambda x, layer: layer(x.flatten(2).transpose(1, 2)).transpose(1, 2).unsqueeze(-1),
            nn.Conv1d(SIDE**2, 5, 1),
        ),
        {"layer": "channels lie along another axis of its input than it mixes"},
    ),
    "linear_over_maps": (
        lambda: Between(applied, nn.Linear(SIDE, 5)),
        {"layer": "channels lie along another axis of its input than it mixes"},
    ),
    "size_of_channels": (
        lambda: Between(lambda x: x / x.size(1) ** 0.5),
        {},
    ),
    "mean_by_hand": (
        lambda: Between(lambda x: x - x.sum((2, 3), keepdim=True) / x[0].numel()),
        {"before": "truediv depends on how many there are, and on other sizes"},
    ),
    "size_asserted": (lambda: Between(size_asserted), {}),
    "positions": (
        lambda: Between(lambda x: x * torch.arange(x.size(1)).view(1, -1, 1, 1)),
        {"before": "arange depends on how many there are"},
    ),
    "constant_tensor": (
        lambda: Between(lambda x: x * torch.linspace(0, 1, 12).view(1, 12, 1, 1)),
        {"before": "it meets a tensor of which everything stays, such as the network's input"},
    ),
}

# Refused: part of the reason.
REFUSED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "index_select": (
        lambda: Between(lambda x: torch.index_select(x, 1, torch.tensor([0, 2])), out=2),
        "its forward selects places by numbers that it computes",
    ),
    "image_by_image": (
        lambda: Between(lambda x: torch.stack([image * 2 for image in x]), out=12),
        "its forward cannot be traced: it goes through the first axis of a tensor",
    ),
    "distances": (
        lambda: Between(lambda x: torch.cdist(x, x), out=12),
        "its forward calls cdist",
    ),
    "weight_norm": (
        lambda: Between(applied, parametrizations.weight_norm(nn.Conv2d(12, 12, 1))),
        "one of its weights is computed each time, not stored",
    ),
    "branch_on_data": (
        lambda: Between(branching),
        "its forward cannot be traced: ",
    ),
    "loop_over_the_batch": (
        lambda: Between(lambda x: torch.stack([x[i] for i in range(int(x.size(0)))])),
        "its forward cannot be traced: it makes a number of the batch",
    ),
    "drawn_once": (
        lambda: Between(lambda x: x * torch.rand(8).index_fill_(0, torch.tensor([0]), 2.0)),
        "its forward uses a tensor that is neither a parameter nor a buffer",
    ),
}


def randomly_cut(cut: Cut, model: nn.Module) -> Subject:
    subject = Subject.of(filled(model), 3, SIDE, SIDE)
    for seed in range(3):
        cut(subject, subject.random_choice(seed))
    return subject


@pytest.mark.parametrize("name", FREE)
def test_channels_may_go_and_the_rest_is_right(cut: Cut, name: str) -> None:
    subject = randomly_cut(cut, FREE[name]())
    before = subject.dependencies.axes[subject.dependencies.layers["before"]]
    assert subject.dependencies.removable[before].all()
    assert subject.dependencies.left_whole == {}


@pytest.mark.parametrize("name", WHOLE)
def test_what_is_left_whole_is_told_and_the_rest_is_right(cut: Cut, name: str) -> None:
    make, left_whole = WHOLE[name]
    assert randomly_cut(cut, make()).dependencies.left_whole == left_whole


@pytest.mark.parametrize("name", REFUSED)
def test_a_refusal_says_where_why_and_what_to_do(name: str) -> None:
    make, reason = REFUSED[name]
    model = make()
    with pytest.raises(UnsupportedError) as caught:
        Subject.of(model, 3, SIDE, SIDE)
    error = caught.value
    assert type(model.get_submodule(error.path)).__name__ == error.class_name
    assert reason in error.reason
    assert error.remedy.endswith(".")


@pytest.mark.parametrize("name", [*FREE, *WHOLE])
def test_the_networks_run_as_they_are(name: str) -> None:
    model = FREE[name]() if name in FREE else WHOLE[name][0]()
    assert model(torch.rand(2, 3, SIDE, SIDE)).shape == (2, 4)


class CoupledToTheImage(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.next = nn.Conv2d(3, 8, 1)
        self.end = nn.Conv2d(8, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.end(self.next(x + self.conv(x)))


def test_what_is_added_to_the_image_stays(cut: Cut) -> None:
    left_whole = randomly_cut(cut, CoupledToTheImage()).dependencies.left_whole
    assert list(left_whole) == ["conv"]
    assert "the network's input" in left_whole["conv"]


class WithUnused(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 1)
        self.aux = nn.Sequential(nn.Conv2d(8, 8, 1), nn.ReLU())
        self.heads = nn.ModuleList([nn.Conv2d(8, 4, 1), nn.Conv2d(8, 5, 1)])

    def forward(self, x: Tensor) -> Tensor:
        return self.heads[1](self.conv(x))


def test_what_a_forward_never_reaches_is_told(cut: Cut) -> None:
    assert randomly_cut(cut, WithUnused()).dependencies.left_out == ("aux", "heads.0")


class SeveralOutputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3)
        self.low = nn.Conv2d(8, 6, 3)
        self.box = nn.Conv2d(6, 4, 1)
        self.score = nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        x = F.relu(self.stem(x))
        low = F.relu(self.low(x))
        return low, {"box": self.box(low), "score": self.score(x)}


def test_every_one_of_several_outputs_stays(cut: Cut) -> None:
    dependencies = randomly_cut(cut, SeveralOutputs()).dependencies
    removable = {
        path: bool(dependencies.removable[dependencies.axes[index]].any())
        for path, index in dependencies.layers.items()
    }
    assert removable == {"stem": True, "low": False, "box": False, "score": False}


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(48, 12)
        self.a = nn.Linear(12, 12)
        self.b = nn.Linear(12, 12)
        self.b.weight = self.a.weight
        self.end = nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.inner(F.adaptive_avg_pool2d(x, 4).flatten(1)))
        return self.end(self.b(F.relu(self.a(x))))


class Lent(nn.Module):
    """A layer that is never called has the weights of one that is, as `shared` in T5 has."""

    def __init__(self, kind: Callable[..., nn.Module], bias: bool) -> None:
        super().__init__()
        self.shared, self.layer = kind(bias=bias), kind(bias=bias)
        self.layer.weight = self.shared.weight
        self.stem, self.head = nn.Conv2d(3, 6, 1), nn.Conv2d(6, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer(self.stem(x)))


@pytest.mark.parametrize("bias", [False, True])
def test_a_layer_that_lends_its_weight_is_written_as_wide(bias: bool) -> None:
    torch.manual_seed(0)
    model = Lent(lambda **options: nn.Conv2d(6, 6, 3, padding=1, **options), bias)
    traced = prunecore.trace(model, torch.randn(2, 3, SIDE, SIDE))
    if bias:  # which it has of its own, and which nothing is known of
        assert traced.dependencies.left_whole["layer"] == "only the weight of shared is used"
        return
    small = traced.prune(40, mode="random")
    assert small.report["verified"]["max_relative_difference"] <= 1e-9
    assert small.model.shared.weight is small.model.layer.weight


class Unused(nn.Module):
    """A layer that is never reached has the weights of one that is, as second heads have."""

    def __init__(self, is_first: bool) -> None:
        super().__init__()
        self.stem, layer = nn.Conv2d(3, 6, 1), nn.Conv2d(6, 6, 1)
        if is_first:
            self.spare, self.layer = nn.ModuleList([nn.Conv2d(6, 6, 1)]), layer
        else:
            self.layer, self.spare = layer, nn.ModuleList([nn.Conv2d(6, 6, 1)])
        self.spare[0].weight, self.spare[0].bias = layer.weight, layer.bias
        self.head = nn.Conv2d(6, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer(self.stem(x)).relu())


@pytest.mark.parametrize("is_first", [False, True])
def test_what_is_left_out_is_tied_to_nothing(is_first: bool) -> None:
    torch.manual_seed(0)
    small = prunecore.prune(Unused(is_first), level=40, input_shape=(3, SIDE, SIDE))
    assert small.report["verified"]
    assert ("spare" in small.source) is is_first  # under whose name the weights are known


def test_tied_weights_stay_tied(cut: Cut) -> None:
    subject = Subject.of(filled(Tied()), 3, SIDE, SIDE)
    small = cut(subject, subject.random_choice(0)).model
    assert small.get_parameter("a.weight") is small.get_parameter("b.weight")
    assert len(small.get_parameter("a.weight")) < 12


class SharedModule(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 1)
        act = nn.PReLU(8)
        self.first = nn.Sequential(nn.Conv2d(8, 8, 1), act)
        self.second = nn.Sequential(nn.Conv2d(8, 8, 1), act)
        self.end = nn.Conv2d(8, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.end(self.second(self.first(self.stem(x))))


def test_a_module_under_two_names_stays_one(cut: Cut) -> None:
    subject = Subject.of(filled(SharedModule()), 3, SIDE, SIDE)
    small = cut(subject, subject.random_choice(1)).model
    assert small.get_submodule("first.1") is small.get_submodule("second.1")
    assert {tensor.dtype for tensor in small.parameters()} == {torch.float32}


class Scaled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 1)
        self.scale = nn.Parameter(torch.ones(8, 1, 1))
        self.position = nn.Parameter(torch.ones(1, 8, SIDE, SIDE))
        self.register_buffer("shift", torch.ones(1, 8, 1, 1))
        self.end = nn.Conv2d(8, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.end(self.conv(x) * self.scale + self.shift + self.position)


def test_tensors_of_a_forward_s_own_are_cut_with_what_they_meet(cut: Cut) -> None:
    subject = Subject.of(filled(Scaled()), 3, SIDE, SIDE)
    small = cut(subject, subject.random_choice(0)).model
    width = len(small.get_parameter("conv.weight"))
    assert width < 8
    assert small.get_parameter("scale").shape == (width, 1, 1)
    assert small.get_parameter("position").shape == (1, width, SIDE, SIDE)
    assert small.get_buffer("shift").shape == (1, width, 1, 1)


def test_modules_that_are_compiled_when_they_are_called_are_followed_as_they_are() -> None:
    def refusing(*_: object) -> None:
        raise AssertionError

    torch.manual_seed(0)
    net = Between(applied, nn.Sequential(nn.Conv2d(WIDTH, WIDTH, 1), nn.ReLU()))
    plain = prunecore.prune(net, level=30, input_shape=(3, SIDE, SIDE))
    for module in (net, net.before, net.layer):
        assert module is not None
        module.compile(backend=refusing)
    compiled = prunecore.prune(net, level=30, input_shape=(3, SIDE, SIDE))
    assert compiled.source == plain.source
