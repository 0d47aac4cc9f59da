"""What a user's type checker sees of the public names: checked by mypy in `nox -s lint`, never run.

Each line with an ignore is one that must be an error, since an ignore that is not needed is one.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

import prunecore
from prunecore.planning.plan import Plan

net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3))
image = torch.rand(1, 3, 8, 8)

small = prunecore.prune(net, image, 50)
prunecore.prune(net, (image, image), 50, mode="random", seed=1, example_kwargs={"mask": image})
prunecore.prune(net, level=50, input_shape=(3, 8, 8), limits=prunecore.Limits(min_channels=2))
files: tuple[Path, Path, Path] = small.save("net")

traced = prunecore.trace(net, image)
scores: NDArray[np.float64] = traced.scores("l1-norm")
plan: Plan = traced.plan(40, scores=scores)
traced.prune(plan).save("net_40")

penalty: torch.Tensor = prunecore.regularizer(net, image)()

macs: int = prunecore.inspect(net, image).macs
difference: float = prunecore.verify(files[0], net).max_relative_difference

prunecore.prune(net, image, to="1k-params")
prunecore.prune(net, image, to=1000)  # type: ignore[call-overload]
prunecore.prune(net, image, 50, target="flops")  # type: ignore[call-overload]
weights: Path = small.save("net")  # type: ignore[assignment]
