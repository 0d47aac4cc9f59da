"""What a plugin tells of a layer, so that it can be scored by what it reads, and refitted."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import Tensor


class LinearMap(ABC):
    """A layer as a linear map of rows: what it returns at a place is `row @ matrix.T + bias`.

    A convolution reads a patch of its input at each place, a linear layer the features of a token.
    Groups of a grouped convolution are maps of their own, side by side.

    Attributes:
        weight: the parameter that the matrix is made of.
        bias: one value an output; `None` without.
    """

    weight: Tensor
    bias: Tensor | None

    @abstractmethod
    def places(self, output: Tensor) -> tuple[int, ...]:
        """The axes of an output that the layer answers along, as of a map or of tokens."""

    @abstractmethod
    def rows(self, input: Tensor, size: tuple[int, ...], chosen: Tensor) -> Tensor:
        """What the layer reads at some places.

        Args:
            input: what it is called with, shape `(n, ...)`.
            size: the axes of its output, as `places` tells them.
            chosen: numbers of places along these, row-major, shape `(n, places)`.

        Returns:
            Shape `(groups, n * places, columns)`.
        """

    @abstractmethod
    def answers(self, output: Tensor, chosen: Tensor) -> Tensor:
        """What the layer returns at some places.

        Args:
            output: what it returns, shape `(n, ...)`.
            chosen: as for `rows`.

        Returns:
            Shape `(n * places, outputs)`.
        """

    @abstractmethod
    def matrix(self) -> Tensor:
        """The weight as a matrix a group, shape `(groups, outputs / groups, columns)`."""

    @abstractmethod
    def as_weight(self, matrix: Tensor) -> Tensor:
        """A matrix a group as the weight that it stands for, in the weight's shape."""


@dataclass(frozen=True)
class RunningStatistics:
    """The statistics of a norm that it keeps from training, one a channel on axis 1 of its input.

    Attributes:
        mean: the running mean, shape `(channels,)`.
        variance: the running variance, shape `(channels,)`.
        scale: what a normalised value is multiplied by; `None` without.
        shift: what is added to it then; `None` without.
        eps: what is added to the variance.
    """

    mean: Tensor
    variance: Tensor
    scale: Tensor | None
    shift: Tensor | None
    eps: float
