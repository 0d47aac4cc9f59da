"""The algebra of channel ids: hand them out, bind weights to them, couple and pin them."""

from __future__ import annotations

import inspect
import operator
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import numpy as np
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from prunecore.broadcasting import broadcast_together
from prunecore.decorators import protected_layers
from prunecore.errors import InputShapeError, UnsupportedError
from prunecore.functions import Operation
from prunecore.interpreting import interpret
from prunecore.plugins import Plugins
from prunecore.records import MaskedForward, Records, Visit, is_within
from prunecore.signal import Ids, Signal, along, reshape_ids, shaped, without_channels
from prunecore.sizes import counted, depending
from prunecore.source import is_of_torch
from prunecore.tracing import trace_level

LAYERS = "sequential"  # the plugin that nearly every network needs


class Channels:
    """Follows channels through a network; what plugins calculate dependencies with.

    Args:
        model: the network. It is read, never changed.
        plugins: the loaded plugins.
    """

    def __init__(self, model: nn.Module, plugins: Plugins) -> None:
        self.records = Records()
        self._model = model
        self._plugins = plugins
        self._paths = {id(module): path for path, module in model.named_modules()}
        stored = [*model.named_parameters(), *model.named_buffers()]
        self._stored = {id(tensor) for _, tensor in stored}
        self.records.protected = [self._paths[id(layer)] for layer in protected_layers(model)]
        self._at = [""]  # the paths of the modules that the walk is inside of

    @property
    def path(self) -> str:
        """The path of the module that the walk is in."""
        return self._at[-1]

    # Walking

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
        if id(module) not in self._paths:
            raise ValueError(f"{type(module).__name__} is not a module of the network")
        path = self._paths[id(module)]
        owner = self._plugins.owner(type(module))
        for given in inputs:
            if isinstance(given, Tensor | nn.Module | np.ndarray):
                raise TypeError(f"{path} is called with {type(given).__name__}, not a Signal")
        depth = len(self.records.open)
        self.records.open.append((path, Visit(inputs, None, owner)))
        with self._inside(path):
            if owner is None:
                output = self.trace(module, *inputs, **keywords)
            else:
                if keywords:
                    inputs = inspect.signature(module.forward).bind(*inputs, **keywords).args
                output = owner.call(
                    "prunecore_calculate_dependencies",
                    path,
                    block=module,
                    inputs=inputs,
                    channels=self,
                )
        del self.records.open[depth:]
        self.records.visits.setdefault(path, []).append(Visit(inputs, output, owner))
        if is_within(path, self.records.protected):
            for leaf in pytree.tree_leaves(output):
                if isinstance(leaf, Signal):
                    self.pin(leaf.ids, f"skip protects {path}")
        return output

    def trace(self, module: nn.Module, *inputs: Any, **keywords: Any) -> Any:
        """Follow the channels through a module's own forward, whoever owns its class."""
        path = self._paths[id(module)]
        try:
            supplied = inspect.signature(module.forward).bind(*inputs, **keywords).arguments
        except TypeError as error:
            raise InputShapeError(
                f"{path or 'The network'} ({type(module).__name__}) cannot be called with "
                f"{len(inputs)} input(s): {error}.\nGive a forward that takes one tensor."
            ) from error
        trace = interpret(self, module, trace_level(module, path, supplied), supplied)
        self.records.traces.setdefault(path, trace)
        return trace.output

    def apply(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Follow the channels through a function call; without a tensor in it, just call it."""
        leaves = pytree.tree_leaves((args, kwargs))
        if not any(isinstance(leaf, Signal) for leaf in leaves):
            return self._computed(function, leaves, self.run(function, *args, **kwargs))
        rule = self._plugins.functions.get(function)
        if rule is None:
            name = getattr(function, "__name__", str(function))
            self.refuse(
                f"its forward calls {name}, and there is no rule for what that does to channels",
                "Write the call in terms of known functions, or give a rule for it in a plugin "
                "(hook prunecore_functions).",
            )
        try:
            return rule.calculate(self, Operation(function, args, kwargs))
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            self.refuse(
                f"its forward calls {function.__name__} in a form that its rule cannot read: "
                f"{error}",
                "Call it in the form that torch documents first, or give a rule for it in a "
                "plugin (hook prunecore_functions).",
            )

    def run(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call a torch function on meta tensors, for the shape of what it returns.

        Signals among the arguments stand for their meta tensors.

        Raises:
            InputShapeError: the shapes do not fit.
        """
        args, kwargs = pytree.tree_map(
            lambda leaf: leaf.meta if isinstance(leaf, Signal) else leaf, (args, kwargs)
        )
        try:
            return function(*args, **kwargs)
        except (RuntimeError, ValueError, IndexError, TypeError, AssertionError) as error:
            shapes = [
                str(tuple(leaf.shape[1:]))
                for leaf in pytree.tree_leaves((args, kwargs))
                if isinstance(leaf, Tensor)
            ]
            path, name = self._where()
            message = (str(error) or type(error).__name__).splitlines()[0]
            raise InputShapeError(
                f"{path or 'The network'} ({name}) cannot take a tensor of shape "
                f"{shapes[0] if shapes else '()'}: {message}\n"
                "Give the input shape that the network was made for (--input-shape)."
            ) from error

    def stored(self, module: nn.Module, name: str) -> Signal:
        """A parameter or buffer that a forward uses directly; it has ids of its own.

        Along its only axis of more than one place it has them from the start. With several such
        axes it takes them from what it meets.

        Args:
            module: the module that holds it.
            name: its attribute.
        """
        tensor = getattr(module, name, None)
        self.records.touched.add(self._paths[id(module)])
        if tensor is None or id(tensor) not in self._stored:
            self.refuse(
                "its forward uses a tensor that is neither a parameter nor a buffer",
                "Register it in __init__ with register_buffer.",
            )
        ids = without_channels(tensor.ndim)
        wide = [axis for axis, size in enumerate(tensor.shape) if size > 1]
        if len(wide) == 1:
            own = self.records.bindings.get((id(tensor), wide[0]))
            own = self.fresh(tensor.shape[wide[0]]) if own is None else own
            self.bind(tensor, wide[0], own)
            ids = along(wide[0], tensor.ndim, own)
        return Signal(shaped(tensor.shape), ids, tensor)

    # Handing out, binding, coupling, pinning

    def fresh(self, count: int) -> Ids:
        """Hand out ids, shape `(count,)`, for channels that a layer produces."""
        first = self.records.count
        self.records.count += count
        return np.arange(first, first + count, dtype=np.int64)

    def bind(
        self, tensor: Tensor | None, axis: int, ids: Ids | None, filters: bool = False
    ) -> None:
        """Bind one axis of a parameter or buffer to channels: it is cut as they are.

        Args:
            tensor: a parameter or buffer of the network; `None` is passed over.
            axis: its axis.
            ids: shape `(tensor.shape[axis],)`; `None`, no channels along it, is passed over.
            filters: whether the places along the axis are the filters that make the channels.
        """
        if tensor is None:
            return
        if id(tensor) not in self._stored:
            self.refuse(
                "one of its weights is computed each time, not stored",
                "Make it a plain parameter first, for instance with "
                "torch.nn.utils.parametrize.remove_parametrizations.",
            )
        if ids is None:
            return
        if ids.shape != (tensor.shape[axis],):
            raise ValueError(
                f"axis {axis} of a tensor of shape {tuple(tensor.shape)} cannot be bound to "
                f"ids of shape {ids.shape}"
            )
        key = (id(tensor), axis)
        self.join(self.records.bindings.setdefault(key, ids), ids)
        if filters:
            self.records.filters.setdefault(key, self._at[-1])

    def width(self, module: nn.Module, attribute: str, ids: Ids | None) -> None:
        """Declare that a module's constructor argument counts these channels."""
        if ids is not None:
            known = self.records.widths.setdefault((self._paths[id(module)], attribute), ids)
            self.join(known, ids)

    def couple(self, *signals: Signal) -> Signal:
        """Couple tensors that meet place by place, after broadcasting; the result's `Signal`."""
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
        """The channels along one axis, shape `(signal.shape[axis],)`; `None` where there are none.

        Channels that also differ along another axis are coupled across it.
        """
        ids = signal.ids
        if ids.shape[axis] == 1:
            return None
        rows = np.moveaxis(ids, axis, 0).reshape(ids.shape[axis], -1)
        for column in range(1, rows.shape[1]):
            self.join(rows[:, 0], rows[:, column])
        return np.ascontiguousarray(rows[:, 0])

    def pin_axes(self, signal: Signal, axes: Any, operation: str) -> Signal:
        """Keep whole what lies along axes that an operation mixes; the same tensor without it."""
        ids = signal.ids
        for axis in axes:
            if ids.shape[axis] > 1:
                self.pin(ids, f"{operation} mixes it")
                ids = without_channels(signal.ndim)
        return Signal(signal.meta, ids)

    def reshape(self, signal: Signal, meta: Tensor) -> Signal:
        """The signal after a row-major reshape to the shape of `meta`."""
        ids = reshape_ids(signal.ids, signal.shape, tuple(meta.shape), self.join)
        return Signal(meta, ids)

    # Counting and checking

    def count_macs(self, weight: Tensor, times: int, along: Ids | None = None) -> None:
        """Count multiply-accumulates: each element of `weight` is used `times` times an input.

        Args:
            weight: of a layer.
            times: how often, in the original.
            along: the channels, if any, among the places that it is used at; each has its share.
        """
        self.records.macs[id(weight)] = self.records.macs.get(id(weight), 0) + times
        known = self.records.used_along.setdefault(id(weight), along)
        if known is not along:
            for ids in (known, along):
                if ids is not None:
                    self.pin(ids, "a layer that works along it is used elsewhere, too")

    def leave_whole(self, module: nn.Module, reason: str) -> None:
        """Report that a layer is not cut, and why."""
        self.records.left_whole.setdefault(self._paths[id(module)], reason)

    def masked_forward(self, module: nn.Module, ids: Ids | None, forward: MaskedForward) -> None:
        """Give the forward that the masked original uses, where zeros would not be inert.

        Args:
            module: a module that normalises over channels, say.
            ids: the channels along the axis that it mixes.
            forward: called with the module, the kept places of `ids` and the inputs.
        """
        if ids is not None:
            self.records.masked_forwards[self._paths[id(module)]] = (ids, forward)

    def refuse(self, reason: str, remedy: str) -> NoReturn:
        """Stop: the module that the walk is in is not understood.

        Raises:
            UnsupportedError: always.
        """
        path, name = self._where()
        has_layers = any(plugin.name == LAYERS for plugin in self._plugins.all)
        if not has_layers and is_of_torch(type(self._model.get_submodule(path))):
            remedy = f"Install the plugin of torch.nn's layers: pip install prunecore-{LAYERS}"
        raise UnsupportedError(path, name, reason, remedy)

    # Inside

    def _computed(self, function: Callable[..., Any], leaves: list[Any], result: Any) -> Any:
        """What a forward computes without a tensor of the network, such as from sizes."""
        ids = [] if function is operator.getitem else counted(leaves)
        if ids and type(result) in (int, float):
            return depending(result, ids)
        for each in ids:
            self.pin(each, f"{function.__name__} depends on how many there are")
        if isinstance(result, Tensor):
            return Signal(result.to("meta"), without_channels(result.ndim))
        return result

    @contextmanager
    def _inside(self, path: str) -> Iterator[None]:
        self._at.append(path)
        try:
            yield
        finally:
            self._at.pop()

    def _where(self) -> tuple[str, str]:
        path = self._at[-1]
        return path, type(self._model.get_submodule(path)).__name__
