"""The cost of a choice of channels in parameters, MACs and bytes; no model is built for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray
from torch import nn

from prunecore.channels.dependencies import Dependencies
from prunecore.channels.names import is_within


@dataclass(frozen=True)
class Cost:
    """The size of a network, and the work of one input.

    Attributes:
        params: number of parameters.
        macs: multiply-accumulates of one input, of layers with weights and of products of tensors.
        bytes: size of all parameters and buffers, in their own dtypes.
    """

    params: int
    macs: int
    bytes: int

    def as_dict(self) -> dict[str, int]:
        """The three figures by name."""
        return asdict(self)


class Counter:
    """Counts a network for any choice of kept channels.

    A tensor's size is a product: of the kept widths of its bound axes, and of its other axes. A
    weight that a forward computes is counted as a tensor that nothing stores, and so is what a
    product of tensors multiplies.
    """

    def __init__(self, dependencies: Dependencies) -> None:
        none = len(dependencies.axes)  # stands for an axis that is not bound
        computed, tensors = dependencies.computed, dependencies.tensors.values()
        products = dependencies.products
        bound = [list(dependencies.bound.get(name, {}).values()) for name in dependencies.tensors]
        bound += [list(weight.bound) for weight in computed]
        bound += [list(product.bound) for product in products]
        rank = max((len(axes) for axes in bound), default=0)
        rows = [axes + [none] * (rank - len(axes)) for axes in bound]
        self._axes = np.array(rows, dtype=int).reshape(len(rows), rank)
        lengths = np.array([len(array) for array in dependencies.axes] + [1])
        numbers = [tensor.numel() for tensor in tensors] + [weight.size for weight in computed]
        numbers += [product.macs for product in products]
        sizes = np.array(numbers, dtype=np.int64)
        self._free = sizes // np.maximum(lengths[self._axes].prod(axis=1), 1)
        unstored = [0] * (len(computed) + len(products))
        self._weights = np.array(
            [
                [isinstance(tensor, nn.Parameter) for tensor in tensors] + unstored,
                [tensor.element_size() for tensor in tensors] + unstored,
            ],
            dtype=np.int64,
        )
        names = tuple(dependencies.tensors)
        users = [weight.of for weight in computed] + [product.of for product in products]
        self._names = (*names, *users)
        along = [dependencies.used_along.get(name) for name in names]
        along += [weight.used_along for weight in computed] + [None] * len(products)
        self._along = np.array([none if index is None else index for index in along], dtype=int)
        uses = [dependencies.macs.get(name, 0) for name in names]
        uses += [weight.macs for weight in computed] + [1] * len(products)
        self._uses = np.array(uses, dtype=np.int64) // lengths[self._along]
        self._places = np.concatenate([*dependencies.axes, np.zeros(0, dtype=np.int64)])
        self._starts = np.cumsum([0, *lengths[:-2]]) if none else np.zeros(0, dtype=int)

    def cost(self, kept: NDArray[np.bool_], removed_blocks: Sequence[str] = ()) -> Cost:
        """Count for one choice.

        Args:
            kept: whether each channel stays, shape `(dependencies.count,)`.
            removed_blocks: paths of the blocks that go as a whole.
        """
        places = np.append(kept, True)[self._places]
        widths = np.append(np.add.reduceat(places, self._starts, dtype=np.int64), 1)
        sizes = self._free * widths[self._axes].prod(axis=1)
        if removed_blocks:
            sizes[[is_within(name, removed_blocks) for name in self._names]] = 0
        params, size = (self._weights @ sizes).tolist()
        return Cost(params, int(self._uses * widths[self._along] @ sizes), size)
