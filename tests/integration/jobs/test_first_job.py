"""The first job of a process, with the plugins that users have."""

from __future__ import annotations

import subprocess
import sys

IN_A_NEW_PROCESS = """
import random, sys
import numpy, torch
from torch import nn
import prunecore
def states():
    return random.getstate(), str(numpy.random.get_state()), torch.get_rng_state().tolist()
net = nn.Sequential(nn.Linear(3, 8), nn.Linear(8, 2))
before = states()
prunecore.prune(net, level=30, input_shape=(3,))
assert states() == before
assert "torch._dynamo" not in sys.modules  # which takes seconds
"""


def test_the_first_job_of_a_process_draws_nothing() -> None:
    """What is imported on the way may draw, too."""
    subprocess.run([sys.executable, "-c", IN_A_NEW_PROCESS], check=True)
