"""Calls, operators and paths of a traced forward as expressions."""

from __future__ import annotations

import ast
import builtins
import functools
import inspect
import itertools
import math
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import is_dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import fx, nn
from torch.overrides import get_testing_overrides, resolve_name

from prunecore.channels.signal import Signal
from prunecore.errors import UnwritableError
from prunecore.escaping import is_name, is_number, quoted, shown
from prunecore.functions.table import SIGNS
from prunecore.tracing.conditions import OPTIONAL, ByMode
from prunecore.tracing.modules.attributes import HeldFloat, HeldInt, TrainingFlag
from prunecore.tracing.nodes import IS_PUT_BACK
from prunecore.tracing.stand_ins.autograd_functions import Applied
from prunecore.writing.arguments import kind_of
from prunecore.writing.text import (
    REQUIRED,
    Call,
    Name,
    Value,
    is_taken,
    one_line,
    plain,
    without_noise,
)

_OF_FILES = ("torch.", "F.", "math.", "operator.")  # modules whose functions every file may call


_TIGHT = 9  # the precedence of names, calls and indexing


def self_path(module: nn.Module, path: str, start: str = "self") -> str:
    """How a module's forward reaches a child: `self.layers[0].conv`, `self.heads["low"]`.

    Args:
        module: the module.
        path: of the child, from there.
        start: what the module is called.
    """
    text = start
    for part in path.split("."):
        if _gives_by_key(module, part) and not (is_name(part) and text == start):
            text += f"[{quoted(part)}]"
        elif is_name(part):
            text += f".{part}"
        elif type(module) in (nn.Sequential, nn.ModuleList, nn.ParameterList) and (
            part == str(list(module._modules or module._parameters).index(part))
        ):
            text += f"[{part}]"
        else:
            text = f"getattr({text}, {quoted(part)})"
        module = getattr(module, part, None)  # type: ignore[assignment]  # which it may lack
    return text


def _gives_by_key(module: nn.Module, key: str) -> bool:
    """True if `module[key]` is one of its modules, as that of torch's own dictionary is."""
    return (
        isinstance(module, nn.ModuleDict)
        and type(module).__getitem__ is nn.ModuleDict.__getitem__
        and key in module._modules
    )


def function_call(node: fx.Node, args: tuple[Value, ...], kwargs: dict[str, Value]) -> Value:
    """A function or method call as it is written, given its arguments as they are."""
    target = node.target
    if isinstance(target, str):
        names = _parameters(getattr(torch.Tensor, target, target))[1 : len(args)]
        return Call(f"{_operand(args[0], _TIGHT)}.{target}", args[1:], kwargs, names=names)
    if target is operator.pow:
        return _power(args[0], args[1])
    if is_infix(target):
        if target is operator.add and _takes_away(node):
            target, args = operator.sub, (args[0], -args[1])
        sign, level = SIGNS[target].text, SIGNS[target].precedence
        compares = level == 0  # a chain of comparisons is another thing
        left, right = _operand(args[0], level + compares), _operand(args[1], level + 1)
        return Name(f"{left} {sign} {right}", level)
    if target in SIGNS and SIGNS[target].kind == "prefix":
        level = SIGNS[target].precedence
        return Name(f"{SIGNS[target].text}{_operand(args[0], 8)}", level)
    if target is getattr:
        return Name(f"{_operand(args[0], _TIGHT)}.{args[1]}")
    if target is operator.getitem:
        return Name(f"{_operand(args[0], _TIGHT)}[{_index(args[1])}]")
    if target in SIGNS:  # in place, a statement by its sign
        return Call(f"operator.{target.__name__}", args, kwargs)
    if isinstance(target, type) and is_dataclass(target):
        raise UnwritableError(
            f"its forward makes a dataclass, {shown(target.__name__)}",
            f"Write it as a named tuple, class {shown(target.__name__)}(NamedTuple), whose fields "
            "are read by the same names.",
        )
    name = function_name(target)
    if "." in name and not name.startswith(_OF_FILES) and not isinstance(target, Applied):
        raise UnwritableError(f"its forward calls {name}, which is no function of torch")
    names = _parameters(target)[: len(args)]
    return Call(name, args, kwargs, defaults_of(target, kwargs), names)


_UNTELLING = ("generator", "input", "other", "self", "tensor", "value")  # as names of arguments
_SIZES = ("shape", "size", "sizes", "dims")  # of which each may be given by itself


@functools.cache
def _parameters(function: Any) -> tuple[str, ...]:
    """The parameters of a function or method of torch, by number those whose names tell nothing.

    They end before sizes that are given one by one.
    """
    described = get_testing_overrides().get(function)
    known = () if described is None else inspect.signature(described).parameters
    names = itertools.takewhile(lambda name: name not in _SIZES, known)
    return tuple(str(n) if name in _UNTELLING else name for n, name in enumerate(names))


def is_operator(target: Any) -> bool:
    """True if a call is written as an operator, its operands as text."""
    return target in SIGNS and SIGNS[target].kind != "in place"


def assigned(node: fx.Node, args: tuple[Value, ...]) -> tuple[str, Value]:
    """An assignment to places of a tensor: what stands before the value, `y[:, 0] = `, and that.

    Args:
        node: the assignment.
        args: the tensor, the index and the value, as they are written.
    """
    tensor, index, value = args
    place = f"{_operand(tensor, _TIGHT)}[{_index(index)}]"
    given: Any = node.args[2]
    if isinstance(value, Name) and isinstance(given, fx.Node) and given.meta.get(IS_PUT_BACK):
        sign = SIGNS.get(cast(Any, given.target))
        before = f"{place} {sign.text if sign else None} "
        if value.text.startswith(before):
            added = _bare(value.text.removeprefix(before))
            return f"{before.rstrip()}= ", Name(added)
    return f"{place} = ", value


def _bare(text: str) -> str:
    """An expression without the parentheses around all of it."""
    try:
        is_whole = ast.unparse(ast.parse(text[1:-1], mode="eval")) == ast.unparse(
            ast.parse(text, mode="eval")
        )
    except SyntaxError:
        return text
    return text[1:-1] if text.startswith("(") and is_whole else text


def is_infix(target: Any) -> bool:
    """True if a call is written as an operator between its operands."""
    return target in SIGNS and SIGNS[target].kind == "infix"


def _power(base: Value, exponent: Value) -> Name:
    """A power; between names and numbers its sign stands without spaces, as ruff has it."""
    is_number = _is_number(exponent)
    left, right = _operand(base, 8), one_line(exponent) if is_number else _operand(exponent, 8)
    hugs = re.fullmatch(r"[\w.]+", left) and (is_number or re.fullmatch(r"[\w.]+", right))
    return Name(f"{left}**{right}" if hugs else f"{left} ** {right}", 7)


def _operand(value: Value, level: int) -> str:
    text = one_line(value)
    own = value.precedence if isinstance(value, Name) else _TIGHT
    if _is_number(value) and value < 0:
        own = 6
    return text if own >= level else f"({text})"


def _is_number(value: Value) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _takes_away(node: fx.Node) -> bool:
    """True if a sum is with a negative number, and surely not of a mask, which has no minus."""
    operands: Any = node.args
    left, right = operands
    return (
        _is_number(right)
        and not isinstance(right, HeldInt | HeldFloat)
        and right < 0
        and isinstance(left, fx.Node)
        and left.target in (operator.add, operator.sub, operator.mul, operator.truediv)
        and any(isinstance(operand, float) for operand in left.args)
    )


def _index(value: Value) -> str:
    if isinstance(value, tuple):
        return ", ".join(_index(item) for item in value) + ("," if len(value) == 1 else "")
    if isinstance(value, slice):
        return _slice(
            *("" if end is None else one_line(end) for end in (value.start, value.stop, value.step))
        )
    return "..." if value is ... else one_line(value)


def _slice(start: str, stop: str, step: str) -> str:
    """A slice; about what is no name or number its colons stand apart, as ruff has it."""
    if all(re.fullmatch(r"-?\w*", end) for end in (start, stop, step)):
        return f"{start}:{stop}" + (f":{step}" if step else "")
    text = (f"{start} :" if start else ":") + (f" {stop}" if stop else "")
    return text + ((" : " if stop else ": ") + step if step else "")


def function_name(function: Callable[..., Any]) -> str:
    """How a function is called in a file: `torch.cat`, `F.relu`, `len`."""
    name = function.__name__
    if isinstance(function, Applied):
        return name
    for module, text in ((torch, "torch"), (F, "F"), (operator, "operator"), (math, "math")):
        if getattr(module, name, None) is function:
            return f"{text}.{name}"
    if function is getattr(builtins, name, None):
        return name
    if isinstance(function, torch._ops.OpOverloadPacket):
        return f"torch.ops.{str(function).replace('::', '.')}"
    return resolve_name(function) or f"{function.__module__}.{name}"


def defaults_of(function: Callable[..., Any], kwargs: Mapping[str, Value]) -> dict[str, Value]:
    """The default values of those keywords of a call that have one."""
    documented = getattr(F, f"_{function.__name__}", function)  # behind F.max_pool2d, say
    try:
        parameters = inspect.signature(documented).parameters
    except ValueError:  # a builtin without a signature
        return {}
    known = {name: parameters[name].default for name in kwargs if name in parameters}
    return {name: default for name, default in known.items() if default is not REQUIRED}


def literal(value: Any) -> Any:
    """fx's immutable containers, the training flag and computed numbers as plain values."""
    if isinstance(value, TrainingFlag):
        return Name("self.training")
    if isinstance(value, ByMode):
        sides = [one_line(literal(side)) for side in (value.in_training, value.in_eval)]
        return Name(" if self.training else ".join(sides), 0)
    if isinstance(value, HeldInt | HeldFloat):
        return Name(f"self.{value.attribute}")
    if isinstance(value, float):
        return without_noise(value)
    if isinstance(value, torch.Size):
        return tuple(value)
    if isinstance(value, range):
        return Call("range", (value.start, value.stop, value.step))
    if _is_named(value):
        return Call(_tuple_name(value), tuple(literal(item) for item in value))
    if isinstance(value, tuple):
        return tuple(literal(item) for item in value)
    if isinstance(value, list):
        return [literal(item) for item in value]
    if isinstance(value, dict):
        return {_checked(key): literal(item) for key, item in value.items()}
    return _checked(value)


def _checked(value: Any) -> Any:
    """A leaf or key that a file can state: what it cannot is refused while it is known whose it is.

    Raises:
        UnwritableError: a file cannot.
    """
    if isinstance(value, tuple):
        return tuple(map(_checked, value))
    if not isinstance(value, Call | slice):
        plain(value)
    return value


def _tuple_name(value: Any) -> str:
    """The name of a named tuple's class.

    Raises:
        UnwritableError: it, or one of its fields, is no name, or one that Python or a file has.
    """
    name = type(value).__name__
    for text in (name, *value._fields):
        if not is_name(text) or (text is name and is_taken(text)):
            raise UnwritableError(
                f"it returns a named tuple of the name or field {shown(repr(text))}"
            )
    return name


def names_in(value: Value) -> list[str]:
    """The variables of an expression, in the order in which they are written."""
    return list(_names_in(one_line(value)))


@functools.lru_cache(4096)
def _names_in(text: str) -> tuple[str, ...]:
    tree = ast.parse(text, mode="eval")
    names = [node for node in ast.walk(tree) if isinstance(node, ast.Name)]
    return tuple(node.id for node in sorted(names, key=lambda node: node.col_offset))


def own_name(node: fx.Node) -> str:
    """A name after the module or function that computes the node."""
    if node.op == "call_module":
        *path, last = str(node.target).split(".")
        name = f"{singular(path[-1]) if path else 'layer'}{last}" if is_number(last) else last
        return name.strip("_") or name
    if node.target is getattr:
        return str(node.args[1])
    if node.target is operator.getitem:
        key = node.args[1]
        return key if isinstance(key, str) else "size" if isinstance(key, slice) else "item"
    return str(getattr(node.target, "__name__", node.target)).rpartition(".")[2]


def singular(name: str) -> str:
    """What one of several is called: a block of blocks."""
    for ending, replacement in (("ches", "ch"), ("xes", "x"), ("sses", "ss"), ("ies", "y")):
        if name.endswith(ending):
            return name.removesuffix(ending) + replacement
    one = name.removesuffix("s")
    is_one = name.endswith("s") and not name.endswith("ss") and is_name(one)
    return one if is_one else "layer"


def annotation(value: Any) -> str:
    """The annotation of a forward's argument or result."""
    if isinstance(value, Signal):
        return "Tensor"
    if isinstance(value, list):
        return f"list[{annotation(value[0])}]" if value else "list[Tensor]"
    if _is_named(value):
        return type(value).__name__
    if isinstance(value, tuple):
        return f"tuple[{', '.join(annotation(item) for item in value) or '()'}]"
    if isinstance(value, dict):
        inner = annotation(next(iter(value.values()))) if value else "Tensor"
        kinds = {annotation(key) for key in value} or {"str"}
        return f"dict[{kinds.pop() if len(kinds) == 1 else 'Any'}, {inner}]"
    return kind_of(value)


def parameter(node: fx.Node, value: Any, has_default: bool) -> str:
    """How an input of a traced forward stands in the signature.

    Args:
        node: the input; its argument is the default.
        value: what it is given.
        has_default: whether an input before it has a default, so that this one needs one.
    """
    default = node.args[0] if node.args else REQUIRED
    is_float = isinstance(default, float) and type(value) is int
    text = f"{node.target}: {annotation(default if is_float else value)}"
    may_lack: bool = node.meta.get(OPTIONAL, False)
    if default is REQUIRED:
        return f"{text} | None" if may_lack else text
    if default is None and not has_default and not may_lack:
        return text  # what is followed is the way with a tensor
    return f"{text} | None = None" if default is None else f"{text} = {one_line(literal(default))}"


def _is_named(value: Any) -> bool:
    return isinstance(value, tuple) and hasattr(value, "_fields")


def named_tuples(value: Any) -> dict[str, Mapping[str, str]]:
    """The classes of the named tuples in what a forward returns: fields and annotations by name."""
    found: dict[str, Mapping[str, str]] = {}
    if isinstance(value, dict):
        value = tuple(value.values())
    if isinstance(value, list | tuple):
        for item in value:
            found |= named_tuples(item)
    if _is_named(value):
        fields = dict(zip(value._fields, value, strict=True))
        found[type(value).__name__] = {
            field: "Tensor | None" if item is None else annotation(item)
            for field, item in fields.items()
        }
    return found
