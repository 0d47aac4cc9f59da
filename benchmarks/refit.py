"""What a refit of torchvision's resnet50 costs, beside running the images through the original.

python benchmarks/refit.py [IMAGES]
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
import torchvision

import prunecore


def seconds(job: Callable[[], Any]) -> float:
    """How long a job takes."""
    start = time.perf_counter()
    job()
    return time.perf_counter() - start


def main() -> None:
    """Print seconds, and the largest memory of the process."""
    number = int(sys.argv[1]) if len(sys.argv) > 1 else 256
    torch.manual_seed(0)
    model = torchvision.models.resnet50().eval()
    images = torch.randn(number, 3, 224, 224)

    def run() -> None:
        with torch.no_grad():
            for batch in torch.split(images, 8):
                model(batch)

    forward = seconds(run)
    traced = prunecore.trace(model, images[:1], calibration=prunecore.Calibration(images, number))
    plan = traced.plan(50, mode="magnitude", target="macs")
    cut = seconds(lambda: traced.prune(plan, verify=False, recover=()))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refitted = seconds(lambda: traced.prune(plan, verify=False))
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f"{number} images through the original: {forward:.1f} s")
    print(f"refit, and what it is judged by: {refitted - cut:.1f} s")
    print(f"memory: {before / 2**20:.1f} GB before, {after / 2**20:.1f} GB at most")


if __name__ == "__main__":
    main()
