"""Importance by derivatives of the loss by gates on the channels that layers read."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from prunecore.channels.dependencies import ChannelArray
from prunecore.criteria.criterion import ScoringContext
from prunecore.criteria.images import (
    Reader,
    check_finite,
    chosen,
    network_of,
    readers,
    run,
)
from prunecore.criteria.members import Values, at_once, finished, reduced
from prunecore.criteria.scoring import Reduction
from prunecore.errors import UsageError


def taylor(context: ScoringContext) -> NDArray[np.float64]:
    """The mean over images of the absolute derivative of the loss by a gate on the channel.

    It reads images, and no labels: these are drawn from the network's own predictions. After
    Molchanov et al., "Pruning Convolutional Neural Networks for Resource Efficient Inference",
    2017, arXiv 1611.06440.
    """
    return _by_gates(context, "taylor", power=1)


def fisher(context: ScoringContext) -> NDArray[np.float64]:
    """The mean over images of the squared derivative of the loss by a gate on the channel.

    The derivatives by gates at all places of a coupled channel are added before they are squared.
    It reads images, and no labels: these are drawn from the network's own predictions, as the
    Fisher information asks for. Where the network's output is no tensor of scores of classes, shape
    `(n, classes)`, the loss is the sum of all outputs, each times noise of mean 0 and deviation 1.
    After Liu et al., "Group Fisher Pruning for Practical Network Compression", 2021, arXiv
    2108.00708.
    """
    return _by_gates(context, "fisher", power=2)


def _by_gates(context: ScoringContext, mode: str, power: int) -> NDArray[np.float64]:
    how = chosen(context, "sum", "none")
    total = np.zeros(context.dependencies.count)
    found: list[Values] = []
    for found in _derivatives(context, mode):
        joint = _joint(found, len(total), how.reduce)
        total += (np.abs(joint) ** power).reshape(-1, len(total)).sum(0)
    return finished(context, total / sum(map(len, context.images)), found, how)


def _joint(found: list[Values], count: int, how: Reduction) -> NDArray[np.float64]:
    """The derivatives by a channel, of each image: shape `(n, count)`."""
    if how == "max":  # the largest, whichever its sign
        found = [(channels, np.abs(values)) for channels, values in found]
    return reduced(found, count, how)


def _derivatives(context: ScoringContext, mode: str) -> Iterator[list[Values]]:
    """For each batch, the derivatives by the gates of each consumer, shape `(n, places)`."""
    model = network_of(context, mode)
    reading = readers(context, mode)
    random = torch.Generator().manual_seed(context.seed)
    for batch in context.images:
        gates: list[tuple[Reader, Tensor]] = []
        before = {reader.path: functools.partial(_gate, reader, gates) for reader in reading}
        with torch.enable_grad():
            loss = loss_of(run(model, batch, before), random)
            by_gate = derivatives(loss, [gate for _, gate in gates], mode)
        found: list[tuple[ChannelArray, Tensor]] = []
        for (reader, gate), derivative in zip(gates, by_gate, strict=True):
            values = torch.zeros_like(gate) if derivative is None else derivative
            check_finite(values, reader.path, "The gradients at")
            found.append((reader.channels, values.flatten(1).double()))
        yield at_once(found)


def _gate(
    reader: Reader, gates: list[tuple[Reader, Tensor]], _: nn.Module, inputs: tuple[Any, ...]
) -> tuple[Any, ...]:
    read = inputs[0]
    check_finite(read, reader.path, "The inputs of")
    gate = read.new_ones((len(read), *reader.shape[1:])).requires_grad_()
    gates.append((reader, gate))
    return (read * gate, *inputs[1:])


def derivatives(
    loss: Tensor, inner: Sequence[Tensor], mode: str, again: bool = False
) -> Sequence[Tensor | None]:
    """The derivatives of a loss, `None` by what it does not depend on.

    Args:
        loss: of what a network returns.
        inner: by what.
        mode: the criterion that asks.
        again: whether others of the same run are asked for afterwards.

    Raises:
        UsageError: the network passes no gradients on.
    """
    if not inner:
        return ()
    if not loss.requires_grad:
        raise UsageError(
            f"Mode {mode!r} follows gradients through the network, and it passes none on.\n"
            "Let its forward run without torch.no_grad, or choose another mode."
        )
    return torch.autograd.grad(loss, [*inner], retain_graph=again, allow_unused=True)


def loss_of(output: Any, random: torch.Generator) -> Tensor:
    """What gradients are of, summed over the batch.

    Args:
        output: what the network returns.
        random: draws labels from scores of classes, shape `(n, classes)`, and else noise.
    """
    if torch.is_tensor(output) and output.ndim == 2:
        predicted = output.detach().cpu().float().softmax(1)
        if bool(predicted.isfinite().all()):
            labels = torch.multinomial(predicted, 1, generator=random)[:, 0]
            return F.cross_entropy(output, labels.to(output.device), reduction="sum")
    return _noisy(output, random)


def _noisy(output: Any, random: torch.Generator) -> Tensor:
    """All outputs, each times noise, added up."""
    leaves = [leaf for leaf in pytree.tree_leaves(output) if torch.is_tensor(leaf)]
    noisy = [
        (leaf * torch.randn(leaf.shape, generator=random).to(leaf)).sum()
        for leaf in leaves
        if leaf.is_floating_point()
    ]
    return torch.stack(noisy).sum()


def projected(output: Any, random: torch.Generator) -> Tensor:
    """What has squared derivatives whose mean is the Fisher information of the predictions.

    For scores of classes, shape `(n, classes)`, with probabilities p, that is their product with
    `sqrt(p) e - p (sqrt(p) . e)` for noise e: its covariance is `diag(p) - p p^T`, as that of the
    derivatives by labels that are drawn, which vary far more from one draw to the next. Of another
    output it is the product with noise.

    Args:
        output: what the network returns.
        random: draws the noise.
    """
    if torch.is_tensor(output) and output.ndim == 2 and output.shape[1] > 1:
        roots = output.detach().float().softmax(1).sqrt()
        if bool(roots.isfinite().all()):
            noise = roots * torch.randn(roots.shape, generator=random).to(roots)
            slope = noise - roots.square() * noise.sum(1, keepdim=True)
            return (output * slope.to(output)).sum()
    return _noisy(output, random)
