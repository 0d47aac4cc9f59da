"""Containers of modules: their constructors, and where a module lies in one."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from torch import nn

from prunecore.channels.names import is_called
from prunecore.escaping import is_name, is_number
from prunecore.writing.expressions import self_path, singular
from prunecore.writing.text import Call, Value

# torch's containers of modules, as they are written.
CONTAINERS: Mapping[type[nn.Module], str] = {
    kind: f"nn.{kind.__name__}" for kind in (nn.ModuleDict, nn.ModuleList, nn.Sequential)
}


def container_of(module: nn.Module) -> str | None:
    """The container of torch's that a module is, `nn.ModuleList`; `None` for any other module.

    A list that is called, and has children in attributes, is another one.
    """
    is_list = isinstance(module, nn.ModuleList)
    if is_list and is_called(module) and not all(map(is_number, module._modules)):
        return None
    return next((name for kind, name in CONTAINERS.items() if isinstance(module, kind)), None)


def in_places(base: str, children: Mapping[str, Value]) -> dict[str, Value]:
    """The children of a container; in a list, something stands in the place of one left out."""
    if base == "nn.ModuleDict" or not all(map(is_number, children)):
        return dict(children)
    last = max(map(int, children), default=-1)
    numbers = map(str, range(last + 1))
    return {number: children.get(number, Call("nn.Identity")) for number in numbers}


def is_named_list(base: str, children: Mapping[str, Value]) -> bool:
    """True if a list holds its children by names, which torch's constructor does not take."""
    return base == "nn.ModuleList" and not all(map(is_number, children))


def initialise(base: str, children: Mapping[str, Value]) -> Call:
    """The call of a container's constructor with these children.

    Args:
        base: the container.
        children: by key.
    """
    values = tuple(children.values())
    if base == "nn.ModuleDict":
        given: tuple[Value, ...] = (dict(children),)
    elif base == "nn.ModuleList":
        given = (list(values),)
    elif list(children) == [str(number) for number in range(len(children))]:
        given = values
    elif all(map(is_name, children)):
        given = (Call("OrderedDict", keywords=children),)
    else:
        given = (Call("OrderedDict", (dict(children),)),)
    return Call("super().__init__", given)


def numbered(base: str, keys: Sequence[Sequence[str]]) -> str | None:
    """What a container's constructor is given, with `{}` for the argument that holds its layers.

    Args:
        base: the container.
        keys: of each instance's children.

    Returns:
        The expression; `None` if the keys are neither those of a list nor a word and a number.
    """
    first = next((own[0] for own in keys if own), "")
    match = re.fullmatch(r"([A-Za-z_]*)([0-9]+)", first)  # letters that an f-string may hold
    if match is None or not is_number(match[2]):
        return None
    prefix, start = match[1], int(match[2])
    for own in keys:
        if list(own) != [f"{prefix}{number}" for number in range(start, start + len(own))]:
            return None
    if base == "nn.ModuleDict":
        key = f'f"{prefix}{{{{number}}}}"' if prefix else "str(number)"
        begin = f", {start}" if start else ""
        return f"{{{{{key}: layer for number, layer in enumerate({{}}{begin})}}}}"
    if prefix or start:
        return None
    return "*{}" if base == "nn.Sequential" else "{}"


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
        """True if these places can be gone through: all of them, or three and more of some."""
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


class Containers:
    """The containers that the forward of a module reaches; each is looked at once.

    Args:
        module: whose forward it is.
        is_left_out: whether the written network does without a module.
    """

    def __init__(self, module: nn.Module, is_left_out: Callable[[nn.Module], bool]) -> None:
        self._module = module
        self._is_left_out = is_left_out
        self._found: dict[str, tuple[Container, Mapping[str, int]] | None] = {}

    def places_of(self, target: str) -> list[Place]:
        """The places of a module in the containers that it lies in, the outermost first.

        Args:
            target: its path.
        """
        parts = target.split(".")
        places = []
        holder = self._module
        for depth, part in enumerate(parts):
            path = ".".join(parts[:depth])
            if path not in self._found:
                self._found[path] = self._container(holder, path)
            if (found := self._found[path]) is not None:
                container, numbers = found
                places.append(Place(container, numbers[part], ".".join(parts[depth + 1 :])))
            holder = getattr(holder, part)
        return places

    def _container(
        self, holder: nn.Module, path: str
    ) -> tuple[Container, Mapping[str, int]] | None:
        """What a module is as a container, and the number of each key; `None` if it is none."""
        kind = next((kind for kind in CONTAINERS if isinstance(holder, kind)), None)
        if kind is None or not _gives_all(type(holder), kind):
            return None
        keys = [
            key
            for key, child in holder._modules.items()
            if child is not None and not self._is_left_out(child)
        ]
        is_numbered = all(map(is_number, holder._modules)) and kind is not nn.ModuleDict
        if is_numbered:
            numbers = {key: int(key) for key in holder._modules}
        else:
            numbers = {key: place for place, key in enumerate(keys)}
        container = Container(
            self_path(self._module, path) if path else "self",
            max((numbers[key] for key in keys), default=-1) + 1,
            # the class that is written here, or for a list of names, has another constructor
            path != ""
            and type(holder) in (nn.ModuleList, nn.Sequential)
            and (is_numbered or kind is nn.Sequential),
            kind is nn.ModuleDict,
            singular(path.rpartition(".")[2]),
        )
        return container, numbers


def _gives_all(cls: type, kind: type) -> bool:
    """True if a container's class is gone through as torch's own."""
    return next(base for base in cls.__mro__ if "__iter__" in vars(base)) is kind
