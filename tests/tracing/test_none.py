"""`None` that a child returns, alone or beside tensors, is what the caller's forward tests for."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import pytest
from torch import Tensor, nn

from prunecore import UnsupportedError
from prunecore.tracing.modules.forwards import may_return_none


class Pair(nn.Module):
    """Returns two things, of which the second may be nothing."""

    def __init__(self, both: bool) -> None:
        super().__init__()
        self.high = nn.Conv2d(6, 6, 1)
        self.low = nn.Conv2d(6, 6, 1) if both else None

    def forward(self, x: Tensor) -> Any:
        return self.high(x), (self.low(x) if self.low is not None else None)


class Named(nn.Module):
    def __init__(self, both: bool) -> None:
        super().__init__()
        self.pair = Pair(both)

    def forward(self, x: Tensor) -> dict[Any, Any]:
        high, low = self.pair(x)
        return {"high": high, "low": low}


class Log(nn.Module):
    """Returns nothing."""

    def forward(self, x: Tensor) -> None:
        self.shape = x.shape


class Perhaps(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(6, 6, 1)

    def forward(self, x: Tensor) -> Any:
        return self.conv(x) if x.shape[1] > 6 else None


class Net(nn.Module):
    def __init__(self, child: nn.Module, run: Callable[[nn.Module, Tensor], Tensor]) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 6, 1), nn.Conv2d(6, 2, 1)
        self.child, self.run = child, run

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.run(self.child, self.first(x)))


def unpacked(child: nn.Module, x: Tensor) -> Tensor:
    high, low = child(x)
    if low is not None:
        high = high + low.sigmoid()
    return high  # type: ignore[no-any-return]


def by_place(child: nn.Module, x: Tensor) -> Tensor:
    out = child(x)
    return out[0] if out[-1] is None else out[0] + out[1]


def compared(child: nn.Module, x: Tensor) -> Tensor:
    out = child(x)
    return out[0] + out[1] if x != None and out[1] != None else out[0]  # noqa: E711


def by_name(child: nn.Module, x: Tensor) -> Tensor:
    out = child(x)
    return out["high"] if out["low"] is None else out["high"] + out["low"]


def perhaps(child: nn.Module, x: Tensor) -> Tensor:
    y = child(x)
    return x if y is None else x + y


@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize(
    ("kind", "run"), [(Pair, unpacked), (Pair, by_place), (Pair, compared), (Named, by_name)]
)
def test_one_of_two_that_a_child_returns_may_be_none(
    cut: Callable[..., Any], kind: Callable[[bool], nn.Module], run: Any, both: bool
) -> None:
    assert ("self.low(" in cut(Net(kind(both), run), 3, 4, 4).text) is both


@pytest.mark.parametrize("make", [Log, Perhaps])
def test_a_child_that_returns_none_is_called_all_the_same(
    cut: Callable[..., Any], make: Callable[[], nn.Module]
) -> None:
    result = cut(Net(make(), perhaps), 3, 4, 4)
    assert result.forward == "x = self.first(x)\nself.child(x)\nreturn self.last(x)"


def test_which_functions_may_return_none() -> None:
    assert list(map(may_return_none, (perhaps, Log.forward, Perhaps.forward, Pair.forward))) == [
        False,
        True,
        True,
        False,
    ]


class Hidden(nn.Module):
    """Returns nothing, which its code does not tell."""

    def forward(self, x: Tensor) -> Any:
        return {}.get(x.ndim)


def test_no_operator_takes_none_for_a_tensor(find: Callable[..., Any]) -> None:
    with pytest.raises(UnsupportedError, match="of its operands one is None"):
        find(Net(Hidden(), perhaps), (2, 3, 4, 4))


class Output(OrderedDict[str, Any]):
    """A dictionary that has its items for attributes."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


class Outputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(6, 6, 1)

    def forward(self, x: Tensor) -> Output:
        return Output(last=self.conv(x), hidden=[x, x * 2], mask=None)


def by_attribute(child: nn.Module, x: Tensor) -> Tensor:
    out = child(x)
    return out.last + out.hidden[1] if out.mask is None else out.mask


def test_the_items_of_a_dictionary_may_be_its_attributes(cut: Callable[..., Any]) -> None:
    result = cut(Net(Outputs(), by_attribute), 3, 4, 4)
    assert 'out["last"] + out["hidden"][1]' in result.forward


def test_an_attribute_that_a_dictionary_has_not_is_no_traceback(find: Callable[..., Any]) -> None:
    with pytest.raises(UnsupportedError, match="calls getattr in a form that its rule cannot read"):
        find(Net(Outputs(), lambda child, x: child(x).missing), (2, 3, 4, 4))
