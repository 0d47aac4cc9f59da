"""Tables of layer latencies: what was measured of some networks, and what it tells of others."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


# How much the whole network counts beside a narrower one: levels are shares of its time.
_OF_WHOLE = 10.0


@dataclass(frozen=True)
class LayerTimes:
    """How long a layer takes in each of some networks, the whole one first.

    Attributes:
        widths: of each of its axes that lose channels, shape `(networks, axes)`.
        ms: milliseconds of all its calls in one forward, shape `(networks,)`.
    """

    widths: Array
    ms: Array

    def at(self, widths: Sequence[int]) -> float:
        """Milliseconds at other widths, shape `(axes,)`."""
        shares = np.array([widths], dtype=np.float64) / self.widths[0]
        return float((_products(shares) @ self._coefficients)[0])

    @functools.cached_property
    def _coefficients(self) -> Array:
        return _fitted(_products(self.widths / self.widths[0]), self.ms)


@dataclass(frozen=True)
class LatencyTable:
    """Latencies of a network's layers, measured at several widths.

    A layer's time is taken as a constant, and what grows with each of its widths and with their
    products; what the layers do not account for, as activations and calls, grows with their sum.

    Attributes:
        name: what reports call it.
        backend: what ran the networks.
        device: on what.
        threads: on how many threads.
        ms: milliseconds of each network, the whole one first, shape `(networks,)`.
        layers: of each layer, by path.
    """

    name: str
    backend: str
    device: str
    threads: int
    ms: Array
    layers: Mapping[str, LayerTimes]

    def of_network(self, layers: float) -> float:
        """Milliseconds of a network whose layers take so many."""
        return max(float(self._coefficients @ (1.0, layers)), 0.0)

    @functools.cached_property
    def _coefficients(self) -> Array:
        sums = np.zeros(len(self.ms))
        for layer in self.layers.values():
            sums += [layer.at(widths) for widths in layer.widths]
        # a layer that is called by itself may take longer, by as much whatever its width
        features = np.stack([np.ones_like(sums), sums], axis=1)
        return _fitted(features, self.ms, least=(-np.inf, 0.0))


def _products(shares: Array) -> Array:
    """The products of all subsets of axes, shape `(networks, 2 ** axes)`; first that of none."""
    axes = range(shares.shape[1])
    subsets = [s for size in range(len(axes) + 1) for s in itertools.combinations(axes, size)]
    return np.stack([shares[:, subset].prod(axis=1) for subset in subsets], axis=1)


def _fitted(features: Array, ms: Array, least: Sequence[float] | float = 0.0) -> Array:
    """Coefficients with which features make up times, by least relative squares.

    Those that would be less than they may be are left out, one after the other.

    Args:
        features: shape `(networks, features)`; the first is 1. The whole network comes first.
        ms: shape `(networks,)`.
        least: what each may be at least, shape `(features,)`.
    """
    chosen = list(range(features.shape[1]))
    bounds = np.broadcast_to(np.asarray(least, dtype=np.float64), features.shape[1:])
    weights = np.where(np.arange(len(ms)) == 0, _OF_WHOLE, 1.0)
    relative = features * (weights / ms)[:, None]
    while True:
        found = np.linalg.lstsq(relative[:, chosen], weights, rcond=None)[0]
        over = found - bounds[chosen]
        if (over >= 0).all() or len(chosen) == 1:
            break
        del chosen[int(over.argmin())]
    coefficients = np.zeros(features.shape[1])
    coefficients[chosen] = found
    return coefficients
