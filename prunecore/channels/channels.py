"""`Channels`, which plugins and rules hold: hand ids out, bind weights to them, couple and pin."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Sequence
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from prunecore.channels.computed import columns_of, leaf_of
from prunecore.channels.filling import with_numbers
from prunecore.channels.ids import (
    Ids,
    along,
    one_channel_axis,
    reshape_ids,
    without_channels,
    without_repetition,
)
from prunecore.channels.names import module_paths, tensor_names
from prunecore.channels.records import MaskedForward, MaskedFunction, Records, Use
from prunecore.channels.signal import (
    Computed,
    Expanded,
    Filled,
    Grid,
    Origin,
    Reduced,
    Signal,
    shaped,
)
from prunecore.errors import InputShapeError, Line, UnsupportedError

_BY_PLUGIN = "a plugin calls a function that"


# why channels stay that are added to what is not cut
MEETS_WHOLE = "it meets a tensor of which everything stays, such as the network's input"


class Channels(ABC):
    """The channels of a network: what plugins and rules calculate dependencies with.

    How modules and calls are followed is the walk's (`prunecore.walking.walk`), which this is when
    a plugin or a rule is handed it.

    Args:
        model: the network. It is read, never changed.
    """

    def __init__(self, model: nn.Module) -> None:
        self.records = Records()
        self.follows_weights = False  # whether what is followed is computed of parameters alone
        self._model = model
        self._paths = module_paths(model)
        self._stored = tensor_names(model)
        self._at = [""]  # the paths of the modules that the walk is inside of
        self._lines: list[Line | None] = [None]  # where it has come to in their forwards
        self.states_numbers = False  # whether the call that is followed is written with numbers
        self._call: str | None = None  # the call of a traced forward that is followed

    # Following: what a walk does

    @abstractmethod
    def through(self, module: nn.Module, *inputs: Any, **keywords: Any) -> Any:
        """Follow the channels through a module: its owner's hook answers, or its own forward.

        Args:
            module: a module of the network.
            inputs: what its forward is called with, a `Signal` for each tensor.
            keywords: likewise, by name.

        Returns:
            What its forward returns, a `Signal` for each tensor.

        Raises:
            ValueError: the module is not the network's.
            TypeError: an input is a tensor or an array, not a `Signal`.
        """

    @abstractmethod
    def trace(self, module: nn.Module, *inputs: Any, **keywords: Any) -> Any:
        """Follow the channels through a module's own forward, whoever owns its class.

        Args:
            module: a module of the network.
            inputs: what its forward is called with, a `Signal` for each tensor.
            keywords: likewise, by name.

        Returns:
            What its forward returns, a `Signal` for each tensor.

        Raises:
            UnsupportedError: the forward cannot be traced, or does what no rule knows.
        """

    @abstractmethod
    def apply(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Follow the channels through a function call; without a tensor in it, just call it.

        Args:
            function: of torch, `torch.relu`, `Tensor.add`, or an operator of Python's.
            args: what it is called with, a `Signal` for each tensor.
            kwargs: likewise, by name.

        Returns:
            What it returns, a `Signal` for each tensor.

        Raises:
            UnsupportedError: there is no rule for it, or none for this form of it.
            InputShapeError: the shapes do not fit.
        """

    @abstractmethod
    def stored(self, module: nn.Module, name: str) -> Signal:
        """A parameter or buffer that a forward uses directly; it has ids of its own.

        Along its only axis of more than one place it has them from the start. With several such
        axes it takes them from what it meets.

        Args:
            module: the module that holds it.
            name: its attribute.

        Raises:
            UnsupportedError: it is neither a parameter nor a buffer.
        """

    @abstractmethod
    def meeting(self, signals: Sequence[Signal]) -> list[Signal]:
        """Tensors that meet place by place, their shapes broadcast: the same ones, in order.

        Those that are computed of parameters have the channels that they meet.
        """

    @abstractmethod
    def whole(self, signal: Signal) -> Signal:
        """A tensor as functions meet it that do not ask where it comes from.

        The parameters that it is computed of stay whole, but for what meets channels on the way.
        """

    def plain(self, signal: Signal, understood: Collection[type[Origin]] = ()) -> Signal:
        """A tensor as a call meets it that does not ask where it comes from.

        Channels that lie along several axes are coupled to a rectangle, and what is computed of
        parameters is whole. A parameter, and places that have been taken, serve any call.

        Args:
            signal: any tensor.
            understood: the kinds of origin that the call does understand, and meets as they are.
        """
        if signal.computed and Computed not in understood:
            signal = self.whole(signal)
        reduced = signal.origin_as(Reduced)
        if reduced and reduced.tells and Reduced not in understood:
            self.pin(reduced.ids, reduced.tells)
        return signal if Grid in understood else self.settle(signal)

    @property
    def path(self) -> str:
        """The path of the module that the walk is in."""
        return self._at[-1]

    @property
    def module(self) -> nn.Module:
        """The module that the walk is in."""
        return self._model.get_submodule(self.path)

    def run(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call a torch function on meta tensors, for the shape of what it returns.

        Args:
            function: of torch.
            args: what it is called with; a `Signal` stands for its meta tensor.
            kwargs: likewise, by name.

        Raises:
            InputShapeError: the shapes do not fit.
        """
        given = pytree.tree_map(self._for_torch, (args, kwargs))
        args, kwargs = with_numbers(getattr(function, "__name__", ""), *given)
        try:
            return function(*args, **kwargs)
        except (
            RuntimeError,
            ValueError,
            IndexError,
            TypeError,
            AttributeError,
            AssertionError,
        ) as error:
            shapes = [
                str(tuple(leaf.shape[1:]))
                for leaf in pytree.tree_leaves((args, kwargs))
                if isinstance(leaf, Tensor)
            ]
            path, name = self._where()
            message = (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
            line = self._line()
            raise InputShapeError(
                f"{path or 'The network'} ({name}) cannot take a tensor of shape "
                f"{shapes[0] if shapes else '()'}: {message}"
                f"{f' ({line})' if line else ''}.\n"
                "Give the input shape that the network was made for (--input-shape)."
            ) from error

    # Handing out, binding, coupling, pinning

    def fresh(self, count: int) -> Ids:
        """Hand out ids that nothing has yet, shape `(count,)`, for channels that a layer makes."""
        first = self.records.count
        self.records.count += count
        return np.arange(first, first + count, dtype=np.int64)

    def bind(
        self, tensor: Tensor | Signal | None, axis: int, ids: Ids | None, filters: bool = False
    ) -> None:
        """Bind one axis of a weight to channels: it is cut as they are.

        Args:
            tensor: a parameter or buffer of the network, or what a forward computes of such;
                `None` is passed over.
            axis: its axis.
            ids: shape `(tensor.shape[axis],)`; `None` where no channels lie along it, all
                of which stays in every call, then.
            filters: whether the places along the axis are the filters that make the channels.

        Raises:
            UnsupportedError: the network does not hold the tensor.
            ValueError: the ids are not as many as the places along the axis.
        """
        if tensor is None:
            return
        if isinstance(tensor, Signal):
            self._bind_computed(tensor, axis, ids, filters)
            return
        if id(tensor) not in self._stored:
            self.refuse(
                "one of its weights is computed each time, not stored",
                "Make it a plain parameter first, for instance with "
                "torch.nn.utils.parametrize.remove_parametrizations.",
            )
        key = (id(tensor), axis)
        if ids is None:
            self.records.met_whole.add(key)
            return
        if ids.shape != (tensor.shape[axis],):
            raise ValueError(
                f"axis {axis} of a tensor of shape {tuple(tensor.shape)} cannot be bound to "
                f"ids of shape {ids.shape}"
            )
        self.join(self.records.bindings.setdefault(key, ids), ids)
        if filters:
            self.records.filters.setdefault(key, self._at[-1])

    @abstractmethod
    def _bind_computed(self, tensor: Signal, axis: int, ids: Ids | None, filters: bool) -> None:
        """Bind one axis of a weight that a forward computes."""

    def columns(self, weight: Tensor | Signal, axis: int) -> Ids | None:
        """The channels on an axis of a computed weight that need not be zero where one is gone.

        Returns:
            Their ids, shape `(weight.shape[axis],)`; `None` where all that is gone is zero.
        """
        return columns_of(weight, axis)

    def width(self, module: nn.Module, attribute: str, ids: Ids | None) -> None:
        """Declare that a module's constructor argument counts these channels.

        Args:
            module: a module of the network.
            attribute: the argument, by the name of the attribute that holds it: `in_channels`.
            ids: of the channels, any shape; `None` where this call gives it none, so that it stays
                as it is.
        """
        key = (self._paths[id(module)], attribute)
        if ids is None:
            self.records.met_whole.add(key)
        else:
            self.join(self.records.widths.setdefault(key, ids), ids)

    def holder(self, tensor: Tensor) -> nn.Module:
        """The module that holds a parameter or buffer of the network; `KeyError` for another's."""
        return self._model.get_submodule(self._stored[id(tensor)].rpartition(".")[0])

    def couple(self, *signals: Signal) -> Signal:
        """Couple tensors that meet place by place, after broadcasting.

        Args:
            signals: of shapes that broadcast together, one at least.

        Returns:
            What an addition of them returns.

        Raises:
            InputShapeError: the shapes do not broadcast.
        """
        result = signals[0]
        for other in signals[1:]:
            result = broadcast_together(self, result, other)
        return result

    def pin(self, ids: Ids, reason: str) -> None:
        """Keep these channels whole.

        Args:
            ids: any shape.
            reason: completes "left whole because ...".
        """
        self.records.pins.append((ids.ravel(), reason))

    def join(self, first: Ids, second: Ids) -> None:
        """Make the channels at equal places of two arrays of equal shape one channel each."""
        if first is not second:
            self.records.couplings.append((first.ravel(), second.ravel()))

    def axis(self, signal: Signal, axis: int) -> Ids | None:
        """The channels along one axis; those that also differ along another are coupled across it.

        Args:
            signal: any tensor.
            axis: its axis; it may count from the last.

        Returns:
            Their ids, shape `(signal.shape[axis],)`; `None` where no channels lie along it.
        """
        ids = signal.ids
        if ids.shape[axis] == 1:
            return None
        rows = np.moveaxis(ids, axis, 0).reshape(ids.shape[axis], -1)
        for column in range(1, rows.shape[1]):
            self.join(rows[:, 0], rows[:, column])
        return np.ascontiguousarray(rows[:, 0])

    def pin_axes(self, signal: Signal, axes: Any, operation: str) -> Signal:
        """Keep whole what lies along axes that an operation mixes.

        Args:
            signal: any tensor.
            axes: the axes that are mixed, by number.
            operation: what mixes them, for the reason that is reported: `softmax`.

        Returns:
            The same tensor, without channels if some lay along one of these axes.
        """
        ids = signal.ids
        for axis in axes:
            if ids.shape[axis] > 1:
                self.pin(ids, f"{operation} mixes it")
                ids = without_channels(signal.ndim)
        return Signal(signal.meta, ids)

    def reshape(self, signal: Signal, meta: Tensor) -> Signal:
        """A tensor after a row-major reshape to the shape of `meta`, which has as many places."""
        ids = reshape_ids(signal.ids, signal.shape, tuple(meta.shape))
        return Signal(meta, one_channel_axis(ids, self.join))

    def settle(self, signal: Signal, axis: int | None = None) -> Signal:
        """Couple channels that lie along several axes, so that those that stay are a rectangle.

        Args:
            signal: any tensor.
            axis: along which the channels stay apart; without one, that which has most of them.

        Returns:
            The same tensor, its channels along one axis at most.
        """
        grid = signal.origin_as(Grid)
        if grid is None:
            return signal
        *before, last = grid.arrangements
        axis = _heads_of(grid, signal.channel_axes, signal.ndim) if axis is None else axis
        settled = one_channel_axis(last, self.join, axis)
        ids, places = np.unique(last, return_index=True)
        stands_for = np.broadcast_to(settled, last.shape).ravel()[places]
        for arrangement in before:  # the same channels, which may be a rectangle already
            units = stands_for[np.searchsorted(ids, arrangement)]
            one_channel_axis(without_repetition(units), self.join)
        return Signal(signal.meta, settled)

    def settle_beside(self, signal: Signal, axes: Collection[int]) -> Signal:
        """Settle a tensor so that, if possible, no channels lie along these axes.

        Args:
            signal: any tensor.
            axes: that a function mixes, or takes places along.

        Returns:
            The same tensor, its channels along one axis at most where it had not settled.
        """
        others = [axis for axis in signal.channel_axes if axis not in axes]
        grid = signal.origin_as(Grid)
        if grid is None or not others or len(others) == len(signal.channel_axes):
            return self.settle(signal)
        rank = signal.ndim - len(signal.channel_axes) + len(others)
        most = max(others, key=lambda axis: signal.shape[axis])
        # as where heads are pooled by themselves
        is_between = any(others[0] < axis < others[-1] for axis in axes)
        heads = None if is_between else _heads_of(grid, others, rank)
        return self.settle(signal, most if heads is None else heads)

    def hold_one(self, ids: Ids) -> None:
        """See to it that one of these ids, of any shape, stays: no part of a tensor is empty."""
        self.records.parts.append(ids.ravel())

    # Counting and checking

    def count_macs(self, weight: Tensor | Signal, times: int, along: Ids | None = None) -> None:
        """Count multiply-accumulates: each element of `weight` is used `times` times an input.

        Args:
            weight: of a layer; it may be computed by a forward.
            times: how often one element is used for one input, in the original.
            along: the channels, if any, among the places that it is used at, shape `(places,)`;
                each has its share.
        """
        if isinstance(weight, Signal):
            parameter = leaf_of(weight).parameter
            if parameter is not None:  # else it is computed of the input
                self.records.uses.append(Use(weight, parameter, times, along))
            return
        self.records.macs[id(weight)] = self.records.macs.get(id(weight), 0) + times
        known = self.records.used_along.setdefault(id(weight), along)
        if known is not along:
            for ids in (known, along):
                if ids is not None:
                    self.pin(ids, "a layer that works along it is used elsewhere, too")

    def leave_whole(self, module: nn.Module, reason: str) -> None:
        """Report that a layer is not cut; the reason completes "left whole because ..."."""
        self.records.left_whole.setdefault(self._paths[id(module)], reason)

    def masked_forward(self, module: nn.Module, ids: Ids | None, forward: MaskedForward) -> None:
        """Give the forward that the masked original uses, where zeros would not be inert.

        Args:
            module: a module that normalises over channels, say.
            ids: the channels along the axis that it mixes, shape `(places,)`; `None` where none
                lie along it in this call.
            forward: called with the module, the kept places of `ids` and the inputs.
        """
        path = self._paths[id(module)]
        if ids is None:
            self.records.met_whole.add(path)
        else:
            known, _ = self.records.masked_forwards.setdefault(path, (ids, forward))
            self.join(known, ids)

    def masked_function(self, ids: Ids | None, function: MaskedFunction) -> None:
        """Give what the masked original calls in the place of the function that is followed.

        A plugin that follows a function with `apply` gives its block's `masked_forward` itself;
        channels that such a call mixes are left whole.

        Args:
            ids: the channels along the axis that it mixes, shape `(places,)`; `None` where none
                lie along it in this call.
            function: called with the kept places of `ids` and the arguments of the call.
        """
        if self._call is None:
            if ids is not None:
                # verification replays a call by its name, which is another one in training
                mixer = "its forward does something else in training, and"
                self.pin(ids, f"{mixer if self.states_numbers else _BY_PLUGIN} mixes it")
            return
        key = (self.path, self._call)
        if ids is None:
            self.records.met_whole.add(key)
        else:
            known, _ = self.records.masked_functions.setdefault(key, (ids, function))
            self.join(known, ids)

    def refuse(self, reason: str, remedy: str) -> NoReturn:
        """Stop: the module that the walk is in is not understood.

        Args:
            reason: what it does that is not understood, in the middle of a sentence.
            remedy: what the user can do, a sentence.

        Raises:
            UnsupportedError: always.
        """
        path, name = self._where()
        raise UnsupportedError(path, name, reason, remedy, self._line())

    def _for_torch(self, argument: Any) -> Any:
        """What a torch function is called with for an argument."""
        return argument.meta if isinstance(argument, Signal) else argument

    def _line(self) -> Line | None:
        """The innermost line of the user's that the walk has come to."""
        return next((line for line in reversed(self._lines) if line), None)

    def _where(self) -> tuple[str, str]:
        path = self._at[-1]
        return path, type(self._model.get_submodule(path)).__name__


def _heads_of(grid: Grid, axes: Sequence[int], rank: int) -> int | None:
    """The axis of attention's heads, if a tensor of four axes has such: the outer one of two.

    Args:
        grid: how its places lie.
        axes: the axes along which its channels lie that are to choose from.
        rank: how many axes the tensor has, without the others along which its channels lie.
    """
    if rank != 4 or len(axes) != 2:
        return None
    lying = grid.coordinates[grid.source.channel_axes[0]]
    lines = [np.moveaxis(lying, axis, 0).reshape(lying.shape[axis], -1)[:, 0] for axis in axes]
    return axes[int(np.argmax([line[1] - line[0] for line in lines]))]


_CROSSWISE = "it meets channels that lie along another axis"


def broadcast_together(channels: Channels, a: Signal, b: Signal) -> Signal:
    """Couple two tensors where they meet after broadcasting; the result's `Signal`.

    Channels that meet a size of 1 pass it; channels that meet others become one with them; those
    that meet places that always stay, or channels along another axis, are left whole.
    """
    shape = channels.run(torch.broadcast_shapes, a.shape, b.shape)
    a, b = _adopt(channels, a, b), _adopt(channels, b, a)
    a_ids, b_ids = (s.ids.reshape((1,) * (len(shape) - s.ndim) + s.ids.shape) for s in (a, b))
    a_shape, b_shape = ((1,) * (len(shape) - s.ndim) + s.shape for s in (a, b))
    a_axes = {axis for axis in range(len(shape)) if a_ids.shape[axis] > 1}
    b_axes = {axis for axis in range(len(shape)) if b_ids.shape[axis] > 1}
    if a_axes == b_axes:
        if a_axes:
            channels.join(a_ids, b_ids)
        ids = a_ids
    elif a_axes and b_axes:
        ids = _crossing(channels, a, b, a_ids, b_ids)
    else:
        ids, axes, other = (a_ids, a_axes, b_shape) if a_axes else (b_ids, b_axes, a_shape)
        if any(other[axis] > 1 for axis in axes):
            channels.pin(ids, MEETS_WHOLE)
    return Signal(shaped(shape, torch.promote_types(a.meta.dtype, b.meta.dtype)), ids)


def _crossing(channels: Channels, a: Signal, b: Signal, a_ids: Ids, b_ids: Ids) -> Ids:
    """Meet channels that lie along another axis; those that layers make are kept, if they can be.

    Places of parameters and buffers, and of what is computed of them, make no channels.

    Args:
        channels: the walk.
        a: a tensor.
        b: the other one.
        a_ids: of the first, of the rank of the result.
        b_ids: of the second, likewise.
    """
    is_stored = [
        signal.parameter is not None or channels.records.are_of_stored(signal.ids)
        for signal in (a, b)
    ]
    if sum(is_stored) == 1:
        ids, crossing, stored = (b_ids, a_ids, a) if is_stored[0] else (a_ids, b_ids, b)
        channels.pin(crossing, _CROSSWISE)
        shape = (1,) * (ids.ndim - stored.ndim) + stored.shape
        if all(shape[axis] == 1 for axis, size in enumerate(ids.shape) if size > 1):
            return ids
    for ids in (a_ids, b_ids):
        channels.pin(ids, _CROSSWISE)
    return without_channels(a_ids.ndim)


def _adopt(channels: Channels, signal: Signal, other: Signal) -> Signal:
    """A parameter, or a tensor that is filled with one number, takes its ids from what it meets."""
    offset = signal.ndim - other.ndim
    axes, filled = other.channel_axes, signal.filled
    if not (filled or signal.parameter is not None) or len(axes) != 1 or axes[0] + offset < 0:
        return signal
    axis = axes[0] + offset
    if signal.shape[axis] != other.shape[axes[0]]:
        return signal
    ids, expanded = other.ids.ravel(), signal.origin_as(Expanded)
    if expanded is not None and (axis not in expanded.axes or signal.channel_axes):
        return signal
    if filled is None:
        channels.bind(signal.parameter, axis, ids)
    elif not meet_filled(channels, filled, expanded.axes[axis] if expanded else axis, ids):
        return signal
    return Signal(signal.meta, along(axis, signal.ndim, ids))


def meet_filled(channels: Channels, filled: Filled, axis: int, ids: Ids) -> bool:
    """Let a filled tensor be as wide as these channels, if nothing has it stay as it is.

    Args:
        channels: the walk.
        filled: what it has met so far.
        axis: along which it meets them.
        ids: of the channels, shape `(width,)`.
    """
    if filled.is_whole or (filled.ids is not None and axis != filled.axis):
        return False
    if not channels.records.is_trial:
        known = ids if filled.ids is None else filled.ids
        channels.join(known, ids)
        filled.axis, filled.ids, filled.meetings = axis, known, filled.meetings + 1
    return True
