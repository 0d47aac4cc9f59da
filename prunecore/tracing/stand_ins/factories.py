"""Factory calls of a traced forward, which make tensors of no input: `torch.linspace(0, 1, 8)`."""

from __future__ import annotations

import inspect
import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from prunecore.isolation.random_states import OwnDraws

_LITERALS = (bool, int, float, str, type(None), torch.dtype, torch.device, slice, type(...))


_LONGEST = 64  # literals in a call; more of them belong in a buffer


@dataclass(frozen=True)
class Made:
    """The call that made a tensor.

    Attributes:
        function: of torch or of Python's operators; the name of a tensor's method.
        args: what it was called with.
        kwargs: likewise, by name.
        version: the number of changes in place that the tensor had seen by then.
    """

    function: Callable[..., Any] | str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    version: int


class MadeTensors(TorchFunctionMode):
    """Notes how tensors are made while a forward is traced, so that its trace can make them.

    Args:
        draws: the random numbers that the forward draws while it is traced.
        move: moves a tensor that it has made to where its inputs are.
        stand_in: what stands for a tensor that it has made in its trace.
        check: called with each tensor that another one is made of.
    """

    def __init__(
        self,
        draws: OwnDraws,
        move: Callable[[Tensor], Any],
        stand_in: Callable[[Tensor], Any],
        check: Callable[[Tensor], None],
    ) -> None:
        super().__init__()
        self._check = check
        self._draws = draws
        self._move = move
        self._stand_in = stand_in
        self._traced: set[int] = set()  # the memory that the trace alone knows the contents of
        self._made: dict[int, Made] = {}
        self._held: list[Tensor] = []  # so that no other tensor has the identity of one of them

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Call a function, and note what it was called with."""
        kwargs = kwargs or {}
        if func is Tensor.cuda:
            return self._move(args[0])
        changed = args[0] if args and _changes(func) else None
        if type(changed) is Tensor and not _are_known((args[1:], kwargs)):
            self._leave_to_trace(changed)
        is_traced = self._is_traced((args, kwargs))
        if is_traced and not _is_attribute(func):
            return self._call_in_trace(func, args, kwargs)
        result = func(*args, **kwargs)
        if is_traced:
            is_part = type(result) is Tensor  # as `r.T` is
            return getattr(self._stand_in(args[0]), func.__self__.__name__) if is_part else result
        called = _called(func)
        is_new = type(result) is Tensor and not any(result is given for given in args)
        for given in args if is_new else ():
            self._check(given)
        if is_new and called and _are_known((args, kwargs)):
            self._made[id(result)] = Made(called, args, kwargs, result._version)
            self._held.append(result)
        return result

    def _call_in_trace(self, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Call a function with what stands for the tensors that it is given."""
        args, kwargs = pytree.tree_map(
            lambda leaf: self._stand_in(leaf) if type(leaf) is Tensor else leaf, (args, kwargs)
        )
        called = _called(func)
        if isinstance(called, str):
            return getattr(args[0], called)(*args[1:], **kwargs)
        return (called or func)(*args, **kwargs)

    def _leave_to_trace(self, tensor: Tensor) -> None:
        """Leave to the trace what is done with a tensor from now on; what it was used for is there.

        Args:
            tensor: places of it are set to what the trace computes.
        """
        memory = _memory(tensor)
        if memory not in self._traced:
            for made in [one for one in self._held if self._is_of(one, memory)]:
                self._stand_in(made)
            self._traced.add(memory)

    def _is_of(self, tensor: Tensor, memory: int) -> bool:
        """True if a tensor lies in some memory, or was made of one that does."""
        made = self._made.get(id(tensor))
        sources = pytree.tree_leaves((made.args, made.kwargs)) if made else []
        return _memory(tensor) == memory or any(
            self._is_of(source, memory) for source in sources if type(source) is Tensor
        )

    def _is_traced(self, arguments: Any) -> bool:
        leaves = pytree.tree_leaves(arguments) if self._traced else []
        return any(type(leaf) is Tensor and _memory(leaf) in self._traced for leaf in leaves)

    def how(self, tensor: Tensor, module: nn.Module) -> Made | None:
        """The call that made a tensor, perhaps of what attributes of the module hold.

        Returns:
            The call; `None` if the tensor is no longer what that made.
        """
        made = self._made.get(id(tensor))
        if made is None or made.version != tensor._version:
            return None
        leaves = pytree.tree_leaves((made.args, made.kwargs))
        tensors = [leaf for leaf in leaves if type(leaf) is Tensor]
        is_short = len(leaves) - len(tensors) <= _LONGEST
        known = (_holds(module, one) or self.how(one, module) for one in tensors)
        return made if is_short and all(known) else None

    def literal(self, tensor: Tensor, module: nn.Module) -> Made | None:
        """The call that makes a tensor of its numbers, if these are few and none was drawn.

        What an attribute of the module holds is no such tensor, but one that is to be a buffer.
        """
        if (
            self._draws.has_drawn
            or math.prod(tensor.shape) > _LONGEST
            or self._comes_of(tensor, module)
        ):
            return None
        self._held.append(tensor)
        with torch._C.DisableTorchFunction():  # this mode among others
            numbers = tensor.tolist()
        inferred = (torch.float32, torch.int64, torch.bool)
        options = {} if tensor.dtype in inferred else {"dtype": tensor.dtype}
        return Made(torch.tensor, (numbers,), options, tensor._version)

    def _comes_of(self, tensor: Tensor, module: nn.Module) -> bool:
        """True if an attribute holds a tensor, or what it was made of."""
        made = self._made.get(id(tensor))
        sources = pytree.tree_leaves((made.args, made.kwargs)) if made else []
        return _holds(module, tensor) or any(
            self._comes_of(source, module) for source in sources if type(source) is Tensor
        )


def _changes(function: Any) -> bool:
    """True if a function changes its first argument in place."""
    name = getattr(function, "__name__", "")
    return name in _CHANGING or (name.endswith("_") and not name.endswith("__"))


_CHANGING = {"__setitem__", "__iadd__", "__isub__", "__imul__", "__itruediv__"}


def _is_attribute(function: Any) -> bool:
    return getattr(function, "__name__", "") == "__get__"


def _are_known(arguments: Any) -> bool:
    """True if there are but tensors and literals among arguments, and no stand-ins."""
    leaves = pytree.tree_leaves(arguments)
    return all(type(leaf) is Tensor or isinstance(leaf, _LITERALS) for leaf in leaves)


def _memory(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def _holds(module: nn.Module, tensor: Tensor) -> bool:
    """True if an attribute of a module holds a tensor."""
    return any(value is tensor for value in vars(module).values())


def _called(function: Any) -> Callable[..., Any] | str | None:
    """How a trace calls a function that torch has called; `None` if it has no name for it."""
    name = getattr(function, "__name__", "")
    if inspect.unwrap(getattr(torch, name, _called)) is function:
        return function  # type: ignore[no-any-return]
    if name.startswith("__"):
        return getattr(operator, name.strip("_"), None)
    return name if getattr(Tensor, name, None) is function else None
