"""Deformable convolution, an operator of torchvision, which only networks that call it import."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any

import torch

from prunecore.plugin import Channels, Computed, FunctionRule, Operation, Signal
from prunecore_sequential.functional import argument_of, convolution
from prunecore_sequential.rules import couple_positions


def rules() -> Mapping[Callable[..., Any], FunctionRule]:
    """The rule for the operator; nothing before torchvision is imported, which registers it."""
    if "torchvision" not in sys.modules:
        return {}
    operator = torch.ops.torchvision.deform_conv2d
    return {operator: FunctionRule(_deformed, understands=(Computed,))}


def _deformed(channels: Channels, operation: Operation) -> Signal:
    """A convolution whose inputs are in groups that are moved alike: the same places go in each.

    What says where to, and the masks if there are any, are numbers of places, not channels.
    """
    for name in ("offset", "mask"):
        channels.pin(
            argument_of(operation, name).ids, "it says where a deformable convolution reads"
        )
    entering = channels.axis(operation.tensor, 1)
    groups = argument_of(operation, "offset_groups")
    if entering is not None and groups > 1:
        couple_positions(channels, groups, entering)
    return convolution(0, channels, operation)
