"""The layers that a block is made of, read from its modules."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from prunecore.plugin import Call, Name, Writer


@dataclass(frozen=True)
class Step:
    """A convolution without a bias, its batch norm, and the activation after them, if any."""

    conv: nn.Conv2d
    norm: nn.BatchNorm2d
    activation: type[nn.Module] | None


@dataclass(frozen=True)
class Branch:
    """The branch of a block that widens its input, looks around, and narrows.

    Attributes:
        expansion: makes the block's width of its input; `None` where that has this width.
        depthwise: looks at each channel's neighbourhood.
        projection: makes the block's output.
        norm: one of the batch norms; all have the same options.
        activation: the class of the in-place activations after all but the projection.
        squeeze: the squeeze-excitation before the projection, if any.
    """

    expansion: nn.Conv2d | None
    depthwise: nn.Conv2d
    projection: nn.Conv2d
    norm: nn.BatchNorm2d
    activation: type[nn.Module]
    squeeze: Any | None

    def widths(self, writer: Writer) -> tuple[int, int, int]:
        """The kept widths: of the input, between expansion and projection, and of the output."""
        width = writer.width(self.depthwise.weight, 0)
        entering = width if self.expansion is None else writer.width(self.expansion.weight, 1)
        return entering, width, writer.width(self.projection.weight, 0)


def as_written(norm: nn.BatchNorm2d) -> dict[str, Name | Call]:
    """What is written in the place of the batch norms of the written classes, to be like one."""
    options = {"eps": norm.eps, "momentum": norm.momentum}
    made = Call.of(nn.BatchNorm2d, num_features=Name("channels"), **options)
    if str(made) == "nn.BatchNorm2d(channels)":
        return {"batch_norm": Name("nn.BatchNorm2d")}
    return {"nn.BatchNorm2d(channels)": made}


def read_branch(
    parts: Sequence[Sequence[nn.Module]],
    activations: Sequence[type[nn.Module]],
    squeeze: Any | None = None,
) -> Branch | None:
    """The layers of a branch; `None` where one of them is not as it usually is.

    Args:
        parts: the layers of each step: convolution, batch norm and perhaps an activation.
        activations: the classes of which one is all in-place activations'.
        squeeze: the squeeze-excitation before the last step, if any.
    """
    steps = read_steps(parts, activations)
    if len(steps) not in (2, 3):
        return None
    *expansion, depthwise, projection = steps
    is_usual = (
        all(is_pointwise(step.conv) for step in (*expansion, projection))
        and depthwise.conv.groups == depthwise.conv.in_channels == depthwise.conv.out_channels
        and [step.activation is None for step in steps] == [False] * len(expansion) + [False, True]
    )
    if not is_usual or depthwise.activation is None:
        return None
    return Branch(
        expansion[0].conv if expansion else None,
        depthwise.conv,
        projection.conv,
        depthwise.norm,
        depthwise.activation,
        squeeze,
    )


def read_steps(
    parts: Sequence[Sequence[Any]], activations: Sequence[type[nn.Module]]
) -> list[Step]:
    """The steps that layers make up; none where one of them is not as it usually is."""
    if not all(_is_step(part, activations) for part in parts):
        return []
    steps = [
        Step(conv, norm, type(activation[0]) if activation else None)
        for conv, norm, *activation in parts
    ]
    options = {(step.norm.eps, step.norm.momentum) for step in steps}
    shared = {step.activation for step in steps} - {None}
    return steps if len(options) == len(shared) == 1 else []


def numbered(container: Any) -> list[Any]:
    """The children of an nn.Sequential that goes by number; none of any other module."""
    is_sequential = (
        isinstance(container, nn.Sequential)
        and type(container).forward is nn.Sequential.forward
        and list(container._modules) == [str(number) for number in range(len(container))]
    )
    return list(container) if is_sequential else []


def is_pointwise(conv: nn.Conv2d) -> bool:
    """True if a convolution looks at one place, and at all channels there."""
    return conv.groups == 1 and conv.kernel_size == conv.stride == conv.dilation == (1, 1)


def _is_step(part: Sequence[Any], activations: Sequence[type[nn.Module]]) -> bool:
    return (
        len(part) in (2, 3)
        and _is_convolution(part[0])
        and _is_batch_norm(part[1])
        and all(type(layer) in activations and layer.inplace for layer in part[2:])
    )


def _is_convolution(layer: Any) -> bool:
    """True if it has no bias, treats both axes alike, and keeps the map's size but for strides."""
    return (
        type(layer) is nn.Conv2d
        and all(
            len(set(option)) == 1 for option in (layer.kernel_size, layer.stride, layer.dilation)
        )
        and layer.padding == (layer.kernel_size[0] // 2 * layer.dilation[0],) * 2
        and layer.bias is None
        and layer.padding_mode == "zeros"
    )


def _is_batch_norm(layer: Any) -> bool:
    return type(layer) is nn.BatchNorm2d and layer.affine and layer.track_running_stats
