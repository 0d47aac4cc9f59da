"""Whether a block has the layers that a plugin's own class makes, and can be written as it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import nn


def is_like(
    block: nn.Module,
    make: Callable[[], nn.Module],
    alike: Mapping[type[nn.Module], type[nn.Module]] | None = None,
) -> bool:
    """Whether a block has the same layers as another, with the same options, and tensors alike.

    Layers are the same where they are of one class, not of one that derives from it: that may have
    a forward of its own.

    Args:
        block: any module.
        make: makes the other, of what the block was made with; called on the meta device.
        alike: the classes of modules within the block, by those that are in their places in the
            other.
    """
    with torch.device("meta"):
        other = make()
    return _contents(block, alike or {}) == _contents(other, {})


def _contents(module: nn.Module, alike: Mapping[type[nn.Module], type[nn.Module]]) -> object:
    """What is within a module: each layer by its path, and each tensor, in order, with its shape.

    A tensor that lies in two places is told by the first of them.
    """
    _, *inner = module.named_modules(remove_duplicate=False)
    layers = {
        path: (alike.get(type(layer), type(layer)), layer.extra_repr()) for path, layer in inner
    }
    first: dict[int, str] = {}
    tensors = [
        (key, tensor.shape, first.setdefault(id(tensor), key))
        for key, tensor in module.state_dict(keep_vars=True).items()
    ]
    return layers, tensors
