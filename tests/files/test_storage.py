"""A written set: its names, the checks beforehand, all of it or nothing."""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from prunecore.errors import PrunecoreError, UsageError
from prunecore.files import storage
from prunecore.planning.goal import read_goal

WEIGHTS = {"a.weight": torch.arange(6.0).reshape(2, 3).t(), "a.bias": torch.ones(2).half()}
REPORT = {"schema": 1}
SUFFIXES = (".py", ".safetensors", ".json")
COST = {"params": 2, "macs": 3, "bytes": 5}
WHOLE_REPORT = {
    "recovered": [],
    "steps": 1,
    "tried": [],
    "scoring": {},
    "limits": {"round_to": 1},
    "schema": 1,
    "model": "net",
    "mode": "random",
    "target": "params",
    "scope": "global",
    "goal": None,
    "latency": None,
    "seed": 0,
    "fingerprint": "abc",
    "inputs": {"shapes": [[3]], "named": {}},
    "level": {"asked": 50.0, "achieved": 50},
    "before": COST,
    "after": COST,
    "kept": {"a.weight": [[0, 2], None]},
    "groups": [{"layers": ["a", "b"], "channels": [4, 2]}],
    "verified": {"max_relative_difference": 1e-12, "inputs": 8},
    "fixed_arguments": [],
    "needed_arguments": [],
    "left_out": ["aux"],
    "left_whole": [{"layer": "c", "reason": "it is shy"}],
    "plugins": {"prunecore": "0.1.0"},
}


def save(path: Path, source: str = "x = 1\n", force: bool = False) -> tuple[Path, Path, Path]:
    return storage.save_set(path, source, [WEIGHTS], REPORT, force)


def everything_in(folder: Path) -> dict[str, bytes]:
    files = (file for file in folder.rglob("*") if file.is_file())
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in files}


@pytest.mark.parametrize(
    ("level", "name"),
    [(50.0, "net_50.py"), (12.5, "net_12_5.py"), (1e-5, "net_0_00001.py"), (90, "net_90.py")],
)
def test_a_level_is_written_so_that_the_file_can_be_imported(level: float, name: str) -> None:
    assert storage.set_path(Path("out"), "net", level) == Path("out", name)


@pytest.mark.parametrize(
    ("goal", "name"),
    [
        ("5M-params", "net_5M_params.py"),
        ("1.50G-macs", "net_1_5G_macs.py"),
        ("12MB", "net_12M_bytes.py"),
        ("500-channels", "net_500_channels.py"),
    ],
)
def test_a_set_of_a_goal_can_be_imported(goal: str, name: str) -> None:
    path = storage.set_path(Path("out"), "net", read_goal(goal))
    assert path == Path("out", name)
    assert path.stem.isidentifier()


def test_several_sets_of_a_level_are_numbered() -> None:
    assert storage.set_path(Path("out"), "net", 12.5, 3) == Path("out/net_12_5_3.py")


def test_a_set_tells_what_it_was_made_from(tmp_path: Path) -> None:
    path = tmp_path / "net_50.py"
    assert storage.read_fingerprint(path) is None
    save(path)
    assert storage.read_fingerprint(path) is None
    storage.save_set(path, "x = 1\n", [WEIGHTS], WHOLE_REPORT, force=True)
    assert storage.read_fingerprint(path) == "abc"
    path.with_suffix(".safetensors").unlink()
    assert storage.read_fingerprint(path) is None


def test_the_three_files_lie_together(tmp_path: Path) -> None:
    source, weights, report = save(tmp_path / "a/b/net_50.py")
    assert source.read_bytes() == b"x = 1\n"
    assert json.loads(report.read_text()) == REPORT
    loaded = load_file(weights)
    assert loaded.keys() == WEIGHTS.keys()
    for name, tensor in WEIGHTS.items():
        assert loaded[name].dtype == tensor.dtype
        assert loaded[name].equal(tensor)
    names = ["net_50.json", "net_50.py", "net_50.safetensors"]
    assert sorted(file.name for file in (tmp_path / "a/b").iterdir()) == names


@pytest.mark.skipif(os.name == "nt", reason="no such permissions")
def test_others_may_read_the_weights_as_they_may_read_the_source(tmp_path: Path) -> None:
    files = save(tmp_path / "net_50.py")
    assert len({stat.S_IMODE(file.stat().st_mode) for file in files}) == 1


def test_the_same_set_is_the_same_bytes(tmp_path: Path) -> None:
    save(tmp_path / "a/net_50.py")
    save(tmp_path / "b/net_50.py")
    assert everything_in(tmp_path / "a") == everything_in(tmp_path / "b")


@pytest.mark.parametrize("suffix", [".py", ".safetensors", ".json"])
def test_an_existing_file_is_replaced_only_by_force(tmp_path: Path, suffix: str) -> None:
    old = tmp_path / f"net_50{suffix}"
    old.write_text("old")
    with pytest.raises(UsageError, match=rf"net_50\{suffix} exists.*\n.*--force"):
        save(tmp_path / "net_50.py")
    assert everything_in(tmp_path) == {old.name: b"old"}
    save(tmp_path / "net_50.py", force=True)
    assert old.read_bytes() != b"old"
    assert len(everything_in(tmp_path)) == 3


@pytest.mark.parametrize("name", ["net-50.py", "net_12.5.py", "50.py", "net_50", "net_50.txt"])
def test_a_name_that_cannot_be_imported(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="import"):
        save(tmp_path / name)


def test_a_folder_in_a_file_s_place(tmp_path: Path) -> None:
    (tmp_path / "net_50.json").mkdir()
    with pytest.raises(UsageError, match=r"net_50.json is a folder"):
        save(tmp_path / "net_50.py", force=True)


def test_a_file_in_the_folder_s_place(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(UsageError, match="out is a file, not a folder"):
        storage.check_target(tmp_path / "out/sub/net_50.py", force=False)


def test_a_folder_without_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path)
    with pytest.raises(UsageError, match=f"no permission to write in {tmp_path}"):
        storage.check_target(tmp_path / "out/net_50.py", force=False)
    assert everything_in(tmp_path) == {}


def full_disk(*_: Any, **__: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def partly_written(file: Path, _: Any) -> None:
    file.write_bytes(b"half")
    full_disk()


def break_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "write_tensors", partly_written)


def break_source(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "write_text", full_disk)


def break_flush(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", full_disk)


def break_last_rename(monkeypatch: pytest.MonkeyPatch) -> None:
    replace = Path.replace

    def failing(self: Path, target: Path) -> Path:
        if target.suffix == ".py" and not self.name.endswith(".old"):
            full_disk()
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", failing)


BREAKS = [break_weights, break_source, break_flush, break_last_rename]


@pytest.mark.parametrize("break_it", BREAKS)
def test_a_full_disk_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, break_it: Callable[[Any], None]
) -> None:
    break_it(monkeypatch)
    with pytest.raises(PrunecoreError, match=r"net_50.py .*No space left on device") as caught:
        save(tmp_path / "a/b/net_50.py")
    assert caught.value.exit_code == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("break_it", BREAKS)
def test_a_full_disk_leaves_the_old_set_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, break_it: Callable[[Any], None]
) -> None:
    save(tmp_path / "net_50.py", "old = 1\n")
    before = everything_in(tmp_path)
    with monkeypatch.context() as broken:
        break_it(broken)  # type: ignore[arg-type]
        with pytest.raises(PrunecoreError, match="No space left"):
            save(tmp_path / "net_50.py", "new = 1\n", force=True)
    assert everything_in(tmp_path) == before


def test_an_interrupt_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(storage, "write_tensors", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save(tmp_path / "out/net_50.py")
    assert list(tmp_path.iterdir()) == []


PARTS = [{"a": torch.ones(3)}, {"b": torch.zeros(2).half(), "c": torch.tensor(True)}]
SHARDS = ["net_50-00001-of-00002.safetensors", "net_50-00002-of-00002.safetensors"]


def save_shards(path: Path, force: bool = False) -> tuple[Path, Path, Path]:
    return storage.save_set(path, "x = 1\n", PARTS, {**WHOLE_REPORT}, force)


def test_parts_are_written_as_shards_with_an_index(tmp_path: Path) -> None:
    source, weights, report = save_shards(tmp_path / "net_50.py")
    assert weights.name == "net_50.safetensors.index.json"
    assert json.loads(weights.read_text()) == {
        "metadata": {"total_size": 17},
        "weight_map": {"a": SHARDS[0], "b": SHARDS[1], "c": SHARDS[1]},
    }
    assert {file.name for file in tmp_path.iterdir()} == {
        *SHARDS,
        *(file.name for file in (source, weights, report)),
    }
    assert load_file(tmp_path / SHARDS[1])["c"].item() is True
    hashes = json.loads(report.read_text())["sha256"]
    assert hashes["shards"] == {name: storage.hash_of(tmp_path / name) for name in SHARDS}
    assert hashes["weights"] == storage.hash_of(weights)
    assert storage.fault_of(source) is None


@pytest.mark.parametrize("name", [*SHARDS, "net_50.safetensors.index.json"])
def test_a_shard_that_is_missing_or_another_one_is_told(tmp_path: Path, name: str) -> None:
    path, *_ = save_shards(tmp_path / "net_50.py")
    file = tmp_path / name
    content = file.read_bytes()
    file.write_bytes(content + b" ")
    assert f"{name} is not what was written with net_50.json" in str(storage.fault_of(path))
    file.unlink()
    assert storage.fault_of(path) == f"{name} is missing"
    with pytest.raises(UsageError, match="not whole"):
        storage.check_target(path, force=False)
    save_shards(path, force=True)
    assert storage.fault_of(path) is None


def test_one_set_takes_the_place_of_all_files_of_another(tmp_path: Path) -> None:
    beside = tmp_path / "net_50b-00001-of-00002.safetensors"
    beside.touch()
    path = tmp_path / "net_50.py"
    save_shards(path)
    save(path, force=True)
    assert sorted(tmp_path.iterdir()) == sorted([*map(path.with_suffix, SUFFIXES), beside])
    save_shards(path, force=True)
    assert len(list(tmp_path.iterdir())) == 6
    assert not path.with_suffix(".safetensors").exists()


@pytest.mark.parametrize("name", [SHARDS[0], "net_50.safetensors.index.json"])
def test_a_link_in_the_place_of_a_shard_is_not_followed(tmp_path: Path, name: str) -> None:
    path, *_ = save_shards(tmp_path / "net_50.py")
    (tmp_path / name).unlink()
    (tmp_path / name).symlink_to(tmp_path / "nowhere")
    with pytest.raises(UsageError, match=f"{name} is a symbolic link"):
        save_shards(path, force=True)


def test_a_folder_that_is_a_link_to_nowhere_is_told_beforehand(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(UsageError, match=r"link is a symbolic link to what is not there\.\nRemove"):
        storage.check_target(tmp_path / "link" / "net_50.py", force=False)
