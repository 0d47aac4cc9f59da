"""Backends: what makes of a built network a call that can be timed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

# Called with a network in eval mode, and what it is given by place and by name. Returns a function
# that runs one forward and comes back when it is done: that is what is timed.
LatencyBackend: TypeAlias = Callable[
    [nn.Module, Sequence[Tensor], Mapping[str, Tensor]], Callable[[], Any]
]


def eager(
    network: nn.Module, args: Sequence[Tensor], kwargs: Mapping[str, Tensor]
) -> Callable[[], Any]:
    """Run a network as torch runs it, layer by layer, without gradients.

    Args:
        network: in eval mode.
        args: what it is given by place, where it is.
        kwargs: what it is given by name.
    """
    devices = {tensor.device.type for tensor in (*args, *kwargs.values())} - {"cpu"}
    waits = [getattr(torch, device).synchronize for device in devices]  # torch.cuda, torch.mps

    def run() -> Any:
        with torch.inference_mode():
            output = network(*args, **kwargs)
        for wait in waits:
            wait()
        return output

    return run
