"""The refit: each layer is solved anew to answer, on what it now reads, as the original's does.

After He et al., "Channel Pruning for Accelerating Very Deep Neural Networks", 2017, arXiv
1707.06168, who fit one layer after the other; here biases and norms take part, and a layer whose
output is added to a narrowed stream makes up for what the stream has lost.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from prunecore.channels.linear_map import LinearMap, RunningStatistics
from prunecore.errors import WeightsError
from prunecore.escaping import shown
from prunecore.recovery.recording import Answers, Key

RIDGE = 1e-2  # of the mean diagonal: towards the cut weights
_FLATTEST = 0.05  # of a norm's mean slope: a channel below takes up nothing of its stream's loss


class Refit:
    """Refits a smaller network while images run through it once, all together.

    Args:
        small: the network, in eval mode; its weights change.
        layers: its linear maps and norms, by path.
        answers: what the original's layers answer on the same images, by path.
    """

    def __init__(
        self,
        small: nn.Module,
        layers: Mapping[str, LinearMap | RunningStatistics],
        answers: Mapping[str, Answers],
    ) -> None:
        self._small, self._layers, self._answers = small, layers, answers
        self._beside = {known.beside for known in answers.values()}
        self._there: dict[Key, Tensor] = {}  # what has been computed of these

    @torch.no_grad()
    def run(self, images: Tensor) -> list[str]:
        """Refit, and return the names of the tensors that have changed.

        Args:
            images: those that the answers are of, in their order.

        Raises:
            WeightsError: activations of a layer are not finite.
        """
        changed: list[str] = []
        handles = [
            handle
            for path, module in self._small.named_modules()
            for handle in (
                module.register_forward_pre_hook(functools.partial(self._enter, path, changed)),
                module.register_forward_hook(functools.partial(self._leave, path)),
            )
        ]
        try:
            self._small(images)
        finally:
            for handle in handles:
                handle.remove()
            self._there.clear()
        return changed

    def _enter(
        self, path: str, changed: list[str], _module: nn.Module, inputs: tuple[Any, ...]
    ) -> None:
        if (path, "input") in self._beside:
            self._there[path, "input"] = inputs[0]
        if path in self._answers:
            changed += self._solve(path, inputs[0])

    def _leave(self, path: str, _module: nn.Module, _inputs: Any, output: Any) -> None:
        if (path, "output") in self._beside:
            self._there[path, "output"] = output

    def _solve(self, path: str, input: Tensor) -> list[str]:
        """Fit one layer on what it is about to read."""
        layer, known = self._layers[path], self._answers[path]
        assert isinstance(layer, LinearMap)
        chosen = torch.cat(known.chosen)
        wanted = torch.cat(known.values).double()
        if known.beside is not None and known.beside in self._there:
            stream = layer.answers(self._there[known.beside], chosen)
            wanted = wanted + self._before_norm(known, torch.cat(known.addends) - stream)
        rows = layer.rows(input, known.size, chosen).double()
        matrix = layer.matrix().double()
        norm = self._layers[known.norm] if known.norm is not None else None
        wanted = wanted.reshape(len(wanted), len(matrix), -1).transpose(0, 1)
        fitted, shift = _fitted(
            rows, wanted, matrix, has_intercept=layer.bias is not None or norm is not None
        )
        if not fitted.isfinite().all():
            raise WeightsError(
                f"What {shown(path)} reads on the calibration images is not finite.\n"
                "Look for images with NaN or infinity, or for weights that are too large."
            )
        layer.weight.copy_(layer.as_weight(fitted))
        changed = [f"{path}.weight"]
        if layer.bias is not None:
            layer.bias.copy_(shift)
            changed.append(f"{path}.bias")
        elif isinstance(norm, RunningStatistics):
            norm.mean.sub_(shift)
            changed.append(f"{known.norm}.running_mean")
        return changed

    def _before_norm(self, known: Answers, lost: Tensor) -> Tensor:
        """What a layer has to add so that its norm, if it has one, adds what a stream has lost."""
        norm = self._layers[known.norm] if known.norm is not None else None
        if not isinstance(norm, RunningStatistics):
            return lost.double()
        slope = (norm.variance.double() + norm.eps).rsqrt()
        slope = slope if norm.scale is None else slope * norm.scale.double()
        is_steep = slope.abs() > _FLATTEST * slope.abs().mean()
        return torch.where(is_steep, lost.double() / torch.where(is_steep, slope, 1.0), 0.0)


def _fitted(
    rows: Tensor, wanted: Tensor, matrix: Tensor, has_intercept: bool
) -> tuple[Tensor, Tensor]:
    """Ridge regression towards the matrix that is there, in each group.

    Args:
        rows: what is read, shape `(groups, rows, columns)`.
        wanted: what is to be answered, shape `(groups, rows, outputs)`.
        matrix: shape `(groups, outputs, columns)`.
        has_intercept: whether a constant may be added to each output.

    Returns:
        The matrix, and the constant of each output, shape `(groups * outputs,)`.
    """
    mean_read = rows.mean(1, keepdim=True) if has_intercept else torch.zeros_like(rows[:, :1])
    mean_wanted = wanted.mean(1, keepdim=True) if has_intercept else torch.zeros_like(wanted[:, :1])
    centred = rows - mean_read
    lacking = wanted - mean_wanted - centred @ matrix.mT
    moments = centred.mT @ centred
    diagonal = moments.diagonal(dim1=1, dim2=2)  # a view: the ridge is added in place
    diagonal += RIDGE * diagonal.mean(1, keepdim=True) + torch.finfo(moments.dtype).tiny
    factor, _ = torch.linalg.cholesky_ex(moments)
    change = torch.cholesky_solve(centred.mT @ lacking, factor)
    fitted = matrix + change.mT
    shift = mean_wanted - mean_read @ fitted.mT
    return fitted, shift.flatten()
