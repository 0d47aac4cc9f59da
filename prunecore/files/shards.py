"""Weights in several files, as Hugging Face writes them: an index, and the shards that it names."""

from __future__ import annotations

import contextlib
import json
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prunecore.errors import UsageError, WeightsError, reason_of
from prunecore.escaping import shown, shown_value
from prunecore.files.paths import is_file, read_text
from prunecore.planning.goal import read_goal

if TYPE_CHECKING:
    from torch import Tensor  # which --help does without

INDEX = ".safetensors.index.json"

SHARD_SIZE = "5GB"  # above which weights are written in shards, as Hugging Face does


_LONGEST = 2**26  # bytes of an index


_MEND = "Copy the index and its shards again, all into one folder."


def is_index(file: Path) -> bool:
    """True if a file is by its name the index of shards."""
    return file.name.endswith(INDEX)


def read_index(file: Path) -> dict[Path, set[str]]:
    """The shards that an index names, which are there, each with the names of its tensors.

    Raises:
        WeightsError: it is no index, or names what is no file beside it.
    """
    try:
        content = json.loads(read_text(file, _LONGEST), object_pairs_hook=_without_twins)
    except (UsageError, ValueError, RecursionError) as error:
        raise WeightsError(
            f"{shown(file)} is no index of shards: {reason_of(error)}\n{_MEND}"
        ) from error
    if wrong := _what_is_wrong(content):
        raise WeightsError(f"{shown(file)} is no index of shards: {wrong}.\n{_MEND}")
    shards: dict[Path, set[str]] = {}
    for tensor, name in content["weight_map"].items():
        shards.setdefault(file.with_name(name), set()).add(tensor)
    for shard in shards:
        if not is_file(shard):
            raise WeightsError(
                f"{shown(file)} names {shown(shard.name)}, which is not there.\n{_MEND}"
            )
    return shards


def check_shard(index: Path, shard: Path, expected: set[str], found: Mapping[str, Any]) -> None:
    """See that a shard holds the tensors that its index says, and no others.

    Raises:
        WeightsError: it does not.
    """
    for name in sorted(expected - found.keys()):
        raise WeightsError(
            f"{shown(shard)} lacks {shown(name)}, which {shown(index.name)} says it holds.\n{_MEND}"
        )
    for name in sorted(found.keys() - expected):
        raise WeightsError(
            f"{shown(shard)} holds {shown(name)}, which {shown(index.name)} says is not there.\n"
            f"{_MEND}"
        )


def shard_size_of(value: object) -> int:
    """How many bytes a shard holds at most, from what a user writes: `5GB`, or a number of bytes.

    Raises:
        UsageError: it is none.
    """
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return value
    with contextlib.suppress(UsageError):
        goal = read_goal(value)
        if goal.target == "bytes":
            return int(goal.number)
    raise UsageError(
        f"{shown_value(value)} is no size of a shard.\n"
        f"Give a number of bytes and its unit, kB, MB or GB, such as {SHARD_SIZE} or 500MB."
    )


def split(weights: Mapping[str, Tensor], size: int) -> list[dict[str, Tensor]]:
    """Weights in parts that hold at most so many bytes, or a single tensor; in their order.

    Args:
        weights: a state dict.
        size: in bytes.
    """
    parts: list[dict[str, Tensor]] = [{}]
    held = 0
    for name, tensor in weights.items():
        if parts[-1] and held + tensor.nbytes > size:
            parts.append({})
            held = 0
        parts[-1][name] = tensor
        held += tensor.nbytes
    return parts


def shard_name(stem: str, number: int, count: int) -> str:
    """The name of one of several shards, numbered from 0."""
    return f"{stem}-{number + 1:05}-of-{count:05}.safetensors"


def is_shard_of(name: str, stem: str) -> bool:
    """True if a name is one that `shard_name` gives."""
    return (
        re.fullmatch(rf"{re.escape(stem)}-[0-9]{{5,}}-of-[0-9]{{5,}}\.safetensors", name)
        is not None
    )


def index_text(parts: Mapping[str, Mapping[str, Tensor]]) -> str:
    """The text of an index.

    Args:
        parts: the tensors of each shard, by its name.
    """
    size = sum(tensor.nbytes for part in parts.values() for tensor in part.values())
    places = {name: shard for shard, part in parts.items() for name in part}
    content = {"metadata": {"total_size": size}, "weight_map": places}
    return json.dumps(content, indent=2, sort_keys=True) + "\n"


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        ((twin, _),) = Counter(key for key, _ in pairs).most_common(1)
        raise ValueError(f"it has {shown(twin)} more than once.")
    return content


def _what_is_wrong(content: Any) -> str | None:
    """What an index does not have as it should; `None` where it is one."""
    if not isinstance(content, dict):
        return f"expected a mapping, not {shown_value(content)}"
    size = content.get("metadata", {})
    if isinstance(size, dict):
        size = size.get("total_size", 0)
    if not isinstance(size, int | float) or isinstance(size, bool):
        return f"metadata: expected a mapping with the number total_size, not {shown_value(size)}"
    shards = content.get("weight_map")
    if not isinstance(shards, dict) or not shards:
        return f"weight_map: expected the shard of each tensor, not {shown_value(shards)}"
    for tensor, name in shards.items():
        if not isinstance(name, str) or not is_beside(name):
            return (
                f"{shown(tensor)}: expected the name of a .safetensors file beside it, not "
                f"{shown_value(name)}"
            )
    return None


def is_beside(name: str) -> bool:
    """True if a name is that of a file in safetensors, and of no path to another folder."""
    return name.endswith(".safetensors") and not set(name) & set("/\\:\0")
