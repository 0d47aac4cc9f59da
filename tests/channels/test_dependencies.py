"""Merging: components, what is left out, what is left whole and why, and what always stays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from prunecore import UnsupportedError
from prunecore.channels.dependencies import OUTPUT, UNMADE, groups_of, merge
from prunecore.channels.ids import FIXED
from prunecore.channels.records import Records


def components(count: int, pairs: list[tuple[int, int]]) -> list[int]:
    """Which component each id is in, one merge after the other; `FIXED` is the last id."""
    group = list(range(count + 1))
    for a, b in pairs:
        first, second = group[a], group[b]
        group = [first if one == second else one for one in group]
    return group


@st.composite
def _couplings(draw: st.DrawFn) -> tuple[int, list[list[tuple[int, int]]]]:
    count = draw(st.integers(1, 25))
    pair = st.tuples(st.integers(FIXED, count - 1), st.integers(FIXED, count - 1))
    return count, draw(st.lists(st.lists(pair, max_size=8), max_size=6))


@given(_couplings())
def test_channels_are_the_connected_components(
    case: tuple[int, list[list[tuple[int, int]]]],
) -> None:
    count, couplings = case
    records = Records(count=count)
    records.forwards.visits[""] = []
    for pairs in couplings:
        first, second = (np.array([p[side] for p in pairs], dtype=np.int64) for side in (0, 1))
        records.couplings.append((first, second))
    found = merge(nn.Identity(), records)
    group = components(count, [pair for pairs in couplings for pair in pairs])
    assert found.channel_of[-1] == FIXED
    for one in range(count):
        assert (found.channel_of[one] == FIXED) == (group[one] == group[-1])
        for other in range(one):
            if group[one] != group[-1]:
                same = found.channel_of[one] == found.channel_of[other]
                assert same == (group[one] == group[other])
    numbers = found.channel_of[found.channel_of != FIXED]
    assert found.count == len(set(numbers.tolist()))
    # numbered as they come
    assert list(dict.fromkeys(numbers.tolist())) == list(range(found.count))


def test_a_long_chain_is_one_component() -> None:
    records = Records(count=2000)
    records.forwards.visits[""] = []
    shuffled = np.random.default_rng(0).permutation(2000)
    records.couplings = [(shuffled[:-1], shuffled[1:])]
    assert merge(nn.Identity(), records).count == 1


def test_a_layer_whose_weight_alone_is_bound_is_not_left_out() -> None:
    network = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2))
    records = Records(count=3)
    records.forwards.visits[""] = []
    records.bindings[id(network[0].weight), 0] = np.arange(3)
    found = merge(network, records)
    assert found.left_out == ("1",)
    assert found.bound == {"0.weight": {0: 0}}


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(3, 6)
        self.blocks = nn.ModuleList([nn.Linear(6, 6), nn.Linear(6, 6)])
        self.mixed = nn.Linear(6, 5)
        self.twin = nn.Linear(6, 5)
        self.head = nn.Linear(5, 4)
        self.aux = nn.Sequential(nn.Linear(6, 6), nn.ReLU())
        self.spare = nn.ModuleDict({"one": nn.Linear(2, 2), "ten": nn.Linear(2, 2)})
        self.holder = Holder()

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x) * self.holder.scale
        x = x + self.blocks[0](x)
        mixed = self.mixed(x)
        return self.head(mixed.softmax(1) + mixed + self.twin(x))


class Holder(nn.Module):
    """Never called, but its parameter is used."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.rand(6))
        self.unused = nn.Linear(2, 2)


@pytest.fixture
def found(find: Callable[..., Any]) -> Any:
    return find(Net(), (2, 3))


def test_what_the_forward_never_reaches_is_left_out_outermost_first(found: Any) -> None:
    assert found.left_out == ("blocks.1", "aux", "spare", "holder.unused")
    assert not any(name.startswith(("blocks.1", "aux", "spare")) for name in found.tensors)
    assert "holder.scale" in found.tensors


def test_a_path_that_begins_like_one_left_out_is_kept(find: Callable[..., Any]) -> None:
    class Numbered(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer1 = nn.Linear(3, 4)
            self.layer10 = nn.Linear(3, 4)
            self.head = nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.layer10(x))

    found = find(Numbered(), (2, 3))
    assert found.left_out == ("layer1",)
    assert set(found.layers) == {"layer10", "head"}


def test_layers_left_whole_are_named_with_the_reason_but_not_the_output(found: Any) -> None:
    assert dict(found.left_whole) == {
        "mixed": "softmax mixes it",
        "twin": "softmax mixes it",
    }


class Uses(nn.Module):
    """A layer, and what is made of another."""

    def __init__(self, function: Callable[[Tensor, Any], Tensor], inner: Any) -> None:
        super().__init__()
        self.before, self.after = nn.Linear(3, 6), nn.Linear(6, 2)
        self.inner, self.function = inner, function

    def forward(self, x: Tensor) -> Tensor:
        return self.after(self.function(self.before(x), self.inner))


class ByHand(nn.Module):
    """A linear layer that no plugin knows, and no rule takes for one."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.rand(6, 6))

    def forward(self, x: Tensor) -> Tensor:
        return (x.unsqueeze(-1) * self.weight).sum(1)


def frozen() -> nn.Module:
    return nn.Linear(6, 6).requires_grad_(False)


LEFT: list[tuple[Callable[[Tensor, Any], Tensor], Any, dict[str, str], tuple[str, ...]]] = [
    (lambda x, inner: x, nn.Linear(6, 6), {}, ("inner",)),
    (lambda x, inner: x, nn.ModuleList([nn.Linear(6, 6)]), {}, ("inner",)),
    (lambda x, inner: inner[1](x), nn.ModuleList([nn.Linear(6, 6), nn.Linear(6, 6)]), {},
     ("inner.0",)),
    (lambda x, inner: x * inner.weight.mean(), nn.Linear(5, 5), {"inner": UNMADE}, ()),
    (lambda x, inner: x * inner.weight.mean(), nn.Embedding(5, 5), {"inner": UNMADE}, ()),
    (lambda x, inner: inner(x), ByHand(), {}, ()),
    (lambda x, inner: inner(x.softmax(1)), nn.Linear(6, 6), {"before": "softmax mixes it"}, ()),
    (lambda x, inner: x + inner, nn.Parameter(torch.rand(2, 6)), {}, ()),
    (lambda x, inner: inner(x), frozen(), {}, ()),
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(LEFT)))
def test_every_layer_is_cut_or_named_with_the_reason(find: Callable[..., Any], number: int) -> None:
    function, inner, left_whole, left_out = LEFT[number]
    found = find(Uses(function, inner), (2, 3))
    assert (dict(found.left_whole), found.left_out) == (left_whole, left_out)


def test_a_layer_in_a_plain_list_is_refused(find: Callable[..., Any]) -> None:
    net = Uses(lambda x, inner: inner[0](x), [nn.Linear(6, 6)])
    with pytest.raises(UnsupportedError, match="it calls a Linear that it does not hold") as caught:
        find(net, (2, 3))
    assert caught.value.remedy.startswith("Hold it in an attribute, or in an nn.ModuleList")


def test_a_layer_that_is_coupled_with_the_output_has_no_other_reason(
    find: Callable[..., Any],
) -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(3, 4), nn.Linear(3, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.a(x) + self.b(x)

    found = find(Two(), (2, 3))
    assert found.left_whole == {}
    assert not found.removable.any()
    assert OUTPUT == "it is an output of the network"


def test_what_is_coupled_with_places_that_always_stay_is_left_whole(
    find: Callable[..., Any],
) -> None:
    class Sum(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Linear(3, 6), nn.Linear(6, 2), nn.Linear(3, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.b(torch.cat([x, self.c(x)], 1) + self.a(x))

    found = find(Sum(), (2, 3))
    made = found.axes[found.layers["a"]]
    assert made.tolist()[:3] == [FIXED] * 3
    assert found.removable[made[3:]].all()
    assert found.left_whole == {}

    class Whole(Sum):
        def forward(self, x: Tensor) -> Tensor:
            return self.b(torch.cat([x, x], 1) + self.a(x) * torch.cat([x, x], 1))

    found = find(Whole(), (2, 3))
    assert set(found.left_whole) == {"a"}


def test_only_channels_that_a_layer_makes_can_go(find: Callable[..., Any]) -> None:
    class Padded(nn.Module):
        """What padding adds and nothing makes stays."""

        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(3, 4), nn.Linear(6, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.b(torch.nn.functional.pad(self.a(x), (0, 2)))

    found = find(Padded(), (2, 3))
    assert found.count == 8
    assert found.removable.tolist() == [True] * 4 + [False] * 4


def test_an_axis_and_an_argument_that_count_the_same_are_one_array(found: Any) -> None:
    stem = found.bound["stem.weight"][0]
    assert found.bound["stem.bias"] == {0: stem}
    assert found.bound["holder.scale"] == {0: stem}
    assert found.bound["blocks.0.weight"] == {0: stem, 1: stem}
    assert found.layers["stem"] == stem
    assert found.widths["stem", "out_features"] == stem
    assert len(found.axes) == len({array.tobytes() for array in found.axes})


def test_every_call_of_a_module_is_a_visit(found: Any) -> None:
    assert set(found.forwards.visits) == {"", "stem", "blocks.0", "mixed", "twin", "head"}
    (visit,) = found.forwards.visits["mixed"]
    assert visit.inputs[0].shape == (2, 6)
    assert visit.output.shape == (2, 5)
    assert set(found.forwards.traces) == {""}


def test_a_tensor_of_two_names_goes_by_its_first(find: Callable[..., Any]) -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)
            self.b.weight = self.a.weight
            self.c = nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.c(self.b(self.a(x)))

    found = find(Tied(), (2, 4))
    assert "b.weight" not in found.tensors
    assert "b.weight" not in found.bound
    assert found.filters[0][0] == "a.weight"


def test_a_network_that_cannot_be_followed_is_refused_by_path(find: Callable[..., Any]) -> None:
    class Odd(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.fft.fft(x).real

    with pytest.raises(UnsupportedError) as caught:
        find(nn.Sequential(nn.Linear(3, 4), nn.Sequential(nn.ReLU(), Odd())), (2, 3))
    assert (caught.value.path, caught.value.class_name) == ("1.1", "Odd")
    assert "Cannot prune through 1.1 (Odd): its forward calls fft_fft" in str(caught.value)


class Coupled(nn.Module):
    """`a` and `b` meet in the layer that reads both side by side; `c` is apart."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.sum = nn.Linear(3, 2), nn.Linear(3, 3), nn.Linear(3, 5)
        self.c, self.d = nn.Linear(5, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.d(self.c(torch.cat([self.a(x), self.b(x)], 1) + self.sum(x)))


def test_layers_that_share_channels_are_one_group(find: Callable[..., Any]) -> None:
    found = find(Coupled(), (2, 3))
    groups = groups_of(found)
    made = {path: groups[found.axes[index]].tolist() for path, index in found.layers.items()}
    assert made == {"a": [0] * 2, "b": [0] * 3, "sum": [0] * 5, "c": [1] * 4, "d": [2] * 2}


def test_places_that_always_stay_join_no_groups(find: Callable[..., Any]) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Linear(2, 4), nn.Linear(4, 6), nn.Linear(6, 2)

        def forward(self, x: Tensor) -> Tensor:
            y = torch.cat([x, F.pad(x, (0, 2))], 1)[:, :4] + self.a(x)
            return self.c(torch.cat([x, y], 1) + self.b(y))

    found = find(Net(), (2, 2))
    groups = groups_of(found)
    for index in found.layers.values():
        array = found.axes[index]
        assert len(set(groups[array[array != FIXED]].tolist())) <= 1


def test_without_layers_there_are_no_groups(find: Callable[..., Any]) -> None:
    assert groups_of(find(nn.ReLU(), (2, 3))).tolist() == []
