"""A traced forward as the statements of a dependency calculator."""

from __future__ import annotations

import operator
from typing import Any

from torch import fx, nn
from torch.utils import _pytree as pytree

from prunecore.channels.signal import Signal
from prunecore.escaping import is_name, is_number, quoted
from prunecore.functions.rule import elementwise
from prunecore.tracing.modules.attributes import HeldFloat, HeldInt, TrainingFlag
from prunecore.tracing.nodes import function_of
from prunecore.writing.expressions import defaults_of, function_name, literal
from prunecore.writing.forwards.forward import Expression, ForwardWriter
from prunecore.writing.statements import AnyStatement, Statement
from prunecore.writing.text import Call, Name, Value


class CalculatorWriter(ForwardWriter):
    """Writes what a forward does to the channel ids, one operation a line."""

    reserved = ForwardWriter.reserved | {"block", "channels", "inputs", "operator"}

    def statements_of_hook(self) -> list[AnyStatement]:
        """The body of prunecore_calculate_dependencies."""
        forward = self.write()
        names = tuple(Name(parameter.partition(":")[0]) for parameter in forward.parameters)
        taken = Statement(f"{_unpacked(names)} = ", Name("inputs"))
        return [taken, *forward.statements]

    def breaks(self, node: fx.Node, waiting: list[Expression]) -> bool:
        """One operation a line; the last is returned."""
        return node.op != "output" and any(expression.depth for expression in waiting)

    def is_composite(self, node: fx.Node) -> bool:
        """What is walked through is never written within another operation."""
        return False

    def stored(self, path: str) -> Value:
        """A parameter or buffer of the block."""
        holder, _, name = path.rpartition(".")
        return Call("channels.stored", (of_block(self.trace.module, holder), name))

    def value(self, node: fx.Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Value:
        """A walk through a child, a coupling, or the rule of a function."""
        if node.op == "call_module":
            child = of_block(self.trace.module, str(node.target))
            return Call("channels.through", (child, *_plain(args)), _plain(kwargs))
        target = node.target
        function = function_of(node)
        rule = self.functions.get(function)
        given = (*node.args, *node.kwargs.values())
        met = [self.trace.values[arg] for arg in given if isinstance(arg, fx.Node)]
        if (
            rule is not None
            and (rule.calculate is elementwise or function is operator.add)
            and len(met) == len(given) > 1
            and all(isinstance(value, Signal) for value in met)
        ):
            return Call("channels.couple", (*args, *kwargs.values()))
        name = f"Tensor.{target}" if isinstance(target, str) else function_name(function)
        applied: tuple[Value, ...] = (Name(name), *_plain(args))
        return Call("channels.apply", applied, _plain(kwargs), defaults_of(function, kwargs))


def of_block(block: nn.Module, path: str) -> Name:
    """How a hook reaches what lies at a path of its block: `block.layers[0].conv`."""
    text = "block"
    module: Any = block
    for part in path.split(".") if path else ():
        inner = getattr(module, part)
        if is_name(part):
            text += f".{part}"
        elif is_number(part) and _is_at(module, int(part), inner):
            text += f"[{part}]"
        else:
            text = f"getattr({text}, {quoted(part)})"
        module = inner
    return Name(text)


def _is_at(module: Any, place: int, inner: Any) -> bool:
    """True if a module is a list that has something at a place."""
    is_list = isinstance(module, nn.Sequential | nn.ModuleList | nn.ParameterList)
    return is_list and place < len(module) and module[place] is inner


def _unpacked(names: tuple[Name, ...]) -> str:
    inside = ", ".join(name.text for name in names)
    return f"({inside},)" if len(names) == 1 else inside


def _plain(value: Any) -> Any:
    """Arguments as they are written; a network is followed in eval mode."""
    return literal(pytree.tree_map(_leaf, value))


def _leaf(leaf: Any) -> Any:
    if isinstance(leaf, HeldInt | HeldFloat):
        return Name(f"block.{leaf.attribute}")
    return False if isinstance(leaf, TrainingFlag) else leaf
