"""Statistics are those of what a norm reads, once those before it are estimated."""

from __future__ import annotations

import torch
from torch import nn

from prunecore.channels.layers.linear_map import RunningStatistics
from prunecore.recovery.batch_norm import estimate_statistics


def told(norm: nn.BatchNorm1d) -> RunningStatistics:
    assert norm.running_mean is not None
    assert norm.running_var is not None
    return RunningStatistics(norm.running_mean, norm.running_var, norm.weight, norm.bias, norm.eps)


def test_one_norm_after_the_other() -> None:
    first, second = nn.BatchNorm1d(3), nn.BatchNorm1d(3, affine=False)
    network = nn.Sequential(first, nn.Tanh(), second).eval()
    x = 5 * torch.randn(64, 3, generator=torch.Generator().manual_seed(0)) + 2
    changed = estimate_statistics(network, {"0": told(first), "2": told(second)}, x.split(8))
    assert changed == ["0.running_mean", "0.running_var", "2.running_mean", "2.running_var"]
    torch.testing.assert_close(first.running_mean, x.mean(0))
    torch.testing.assert_close(first.running_var, x.var(0))
    read = network[:2](x)
    torch.testing.assert_close(second.running_mean, read.mean(0))
    output = network(x)
    torch.testing.assert_close(output.mean(0), torch.zeros(3), atol=1e-5, rtol=0)
    assert not network._modules["0"]._forward_pre_hooks


def test_one_value_has_no_variance() -> None:
    norm = nn.BatchNorm1d(2).eval()
    assert estimate_statistics(nn.Sequential(norm), {"0": told(norm)}, [torch.rand(1, 2)]) == []
