"""Whatever lies in a weights file, it is loaded as it should be or refused in a sentence or two."""

from __future__ import annotations

import pickle
import sys
import warnings
from collections import Counter
from pathlib import Path

import pytest
import torch
from hypothesis import given, seed, settings
from torch import nn

from prunecore.errors import UsageError, WeightsError
from prunecore.files.weights import load_weights

from .harness import CHARACTERS, LINES, bounded, watched
from .normed import Normed
from .pickles import EXECUTED, RAN, weights_files
from .test_fuzz import HEALTH
from .weights import right

MOST = 1 << 26  # bytes beside what the process takes before; there are files for 512 MiB


def resident(field: str) -> int:
    """Bytes of this process: `VmRSS` now, `VmHWM` at the peak."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith(field))
    return 1024 * int(line.split()[1])


def has_run() -> bool:
    """True where a pickle has left its trace."""
    return hasattr(sys, RAN) or Path(RAN).exists()


def check_loaded(net: nn.Module) -> None:
    """Every tensor is of the network's shape and kind, and can be read."""
    own = right()
    for name, tensor in net.state_dict().items():
        assert (tensor.shape, tensor.layout) == (own[name].shape, torch.strided)
        assert tensor.is_floating_point() == own[name].is_floating_point()
        last = sum(
            step * (size - 1) for step, size in zip(tensor.stride(), tensor.shape, strict=True)
        )
        end = (tensor.storage_offset() + last + 1) * tensor.itemsize
        assert end <= tensor.untyped_storage().nbytes()
        tensor.double().sum()


def ending(file: Path) -> str:
    """Load a file: `loaded`, or the beginning of what is said."""
    net = Normed()
    try:
        load_weights(net, file)
    except (UsageError, WeightsError) as error:
        said = str(error)
        lines = said.split("\n")
        assert len(lines) <= LINES, said
        assert len(said) <= CHARACTERS, said
        assert all(line and line.isprintable() for line in lines), said
        return said.removeprefix(str(file)).removeprefix(": ")[:24]
    check_loaded(net)
    return "loaded"


def check_many(count: int, number: int, folder: Path) -> Counter[str]:
    """Load so many files, always the same for a number."""
    ends: Counter[str] = Counter()
    inside = folder / "inside"
    inside.mkdir()

    @seed(number)
    @settings(max_examples=count, deadline=None, database=None, suppress_health_check=HEALTH)
    @given(weights_files())
    def each(given: dict[str, bytes]) -> None:
        for name, content in given.items():
            (inside / name).write_bytes(content)
        alarms: list[str] = []
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
        before = resident("VmRSS")
        with watched(inside) as seen, bounded(alarms), warnings.catch_warnings():
            warnings.simplefilter("error")
            ends[ending(inside / next(iter(given)))] += 1
        assert not [*alarms, *seen]
        assert not has_run()
        assert resident("VmHWM") - before < MOST
        for name in given:
            (inside / name).unlink()

    each()
    return ends


def test_a_pickle_that_is_run_leaves_its_trace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert not has_run()
    pickle.loads(EXECUTED)
    assert has_run()
    delattr(sys, RAN)


def test_no_file_runs_or_ends_in_a_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ends = check_many(1000, 0, tmp_path)
    assert ends["loaded"] > 20


@pytest.mark.hostile
@pytest.mark.parametrize("part", range(1, 21))
def test_none_of_a_hundred_thousand_does(
    part: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for end, count in check_many(5000, part, tmp_path).most_common():
        print(f"{count:6} {end}")
