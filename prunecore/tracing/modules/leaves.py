"""What modules return that are not traced: run without storage, or on numbers if they need some."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from prunecore.inputs import BATCH
from prunecore.isolation.copies import Isolation
from prunecore.isolation.random_states import OwnDraws
from prunecore.isolation.state import ThreadMode


class Macs(ThreadMode):  # type: ignore[no-untyped-call]
    """Counts the multiply-accumulates of what runs while it is active.

    Attributes:
        count: how many these are, of the whole batch.
    """

    def __init__(self) -> None:
        from torch.utils.flop_counter import flop_registry  # which takes half a second

        super().__init__()
        self.count = 0
        self._flops = flop_registry

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run an operation, and count it if it multiplies matrices or convolves."""
        result = func(*args, **(kwargs or {}))
        flops = self._flops.get(func._overloadpacket)
        if flops is not None:
            self.count += flops(*args, **(kwargs or {}), out_val=result) // 2
        return result


def returned_by(
    function: Callable[..., Any], on_numbers: Callable[..., Any], *args: Any, **kwargs: Any
) -> tuple[Any, int]:
    """What is returned without storage; on random numbers where that cannot be.

    Args:
        function: called with tensors without storage.
        on_numbers: called with random numbers, where the other raises an error.
        args: tensors without storage.
        kwargs: likewise, by name.

    Returns:
        What is returned, its tensors without storage; and the multiply-accumulates of the batch.

    Raises:
        Exception: whatever is raised on random numbers.
    """
    with torch.no_grad():
        try:
            with Macs() as macs:
                returned = function(*args, **kwargs)
        except Exception:  # it asks for numbers, or does what needs some
            with Macs() as macs:
                returned = on_numbers(*args, **kwargs)
    return pytree.tree_map_only(Tensor, lambda tensor: tensor.to("meta"), returned), macs.count


def always_returned_by(module: nn.Module, in_training: bool, *args: Any, **kwargs: Any) -> Any:
    """What a module that needs numbers returns, whichever these are.

    Args:
        module: the module; a copy of it is called.
        in_training: the mode that it is called in.
        args: what it is called with, tensors without storage.
        kwargs: likewise, by name.

    Raises:
        ValueError: the number of tensors, or their shapes, depend on numbers or on the batch.
        Exception: whatever its forward raises on random numbers.
    """
    given = args, kwargs
    more = pytree.tree_map_only(Tensor, _of_larger_batch, given)
    with torch.no_grad():
        returned, other, larger = (
            run_with_numbers(module, in_training, *each[0], numbers=numbers, **each[1])
            for each, numbers in ((given, torch.rand), (given, torch.zeros), (more, torch.rand))
        )
    leaves, structure = pytree.tree_flatten(returned)
    others, other_structure = pytree.tree_flatten(other)
    are_alike = structure == other_structure == pytree.tree_structure(larger)
    if not are_alike or list(map(_shape, leaves)) != list(map(_shape, others)):
        raise ValueError("what it returns depends on numbers")
    return pytree.tree_map_only(Tensor, lambda tensor: tensor.to("meta"), returned)


def with_numbers(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """What a function returns when it is called with random numbers.

    Args:
        function: the function.
        args: what it is called with, tensors without storage.
        kwargs: likewise, by name.
    """
    return _called(function, (args, kwargs), torch.rand, torch.empty(0))


def run_with_numbers(
    module: nn.Module,
    in_training: bool,
    *args: Any,
    numbers: Callable[..., Tensor] = torch.rand,
    **kwargs: Any,
) -> Any:
    """What a module returns when it is called with numbers of its type and on its device.

    Args:
        module: the module; a copy of it is called.
        in_training: the mode that it is called in.
        args: what it is called with, tensors without storage.
        numbers: makes a tensor of numbers in the place of one without storage.
        kwargs: likewise, by name.
    """
    like = next((p for p in module.parameters() if p.is_floating_point()), torch.empty(0))
    stored = [*module.parameters(), *module.buffers()]
    if like.is_meta:  # only its structure is there
        like = torch.empty(0, dtype=like.dtype)
    made = {id(tensor): _filled(tensor, torch.rand, like) for tensor in stored if tensor.is_meta}
    run = Isolation(module, own_buffers=True, stored=made).of(module)
    for one in run.modules():
        one.training = in_training
    return _called(run, (args, kwargs), numbers, like)


def _called(
    function: Callable[..., Any], given: Any, numbers: Callable[..., Tensor], like: Tensor
) -> Any:
    def filled(tensor: Tensor) -> Tensor:
        return _filled(tensor, numbers, like)

    args, kwargs = pytree.tree_map_only(Tensor, filled, given)
    with OwnDraws():
        return function(*args, **kwargs)


def _filled(tensor: Tensor, numbers: Callable[..., Tensor], like: Tensor) -> Tensor:
    """A tensor of numbers, of a type and on a device, in the place of one without."""
    if tensor.is_floating_point():
        return numbers(tensor.shape, dtype=like.dtype, device=like.device)
    return torch.zeros(tensor.shape, dtype=tensor.dtype, device=like.device)


def _of_larger_batch(tensor: Tensor) -> Tensor:
    is_batch = tensor.ndim > 0 and tensor.shape[0] == BATCH
    return tensor.new_empty((BATCH + 1, *tensor.shape[1:])) if is_batch else tensor


def _shape(leaf: Any) -> Any:
    return leaf.shape if isinstance(leaf, Tensor) else leaf
