"""Second moments of what a layer reads, and what it answers wrongly without some of it."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from prunecore.channels.dependencies import ChannelArray
from prunecore.channels.layers.linear_map import LinearMap

_FEWEST = 4096  # rows that are looked at, where there are as many
_PER_COLUMN = 8  # rows for each column
_RIDGE = 1e-3  # added to the diagonal of the moments, as a share of its mean


class Moments:
    """The second moments of a layer's rows, in float64, from batches that come one by one.

    Where there are fewer rows than columns the rows themselves are kept, which take less.

    Args:
        layer: the layer.
        images: how many will come in all.
        seed: of the places that are looked at.

    Attributes:
        layer: the layer.
        count: how many rows have come so far.
    """

    def __init__(self, layer: LinearMap, images: int, seed: int) -> None:
        self.layer = layer
        self.count = 0
        columns = layer.matrix().shape[2]
        self._a_image = -(-max(_FEWEST, _PER_COLUMN * columns) // images)  # places of each
        self._images, self._columns = images, columns
        self._random = np.random.default_rng(seed)  # not torch's, which a run draws from anew
        self._rows: list[Tensor] = []
        self._gram: Tensor | None = None

    def add(self, read: Tensor, answered: Tensor) -> None:
        """Look at some places of a call.

        Args:
            read: the input, shape `(n, ...)`.
            answered: the output, shape `(n, ...)`.
        """
        size = self.layer.places(answered)
        places = int(np.prod(size))
        wanted = min(places, self._a_image)
        drawn = self._random.random((len(read), places)).argsort(1)[:, :wanted]
        chosen = torch.from_numpy(drawn).to(read.device)
        rows = self.layer.rows(read, size, chosen).double()
        self.count += rows.shape[1]
        if wanted * self._images < self._columns:
            self._rows.append(rows)
        else:
            gram = rows.mT @ rows
            self._gram = gram if self._gram is None else self._gram + gram

    def parts(self) -> tuple[Tensor, bool]:
        """The moments times the number of rows, or the rows.

        Returns:
            Shape `(groups, columns, columns)` and true, or `(groups, rows, columns)` and false.
        """
        if self._gram is not None:
            return self._gram, True
        return torch.cat(self._rows, 1), False

    def inverse(self) -> Tensor:
        """The inverse of the mean moments with a ridge, shape `(groups, columns, columns)`."""
        found, is_gram = self.parts()
        tiny = torch.finfo(torch.float64).tiny
        if not is_gram:
            rows = found / self.count**0.5
            ridge = _RIDGE * rows.square().sum(1).mean(1)[:, None, None]
            return _by_woodbury(rows, ridge.clamp(min=tiny))
        held = found / self.count
        diagonal = held.diagonal(dim1=1, dim2=2)  # a view: the ridge is added in place
        diagonal += (_RIDGE * diagonal.mean(1, keepdim=True)).clamp(min=tiny)
        inverse: Tensor = torch.cholesky_inverse(torch.linalg.cholesky(held))
        return inverse


def removal_errors(
    moments: Moments, channels: ChannelArray
) -> tuple[ChannelArray, NDArray[np.float64]]:
    """What a layer answers wrongly without a channel, after a refit, as a share of all it answers.

    Args:
        moments: of what it reads.
        channels: the channel at each place of what it reads.

    Returns:
        The channels that it reads, group by group, and the error of each.
    """
    weights = moments.layer.matrix().detach().double()
    found, is_gram = moments.parts()
    groups, _, columns = weights.shape
    owners = np.repeat(channels, groups * columns // len(channels)).reshape(groups, columns)
    diagonal = found.diagonal(dim1=1, dim2=2) if is_gram else found.square().sum(1)
    ridge = (_RIDGE * diagonal.mean(1)).clamp(min=torch.finfo(torch.float64).tiny)
    read: list[ChannelArray] = []
    errors: list[Tensor] = []
    total = weights.new_zeros(())
    for weight, given, owner, small in zip(weights, found, owners, ridge, strict=True):
        inverse = _Inverse(given, small, is_gram)
        for own, places in column_blocks(owner):
            taken = weight[:, places].transpose(0, 1)  # (channels, outputs, columns of each)
            left = torch.linalg.solve(inverse.blocks(places), taken.mT)
            read.append(own)
            errors.append((taken.mT * left).sum((1, 2)))
        answered = weight @ given if is_gram else weight @ given.mT
        energy = (answered * weight).sum() if is_gram else answered.square().sum()
        total = total + energy + small * weight.square().sum()
    shares = torch.cat(errors) / total.clamp(min=torch.finfo(torch.float64).tiny)
    return np.concatenate(read), shares.cpu().numpy()


def _by_woodbury(rows: Tensor, ridge: Tensor) -> Tensor:
    """The inverse of `rows^T rows + ridge` of fewer rows than columns, by Woodbury's identity.

    Args:
        rows: shape `(groups, rows, columns)`.
        ridge: shape `(groups, 1, 1)`.
    """
    one = torch.eye(rows.shape[1], dtype=rows.dtype, device=rows.device)
    factor = torch.linalg.cholesky(rows @ rows.mT + ridge * one)
    halves = torch.linalg.solve_triangular(factor, rows, upper=False)
    inverse: Tensor = halves.mT @ halves / -ridge
    diagonal = inverse.diagonal(dim1=1, dim2=2)
    diagonal += 1 / ridge[:, :, 0]
    return inverse


class _Inverse:
    """The inverse of moments with a ridge, of which only blocks along the diagonal are asked."""

    def __init__(self, given: Tensor, ridge: Tensor, is_gram: bool) -> None:
        square = given if is_gram else given @ given.mT
        one = torch.eye(len(square), dtype=given.dtype, device=given.device)
        factor = torch.linalg.cholesky(square + ridge * one)
        self._ridge, self._is_gram = ridge, is_gram
        self._of = (
            torch.cholesky_inverse(factor)
            if is_gram
            else torch.linalg.solve_triangular(factor, given, upper=False)
        )

    def blocks(self, places: Tensor) -> Tensor:
        """The blocks of some columns, shape `(blocks, columns of each, columns of each)`.

        Args:
            places: the columns, shape `(blocks, columns of each)`.
        """
        if self._is_gram:
            return self._of[places[:, :, None], places[:, None, :]]
        halves = self._of[:, places].transpose(0, 1)  # (blocks, rows, columns of each)
        one = torch.eye(places.shape[1], dtype=halves.dtype, device=halves.device)
        block: Tensor = (one - halves.mT @ halves) / self._ridge  # by Woodbury's identity
        return block


def column_blocks(owner: ChannelArray) -> list[tuple[ChannelArray, Tensor]]:
    """The columns of each channel that may go: those of as many columns together.

    Returns:
        Channels, shape `(channels,)`, and their columns, shape `(channels, columns of each)`.
    """
    order = np.argsort(owner, kind="stable")
    order = order[owner[order] >= 0]
    seen, starts, sizes = np.unique(owner[order], return_index=True, return_counts=True)
    return [
        (
            seen[sizes == size],
            torch.from_numpy(order[starts[sizes == size][:, None] + np.arange(size)]),
        )
        for size in np.unique(sizes).tolist()
    ]
