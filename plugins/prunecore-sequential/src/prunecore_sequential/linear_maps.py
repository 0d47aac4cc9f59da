"""Convolutions and linear layers as linear maps of the patches or features that they read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from prunecore.plugin import LinearMap, RunningStatistics


class Dense(LinearMap):
    """A linear layer, which answers at each token."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self.weight, self.bias = weight, bias

    def places(self, output: Tensor) -> tuple[int, ...]:
        """All axes between the batch and the features."""
        return tuple(output.shape[1:-1])

    def rows(self, input: Tensor, size: tuple[int, ...], chosen: Tensor) -> Tensor:
        """The features of the tokens, shape `(1, n * places, in_features)`."""
        return _at(input.reshape(len(input), -1, input.shape[-1]), chosen)[None]

    def answers(self, output: Tensor, chosen: Tensor) -> Tensor:
        """The features that are made of them, shape `(n * places, out_features)`."""
        return _at(output.reshape(len(output), -1, output.shape[-1]), chosen)

    def matrix(self) -> Tensor:
        """The weight itself, shape `(1, out_features, in_features)`."""
        return self.weight[None]

    def as_weight(self, matrix: Tensor) -> Tensor:
        """The one matrix."""
        return matrix[0]


@dataclass(frozen=True)
class Geometry:
    """How a convolution's kernel lies over its input, a number for each axis of a map.

    Attributes:
        kernel: how wide it is.
        stride: from one place to the next.
        dilation: from one of its columns to the next.
        groups: of channels that it answers for by themselves.
    """

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int


class _OverMap(LinearMap):
    """A layer that answers at each place of a map of one to three axes."""

    def __init__(self, weight: Tensor, bias: Tensor | None, geometry: Geometry) -> None:
        self.weight, self.bias, self._groups = weight, bias, geometry.groups
        self._kernel, self._dilation = geometry.kernel, geometry.dilation
        self._stride = geometry.stride

    def places(self, output: Tensor) -> tuple[int, ...]:
        """The map."""
        return tuple(output.shape[2:])

    def answers(self, output: Tensor, chosen: Tensor) -> Tensor:
        """The channels at each place, shape `(n * places, out)`."""
        return _at(output.flatten(2).transpose(1, 2), chosen)

    def _patches(
        self, padded: Tensor, stride: Sequence[int], size: tuple[int, ...], chosen: Tensor
    ) -> Tensor:
        """What the kernel covers, shape `(groups, n * places, in / groups * kernel)`."""
        windows = padded
        for axis, (width, step, apart) in enumerate(
            zip(self._kernel, stride, self._dilation, strict=True)
        ):
            windows = windows.unfold(2 + axis, apart * (width - 1) + 1, step)[..., ::apart]
        number = torch.arange(len(padded), device=padded.device)[:, None]
        last = windows.movedim(1, 1 + len(size))  # (n, *size, channels, *kernel)
        patches = last[(number, *torch.unravel_index(chosen, size))]
        rows = patches.shape[0] * patches.shape[1]
        return patches.reshape(rows, self._groups, -1).transpose(0, 1)


class Convolution(_OverMap):
    """A convolution.

    Args:
        weight: shape `(out, in / groups, *kernel)`.
        bias: shape `(out,)`.
        geometry: how it lies.
        padding: of each side, the last axis first, as `F.pad` takes it.
        mode: of `F.pad`.
    """

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None,
        geometry: Geometry,
        padding: tuple[int, ...],
        mode: str = "constant",
    ) -> None:
        super().__init__(weight, bias, geometry)
        self._padding, self._mode = padding, mode

    def rows(self, input: Tensor, size: tuple[int, ...], chosen: Tensor) -> Tensor:
        """The patches, shape `(groups, n * places, in / groups * kernel)`."""
        padded = F.pad(input, self._padding, mode=self._mode)
        return self._patches(padded, self._stride, size, chosen)

    def matrix(self) -> Tensor:
        """Shape `(groups, out / groups, in / groups * kernel)`."""
        out = self.weight.shape[0] // self._groups
        return self.weight.reshape(self._groups, out, -1)

    def as_weight(self, matrix: Tensor) -> Tensor:
        """Shape `(out, in / groups, *kernel)`."""
        return matrix.reshape(self.weight.shape)


class Transposed(_OverMap):
    """A transposed convolution: one of stride 1 over its input with zeros between the places.

    Args:
        weight: shape `(in, out / groups, *kernel)`.
        bias: shape `(out,)`.
        geometry: how it lies.
        padding: of each axis.
    """

    def __init__(
        self, weight: Tensor, bias: Tensor | None, geometry: Geometry, padding: tuple[int, ...]
    ) -> None:
        super().__init__(weight, bias, geometry)
        self._padding = padding

    def rows(self, input: Tensor, size: tuple[int, ...], chosen: Tensor) -> Tensor:
        """The patches, shape `(groups, n * places, in / groups * kernel)`."""
        apart = [
            (places - 1) * step + 1
            for places, step in zip(input.shape[2:], self._stride, strict=True)
        ]
        spread = input.new_zeros(*input.shape[:2], *apart)
        spread[(slice(None), slice(None), *(slice(None, None, step) for step in self._stride))] = (
            input
        )
        sides: list[int] = []
        for axis in reversed(range(len(size))):
            reach = self._dilation[axis] * (self._kernel[axis] - 1)
            before = reach - int(self._padding[axis])
            sides += [before, size[axis] + reach - before - apart[axis]]
        return self._patches(F.pad(spread, sides), (1,) * len(size), size, chosen)

    def matrix(self) -> Tensor:
        """Shape `(groups, out / groups, in / groups * kernel)`, the kernel turned around."""
        shape = self.weight.shape
        turned = self.weight.flip(tuple(range(2, len(shape))))
        apart = turned.reshape(self._groups, shape[0] // self._groups, *shape[1:])
        return apart.transpose(1, 2).flatten(2)

    def as_weight(self, matrix: Tensor) -> Tensor:
        """Shape `(in, out / groups, *kernel)`."""
        shape = self.weight.shape
        apart = matrix.reshape(self._groups, shape[1], shape[0] // self._groups, *shape[2:])
        return apart.transpose(1, 2).flatten(0, 1).flip(tuple(range(2, len(shape))))


def _at(tokens: Tensor, chosen: Tensor) -> Tensor:
    """The rows of `(n, tokens, features)` at some places, shape `(n * places, features)`."""
    number = torch.arange(len(tokens), device=tokens.device)[:, None]
    return tokens[number, chosen].flatten(0, 1)


def _statistics(layer: Any) -> RunningStatistics | None:
    """A batch norm's; one that keeps none takes those of each batch, as it did before."""
    if layer.running_mean is None:
        return None
    return RunningStatistics(
        layer.running_mean, layer.running_var, layer.weight, layer.bias, layer.eps
    )


def _dense(layer: nn.Linear) -> LinearMap:
    return Dense(layer.weight, layer.bias)


def _geometry(layer: Any) -> Geometry:
    return Geometry(
        tuple(layer.kernel_size), tuple(layer.stride), tuple(layer.dilation), layer.groups
    )


def _convolution(layer: nn.Conv1d | nn.Conv2d | nn.Conv3d) -> LinearMap:
    padding = tuple(layer._reversed_padding_repeated_twice)
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    return Convolution(layer.weight, layer.bias, _geometry(layer), padding, mode)


def _transposed(layer: nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d) -> LinearMap:
    padding: Any = tuple(layer.padding)
    return Transposed(layer.weight, layer.bias, _geometry(layer), padding)


LAYERS: Mapping[type[nn.Module], Callable[[Any], LinearMap | RunningStatistics | None]] = {
    nn.Linear: _dense,
    nn.Conv1d: _convolution,
    nn.Conv2d: _convolution,
    nn.Conv3d: _convolution,
    nn.ConvTranspose1d: _transposed,
    nn.ConvTranspose2d: _transposed,
    nn.ConvTranspose3d: _transposed,
    nn.BatchNorm1d: _statistics,
    nn.BatchNorm2d: _statistics,
    nn.BatchNorm3d: _statistics,
}
