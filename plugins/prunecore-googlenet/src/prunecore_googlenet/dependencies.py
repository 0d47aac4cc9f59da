"""How channels run through torchvision's blocks: those of all branches, one after the other."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from prunecore.plugin import Channels, Signal


def basic_conv(block: Any, x: Signal, channels: Channels) -> Signal:
    """Follow a convolution, its norm and the activation."""
    x = _through(channels, x, block.conv, block.bn)
    return channels.apply(F.relu, x, inplace=True)  # type: ignore[no-any-return]


def inception(block: Any, x: Signal, channels: Channels) -> Signal:
    """Follow GoogLeNet's four branches."""
    branch1 = channels.through(block.branch1, x)
    branch2 = channels.through(block.branch2, x)
    branch3 = channels.through(block.branch3, x)
    branch4 = channels.through(block.branch4, x)
    return _concatenated(channels, branch1, branch2, branch3, branch4)


def inception_a(block: Any, x: Signal, channels: Channels) -> Signal:
    """Follow Inception v3's 35 x 35 block."""
    branch1x1 = channels.through(block.branch1x1, x)
    branch5x5 = _through(channels, x, block.branch5x5_1, block.branch5x5_2)
    branch3x3dbl = _through(
        channels, x, block.branch3x3dbl_1, block.branch3x3dbl_2, block.branch3x3dbl_3
    )
    branch_pool = channels.through(block.branch_pool, _averaged(channels, x))
    return _concatenated(channels, branch1x1, branch5x5, branch3x3dbl, branch_pool)


def inception_b(block: Any, x: Signal, channels: Channels) -> Signal:
    """Follow Inception v3's reduction to 17 x 17; the input's own channels come last."""
    branch3x3 = channels.through(block.branch3x3, x)
    branch3x3dbl = _through(
        channels, x, block.branch3x3dbl_1, block.branch3x3dbl_2, block.branch3x3dbl_3
    )
    return _concatenated(channels, branch3x3, branch3x3dbl, _halved(channels, x))


def inception_c(block: Any, x: Signal, channels: Channels) -> Signal:
    """Follow Inception v3's 17 x 17 block."""
    branch1x1 = channels.through(block.branch1x1, x)
    branch7x7 = _through(channels, x, block.branch7x7_1, block.branch7x7_2, block.branch7x7_3)
    branch7x7dbl = _through(
        channels,
        x,
        block.branch7x7dbl_1,
        block.branch7x7dbl_2,
        block.branch7x7dbl_3,
        block.branch7x7dbl_4,
        block.branch7x7dbl_5,
    )
    branch_pool = channels.through(block.branch_pool, _averaged(channels, x))
    return _concatenated(channels, branch1x1, branch7x7, branch7x7dbl, branch_pool)


def inception_d(block: Any, x: Signal, channels: Channels) -> Signal:
    """Follow Inception v3's reduction to 8 x 8; the input's own channels come last."""
    branch3x3 = _through(channels, x, block.branch3x3_1, block.branch3x3_2)
    branch7x7x3 = _through(
        channels,
        x,
        block.branch7x7x3_1,
        block.branch7x7x3_2,
        block.branch7x7x3_3,
        block.branch7x7x3_4,
    )
    return _concatenated(channels, branch3x3, branch7x7x3, _halved(channels, x))


def inception_e(block: Any, x: Signal, channels: Channels) -> Signal:
    """Follow Inception v3's 8 x 8 block, two of whose branches are concatenations themselves."""
    branch1x1 = channels.through(block.branch1x1, x)

    branch3x3 = channels.through(block.branch3x3_1, x)
    branch3x3 = _concatenated(
        channels,
        channels.through(block.branch3x3_2a, branch3x3),
        channels.through(block.branch3x3_2b, branch3x3),
    )

    branch3x3dbl = _through(channels, x, block.branch3x3dbl_1, block.branch3x3dbl_2)
    branch3x3dbl = _concatenated(
        channels,
        channels.through(block.branch3x3dbl_3a, branch3x3dbl),
        channels.through(block.branch3x3dbl_3b, branch3x3dbl),
    )

    branch_pool = channels.through(block.branch_pool, _averaged(channels, x))
    return _concatenated(channels, branch1x1, branch3x3, branch3x3dbl, branch_pool)


def _through(channels: Channels, x: Signal, *layers: nn.Module) -> Signal:
    """Follow layers one after the other."""
    for layer in layers:
        x = channels.through(layer, x)
    return x


def _averaged(channels: Channels, x: Signal) -> Signal:
    """The pooling of a block that keeps its input's size."""
    return channels.apply(  # type: ignore[no-any-return]
        F.avg_pool2d, x, kernel_size=3, stride=1, padding=1
    )


def _halved(channels: Channels, x: Signal) -> Signal:
    """The pooling of a block that halves its input's size."""
    return channels.apply(F.max_pool2d, x, kernel_size=3, stride=2)  # type: ignore[no-any-return]


def _concatenated(channels: Channels, *branches: Signal) -> Signal:
    return channels.apply(torch.cat, list(branches), 1)  # type: ignore[no-any-return]
