"""What the tests of whole networks share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from .oracle import Subject, Written, check, check_style


@pytest.fixture(scope="session")
def _written_files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder whose files ruff must like when the tests have ended: asked once, for all."""
    folder = tmp_path_factory.mktemp("written")
    yield folder
    check_style(folder)


Cut = Callable[..., Written]


@pytest.fixture
def cut(_written_files: Path, request: pytest.FixtureRequest) -> Cut:
    """Write a network with a choice of channels, and check all that must hold of it."""

    def write(
        subject: Subject, kept: NDArray[np.bool_], removed_blocks: Sequence[str] = ()
    ) -> Written:
        written = check(subject, kept, removed_blocks)
        name = "".join(letter if letter.isalnum() else "_" for letter in request.node.name)
        number = len(list(_written_files.iterdir()))
        (_written_files / f"{name}_{number}.py").write_text(written.source)
        return written

    return write
