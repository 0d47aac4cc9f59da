"""Functions of Python that ask what they are given, as a traced forward calls them instead."""

from __future__ import annotations

import builtins
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor

from prunecore.tracing.stand_ins.numbers import OF_SIZES
from prunecore.tracing.stand_ins.proxies import Known, is_any


def length_of(value: Any, /) -> Any:
    """Python's `len`, which may be told of a tensor, and is then a part of the trace."""
    if builtins.isinstance(value, Known) and builtins.isinstance(value.tracer.known(value), Tensor):
        return value.tracer.create_proxy("call_function", builtins.len, (value,), {})
    return builtins.len(value)


def range_of(*ends: Any) -> range:
    """Python's `range`, which may end at a size: the trace is for that alone."""
    return builtins.range(
        *(end.as_number() if builtins.isinstance(end, Known) else end for end in ends)
    )


def is_callable(value: Any, /) -> bool:
    """Python's `callable`, by which a stand-in for a tensor or number is as little as that."""
    return builtins.callable(value) and not builtins.isinstance(value, Known)


_FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "callable": is_callable,
    "isinstance": is_any,
    "len": length_of,
    "range": range_of,
    **OF_SIZES,
}


@contextmanager
def answering(asking: Sequence[tuple[dict[str, Any], str]]) -> Iterator[None]:
    """Let modules of Python call these in the place of Python's own.

    Args:
        asking: their variables, with the function that they call.
    """
    before = [(variables, name, variables.get(name)) for variables, name in asking]
    try:
        for variables, name in asking:
            variables[name] = _FUNCTIONS[name]
        yield
    finally:
        for variables, name, own in before:
            if own is None:
                variables.pop(name, None)
            else:
                variables[name] = own


def counting(error: Exception | None) -> list[tuple[dict[str, Any], str]]:
    """The variables of the module that lets Python count to a stand-in, if an error says so."""
    if not isinstance(error, TypeError) or "interpreted as an integer" not in str(error):
        return []
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    return [(frame.f_globals, "range")]
