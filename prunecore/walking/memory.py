"""A network run without storage, for what reads and writes which memory, and in which order."""

from __future__ import annotations

import functools
import inspect
import operator
from collections.abc import Callable, Collection, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import dropwhile
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

from prunecore.channels.filling import with_numbers
from prunecore.channels.records import Trace
from prunecore.channels.signal import Signal
from prunecore.inputs import Arguments
from prunecore.isolation.copies import Isolation
from prunecore.isolation.state import ThreadMode
from prunecore.tracing.arguments import absent_from, called_with, given_to, one_by_one
from prunecore.tracing.modules.attributes import TrainingFlag, without_storage


@dataclass(frozen=True)
class Access:
    """A tensor that an operation has read or written.

    Attributes:
        time: how many operations were run before.
        tensor: the tensor.
        is_write: whether it was written.
    """

    time: int
    tensor: Tensor
    is_write: bool


class Memory(ThreadMode):  # type: ignore[no-untyped-call]
    """Notes what operations read and write while it is active.

    Attributes:
        time: how many operations have been run.
    """

    def __init__(self) -> None:
        super().__init__()
        self.time = 0
        self._made: dict[Hashable, Any] = {}  # tensors as operations return them
        self._accesses: dict[int, list[Access]] = {}
        self._views: dict[int, tuple[Tensor, Tensor]] = {}  # by identity, with what they are of

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run an operation, and note it."""
        kwargs = kwargs or {}
        result = self._result(func, args, kwargs)
        self.time += 1
        arguments = func._schema.arguments
        given = [
            *zip(arguments, args, strict=False),
            *((one, kwargs[one.name]) for one in arguments if one.name in kwargs),
        ]
        by_memory: dict[int, Tensor] = {}
        for argument, value in given:
            for tensor in _tensors(value):
                by_memory.setdefault(place(tensor), tensor)
                if argument.alias_info is None or argument.is_write:
                    self.note(tensor, argument.is_write)
        for tensor in _tensors(result):
            source = by_memory.get(place(tensor))
            if source is not None and tensor is not source:
                self._views.setdefault(id(tensor), (tensor, source))
        return result

    def _result(self, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """What an operation returns; one that makes new tensors is run once for all alike.

        That is often slower than to make these: many operations know by Python of torch's what
        they return for tensors without storage.
        """
        schema = func._schema
        if any(one.alias_info is not None for one in (*schema.arguments, *schema.returns)):
            return func(*args, **kwargs)
        told = _told([*args, *kwargs.items()])
        if told is None:
            return func(*args, **kwargs)
        key = func, told
        if key in self._made:
            return pytree.tree_map_only(Tensor, _like, self._made[key])
        result = func(*args, **kwargs)
        taken = {place(tensor) for tensor in _tensors([*args, *kwargs.values()])}
        made = [*_tensors(result)]
        if made and all(tensor.is_meta and place(tensor) not in taken for tensor in made):
            self._made[key] = result
        return result

    def note(self, tensor: Tensor, is_write: bool) -> None:
        """Note that a tensor is read or written."""
        access = Access(self.time, tensor, is_write)
        self._accesses.setdefault(place(tensor), []).append(access)

    def accesses(self, tensor: Tensor, after: int) -> list[Access]:
        """What has been done to the memory of a tensor after a time."""
        return [one for one in self._accesses.get(place(tensor), ()) if one.time > after]

    def is_of(self, tensor: Tensor, whole: Tensor) -> bool:
        """True if a tensor is another one, or has come of it by views alone."""
        while tensor is not whole:
            if id(tensor) not in self._views:
                return False
            _, tensor = self._views[id(tensor)]
        return True


def _told(value: Any) -> Hashable:
    """What the shapes of what an operation returns depend on; `None` where that is numbers."""
    if isinstance(value, Tensor):
        return (value.shape, value.stride(), value.dtype) if value.is_meta else None
    if isinstance(value, list | tuple):
        told = [_told(item) for item in value]
        return None if None in told else (type(value), *told)
    return type(value), value


def _like(tensor: Tensor) -> Tensor:
    return torch.empty_strided(
        tensor.shape, tensor.stride(), dtype=tensor.dtype, device=tensor.device
    )


def place(tensor: Tensor) -> int:
    """Which memory a tensor lies in."""
    return int(tensor.untyped_storage()._cdata)


def overlap(first: Tensor, second: Tensor) -> bool:
    """True if two tensors that lie in one memory have elements in common."""
    if first is second or not first.numel() or not second.numel():
        return first.numel() > 0 and second.numel() > 0
    ranges = _range(first), _range(second)
    begins, ends = zip(*ranges, strict=True)
    if max(begins) >= min(ends):
        return False
    for (begin, end), tensor, (other_begin, other_end) in zip(
        ranges, (first, second), ranges[::-1], strict=True
    ):
        if _is_dense(tensor) and begin <= other_begin and other_end <= end:
            return True
    return bool(np.intersect1d(_elements(first), _elements(second)).size)


def _range(tensor: Tensor) -> tuple[int, int]:
    """The number of a tensor's first element in its memory, and that behind its last."""
    steps = zip(tensor.shape, tensor.stride(), strict=True)
    begin = int(tensor.storage_offset())
    return begin, begin + 1 + sum(int(size - 1) * stride for size, stride in steps)


def _is_dense(tensor: Tensor) -> bool:
    """True if a tensor has every element between its first and its last."""
    expected = 1
    for stride, size in sorted(zip(tensor.stride(), tensor.shape, strict=True)):
        if size > 1:
            if stride != expected:
                return False
            expected *= size
    return True


def _elements(tensor: Tensor) -> NDArray[np.int64]:
    """The numbers of a tensor's elements in its memory."""
    found = np.array([tensor.storage_offset()])
    for size, stride in zip(tensor.shape, tensor.stride(), strict=True):
        found = (found[:, None] + np.arange(size) * stride).ravel()
    return found


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _tensors(item)


@dataclass(frozen=True)
class Watched:
    """A call of a traced forward that was watched.

    Attributes:
        path: of the forward's module.
        node: the call.
        values: of the nodes that lead to it, the call's own last.
        times: when these had been computed.
    """

    path: str
    node: fx.Node
    values: tuple[Any, ...]
    times: tuple[int, ...]


class Replay:
    """Runs a network without storage, each traced forward as its trace.

    Args:
        model: the network; a copy of it is run.
        forwards: those that it goes through, by path and by the arguments that are `None`.
        ways: by path, the calls that are watched, each with the nodes that lead to it, itself last.
        in_training: the mode in which modules are called.
        as_in_eval: paths of the modules that train as they run in eval mode.

    Attributes:
        memory: what was done to memory.
        calls: those watched, in order.
    """

    def __init__(
        self,
        model: nn.Module,
        forwards: Mapping[str, Mapping[frozenset[str], Trace]],
        ways: Mapping[str, Mapping[fx.Node, Sequence[fx.Node]]],
        in_training: bool,
        as_in_eval: Collection[str],
    ) -> None:
        self.memory = Memory()
        self.calls: list[Watched] = []
        self._ways = ways
        self._network = without_storage(Isolation(model).of(model), in_training)
        for path in as_in_eval:
            self._network.get_submodule(path).training = False
        for path, traces in forwards.items():
            module: Any = self._network.get_submodule(path)
            signature = inspect.signature(module.forward)
            module.forward = functools.partial(self._forward, path, module, traces, signature)

    def run(self, inputs: Arguments) -> None:
        """Run it; what it returns is read at last.

        Args:
            inputs: what it is called with, on the meta device.
        """
        args, kwargs = pytree.tree_map_only(Tensor, torch.empty_like, inputs)
        with torch.no_grad(), self.memory:
            output = self._network.forward(*args, **kwargs)
        self.memory.time += 1
        for leaf in pytree.tree_leaves(output):
            if isinstance(leaf, Tensor):
                self.memory.note(leaf, False)

    def _forward(
        self,
        path: str,
        module: nn.Module,
        traces: Mapping[frozenset[str], Trace],
        signature: inspect.Signature,
        *inputs: Any,
        **keywords: Any,
    ) -> Any:
        supplied = given_to(signature, inputs, keywords)
        trace = traces[absent_from(signature, supplied)]
        given = iter(one_by_one(signature, supplied))
        values: dict[fx.Node, Any] = {}
        times: dict[fx.Node, int] = {}
        ways = self._ways.get(path, {})

        def value(leaf: Any) -> Any:
            if isinstance(leaf, fx.Node):
                return values[leaf]
            return module.training if isinstance(leaf, TrainingFlag) else leaf

        for node in trace.graph.nodes:
            args, kwargs = called_with(node, value)
            if node.op == "placeholder":
                values[node] = next(given)
            elif node.op == "get_attr":
                holder, _, name = node.target.rpartition(".")
                values[node] = getattr(module.get_submodule(holder), name)
            elif node.op == "output":
                return args[0]
            elif node.target is torch._assert:  # of a size that the inputs need not have
                continue
            elif node.op == "call_module":  # hooks of it that count are a part of the trace
                child = module.get_submodule(node.target)
                if self._makes_known(child, trace, node, values):
                    values[node] = self._made(child, args, trace.values[node])
                else:
                    values[node] = child.forward(*args, **kwargs)
            else:
                values[node] = _called(trace, node, values, args, kwargs)
            if node in ways:
                values[node] = _apart(values[node], args)
            times[node] = self.memory.time
            if node in ways:
                way = ways[node]
                known = tuple(values[step] for step in way), tuple(times[step] for step in way)
                self.calls.append(Watched(path, node, *known))
        return None

    def _makes_known(
        self, module: nn.Module, trace: Trace, node: fx.Node, values: Mapping[fx.Node, Any]
    ) -> bool:
        """True if a call of a module makes a new tensor, as the walk has had it do."""
        sources = [(trace.values[one], values[one]) for one in node.all_input_nodes]
        return (
            isinstance(trace.values[node], Signal)
            and makes_new(module)
            and all(
                isinstance(known, Signal) and _told(known.meta) == _told(value)
                for known, value in sources
            )
        )

    def _made(self, module: nn.Module, args: tuple[Any, ...], result: Signal) -> Tensor:
        """What a layer makes that reads its input, and what it holds."""
        self.memory.time += 1
        for tensor in (*_tensors(args), *module.parameters(), *module.buffers()):
            self.memory.note(tensor, False)
        return _like(result.meta)


def makes_new(module: nn.Module) -> bool:
    """True if a layer only reads what it is given, and makes a new tensor of it.

    Also layers one after the other of which one does so before any changes a tensor in place.
    """
    if "forward" in vars(module):
        return False
    if type(module) is not nn.Sequential:
        return type(module) in _MAKING and not (module.training and [*module.buffers()])
    first = next(dropwhile(_passes_on, module), nn.Identity())
    return makes_new(first) and all(
        makes_new(layer) or type(layer) in _POINTWISE for layer in module
    )


def _passes_on(layer: nn.Module) -> bool:
    return type(layer) in _POINTWISE and not getattr(layer, "inplace", False)


_MAKING = {
    *(nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear),
    *(nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d),
    *(nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.LayerNorm, nn.GroupNorm),
}


_POINTWISE = {
    *(nn.Identity, nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.SiLU, nn.GELU, nn.Sigmoid, nn.Tanh),
    *(nn.Hardswish, nn.Hardsigmoid),
}


def _called(
    trace: Trace, node: fx.Node, values: Mapping[fx.Node, Any], args: Any, kwargs: Any
) -> Any:
    """What a call of a function or method returns."""
    passed_on = [one for one in node.all_input_nodes if trace.values[one] is trace.values[node]]
    if passed_on and isinstance(trace.values[node], Signal):  # as a cast to another device is
        return values[passed_on[0]]
    if node.target is operator.getitem:  # a mask tells by its numbers how many places it takes
        known = {id(values[one]): trace.values[one] for one in node.all_input_nodes}
        args = pytree.tree_map_only(Tensor, lambda one: _taken(known.get(id(one)), one), args)
    args, kwargs = with_numbers(getattr(node.target, "__name__", str(node.target)), args, kwargs)
    is_method = node.op == "call_method"
    function: Callable[..., Any] = (
        getattr(type(args[0]), str(node.target)) if is_method else node.target  # type: ignore[assignment]
    )
    result = function(*args, **kwargs)
    is_made = isinstance(result, Tensor) and not result.is_meta
    return result.to("meta") if is_made else result


def _taken(value: Any, otherwise: Tensor) -> Any:
    """The numbers of the places that a stored mask takes; else the tensor that is given."""
    stored = value.parameter if isinstance(value, Signal) else None
    if stored is None or stored.dtype is not torch.bool or stored.is_meta:
        return otherwise
    return np.flatnonzero(stored.cpu()).tolist()


def _apart(result: Any, given: Any) -> Any:
    """A result in which no tensor is one of those given, but a view of it."""
    known = {id(leaf) for leaf in pytree.tree_leaves(given)}
    return pytree.tree_map_only(
        Tensor, lambda one: one.view_as(one) if id(one) in known else one, result
    )
