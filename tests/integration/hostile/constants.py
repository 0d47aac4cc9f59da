"""Values that a forward or a layer can hold and whose own text is no Python, or another value's."""

from __future__ import annotations

import enum
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .names import FEW, RUNS
from .nets import Net


class Half(float):
    def __repr__(self) -> str:
        return RUNS

    __str__ = __repr__


class Three(int):
    def __repr__(self) -> str:
        return RUNS

    def __int__(self) -> int:
        return 4

    __str__ = __repr__


class Word(str):
    def __repr__(self) -> str:
        return RUNS

    def __format__(self, _: str) -> str:
        return RUNS

    __str__ = __repr__
    replace = count = lambda self, *_: self


class Kind(str, enum.Enum):
    BOTH = 'a"b'


class Number(enum.IntEnum):
    THREE = 3


class Thing:
    def __repr__(self) -> str:
        return RUNS


NUMBERS: tuple[Any, ...] = (
    0.1 + 0.2,
    -0.0,
    5e-324,
    1e22,
    1.7976931348623157e308,
    math.inf,
    -math.inf,
    math.nan,
    2**62,
    -3,
    np.float64(0.5),
    np.float32(0.1),
    np.int64(3),
    Half(0.5),
    Three(3),
    Number.THREE,
    True,
)
TEXTS: tuple[Any, ...] = ("", f'"]; {RUNS} #', "\ud800\n", Word("word"), Kind.BOTH, np.str_("a'b"))
OTHERS: tuple[Any, ...] = (
    None,
    ...,
    10**5000,
    -(10**5000),
    1j,
    complex(-0.0, math.nan),
    complex(math.inf, -math.inf),
    b"\0'\"\xff",
    np.bool_(True),
    torch.float16,
    torch.channels_last,
    torch.strided,
    torch.device("cpu"),
    torch.Size([2, 3]),
    (1,),
    [1, "a\n", (math.nan, {"b'": -0.0})],
    {"": 1, 2: 3, (1, "a"): None, None: [], True: 4, 0.5: "x", -math.inf: 1},
    Thing(),
    {Thing(): 1},
    [{1, 2}],
    range(3),
    frozenset({1}),
    Thing,
    print,
    np.arange(3),
    np.datetime64("2020-01-01"),
    enum.Enum("Own", "A").A,
)


def returned(value: Any) -> nn.Module:
    """Beside the tensor that the network returns."""

    class Net2(Net):
        def forward(self, x: Tensor) -> dict[str, Any]:
            return {"y": self.last(F.relu(self.first(x))), "other": value}

    return Net2()


def key(value: Any) -> nn.Module:
    """As the key of a tensor that the network returns."""

    class Net2(Net):
        def forward(self, x: Tensor) -> dict[Any, Tensor]:
            return {value: self.last(F.relu(self.first(x)))}

    return Net2()


def handed_on(value: Any) -> nn.Module:
    """To a module within, by place."""

    class Inner(nn.Module):
        def forward(self, x: Tensor, given: Any) -> tuple[Tensor, Any]:
            return F.relu(x), given

    class Net2(Net):
        def __init__(self) -> None:
            super().__init__()
            self.inner = Inner()

        def forward(self, x: Tensor) -> dict[str, Any]:
            x, other = self.inner(self.first(x), value)
            return {"y": self.last(x), "other": other}

    return Net2()


def default(value: Any) -> nn.Module:
    """As the default of an argument of a module's forward."""

    class Inner(nn.Module):
        def forward(self, x: Tensor, given: Any = value) -> tuple[Tensor, Any]:
            return F.relu(x), given

    class Net2(Net):
        def __init__(self) -> None:
            super().__init__()
            self.inner = Inner()

        def forward(self, x: Tensor) -> dict[str, Any]:
            x, other = self.inner(self.first(x))
            return {"y": self.last(x), "other": other}

    return Net2()


def held(value: Any) -> nn.Module:
    """In an attribute that the forward reads."""

    class Net2(Net):
        def __init__(self) -> None:
            super().__init__()
            self.held = value

        def forward(self, x: Tensor) -> dict[str, Any]:
            return {"y": self.last(F.relu(self.first(x))), "other": self.held}

    return Net2()


def factor(value: Any) -> nn.Module:
    """As a factor that each of two instances has another one of."""

    class Inner(nn.Module):
        def __init__(self, by: Any) -> None:
            super().__init__()
            self.by = by

        def forward(self, x: Tensor) -> Tensor:
            return F.relu(x.clamp(max=self.by))

    class Net2(Net):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.other = Inner(value), Inner(2.5)

        def between(self, x: Tensor) -> Tensor:
            return self.other(self.one(x))

    return Net2()


def layer(value: Any) -> nn.Module:
    """In an attribute of one of torch's layers."""

    class Net2(Net):
        def __init__(self) -> None:
            super().__init__()
            self.act = nn.LeakyReLU(value)

        def between(self, x: Tensor) -> Tensor:
            return self.act(x)

    return Net2()


def buffer(value: Any) -> nn.Module:
    """In a buffer that is written out."""

    class Net2(Net):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("held", torch.tensor([value, 1]), persistent=False)

        def between(self, x: Tensor) -> Tensor:
            return x.clamp(min=self.held[0])

    return Net2()


Holder = Callable[[Any], nn.Module]

HOLDERS: dict[Holder, tuple[Any, ...]] = {
    returned: (*FEW, *NUMBERS, *TEXTS, *OTHERS),
    key: (*NUMBERS, *TEXTS, *OTHERS),
    handed_on: (*NUMBERS, *TEXTS),
    held: (*NUMBERS, *TEXTS),
    default: (*NUMBERS, *TEXTS),
    factor: NUMBERS,
    layer: NUMBERS,
    buffer: NUMBERS,
}
ALL_HOLDERS = HOLDERS | dict.fromkeys((handed_on, held), (*NUMBERS, *TEXTS, *OTHERS))
