"""The algebra of ids: bind, couple, pin, and the walk through modules that share things."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from prunecore import UnsupportedError
from prunecore.channels.ids import FIXED, without_channels
from prunecore.channels.signal import Computed, Grid, Picked, shaped
from prunecore.errors import InputShapeError
from prunecore.plugin import Channels, Signal, along
from prunecore.plugins import loading
from prunecore.registry import Plugins
from prunecore.walking.network import find_dependencies
from prunecore.walking.walk import Walk


class Holder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.rand(3, 4))
        self.register_buffer("mean", torch.rand(4))


@pytest.fixture
def holder() -> Any:
    return Holder()


@pytest.fixture
def channels(holder: nn.Module, toys: Plugins) -> Walk:
    return Walk(holder, toys)


def couplings(channels: Channels) -> list[tuple[list[int], list[int]]]:
    return [(a.tolist(), b.tolist()) for a, b in channels.records.couplings]


def pins(channels: Channels) -> list[tuple[list[int], str]]:
    return [(ids.tolist(), reason) for ids, reason in channels.records.pins]


def test_fresh_ids_are_never_handed_out_twice(channels: Channels) -> None:
    assert channels.fresh(3).tolist() == [0, 1, 2]
    assert channels.fresh(2).tolist() == [3, 4]


def test_an_axis_that_is_bound_twice_couples_its_channels(channels: Channels, holder: Any) -> None:
    first, second = channels.fresh(3), channels.fresh(3)
    channels.bind(holder.weight, 0, first)
    assert couplings(channels) == []
    channels.bind(holder.weight, 0, second)
    channels.bind(holder.weight, 0, first)
    assert couplings(channels) == [([0, 1, 2], [3, 4, 5])]


def test_a_parameter_and_a_buffer_may_be_bound(channels: Channels, holder: Any) -> None:
    ids = channels.fresh(4)
    channels.bind(holder.weight, 1, ids)
    channels.bind(holder.mean, 0, ids)
    assert set(channels.records.bindings) == {(id(holder.weight), 1), (id(holder.mean), 0)}


def test_no_tensor_and_no_channels_are_passed_over(channels: Channels, holder: Any) -> None:
    channels.bind(None, 0, channels.fresh(3))
    channels.bind(holder.weight, 0, None)
    assert channels.records.bindings == {}


def test_ids_of_another_length_are_a_fault_of_the_plugin(channels: Channels, holder: Any) -> None:
    with pytest.raises(
        ValueError, match=r"axis 0 of a tensor of shape \(3, 4\) .* ids of shape \(4,\)"
    ):
        channels.bind(holder.weight, 0, channels.fresh(4))


def test_a_tensor_that_the_network_does_not_store_is_refused(channels: Channels) -> None:
    with pytest.raises(UnsupportedError, match="computed each time, not stored"):
        channels.bind(torch.rand(3), 0, channels.fresh(3))


def test_the_filters_are_those_of_the_layer_that_the_walk_is_in(
    find: Callable[..., Any],
) -> None:
    found = find(nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 5)), (2, 3))
    assert found.filters == (("0.weight", 0, 0), ("1.weight", 0, 1))
    assert dict(found.layers) == {"0": 0, "1": 1}


# The shapes of two tensors, the axes of their channels, and how they meet: the axis of the
# result's channels, and what is coupled or pinned.
@pytest.mark.parametrize(
    ("first", "second", "axis", "what"),
    [
        (((2, 3, 4), 1), ((2, 3, 4), 1), 1, "coupled"),
        (((2, 3, 4), 1), ((2, 3, 1), 1), 1, "coupled"),
        (((3, 1), 0), ((2, 3, 4), 1), 1, "coupled"),
        (((2, 3, 4), 1), ((2, 1, 4), None), 1, "nothing"),
        (((2, 1, 4), None), ((2, 3, 4), 1), 1, "nothing"),
        (((2, 3, 4), 1), ((), None), 1, "nothing"),
        (((2, 3, 4), 1), ((4,), None), 1, "nothing"),
        (((2, 3, 4), None), ((2, 3, 4), None), None, "nothing"),
        (((2, 3, 4), 1), ((2, 3, 4), None), 1, "pinned"),
        (((2, 3, 1), None), ((2, 3, 4), 1), 1, "pinned"),
        (((2, 3, 4), 1), ((2, 1, 4), 2), None, "both pinned"),
        (((2, 3, 1), 1), ((2, 1, 3), 2), None, "both pinned"),
    ],
)
def test_two_tensors_meet_after_broadcasting(
    channels: Channels,
    first: tuple[tuple[int, ...], int | None],
    second: tuple[tuple[int, ...], int | None],
    axis: int | None,
    what: str,
) -> None:
    def signal(shape: tuple[int, ...], axis: int | None) -> Signal:
        ids = without_channels(len(shape))
        if axis is not None:
            ids = along(axis, len(shape), channels.fresh(shape[axis]))
        return Signal(shaped(shape), ids)

    a, b = signal(*first), signal(*second)
    met = channels.couple(a, b)
    assert met.shape == tuple(torch.broadcast_shapes(a.shape, b.shape))
    assert met.channel_axes == ([] if axis is None else [axis])
    assert bool(channels.records.couplings) is (what == "coupled")
    assert len(channels.records.pins) == {"pinned": 1, "both pinned": 2}.get(what, 0)
    if what == "coupled":
        assert couplings(channels) == [([0, 1, 2], [3, 4, 5])]
    elif what == "pinned":
        (pin,) = pins(channels)
        assert pin[0] == [0, 1, 2]
        assert pin[1].startswith("it meets a tensor of which everything stays")


def test_a_tensor_met_by_itself_couples_nothing(channels: Channels) -> None:
    x = Signal(shaped((2, 3)), along(1, 2, channels.fresh(3)))
    assert channels.couple(x, x).ids.ravel().tolist() == [0, 1, 2]
    assert channels.couple(x) is x
    assert all(first == second for first, second in couplings(channels))


def test_shapes_that_cannot_be_broadcast_are_an_error_of_the_input(channels: Channels) -> None:
    with pytest.raises(InputShapeError, match=r"The network \(Holder\) cannot take a tensor"):
        channels.couple(
            Signal(shaped((2, 3)), without_channels(2)), Signal(shaped((2, 4)), without_channels(2))
        )


def test_the_channels_along_an_axis(channels: Channels) -> None:
    x = Signal(shaped((2, 3, 4)), along(1, 3, channels.fresh(3)))
    ids = channels.axis(x, 1)
    assert ids is not None
    assert ids.tolist() == [0, 1, 2]
    assert channels.axis(x, 0) is None
    assert channels.axis(x, 2) is None


def test_channels_along_two_axes_are_coupled_across_the_other(channels: Channels) -> None:
    x = Signal(shaped((2, 2, 3)), channels.fresh(6).reshape(1, 2, 3))
    ids = channels.axis(x, 2)
    assert ids is not None
    assert ids.tolist() == [0, 1, 2]
    assert couplings(channels) == [([0, 1, 2], [3, 4, 5])]


def test_a_pin_keeps_channels_and_says_why(channels: Channels) -> None:
    x = Signal(shaped((2, 3, 4)), along(1, 3, channels.fresh(3)))
    assert channels.pin_axes(x, [0, 2], "softmax").channel_axes == [1]
    assert pins(channels) == []
    assert channels.pin_axes(x, range(3), "softmax").ids.tolist() == [[[FIXED]]]
    assert pins(channels) == [([0, 1, 2], "softmax mixes it")]


def test_a_width_that_is_declared_twice_couples(channels: Channels, holder: Any) -> None:
    channels.width(holder, "features", channels.fresh(3))
    channels.width(holder, "features", channels.fresh(3))
    channels.width(holder, "others", None)
    assert couplings(channels) == [([0, 1, 2], [3, 4, 5])]
    assert set(channels.records.widths) == {("", "features")}


def test_macs_of_a_weight_that_is_used_twice_add_up(channels: Channels, holder: Any) -> None:
    channels.count_macs(holder.weight, 5)
    channels.count_macs(holder.weight, 7)
    assert channels.records.macs == {id(holder.weight): 12}


def test_the_first_reason_for_a_layer_left_whole_counts(channels: Channels, holder: Any) -> None:
    channels.leave_whole(holder, "one")
    channels.leave_whole(holder, "two")
    assert channels.records.left_whole == {"": "one"}


# Walks through networks


class Twice(nn.Module):
    """One layer called twice, so that what enters and leaves it is the same."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 5)
        self.again = nn.Linear(5, 5)
        self.last = nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        return self.last(self.again(self.again(x).relu()))


def made_by(found: Any, layer: str) -> list[int]:
    channels: list[int] = found.axes[found.layers[layer]].tolist()
    return channels


def test_a_module_that_is_called_twice_couples_its_input_and_its_output(
    find: Callable[..., Any], cut: Callable[..., Any]
) -> None:
    found = find(Twice(), (2, 3))
    assert made_by(found, "first") == made_by(found, "again") == [0, 1, 2, 3, 4]
    assert len(found.forwards.visits["again"]) == 2
    assert found.macs["again.weight"] == 2
    cut(Twice(), 3)


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.left = nn.Linear(3, 4)
        self.right = nn.Linear(3, 4)
        self.right.weight = self.left.weight
        self.last = nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.cat([self.left(x), self.right(x)], 1))


def test_layers_that_share_a_weight_share_their_channels(
    find: Callable[..., Any], cut: Callable[..., Any]
) -> None:
    found = find(Tied(), (2, 3))
    assert made_by(found, "left") == [0, 1, 2, 3]
    assert found.bound["right.bias"] == found.bound["left.bias"]
    assert "right.weight" not in found.tensors
    result = cut(Tied(), 3)
    assert result.small.left.weight is result.small.right.weight


class Borrowed(nn.Module):
    """A layer's weight is used, the layer and its bias are not."""

    def __init__(self, bias: bool) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(3, 4), nn.Linear(4, 2)
        self.lender = nn.Linear(4, 4, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.matmul(self.first(x), self.lender.weight))


def test_a_layer_that_only_lends_its_weight_stays_whole(find: Callable[..., Any]) -> None:
    found = find(Borrowed(bias=True), (2, 3))
    assert found.left_whole["first"] == "only the weight of lender is used"
    assert not found.removable.any()
    assert not find(Borrowed(bias=False), (2, 3)).removable.any()


class Direct(nn.Module):
    """Parameters that the forward uses itself take their channels from what they meet."""

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.before = nn.Conv2d(3, 5, 1)
        self.scale = nn.Parameter(torch.rand(shape))
        self.after = nn.Conv2d(5, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.after(self.before(x) * self.scale)


@pytest.mark.parametrize("shape", [(5, 1, 1), (1, 5, 1, 1), (5, 4, 4), (1, 5, 1, 4)])
def test_a_parameter_takes_its_channels_from_what_it_meets(
    cut: Callable[..., Any], shape: tuple[int, ...]
) -> None:
    result = cut(Direct(*shape), 3, 4, 4)
    removed = result.dependencies.removable[made_by(result.dependencies, "before")]
    assert removed.all()
    kept = result.small.before.out_channels
    assert result.small.scale.shape == tuple(kept if size == 5 else size for size in shape)


@pytest.mark.parametrize("shape", [(), (1,), (1, 1, 1), (4, 4), (1, 1, 1, 4)])
def test_a_parameter_without_channels_stays_as_it_is(
    cut: Callable[..., Any], shape: tuple[int, ...]
) -> None:
    result = cut(Direct(*shape), 3, 4, 4)
    assert result.small.scale.shape == shape
    assert result.small.before.out_channels < 5


def test_an_outer_sum_of_two_parameters(cut: Callable[..., Any]) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.before = nn.Conv2d(3, 5, 1)
            self.rows = nn.Parameter(torch.rand(4, 1))
            self.columns = nn.Parameter(torch.rand(4))
            self.after = nn.Conv2d(5, 2, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.after(self.before(x) + (self.rows + self.columns))

    result = cut(Net(), 3, 4, 4)
    assert result.small.rows.shape == (4, 1)
    assert result.small.before.out_channels < 5


def test_a_parameter_used_along_two_axes_stays_whole(cut: Callable[..., Any]) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.before = nn.Linear(3, 4)
            self.scale = nn.Parameter(torch.rand(4, 1))
            self.last = nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            x = self.before(x)
            return self.last(x * self.scale.view(1, 1, 4) + self.scale)

    result = cut(Net(), 4, 3)
    assert result.small.scale.shape == (4, 1)
    assert result.small.before.out_features == 4


@pytest.mark.parametrize("order", ["scale first", "scale last"])
def test_a_parameter_that_meets_two_tensors_couples_them(
    cut: Callable[..., Any], order: str
) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Conv2d(3, 5, 1)
            self.b = nn.Conv2d(3, 5, 1)
            self.scale = nn.Parameter(torch.rand(1, 5, 4, 1))
            self.after = nn.Conv2d(10, 2, 1)

        def forward(self, x: Tensor) -> Tensor:
            a, b = self.a(x), self.b(x)
            if order == "scale first":
                return self.after(torch.cat([self.scale * a, self.scale + b], 1))
            return self.after(torch.cat([a * self.scale, b + self.scale], 1))

    result = cut(Net(), 3, 4, 4)
    assert made_by(result.dependencies, "a") == made_by(result.dependencies, "b")


def test_a_buffer_used_directly_is_cut_with_what_it_meets(cut: Callable[..., Any]) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.before = nn.Linear(3, 6)
            self.register_buffer("shift", torch.rand(6))
            self.after = nn.Linear(6, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.after(self.before(x) - self.shift)

    result = cut(Net(), 3)
    assert result.small.shift.shape == (result.small.before.out_features,)


def test_a_parameter_that_meets_the_input_stays_whole(cut: Callable[..., Any]) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.rand(3))
            self.before = nn.Linear(3, 6)
            self.after = nn.Linear(6, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.after(self.before(x * self.scale))

    result = cut(Net(), 3)
    assert result.small.scale.shape == (3,)
    assert result.small.before.out_features < 6


def test_two_parameters_that_meet_each_other_first(cut: Callable[..., Any]) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.before = nn.Linear(3, 6)
            self.a = nn.Parameter(torch.rand(6))
            self.b = nn.Parameter(torch.rand(6))
            self.after = nn.Linear(6, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.after(self.before(x) * (self.a + self.b))

    result = cut(Net(), 3)
    assert result.small.a.shape == result.small.b.shape == (result.small.before.out_features,)


def test_a_parameter_met_along_the_wrong_axis_is_not_cut(cut: Callable[..., Any]) -> None:
    class Net(nn.Module):
        """A square bias, of which either axis could be the channels'."""

        def __init__(self) -> None:
            super().__init__()
            self.before = nn.Conv2d(3, 4, 1)
            self.bias = nn.Parameter(torch.rand(4, 4))
            self.after = nn.Conv2d(4, 2, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.after(self.before(x) + self.bias)

    result = cut(Net(), 3, 4, 4)
    assert result.small.bias.shape == (4, 4)
    assert result.small.before.out_channels < 4


def test_a_gate_of_one_map_passes_the_channels(cut: Callable[..., Any]) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.before = nn.Conv2d(3, 6, 1)
            self.after = nn.Conv2d(6, 2, 1)

        def forward(self, x: Tensor) -> Tensor:
            gate = torch.sigmoid(x.mean(1, keepdim=True))
            return self.after(gate * self.before(x))

    result = cut(Net(), 3, 4, 4)
    assert result.small.before.out_channels < 6


def test_squeeze_and_excitation(cut: Callable[..., Any]) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.before = nn.Conv2d(3, 6, 1)
            self.down = nn.Linear(6, 4)
            self.up = nn.Linear(4, 6)
            self.after = nn.Conv2d(6, 2, 1)

        def forward(self, x: Tensor) -> Tensor:
            x = self.before(x)
            b, c, _, _ = x.shape
            gate = self.up(F.relu(self.down(F.adaptive_avg_pool2d(x, 1).view(b, c))))
            return self.after(x * torch.sigmoid(gate).view(b, c, 1, 1))

    result = cut(Net(), 3, 4, 4)
    found = result.dependencies
    assert made_by(found, "before") == made_by(found, "up")
    assert not set(made_by(found, "down")) & set(made_by(found, "up"))


def test_a_module_of_several_inputs_gets_them_by_place_and_by_name(
    cut: Callable[..., Any],
) -> None:
    class Join(nn.Module):
        def forward(self, a: Tensor, b: Tensor, *, scale: float = 1.0) -> Tensor:
            return a + scale * b

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.left = nn.Linear(3, 4)
            self.right = nn.Linear(3, 4)
            self.join = Join()
            self.last = nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(self.join(self.left(x), b=self.right(x), scale=2.0))

    result = cut(Net(), 3)
    assert made_by(result.dependencies, "left") == made_by(result.dependencies, "right")


def test_an_owned_layer_may_be_called_by_name(find: Callable[..., Any]) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(input=x)

    assert find(Net(), (2, 3)).layers.keys() == {"layer"}


def test_a_network_of_two_inputs(find: Callable[..., Any]) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.left = nn.Linear(3, 4)
            self.right = nn.Linear(2, 4)

        def forward(self, a: Tensor, b: Tensor) -> Tensor:
            return self.left(a) + self.right(b)

    found = find(Net(), (2, 3), (2, 2))
    assert made_by(found, "left") == made_by(found, "right")
    with pytest.raises(InputShapeError, match=r"cannot be called with 1 input\(s\): missing"):
        find(Net(), (2, 3))


def test_an_input_that_the_network_cannot_take_names_the_layer(find: Callable[..., Any]) -> None:
    with pytest.raises(InputShapeError) as caught:
        find(nn.Sequential(nn.Linear(3, 4), nn.Linear(5, 2)), (2, 3))
    first, second = str(caught.value).splitlines()
    assert first.startswith("1 (Linear) cannot take a tensor of shape (4,): ")
    assert second == "Give the input shape that the network was made for (--input-shape)."


@pytest.mark.parametrize(
    ("method", "arguments"), [("unsqueeze_", (1,)), ("transpose_", (0, 1)), ("squeeze_", ())]
)
def test_a_change_of_an_inputs_shape_in_place_is_refused(
    find: Callable[..., Any], method: str, arguments: tuple[int, ...]
) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(3, 4), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            getattr(x, method)(*arguments)
            return self.second(self.first(x))

    with pytest.raises(UnsupportedError) as caught:
        find(Net(), (2, 3))
    first, second = str(caught.value).splitlines()
    assert f"its forward changes the shape of a tensor in place, by {method}" in first
    assert second == f"Write x = x.{method[:-1]}(...)."


def test_a_tensor_that_no_attribute_holds_is_refused(find: Callable[..., Any]) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3, 80)
            self.shifts = [torch.rand(80)]

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(x) + self.shifts[0]

    with pytest.raises(UnsupportedError, match="neither a parameter nor a buffer"):
        find(Net(), (2, 3))


def test_the_walk_does_not_touch_the_network(find: Callable[..., Any]) -> None:
    model = Twice().train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    attributes = {name: sorted(vars(module)) for name, module in model.named_modules()}
    find(model, (2, 3))
    assert model.training
    assert model.again.training
    assert attributes == {name: sorted(vars(module)) for name, module in model.named_modules()}
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_the_ids_of_a_reshape_are_the_channels_own(channels: Channels) -> None:
    x = Signal(shaped((2, 3, 2, 2)), along(1, 4, channels.fresh(3)))
    flat = channels.reshape(x, shaped((2, 12)))
    assert flat.shape == (2, 12)
    assert np.array_equal(flat.ids, np.repeat([0, 1, 2], 4).reshape(1, 12))


def test_without_the_plugin_of_layers_the_error_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(loading, "_load_installed", lambda blocked: ())
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 2, 1))
    with pytest.raises(UnsupportedError, match="pip install prunecore-sequential"):
        find_dependencies(model, [torch.empty((2, 3, 8, 8), device="meta")], loading.load())


def spread(channels: Channels) -> Signal:
    """Six channels that lie along two axes."""
    wide = Signal(shaped((1, 6)), along(1, 2, channels.fresh(6)))
    signal = channels.apply(torch.unflatten, wide, 1, (2, 3))
    assert isinstance(signal, Signal)
    assert signal.channel_axes == [1, 2]
    return signal


def test_a_call_that_asks_for_no_origin_meets_a_rectangle(channels: Walk) -> None:
    plain = channels.plain(spread(channels))
    assert (plain.origin, plain.channel_axes) == (None, [2])
    assert len(channels.records.couplings) == 1


def test_a_call_meets_an_origin_that_it_understands_as_it_is(channels: Walk, holder: Any) -> None:
    signal = spread(channels)
    assert channels.plain(signal, (Grid,)) is signal
    computed = channels.apply(torch.mul, channels.stored(holder, "weight"), 2)
    assert channels.plain(computed, (Computed,)) is computed
    assert channels.plain(computed).origin is None


def test_what_is_taken_of_a_parameter_is_computed_of_it_and_still_taken(
    channels: Walk, holder: Any
) -> None:
    part = channels.apply(operator.getitem, channels.stored(holder, "mean"), slice(1, 3))
    picked = part.origin_as(Picked)
    assert picked is not None
    assert picked.places.tolist() == [1, 2]
    assert part.origin_as(Computed) is part.origin
    assert part.parameter is None
