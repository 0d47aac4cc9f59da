"""Prune a small network with two mixtures of experts, and print what came of it."""

from __future__ import annotations

import torch
from torch import nn

import prunecore
from prunecore_experts import Experts

torch.manual_seed(0)
network = nn.Sequential(
    nn.Conv2d(3, 16, 3, padding=1),
    Experts(16, [32, 32, 32]),
    nn.Conv2d(16, 32, 3, stride=2, padding=1),
    Experts(32, [48, 48, 48, 48], top=2),
    nn.AdaptiveAvgPool2d(1),
    nn.Flatten(),
    nn.Linear(32, 10),
)
small = prunecore.prune(network, level=50, input_shape=(3, 32, 32), name="mixture")
report = small.report
print(f"level {report['level']['achieved']:.2f} of {report['level']['asked']:.0f} asked")
print(f"{report['before']['params']} parameters, now {report['after']['params']}")
print(f"largest relative difference {report['verified']['max_relative_difference']}")
print(small.source)
