"""What lies at a path, and the text of files: every path that no system has is an error."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from prunecore.errors import UsageError
from prunecore.files.paths import check_path, is_file, is_folder, is_there, read_text


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("a\0b", r"a\\x00b cannot be a path: it holds a null byte"),
        ("a\ud800", r"a\\ud800 holds bytes that are no text in UTF-8"),
        ("a\udcff/b", r"a\\udcff/b holds bytes that are no text in UTF-8.\n.*relative path"),
    ],
)
def test_a_path_that_cannot_be_one(path: str, message: str) -> None:
    for check in (check_path, is_file, is_folder, is_there):
        with pytest.raises(UsageError, match=message):
            check(Path(path))


@pytest.mark.parametrize("path", ["a" * 999, "a/" * 5000, "ring/x"])
def test_a_path_that_the_system_cannot_follow(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("ring").symlink_to("ring")
    with pytest.raises(UsageError, match=r"^Cannot reach ") as caught:
        is_there(Path(path))
    assert len(str(caught.value)) < 300


def test_what_lies_at_a_path(tmp_path: Path) -> None:
    file, folder, pipe = tmp_path / "file", tmp_path / "folder", tmp_path / "pipe"
    file.write_text("")
    folder.mkdir()
    os.mkfifo(pipe)
    found = [(is_file(path), is_folder(path), is_there(path)) for path in (file, folder, pipe)]
    assert found == [(True, False, True), (False, True, True), (False, False, True)]
    for path in (tmp_path / "none", file / "in a file"):
        assert not is_there(path)


def test_text_without_the_mark_that_some_editors_put_before_it(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"\xef\xbb\xbfx = 1")
    assert read_text(tmp_path / "a", 99) == "x = 1"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"x" * 12, "holds more than the 11 bytes that are read"),
        (b"\xff", "is not a text file in UTF-8"),
        (None, "Cannot read .*a: no such file"),
    ],
)
def test_a_file_that_is_no_text(tmp_path: Path, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / "a").write_bytes(content)
    with pytest.raises(UsageError, match=message):
        read_text(tmp_path / "a", 11)


def test_what_has_no_end_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, Path("/dev/zero")):
        with pytest.raises(UsageError, match="it is no regular file"):
            read_text(path, 11)
