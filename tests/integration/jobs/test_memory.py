"""How much memory a job takes, in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")


def measured(module: str, call: str) -> Any:
    """What a function of a benchmark returns in a process of its own."""
    code = f"import json, {module}; print(json.dumps({module}.{call}))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=BENCHMARKS, capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


def test_weights_are_mapped_and_only_what_is_kept_is_copied() -> None:
    found = measured("large_weights", "measure(0.5)")
    assert found["weights"] > 500e6
    assert found["own"] < found["kept"] + 200e6 < found["weights"]
    assert found["with_files"] < found["weights"] + found["kept"] + 200e6


def test_a_network_in_memory_takes_the_kept_weights_and_little_more() -> None:
    weights, beside = measured("memory", "measure('resnet50', verify=False)")
    assert weights > 100e6
    assert beside < weights
