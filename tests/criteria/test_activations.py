"""What consumers read, and what a refit could not make up for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from prunecore.criteria.activations import activation, reconstruction
from prunecore.criteria.moments import Moments, removal_errors
from prunecore.criteria.scoring import Scoring

from .linear import Halves, Rows, made_by, reading

PLAIN = Scoring(normalize="none")


def two_layers(width: int = 3) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, width), nn.Linear(width, 4))


def test_activation_is_the_mean_size_of_what_is_read(find: Callable[..., Any]) -> None:
    model, images = two_layers(), torch.randn(50, 6, 3)
    context = reading(find, model, images, scoring=PLAIN, batch=8)
    expected = model[0](images).abs().double().mean((0, 1)).detach()
    np.testing.assert_allclose(activation(context)[made_by(context, "0")], expected, rtol=1e-5)


def test_a_channel_that_another_repeats_costs_nothing(find: Callable[..., Any]) -> None:
    model = two_layers()
    with torch.no_grad():
        model[0].weight[2], model[0].bias[2] = model[0].weight[0], model[0].bias[0]
    context = reading(find, model, torch.randn(500, 3), scoring=PLAIN)
    first, second, third = reconstruction(context)[made_by(context, "0")]
    assert max(first, third) < 2e-3
    assert second > 0.05


def left_over(read: Tensor, weight: Tensor, places: list[int]) -> float:
    """The share of what a layer answers that is left without some columns, after a refit."""
    answers = read @ weight.T
    others = [place for place in range(read.shape[1]) if place not in places]
    fitted = torch.linalg.lstsq(read[:, others], answers).solution
    error = (answers - read[:, others] @ fitted).square().sum()
    return float(error / answers.square().sum())


def test_reconstruction_is_what_a_refit_leaves(find: Callable[..., Any]) -> None:
    model = two_layers()
    images = torch.randn(300, 3, generator=torch.Generator().manual_seed(1))
    context = reading(find, model, images, scoring=PLAIN, batch=64)
    read, weight = model[0](images).detach().double(), model[1].weight.detach().double()
    expected = [left_over(read, weight, [place]) for place in range(3)]
    made = made_by(context, "0")
    np.testing.assert_allclose(reconstruction(context)[made], expected, rtol=0.02)


@pytest.mark.parametrize("images", [400, 9])
def test_channels_at_several_places_go_as_a_whole(images: int) -> None:
    """With fewer rows than columns, the rows themselves are kept, which gives the same."""
    layer = nn.Linear(12, 5).double()
    read = torch.randn(images, 12, dtype=torch.float64) + 0.5
    channels = np.array([0, 0, -1, 1, 1, 2, 2, 2, 1, -1, 3, 3])
    moments = Moments(Rows(layer), images, seed=0)
    for batch in read.split(50):
        moments.add(batch, layer(batch))
    found, errors = removal_errors(moments, channels)
    gram = read.T @ read
    gram = gram + 1e-3 * gram.diagonal().mean() * torch.eye(12)
    inverse, weight = torch.linalg.inv(gram), layer.weight.detach()
    total = float(torch.trace(weight @ gram @ weight.T))
    assert sorted(found.tolist()) == [0, 1, 2, 3]
    for channel, error in zip(found.tolist(), errors.tolist(), strict=True):
        own = np.flatnonzero(channels == channel)
        block = torch.linalg.inv(inverse[own][:, own])
        expected = float(torch.trace(weight[:, own] @ block @ weight[:, own].T)) / total
        assert error == pytest.approx(expected, rel=1e-6)
    assert moments.count == images
    torch.testing.assert_close(moments.inverse()[0], inverse * images)


def test_groups_are_solved_apart() -> None:
    layer, read = nn.Linear(4, 6), torch.randn(200, 4)
    moments = Moments(Halves(layer), 200, seed=0)
    moments.add(read, layer(read))
    found, errors = removal_errors(moments, np.array([0, 1, 0, 2]))
    with torch.no_grad():
        layer.weight[:3, 2:] = 0
        layer.weight[3:, :2] = 0
    whole = Moments(Rows(layer), 200, seed=0)
    whole.add(read, layer(read))
    assert found.tolist() == [0, 1, 0, 2]  # channel 0 is read in both
    assert (errors > 0).all()
    rows = read.double()
    weight = layer.weight.detach().double()
    total = sum(
        float((rows[:, half] @ weight[outs, half].T).square().sum())
        for half, outs in ((slice(2), slice(3)), (slice(2, 4), slice(3, 6)))
    )
    first = left_over(rows[:, :2], weight[:3, :2], [1])
    energy = float((rows[:, :2] @ weight[:3, :2].T).square().sum())
    assert errors[1] == pytest.approx(first * energy / total, rel=0.02)


def test_places_are_drawn_where_there_are_more_than_needed(find: Callable[..., Any]) -> None:
    model, images = two_layers(), torch.randn(8, 2000, 3)
    layer = Rows(model[1])
    read = model[0](images).detach()
    moments = Moments(layer, 8, seed=0)
    moments.add(read, model[1](read))
    assert moments.count == 4096
    context = reading(find, model, images, scoring=PLAIN)
    other = replace(context, seed=1)
    first, again, drawn = map(reconstruction, (context, context, other))
    assert first.tolist() == again.tolist() != drawn.tolist()
    np.testing.assert_allclose(first, drawn, rtol=0.1)


@pytest.mark.parametrize("criterion", [activation, reconstruction])
def test_groups_compare_by_their_means(find: Callable[..., Any], criterion: Any) -> None:
    context = reading(find, two_layers(), torch.randn(100, 3))
    assert criterion(context)[made_by(context, "0")].mean() == pytest.approx(1)


def test_what_no_layer_reads_is_scored_by_its_magnitude(find: Callable[..., Any]) -> None:
    class Product(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(3, 3), nn.Linear(3, 2)
            self.a, self.b = nn.Linear(3, 4), nn.Linear(3, 4)

        def forward(self, x: Tensor) -> Tensor:
            x = self.first(x)
            query, key = self.a(x), self.b(x)
            return self.last((query @ key.transpose(1, 2)) @ x)

    model = Product()
    context = reading(find, model, torch.randn(20, 5, 3))
    scores = activation(context)[made_by(context, "a")]
    assert (scores > 0).all()
    assert scores.mean() == pytest.approx(1)
