"""Units that take several filters each: a layer is as wide as it has units."""

from __future__ import annotations

import numpy as np
from torch import nn

from prunecore.channels.dependencies import merge
from prunecore.channels.layers.units import bind_units
from prunecore.registry import Plugins
from prunecore.walking.walk import Walk


def test_a_layer_of_several_filters_a_unit_is_as_wide_as_it_has_units(toys: Plugins) -> None:
    model = nn.GRUCell(3, 4)
    walk = Walk(model, toys)
    units = walk.fresh(4)
    for weight in (model.weight_ih, model.weight_hh):
        bind_units(walk, weight, 0, np.tile(units, 3), units)
    found = merge(model, walk.records)
    assert {path: found.axes[index].tolist() for path, index in found.layers.items()} == {
        "": [0, 1, 2, 3]
    }
    widths = [(name, len(found.axes[index])) for name, _, index in found.filters]
    assert widths == [("weight_ih", 12), ("weight_hh", 12)]
