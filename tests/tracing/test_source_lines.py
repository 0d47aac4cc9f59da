"""An error about a forward names the line of the user's that leads there."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from prunecore import UnsupportedError
from prunecore.errors import InputShapeError


def helped(x: Tensor) -> Tensor:
    return torch.fft.fft(x).real  # the helper's line


class Calls(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        x = x + 1
        return torch.fft.fft(x).real  # the call's line


class Helped(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return helped(x)


class Holds(nn.Module):
    """Calls a module of torch that no plugin knows."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.FractionalMaxPool2d(2, output_size=2)

    def forward(self, x: Tensor) -> Tensor:
        x = x + 1
        return self.inner(x)  # the holder's line


class Recurs(nn.Module):
    """Calls a module of torch whose own forward cannot be traced."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.LSTM(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x)[0]  # what calls it


@pytest.mark.parametrize(
    ("cls", "path", "line"),
    [
        (Calls, "0", "return torch.fft.fft(x).real  # the call's line"),
        (Helped, "0", "return torch.fft.fft(x).real  # the helper's line"),
        (Holds, "0.inner", "return self.inner(x)  # the holder's line"),
        (Recurs, "0.inner", "return self.inner(x)[0]  # what calls it"),
    ],
)
def test_a_refusal_names_the_line_of_the_forward(
    find: Callable[..., Any], cls: type[nn.Module], path: str, line: str
) -> None:
    with pytest.raises(UnsupportedError) as caught:
        find(nn.Sequential(cls()), (2, 3, 8, 8))
    source = inspect.getsource(inspect.getmodule(cls)).splitlines()  # type: ignore[arg-type]
    number = 1 + next(number for number, text in enumerate(source) if text.strip() == line)
    assert caught.value.path == path
    assert caught.value.line == (__file__, number)
    assert f" ({__file__}:{number}, `{line}`).\n" in str(caught.value)


def test_a_shape_that_does_not_fit_is_told_with_its_line(find: Callable[..., Any]) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Conv2d(4, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.inner(x)

    line = r"test_source_lines\.py:\d+, `return self\.inner\(x\)`\)\."
    with pytest.raises(InputShapeError, match=line):
        find(Net(), (2, 3, 8, 8))


def test_a_line_without_a_file_is_named_by_its_number(find: Callable[..., Any]) -> None:
    space: dict[str, Any] = {"nn": nn, "torch": torch}
    exec("class Net(nn.Module):\n def forward(self, x):\n  return torch.fft.fft(x)\n", space)
    with pytest.raises(UnsupportedError, match=r"\(<string>:3\)\."):
        find(space["Net"](), (2, 3))


def test_the_line_of_whoever_asks_for_a_trace_is_none_of_it(find: Callable[..., Any]) -> None:
    with pytest.raises(UnsupportedError) as caught:
        find(ReturnsRecord(), (2, 3))
    assert "calls Answer, and there is no rule" in str(caught.value)
    assert "find(ReturnsRecord" not in str(caught.value)


@dataclasses.dataclass
class Answer:
    scores: Any


class ReturnsRecord(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(3, 8), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Any:
        return Answer(self.last(self.first(x)))
