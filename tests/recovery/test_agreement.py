"""What two networks agree in, and which of two agreements is the worse."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from prunecore.recovery.agreement import (
    Agreement,
    agreement,
    is_clearly_less,
    outputs_of,
    standard_error,
)


def scores(*rows: list[float]) -> list[Tensor]:
    return [torch.tensor(rows, dtype=torch.float64)]


def test_the_share_of_predictions_and_the_relative_error() -> None:
    found = agreement(scores([3.0, 0.0], [0.0, 4.0]), scores([3.0, 0.0], [4.0, 0.0]))
    assert found.top1 == 0.5
    assert found.error == pytest.approx((32 / 25) ** 0.5)


def test_an_output_of_one_value_has_no_prediction() -> None:
    found = agreement(scores([2.0], [0.0]), scores([1.0], [0.0]))
    assert found == Agreement(None, 0.5)


@pytest.mark.parametrize(
    ("after", "before", "worse"),
    [
        ((0.8, 0.1), (1.0, 0.9), True),
        ((0.9, 0.1), (1.0, 0.9), False),
        ((0.9, 0.9), (1.0, 0.1), True),
        ((0.9, float("nan")), (1.0, 0.1), True),
        ((0.4, 0.1), (0.5, 0.9), False),
        ((0.6, 0.9), (0.5, 0.1), False),
        ((0.5, 0.2), (0.5, 0.1), True),
        ((0.5, 0.1), (0.5, 0.1), False),
        ((None, 0.2), (None, 0.1), True),
        ((None, 0.1), (None, 0.2), False),
        ((0.5, float("nan")), (0.5, 0.1), True),
    ],
)
def test_which_is_worse(
    after: tuple[float | None, float], before: tuple[float | None, float], worse: bool
) -> None:
    assert Agreement(*after).is_worse_than(Agreement(*before), 10) is worse


@pytest.mark.parametrize("images", [1, 3, 6, 7, 10, 49, 100])
def test_a_single_image_is_chance(images: int) -> None:
    assert standard_error(1.0, images) == pytest.approx(1 / images)
    assert not is_clearly_less((images - 1) / images, 1.0, images)
    assert is_clearly_less((images - 2) / images, 1.0, images)


def test_outputs_come_batch_by_batch_in_order() -> None:
    class Two(nn.Module):
        def forward(self, x: Tensor) -> dict[str, Tensor]:
            return {"twice": 2 * x, "sum": x.sum(1)}

    x = torch.rand(5, 3)
    twice, summed = outputs_of(Two(), x, 2)
    assert twice.equal(2 * x.double())
    torch.testing.assert_close(summed, x.sum(1).double())
