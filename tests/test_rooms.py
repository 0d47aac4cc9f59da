"""Rooms are small, and the pages tell of each."""

from __future__ import annotations

from pathlib import Path

import prunecore

ROOT = Path(prunecore.__file__).parent
MOST = 15  # files of a folder, beside the one that says what it is for
FOLDERS = sorted({file.parent for file in ROOT.rglob("__init__.py")} - {ROOT})


def test_no_room_has_many_files() -> None:
    files = {str(folder.relative_to(ROOT)): len([*folder.glob("*.py")]) - 1 for folder in FOLDERS}
    assert {room: count for room, count in files.items() if count > MOST} == {}
