"""Indices of shards that lie, and the shards beside them."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st
from safetensors.torch import save

from .scalars import values
from .weights import KEYS, right, safetensors_files

NAME = "net.safetensors.index.json"
_SHARDS = ["net-00001-of-00002.safetensors", "net-00002-of-00002.safetensors"]
_SPLIT = {key: _SHARDS[place % 2] for place, key in enumerate(KEYS)}
_NAMES = [
    *_SHARDS, NAME, "../net.safetensors", "/etc/passwd", "a/b.safetensors", "", ".", "..",
    ".safetensors", "no.safetensors", "net.pt", "\0.safetensors", "C:net.safetensors",
    "net\n.safetensors", "n" * 300 + ".safetensors", "\ud800.safetensors", "\u202e.safetensors",
]  # fmt: skip


@st.composite
def sharded(draw: st.DrawFn) -> dict[str, bytes]:
    """The files of weights in two shards, a little wrong: the index is the first of them."""
    files = {
        shard: save({key: right()[key] for key, its in _SPLIT.items() if its == shard})
        for shard in _SHARDS
    }
    places: dict[str, Any] = dict(_SPLIT)
    index: Any = {"metadata": {"total_size": 8}, "weight_map": places}
    kind = draw(st.sampled_from(["whole", "name", "name", "key", "shard", "top", "text", "twice"]))
    if kind == "name":
        places[draw(st.sampled_from(KEYS))] = draw(st.sampled_from(_NAMES) | values())
    elif kind == "key":
        place = places.pop(draw(st.sampled_from(KEYS)))
        if draw(st.booleans()):
            places[draw(st.text(max_size=5))] = place
    elif kind == "shard":
        files[draw(st.sampled_from(_SHARDS))] = draw(safetensors_files())
        if draw(st.booleans()):
            files.pop(draw(st.sampled_from(_SHARDS)))
    elif kind == "top":
        index[draw(st.sampled_from(["metadata", "weight_map", "more"]))] = draw(values())
    elif kind == "text":
        index = draw(values())
    text = json.dumps(index)
    if kind == "twice":
        text = text.replace('"weight_map"', '"weight_map": {}, "weight_map"')
    content = text.encode()
    if not draw(st.integers(0, 5)):
        content = content[: draw(st.integers(0, len(content)))] + draw(st.binary(max_size=5))
    return {NAME: content, **files}
