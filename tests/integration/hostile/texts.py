"""Small networks that hold a name as a class's, in a text, or in a forward's own code."""

from __future__ import annotations

import inspect
from collections import namedtuple
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .nets import Net


def class_name(name: str) -> nn.Module:
    """The network's class."""

    class Own(Net):
        pass

    return _named(Own, name)()


def _named(made: Any, name: str) -> Any:
    made.__name__ = made.__qualname__ = name
    return made


def inner_class_name(name: str) -> nn.Module:
    """The class of a module that is written as a class of its own."""

    class Inner(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(8, 8)

        def forward(self, x: Tensor) -> Tensor:
            return F.relu(self.layer(x)).clamp(max=float("inf"))

    return _twice(_named(Inner, name))


def row_class_name(name: str) -> nn.Module:
    """The class of containers that add nothing but a name to nn.Sequential."""

    class Inner(nn.Sequential):
        def __init__(self) -> None:
            super().__init__(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.ReLU())

    return _twice(_named(Inner, name))


def _twice(inner: Callable[[], nn.Module]) -> nn.Module:
    class Net2(Net):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two, self.three = inner(), inner(), inner()

        def between(self, x: Tensor) -> Tensor:
            return self.three(self.two(self.one(x)))

    return Net2()


def module_name(name: str) -> nn.Module:
    """The module of the network's class."""

    class Own(Net):
        pass

    Own.__module__ = name
    return Own()


def qualified_name(name: str) -> nn.Module:
    """The qualified name of the network's class."""

    class Own(Net):
        pass

    Own.__qualname__ = name
    return Own()


def tuple_name(name: str) -> nn.Module:
    """The class of a named tuple that the network returns."""
    return _returning(_named(namedtuple("Out", ["a", "b"]), name))


def tuple_field(name: str) -> nn.Module:
    """A field of a named tuple that the network returns."""
    return _returning(namedtuple("Out", [name, "b"]))  # type: ignore[misc]


def _returning(made: Any) -> nn.Module:
    class Net2(Net):
        def __init__(self) -> None:
            super().__init__()
            self.other = nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Any:
            x = F.relu(self.first(x))
            return made(self.last(x), self.other(x))

    return Net2()


def message(name: str) -> nn.Module:
    """A text that a forward hands to a function."""

    class Net2(Net):
        def between(self, x: Tensor) -> Tensor:
            torch._assert(x.shape[0] > 0, name)
            return x

    return Net2()


def word(name: str) -> nn.Module:
    """A text that a forward hands to a module, which chooses by it."""

    class Inner(nn.Module):
        def forward(self, x: Tensor, how: str) -> dict[str, Tensor]:
            return {how: F.relu(x) if how == name else x}

    class Net2(Net):
        def __init__(self) -> None:
            super().__init__()
            self.inner = Inner()

        def between(self, x: Tensor) -> Tensor:
            return self.inner(x, name)[name]

    return Net2()


def keyword(name: str) -> nn.Module:
    """An argument that a forward hands to a module by its name."""
    if not name.isidentifier():
        raise ValueError(name)
    inner = _compiled(name, f"def forward(self, x, *, {name}): return relu(x + {name})")

    class Net2(Net):
        def __init__(self) -> None:
            super().__init__()
            self.inner = inner

        def between(self, x: Tensor) -> Tensor:
            (only,) = inspect.signature(inner.forward).parameters.keys() - {"x"}
            return self.inner(x, **{only: x})

    return Net2()


def argument(name: str) -> nn.Module:
    """A parameter of a forward."""
    return _compiled(
        name, f"def forward(self, {name}): return self.last(bounded(relu(self.first({name}))))"
    )


def itself(name: str) -> nn.Module:
    """What a forward calls its module."""
    return _compiled(name, f"def forward({name}, x): return {name}.last(relu({name}.first(x)))")


def local(name: str) -> nn.Module:
    """A variable of a forward."""
    return _compiled(
        name,
        f"""def between(self, x):
        {name} = bounded(x)
        x = cat([{name} + 1, {name} * 2], 1).unflatten(1, (2, 8)).sum(1)
        return relu(x * {name})""",
    )


def _compiled(name: str, method: str) -> nn.Module:
    if not name.isidentifier():
        raise ValueError(name)
    known = {"relu": torch.relu, "cat": torch.cat, "bounded": _bounded}
    made: dict[str, Any] = {}
    exec(compile(method, __file__, "exec"), known, made)
    return type("Net2", (Net,), made)()


def _bounded(x: Tensor) -> Tensor:
    return x.clamp(max=float("inf"))


def layer_option(name: str) -> nn.Module:
    """A text that a layer of torch's holds, and that means nothing to it."""

    class Net2(Net):
        def __init__(self) -> None:
            super().__init__()
            self.act = nn.GELU(name)

        def between(self, x: Tensor) -> Tensor:
            return self.act(x)

    return Net2()
