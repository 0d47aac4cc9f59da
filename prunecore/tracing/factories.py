"""Factory calls of a traced forward, which make tensors of no input: `torch.linspace(0, 1, 8)`."""

from __future__ import annotations

import inspect
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


LONGEST = 64  # literals in a call; more of them belong in a buffer


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
    """

    def __init__(self, draws: OwnDraws, move: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self._draws = draws
        self._move = move
        self._made: dict[int, Made] = {}
        self._held: list[Tensor] = []  # so that no other tensor has the identity of one of them

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Call a function, and note what it was called with."""
        kwargs = kwargs or {}
        if func is Tensor.cuda:
            return self._move(args[0])
        result = func(*args, **kwargs)
        called = _called(func)
        if type(result) is Tensor and called and not any(result is given for given in args):
            leaves = pytree.tree_leaves((args, kwargs))
            if all(type(leaf) is Tensor or isinstance(leaf, _LITERALS) for leaf in leaves):
                self._made[id(result)] = Made(called, args, kwargs, result._version)
                self._held.append(result)
        return result

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
        is_short = len(leaves) - len(tensors) <= LONGEST
        known = (_holds(module, one) or self.how(one, module) for one in tensors)
        return made if is_short and all(known) else None

    def literal(self, tensor: Tensor, module: nn.Module) -> Made | None:
        """The call that makes a tensor of its numbers, if these are few and none was drawn.

        What an attribute of the module holds is no such tensor, but one that is to be a buffer.
        """
        if self._draws.has_drawn or tensor.numel() > LONGEST or self._comes_of(tensor, module):
            return None
        self._held.append(tensor)
        inferred = (torch.float32, torch.int64, torch.bool)
        options = {} if tensor.dtype in inferred else {"dtype": tensor.dtype}
        return Made(torch.tensor, (tensor.tolist(),), options, tensor._version)

    def _comes_of(self, tensor: Tensor, module: nn.Module) -> bool:
        """True if an attribute holds a tensor, or what it was made of."""
        made = self._made.get(id(tensor))
        sources = pytree.tree_leaves((made.args, made.kwargs)) if made else []
        return _holds(module, tensor) or any(
            self._comes_of(source, module) for source in sources if type(source) is Tensor
        )


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
