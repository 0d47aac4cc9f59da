"""A refitted layer answers as the original's does, as far as what it still reads allows."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from prunecore.channels.layers.linear_map import LinearMap, RunningStatistics
from prunecore.errors import WeightsError
from prunecore.recovery.least_squares import Errors, Refit
from prunecore.recovery.recording import Recording

from ..criteria.linear import Rows


def layers_of(network: nn.Module) -> dict[str, LinearMap | RunningStatistics]:
    found: dict[str, LinearMap | RunningStatistics] = {}
    for path, layer in network.named_modules():
        if isinstance(layer, nn.Linear):
            found[path] = Rows(layer)
        elif isinstance(layer, nn.BatchNorm1d):
            assert layer.running_mean is not None
            assert layer.running_var is not None
            found[path] = RunningStatistics(
                layer.running_mean, layer.running_var, layer.weight, layer.bias, layer.eps
            )
    return found


def refit(
    original: nn.Module, small: nn.Module, images: Tensor, **kept: list[int] | None
) -> list[str]:
    """Refit these layers of a smaller network, of whose outputs these are kept."""
    layers = layers_of(small)
    columns = {
        path: layers[path].matrix().shape[2]  # type: ignore[union-attr]
        for path in kept
    }
    places = {path: None if one is None else torch.tensor(one) for path, one in kept.items()}
    recording = Recording(original, layers_of(original), columns, places, len(images), 0)
    with torch.no_grad():
        for batch in images.split(16):
            recording.run(batch)
    return Refit(small, layers, recording.answers, images.split(16)).run()


class Pair(nn.Module):
    """Two linear layers, the last of which answers for the first's channels."""

    def __init__(self, width: int, bias: bool = True) -> None:
        super().__init__()
        self.first = nn.Linear(4, width)
        self.last = nn.Linear(width, 3, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.relu(self.first(x)))


def random(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def test_what_others_know_is_made_up_for() -> None:
    torch.manual_seed(0)
    original, small = Pair(6).eval(), Pair(4).eval()
    original.first.weight[4:] = 2 * original.first.weight[:2]  # the last two are in the first two
    original.first.bias[4:] = 2 * original.first.bias[:2]
    small.first.weight.copy_(original.first.weight[:4])
    small.first.bias.copy_(original.first.bias[:4])
    small.last.weight.copy_(original.last.weight[:, :4])
    small.last.bias.copy_(original.last.bias)
    x = random(200, 4)
    before = float((small(x) - original(x)).norm())
    changed = refit(original, small, x, first=[0, 1, 2, 3], last=None)
    assert changed == ["first.weight", "first.bias", "last.weight", "last.bias"]
    after = float((small(x) - original(x)).norm())
    assert after < 0.05 * before
    torch.testing.assert_close(small.first.weight, original.first.weight[:4])  # it reads the same


@torch.no_grad()
def test_a_constant_goes_into_the_bias() -> None:
    torch.manual_seed(0)
    original, small = Pair(5).eval(), Pair(4).eval()
    original.first.weight[4] = 0.0
    original.first.bias[4] = 1.5
    small.first.weight.copy_(original.first.weight[:4])
    small.first.bias.copy_(original.first.bias[:4])
    small.last.weight.copy_(original.last.weight[:, :4])
    small.last.bias.copy_(original.last.bias)
    x = random(64, 4)
    refit(original, small, x, last=None)
    torch.testing.assert_close(small(x), original(x), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(
        small.last.bias, original.last.bias + 1.5 * original.last.weight[:, 4]
    )


class Normed(nn.Module):
    """A layer without a bias before a norm."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Linear(4, width)
        self.last = nn.Linear(width, 3, bias=False)
        self.norm = nn.BatchNorm1d(3)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.last(torch.relu(self.first(x))))


@torch.no_grad()
def test_a_constant_goes_into_the_mean_of_the_norm_that_follows() -> None:
    torch.manual_seed(0)
    original, small = Normed(5).eval(), Normed(4).eval()
    original.first.weight[4] = 0.0
    original.first.bias[4] = 1.5
    small.first.weight.copy_(original.first.weight[:4])
    small.first.bias.copy_(original.first.bias[:4])
    small.last.weight.copy_(original.last.weight[:, :4])
    x = random(64, 4)
    assert refit(original, small, x, last=None) == ["last.weight", "norm.running_mean"]
    torch.testing.assert_close(small(x), original(x), atol=1e-5, rtol=1e-5)


class Residual(nn.Module):
    """A stream that a branch adds to."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.stream = nn.Linear(4, 3)
        self.inner = nn.Linear(4, width)
        self.outer = nn.Linear(width, 3)

    def forward(self, x: Tensor) -> Tensor:
        stream = self.stream(x)
        return stream + self.outer(torch.relu(self.inner(x)))


@torch.no_grad()
def test_a_branch_makes_up_for_what_its_stream_has_lost() -> None:
    torch.manual_seed(0)
    original, small = Residual(8).eval(), Residual(8).eval()
    small.load_state_dict(original.state_dict())
    small.stream.bias += 0.5  # a loss that the branch can take up
    x = random(128, 4)
    refit(original, small, x, outer=None)
    torch.testing.assert_close(small(x), original(x), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_what_is_not_finite_is_named() -> None:
    original, small = Pair(4).eval(), Pair(4).eval()
    small.first.bias[0] = float("inf")
    with pytest.raises(WeightsError, match="What last reads on the calibration images"):
        refit(original, small, random(16, 4), last=None)


@torch.no_grad()
def test_fewer_images_than_a_layer_has_inputs() -> None:
    torch.manual_seed(0)
    original, small = Pair(6).eval(), Pair(6).eval()
    small.load_state_dict(original.state_dict())
    small.first.weight[0] *= 0.9
    x = random(3, 4)
    refit(original, small, x, last=None)
    assert all(parameter.isfinite().all() for parameter in small.parameters())
    assert (small(x) - original(x)).norm() < 0.1


def test_the_best_ridge_is_the_least_of_those_that_do_about_as_well() -> None:
    torch.manual_seed(0)
    weights, rows = torch.randn(1, 2, 6), torch.randn(1, 400, 6)
    wanted = rows[0] @ torch.randn(6, 2)
    for noise, expected in ((0.0, 1e-2), (60.0, 1e2)):
        errors = Errors(weights, has_intercept=True)
        answers = rows[0] @ weights[0].T if noise else wanted
        answers = answers + noise * torch.randn(400, 2)
        errors.add(rows[:, :20], answers[:20])
        errors.put_aside(rows[:, 20:], answers[20:])
        assert errors._best([1e-2, 1.0, 1e2]) == expected
