"""Modules that are written as they stand: torch's by their constructors, others by their methods.

What is not understood of a network is left as it is. A layer of torch's is called as `nn.Name`, its
arguments read off it. Any other module becomes a class that has the methods of its own class, word
for word, and a constructor that sets what they read.
"""

from __future__ import annotations

import ast
import functools
import inspect
import operator
import re
import textwrap
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from prunecore.channels.names import is_of_torch
from prunecore.errors import UnwritableError, a_kind
from prunecore.escaping import is_name, shown
from prunecore.registry import is_like
from prunecore.writing.as_it_stands.own_text import (
    OwnTexts,
    is_statable,
    text_of_function,
    variables_of,
    without_class,
)
from prunecore.writing.containers import CONTAINERS
from prunecore.writing.expressions import function_name, literal
from prunecore.writing.statements import Statement
from prunecore.writing.text import INDENT, Call, Name, is_taken

_OF_TRANSFORMERS = {
    "d_model": "self_attn.embed_dim",
    "nhead": "self_attn.num_heads",
    "dim_feedforward": "linear1.out_features",
    "dropout": "dropout.p",
    "activation": "activation.__name__",
    "layer_norm_eps": "norm1.eps",
    "batch_first": "self_attn.batch_first",
    "bias": "linear1.bias",
}


# arguments of torch's constructors that are held under another name, or not by the layer itself
_HELD_AS: Mapping[type[nn.Module], Mapping[str, str]] = {
    nn.MultiheadAttention: {"bias": "in_proj_bias", "add_bias_kv": "bias_k"},
    nn.PairwiseDistance: {"p": "norm"},
    nn.TransformerEncoderLayer: _OF_TRANSFORMERS,
    nn.TransformerDecoderLayer: _OF_TRANSFORMERS,
}


_OF_RECURRENT = ("input_size", "hidden_size", "num_layers", "bias", "batch_first", "dropout")


# arguments of torch's constructors that their signatures do not name
_NAMED: Mapping[type[nn.Module], Sequence[str]] = {
    nn.LSTM: (*_OF_RECURRENT, "bidirectional", "proj_size"),
    nn.GRU: (*_OF_RECURRENT, "bidirectional"),
    nn.RNN: (*_OF_RECURRENT, "bidirectional", "nonlinearity"),
}


# methods that say nothing of what a module computes
_TELLING = frozenset({"__init__", "__repr__", "_get_name", "extra_repr"})


def torch_call(module: nn.Module, base: type[nn.Module]) -> Call:
    """The constructor call of a layer of torch's, its arguments read off its attributes.

    Args:
        module: of that class, or of one that derives from it.
        base: the class, of `torch.nn`.

    Raises:
        UnwritableError: the call would not make the same layer.
    """
    held = _HELD_AS.get(base, {})
    arguments: dict[str, Any] = {}
    for name in _NAMED.get(base, inspect.signature(base).parameters):
        try:
            value = operator.attrgetter(held.get(name, name))(module)
        except AttributeError:  # a constructor's `device`, say
            continue
        if not (name in ("kdim", "vdim") and value == module.embed_dim):
            arguments[name] = _given(name, value)
    make = functools.partial(base, **arguments)
    try:
        is_same = type(module) is not base or (is_like(module, make) and _is_told(module, make))
    except Exception:  # whatever a constructor raises that lacks an argument
        is_same = False
    if not is_same:
        raise UnwritableError(f"what its constructor was given cannot be read off {base.__name__}")
    call = Call.of(nn.RNNBase if base in _NAMED else base, **arguments)
    others = {
        name: value
        for name, value in arguments.items()
        if name not in (*call.names, *call.keywords)
    }
    return Call(
        f"nn.{base.__name__}",
        call.positional,
        {**call.keywords, **others},
        {**call.defaults, "nonlinearity": "tanh"},
        call.names,
    )


def _given(name: str, value: Any) -> Any:
    """An argument, from what is held of it."""
    if name in ("bias", "add_bias_kv") and not isinstance(value, bool):
        return value is not None
    if (name, value) == ("activation", F.relu.__name__):
        return F.relu  # the default
    is_even = isinstance(value, tuple) and len(set(value)) == 1 and type(value[0]) is int
    return value[0] if is_even else value


def _is_told(module: nn.Module, make: Callable[[], nn.Module]) -> bool:
    with torch.device("meta"):
        other = make()
    return _settings(module) == _settings(other)


_TOLD = (bool, int, float, str, tuple, types.FunctionType, types.BuiltinFunctionType)


def _settings(module: nn.Module) -> list[dict[str, Any]]:
    """What each module within one is told to do."""
    return [
        {
            name: value
            for name, value in vars(one).items()
            if isinstance(value, _TOLD) and name != "training"
        }
        for one in module.modules()
    ]


def torch_base(cls: type[nn.Module]) -> type[nn.Module]:
    """The class of torch's that a class derives from."""
    return next(one for one in cls.__mro__ if one is nn.Module or is_of_torch(one))


class Methods:
    """The methods of a module's class that its forward needs, and what they read.

    Args:
        module: of a class that is not torch's.

    Attributes:
        needed: the methods.
        text: of these, as they stand in a class.
    """

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        classes = type(module).__mro__
        self._own = classes[: classes.index(torch_base(type(module)))]
        self.needed: list[Callable[..., Any]] = []
        self._texts: dict[tuple[str, int], str] = {}  # by name, and number of those of the name
        self._mentioned: set[str] = set()
        waiting = [name for name in self._names() if self._is_called(name)]
        for name in waiting:
            holder = next(one for one in self._own if name in vars(one))
            for function in _functions_of(vars(holder)[name]):
                self._take(function, holder, function.__name__)
            more = [one for one in self._names() if one in self._mentioned]
            waiting += [one for one in more if one not in waiting]
        indented = (textwrap.indent(text, " " * INDENT) for text in self._texts.values())
        self.text = "\n".join(indented).rstrip()

    def _names(self) -> list[str]:
        """The names of all methods, those of the innermost class first."""
        named = (item for one in self._own for item in vars(one).items())
        return list(dict.fromkeys(name for name, value in named if _functions_of(value)))

    def _is_called(self, name: str) -> bool:
        """True if torch or Python calls a method, be it that no text names it."""
        is_special = name.startswith("__") or hasattr(nn.Module, name)
        return name not in _TELLING and is_special

    def _take(self, function: Callable[..., Any], holder: type, name: str) -> None:
        """Take a method under a name, and those of base classes that it calls."""
        text = without_class(text_of_function(function))
        called: dict[str, tuple[Callable[..., Any], type]] = {}

        def of_base(match: re.Match[str]) -> str:
            bases = self._own[self._own.index(holder) + 1 :]
            base = next((one for one in bases if match[1] in vars(one)), None)
            if base is None:
                return match[0]
            method = vars(base)[match[1]]
            if not inspect.isfunction(method):
                raise UnwritableError(f"its method {name} asks for {match[1]} of {base.__name__}")
            called[f"{base.__name__.lower()}_{match[1]}"] = method, base
            return f"self.{base.__name__.lower()}_{match[1]}"

        text = re.sub(r"\bsuper\(\)\.(\w+)", of_base, text)
        text = re.sub(rf"(?m)^((?:async )?def ){function.__name__}\b", rf"\1{name}", text, count=1)
        self.needed.append(function)
        self._texts[name, sum(one == name for one, _ in self._texts)] = text
        self._mention(text)
        for new, (method, base) in called.items():
            if (new, 0) not in self._texts:
                self._take(method, base, new)

    def _mention(self, text: str) -> None:
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Attribute):
                self._mentioned.add(node.attr)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                self._mentioned.add(node.value)
            is_any = isinstance(node, ast.Call) and ast.unparse(node.func) in ("vars", "getattr")
            if is_any or (isinstance(node, ast.Attribute) and node.attr == "__dict__"):
                self._mentioned |= vars(self._module).keys()

    def attributes(self) -> dict[str, Any]:
        """What they read of the module that is neither a tensor nor a child, nor torch's."""
        plain = vars(nn.Module()).keys()
        held = {name: value for name, value in vars(self._module).items() if name not in plain}
        of_class = {
            name: value
            for one in reversed(self._own)
            for name, value in vars(one).items()
            if not name.startswith("__") and not _functions_of(value)
        }
        read = {**of_class, **held}
        return {name: value for name, value in read.items() if name in self._mentioned}


def _functions_of(value: Any) -> list[Callable[..., Any]]:
    """The functions that a method or property of a class is made of."""
    if isinstance(value, property):
        return [one for one in (value.fget, value.fset) if one is not None]
    function = getattr(value, "__func__", getattr(value, "func", value))
    return [function] if inspect.isfunction(function) else []


def standing_methods(module: nn.Module, texts: OwnTexts) -> Methods:
    """The methods of a module's class, with all that they use defined.

    Raises:
        UnwritableError: a file cannot have it.
    """
    methods = Methods(module)
    beside = {name for one in type(module).__mro__ for name in vars(one)}
    for function in methods.needed:
        text = without_class(text_of_function(function))
        texts.resolve(text, variables_of(function), function.__name__, beside)
    return methods


def stated(name: str, value: Any, texts: OwnTexts) -> Statement:
    """The statement that sets an attribute of a module.

    Raises:
        UnwritableError: no file can state it.
    """
    if not is_name(name):
        raise UnwritableError(
            f"its attribute {shown(repr(name))} has no name that a file can state"
        )
    target = f"self.{name} = "
    if is_statable(value):
        return Statement(target, literal(value))
    if inspect.isfunction(value) and not value.__module__.startswith("torch."):
        return Statement(target, Name(texts.define(value)))
    of_class = getattr(value, "__self__", None)
    if inspect.isclass(of_class):  # as the `apply` of a function with a gradient of its own
        return Statement(target, Name(f"{texts.define(of_class)}.{value.__name__}"))
    if callable(value) and hasattr(value, "__name__") and not inspect.isclass(value):
        called = function_name(value)
        if is_taken(called.partition(".")[0]):  # and no function of another library
            return Statement(target, Name(called))
    raise UnwritableError(
        f"its attribute {shown(name)} is {a_kind(value)}, which no file can state"
    )


def initialised(module: nn.Module) -> tuple[str, Call | None, nn.Module]:
    """What the class of a module derives from, of torch's, and how that is initialised.

    Returns:
        Its name; the call of its constructor, if that is given something; what it makes.

    Raises:
        UnwritableError: what it was given cannot be told.
    """
    base = torch_base(type(module))
    if base is nn.Module or base in CONTAINERS:
        return f"nn.{base.__name__}", None, base()
    call = torch_call(module, base)
    with torch.device("meta"):
        made = base(*call.positional, **call.keywords)
    return call.function, replace(call, function="super().__init__"), made
