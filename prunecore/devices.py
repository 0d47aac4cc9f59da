"""What a traced forward sees as the device of a tensor, and what it computes under."""

from __future__ import annotations

import torch

from prunecore.lines import is_called_by_torch


class DeviceKind(str):
    """What a traced forward sees as `x.device.type`.

    It may be handed on to `torch.autocast`, and compared with "meta": no tensor that a network is
    used with is there.
    """

    def __eq__(self, other: object) -> bool:
        """Whether it is this kind.

        Raises:
            TypeError: the forward does one thing on some devices, and another on others.
        """
        if other != "meta" and not is_called_by_torch():
            raise TypeError(f"where it runs on {other!r} it may do something else")
        return str.__eq__(self, other)

    def __ne__(self, other: object) -> bool:
        """Whether it is another kind; torch's own code may ask for any, as for equality."""
        return str.__ne__(self, other) if is_called_by_torch() else not self == other

    __hash__ = str.__hash__


def contexts() -> tuple[bool, ...]:
    """What a forward computes under, which is no part of its trace: gradients and autocast."""
    kinds = ("cpu", "cuda")
    return torch.is_grad_enabled(), *(torch.is_autocast_enabled(kind) for kind in kinds)
