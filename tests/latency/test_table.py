"""Tables of latencies: what is measured at some widths tells of others."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from prunecore.latency.table import LatencyTable, LayerTimes

WIDTHS = np.array([[64, 32], [40, 20], [64, 8], [16, 32], [8, 4], [48, 28]], dtype=np.float64)


def takes(out: float, read: float) -> float:
    return 0.1 + 0.002 * out + 0.0005 * out * read


def test_a_layer_grows_with_its_widths_and_their_product() -> None:
    layer = LayerTimes(WIDTHS, np.array([takes(*row) for row in WIDTHS]))
    for widths in ((33, 17), (64, 32), (2, 2)):
        assert layer.at(widths) == pytest.approx(takes(*widths))


def test_a_wider_layer_never_takes_less() -> None:
    """Noise alone would have some coefficients below 0."""
    noise = np.random.default_rng(0).normal(1, 0.2, len(WIDTHS))
    layer = LayerTimes(WIDTHS, noise)
    times = [layer.at((width, width / 2)) for width in range(2, 65)]
    assert all(later >= sooner for sooner, later in itertools.pairwise(times))


def test_a_layer_without_axes_takes_the_same_at_any_width() -> None:
    layer = LayerTimes(np.zeros((3, 0)), np.array([1.0, 1.0, 1.0]))
    assert layer.at(()) == pytest.approx(1)


def test_a_network_takes_what_its_layers_do_and_some_more() -> None:
    ms = np.array([takes(*row) for row in WIDTHS])
    table = LatencyTable("a", "b", "c", 1, 0.5 + 1.2 * ms, {"conv": LayerTimes(WIDTHS, ms)})
    assert table.of_network(1.0) == pytest.approx(1.7)


def test_a_network_may_take_less_than_its_layers_by_themselves() -> None:
    ms = np.array([takes(*row) for row in WIDTHS])
    table = LatencyTable("a", "b", "c", 1, ms - 0.05, {"conv": LayerTimes(WIDTHS, ms)})
    assert table.of_network(1.0) == pytest.approx(0.95)
    assert table.of_network(0.01) == 0


def test_the_whole_network_takes_what_was_measured() -> None:
    """Whatever the noise of the others: levels are shares of it."""
    noise = np.random.default_rng(0).normal(1, 0.2, len(WIDTHS))
    ms = np.array([takes(*row) for row in WIDTHS])
    layer = LayerTimes(WIDTHS, ms)
    table = LatencyTable("a", "b", "c", 1, ms * noise, {"conv": layer})
    assert table.of_network(layer.at(WIDTHS[0])) == pytest.approx(table.ms[0], rel=0.02)
