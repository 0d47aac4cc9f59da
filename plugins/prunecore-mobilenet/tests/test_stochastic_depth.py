from __future__ import annotations

import pytest
import torch
from torch import nn
from torchvision.ops.stochastic_depth import StochasticDepth

import prunecore


def network(depth: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 8, 1), depth, nn.Conv2d(8, 4, 1))


@pytest.mark.parametrize("mode", ["row", "batch"])
@pytest.mark.parametrize("p", [0.0, 0.4, 1.0])
def test_stochastic_depth_drops_in_training_what_torchvision_s_drops(p, mode):
    theirs = StochasticDepth(p, mode)
    small = prunecore.prune(network(theirs), level=30, input_shape=(3, 8, 8))
    ours = small.model[1]
    for x in (torch.randn(64, 3, 2, 2), torch.randn(64, 5, dtype=torch.float64)):
        for training in (True, False):
            outputs = []
            for module in (ours.train(training), theirs.train(training)):
                torch.manual_seed(1)
                outputs.append(module(x))
            assert torch.equal(*outputs)
            assert outputs[0].dtype == x.dtype


@pytest.mark.parametrize(("p", "mode"), [(1.5, "row"), (0.5, "column")])
def test_stochastic_depth_that_torchvision_refuses_is_refused(p, mode):
    with pytest.raises(prunecore.UnsupportedError, match=f"p={p} and mode='{mode}'"):
        prunecore.prune(network(StochasticDepth(p, mode)), level=30, input_shape=(3, 8, 8))
