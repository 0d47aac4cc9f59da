"""Every block of torchvision's networks that a family owns is followed as its own forward is."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torchvision import models

from prunecore import plugins
from prunecore.signal import Signal
from prunecore.testing import check_block
from prunecore.written import walk

# A network of each kind of block, by family. torch's own layers have their tests elsewhere.
NETWORKS = {
    "resnet": ["resnet18", "resnet50", "resnext50_32x4d"],
    "mobilenet": ["mobilenet_v2", "mobilenet_v3_small", "mnasnet0_5", "efficientnet_b0"],
    "squeezenet": ["squeezenet1_0", "squeezenet1_1"],
    "googlenet": ["googlenet", "inception_v3"],
}
INSTALLED = [plugin.name for plugin in plugins.installed()]
CASES = [(family, name) for family in INSTALLED for name in NETWORKS.get(family, [])]
NOT_TRACED = ("StochasticDepth",)  # its forward calls a function of torchvision's
MOST_CHANNELS = 256  # of an input: wider blocks are as these are, and take long


def network(name: str) -> nn.Module:
    torch.manual_seed(0)
    arguments = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    return models.get_model(name, weights=None, **arguments)


@pytest.mark.parametrize(("family", "name"), CASES)
def test_a_family_s_blocks_agree_with_tracing(family: str, name: str) -> None:
    model = network(name)
    loaded = plugins.load()
    visits = walk(model, (3, 96, 96), loaded).visits
    seen: set[str] = set()
    for path, module in model.named_modules():
        owner = loaded.owner(type(module))
        if owner is None or owner.name != family or path not in visits:
            continue
        inputs = [given for given in visits[path][0].inputs if isinstance(given, Signal)]
        if repr(module) not in seen and inputs[0].shape[1] <= MOST_CHANNELS:
            seen.add(repr(module))
            shapes = [signal.shape[1:] for signal in inputs]
            traceable = type(module).__name__ not in NOT_TRACED
            check_block(module, *shapes, seeds=[0, 1], traceable=traceable)
    assert seen
