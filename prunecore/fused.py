"""torch's transformer layers have a fused form for inference, which goes past the layers within."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def layer_by_layer() -> Iterator[None]:
    """Let transformers call the layers within them, as in training: those are what is cut."""
    is_fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(is_fused)
