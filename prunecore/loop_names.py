"""The names in a written loop, and arguments in which they stand for lists of what is computed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import fx, nn

from prunecore.arguments import free_name
from prunecore.expressions import self_path
from prunecore.loops import Loop, is_one_of
from prunecore.repetition import Place
from prunecore.source import Name


@dataclass(frozen=True)
class NamedLoop:
    """A loop and the names in it.

    Attributes:
        loop: the loop.
        items: what is gone through, with the variable of its turn, by how it is reached.
        lists: the names of the lists that grow, by the place in the body of what is added.
    """

    loop: Loop
    items: Mapping[str, str]
    lists: Mapping[int, str]

    @property
    def names(self) -> list[str]:
        """All of its names."""
        return [*self.items.values(), *self.lists.values()]

    @property
    def head(self) -> str:
        """The first line, without its colon."""
        parts = [container.part(first, last) for container, first, last in self.loop.containers]
        through = parts[0] if len(parts) == 1 else f"zip({', '.join(parts)})"
        return f"for {', '.join(self.items.values())} in {through}"

    def carried(self, names: Mapping[fx.Node, Sequence[str]]) -> dict[fx.Node, Sequence[str]]:
        """The names of what a turn hands to the next that are those of what it has, too."""
        body = self.loop.turns[0]
        return {
            value: [name for name in names[value] if name in names[body[place]]] or names[value]
            for value, place in self.loop.carried.items()
            if value in names
        }

    def reached(self, module: nn.Module, target: str, place: Place) -> str:
        """How a module of a container is called in the loop."""
        item = self.items[place.container.text]
        child = module.get_submodule(target.removesuffix(place.rest).rstrip("."))
        return item + self_path(child, place.rest).removeprefix("self") if place.rest else item


def name_loops(loops: Iterable[Loop], taken: Iterable[str]) -> list[NamedLoop]:
    """Give loops their names.

    Args:
        loops: the loops of a forward, in order.
        taken: names that are not free.
    """
    names = set(taken)
    named = []
    for loop in loops:
        items: dict[str, str] = {}
        for container, _, _ in loop.containers:
            items[container.text] = free_name(container.item, names | set(items.values()))
        lists: dict[int, str] = {}
        for place in loop.gathered:
            lists[place] = free_name("outputs", names)
            names.add(lists[place])
        named.append(NamedLoop(loop, items, lists))
    return named


def with_lists(node: fx.Node, loops: Sequence[NamedLoop]) -> tuple[Any, Any]:
    """A node's arguments, with the names of lists in the places of what they hold."""
    names: dict[tuple[fx.Node, ...], str] = {}
    growing: dict[int, str] = {}
    for named in loops:
        names |= {nodes: named.lists[place] for nodes, place in named.loop.lists.items()}
        growing |= {key: named.lists[place] for key, place in named.loop.growing.items()}

    def replaced(value: Any) -> Any:
        if id(value) in growing:
            return Name(growing[id(value)])
        if is_one_of(value, names):
            name = names[tuple(value)]
            is_tuple = node.op == "output" and isinstance(value, tuple)
            return Name(f"tuple({name})" if is_tuple else name)
        if isinstance(value, list | tuple) and not hasattr(value, "_fields"):
            return type(value)(map(replaced, value))
        if isinstance(value, dict):
            return {key: replaced(inner) for key, inner in value.items()}
        return value

    return tuple(map(replaced, node.args)), {k: replaced(v) for k, v in node.kwargs.items()}
