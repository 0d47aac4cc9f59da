"""What the tensors of a written class start with, as those of the original's class do.

Their values come from the weights file. Who trains a written network from scratch instead needs
what the original's author chose, which is read in the text of the original's class.
"""

from __future__ import annotations

import ast
import functools
import inspect
import math
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from torch import Tensor, nn

from prunecore.writing.text import Call, Name, Value, source_of


@dataclass(frozen=True)
class Constant:
    """One number everywhere."""

    number: float

    def times(self, factor: float, offset: float) -> Constant:
        """What a multiple of such values, and a number, make."""
        return Constant(self.number * factor + offset)

    def call(self, sizes: Sequence[Value]) -> Call:
        """The call that makes a tensor of these sizes."""
        if self.number in (0, 1):
            function = "torch.ones" if self.number else "torch.zeros"
            return Call(function, tuple(sizes) or ((),))
        return Call("torch.full", (tuple(sizes), float(self.number)))


@dataclass(frozen=True)
class Drawn:
    """Numbers drawn at random: `normal` of a mean and a deviation, `uniform` between two bounds."""

    how: str
    first: float
    second: float

    def times(self, factor: float, offset: float) -> Drawn:
        """What a multiple of such values, and a number, make."""
        if self.how == "normal":
            return Drawn(self.how, self.first * factor + offset, self.second * abs(factor))
        ends = sorted((self.first * factor + offset, self.second * factor + offset))
        return Drawn(self.how, *ends)

    def call(self, sizes: Sequence[Value]) -> Call:
        """The call that makes a tensor of these sizes."""
        if (self.first, self.second) == (0, 1):
            function = "torch.randn" if self.how == "normal" else "torch.rand"
            return Call(function, tuple(sizes) or ((),))
        if self.how == "normal":
            return Call("torch.normal", (self.first, self.second, tuple(sizes)))
        empty = Call("torch.empty", tuple(sizes) or ((),))
        return Call("nn.init.uniform_", (empty, self.first, self.second))


@dataclass(frozen=True)
class Initialised:
    """What a function of `torch.nn.init` makes of a tensor.

    Attributes:
        function: its name.
        keywords: what it is given beside the tensor.
    """

    function: str
    keywords: tuple[tuple[str, Any], ...]

    def call(self, sizes: Sequence[Value]) -> Call:
        """The call that makes a tensor of these sizes."""
        empty = Call("torch.empty", tuple(sizes) or ((),))
        return Call(f"nn.init.{self.function}", (empty,), dict(self.keywords))


@dataclass(frozen=True)
class Bounded:
    """Numbers between two bounds that the layer's weight tells, as of a bias of torch's own layers.

    Attributes:
        bound: the expression of the bound.
    """

    bound = "self.weight[0].numel() ** -0.5"

    def call(self, sizes: Sequence[Value]) -> Call:
        """The call that makes a tensor of these sizes."""
        return Call("nn.init.uniform_", (Call("torch.empty", tuple(sizes)), *_BOUNDS))


_BOUNDS = (Name("-bound"), Name("bound"))

Start: TypeAlias = Constant | Drawn | Initialised | Bounded

_FACTORIES: Mapping[str, Start] = {
    "zeros": Constant(0),
    "zeros_like": Constant(0),
    "new_zeros": Constant(0),
    "ones": Constant(1),
    "ones_like": Constant(1),
    "new_ones": Constant(1),
    "randn": Drawn("normal", 0, 1),
    "randn_like": Drawn("normal", 0, 1),
    "rand": Drawn("uniform", 0, 1),
    "rand_like": Drawn("uniform", 0, 1),
}
# Methods of a tensor whose numbers are those of the tensor, elsewhere or once more.
_PASSING = """
    clone contiguous detach double expand flatten float half permute repeat reshape squeeze tile to
    transpose unsqueeze view
"""
_INITIALISE = """
    constant_ kaiming_normal_ kaiming_uniform_ normal_ ones_ orthogonal_ trunc_normal_ uniform_
    xavier_normal_ xavier_uniform_ zeros_
"""
_PARAMETER = ("Parameter", "register_parameter", "register_buffer", "Buffer")


def start_of(module: nn.Module, key: str) -> Start | None:
    """What a parameter or buffer starts with, as the text of its module's class says.

    Args:
        module: holds it; what torch's own layers start with is known.
        key: its name there.

    Returns:
        What makes it; `None` where the text is not there, or not understood.
    """
    classes: tuple[Any, ...] = type(module).__mro__
    for cls in classes:
        if not issubclass(cls, nn.Module) or cls is nn.Module:
            continue
        if cls.__module__.startswith("torch.nn.modules."):
            found = _of_layer(module, key)
        else:
            found = _Text(module, key).found(_methods(cls))
        if found is not None:
            return found
    return None


def like(tensor: Tensor) -> Start:
    """Numbers of the mean and the deviation that a tensor has, to two digits."""
    values = tensor.detach().double()
    mean, deviation = (
        float(f"{number:.2g}") for number in (values.mean(), values.std(correction=0))
    )
    if not math.isfinite(mean + deviation):
        return Constant(0)
    return Drawn("normal", mean, deviation) if deviation else Constant(mean)


def _of_layer(module: nn.Module, key: str) -> Start | None:
    """What torch's own layers start with: convolutions, linear layers and norms."""
    weight = getattr(module, "weight", None)
    if key not in ("weight", "bias") or not isinstance(weight, Tensor):
        return None
    if weight.ndim < 2:
        return Constant(float(key == "weight")) if hasattr(module, "eps") else None
    if isinstance(module, nn.Embedding):
        return Drawn("normal", 0, 1)
    if key == "weight":
        return Initialised("kaiming_uniform_", (("a", Name("5**0.5")),))
    stored = list(module._parameters)
    if {"weight", key} <= {*stored} and stored.index("weight") < stored.index(key):
        return Bounded()
    bound = float(f"{1 / math.sqrt(weight[0].numel()):.3g}")
    return Drawn("uniform", -bound, bound)


@functools.cache
def _methods(cls: Any) -> tuple[_Method, ...]:
    """The methods in the text of a class, `__init__` first; none where there is no text."""
    try:
        text = textwrap.dedent(source_of(cls))
    except (OSError, TypeError):
        return ()
    body = next((node.body for node in ast.parse(text).body if isinstance(node, ast.ClassDef)), [])
    methods = [node for node in body if isinstance(node, ast.FunctionDef)]
    return tuple(map(_Method.of, sorted(methods, key=lambda method: method.name != "__init__")))


@dataclass(frozen=True)
class _Method:
    """A method in the text of a class.

    Attributes:
        instance: what it calls the module that it is called on, `self`.
        defaults: of its arguments, by name.
        nodes: the calls and assignments in it.
    """

    instance: str
    defaults: Mapping[str, ast.expr]
    nodes: Sequence[ast.Call | ast.Assign | ast.AnnAssign]

    @classmethod
    def of(cls, method: ast.FunctionDef) -> _Method:
        """What is read of a method."""
        names = [argument.arg for argument in method.args.args]
        given = method.args.defaults
        return cls(
            names[0] if names else "",
            dict(zip(names[len(names) - len(given) :], given, strict=True)),
            [x for x in ast.walk(method) if isinstance(x, ast.Call | ast.Assign | ast.AnnAssign)],
        )


class _Text:
    """Reads in the text of a module's class what one of its tensors starts with."""

    def __init__(self, module: nn.Module, key: str) -> None:
        self._module, self._key = module, key
        self._defaults: Mapping[str, ast.expr] = {}
        self._self = "self"  # what the method calls it that is read

    def found(self, methods: Sequence[_Method]) -> Start | None:
        """The last that the methods say: what a function of `torch.nn.init` does after all else."""
        for method in methods[:1]:
            self._defaults = method.defaults
        made: list[Start] = []
        filled: list[Start] = []
        for method in methods:
            self._self = method.instance
            for node in method.nodes:
                made += self._made(node)
                filled += self._filled(node)
        return next(reversed([*made, *filled]), None)

    def _made(self, node: ast.AST) -> Iterator[Start]:
        """`self.key = nn.Parameter(...)`, `self.register_buffer("key", ...)`."""
        value: ast.expr | None = None
        if isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if any(self._is_own(target) for target in targets):
                value = node.value
        elif isinstance(node, ast.Call) and _name(node.func) in _PARAMETER and len(node.args) > 1:
            name = node.args[0]
            if isinstance(name, ast.Constant) and name.value == self._key:
                value = node.args[1]
        start = None if value is None else self._start(value)
        if start is not None:
            yield start

    def _filled(self, node: ast.AST) -> Iterator[Start]:
        """`nn.init.normal_(self.key, std=0.02)`, `self.key.data.fill_(0.5)`."""
        if not isinstance(node, ast.Call):
            return
        function = _name(node.func)
        if node.args and self._is_own(node.args[0]) and function in _INITIALISE.split():
            start = self._by_init(function, node)
        elif isinstance(node.func, ast.Attribute) and self._is_own(node.func.value):
            start = self._by_method(function, node)
        else:
            return
        if start is not None:
            yield start

    def _is_own(self, node: ast.expr) -> bool:
        """True for `self.key` and its `.data`."""
        if isinstance(node, ast.Attribute) and node.attr == "data":
            node = node.value
        return (
            isinstance(node, ast.Attribute)
            and node.attr == self._key
            and isinstance(node.value, ast.Name)
            and node.value.id == self._self
        )

    def _start(self, node: ast.expr) -> Start | None:
        """What an expression that makes a tensor makes."""
        if isinstance(node, ast.BinOp):
            return self._computed(node)
        if not isinstance(node, ast.Call):
            return None
        function = _name(node.func)
        inner = node.func.value if isinstance(node.func, ast.Attribute) else None
        if function in ("Parameter", "Buffer") and node.args:
            return self._start(node.args[0])
        if function in _FACTORIES:
            return _FACTORIES[function]
        if function in ("full", "full_like") and len(node.args) > 1:
            number = self._number(node.args[1])
            return None if number is None else Constant(number)
        if function in ("tensor", "Tensor", "FloatTensor") and node.args:
            return self._literal(node.args[0])
        if node.args and function in _INITIALISE.split():
            return self._by_init(function, node)
        filled = self._by_method(function, node)
        if filled is None and inner is not None and function in _PASSING.split():
            return self._start(inner)
        return filled

    def _computed(self, node: ast.BinOp) -> Start | None:
        """A multiple of what is made, or a number more."""
        tensor, number = self._start(node.left), self._number(node.right)
        if tensor is None:
            tensor, number = self._start(node.right), self._number(node.left)
            if isinstance(node.op, ast.Sub | ast.Div):
                return None
        if number is None or not isinstance(tensor, Constant | Drawn):
            return None
        match node.op:
            case ast.Mult():
                return tensor.times(number, 0)
            case ast.Div() if number:
                return tensor.times(1 / number, 0)
            case ast.Add():
                return tensor.times(1, number)
            case ast.Sub():
                return tensor.times(1, -number)
        return None

    def _literal(self, node: ast.expr) -> Start | None:
        """Equal numbers in lists."""
        leaves = [node]
        while any(isinstance(leaf, ast.List | ast.Tuple) for leaf in leaves):
            leaves = [
                inner
                for leaf in leaves
                for inner in (leaf.elts if isinstance(leaf, ast.List | ast.Tuple) else [leaf])
            ]
        numbers = {self._number(leaf) for leaf in leaves}
        number = numbers.pop() if len(numbers) == 1 else None
        return None if number is None else Constant(number)

    def _by_init(self, function: str, node: ast.Call) -> Start | None:
        """A function of `torch.nn.init`, if what it is given are numbers and texts."""
        signature = inspect.signature(getattr(nn.init, function))
        values = {keyword.arg: keyword.value for keyword in node.keywords}
        values |= dict(zip(list(signature.parameters)[1:], node.args[1:], strict=False))
        given = {name: self._value(value) for name, value in values.items() if name != "generator"}
        if None in given or None in given.values():
            return None
        match function:
            case "zeros_" | "ones_":
                return Constant(float(function == "ones_"))
            case "constant_":
                return Constant(given["val"])
        return Initialised(function, tuple((str(name), value) for name, value in given.items()))

    def _by_method(self, function: str, node: ast.Call) -> Start | None:
        """`.fill_(1)`, `.zero_()`, `.normal_(0, 0.02)`, `.uniform_(-1, 1)`."""
        defaults = {"fill_": (), "zero_": (), "normal_": (0, 1), "uniform_": (0, 1)}.get(function)
        if defaults is None or node.keywords:
            return None
        given = [self._number(value) for value in node.args]
        numbers = [number for number in given if number is not None]
        if len(numbers) < len(given):
            return None
        numbers += defaults[len(numbers) :]
        if function in ("fill_", "zero_"):
            return Constant(numbers[0] if numbers else 0)
        return Drawn(function.removesuffix("_"), numbers[0], numbers[1])

    def _number(self, node: ast.expr) -> float | None:
        value = self._value(node)
        return value if isinstance(value, int | float) else None

    def _value(self, node: ast.expr) -> Any:
        """What an expression is that is written out, or is an attribute or default of the module's.

        Returns:
            A number or text; `None` where it is not known.
        """
        match node:
            case ast.Constant(value=bool() | int() | float() | str() as value):
                return value
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                number = self._number(operand)
                return None if number is None else -number
            case ast.BinOp(left=left, op=ast.Pow(), right=right):
                base, exponent = self._number(left), self._number(right)
                return None if base is None or exponent is None else base**exponent
            case ast.Call(func=func, args=[argument]) if _name(func) == "sqrt":
                number = self._number(argument)
                return None if number is None or number < 0 else math.sqrt(number)
            case ast.Attribute(value=ast.Name(), attr=name) | ast.Name(id=name):
                held = vars(self._module).get(name)
                if isinstance(held, int | float):
                    return held
                default = self._defaults.get(name)
                return default.value if isinstance(default, ast.Constant) else None
        return None


def _name(function: ast.expr) -> str:
    """The last name of what is called: `normal_` of `nn.init.normal_`."""
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else ""
