"""Train and eval: the two graphs of a forward that reads `self.training`."""

from __future__ import annotations

from dataclasses import dataclass

from torch import fx


@dataclass(frozen=True)
class TrainEval:
    """A module's forward as it runs in eval mode and as it runs in training.

    Where both do the same, they are one graph.

    Attributes:
        eval: what eval mode does.
        training: what training does; `None` where that is something else and left out.
        by_sizes: whether sizes of tensors were asked for meanwhile, so that those of others might
            have led elsewhere.
    """

    eval: fx.Graph
    training: fx.Graph | None
    by_sizes: bool = True

    @property
    def differ(self) -> bool:
        """True if training does something else that counts."""
        return self.training not in (self.eval, None)
