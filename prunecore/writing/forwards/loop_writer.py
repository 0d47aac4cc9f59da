"""The writer of a forward that repeats, as loops."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

from torch import fx, nn

from prunecore.channels.keep import Keep
from prunecore.functions.rule import FunctionRule
from prunecore.tracing.contexts import under
from prunecore.tracing.nodes import living
from prunecore.writing.containers import Containers, Place
from prunecore.writing.expressions import self_path
from prunecore.writing.forwards.contexts import shared
from prunecore.writing.forwards.forward import Expression, ForwardWriter, holds_width
from prunecore.writing.forwards.loops import Loop, find_loops, is_one_of
from prunecore.writing.forwards.variables import Variables
from prunecore.writing.passes.variants import Variant
from prunecore.writing.statements import AnyStatement, Compound, Statement
from prunecore.writing.text import INDENT, LINE, Call, Name, Value, free_name, one_line


class LoopWriter(ForwardWriter):
    """Writes a forward in which some operations repeat for one child after the other."""

    def __init__(
        self, variant: Variant, keep: Keep, functions: Mapping[Callable[..., Any], FunctionRule]
    ) -> None:
        super().__init__(variant, keep, functions)
        alive = living(self.trace.graph)
        inputs = {str(node.target) for node in alive if node.op == "placeholder"}
        inner = [node for node in alive if node.op not in ("placeholder", "get_attr")]
        self._containers = Containers(self.trace.module, keep.is_left_out)
        found = [] if self.optional else find_loops(inner, self._containers, self._literals)
        loops = name_loops(found, self.reserved | inputs)
        self._loops = {node: named for named in loops for node in named.loop.turns[0]}
        self._later = {node for named in loops for turn in named.loop.turns[1:] for node in turn}
        self._given = {node: with_lists(node, loops) for node in alive} if loops else {}
        self._copies: dict[fx.Node, str] = {}  # of what a loop changes and others read
        self._overwritten: dict[fx.Node, set[str]] = {}  # names that are not for it in its loop
        if loops:
            self._count_uses([node for node in alive if node not in self._later], loops)
            names = {name for named in loops for name in named.names}
            reserved, own = self.reserved | names, dict(variant.names)
            for named in loops:
                own |= named.carried(variant.names)
            self.variables = Variables(self.uses, self.trace.values, own, reserved)

    def _count_uses(self, nodes: list[fx.Node], loops: list[NamedLoop]) -> None:
        """Count the uses by what is written: by the first turn of a loop and by what is outside."""
        self.uses.update(dict.fromkeys(self.uses, 0))
        for node in nodes:
            for source in dict.fromkeys(self.sources(node)):
                self.uses[source] += 1
        for named in loops:
            for begin in named.loop.gathered.values():
                for node in begin:
                    self.uses[node] += 1
        self.keep_device()

    def write_node(self, node: fx.Node) -> None:
        """Write a node; the first of a loop writes the loop."""
        if node not in self._loops:
            if node not in self._later:
                super().write_node(node)
        elif node is self._loops[node].loop.nodes[0]:
            self._write_loop(self._loops[node])

    def _write_loop(self, named: NamedLoop) -> None:
        """Write a loop: its body once, of which some variables are the next turn's, too."""
        loop, body = named.loop, named.loop.turns[0]
        self.enter(shared(loop.nodes))
        depth = self.blocks.depth
        self.flush()
        for place, begin in loop.gathered.items():
            items = [self.written(node) for node in begin]
            self.statements.append(Statement(f"{named.lists[place]} = ", items))
            for node in begin:
                self.uses[node] -= 1
        handed = {place: self._handed(value, body, place) for value, place in loop.carried.items()}
        self._overwritten = self._overwritten_in(loop, handed)
        read = [source for node in body for source in self.sources(node)]
        lasting = [node for node in read if node not in body and node not in loop.carried]
        lasting += [body[place] for place in handed]  # the next turn reads these
        for node in lasting:
            self.uses[node] += 1
        around, self.statements = self.statements, []
        self.indent += INDENT
        for place, node in enumerate(body):
            self._write_in_loop(node, loop.turns[-1][place], handed, named.lists, place)
        self.leave(depth)
        self.flush()
        self.indent -= INDENT
        loop_body, self.statements = self.statements, around
        if (comprehension := self._comprehension(named, loop_body)) is not None:
            self.statements[-1] = comprehension
        else:
            self.statements.append(Compound(named.head, tuple(loop_body)))
        self._copies = {}
        for node in lasting:
            self.uses[node] -= 1

    def _comprehension(self, named: NamedLoop, body: list[AnyStatement]) -> Statement | None:
        """A loop that does nothing but add to an empty list, if it fits on a line."""
        ((place, name),) = named.lists.items() if len(named.lists) == 1 else ((0, ""),)
        (statement,) = body if len(body) == 1 else (None,)
        value = statement.value if isinstance(statement, Statement) else None
        if not isinstance(value, Call) or value.function != f"{name}.append":
            return None
        if named.loop.gathered[place] or (self.is_shared and holds_width(value)):
            return None
        items = f"[{one_line(value.positional[0])} {named.head}]"
        is_short = self.indent + len(f"{name} = {items}") <= LINE
        return Statement(f"{name} = ", Name(items)) if is_short else None

    def _handed(self, value: fx.Node, body: tuple[fx.Node, ...], place: int) -> str:
        """The variable that each turn hands to the next, given what the first one has."""
        users = sum(value in self.sources(node) for node in body)
        if value.op != "get_attr" and self.uses[value] <= users:
            return self.variables.names[value]
        name = self.variables.free("out")
        self.statements.append(Statement(f"{name} = ", self.written(value)))
        self._copies[value] = self.variables.names[body[place]] = name
        return name

    def _overwritten_in(self, loop: Loop, handed: Mapping[int, str]) -> dict[fx.Node, set[str]]:
        """By operation, the variables that a turn hands on before what reads it last."""
        body, last = loop.turns[0], loop.turns[-1]
        return {
            node: {
                name
                for change, name in handed.items()
                if place < change
                and (self.uses[end] or any(node in self.sources(x) for x in body[change + 1 :]))
            }
            for place, (node, end) in enumerate(zip(body, last, strict=True))
        }

    def _write_in_loop(
        self,
        node: fx.Node,
        last: fx.Node,
        handed: Mapping[int, str],
        lists: Mapping[int, str],
        place: int,
    ) -> None:
        """Write an operation of a loop's body; `last` is that of the last turn."""
        if place not in handed and place not in lists and not self.uses[last]:
            super().write_node(node)
            return
        self.enter(under(node))
        expression = self.build(node)
        value = expression.value
        self.flush(expression)
        if place in handed:
            self.statements.append(Statement(f"{handed[place]} = ", value))
            self.variables.names[node] = handed[place]
        elif self.uses[node] or self.uses[last]:
            self.assign(expression)
        if node in self.variables.names:
            value = self.written(node)
            self.variables.names[last] = self.variables.names[node]
        if place in lists:
            self.statements.append(Statement("", Call(f"{lists[place]}.append", (value,))))

    def assign(self, expression: Expression, needed: Set[str] = frozenset()) -> None:
        """Give a variable what is computed; in a loop none that changes before it is read."""
        super().assign(expression, needed | self._overwritten.get(expression.node, set()))

    def parts_of(self, node: fx.Node) -> list[list[fx.Node]]:
        """What takes a result apart at once, by place; nothing if a loop does."""
        parts = super().parts_of(node)
        return [] if self._in_loop([node], parts) else parts

    def nested_parts(self, items: Sequence[fx.Node], value: Any) -> list[list[fx.Node]]:
        """What takes an item of a result apart at once, too; nothing if a loop does."""
        parts = super().nested_parts(items, value)
        return [] if self._in_loop(items, parts) else parts

    def _in_loop(self, nodes: Sequence[fx.Node], parts: Sequence[Sequence[fx.Node]]) -> bool:
        """True if a loop has one of these nodes, or of those that take items of them."""
        known = {*nodes, *(item for items in parts for item in items)}
        return bool(known & (self._loops.keys() | self._later))

    def arguments(self, node: fx.Node) -> tuple[Any, Any]:
        """The arguments and keywords of a node, lists that a loop makes by their names."""
        return self._given.get(node) or super().arguments(node)

    def written(self, node: fx.Node) -> Value:
        """What has been computed; in a loop, what the turn before has left of it."""
        return Name(self._copies[node]) if node in self._copies else super().written(node)

    def path(self, node: fx.Node) -> str:
        """How the module that a node calls is reached; in a loop, that of the turn."""
        module, target = self.trace.module, str(node.target)
        named = self._loops.get(node)
        for place in self._containers.places_of(target) if named else ():
            if named is not None and place.container.text in named.items:
                return named.reached(module, target, place)
        return super().path(node)

    def _literals(self, node: fx.Node) -> str:
        """The literals of a call that are written otherwise than they are in the original."""

        def blank(_node: fx.Node) -> Any:
            return Name("_")

        args = tuple(fx.node.map_arg(node.args, blank))
        kwargs = dict(fx.node.map_arg(node.kwargs, blank))
        rewritten = self.rewritten(node, args, dict(kwargs))
        return "" if rewritten == (args, kwargs) else repr(rewritten)


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
        return self_path(child, place.rest, item) if place.rest else item


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
