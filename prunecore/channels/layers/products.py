"""Multiply-accumulates of tensors that meet in a product, such as attention's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prunecore.channels.ids import Ids
from prunecore.channels.records import Product
from prunecore.inputs import BATCH

if TYPE_CHECKING:
    from prunecore.channels.channels import Channels


def count_product(channels: Channels, size: int, *along: Ids) -> None:
    """Count the multiply-accumulates of a product in which tensors of the whole batch meet.

    Args:
        channels: the walk, in the module that multiplies them.
        size: how often two numbers are multiplied, in the original: of two matrices, for the whole
            batch, `batch * rows * summed * columns`.
        along: the channels along each of these axes that has some, shape `(places,)` each.
    """
    channels.records.products.append(Product(channels.path, size // BATCH, along))
