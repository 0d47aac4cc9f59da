"""The refit: each layer is solved anew to answer, on what it now reads, as the original's does.

After He et al., "Channel Pruning for Accelerating Very Deep Neural Networks", 2017, arXiv
1707.06168, who fit one layer after the other; here biases and norms take part, and a layer whose
output is added to a narrowed stream makes up for what the stream has lost.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from prunecore.channels.layers.linear_map import LinearMap, RunningStatistics
from prunecore.errors import WeightsError
from prunecore.escaping import shown
from prunecore.recovery.recording import Answers, Key
from prunecore.recovery.side_by_side import SideBySide

_BLOCK = 256  # columns that are multiplied at a time, at least
_BLOCKS = 4  # at most

# Shares of the mean diagonal by which a layer is held to its cut weights. Images that are few, or
# much alike, tell little: each layer has the share that does well on some of them put aside.
RIDGES = (1e-2, 1e-1, 1.0)
_ASIDE = 4  # one image of so many
_NEAR = 1.05  # times the least error: below that the least share is taken, as later layers make up
_FLATTEST = 0.05  # of a norm's mean slope: a channel below takes up nothing of its stream's loss


class Refit:
    """Refits a smaller network while batches of images run through it, once and side by side.

    Args:
        small: the network, in eval mode; its weights change.
        layers: its linear maps and norms, by path.
        answers: what the original's layers answer on the same images, by path.
        batches: the images that the answers are of, in their order.
        ridges: how much layers are held to their cut weights, in mean squares of what they read;
            of several, the least first, each layer has one that does well on images put aside.
    """

    def __init__(
        self,
        small: nn.Module,
        layers: Mapping[str, LinearMap | RunningStatistics],
        answers: Mapping[str, Answers],
        batches: Sequence[Tensor],
        ridges: Sequence[float] = RIDGES,
    ) -> None:
        self._small, self._layers = small, layers
        self._answers, self._ridges = dict(answers), ridges
        self._runs = SideBySide(small, batches)
        ends = np.cumsum([len(batch) for batch in batches])
        self._parts = [
            slice(end - len(batch), end) for batch, end in zip(batches, ends, strict=True)
        ]
        # of what streams were before something is added to them: what they are, by batch
        self._streams: dict[Key, dict[int, Tensor]] = {
            known.beside: {} for known in answers.values() if known.beside is not None
        }
        self._changed: list[str] = []

    @torch.no_grad()
    def run(self) -> list[str]:
        """Refit, and return the names of the tensors that have changed.

        Raises:
            WeightsError: activations of a layer are not finite.
        """
        handles = []
        for path, kind in self._streams:
            module, keep = self._small.get_submodule(path), functools.partial(self._keep, path)
            if kind == "input":
                handles.append(module.register_forward_pre_hook(keep))
            else:
                handles.append(module.register_forward_hook(keep))
        try:
            self._runs.run([*self._answers], self._solve)
        finally:
            for handle in handles:
                handle.remove()
            self._streams.clear()
        return self._changed

    def _keep(self, path: str, _module: nn.Module, inputs: tuple[Any, ...], *output: Any) -> None:
        """Keep what a module reads, or returns where it has done so."""
        kind, value = ("output", output[0]) if output else ("input", inputs[0])
        self._streams[path, kind][self._runs.now] = value

    def _solve(self, path: str, inputs: Sequence[Tensor]) -> None:
        """Fit one layer on what it is about to read."""
        layer, known = self._layers[path], self._answers.pop(path)
        assert isinstance(layer, LinearMap)
        norm = self._layers[known.norm] if known.norm is not None else None
        has_intercept = layer.bias is not None or norm is not None
        errors = Errors(layer.matrix(), has_intercept)
        stream = self._streams[known.beside] if known.beside is not None else {}
        for number, (part, input) in enumerate(zip(self._parts, inputs, strict=True)):
            chosen, wanted = known.chosen[part], known.values[part].flatten(0, 1)
            if number in stream and known.addends is not None:
                lost = known.addends[part].flatten(0, 1) - layer.answers(stream[number], chosen)
                wanted = wanted + self._before_norm(known, lost)
            rows = layer.rows(input, known.size, chosen)
            image = torch.arange(part.start, part.stop, device=rows.device)
            image = image.repeat_interleave(chosen.shape[1])
            aside = (image % _ASIDE == _ASIDE - 1) & (len(self._ridges) > 1)
            errors.add(rows[:, ~aside], wanted[~aside])
            errors.put_aside(rows[:, aside], wanted[aside])
        if all(other.beside != known.beside for other in self._answers.values()):
            stream.clear()  # or it would be in memory to the end
        fitted, shift = errors.fitted(self._ridges)
        if not fitted.isfinite().all():
            raise WeightsError(
                f"What {shown(path)} reads on the calibration images is not finite.\n"
                "Look for images with NaN or infinity, or for weights that are too large."
            )
        layer.weight.copy_(layer.as_weight(fitted))
        self._changed.append(f"{path}.weight")
        if layer.bias is not None:
            layer.bias.copy_(shift)
            self._changed.append(f"{path}.bias")
        elif isinstance(norm, RunningStatistics):
            norm.mean.sub_(shift)
            self._changed.append(f"{known.norm}.running_mean")

    def _before_norm(self, known: Answers, lost: Tensor) -> Tensor:
        """What a layer has to add so that its norm, if it has one, adds what a stream has lost."""
        norm = self._layers[known.norm] if known.norm is not None else None
        if not isinstance(norm, RunningStatistics):
            return lost
        slope = (norm.variance + norm.eps).rsqrt()
        slope = slope if norm.scale is None else slope * norm.scale
        is_steep = slope.abs() > _FLATTEST * slope.abs().mean()
        return torch.where(is_steep, lost / torch.where(is_steep, slope, 1.0), 0.0)


class Errors:
    """What a matrix answers wrongly on rows that come part by part, and the one that answers best.

    Products are in float32 for a network in float32, and summed in float64: taken from the mean of
    the first rows, and with the ridge, they are as good as in float64 throughout.

    Args:
        matrix: shape `(groups, outputs, columns)`.
        has_intercept: whether a constant may be added to each output.
    """

    def __init__(self, matrix: Tensor, has_intercept: bool) -> None:
        self._matrix = matrix.to(torch.promote_types(matrix.dtype, torch.float32))
        self._has_intercept = has_intercept
        self._count = 0
        groups, outputs, columns = matrix.shape
        zeros = functools.partial(torch.zeros, dtype=torch.float64, device=matrix.device)
        self._waiting: list[Tensor] = []
        self._aside: list[Tensor] = []
        self._origin: Tensor | None = None  # that rows and errors are taken from
        self._sums = zeros(groups, 1, columns + outputs)
        # of columns with columns, where the first comes no later, and with errors
        self._products = zeros(groups, columns, columns + outputs)

    def add(self, rows: Tensor, wanted: Tensor) -> None:
        """Take in some rows.

        Args:
            rows: what is read, shape `(groups, rows, columns)`.
            wanted: what is to be answered, shape `(rows, groups * outputs)`.
        """
        if rows.shape[1]:
            self._take(self._apart(rows, wanted))

    def put_aside(self, rows: Tensor, wanted: Tensor) -> None:
        """Keep some rows to judge ridges by; they are taken in once that is done.

        Args:
            rows: as for `add`.
            wanted: as for `add`.
        """
        if rows.shape[1]:
            self._aside.append(self._apart(rows, wanted))

    def _apart(self, rows: Tensor, wanted: Tensor) -> Tensor:
        """Rows with what the matrix lacks on them, `(groups, rows, columns + outputs)`."""
        rows = rows.to(self._matrix.dtype)
        apart = wanted.reshape(len(wanted), len(rows), -1).transpose(0, 1)
        both = torch.cat([rows, apart - rows @ self._matrix.mT], 2)
        if self._origin is None:
            mean = both.mean(1, keepdim=True)
            self._origin = mean if self._has_intercept else torch.zeros_like(mean)
        both -= self._origin
        return both

    def _take(self, both: Tensor) -> None:
        self._count += both.shape[1]
        self._sums += both.sum(1, keepdim=True, dtype=torch.float64)
        self._waiting.append(both)
        if sum(part.shape[1] for part in self._waiting) >= self._matrix.shape[2]:
            self._multiply()

    def _multiply(self) -> None:
        """Add the products of what waits, block by block and none twice."""
        both = torch.cat(self._waiting, 1)
        self._waiting.clear()
        columns = self._matrix.shape[2]
        step = max(_BLOCK, -(-columns // _BLOCKS))
        for first in range(0, columns, step):
            block = both[:, :, first : min(first + step, columns)]
            self._products[:, first : first + step, first:] += block.mT @ both[:, :, first:]

    def fitted(self, ridges: Sequence[float]) -> tuple[Tensor, Tensor]:
        """Ridge regression towards the matrix that is there, in each group.

        Args:
            ridges: shares of the mean diagonal of the moments, the least first; of several, one
                that leaves little error on what was put aside.

        Returns:
            The matrix, and the constant of each output, shape `(groups * outputs,)`.
        """
        ridge = self._best(ridges) if self._aside and self._count else ridges[0]
        for both in self._aside:
            self._take(both)
        self._aside.clear()
        moments, products, mean = self._centred()
        change = _solved(moments, products, ridge)
        assert self._origin is not None
        read, lacking = (mean + self._origin).tensor_split([self._matrix.shape[2]], 2)
        return self._matrix + change.mT, (lacking - read @ change).flatten()

    def _best(self, ridges: Sequence[float]) -> float:
        """The least ridge that leaves about the least error on what was put aside."""
        moments, products, mean = self._centred()
        middle = mean if self._has_intercept else torch.zeros_like(mean)
        aside = torch.cat([(both - middle).to(both.dtype) for both in self._aside], 1)
        moments, products = moments.to(aside.dtype), products.to(aside.dtype)  # to compare will do
        read, lacking = aside.tensor_split([self._matrix.shape[2]], 2)
        left: list[float] = []
        for ridge in ridges:
            change = _solved(moments, products, ridge)
            left.append(float((lacking - read @ change).square().sum()))
            if left[-1] > left[0]:  # and so it will be for greater ones
                break
        near = [one for one, error in zip(ridges, left, strict=False) if error <= _NEAR * min(left)]
        return near[0] if near else ridges[0]  # what is not finite is near to nothing

    def _centred(self) -> tuple[Tensor, Tensor, Tensor]:
        """The moments of rows, their products with errors, and the means, from the origin."""
        if self._waiting:
            self._multiply()
        columns = self._matrix.shape[2]
        mean = self._sums / self._count
        products = self._products
        if self._has_intercept:
            products = products - self._count * mean[:, :, :columns].mT @ mean
        moments, products = products.tensor_split([columns], 2)
        return moments.triu() + moments.triu(1).mT, products, mean


def _solved(moments: Tensor, products: Tensor, ridge: float) -> Tensor:
    """The change of a matrix, transposed; what is not definite gives what is not finite."""
    held = moments.clone()
    diagonal = held.diagonal(dim1=1, dim2=2)  # a view: the ridge is added in place
    diagonal += ridge * diagonal.mean(1, keepdim=True) + torch.finfo(moments.dtype).tiny
    factor, _ = torch.linalg.cholesky_ex(held)
    return torch.cholesky_solve(products, factor)
