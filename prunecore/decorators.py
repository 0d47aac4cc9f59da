"""Decorators for a user's own classes: a family's care for blocks, and protection of layers."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Protocol, TypeVar
from weakref import WeakKeyDictionary

from torch import nn

from prunecore.errors import UsageError

Class = TypeVar("Class", bound=type[nn.Module])


@dataclass(frozen=True)
class Description:
    """A block class as its decorator describes it.

    Attributes:
        decorator: the decorator's name.
        block_type: its `lType`.
        convs: the attributes that are the block's convolutions, in order.
        downsampling: the attributes that make up the shortcut.
    """

    decorator: str
    block_type: str
    convs: tuple[str, ...]
    downsampling: tuple[str, ...]


class BlockDecorator(Protocol):
    """A decorator that puts a user's own block classes in a family's care."""

    def __call__(
        self, *, lType: str = ..., convs: Sequence[str], downsampling: Sequence[str] = ()
    ) -> Callable[[Class], Class]:
        """Put a block class in this family's care.

        The class itself is not changed.

        Args:
            lType: names the block type.
            convs: the attributes that are its convolutions, in order.
            downsampling: the attributes that make up the shortcut, where it has layers.

        Raises:
            prunecore.UsageError: at once, if these are not lists of names, or what is decorated is
                no module class; at the first use, for a name that the class does not have.
        """


class DecoratedBlocks:
    """The user's own block classes that the decorators of one family marked.

    The classes themselves are not changed.

    Example:
        ```python
        BLOCKS = DecoratedBlocks()
        fire = BLOCKS.decorator("fire", "a block class that squeezes, expands and concatenates")
        ```
    """

    def __init__(self) -> None:
        self._descriptions: WeakKeyDictionary[type[nn.Module], Description] = WeakKeyDictionary()

    def __iter__(self) -> Iterator[type[nn.Module]]:
        return iter(list(self._descriptions))

    def decorator(self, name: str, block: str, block_type: str | None = None) -> BlockDecorator:
        """A decorator that puts classes in the family's care, to be called with its arguments.

        Args:
            name: the decorator's.
            block: what it is for, `"a block class that squeezes, expands and concatenates"`.
            block_type: its usual `lType`; without one, its name.
        """

        def described(
            *,
            lType: str = block_type or name,
            convs: Sequence[str],
            downsampling: Sequence[str] = (),
        ) -> Callable[[Class], Class]:
            names = [_names(name, "convs", convs), _names(name, "downsampling", downsampling)]
            description = Description(name, lType, *names)

            def decorate(cls: Class) -> Class:
                self._descriptions[_module_class(name, cls)] = description
                return cls

            return decorate

        described.__name__ = described.__qualname__ = name
        usual = inspect.getdoc(BlockDecorator.__call__) or ""
        described.__doc__ = usual.replace("a block class", block, 1)
        return described

    def description(self, block: nn.Module) -> Description | None:
        """The description of a block's class, or of the nearest decorated class it derives from.

        Returns:
            `None` where no decorator of the family has marked any of them.

        Raises:
            UsageError: it names what the block does not have; lists the children that it has.
        """
        for cls in type(block).__mro__:
            description = self._descriptions.get(cls)
            if description is not None:
                has = {**vars(block), **block._modules}
                for name in (*description.convs, *description.downsampling):
                    if name not in has:
                        raise _no_such_child(description.decorator, block, name)
                return description
        return None


_SKIPPED: WeakKeyDictionary[type[nn.Module], tuple[str, ...]] = WeakKeyDictionary()


def skip(*, layers: Sequence[str]) -> Callable[[Class], Class]:
    """Protect layers of a class: each returns as many channels as in the original.

    The class itself is not changed. What a protected layer reads may still be cut where another
    layer makes it.

    Args:
        layers: attributes of the class, `conv1`, or paths from it, `layer1.0.conv2`. Of one that
            holds others, all are protected.

    Raises:
        UsageError: at the first use, for a name that the class does not have.

    Example:
        ```python
        @skip(layers=["stem"])
        class Net(nn.Module): ...
        ```
    """
    names = _names("skip", "layers", layers)

    def decorate(cls: Class) -> Class:
        _SKIPPED[_module_class("skip", cls)] = names
        return cls

    return decorate


def protected_layers(model: nn.Module) -> list[nn.Module]:
    """The modules of a network that `skip` protects.

    Raises:
        UsageError: `skip` names what a class does not have; lists the children that it has.
    """
    protected = []
    for module in model.modules() if _SKIPPED else ():
        for cls in type(module).__mro__:
            for name in _SKIPPED.get(cls, ()):
                try:
                    protected.append(module.get_submodule(name))
                except AttributeError as error:
                    raise _no_such_child("skip", module, name) from error
    return protected


def _names(decorator: str, argument: str, names: Sequence[str]) -> tuple[str, ...]:
    is_list = isinstance(names, list | tuple | set | frozenset)
    if not is_list or not all(name and isinstance(name, str) for name in names):
        raise UsageError(
            f"@{decorator}: {argument} is {names!r}, not a list of attribute names.\n"
            f'Write it as {argument}=["conv1", "conv2"].'
        )
    return tuple(names)


def _module_class(decorator: str, cls: type[nn.Module]) -> type[nn.Module]:
    if not (isinstance(cls, type) and issubclass(cls, nn.Module)):
        raise UsageError(
            f"@{decorator} decorates {cls!r}, which is not a torch.nn.Module class.\n"
            "Put it on the class."
        )
    return cls


def _no_such_child(decorator: str, module: nn.Module, name: str) -> UsageError:
    children = [key for key, _ in module.named_children()]
    near = get_close_matches(name, children, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return UsageError(
        f"@{decorator} on {type(module).__name__} names {name!r}, which the class does not have."
        f"{hint}\nIts children: {', '.join(children) or 'none'}."
    )
