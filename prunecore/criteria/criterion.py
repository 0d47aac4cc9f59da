"""The form of a criterion: what it is given, and one score a channel that it returns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from prunecore.channels.dependencies import Dependencies
from prunecore.channels.layers.linear_map import LinearMap
from prunecore.criteria.scoring import OPEN, Scoring


@dataclass(frozen=True)
class ScoringContext:
    """All that a criterion scores channels by. What it may need later comes as a further attribute.

    Attributes:
        dependencies: the channels of the network, and the axes of its tensors that they lie along.
        tensors: its parameters and buffers by name, in its own dtypes and on its own devices; not
            to be changed.
        seed: of what a criterion draws; the same seed gives the same scores.
        model: the network in eval mode, a copy that may be run; `None` where there are no images.
        images: batches of calibration inputs, shape `(n, ...)` each; none where the user gave none.
        linear_maps: how its layers that mix channels answer what they read, by path.
        scoring: what of a channel counts, and how it is put together.

    Example:
        ```python
        import numpy as np

        from prunecore.plugin import hookimpl


        def largest_weight(context):
            dependencies = context.dependencies
            scores = np.zeros(dependencies.count)
            for name, axis, index in dependencies.filters:
                filters = context.tensors[name].detach().movedim(axis, 0).flatten(1)
                largest = filters.abs().amax(1).double().cpu().numpy()
                channels = dependencies.axes[index]
                may_go = channels >= 0  # the others always stay, and have no score
                np.maximum.at(scores, channels[may_go], largest[may_go])
            return scores


        @hookimpl
        def prunecore_criteria():
            return {"largest-weight": largest_weight}
        ```
    """

    dependencies: Dependencies
    tensors: Mapping[str, Tensor]
    seed: int
    model: nn.Module | None = None
    images: tuple[Tensor, ...] = ()
    linear_maps: Mapping[str, LinearMap] = field(default_factory=dict)
    scoring: Scoring = OPEN


# one score a channel, shape (dependencies.count,)
Criterion = Callable[[ScoringContext], NDArray[np.float64]]
