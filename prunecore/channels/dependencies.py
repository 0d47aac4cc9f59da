"""Dependencies: the channels that a walk found, and every axis of a weight bound to them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from prunecore.channels.coupling import MEETS_WHOLE
from prunecore.channels.ids import FIXED, Ids
from prunecore.channels.names import (
    is_within,
    named_modules,
    named_plain_tensors,
    named_tensors,
    tensor_names,
)
from prunecore.channels.records import (
    TRAINING,
    Forwards,
    MaskedForward,
    MaskedFunction,
    Records,
    Use,
)
from prunecore.errors import PrunecoreError

# Numbers of channels: 0, 1, ... in the order in which layers first make them; FIXED for places
# that always stay.
ChannelArray = NDArray[np.int64]


def channels_of(records: Records) -> tuple[ChannelArray, int]:
    """The channel of each id, and of `FIXED` in the last place; the number of channels."""
    root = components(records.count + 1, records.couplings)
    is_first = root == np.arange(len(root))
    is_first[root[-1]] = False
    channel_of = np.where(root == root[-1], FIXED, (np.cumsum(is_first) - 1)[root])
    return channel_of, int(np.count_nonzero(is_first))


def components(count: int, pairs: Sequence[tuple[Ids, Ids]]) -> Ids:
    """Connected components: the least member of each node's, `FIXED` being the last node."""
    root = np.arange(count)
    if not pairs:
        return root
    first, second = (np.concatenate(side) % count for side in zip(*pairs, strict=True))
    while (apart := first != second).any():
        first, second = first[apart], second[apart]
        np.minimum.at(root, np.maximum(first, second), np.minimum(first, second))
        while not np.array_equal(further := root[root], root):
            root = further
        first, second = root[first], root[second]
    return root


class Axes:
    """The distinct arrays of channels, numbered as they come."""

    def __init__(self, channel_of: ChannelArray) -> None:
        self.arrays: list[ChannelArray] = []
        self._channel_of = channel_of
        self._by_ids: dict[int, tuple[int, Ids]] = {}  # an array met again need not be compared
        self._by_content: dict[bytes, int] = {}

    def index(self, ids: Ids) -> int:
        """The number of the array that ids are, which is a new one where they are none as yet."""
        known = self._by_ids.get(id(ids))
        if known is None:
            array = self._channel_of[ids]
            index = self._by_content.setdefault(array.tobytes(), len(self.arrays))
            if index == len(self.arrays):
                self.arrays.append(array)
            known = self._by_ids[id(ids)] = (index, ids)
        return known[0]


def reasons_of(records: Records, channel_of: ChannelArray) -> dict[int, str]:
    """Why a channel may not go, by channel: that it is an output, or the first reason.

    That an output meets what is whole is told, since its width is no argument of the network then.
    """
    reasons: dict[int, str] = {}
    found: dict[str, set[int]] = {OUTPUT: set(), MEETS_WHOLE: set()}
    for ids, reason in records.pins:
        own = set(channel_of[ids].tolist()) - {FIXED}
        found.setdefault(reason, set()).update(own)
        for channel in own:
            reasons.setdefault(channel, reason)
    outputs = found[OUTPUT]
    reasons |= dict.fromkeys(outputs, OUTPUT)
    reasons |= dict.fromkeys(outputs & found[MEETS_WHOLE], MEETS_WHOLE)
    return reasons


OUTPUT = "it is an output of the network"


UNMADE = "no channels that may go lie along its weight"


_NONE = np.zeros(0, dtype=np.int64)


@dataclass(frozen=True)
class ComputedWeight:
    """A weight that a forward computes, where a layer uses it.

    Attributes:
        of: the name of the first parameter that it is computed of.
        size: its number of elements.
        bound: the indices into axes of its axes with channels.
        macs: the uses of each of its elements for one input.
        used_along: the index into axes of the places that it is used at; `None` for the others.
    """

    of: str
    size: int
    bound: tuple[int, ...]
    macs: int
    used_along: int | None


@dataclass(frozen=True)
class ProductMacs:
    """The multiply-accumulates of tensors that meet in a product, such as attention's.

    Attributes:
        of: the path of the module that multiplies them.
        macs: their number for one input, in the original.
        bound: the indices into axes of the axes with channels.
    """

    of: str
    macs: int
    bound: tuple[int, ...]


@dataclass(frozen=True)
class Dependencies:
    """The channels of a network and all that is bound to them.

    Attributes:
        count: how many channels there are.
        removable: whether each may go, shape `(count,)`.
        axes: the distinct arrays of channels that axes are bound to.
        bound: tensor name to `{axis: index into axes}`.
        filters: (tensor name, axis, index into axes) of the filters that make channels.
        layers: path to the index into axes of the channels that the layer makes; the further
            weights of a module that has several go by their own names.
        parts: index into axes of parts of tensors, of each of which a place has to stay.
        widths: (module path, constructor argument) to the index into axes that it counts.
        tensors: the parameters and buffers that the network reaches, by name, tied ones once.
        macs: tensor name to the uses of each of its elements for one input.
        used_along: tensor name to the index into axes of the places that it is used at.
        computed: the weights that forwards compute, for each layer that is given one.
        products: the products of tensors, such as attention's.
        left_out: paths of the modules that are not reached, the outermost of each; `training` where
            what only training does is left out.
        left_whole: path of a layer that is not cut at all to the reason.
        protected: paths of the layers that the user wants whole.
        masked_forwards: path to (index into axes, forward in the masked original).
        masked_functions: path to name of a call in its trace to (index into axes, function in the
            masked original).
        channel_of: the channel of each id, and, last, of `FIXED`.
        forwards: what the network's forwards do, for those who run or write it.
    """

    count: int
    removable: NDArray[np.bool_]
    axes: tuple[ChannelArray, ...]
    bound: Mapping[str, Mapping[int, int]]
    filters: tuple[tuple[str, int, int], ...]
    layers: Mapping[str, int]
    parts: tuple[int, ...]
    widths: Mapping[tuple[str, str], int]
    tensors: Mapping[str, Tensor]
    macs: Mapping[str, int]
    used_along: Mapping[str, int]
    computed: tuple[ComputedWeight, ...]
    products: tuple[ProductMacs, ...]
    left_out: tuple[str, ...]
    left_whole: Mapping[str, str]
    protected: tuple[str, ...]
    masked_forwards: Mapping[str, tuple[int, MaskedForward]]
    masked_functions: Mapping[str, Mapping[str, tuple[int, MaskedFunction]]]
    channel_of: ChannelArray
    forwards: Forwards


def merge(model: nn.Module, records: Records) -> Dependencies:
    """Merge coupled ids into channels and name what is bound to them."""
    channel_of, count = channels_of(records)
    axes = Axes(channel_of)
    names = tensor_names(model)
    stored = _stored(model, names, records.forwards.constants_held)
    holders = {names[key].rpartition(".")[0] for key, _ in records.bindings}
    left_out = _left_out(model, {*records.forwards.visits, *records.touched, *holders})
    tensors = {name: tensor for name, tensor in stored.items() if not is_within(name, left_out)}
    bound, filters, layers = _bindings(records, names, axes)
    reasons = reasons_of(records, channel_of)
    made = np.concatenate([axes.arrays[index] for index in layers.values()] or [_NONE])
    removable = np.bincount(made[made >= 0], minlength=count) > 0
    removable[list(reasons)] = False
    left_whole = _uncut_layers(records, layers, axes, removable, reasons)
    may_go = [bool(removable[array[array >= 0]].any()) for array in axes.arrays]
    made_by = {name for name, _, _ in filters}
    for name in _makes_none(model, bound, may_go):
        holder = name.rpartition(".")[0]
        visits = records.forwards.visits.get(holder)  # none where its weight alone is read
        is_known = is_within(name, (*left_whole, *records.protected)) or name in made_by
        if name in tensors and not is_known and not (visits and visits[0].owner):
            met = (axes.arrays[index] for index in bound.get(name, {}).values())
            why = next((reasons[one[0]] for one in met if one[0] in reasons), UNMADE)
            left_whole[name if visits else holder] = why
    return Dependencies(
        count=count,
        removable=removable,
        bound=bound,
        filters=tuple(filters),
        layers=layers,
        parts=tuple(axes.index(ids) for ids in records.parts),
        widths={key: axes.index(ids) for key, ids in records.widths.items()},
        tensors=tensors,
        macs={names[key]: times for key, times in records.macs.items()},
        used_along={
            names[key]: axes.index(ids)
            for key, ids in records.used_along.items()
            if ids is not None
        },
        computed=tuple(
            _computed_weight(use, names[id(use.parameter)], axes) for use in records.uses
        ),
        products=_products(records, axes),
        left_out=(
            *left_out,
            *records.forwards.without_hooks,
            *([TRAINING] if records.lacks_training else []),
        ),
        left_whole=left_whole,
        protected=tuple(records.protected),
        masked_forwards={
            path: (axes.index(ids), forward)
            for path, (ids, forward) in records.masked_forwards.items()
        },
        masked_functions=_masked_functions(records, axes),
        channel_of=channel_of,
        axes=tuple(axes.arrays),
        forwards=records.forwards,
    )


def _stored(model: nn.Module, names: Mapping[int, str], held: Collection[str]) -> dict[str, Tensor]:
    """The tensors of a network by name; of plain ones those that forwards read.

    Args:
        model: the network.
        names: the first name of each tensor, by its id.
        held: the names of plain tensors that forwards read.
    """
    plain = named_plain_tensors(model) if held else ()
    read = [(names[id(tensor)], tensor) for name, tensor in plain if name in held]
    return dict([*named_tensors(model), *read])


def groups_of(dependencies: Dependencies) -> ChannelArray:
    """The group of each channel: layers that make some of the same channels are of one group.

    Returns:
        Numbers of groups from 0, in the order of their first channels, shape `(count,)`; -1 where
        no layer makes the channel.
    """
    made = [dependencies.axes[index] for index in set(dependencies.layers.values())]
    free = [channels for array in made if len(channels := array[array != FIXED])]
    pairs = [(np.repeat(channels[:1], len(channels)), channels) for channels in free]
    root = components(dependencies.count, pairs)
    is_made = np.zeros(dependencies.count, dtype=bool)
    is_made[np.concatenate([*free, _NONE])] = True
    groups = np.full(dependencies.count, -1, dtype=np.int64)
    groups[is_made] = np.unique(root[is_made], return_inverse=True)[1]
    return groups


def _bindings(
    records: Records, names: Mapping[int, str], axes: Axes
) -> tuple[dict[str, dict[int, int]], list[tuple[str, int, int]], dict[str, int]]:
    """What is bound, where the filters of layers lie, and the channels that each layer makes."""
    bound: dict[str, dict[int, int]] = {}
    filters: list[tuple[str, int, int]] = []
    layers: dict[str, int] = {}
    for (key, axis), ids in records.bindings.items():
        try:
            index = axes.index(ids)
        except IndexError as error:
            raise _bound_to_nothing(records, names[key]) from error
        bound.setdefault(names[key], {})[axis] = index
        if (key, axis) in records.filters:
            filters.append((names[key], axis, index))
            layer = records.filters[key, axis]
            units = records.units.get((key, axis))
            made = index if units is None else axes.index(units)
            if units is None or layers.get(layer) != made:
                layers[names[key] if layer in layers else layer] = made
    return bound, filters, layers


def _uncut_layers(
    records: Records,
    layers: Mapping[str, int],
    axes: Axes,
    removable: NDArray[np.bool_],
    reasons: Mapping[int, str],
) -> dict[str, str]:
    """The layers none of whose channels may go, and why."""
    left_whole = dict(records.left_whole)
    for path, index in layers.items():
        made = axes.arrays[index]
        if not removable[made[made >= 0]].any():
            reason = reasons.get(int(made[0]), "it is coupled with what always stays")
            if reason != OUTPUT and not is_within(path, records.protected):
                left_whole.setdefault(path, reason)
    return left_whole


def _masked_functions(
    records: Records, axes: Axes
) -> dict[str, dict[str, tuple[int, MaskedFunction]]]:
    """What the masked original calls in the place of functions, by path and call."""
    masked: dict[str, dict[str, tuple[int, MaskedFunction]]] = {}
    for (path, call), (ids, function) in records.masked_functions.items():
        masked.setdefault(path, {})[call] = (axes.index(ids), function)
    return masked


def _products(records: Records, axes: Axes) -> tuple[ProductMacs, ...]:
    """The products in which tensors meet, with the axes that their channels lie along."""
    return tuple(
        ProductMacs(one.path, one.macs, tuple(map(axes.index, one.along)))
        for one in records.products
    )


def _computed_weight(use: Use, name: str, axes: Axes) -> ComputedWeight:
    """A use of a computed weight, with what it has turned out to have along its axes."""
    ids = {
        known.signal.channel_axes[0]: known.signal.ids.ravel()
        for known in (use.weight.computed.followed if use.weight.computed else ())
        if len(known.signal.channel_axes) == 1
    }
    bound = tuple(map(axes.index, ids.values()))
    along = None if use.along is None else axes.index(use.along)
    return ComputedWeight(name, use.weight.meta.numel(), bound, use.times, along)


def _bound_to_nothing(records: Records, name: str) -> PrunecoreError:
    """The error for a tensor that is bound to ids that were not handed out."""
    path = name
    while path:
        path = path.rpartition(".")[0]
        for visit in records.forwards.visits.get(path, ()):
            if visit.owner:
                return visit.owner.error(
                    f"prunecore_calculate_dependencies for {path or 'the network'} binds {name} to "
                    f"ids that were not handed out: {records.count} were"
                )
    return PrunecoreError(f"{name} is bound to ids that were not handed out.\nReport it.")


def _makes_none(
    model: nn.Module, bound: Mapping[str, Mapping[int, int]], may_go: Sequence[bool]
) -> list[str]:
    """The parameters of several axes that no channel that may go lies along.

    Args:
        model: the network.
        bound: tensor name to `{axis: index into axes}`.
        may_go: whether some of the channels of each of the axes may go.
    """
    return [
        name
        for name, parameter in model.named_parameters()
        if sum(size > 1 for size in parameter.shape) > 1
        and not any(may_go[index] for index in bound.get(name, {}).values())
    ]


def _left_out(model: nn.Module, reached: set[str]) -> tuple[str, ...]:
    """The outermost modules that hold nothing that was reached, by all of their paths."""
    holding = {""}
    paths = named_modules(model, remove_duplicate=False)
    modules = {id(module) for path, module in paths if path in reached}
    for path, module in paths:
        inner = path if id(module) in modules else ""
        while inner not in holding:
            holding.add(inner)
            inner = inner.rpartition(".")[0]
    out: list[str] = []
    for path, _ in paths:
        if path not in holding and not is_within(path, out):
            out.append(path)
    return tuple(out)
