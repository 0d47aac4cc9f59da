"""The decorators that put a user's own residual blocks in this family's care."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TypeVar
from weakref import WeakKeyDictionary

from torch import nn

from prunecore import UsageError

Block = TypeVar("Block", bound=type[nn.Module])


@dataclass(frozen=True)
class _Description:
    decorator: str
    block_type: str  # the decorator's lType
    convs: tuple[str, ...]
    downsampling: tuple[str, ...]


_DECORATED: WeakKeyDictionary[type[nn.Module], _Description] = WeakKeyDictionary()


def basic_block(
    *, lType: str = "basic", convs: Sequence[str], downsampling: Sequence[str] = ()
) -> Callable[[Block], Block]:
    """Put a residual block class of two convolutions in this family's care.

    The class itself is not changed.

    Args:
        lType: names the block type.
        convs: the attributes that are its convolutions, in order.
        downsampling: the attributes that make up the shortcut, where it has layers.

    Raises:
        prunecore.UsageError: at the first use, for a name that the class does not have.
    """
    return _decorator("basic_block", lType, convs, downsampling)


def bottleneck(
    *, lType: str = "bottleneck", convs: Sequence[str], downsampling: Sequence[str] = ()
) -> Callable[[Block], Block]:
    """Put a bottleneck block class of three convolutions in this family's care.

    The class itself is not changed.

    Args:
        lType: names the block type.
        convs: the attributes that are its convolutions, in order.
        downsampling: the attributes that make up the shortcut, where it has layers.

    Raises:
        prunecore.UsageError: at the first use, for a name that the class does not have.
    """
    return _decorator("bottleneck", lType, convs, downsampling)


def _decorator(
    name: str, block_type: str, convs: Sequence[str], downsampling: Sequence[str]
) -> Callable[[Block], Block]:
    for argument, names in (("convs", convs), ("downsampling", downsampling)):
        if isinstance(names, str) or not all(isinstance(each, str) for each in names):
            raise UsageError(
                f"@{name}: {argument} is {names!r}, not a list of attribute names.\n"
                f'Write it as {argument}=["conv1", "conv2"].'
            )
    description = _Description(name, block_type, tuple(convs), tuple(downsampling))

    def decorate(block: Block) -> Block:
        if not (isinstance(block, type) and issubclass(block, nn.Module)):
            raise UsageError(
                f"@{name} decorates {block!r}, which is not a torch.nn.Module class.\n"
                "Put it on the block's class."
            )
        _DECORATED[block] = description
        return block

    return decorate


def decorated() -> list[type[nn.Module]]:
    """The classes that were decorated."""
    return list(_DECORATED)


def check_names(block: nn.Module) -> None:
    """Check that a decorated block has what its decorator names.

    Raises:
        UsageError: it does not; lists the children that it has.
    """
    classes = [cls for cls in type(block).__mro__ if cls in _DECORATED]
    if not classes:  # a block of torchvision's with layers of its user's choice
        return
    description = _DECORATED[classes[0]]
    has = {**dict(block.named_children()), **vars(block), **block._modules}
    for name in (*description.convs, *description.downsampling):
        if name not in has:
            children = [key for key, _ in block.named_children()]
            near = get_close_matches(name, children, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise UsageError(
                f"@{description.decorator} on {type(block).__name__} names {name!r}, which the "
                f"class does not have.{hint}\nIts children: {', '.join(children) or 'none'}."
            )
