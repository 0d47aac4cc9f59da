"""Tensors of an accelerator in the processor's memory."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def on_host(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Copies of tensors; each accelerator is waited for once, not for every tensor.

    Args:
        tensors: of one type, of any shapes, anywhere.
    """
    by_device: dict[torch.device, list[Tensor]] = {}
    for tensor in tensors:
        by_device.setdefault(tensor.device, []).append(tensor.flatten())
    copies = {
        device: iter(torch.split(torch.cat(flat).cpu(), [len(one) for one in flat]))
        for device, flat in by_device.items()
    }
    return [next(copies[tensor.device]).reshape(tensor.shape) for tensor in tensors]
