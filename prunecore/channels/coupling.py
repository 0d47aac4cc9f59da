"""Ids handed out, weights bound to them, and channels coupled and pinned, broadcasting included."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable
from typing import Any, NoReturn

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from prunecore.channels.filling import with_numbers
from prunecore.channels.ids import Ids, along, without_channels
from prunecore.channels.names import tensor_names
from prunecore.channels.records import Records
from prunecore.channels.signal import Expanded, Filled, Signal, map_leaves, shaped
from prunecore.errors import InputShapeError, Line, UnsupportedError

# why channels stay that are added to what is not cut
MEETS_WHOLE = "it meets a tensor of which everything stays, such as the network's input"


# what torch answers slowly without storage, and alike for tensors of equal shapes and strides
_BY_SHAPES = frozenset(map(id, (F.conv1d, F.conv2d, F.conv3d, F.linear)))


class Coupling(ABC):
    """Hands out ids, binds weights to them, couples and pins them, in the module that a walk is in.

    Args:
        model: the network. It is read, never changed.
    """

    def __init__(self, model: nn.Module) -> None:
        self.records = Records()
        self._model = model
        self._stored = tensor_names(model)
        self._at = [""]  # the paths of the modules that the walk is inside of
        self._lines: list[Line | None] = [None]  # where it has come to in their forwards
        # shapes, strides and types of what calls have returned, by what these were given
        self._returned: dict[Hashable, tuple[torch.Size, tuple[int, ...], torch.dtype]] = {}

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
        given = map_leaves(self._for_torch, (args, kwargs))
        args, kwargs = with_numbers(getattr(function, "__name__", ""), *given)
        try:
            if id(function) in _BY_SHAPES and not kwargs:
                return self._by_shapes(function, args)
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

    def _by_shapes(self, function: Callable[..., Tensor], args: tuple[Any, ...]) -> Tensor:
        """A new tensor as a function returns it, which is called once for equal shapes."""
        told = (
            (value.shape, value.stride(), value.dtype) if isinstance(value, Tensor) else repr(value)
            for value in args
        )
        key = (function, *told)
        if key not in self._returned:
            made = function(*args)
            self._returned[key] = made.shape, made.stride(), made.dtype
        shape, stride, dtype = self._returned[key]
        return torch.empty_strided(shape, stride, dtype=dtype, device="meta")

    def fresh(self, count: int) -> Ids:
        """Hand out ids that nothing has yet, shape `(count,)`, for channels that a layer makes."""
        first = self.records.count
        self.records.count += count
        return np.arange(first, first + count, dtype=np.int64)

    def fresh_of_stored(self, count: int) -> Ids:
        """Hand out ids that nothing has yet, for places of a parameter or buffer."""
        ids = self.fresh(count)
        self.records.of_stored.append(ids)
        return ids

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


_CROSSWISE = "it meets channels that lie along another axis"


def broadcast_together(channels: Coupling, a: Signal, b: Signal) -> Signal:
    """Couple two tensors where they meet after broadcasting; the result's `Signal`.

    Channels that meet a size of 1 pass it; channels that meet others become one with them; those
    that meet places that always stay, or channels along another axis, are left whole.
    """
    is_same = a.shape == b.shape
    shape = a.shape if is_same else channels.run(torch.broadcast_shapes, a.shape, b.shape)
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


def _crossing(channels: Coupling, a: Signal, b: Signal, a_ids: Ids, b_ids: Ids) -> Ids:
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


def _adopt(channels: Coupling, signal: Signal, other: Signal) -> Signal:
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


def meet_filled(channels: Coupling, filled: Filled, axis: int, ids: Ids) -> bool:
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
