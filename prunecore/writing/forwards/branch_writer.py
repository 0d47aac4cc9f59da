"""The writer of a forward that goes several ways, under an `if`, and the choice of a writer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from torch import fx

from prunecore.channels.keep import Keep
from prunecore.escaping import is_name
from prunecore.functions.rule import FunctionRule
from prunecore.functions.table import SIGNS
from prunecore.tracing.conditions import (
    Condition,
    Side,
    choose,
    chosen,
    chosen_by,
    decide,
    deciding_on,
    only_in,
)
from prunecore.tracing.nodes import living
from prunecore.writing.containers import CONTAINERS
from prunecore.writing.expressions import literal
from prunecore.writing.forwards.contexts import shared
from prunecore.writing.forwards.forward import Expression, Forward, ForwardWriter
from prunecore.writing.forwards.likeness import likeness
from prunecore.writing.forwards.loop_writer import LoopWriter
from prunecore.writing.passes.variants import Variant
from prunecore.writing.statements import AnyStatement, Compound, Statement
from prunecore.writing.text import INDENT, LINE, Name, Value, one_line


def write_forward(
    variant: Variant,
    keep: Keep,
    functions: Mapping[Callable[..., Any], FunctionRule],
    known: dict[Hashable, Forward],
) -> Forward:
    """Write a module's traced forward.

    Operations keep their order. What is used once is nested into its user, until the nesting
    grows deep or a layer that mixes channels begins.

    Args:
        variant: the forward, followed, and the children that other instances lack.
        keep: gives literals that count channels their kept values.
        functions: the rules, for rewriting literals.
        known: the forwards that were written before and may be those of others; it is added to.
    """
    nodes = variant.trace.graph.nodes
    if any(only_in(node) or node.target is choose for node in nodes):
        return BranchWriter(variant, keep, functions).write()
    reaches_in = any(node.op == "call_module" and "." in str(node.target) for node in nodes)
    if reaches_in or isinstance(variant.trace.module, tuple(CONTAINERS)):
        return LoopWriter(variant, keep, functions).write()
    key = likeness(variant, keep, functions)
    forward = known.get(key) or ForwardWriter(variant, keep, functions).write()
    if key is not None:
        known[key] = forward
    return forward


@dataclass(frozen=True)
class Branch:
    """What two ways of a forward do by themselves, one after the other.

    Attributes:
        condition: what decides between them.
        sides: what is done where it holds, and where not.
        choices: what stands for one thing on one side and for another on the other.
    """

    condition: Condition
    sides: tuple[Sequence[fx.Node | Branch], Sequence[fx.Node | Branch]]
    choices: Sequence[fx.Node]

    @property
    def nodes(self) -> list[fx.Node]:
        """All that it does."""
        own = [node for side in self.sides for node in _flat(side)]
        return [*own, *self.choices]


@dataclass(frozen=True)
class Conditional(Name):
    """A value that a condition chooses.

    Attributes:
        condition: what decides.
        if_so: the value where it holds.
        if_not: that where it does not.
    """

    condition: str = ""
    if_so: str = ""
    if_not: str = ""

    @classmethod
    def of(cls, condition: str, if_so: str, if_not: str) -> Conditional:
        """It, as it is written."""
        text = f"{if_so} if {condition} else {if_not}"
        return cls(text, -1, condition, if_so, if_not)


class BranchWriter(LoopWriter):
    """Writes ways of a forward that were merged: what one alone does stands under an `if`."""

    def __init__(
        self, variant: Variant, keep: Keep, functions: Mapping[Callable[..., Any], FunctionRule]
    ) -> None:
        super().__init__(variant, keep, functions)
        nodes = living(self.trace.graph)
        self._parts = _parted(list(nodes), 0)
        inputs = {str(node.target): node for node in nodes if node.op == "placeholder"}
        # arguments that later branches ask for keep their names until the last of these
        self._asked: dict[fx.Node, fx.Node] = {}
        for node in nodes:
            for condition in deciding_on(node):
                if condition.argument:
                    self._asked[inputs[condition.argument]] = node
        for argument in self._asked:
            self.uses[argument] += 1
        self._branches = Counter(branch.condition for branch in _branches_in(self._parts))
        self._texts: dict[Condition, tuple[str, str]] = {}  # of what holds, and what does not
        self._held: dict[Condition, fx.Node] = {}  # what asks for sizes and has a variable

    def write(self) -> Forward:
        """Write it."""
        self._write_all(self._parts)
        return self.forward()

    def _write_all(self, parts: Sequence[fx.Node | Branch]) -> None:
        for place, part in enumerate(parts):
            if isinstance(part, Branch):
                self._branch(part)
            elif part.target is decide:
                self._ask(part, parts[place + 1 :])
            else:
                self.write_node(part)

    def _ask(self, node: fx.Node, after: Sequence[fx.Node | Branch]) -> None:
        """Ask for sizes: behind the `if`, where it is the only one and comes at once."""
        condition = Condition(sizes=str(node.args[1]))
        expression = self.build(node)
        text = one_line(expression.value)
        follows = [part for part in after if isinstance(part, Branch) or part.op != "get_attr"]
        first = follows[0] if follows else None  # its branches may stand under a later `if`
        is_next = isinstance(first, Branch) and first.condition == condition
        if is_next and self._branches[condition] == 1:
            self._texts[condition] = text, _opposite(node, text)
            return
        self.flush(expression)
        self.uses[node] = self._branches[condition]
        self._held[condition] = node
        name = self.variables.names[node] = self.variables.free("condition")
        self.statements.append(Statement(f"{name} = ", expression.value))
        self._texts[condition] = name, f"not {name}"

    def value(self, node: fx.Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Value:
        """What a node is, given its arguments as they are written."""
        if node.target is decide:
            return Name(f" {node.args[-1]} ".join(one_line(literal(one)) for one in args[0]), -1)
        return super().value(node, args, kwargs)

    def _branch(self, branch: Branch) -> None:
        """Write what each side of a condition does alone, and the choices between the two."""
        nodes = branch.nodes
        if own := nodes[: len(nodes) - len(branch.choices)]:
            self.enter(shared(own))
        self.flush()
        before = self.statements
        self.indent += INDENT
        asked = self._released(branch.condition, nodes)
        written = [self._side(side, len(branch.choices)) for side in branch.sides]
        for choice in branch.choices:
            self._name(choice, branch.choices, asked)
        bodies = []
        for holds, (self.statements, self.pending) in zip((True, False), written, strict=True):
            for choice in branch.choices:
                self._choose(choice, holds)
            self.flush()
            bodies.append(self.statements)
        self.indent -= INDENT
        for choice in branch.choices:
            for source in choice.all_input_nodes:
                self.uses[source] -= 1
        if_so, if_not = bodies
        text = self._text(branch.condition)
        self.statements = [*before, *_conditional(text, if_so, if_not, self.indent)]

    def _text(self, condition: Condition) -> tuple[str, str]:
        """A condition, and that it does not hold, as they stand behind an `if`."""
        if not condition.sizes:
            return condition.text(True), condition.text(False)
        if condition in self._held:
            self.uses[self._held[condition]] -= 1
        return self._texts[condition]

    def _released(self, condition: Condition, nodes: Sequence[fx.Node]) -> fx.Node | None:
        """The argument of a condition that is not asked for after these nodes."""
        for argument, last in self._asked.items():
            if argument.target == condition.argument and last in nodes:
                self.uses[argument] -= 1
                return argument
        return None

    def _side(
        self, parts: Sequence[fx.Node | Branch], choices: int
    ) -> tuple[list[AnyStatement], list[Expression]]:
        """The statements of one side alone, and what waits to be what is chosen."""
        self.statements, self.pending = [], []
        blocks = self.blocks.depth
        self._write_all(parts)
        self.leave(blocks)
        if choices != 1:
            self.flush()
        return self.statements, self.pending

    def _name(self, choice: fx.Node, choices: Sequence[fx.Node], asked: fx.Node | None) -> None:
        """Name the variable that holds what is chosen: one that ends here, else a new one.

        One that another choice reads is not taken: which of the two comes first does not matter.

        Args:
            choice: what is chosen.
            choices: all of the same branch.
            asked: the argument that is not asked for any more.
        """
        names = self.variables.names
        sources = choice.all_input_nodes
        others = [other for other in choices if other is not choice]
        read = {source for other in others for source in other.all_input_nodes}
        read |= {source for source in names if self.uses[source] > (source in sources)}
        taken = {names[source] for source in read if source in names}
        taken |= {names[other] for other in others if other in names}
        may_be_none = None in choice.args  # as the argument was
        may_end = [*reversed(sources), *([asked] if asked and may_be_none else [])]
        ending = [
            names[source]
            for source in may_end
            if only_in(source) == only_in(choice) and source in names and names[source] not in taken
        ]
        names[choice] = ending[0] if ending else self.variables.fresh(_computed(sources[0]))

    def _choose(self, choice: fx.Node, holds: bool) -> None:
        """Assign what one side of a condition chooses."""
        condition, target = chosen_by(choice), self.variables.names[choice]
        source = chosen(choice, {condition: holds})
        if source is not None and self.pending and self.pending[-1].node is source:
            expression = self.pending.pop()
            self.flush(expression)
            value = expression.value
        else:
            self.flush()
            value = Name("None") if source is None else self.written(source)
        is_none = source is None and not holds and target == condition.argument
        last = self.statements[-1] if self.statements else None
        if (
            isinstance(last, Statement)
            and isinstance(source, fx.Node)
            and source.target is choose
            and self.uses[source] == 1
            and last.target == f"{one_line(value)} = "
        ):
            self.statements[-1] = Statement(f"{target} = ", last.value)
        elif one_line(value) != target and not is_none:
            self.statements.append(Statement(f"{target} = ", value))


def _branched(node: fx.Node, depth: int) -> Condition | None:
    """The condition of the branch that begins with a node which lies in this many; if one does."""
    if len(only_in(node)) > depth:
        return only_in(node)[depth][0]
    return chosen_by(node) if node.target is choose else None


def _parted(nodes: list[fx.Node], depth: int) -> list[fx.Node | Branch]:
    """Nodes that lie within this many branches, those of further ones taken together.

    Args:
        nodes: the nodes, in order; the list is emptied.
        depth: how many branches they lie within.
    """
    parts: list[fx.Node | Branch] = []
    while nodes:
        condition = _branched(nodes[0], depth)
        if condition is None:
            parts.append(nodes.pop(0))
            continue
        of_sides = [_of_side(nodes, (condition, holds), depth) for holds in (True, False)]
        sides = _parted(of_sides[0], depth + 1), _parted(of_sides[1], depth + 1)
        parts.append(Branch(condition, sides, _choices(nodes, condition, depth)))
    return parts


def _flat(parts: Sequence[fx.Node | Branch]) -> Iterator[fx.Node]:
    for part in parts:
        yield from part.nodes if isinstance(part, Branch) else [part]


def _branches_in(parts: Sequence[fx.Node | Branch]) -> Iterator[Branch]:
    for part in parts:
        if isinstance(part, Branch):
            yield part
            for side in part.sides:
                yield from _branches_in(side)


def _opposite(node: fx.Node, text: str) -> str:
    """That what a branch asks for does not hold.

    Args:
        node: stands where it asks.
        text: what it asks for, as it is written.
    """
    conditions: Any = node.args[0]
    word, other = (" and ", " or ") if node.args[-1] == "and" else (" or ", " and ")
    texts = text.split(word) if len(conditions) > 1 else [text]
    return other.join(map(_negated, conditions, texts))


def _negated(condition: fx.Node, text: str) -> str:
    sign = SIGNS.get(cast(Any, condition.target))
    if is_name(text):
        return f"not {text}"
    if sign is None or sign.opposite is None:
        return f"not ({text})"
    return text.replace(f" {sign.text} ", f" {SIGNS[sign.opposite].text} ", 1)


def _of_side(nodes: list[fx.Node], side: Side, depth: int) -> list[fx.Node]:
    """Take what one side of a condition does alone off a list."""
    return _taken(nodes, lambda node: only_in(node)[depth : depth + 1] == (side,))


def _choices(nodes: list[fx.Node], condition: Condition, depth: int) -> list[fx.Node]:
    """Take the choices between the two sides off a list."""
    return _taken(
        nodes,
        lambda node: (
            node.target is choose and chosen_by(node) == condition and len(only_in(node)) == depth
        ),
    )


def _taken(nodes: list[fx.Node], holds: Callable[[fx.Node], bool]) -> list[fx.Node]:
    """Take the first nodes off a list, as long as something holds."""
    taken = []
    while nodes and holds(nodes[0]):
        taken.append(nodes.pop(0))
    return taken


def _computed(node: fx.Node) -> fx.Node:
    """What a node is, or the first thing that it may be."""
    while node.target is choose:
        node = node.all_input_nodes[0]
    return node


def _conditional(
    condition: tuple[str, str],
    if_so: list[AnyStatement],
    if_not: list[AnyStatement],
    indent: int,
) -> list[AnyStatement]:
    """The statements under their heads; on one line where each has one value for a name.

    Args:
        condition: what decides, and that it does not hold.
        if_so: the statements where it holds.
        if_not: those where it does not.
        indent: the columns that they are indented by.
    """
    holds, opposite = condition
    if not if_so:
        return [_under(opposite, if_not, indent)] if if_not else []
    if not if_not:
        return [_under(holds, if_so, indent)]
    one, other = if_so[0], if_not[0]
    if (
        len(if_so) == len(if_not) == 1
        and isinstance(one, Statement)
        and isinstance(other, Statement)
        and one.target == other.target != ""
        and (choice := _choice_of(condition, one.value, other.value))
        and len(f"{one.target}{choice.text}") + indent <= LINE
    ):
        return [Statement(one.target, choice)]
    return [Compound(f"if {holds}", tuple(if_so)), Compound("else", tuple(if_not))]


def _choice_of(condition: tuple[str, str], if_so: Value, if_not: Value) -> Conditional | None:
    """`if_so if condition else if_not`, which holds no other one, if it is that."""
    holds, opposite = condition
    for text, inner, rest in ((holds, if_so, if_not), (opposite, if_not, if_so)):
        if isinstance(inner, Conditional):
            if inner.if_not != one_line(rest):
                return None
            return Conditional.of(_and(text, inner.condition), inner.if_so, inner.if_not)
    return Conditional.of(holds, one_line(if_so), one_line(if_not))


def _and(*conditions: str) -> str:
    return " and ".join(f"({one})" if " or " in one else one for one in conditions)


def _under(condition: str, body: list[AnyStatement], indent: int) -> Compound:
    """Statements under an `if`; one condition with theirs where they stand under one, too."""
    inner = body[0]
    if len(body) == 1 and isinstance(inner, Compound) and inner.head.startswith("if "):
        head = f"if {_and(condition, inner.head.removeprefix('if '))}"
        if len(head) + indent < LINE:  # a colon comes after it
            return Compound(head, inner.body)
    return Compound(f"if {condition}", tuple(body))
