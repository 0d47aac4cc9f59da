"""On an accelerator, where the machine has one: weights stay there, and what is cut is the same."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torchvision import models

import prunecore

pytestmark = [
    pytest.mark.accelerator,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here"),
]

SHAPE = (3, 64, 64)


def network(device: str) -> nn.Module:
    torch.manual_seed(0)
    return models.resnet18().eval().to(device)


def images() -> Tensor:
    return torch.randn(16, *SHAPE, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("mode", ["magnitude", "lamp", "bn-scale", "random"])
def test_weights_stay_there_and_are_those_that_are_cut_elsewhere(mode: str) -> None:
    here, there = (
        prunecore.prune(network(device), level=50, input_shape=SHAPE, mode=mode)
        for device in ("cpu", "cuda")
    )
    assert here.source == there.source
    expected = here.model.state_dict()
    for name, tensor in there.model.state_dict().items():
        assert tensor.is_cuda
        assert tensor.cpu().equal(expected[name])


@pytest.mark.parametrize("mode", ["surgeon", "fisher", "taylor", "activation", "reconstruction"])
def test_scoring_and_refitting_run_there(mode: str) -> None:
    small = prunecore.prune(
        network("cuda"),
        level=30,
        input_shape=SHAPE,
        mode=mode,
        calibration=prunecore.Calibration(images()),
    )
    assert all(tensor.is_cuda for tensor in small.model.state_dict().values())
    assert [step["step"] for step in small.report["recovered"]] == ["refit"]
