"""A forward that does something else in training, written with its branches."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import fx

from prunecore.effects import is_dead
from prunecore.forward import Expression, Forward, ForwardWriter
from prunecore.functions import FunctionRule
from prunecore.keep import Keep
from prunecore.loop_writer import LoopWriter
from prunecore.modes import IN_EVAL, IN_TRAINING, choose, mode_of
from prunecore.source import LINE, Name, Value, one_line
from prunecore.statements import AnyStatement, Compound, Statement
from prunecore.variants import Variant

_BODY = 8  # columns that a forward's statements are indented by


def write_forward(
    variant: Variant, keep: Keep, functions: Mapping[Callable[..., Any], FunctionRule]
) -> Forward:
    """Write a module's traced forward.

    Operations keep their order. What is used once is nested into its user, until the nesting
    grows deep or a layer that mixes channels begins.

    Args:
        variant: the forward, followed, and the children that other instances lack.
        keep: gives literals that count channels their kept values.
        functions: the rules, for rewriting literals.
    """
    branches = any(mode_of(node) or node.target is choose for node in variant.trace.graph.nodes)
    writer = BranchWriter if branches else LoopWriter
    return writer(variant, keep, functions).write()


class BranchWriter(ForwardWriter):
    """Writes two forwards that were merged: what one mode alone does stands under an `if`."""

    def write(self) -> Forward:
        """Write it."""
        nodes = [node for node in self.trace.graph.nodes if not is_dead(node)]
        while nodes:
            in_training = _taken(nodes, lambda node: mode_of(node) == IN_TRAINING)
            in_eval = _taken(nodes, lambda node: mode_of(node) == IN_EVAL)
            choices = _taken(nodes, lambda node: node.target is choose)
            if in_training or in_eval or choices:
                self._branch(in_training, in_eval, choices)
            else:
                self.write_node(nodes.pop(0))
        return self.forward()

    def _branch(
        self, in_training: list[fx.Node], in_eval: list[fx.Node], choices: list[fx.Node]
    ) -> None:
        """Write what each mode does by itself, and the choices between what they have done."""
        self.flush()
        before = self.statements
        sides = [self._side(nodes, len(choices)) for nodes in (in_training, in_eval)]
        for choice in choices:
            self._name(choice)
        bodies = []
        for place, (self.statements, self.pending) in enumerate(sides):
            for choice in choices:
                self._choose(choice, place)
            self.flush()
            bodies.append(self.statements)
        self.statements = [*before, *_conditional(*bodies)]

    def _side(
        self, nodes: list[fx.Node], choices: int
    ) -> tuple[list[AnyStatement], list[Expression]]:
        """The statements of one mode, and what waits to be what is chosen."""
        self.statements, self.pending = [], []
        for node in nodes:
            self.write_node(node)
        if choices != 1:
            self.flush()
        return self.statements, self.pending

    def _name(self, choice: fx.Node) -> None:
        """Name the variable that holds what is chosen: one that ends here, else a new one."""
        sources = [source for source in choice.args if isinstance(source, fx.Node)]
        for source in sources:
            self.uses[source] -= 1
        names = self.variables.names
        ending = [
            names[source]
            for source in reversed(sources)
            if mode_of(source) is None and source in names and self.uses[source] == 0
        ]
        names[choice] = ending[0] if ending else self.variables.fresh(sources[0])

    def _choose(self, choice: fx.Node, place: int) -> None:
        """Assign what one mode chooses."""
        source = choice.args[place]
        assert isinstance(source, fx.Node)
        if self.pending and self.pending[-1].node is source:
            expression = self.pending.pop()
            self.flush(expression)
            value = expression.value
        else:
            self.flush()
            value = self.written(source)
        target = self.variables.names[choice]
        if one_line(value) != target:
            self.statements.append(Statement(f"{target} = ", value))


def _taken(nodes: list[fx.Node], holds: Callable[[fx.Node], bool]) -> list[fx.Node]:
    """Take the first nodes off a list, as long as something holds."""
    taken = []
    while nodes and holds(nodes[0]):
        taken.append(nodes.pop(0))
    return taken


def _conditional(
    in_training: list[AnyStatement], in_eval: list[AnyStatement]
) -> list[AnyStatement]:
    """The statements under their heads; on one line where each mode has one value for a name."""
    if not in_training:
        return [Compound("if not self.training", tuple(in_eval))] if in_eval else []
    if not in_eval:
        return [Compound("if self.training", tuple(in_training))]
    one, other = in_training[0], in_eval[0]
    if (
        len(in_training) == len(in_eval) == 1
        and isinstance(one, Statement)
        and isinstance(other, Statement)
        and one.target == other.target
    ):
        either = _either(one.value, other.value)
        if len(f"{one.target}{either.text}") + _BODY <= LINE:
            return [Statement(one.target, either)]
    return [Compound("if self.training", tuple(in_training)), Compound("else", tuple(in_eval))]


def _either(in_training: Value, in_eval: Value) -> Name:
    return Name(f"{one_line(in_training)} if self.training else {one_line(in_eval)}", -1)
