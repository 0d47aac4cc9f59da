"""Indices of shards: as they are written by others, and every way in which one can be wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from prunecore.errors import PrunecoreError, UsageError, WeightsError
from prunecore.files.shards import shard_size_of, split
from prunecore.files.weights import check_weights_file, read_weights

FIRST, SECOND = "net-00001-of-00002.safetensors", "net-00002-of-00002.safetensors"
MAP = {"a": FIRST, "b": FIRST, "c": SECOND}


@pytest.fixture
def index(tmp_path: Path) -> Path:
    """An index beside its two shards."""
    save_file({"a": torch.ones(2), "b": torch.zeros(3)}, tmp_path / FIRST)
    save_file({"c": torch.ones(4)}, tmp_path / SECOND)
    save_file({"c": torch.ones(4)}, tmp_path.parent / "outside.safetensors")
    return written(tmp_path / "net.safetensors.index.json", {"weight_map": MAP})


def written(file: Path, content: Any) -> Path:
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    return file


@pytest.mark.parametrize("metadata", [{}, {"total_size": 36}, {"total_size": 36.0, "more": "x"}])
def test_the_tensors_of_all_shards_are_read(index: Path, metadata: dict[str, Any]) -> None:
    written(index, {"metadata": metadata, "weight_map": MAP})
    check_weights_file(index)
    assert {name: len(tensor) for name, tensor in read_weights(index).items()} == {
        "a": 2,
        "b": 3,
        "c": 4,
    }


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "no index of shards: Expecting value"),
        ("[" * 100_000, "no index of shards: "),
        ([1], "expected a mapping, not [1]"),
        ({}, "weight_map: expected the shard of each tensor, not None"),
        ({"weight_map": {}}, "weight_map: expected the shard of each tensor, not {}"),
        ({"weight_map": [FIRST]}, "weight_map: expected the shard of each tensor, not ["),
        ({"weight_map": {"a": 3}}, "a: expected the name of a .safetensors file beside it, not 3"),
        ({"weight_map": MAP, "metadata": [1]}, "metadata: expected a mapping"),
        ({"weight_map": MAP, "metadata": {"total_size": "x"}}, "with the number total_size"),
        ({"weight_map": {"c": "../outside.safetensors"}}, "beside it, not '../outside"),
        ({"weight_map": {"c": "/tmp/outside.safetensors"}}, "beside it, not '/tmp/outside"),
        ({"weight_map": {"c": "C:\\outside.safetensors"}}, "beside it, not 'C:"),
        ({"weight_map": {"c": "net.pt"}}, "beside it, not 'net.pt'"),
        ({"weight_map": {"c": "a\0.safetensors"}}, "beside it, not 'a"),
        ({"weight_map": {"c": "none.safetensors"}}, "names none.safetensors, which is not there"),
        ({"weight_map": {**MAP, "d": SECOND}}, f"{SECOND} lacks d, which net.safetensors.index"),
        ({"weight_map": {**MAP, "a": SECOND}}, f"{SECOND} lacks a, which net.safetensors.index"),
        ({"weight_map": {"a": FIRST, "c": SECOND}}, f"{FIRST} holds b, which net.safetensors.ind"),
        (f'{{"weight_map": {{"a": "{FIRST}", "a": "{SECOND}"}}}}', "it has a more than once"),
    ],
)
def test_what_is_wrong_with_an_index_is_told(index: Path, content: Any, said: str) -> None:
    written(index, content)
    with pytest.raises(WeightsError) as raised:
        read_weights(index)
    told = str(raised.value)
    assert said in told
    assert len(told.splitlines()) == 2
    assert len(told) < 700


def test_a_shard_that_is_a_folder_or_truncated_is_told(index: Path) -> None:
    shard = index.with_name(SECOND)
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(WeightsError, match="is truncated or no weights file"):
        read_weights(index)
    shard.unlink()
    shard.mkdir()
    with pytest.raises(WeightsError, match="which is not there"):
        read_weights(index)


def test_names_that_no_file_has(index: Path) -> None:
    for name in ("\ud800.safetensors", "x" * 300 + ".safetensors"):
        written(index, {"weight_map": {"a": name}})
        with pytest.raises(PrunecoreError):
            read_weights(index)


@pytest.mark.parametrize(
    ("value", "size"), [("5GB", 5 * 10**9), ("1.5kB", 1500), (" 7B ", 7), (12, 12)]
)
def test_sizes_of_shards(value: Any, size: int) -> None:
    assert shard_size_of(value) == size


@pytest.mark.parametrize(
    "value", ["5", "5GiB", "20KB", "0B", "GB", "-1GB", "5M-params", 0, -3, True, None]
)
def test_what_is_no_size_of_a_shard(value: Any) -> None:
    with pytest.raises(UsageError, match=r"is no size of a shard\.\nGive a number"):
        shard_size_of(value)


def test_weights_are_split_in_their_order_and_never_within_a_tensor() -> None:
    sizes = {"a": 1, "b": 1, "c": 5, "d": 1, "e": 2}
    weights = {name: torch.zeros(size) for name, size in sizes.items()}
    parts = [list(part) for part in split(weights, 12)]
    assert parts == [["a", "b"], ["c"], ["d", "e"]]
    assert [list(part) for part in split(weights, 40)] == [list(weights)]
    assert split({}, 1) == [{}]
