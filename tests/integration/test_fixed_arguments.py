"""Arguments that a written forward does without are named in the report and in the file."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import prunecore


class Optional(nn.Module):
    """A head that training gives labels, with a scale and a flag."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(3, 8), nn.Linear(8, 4)

    def forward(
        self, x: Tensor, labels: Tensor | None = None, *, scale: float = 1.0, log: bool = False
    ) -> Tensor:
        x = self.last(torch.relu(self.first(x))) * scale
        if labels is not None:
            x = x - F.one_hot(labels, 4)
        return x.log_softmax(1) if log else x


def test_arguments_that_the_written_forward_does_without_are_told() -> None:
    example = torch.rand(2, 3)
    small = prunecore.prune(Optional(), example, 40)
    assert small.report["fixed_arguments"] == ["labels", "scale", "log"]
    assert (
        "Without arguments that the original's forward may be given: labels, scale, log."
    ) in small.source
    small = prunecore.prune(Optional(), example, 40, example_kwargs={"log": True, "scale": 2.0})
    assert small.report["fixed_arguments"] == ["labels", "log"]


def test_nothing_is_told_where_all_arguments_are_given() -> None:
    small = prunecore.prune(nn.Sequential(nn.Linear(3, 8), nn.Linear(8, 2)), torch.rand(1, 3), 40)
    assert small.report["fixed_arguments"] == []
    assert "Without arguments" not in small.source
