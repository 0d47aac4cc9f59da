"""Derivatives by gates: by hand, across coupled places, and what cannot be followed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from prunecore.criteria.activations import activation, reconstruction
from prunecore.criteria.criterion import Criterion, ScoringContext
from prunecore.criteria.gates import fisher, taylor
from prunecore.criteria.scoring import Scoring
from prunecore.errors import PrunecoreError, UsageError

from .linear import made_by, reading

READ_IMAGES = [activation, fisher, reconstruction, taylor]


class Stream(nn.Module):
    """Channels that two layers read; each output is of one of these two."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.left, self.right = nn.Linear(3, 2), nn.Linear(2, 2), nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        stream = self.a(x)
        return torch.cat([self.left(stream), self.right(stream)], 1)


def by_hand(model: Stream, images: Tensor, labels: list[int]) -> Any:
    """The derivatives by both channels, those at both readers added: shape `(n, 2)`."""
    with torch.no_grad():
        stream, output = model.a(images), model(images)
        of_output = output.softmax(1) - torch.eye(4)[labels]
        weights = torch.cat([model.left.weight, model.right.weight])
        return (stream * (of_output @ weights)).double().numpy()


def drawn(model: Stream, images: Tensor, seed: int) -> list[int]:
    random = torch.Generator().manual_seed(seed)
    predicted = model(images).detach().softmax(1)
    return torch.multinomial(predicted, 1, generator=random)[:, 0].tolist()


@pytest.fixture
def images() -> Tensor:
    return torch.randn(40, 3, generator=torch.Generator().manual_seed(5))


def test_gates_of_coupled_places_are_added_first(find: Callable[..., Any], images: Tensor) -> None:
    torch.manual_seed(0)
    model = Stream()
    context = reading(find, model, images, seed=3)
    derivatives = by_hand(model, images, drawn(model, images, 3))
    made = made_by(context, "a")
    np.testing.assert_allclose(fisher(context)[made], (derivatives**2).mean(0), rtol=1e-5)
    np.testing.assert_allclose(taylor(context)[made], np.abs(derivatives).mean(0), rtol=1e-5)


def test_gates_across_a_residual_sum_are_added_first(find: Callable[..., Any]) -> None:
    """The second reader takes back what the first gives, so that the channel does nothing."""

    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(3, 2), nn.Linear(2, 2)
            self.last, self.other = nn.Linear(2, 2), nn.Linear(2, 2)

        def forward(self, x: Tensor) -> Tensor:
            stream = self.a(x)
            stream = stream + self.b(stream)
            return self.last(stream) + self.other(stream)

    model = Residual()
    with torch.no_grad():
        model.b.weight.zero_()
        model.other.weight.copy_(-model.last.weight)
    context = reading(find, model, torch.randn(20, 3))
    assert fisher(context)[made_by(context, "a")].tolist() == pytest.approx([0, 0], abs=1e-12)
    alone = reading(find, model, torch.randn(20, 3), scoring=Scoring(reduce="max"))
    assert (fisher(alone)[made_by(alone, "a")] > 1e-6).all()


@pytest.mark.parametrize("criterion", [fisher, taylor])
def test_batches_make_no_difference_where_nothing_is_open(
    find: Callable[..., Any], criterion: Criterion
) -> None:
    """Predictions that are certain leave no label to draw."""

    class Certain(Stream):
        def forward(self, x: Tensor) -> Tensor:
            wide = super().forward(x) * 0.1
            return wide + 100 * torch.tensor([0.0, 0.0, 0.0, 1.0])

    model, images = Certain().double(), torch.randn(40, 3, dtype=torch.float64)
    whole, parts = (criterion(reading(find, model, images, batch=n)) for n in (40, 7))
    np.testing.assert_allclose(whole, parts, rtol=1e-9)
    assert whole.max() > 0


def test_outputs_that_are_no_scores_are_weighed_by_noise(find: Callable[..., Any]) -> None:
    """The mean squared derivative is the squared size of what the channel adds."""

    class Tokens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(3, 2), nn.Linear(2, 2)

        def forward(self, x: Tensor) -> dict[str, Tensor]:
            return {"tokens": self.b(self.a(x))}

    torch.manual_seed(0)
    model = Tokens()
    images = torch.randn(2000, 5, 3)
    context = reading(find, model, images, batch=500)
    read = model.a(images).detach()
    size = read.square().sum(1).mean(0) * model.b.weight.detach().square().sum(0)
    np.testing.assert_allclose(fisher(context)[made_by(context, "a")], size.numpy(), rtol=0.15)


def test_the_seed_draws_the_labels(find: Callable[..., Any], images: Tensor) -> None:
    model = Stream()
    images = images * 3
    first, again, other = (fisher(reading(find, model, images, seed=s)) for s in (1, 1, 2))
    assert first.tolist() == again.tolist() != other.tolist()


@pytest.mark.parametrize("criterion", READ_IMAGES)
def test_the_network_is_left_as_it_was(
    find: Callable[..., Any], images: Tensor, criterion: Criterion
) -> None:
    model = Stream()
    model.a.weight.requires_grad_(False)
    model.left.weight.grad = torch.ones(2, 2)
    context = reading(find, model, images)
    drawing = torch.get_rng_state()
    criterion(context)
    assert [p.requires_grad for p in model.parameters()] == [False, True, True, True, True, True]
    assert model.left.weight.grad.tolist() == [[1, 1], [1, 1]]
    assert model.right.weight.grad is None
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert torch.equal(drawing, torch.get_rng_state())


@pytest.mark.parametrize("criterion", READ_IMAGES)
def test_without_images(find: Callable[..., Any], criterion: Criterion) -> None:
    found = find(Stream(), (2, 3))
    mode = getattr(criterion, "__name__", "")
    with pytest.raises(UsageError) as raised:
        criterion(ScoringContext(found, found.tensors, 0))
    assert str(raised.value) == (
        f"Mode '{mode}' reads images, and none are given.\n"
        "Give some: --calibrate FOLDER, or calibration= in Python."
    )


@pytest.mark.parametrize("criterion", READ_IMAGES)
def test_layers_that_no_plugin_tells_of(
    find: Callable[..., Any], images: Tensor, criterion: Criterion
) -> None:
    context = replace(reading(find, Stream(), images), linear_maps={})
    with pytest.raises(UsageError, match="no plugin tells of one"):
        criterion(context)


@pytest.mark.parametrize("criterion", READ_IMAGES)
def test_members_that_are_not_looked_at(
    find: Callable[..., Any], images: Tensor, criterion: Criterion
) -> None:
    chosen = Scoring(members=("producers",))
    with pytest.raises(UsageError, match=r"looks at what consumers read.*\nLeave members out"):
        criterion(reading(find, Stream(), images, scoring=chosen))


@pytest.mark.parametrize("criterion", READ_IMAGES)
def test_values_that_are_no_numbers_name_the_layer(
    find: Callable[..., Any], images: Tensor, criterion: Criterion
) -> None:
    images = images.clone()
    images[3, 1] = torch.nan
    with pytest.raises(PrunecoreError, match="The inputs of left on the calibration images"):
        criterion(reading(find, Stream(), images))


def test_gradients_that_are_no_numbers_name_the_layer(find: Callable[..., Any]) -> None:
    class Root(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(3, 2), nn.Linear(2, 2)

        def forward(self, x: Tensor) -> Tensor:
            return torch.sqrt(self.b(self.a(x)))

    model = Root()
    for parameter in model.b.parameters():
        nn.init.zeros_(parameter)
    with pytest.raises(PrunecoreError, match="The gradients at b on the calibration images"):
        fisher(reading(find, model, torch.randn(4, 3)))


def test_a_network_that_passes_no_gradients_on(find: Callable[..., Any], images: Tensor) -> None:
    model = Stream()
    context = reading(find, model, images)
    model.forward = torch.no_grad()(model.forward)  # type: ignore[method-assign]
    with pytest.raises(UsageError, match="Mode 'taylor' follows gradients"):
        taylor(context)
