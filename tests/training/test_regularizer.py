"""The penalty is that of the group lasso over coupled channels, and makes whole ones small."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

import prunecore
from prunecore import PrunecoreError, UsageError

pytestmark = pytest.mark.usefixtures("toys_installed")


class Residual(nn.Module):
    """Two layers that make the same channels, and one that reads them."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 6), nn.Linear(6, 6)
        self.last = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        return self.last(x + self.second(x))


def test_all_that_is_bound_to_a_channel_is_one_group() -> None:
    torch.manual_seed(0)
    model = Residual()
    penalty = prunecore.regularizer(model, input_shape=(4,))
    first, second, last = model.first.weight, model.second.weight, model.last.weight
    squares = first.square().sum(1) + second.square().sum(1) + second.square().sum(0)
    squares = squares + last.square().sum(0)
    expected = (squares.sqrt() / (4 + 6 + 6 + 3) ** 0.5).mean()
    torch.testing.assert_close(penalty(), expected)
    assert penalty.channels == 6


def test_its_gradient_is_the_weights_share_of_their_group() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 5, bias=False), nn.Linear(5, 1, bias=False)).double()
    penalty = prunecore.regularizer(model, input_shape=(2,))
    penalty().backward()
    first, last = model[0].weight, model[1].weight
    norms = (first.square().sum(1) + last.square()[0]).sqrt()
    torch.testing.assert_close(first.grad, first.detach() / norms[:, None] / 3**0.5 / 5)


def test_what_is_removed_becomes_small() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 2))
    target = copy.deepcopy(model)
    x = torch.randn(256, 4)

    def error_of_half() -> float:
        small = prunecore.prune(model, level=50, target="channels", input_shape=(4,)).model
        with torch.no_grad():
            return float((small(x) - model(x)).norm() / model(x).norm())

    before = error_of_half()
    penalty = prunecore.regularizer(model, input_shape=(4,))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(600):
        optimizer.zero_grad()
        loss = (model(x) - target(x).detach()).square().mean() + penalty()
        loss.backward()
        optimizer.step()
    assert error_of_half() < 0.5 * before


def test_it_follows_the_network_to_another_type() -> None:
    model = nn.Sequential(nn.Linear(2, 5), nn.Linear(5, 1))
    penalty = prunecore.regularizer(model, input_shape=(2,))
    before = penalty()
    model.double()
    assert penalty().dtype == torch.float64
    torch.testing.assert_close(penalty().float(), before)


def test_a_channel_of_zeros_has_a_gradient_that_is_finite() -> None:
    model = nn.Sequential(nn.Linear(2, 5), nn.Linear(5, 1))
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    prunecore.regularizer(model, input_shape=(2,))().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def test_without_a_channel_that_may_go_there_is_nothing_to_make_small() -> None:
    with pytest.raises(PrunecoreError, match="no channel that may go"):
        prunecore.regularizer(nn.Sequential(nn.Linear(2, 5)), input_shape=(2,))


def test_a_model_is_asked_for() -> None:
    with pytest.raises(UsageError, match="not a torch"):
        prunecore.regularizer(nn.Linear, input_shape=(2,))  # type: ignore[arg-type]
