"""Importance by taking channels away one after the other, the others making up for each."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from prunecore.channels.dependencies import ChannelArray, groups_of
from prunecore.channels.layers.linear_map import LinearMap
from prunecore.criteria.criterion import ScoringContext
from prunecore.criteria.gates import derivatives, projected
from prunecore.criteria.images import (
    Reader,
    check_finite,
    chosen,
    network_of,
    readers,
    run,
)
from prunecore.criteria.members import finished
from prunecore.criteria.moments import Moments, column_blocks

_DRAWS = 4  # of the outputs' noise for each image

_STEP = 1 / 32  # of a group's channels that go at a time

_GONE = -2  # no channel, and not `FIXED`
_WORTH = 0.75  # of the columns that are there: with fewer left they are copied apart


def surgeon(context: ScoringContext) -> NDArray[np.float64]:
    """What the loss rises by as a channel goes, after those of its group that go before it.

    Each time the channel goes whose consumers answer least wrongly without it once the weights of
    the channels that are left make up for it; they are then what they would be made, so that of two
    channels alike one goes for nothing, and not both. What a consumer answers wrongly counts by the
    Fisher information of the predictions in its outputs, which makes the scores of all groups
    compare. It reads images, and no labels.
    After Hassibi and Stork, "Second Order Derivatives for Network Pruning: Optimal Brain Surgeon",
    1993, channel by channel as in Kurtic et al., "ZipLM: Inference-Aware Structured Pruning of
    Language Models", 2023, arXiv 2302.04089.
    """
    consumers = _consumers(context)
    scores = np.zeros(context.dependencies.count)
    groups = groups_of(context.dependencies)
    for group in np.unique(groups[context.dependencies.removable]):
        members = np.flatnonzero(groups == group)
        concerned = [
            consumer.copy() for consumer in consumers if np.isin(consumer.owners, members).any()
        ]
        _take_away(concerned, members, scores)
    found = [(consumer.owners, scores) for consumer in consumers]
    return finished(context, scores, found, chosen(context, "sum", "none"))


def _take_away(
    consumers: list[_Consumer], members: ChannelArray, scores: NDArray[np.float64]
) -> None:
    """Let all channels of a group go, cheapest first; a score never falls from one to the next."""
    step = max(1, int(len(members) * _STEP))
    risen = 0.0
    while len(members):
        errors = np.zeros(len(scores))
        for consumer in consumers:
            np.add.at(errors, *consumer.errors(members))
        going = members[np.argsort(errors[members], kind="stable")][:step]
        scores[going] = np.maximum.accumulate(np.maximum(errors[going], risen))
        risen = scores[going[-1]]
        for consumer in consumers:
            consumer.go_without(going)
        members = np.setdiff1d(members, going)


@dataclass
class _Consumer:
    """What is left of one group of a layer that mixes channels.

    Attributes:
        owners: the channel of each of its columns, `_GONE` of one that is out.
        weights: shape `(outputs, columns)`.
        inverse: of the second moments of its rows, shape `(columns, columns)`.
        steepness: the mean over images of the Fisher information in each output, added up over its
            places; shape `(outputs,)`.
    """

    owners: ChannelArray
    weights: Tensor
    inverse: Tensor
    steepness: Tensor

    def errors(self, members: ChannelArray) -> tuple[ChannelArray, NDArray[np.float64]]:
        """What the loss rises by without each of the channels that it reads.

        Args:
            members: the channels that are asked for.
        """
        read, errors = [np.zeros(0, dtype=np.int64)], [self.steepness[:0]]
        asked = np.where(np.isin(self.owners, members), self.owners, -1)
        for channels, places in column_blocks(asked):
            blocks = self.inverse[places[:, :, None], places[:, None, :]]
            taken = self.weights[:, places].movedim(1, 0)  # (channels, outputs, columns of each)
            made_up = torch.linalg.solve(blocks, taken.mT).mT
            risen = (taken * made_up).sum(2) @ self.steepness
            read.append(channels)
            errors.append(risen)
        return np.concatenate(read), torch.cat(errors).cpu().numpy()

    def go_without(self, going: ChannelArray) -> None:
        """Take channels out, and let the others make up for them; the tensors change in place."""
        columns = np.flatnonzero(np.isin(self.owners, going))
        if not len(columns):
            return
        gone = torch.from_numpy(columns)
        across = self.inverse[gone]
        made_up = torch.linalg.solve(across[:, gone], across)
        self.weights -= self.weights[:, gone] @ made_up
        self.inverse.addmm_(across.mT, made_up, alpha=-1)
        self.owners[columns] = _GONE
        is_left = self.owners != _GONE
        if is_left.mean() < _WORTH:  # what is gone costs time until it is cut off
            left = torch.from_numpy(np.flatnonzero(is_left))
            self.weights, self.inverse = self.weights[:, left], self.inverse[left][:, left]
            self.owners = self.owners[is_left]

    def copy(self) -> _Consumer:
        """The same, that may go without something by itself."""
        return _Consumer(
            self.owners.copy(), self.weights.clone(), self.inverse.clone(), self.steepness
        )


def _consumers(context: ScoringContext) -> list[_Consumer]:
    """The layers that mix channels, as images run through the network and back."""
    model = network_of(context, "surgeon")
    number = sum(map(len, context.images))
    reading = readers(context, "surgeon")
    moments = {
        reader.path: Moments(context.linear_maps[reader.path], number, context.seed)
        for reader in reading
    }
    steepness: dict[str, Tensor] = {}
    random = torch.Generator().manual_seed(context.seed)
    for batch in context.images:
        nudges: dict[str, Tensor] = {}
        after = {
            path: functools.partial(_look, path, known, nudges) for path, known in moments.items()
        }
        with torch.enable_grad():
            output = run(model, batch, after=after)
            for _ in range(_DRAWS):
                loss = projected(output, random)
                found = derivatives(loss, [*nudges.values()], "surgeon", again=True)
                for path, derivative in zip(nudges, found, strict=True):
                    if derivative is not None:
                        check_finite(derivative, path, "The gradients at")
                        squares = _squares(context.linear_maps[path], derivative)
                        steepness[path] = steepness.get(path, 0) + squares / (number * _DRAWS)
    return [
        consumer
        for reader in reading
        if reader.path in steepness
        for consumer in _groups_of(moments[reader.path], reader, steepness[reader.path])
    ]


def _squares(layer: LinearMap, derivative: Tensor) -> Tensor:
    """The squared derivatives by a layer's outputs, added up over all places of all images."""
    places = math.prod(layer.places(derivative))
    everywhere = torch.arange(places, device=derivative.device).expand(len(derivative), places)
    return layer.answers(derivative, everywhere).double().square().sum(0)


def _look(
    path: str,
    moments: Moments,
    nudges: dict[str, Tensor],
    _: nn.Module,
    inputs: tuple[Any, ...],
    output: Tensor,
) -> Tensor:
    """Look at a call, and add zeros to its output, whose derivatives are those of the output."""
    check_finite(inputs[0], path, "The inputs of")
    moments.add(inputs[0].detach(), output.detach())
    nudges[path] = torch.zeros_like(output, requires_grad=True)
    return output + nudges[path]


def _groups_of(moments: Moments, reader: Reader, steepness: Tensor) -> list[_Consumer]:
    """A consumer for each group of a grouped layer."""
    weights = moments.layer.matrix().detach().double()
    groups, outputs, columns = weights.shape
    owners = np.repeat(reader.channels, groups * columns // len(reader.channels))
    return [
        _Consumer(own, weight, inverse, steep)
        for own, weight, inverse, steep in zip(
            owners.reshape(groups, columns),
            weights,
            moments.inverse(),
            steepness.reshape(groups, outputs),
            strict=True,
        )
    ]
