"""What a traced forward sees as the device of a tensor, and what it computes under."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx
from torch.fx.proxy import Attribute

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
        """Whether it is another kind."""
        return not self == other

    __hash__ = str.__hash__


class _Device(Attribute):
    """The node for `x.device`, which knows its kind."""

    type = DeviceKind("cpu")


class TensorProxy(fx.Proxy):
    """What a traced forward sees as a tensor."""

    def __getattr__(self, name: str) -> Any:
        """The node for an attribute."""
        return _Device(self, name) if name == "device" else super().__getattr__(name)


def contexts() -> tuple[bool, ...]:
    """What a forward computes under, which is no part of its trace: gradients and autocast."""
    kinds = ("cpu", "cuda")
    return torch.is_grad_enabled(), *(torch.is_autocast_enabled(kind) for kind in kinds)
