"""The refit without images: on noise that batch norms keep in the ranges of the training images.

What a batch norm puts out has the mean and variance that its scale and shift give it, whatever it
reads, as long as its statistics are those of what it reads. So the original runs on noise with
statistics estimated on it, and the smaller network is refitted to answer as it does. Then both have
the statistics of the training images again. After Nagel et al., "Data-Free Quantization Through
Weight Equalization and Bias Correction", 2019, arXiv 1906.04721, who take the ranges of activations
from batch norms, and correct means alone.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from prunecore.channels.layers.linear_map import RunningStatistics
from prunecore.channels.names import tensor_names
from prunecore.errors import UsageError
from prunecore.recovery.batch_norm import estimate_statistics
from prunecore.recovery.steps import Networks, batches_of, refit, taken

_STEP = "data-free"

_IMAGES = 512  # of noise, at most
_VALUES = 128 * 3 * 224 * 224  # of all of them, at most
# of the mean diagonal, and more than for images: what noise tells is not to be trusted as much
_RIDGE = 0.1


def recover_without_images(
    networks: Networks, image: Sequence[int] | None, seed: int
) -> list[dict[str, Any]]:
    """Refit the smaller network on noise, and tell what that has done.

    Args:
        networks: both networks; the original's statistics change, and are put back.
        image: the shape of its input, without the batch; `None` where it takes others.
        seed: of the noise.

    Returns:
        As `prunecore.recovery.steps.recover`; agreement is that on noise.

    Raises:
        UsageError: the network has no batch norms, or other inputs.
    """
    if image is None:
        raise UsageError(
            f"The step {_STEP} is for networks that take one tensor of floating point numbers."
            "\nLeave it out."
        )
    norms = {
        path: (norm, small)
        for path, norm in networks.layers.items()
        for small in [networks.small_layers.get(path)]
        if isinstance(norm, RunningStatistics) and isinstance(small, RunningStatistics)
    }
    if not norms:
        raise UsageError(
            f"The step {_STEP} reads the statistics of batch norms, and the network has none.\n"
            "Give images: --calibrate FOLDER, or calibration= in Python."
        )
    like = next(iter(norms.values()))[0].mean
    count = max(2, min(_IMAGES, _VALUES // math.prod(image)))
    noise = torch.randn(count, *image, generator=torch.Generator().manual_seed(seed)).to(like)
    trained = {path: [_saved(norm), _saved(small)] for path, (norm, small) in norms.items()}
    names = tensor_names(networks.original)
    keep = networks.keep
    with torch.no_grad():
        estimate_statistics(networks.original, networks.layers, batches_of(noise))
        on_noise = {}
        for path, (norm, small) in norms.items():
            kept = keep.indices(keep.dependencies.tensors[names[id(norm.mean)]], 0)
            places = slice(None) if kept is None else torch.from_numpy(kept)
            small.mean.copy_(norm.mean[places])
            small.variance.copy_(norm.variance[places])
            on_noise[path] = small.mean.clone()
        step = functools.partial(refit, ridges=(_RIDGE,))
        told = taken(networks, noise, {_STEP: step}, seed)
        for path, (norm, small) in norms.items():
            whole, cut = trained[path]
            shift = small.mean - on_noise[path]  # what the refit has found
            for one, (mean, variance) in ((norm, whole), (small, cut)):
                one.mean.copy_(mean)
                one.variance.copy_(variance)
            small.mean.add_(shift)
    return told


def _saved(norm: RunningStatistics) -> tuple[Tensor, Tensor]:
    return norm.mean.clone(), norm.variance.clone()
