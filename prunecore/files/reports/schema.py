"""What a report has: its keys, what is expected under each, and whether a value is that."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from typing import Any

from prunecore.escaping import shown_value
from prunecore.files.shards import is_beside

SCHEMA = 1

TRAININGS = ("on_step", "trained")  # of the steps: the user's between two of pruning, and after all

_Fits = Callable[[Any], bool]


def what_is_wrong(report: Any) -> str | None:
    """What a report does not have as it should, with what is expected; `None` where it is one."""
    if not isinstance(report, dict):
        return f"expected a mapping, not {shown_value(report)}"
    schema = report.get("schema")
    if not (_is_whole(schema) and schema == SCHEMA):
        return f"schema: expected {SCHEMA}, not {shown_value(schema)}"
    for key, (expected, fits) in _EXPECTED.items():
        if key not in report:
            return f"{key} is missing"
        if not fits(report[key]):
            return f"{key}: expected {expected}, not {shown_value(report[key])}"
    return None


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


_MOST = 2**64  # what is larger is no count, and cannot be told of as a float


def _is_hash(value: Any) -> bool:
    return _is_text(value) and len(value) == 64 and not set(value) - set("0123456789abcdef")


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _MOST


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return _is_whole(value) or (isinstance(value, float) and math.isfinite(value))


def _is_list(fits: _Fits) -> _Fits:
    return lambda value: isinstance(value, list) and all(map(fits, value))


def _has(**keys: _Fits) -> _Fits:
    return lambda value: (
        isinstance(value, dict)
        and all(key in value and fits(value[key]) for key, fits in keys.items())
    )


def _maps_names_to(fits: _Fits) -> _Fits:
    return lambda value: isinstance(value, dict) and all(map(fits, value.values()))


def _is_shape(value: Any) -> bool:
    return (
        isinstance(value, list) and bool(value) and all(_is_whole(size) and size for size in value)
    )


def _is_input(value: Any) -> bool:
    if isinstance(value, dict):
        kinds: Mapping[str, _Fits] = {
            "value": lambda held: isinstance(held, bool | int | float | str | None),
            "dict": _maps_names_to(_is_input),
            **dict.fromkeys(("list", "tuple"), _is_list(_is_input)),
        }
        return len(value) == 1 and all(
            kind in kinds and kinds[kind](held) for kind, held in value.items()
        )
    return _is_text(value) or _is_shape(value)


def _are_inputs(value: Any) -> bool:
    are_inputs = _has(shapes=_is_list(_is_input), named=_maps_names_to(_is_input))
    return are_inputs(value) and bool(value["shapes"] or value["named"])


def _is_step(value: Any) -> bool:
    """True of a step of recovery: one of ours, which was judged, or a training, which never is."""
    is_step = _has(step=_is_text, changed=_is_list(_is_text), undone=_is_flag)
    if not is_step(value) or value["step"] in TRAININGS:
        return is_step(value) and not value["undone"]
    return _IS_JUDGED(value)


def _is_pair(fits: _Fits) -> _Fits:
    return lambda value: isinstance(value, list) and len(value) == 2 and all(map(fits, value))


def _is_share(value: Any) -> bool:
    return _is_number(value) and 0 <= value <= 1


def _or_null(fits: _Fits) -> _Fits:
    return lambda value: value is None or fits(value)


def _are_places(value: Any) -> bool:
    """True if these are indices, each larger than the one before."""
    return (
        isinstance(value, list)
        and all(map(_is_whole, value))
        and all(first < second for first, second in itertools.pairwise(value))
    )


_IS_JUDGED = _has(
    held_back=_is_whole,
    agreement=_is_pair(_or_null(_is_share)),
    standard_error=_or_null(_is_share),
    error=_is_pair(lambda value: isinstance(value, float) or _is_whole(value)),
)


def _are_hashes(value: Any) -> bool:
    """True of the hashes of a set's files; shards lie beside it, and need not be told of."""
    if not _has(source=_is_hash, weights=_is_hash)(value):
        return False
    shards = value.get("shards", {})
    return isinstance(shards, dict) and all(
        is_beside(name) and _is_hash(told) for name, told in shards.items()
    )


_IS_COST = _has(params=_is_whole, macs=_is_whole, bytes=_is_whole)


_IS_TIMING = _has(ms=_is_number, spread=_is_number)


_COST = "whole numbers under params, macs and bytes"


# Of each key of a report: what is expected, and whether a value is that.
_EXPECTED: Mapping[str, tuple[str, _Fits]] = {
    "model": ("a Python name", lambda value: _is_text(value) and value.isidentifier()),
    "mode": ("text", _is_text),
    "target": ("text", _is_text),
    "scope": ("text", _is_text),
    "seed": ("a whole number", _is_whole),
    "fingerprint": ("text or null", _or_null(_is_text)),
    "sha256": ("hashes under source, weights and shards", _are_hashes),
    "inputs": (
        "the shape or type of an input at least, by place under shapes or by name under named",
        _are_inputs,
    ),
    "goal": ("text or null", _or_null(_is_text)),
    "level": ("numbers under asked and achieved", _has(asked=_is_number, achieved=_is_number)),
    "latency": (
        "null, or backend and threads, and ms and spread under before and after",
        _or_null(_has(backend=_is_text, before=_IS_TIMING, after=_IS_TIMING)),
    ),
    "before": (_COST, _IS_COST),
    "after": (_COST, _IS_COST),
    "kept": (
        "a list for each tensor, with null or ascending indices for each axis",
        _maps_names_to(_is_list(_or_null(_are_places))),
    ),
    "recovered": (
        "a list of steps, each with step, changed and undone, and what it was judged by",
        _is_list(_is_step),
    ),
    "steps": ("a whole number", _is_whole),
    "tried": ("a list of criteria", _is_list(lambda value: isinstance(value, dict))),
    "scoring": ("a mapping", lambda value: isinstance(value, dict)),
    "limits": ("a mapping, a whole number under round_to", _has(round_to=_is_whole)),
    "groups": (
        "a list of layers with channels",
        _is_list(_has(layers=_is_list(_is_text), channels=_is_list(_is_whole))),
    ),
    "verified": (
        "null, or max_relative_difference and inputs",
        _or_null(_has(max_relative_difference=_is_number, inputs=_is_whole)),
    ),
    "fixed_arguments": ("a list of names", _is_list(_is_text)),
    "needed_arguments": ("a list of names", _is_list(_is_text)),
    "left_out": ("a list of modules", _is_list(_is_text)),
    "left_whole": (
        "a list of layers with reasons",
        _is_list(_has(layer=_is_text, reason=_is_text)),
    ),
    "plugins": ("versions by name", _maps_names_to(_is_text)),
}
