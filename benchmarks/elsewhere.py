"""Use a written set as those do who have neither prunecore nor torchvision: strictly, both ways.

    python benchmarks/elsewhere.py FILE.py

The network is loaded and run forward and backward, in eval and in training mode, on inputs like
those of its report.
"""

from __future__ import annotations

import importlib
import json
import re
import sys
from pathlib import Path
from typing import Any

for name in (
    *("prunecore", "torchvision", "timm", "pytorchcv", "segmentation_models_pytorch", "monai"),
    *("transformers", "ultralytics", "vit_pytorch", "einops"),
):
    sys.modules[name] = None  # type: ignore[assignment]  # importing it raises

import torch  # noqa: E402  # after what it may not import
from torch.utils import _pytree as pytree  # noqa: E402


def drawn(given: Any) -> Any:
    """An input for two examples, as a report tells of it: `[3,8,8]` or `int64[16]<100`."""
    if isinstance(given, list):
        return torch.rand(2, *given)
    if isinstance(given, dict):
        return given["value"]
    dtype, sizes, below = re.findall(r"^(\w+)\[([\d,]*)\](?:<(\d+))?$", given)[0]
    shape = (2, *map(int, filter(None, sizes.split(","))))
    return torch.randint(int(below or 2), shape).to(getattr(torch, dtype))


def main(file: Path) -> None:
    """Raise where something does not hold."""
    sys.path.insert(0, str(file.parent))
    factory = getattr(importlib.import_module(file.stem), file.stem.rpartition("_")[0])
    network = factory(weights=str(file.with_suffix(".safetensors")))
    inputs = json.loads(file.with_suffix(".json").read_text(encoding="utf-8"))["inputs"]
    args = [drawn(given) for given in inputs["shapes"]]
    kwargs = {name: drawn(given) for name, given in inputs["named"].items()}
    for training in (False, True):
        leaves = pytree.tree_leaves(network.train(training)(*args, **kwargs))
        outputs = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor) and leaf.requires_grad]
        if not outputs or not all(output.isfinite().all() for output in outputs):
            raise ValueError(f"{file.stem} returns what is not finite, or nothing that trains")
        torch.autograd.backward([output.sum() for output in outputs])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
