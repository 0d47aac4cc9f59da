"""The classes that stand in written files, by themselves: at full width they are torchvision's."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torchvision.models import efficientnet, mnasnet, mobilenetv2, mobilenetv3
from torchvision.ops import misc

from prunecore_mobilenet.written.common import SqueezeExcitation
from prunecore_mobilenet.written.efficientnet import FusedMBConv, MBConv
from prunecore_mobilenet.written.mnasnet import _InvertedResidual
from prunecore_mobilenet.written.mobilenet_v2 import InvertedResidual
from prunecore_mobilenet.written.mobilenet_v3 import InvertedResidual as InvertedResidualV3
from prunecore_mobilenet.written.mobilenet_v3 import WithoutSqueeze


def v3(squeezes: bool) -> nn.Module:
    config = mobilenetv3.InvertedResidualConfig(16, 5, 48, 16, squeezes, "HS", 1, 1, 1.0)
    block = mobilenetv3.InvertedResidual(config, nn.BatchNorm2d)
    if squeezes:
        block.block[2].scale_activation = nn.Sigmoid()  # as the class stands
    return block


def mb_conv(kind: str) -> nn.Module:
    config = getattr(efficientnet, f"{kind}Config")(3, 3, 1, 16, 16, 1)
    block = getattr(efficientnet, kind)(config, 0.0, nn.BatchNorm2d)
    if kind == "MBConv":
        block.block[2].activation = nn.ReLU()  # as the class stands
    return block


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (
            InvertedResidual(16, 64, 16, skip=True),
            mobilenetv2.InvertedResidual(16, 16, 1, 4),
        ),
        (
            InvertedResidual(16, 16, 24, stride=2, expand=False),
            mobilenetv2.InvertedResidual(16, 24, 2, 1),
        ),
        (
            _InvertedResidual(16, 48, 16, 5, skip=True),
            mnasnet._InvertedResidual(16, 16, 5, 1, 3, 0.1),
        ),
        (InvertedResidualV3(16, 48, 16, 5, nn.Hardswish, 16, skip=True), v3(True)),
        (WithoutSqueeze(16, 48, 16, 5, nn.Hardswish, skip=True), v3(False)),
        (MBConv(16, 48, 16, 3, 4, drop=0.0), mb_conv("MBConv")),
        (FusedMBConv(16, 48, 16, 3, drop=0.0), mb_conv("FusedMBConv")),
        (SqueezeExcitation(16, 4), misc.SqueezeExcitation(16, 4)),
    ],
)
def test_a_written_class_computes_what_torchvision_s_does(ours: nn.Module, theirs: nn.Module):
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(2, 16, 6, 6)
    for training in (False, True):
        torch.testing.assert_close(ours.train(training)(x), theirs.train(training)(x))
