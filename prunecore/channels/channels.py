"""`Channels`, which plugins and rules hold: follow, couple along axes, and tell of layers."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np
from torch import Tensor, nn

from prunecore.channels.computed import columns_of, leaf_of
from prunecore.channels.coupling import Coupling, meet_filled
from prunecore.channels.ids import (
    Ids,
    one_channel_axis,
    reshape_ids,
    without_channels,
    without_repetition,
)
from prunecore.channels.names import module_paths
from prunecore.channels.records import MaskedForward, MaskedFunction, Use
from prunecore.channels.signal import (
    Computed,
    Expanded,
    Grid,
    Origin,
    Reduced,
    Signal,
)

_BY_PLUGIN = "a plugin calls a function that"


class Channels(Coupling):
    """The channels of a network: what plugins and rules calculate dependencies with.

    How modules and calls are followed is the walk's (`prunecore.walking.walk`), which this is when
    a plugin or a rule is handed it.

    Args:
        model: the network. It is read, never changed.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model)
        self.follows_weights = False  # whether what is followed is computed of parameters alone
        self._paths = module_paths(model)
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

    # Channels along axes

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
        if ids.size == ids.shape[axis]:
            return ids.ravel()
        rows = np.moveaxis(ids, axis, 0).reshape(ids.shape[axis], -1)
        for column in range(1, rows.shape[1]):
            self.join(rows[:, 0], rows[:, column])
        return np.ascontiguousarray(rows[:, 0])

    def read(self, signal: Signal, axis: int) -> Ids | None:
        """The channels along one axis that a layer's columns are bound to.

        A tensor that a forward fills with one number, as a first state, is as wide as they are: it
        has what other calls bind the columns to.

        Args:
            signal: what the layer reads.
            axis: its axis; not counted from the last.

        Returns:
            Their ids, shape `(signal.shape[axis],)`; `None` where no channels lie along it.
        """
        filled, expanded = signal.filled, signal.origin_as(Expanded)
        if filled is None or signal.channel_axes or (expanded and axis not in expanded.axes):
            return self.axis(signal, axis)
        ids = self.fresh(signal.shape[axis])
        of_call = expanded.axes[axis] if expanded else axis
        return ids if meet_filled(self, filled, of_call, ids) else None

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


def _heads_of(grid: Grid, axes: Sequence[int], rank: int) -> int | None:
    """The axis of attention's heads, if a tensor has such: the outer one of two.

    The tensor has four axes, or more of which the last is what a head is wide, as with windows.

    Args:
        grid: how its places lie.
        axes: the axes along which its channels lie that are to choose from.
        rank: how many axes the tensor has, without the others along which its channels lie.
    """
    if rank < 4 or len(axes) != 2:
        return None
    lying = grid.coordinates[grid.source.channel_axes[0]]
    lines = [np.moveaxis(lying, axis, 0).reshape(lying.shape[axis], -1)[:, 0] for axis in axes]
    outer = int(np.argmax([line[1] - line[0] for line in lines]))
    heads, width = axes[outer], axes[1 - outer]
    return heads if rank == 4 or width == lying.ndim - 1 else None
