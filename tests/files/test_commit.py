"""Sets of which the writing is killed, or that several write at once: one of them stays, whole."""

from __future__ import annotations

import itertools
import os
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from prunecore.errors import PrunecoreError, UsageError
from prunecore.files import commit, locks, storage

from .test_storage import WHOLE_REPORT, everything_in

Set = dict[str, bytes]

SHARDED = 5  # contents from which on weights lie in shards


def save(folder: Path, content: int, name: str = "net_50", force: bool = True) -> None:
    weights = [{"a": torch.full((content + 1,), float(content))}]
    if content >= SHARDED:  # in as many shards
        weights = [{f"{part}": torch.full((2,), float(content))} for part in range(content)]
    report = {**WHOLE_REPORT, "seed": content}
    source = f"x = {content}\n" * (content + 1)
    storage.save_set(folder / f"{name}.py", source, weights, report, force)


def saved(folder: Path, content: int, name: str = "net_50") -> Set:
    """The three files as they are when nobody is killed."""
    save(folder / "undisturbed", content, name)
    return everything_in(folder / "undisturbed")


def hook_of(folder: Path, kill_at: int) -> Callable[[str, tuple[Any, ...]], None]:
    """End the process before one of the calls of the file system that name something in a folder.

    Of `os.fsync` and `fcntl.flock`, which name nothing, all are counted.
    """
    counter = itertools.count(1)

    def hook(event: str, args: tuple[Any, ...]) -> None:
        named = any(str(arg).startswith(str(folder)) for arg in args if not isinstance(arg, int))
        counts = event in ("test.fsync", "fcntl.flock") or (
            event.startswith(("os.", "open", "shutil.")) and named
        )
        if counts and next(counter) == kill_at:
            os._exit(KILLED)

    return hook


KILLED = 9


def is_killed(work: Callable[[], Any], folder: Path, at: int) -> bool:
    """Do some work in a process of its own, which ends before a call; false if there are fewer."""
    child = os.fork()
    if child == 0:
        fsync = os.fsync

        def audited(descriptor: int) -> None:
            sys.audit("test.fsync")
            fsync(descriptor)

        os.fsync = audited
        sys.addaudithook(hook_of(folder, at))
        try:
            work()
        except BaseException:  # pytest of the child must not go on
            os._exit(1)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, KILLED)
    return code == KILLED


def moments(work: Callable[[], Any], folder: Path, least: int = 20) -> Iterator[int]:
    """Kill some work before each of its calls in turn, until it gets through."""
    numbers = itertools.takewhile(lambda at: is_killed(work, folder, at), itertools.count(1))
    for last in numbers:
        yield last
    assert last > least  # they were counted


pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork"),
    pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning"),
]


def test_a_killed_first_save_leaves_all_of_the_set_or_none(tmp_path: Path) -> None:
    new, path = saved(tmp_path, 1), tmp_path / "out/net_50.py"
    outcomes = []
    for _ in moments(lambda: save(path.parent, 1), path.parent):
        if path.exists():  # where the source is, the set is whole
            assert everything_in(path.parent).items() >= new.items()
        commit.recover_sets([path])
        outcomes.append(everything_in(path.parent))
        save(path.parent, 1)
        assert everything_in(path.parent) == new
        assert len(list(path.parent.iterdir())) == 3
        shutil.rmtree(path.parent)
    assert all(outcome in ({}, new) for outcome in outcomes)
    assert {} in outcomes
    assert new in outcomes


def test_a_killed_replacement_leaves_the_old_set_or_the_new(tmp_path: Path) -> None:
    old, new = saved(tmp_path, 0), saved(tmp_path, 1)
    path = tmp_path / "out/net_50.py"
    save(path.parent, 0)
    outcomes = []
    for _ in moments(lambda: save(path.parent, 1), path.parent):
        there = everything_in(path.parent)
        if path.exists():
            assert there.items() >= old.items() or there.items() >= new.items()
        else:
            assert storage.fault_of(path) is not None
        commit.recover_sets([path])
        outcomes.append(everything_in(path.parent))
        assert len(list(path.parent.iterdir())) == 3
        save(path.parent, 0)
    assert all(outcome in (old, new) for outcome in outcomes)
    assert old in outcomes
    assert new in outcomes


@pytest.mark.parametrize(
    ("before", "after"), [(0, 6), (6, 0), (6, 5), (5, 6)], ids=lambda content: f"{content}"
)
def test_killed_shards_are_the_old_ones_or_the_new(tmp_path: Path, before: int, after: int) -> None:
    old, new = saved(tmp_path / "old", before), saved(tmp_path / "new", after)
    assert {len(old), len(new)} <= {3, 8, 9}  # a set of one file of weights, of 5 and of 6
    path = tmp_path / "out/net_50.py"
    save(path.parent, before)
    outcomes = []
    for _ in moments(lambda: save(path.parent, after), path.parent):
        there = everything_in(path.parent)
        if path.exists():
            assert there.items() >= old.items() or there.items() >= new.items()
            assert storage.fault_of(path) is None
        else:
            assert storage.fault_of(path) is not None
        for again in range(1, 60, 4):
            if not is_killed(lambda: commit.recover_sets([path]), path.parent, again):
                break
        commit.recover_sets([path])
        outcomes.append(everything_in(path.parent))
        save(path.parent, before)
    assert all(outcome in (old, new) for outcome in outcomes)
    assert old in outcomes
    assert new in outcomes


def test_a_killed_recovery_is_gone_on_with(tmp_path: Path) -> None:
    old, new = saved(tmp_path, 0), saved(tmp_path, 1)
    path = tmp_path / "out/net_50.py"
    save(path.parent, 0)
    ends = []
    for _ in moments(lambda: save(path.parent, 1), path.parent):
        for again in itertools.count(1):
            if not is_killed(lambda: commit.recover_sets([path]), path.parent, again):
                break
        ends.append(everything_in(path.parent))
        assert len(list(path.parent.iterdir())) == 3
        save(path.parent, 0)
    assert all(end in (old, new) for end in ends)


def test_each_of_several_sets_is_whole_when_their_job_is_killed(tmp_path: Path) -> None:
    folder, names = tmp_path / "out", ["net_30", "net_50"]
    whole = [{name: saved(tmp_path / name, content, name) for name in names} for content in (0, 1)]

    def save_all(content: int) -> None:
        for name in names:
            save(folder, content, name)

    save_all(0)
    shutil.copytree(folder, tmp_path / "before")
    for _ in moments(lambda: save_all(1), folder):
        commit.recover_sets(folder / f"{name}.py" for name in names)
        there = everything_in(folder)
        for name in names:
            of_name = {file: data for file, data in there.items() if file.startswith(f"{name}.")}
            assert of_name in (whole[0][name], whole[1][name])
        assert len(list(folder.iterdir())) == 6
        shutil.rmtree(folder)
        shutil.copytree(tmp_path / "before", folder)


def test_of_several_threads_one_wins_whole(tmp_path: Path) -> None:
    sets = [saved(tmp_path / str(content), content) for content in range(4)]
    folder = tmp_path / "out"
    for _ in range(8):
        threads = [threading.Thread(target=save, args=(folder, content)) for content in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert everything_in(folder) in sets
        assert len(list(folder.iterdir())) == 3


def test_of_several_processes_one_wins_whole(tmp_path: Path) -> None:
    sets = [saved(tmp_path / str(content), content) for content in range(3)]
    folder = tmp_path / "out"
    children = []
    for content in range(3):
        if (child := os.fork()) == 0:
            try:
                for _ in range(10):
                    save(folder, content)
            except BaseException:  # pytest of the child must not go on
                os._exit(1)
            os._exit(0)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0, 0]
    assert everything_in(folder) in sets
    assert len(list(folder.iterdir())) == 3


def test_of_several_threads_without_force_one_writes(tmp_path: Path) -> None:
    sets = [saved(tmp_path / str(content), content) for content in range(4)]
    refused = []

    def attempt(content: int) -> None:
        try:
            save(tmp_path / "out", content, force=False)
        except UsageError as error:
            refused.append(str(error))

    threads = [threading.Thread(target=attempt, args=(content,)) for content in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert everything_in(tmp_path / "out") in sets
    assert len(refused) == 3
    assert all("net_50.py exists.\nReplace the set with --force" in text for text in refused)


def test_a_lock_is_waited_for_no_longer_than_patience_lasts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "PATIENCE", 0.1)
    with (
        locks.locked(tmp_path / ".net_50.lock"),
        pytest.raises(PrunecoreError, match=r"has held .*\.net_50\.lock.*\n.*end it"),
    ):
        save(tmp_path, 1)
    save(tmp_path, 1)
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize("suffix", [".py", ".json", ".safetensors"])
def test_no_link_is_followed_or_replaced(tmp_path: Path, suffix: str) -> None:
    (tmp_path / "precious").write_text("precious")
    link = tmp_path / f"net_50{suffix}"
    for target in ("precious", "nowhere"):
        link.symlink_to(tmp_path / target)
        with pytest.raises(UsageError, match=rf"net_50\{suffix} is a symbolic link.*\nRemove it"):
            save(tmp_path, 1)
        assert link.is_symlink()
        link.unlink()
    assert everything_in(tmp_path) == {"precious": b"precious"}


def test_planted_links_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious/net_50.py").write_text("precious")
    for name in (".net_50.abcdefgh.whole", ".net_50.abcdefgh.part"):
        (tmp_path / name).symlink_to(tmp_path / "precious")
    save(tmp_path, 1)
    assert (tmp_path / "precious/net_50.py").read_text() == "precious"
    assert (tmp_path / "net_50.py").read_text() == "x = 1\n" * 2
    (tmp_path / ".net_50.lock").symlink_to(tmp_path / "precious/net_50.py")
    with pytest.raises(PrunecoreError, match=r"Cannot write .*net_50.py.*\nNothing"):
        save(tmp_path, 2)


def test_a_folder_that_somebody_else_planted_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planted = tmp_path / ".net_50.abcdefgh.whole"
    planted.mkdir()
    (planted / "net_50.py").write_text("evil = 1\n")
    monkeypatch.setattr(os, "geteuid", lambda: planted.stat().st_uid + 1)
    commit.recover_sets([tmp_path / "net_50.py"])
    assert everything_in(tmp_path) == {f"{planted.name}/net_50.py": b"evil = 1\n"}
