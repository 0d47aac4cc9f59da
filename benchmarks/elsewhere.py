"""Use a written set as those do who have neither prunecore nor torchvision: strictly, both ways.

    python benchmarks/elsewhere.py FILE.py SHAPE...

The network is loaded and run forward and backward, in eval and in training mode.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

for name in ("prunecore", "torchvision", "timm"):
    sys.modules[name] = None  # type: ignore[assignment]  # importing it raises

import torch  # noqa: E402  # after what it may not import
from torch.utils import _pytree as pytree  # noqa: E402


def main(file: Path, shape: list[int]) -> None:
    """Raise where something does not hold."""
    sys.path.insert(0, str(file.parent))
    factory = getattr(importlib.import_module(file.stem), file.stem.rpartition("_")[0])
    network = factory(weights=str(file.with_suffix(".safetensors")))
    x = torch.rand(2, *shape)
    for training in (False, True):
        outputs = pytree.tree_leaves(network.train(training)(x))
        if not all(output.isfinite().all() for output in outputs):
            raise ValueError(f"{file.stem} returns what is not finite")
        sum(output.sum() for output in outputs).backward()


if __name__ == "__main__":
    main(Path(sys.argv[1]), [int(size) for size in sys.argv[2:]])
