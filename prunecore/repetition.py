"""Containers of modules that a forward goes through, and where in one a module lies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from prunecore.expressions import self_path, singular

_KINDS = (nn.ModuleList, nn.Sequential, nn.ModuleDict)


@dataclass(frozen=True)
class Container:
    """A list or dictionary of modules, as the forward of a module that holds it reaches it.

    Attributes:
        text: how it is reached, `self.layers`.
        size: how many modules it has in the written network.
        is_list: whether a part of it can be taken.
        is_dict: whether it gives keys, not modules, when it is gone through.
        item: what one of its modules is called.
    """

    text: str
    size: int
    is_list: bool
    is_dict: bool
    item: str

    def can_be_cut(self, first: int, last: int) -> bool:
        """Whether these places can be gone through: all of them, or three and more of some."""
        can_be_cut = self.is_list or self.is_dict
        return (first, last) == (0, self.size - 1) or (can_be_cut and last - first >= 2)

    def part(self, first: int, last: int) -> str:
        """How the modules between two places are gone through."""
        start = str(first) if first else ""
        stop = str(last + 1) if last + 1 < self.size else ""
        whole = f"{self.text}.values()" if self.is_dict else self.text
        if not start and not stop:
            return whole
        return f"{f'list({whole})' if self.is_dict else whole}[{start}:{stop}]"


@dataclass(frozen=True)
class Place:
    """Where a module lies in a container.

    Attributes:
        container: the container.
        index: its number there.
        rest: the path from there to the module that is called, if that is not itself.
    """

    container: Container
    index: int
    rest: str


def places_of(
    module: nn.Module, target: str, is_left_out: Callable[[nn.Module], bool]
) -> list[Place]:
    """The places of a module in the containers that it lies in, the outermost first.

    Args:
        module: whose forward calls it.
        target: its path from there.
        is_left_out: whether the written network does without a module.
    """
    parts = target.split(".")
    places = []
    holder = module
    for depth, part in enumerate(parts):
        kind = next((kind for kind in _KINDS if isinstance(holder, kind)), None)
        if kind is not None and _gives_all(type(holder), kind):
            keys = [
                key
                for key, child in holder._modules.items()
                if child is not None and not is_left_out(child)
            ]
            is_numbered = all(map(str.isdecimal, holder._modules)) and kind is not nn.ModuleDict
            path, rest = ".".join(parts[:depth]), ".".join(parts[depth + 1 :])
            container = Container(
                self_path(module, path) if path else "self",
                max(map(int, keys), default=-1) + 1 if is_numbered else len(keys),
                type(holder) in (nn.ModuleList, nn.Sequential),
                kind is nn.ModuleDict,
                singular(parts[depth - 1] if depth else ""),
            )
            places.append(Place(container, int(part) if is_numbered else keys.index(part), rest))
        holder = getattr(holder, part)
    return places


def _gives_all(cls: type, kind: type) -> bool:
    """Whether a container's class is gone through as torch's own."""
    return next(base for base in cls.__mro__ if "__iter__" in vars(base)) is kind
