"""How much memory a job takes, in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"
MEASURE = "import json, large_weights; print(json.dumps(large_weights.measure(0.5)))"


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_weights_are_mapped_and_only_what_is_kept_is_copied() -> None:
    done = subprocess.run(
        [sys.executable, "-c", MEASURE], cwd=BENCHMARKS, capture_output=True, text=True, check=True
    )
    found = json.loads(done.stdout)
    assert found["weights"] > 500e6
    assert found["own"] < found["kept"] + 200e6 < found["weights"]
    assert found["with_files"] < found["weights"] + found["kept"] + 200e6
