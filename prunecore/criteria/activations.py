"""Importance by what consumers read: its size, and what they answer without it after a refit."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from prunecore.criteria.criterion import ScoringContext
from prunecore.criteria.images import (
    Reader,
    check_finite,
    chosen,
    network_of,
    readers,
    run,
)
from prunecore.criteria.members import at_once, scores_of
from prunecore.criteria.moments import Moments, removal_errors


def activation(context: ScoringContext) -> NDArray[np.float64]:
    """The mean absolute value of a channel where layers read it.

    It reads images. After Molchanov et al., "Pruning Convolutional Neural Networks for Resource
    Efficient Inference", 2017, arXiv 1611.06440.
    """
    model = network_of(context, "activation")
    how = chosen(context, "mean", "group")
    reading = readers(context, "activation")
    sums: dict[str, Tensor] = {}
    calls: dict[str, int] = {}

    def look(reader: Reader, _: nn.Module, inputs: tuple[Any, ...]) -> None:
        read = inputs[0].detach()
        check_finite(read, reader.path, "The inputs of")
        alike = [axis for axis, size in enumerate(reader.shape) if size == 1]
        sizes = read.abs().double().sum(alike).flatten()
        sums[reader.path] = sizes + sums.get(reader.path, 0.0)
        calls[reader.path] = calls.get(reader.path, 0) + read.numel() // len(sizes)

    before = {reader.path: functools.partial(look, reader) for reader in reading}
    with torch.no_grad():
        for batch in context.images:
            run(model, batch, before)
    found = [
        (reader.channels, sums[reader.path] / calls[reader.path])
        for reader in reading
        if reader.path in sums
    ]
    return scores_of(context, at_once(found), how)


def reconstruction(context: ScoringContext) -> NDArray[np.float64]:
    """What the consumers of a channel answer wrongly without it, after a refit of their weights.

    With the second moments G of what a consumer reads, it is the trace of
    `W_c ([G^-1]_cc)^-1 W_c^T`, as a share of the same of all that it answers. A channel that others
    can stand in for costs nothing. It reads images. After Hassibi and Stork, "Second Order
    Derivatives for Network Pruning: Optimal Brain Surgeon", 1993, layer by layer and channel by
    channel as in Kurtic et al., "ZipLM", 2023, arXiv 2302.04089.
    """
    model = network_of(context, "reconstruction")
    how = chosen(context, "sum", "group")
    reading = readers(context, "reconstruction")
    number = sum(map(len, context.images))
    moments = {
        reader.path: Moments(context.linear_maps[reader.path], number, context.seed)
        for reader in reading
    }

    def look(path: str, _: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        check_finite(inputs[0], path, "The inputs of")
        moments[path].add(inputs[0], output)

    after = {reader.path: functools.partial(look, reader.path) for reader in reading}
    with torch.no_grad():
        for batch in context.images:
            run(model, batch, after=after)
        errors = [
            removal_errors(moments[reader.path], reader.channels)
            for reader in reading
            if moments[reader.path].count
        ]
    return scores_of(context, errors, how)
