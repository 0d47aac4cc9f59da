"""No name or constant of a network becomes code: it is written as what it is, or refused by name.

Each name of a long list is put where a network can hold one, and the network is pruned. Either the
written file computes what the masked original does, under the same keys, or one or two sentences
say what cannot be written.
"""

from __future__ import annotations

import ast
import builtins
import functools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import prunecore
from prunecore.errors import PrunecoreError, UnsupportedError, UsageError, WeightsError
from prunecore.plugins import loading

from ..oracle import check_imports
from .constants import ALL_HOLDERS, HOLDERS, Holder
from .names import CANARY, NAMES, described
from .nets import SHAPE
from .places import ALL_PLACES, PLACES, Place
from .texts import layer_option

# What Python and torch themselves say of a name that cannot stand in a place.
_REFUSED = (AttributeError, KeyError, SyntaxError, TypeError, UnicodeEncodeError, ValueError)


def _cases() -> Iterator[Any]:
    for place, names in ALL_PLACES.items():
        for name in dict.fromkeys(names):
            try:
                place(name)
            except _REFUSED:
                continue
            marks = [] if name in PLACES[place] else [pytest.mark.slow]
            yield pytest.param(place, name, id=f"{place.__name__}-{described(name)}", marks=marks)


CASES = list(_cases())
PLUGINS = functools.cache(loading.load)  # once for all of so many networks


@pytest.fixture(autouse=True)
def ran(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """What code in a name has run: nothing."""
    calls: list[Any] = []
    monkeypatch.setattr(loading, "load", PLUGINS)
    monkeypatch.setattr(builtins, CANARY, lambda *given: calls.append(given), raising=False)
    yield calls
    assert calls == []


@pytest.mark.parametrize(("place", "name"), CASES)
def test_a_name_is_written_or_refused(place: Place, name: str) -> None:
    net = place(name)
    runs = place is not layer_option
    try:
        small = prunecore.prune(net, level=30, input_shape=SHAPE, name="net", verify=runs)
    except PrunecoreError as error:
        check_refusal(error, name)
        return
    check_text(small.source)
    left_out = tuple(f"{path}." for path in small.report["left_out"])
    kept = [key for key in net.state_dict() if not key.startswith(left_out)]
    assert list(small.model.state_dict()) == kept


def check_refusal(error: PrunecoreError, name: str) -> None:
    """One or two sentences of what a terminal can show, with the name in them."""
    assert isinstance(error, UnsupportedError | UsageError | WeightsError), error
    text = str(error)
    assert text.count("\n") <= 1
    assert len(text) < 1500
    assert text.replace("\n", "").isprintable()
    start = name[:16]
    assert repr(start)[1:-1] in text or start in text or ascii(start)[1:-1] in text


def check_text(source: str) -> None:
    """Nothing in a file is hidden from who reads it, or taken from nowhere."""
    assert source.replace("\n", "").isprintable()
    check_imports(source)
    compile(source, "net", "exec")
    tree = ast.parse(source)
    assert CANARY not in {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    assert not _undefined(tree)


def _undefined(tree: ast.Module) -> set[str]:
    """The names that are read and given nowhere."""
    given = set(dir(builtins)) - {CANARY}
    read = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            given.add(node.name)
        elif isinstance(node, ast.arg):
            given.add(node.arg)
        elif isinstance(node, ast.alias):
            given.add((node.asname or node.name).partition(".")[0])
        elif isinstance(node, ast.Name):
            (read if isinstance(node.ctx, ast.Load) else given).add(node.id)
    return read - given


def test_there_are_over_a_thousand_cases() -> None:
    assert len(CASES) > 1000
    assert len(NAMES) == len(set(NAMES))
    assert isinstance(CASES[0].values[0]("a"), nn.Module)


def _values() -> Iterator[Any]:
    for holder, values in ALL_HOLDERS.items():
        for number, value in enumerate(values):
            try:
                net = holder(value)
                with torch.no_grad():
                    net(torch.rand(2, *SHAPE))
            except Exception:  # it is no value for that place
                continue
            marks = [] if number < len(HOLDERS[holder]) else [pytest.mark.slow]
            yield pytest.param(holder, value, id=f"{holder.__name__}-{number}", marks=marks)


VALUES = list(_values())


@pytest.mark.parametrize(("holder", "value"), VALUES)
def test_a_value_is_written_or_refused(holder: Holder, value: Any) -> None:
    torch.manual_seed(0)  # whether a value is met at all depends on the weights
    net = holder(value).eval()
    x = torch.rand(2, *SHAPE)
    with torch.no_grad():
        expected = net(x)
    tensor = next(iter(expected.values())) if isinstance(expected, dict) else expected
    try:
        small = prunecore.prune(
            net, level=30, input_shape=SHAPE, name="net", verify=bool(tensor.isfinite().all())
        )
    except PrunecoreError as error:
        check_refusal(error, "")
        return
    check_text(small.source)
    with torch.no_grad():
        actual = small.model.eval()(x)
    if isinstance(expected, dict):
        assert list(map(_marked, actual)) == list(map(_marked, expected))
        assert _marked(actual.get("other")) == _marked(expected.get("other"))


def _marked(value: Any) -> Any:
    """A value that is equal to its like alone: NaN to NaN, but -0.0 not to 0.0, nor True to 1.

    Of a number it is what the text of one states: without the rounding of what computed it.
    """
    if isinstance(value, float):
        return "float", format(value, ".12g")
    if isinstance(value, bool | np.bool_):
        return "bool", bool(value)
    if isinstance(value, complex):
        return "complex", _marked(value.real), _marked(value.imag)
    if isinstance(value, np.floating):
        return _marked(float(value))
    if isinstance(value, tuple | list):
        return type(value) is list, [_marked(item) for item in value]
    if isinstance(value, dict):
        return [(_marked(key), _marked(item)) for key, item in value.items()]
    if isinstance(value, str):
        return str.__str__(value)
    return value
