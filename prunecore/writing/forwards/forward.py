"""A forward, written from its trace as the statements that a person would write."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn
from torch.utils import _pytree as pytree

from prunecore.channels.computed import as_followed
from prunecore.channels.keep import Keep, Width
from prunecore.errors import UnwritableError
from prunecore.escaping import is_name, shown
from prunecore.functions.rule import FunctionRule
from prunecore.tracing.arguments import without_constants
from prunecore.tracing.conditions import choose
from prunecore.tracing.contexts import Context, under
from prunecore.tracing.nodes import function_of, living
from prunecore.writing.expressions import (
    annotation,
    assigned,
    function_call,
    function_name,
    is_infix,
    is_operator,
    literal,
    named_tuples,
    names_in,
    parameter,
    self_path,
)
from prunecore.writing.forwards.contexts import Blocks
from prunecore.writing.forwards.variables import Variables, nested_parts, part_names, parts_of
from prunecore.writing.passes.variants import Variant
from prunecore.writing.statements import AnyStatement, Statement, write_statements
from prunecore.writing.text import CALLED, INDENT, Call, Name, Value, fits, fits_in_rows, one_line


def mixes(module: nn.Module) -> bool:
    """True if a module has children or weights of its own of two axes or more."""
    if any(child is not None for child in module._modules.values()):
        return True
    stored = module._parameters.values()
    return any(parameter is not None and parameter.ndim > 1 for parameter in stored)


_DEEPEST = 4  # calls nested in one statement before it is broken


@dataclass(frozen=True)
class Forward:
    """A forward method.

    Attributes:
        parameters: as they stand in the signature, without `self`.
        returns: the return annotation.
        statements: its body.
        tuples: the classes of named tuples that it returns, by name: fields and annotations.
    """

    parameters: tuple[str, ...]
    returns: str
    statements: tuple[AnyStatement, ...]
    tuples: Mapping[str, Mapping[str, str]]


@dataclass
class Expression:
    """What is computed but not yet written, waiting for its one user."""

    node: fx.Node
    value: Value
    depth: int
    composite: bool  # the call of a module that has children
    target: str = ""  # of an assignment to places of a tensor: `y[:, 0] = `

    @property
    def names(self) -> list[str]:
        """The variables in it."""
        of_target = names_in(Name(self.target.rpartition("]")[0] + "]")) if self.target else []
        return [*of_target, *names_in(self.value)]


class ForwardWriter:
    """Writes a traced forward; `value`, `stored`, `breaks` and `is_composite` say how."""

    reserved = frozenset(  # not for variables
        {"torch", "nn", "F", "math", "operator", "Tensor", "self", *CALLED}
    )

    def __init__(
        self, variant: Variant, keep: Keep, functions: Mapping[Callable[..., Any], FunctionRule]
    ) -> None:
        self.trace = variant.trace
        self.optional = variant.optional
        self.is_shared = variant.is_shared
        self.keep = keep
        self.functions = functions
        self.statements: list[AnyStatement] = []
        self.pending: list[Expression] = []
        self.parameters: list[str] = []
        self.indent = 2 * INDENT
        self.returns: list[str] = []  # the annotations of what is returned
        self.tuples: dict[str, Mapping[str, str]] = {}
        alive = set(living(self.trace.graph))
        self.uses = {node: len(alive.intersection(node.users)) for node in self.trace.graph.nodes}
        self.blocks = Blocks(self.trace)
        self.keep_device()
        self.needed = _modules_named(self.trace.graph)
        self.reserved |= self.needed
        self.reserved |= named_tuples(self.trace.output).keys()
        self.variables = Variables(self.uses, self.trace.values, variant.names, self.reserved)

    def write(self) -> Forward:
        """Write it."""
        for node in living(self.trace.graph):
            self.write_node(node)
        return self.forward()

    def keep_device(self) -> None:
        """Let the input whose device a block asks for keep its name."""
        if self.blocks.source is not None:
            self.uses[self.blocks.source] += 1

    def enter(self, contexts: Sequence[Context]) -> None:
        """Go on in these blocks, the outermost first."""
        now = self.blocks.contexts
        if now == list(contexts):
            return
        pairs = zip(now, contexts, strict=False)
        common = next((n for n, (one, other) in enumerate(pairs) if one != other), len(now))
        common = min(common, len(contexts))
        self.flush()
        self.leave(common)
        for context in contexts[common:]:
            self.blocks.open(context, self.statements)
            self.statements = []
            self.indent += INDENT

    def leave(self, depth: int) -> None:
        """End blocks, until there are this many."""
        if self.blocks.depth > depth:
            self.flush()
        while self.blocks.depth > depth:
            source = self.blocks.source
            holder = "next(self.parameters())" if source is None else self.variables.names[source]
            self.statements = self.blocks.close(self.statements, f"{holder}.device")
            self.indent -= INDENT

    def forward(self) -> Forward:
        """What has been written.

        Raises:
            UnwritableError: an input has a name that the forward needs for something else.
        """
        inputs = [node for node in self.trace.graph.nodes if node.op == "placeholder"]
        for name in (str(node.target) for node in inputs):
            is_called = name in CALLED and f"{name}(" in write_statements(self.statements, 0)
            if not is_name(name) or name == "self" or name in self.needed or is_called:
                raise UnwritableError(
                    f"an input of its forward is called {shown(repr(name))}, which the written "
                    "one needs for something else"
                )
        returns = " | ".join(dict.fromkeys(self.returns))
        tuples = self.tuples
        return Forward(tuple(self.parameters), returns, tuple(self.statements), tuples)

    def write_node(self, node: fx.Node) -> None:
        """Write a node, or let it wait for its one user."""
        if node.op not in ("placeholder", "get_attr") and node not in self.variables.names:
            self.enter(under(node))
        if node.op == "placeholder":
            self.variables.names[node] = str(node.target)
            has_default = any("=" in parameter for parameter in self.parameters)
            self.parameters.append(parameter(node, self.trace.values[node], has_default))
            if parts := self.parts_of(node):
                self._unpack(Expression(node, Name(str(node.target)), 0, False), parts)
        elif node.op == "output":
            values = self._values(node.args[0])
            self.returns.append(annotation(values))
            self.tuples |= named_tuples(values)
            expression = self.build(node)
            self.flush(expression)
            self.statements.append(Statement("return ", expression.value))
        elif node.op != "get_attr" and node not in self.variables.names:
            self._add(node)

    def _add(self, node: fx.Node) -> None:
        expression = self.build(node)
        users = self.uses[node]
        if parts := self.parts_of(node):
            self.flush(expression)
            self._unpack(expression, parts)
        elif users == 1 and not self._is_optional(node):
            self.pending.append(expression)
        elif users == 0:
            self.flush(expression)
            self.statements.append(Statement(expression.target, expression.value))
        else:
            self.flush(expression)
            self.assign(expression)

    def parts_of(self, node: fx.Node) -> list[list[fx.Node]]:
        """What takes a result apart at once, by place; nothing if it is not written so."""
        if self._is_optional(node):
            return []
        return parts_of(node, self.trace.values[node])

    def nested_parts(self, items: Sequence[fx.Node], value: Any) -> list[list[fx.Node]]:
        """What takes an item of a result apart at once, too; nothing if it is not written so."""
        return nested_parts(items, value)

    def _unpack(self, expression: Expression, parts: Sequence[Sequence[fx.Node]]) -> None:
        """Give variables to the items of what is computed."""
        own = [name for name in names_in(expression.value) if name in self.variables.names.values()]
        source = own[0] if own else None
        wanted = part_names(expression.node, self.trace.values, source)
        values: Any = self.trace.values[expression.node]
        nested = [self.nested_parts(*item) for item in zip(parts, values, strict=True)]
        names = self.variables.unpack(expression.node, parts, wanted, source, nested)
        self.statements.append(Statement(f"{', '.join(names)} = ", expression.value))

    def build(self, node: fx.Node) -> Expression:
        """The node's expression, its arguments nested into it where that reads well."""
        needed = [source for source in self.sources(node) if self._is_pending(source)]
        waiting = self.pending[len(self.pending) - len(needed) :]
        in_order = [expression.node for expression in waiting] == needed
        if not in_order or self.breaks(node, waiting) or self._hides_width(node, waiting):
            self.flush()
            waiting = []
        nested = {expression.node: expression for expression in waiting}
        expression = self._expression(node, nested)
        is_output = node.op == "output"
        before = len("return ") if is_output else len(expression.target)
        if not before and self.uses[node]:
            before = self.variables.longest_before(node, expression.value)
        is_short = fits(expression.value, self.indent, before, spread=is_output)
        if nested and not is_short and not self._spreads(node, waiting, expression.value):
            self.flush()
            nested = {}
            expression = self._expression(node, nested)
        if nested:
            del self.pending[-len(nested) :]
        for source in dict.fromkeys(self.sources(node)):
            self.uses[source] -= 1
        return expression

    def _spreads(self, node: fx.Node, waiting: list[Expression], value: Value) -> bool:
        """True if a call reads well over several lines, with what is nested into it.

        That is one which is returned, and one of sizes and parts, each on a line of its own.
        """
        if not isinstance(value, Call):
            return False
        if node.op == "output":
            return node.args[0] is waiting[-1].node
        receiver = node.args[0] if node.op == "call_method" else None
        is_plain = not any(one.depth or one.node is receiver for one in waiting)
        return is_plain and fits_in_rows(value, self.indent)

    def breaks(self, node: fx.Node, waiting: list[Expression]) -> bool:
        """True if a statement should end before this node."""
        calls = [expression for expression in waiting if expression.depth > 0]
        if self._is_optional(node):
            return bool(waiting)
        if node.target is operator.setitem and isinstance(node.args[2], fx.Node):
            # the value is computed before what is set, where it stands behind it
            return any(expression.node is not node.args[2] for expression in waiting)
        if node.op == "call_module" and mixes(self.trace.module.get_submodule(str(node.target))):
            return bool(calls)
        deepest = max((expression.depth for expression in calls), default=0)
        joins = node.op == "output" or is_infix(node.target)
        return deepest >= _DEEPEST + joins or (
            not (joins or _is_item(node)) and any(expression.composite for expression in calls)
        )

    def _hides_width(self, node: fx.Node, waiting: list[Expression]) -> bool:
        """True if a kept width, which may be another one in another instance, would be in a text.

        It has to stay a value by itself, to become an argument of the class.
        """
        if not self.is_shared or node.op not in ("call_method", "call_function"):
            return False
        receiver = node.args[0] if isinstance(node.target, str) else None
        return any(
            holds_width(expression.value)
            for expression in waiting
            if expression.node is receiver or is_operator(node.target)
        )

    def _expression(self, node: fx.Node, nested: Mapping[fx.Node, Expression]) -> Expression:
        def written(source: fx.Node) -> Value:
            return nested[source].value if source in nested else self.written(source)

        args, kwargs = (fx.node.map_arg(given, written) for given in self.arguments(node))
        depth = max((expression.depth for expression in nested.values()), default=0)
        if node.op == "output":
            return Expression(node, literal(args[0]), depth, False)
        if node.target is operator.setitem:
            target, value = assigned(node, literal(tuple(args)))
            return Expression(node, value, depth, False, target)
        value = self.value(node, tuple(args), dict(kwargs))
        if self._is_optional(node):
            return Expression(node, value, depth + 1, True)
        composite = self.is_composite(node) or (
            _is_item(node) and any(inner.composite for inner in nested.values())
        )
        return Expression(node, value, depth + isinstance(value, Call), composite)

    def arguments(self, node: fx.Node) -> tuple[Any, Any]:
        """The arguments and keywords of a node."""
        return node.args, node.kwargs

    def sources(self, node: fx.Node) -> list[fx.Node]:
        """The nodes that a node uses, in the order in which they are written."""
        sources: list[fx.Node] = []
        fx.node.map_arg(self.arguments(node), sources.append)  # within slices, too
        return sources

    def written(self, node: fx.Node) -> Value:
        """What has been computed, as later statements name it."""
        if node.op == "get_attr":
            return self.stored(str(node.target))
        return Name(self.variables.names[node])

    def path(self, node: fx.Node) -> str:
        """How the module that a node calls is reached."""
        return self_path(self.trace.module, str(node.target))

    def stored(self, path: str) -> Value:
        """A parameter or buffer of the module."""
        return Name(self_path(self.trace.module, path))

    def value(self, node: fx.Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Value:
        """The call of a module or function, given its arguments as they are written."""
        if node.op == "call_module":
            path = self.path(node)
            if self._is_optional(node):
                given = one_line(args[0])
                return Name(f"{given} if {path} is None else {path}({given})", 0)
            child = self.trace.module.get_submodule(str(node.target))
            args, kwargs = without_constants(child, self.keep.constants(child), args, kwargs)
            return Call(path, literal(args), literal(kwargs))
        args, kwargs = self.rewritten(node, args, kwargs)
        return function_call(node, literal(args), literal(kwargs))

    def rewritten(
        self, node: fx.Node, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments of a function with the kept widths in them."""
        rule = self.functions.get(function_of(node))
        if rule is not None and rule.rewrite is not None:
            for value in as_followed(self.trace.values[node]):
                args, kwargs = rule.rewrite((args, kwargs), value, self.keep)
        return args, kwargs

    def _is_optional(self, node: fx.Node) -> bool:
        """True if the node calls a child that other instances of the class lack."""
        return node.op == "call_module" and node.target in self.optional

    def is_composite(self, node: fx.Node) -> bool:
        """True if the node calls a module that has children."""
        return node.op == "call_module" and any(
            True for _ in self.trace.module.get_submodule(str(node.target)).children()
        )

    def _is_pending(self, node: fx.Node) -> bool:
        return any(expression.node is node for expression in self.pending)

    def flush(self, last: Expression | None = None) -> None:
        """Write what waits, in order; the variables that `last` uses keep their meaning."""
        waiting, self.pending = self.pending, []
        for number, expression in enumerate(waiting):
            later = [*waiting[number + 1 :], *([last] if last else [])]
            self.assign(expression, {name for one in later for name in one.names})

    def assign(self, expression: Expression, needed: Set[str] = frozenset()) -> None:
        """Give a variable what is computed; `needed` are names that later expressions read."""
        node, value = expression.node, expression.value
        is_optional = self._is_optional(node)
        name = self.variables.assign(node, value, expression.composite, is_optional, needed)
        self.statements.append(Statement(f"{name} = ", value))

    def _values(self, argument: Any) -> Any:
        return fx.node.map_arg(argument, self.trace.values.__getitem__)


def _is_item(node: fx.Node) -> bool:
    """True if a node takes one of several results by its place, `outputs[0]`."""
    return node.target is operator.getitem and isinstance(node.args[1], int)


def _modules_named(graph: fx.Graph) -> set[str]:
    """The modules that the functions and types in a forward are written with."""
    named = set()
    for node in graph.nodes:
        if under(node):
            named.add("torch")
        is_called = node.op == "call_function" and node.target is not choose
        if is_called and not is_operator(node.target):
            named.add(function_name(node.target).partition(".")[0])
        for leaf in pytree.tree_leaves((node.args, dict(node.kwargs))):
            if isinstance(leaf, torch.dtype | torch.device | torch.memory_format | torch.layout):
                named.add("torch")
    return named


def holds_width(value: Value) -> bool:
    """True if a value is a kept width, or holds one."""
    if isinstance(value, Call):
        value = (*value.positional, *value.keywords.values())
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        return any(map(holds_width, value))
    return isinstance(value, Width)
