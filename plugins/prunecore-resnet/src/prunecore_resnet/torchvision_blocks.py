"""torchvision's `BasicBlock` and `Bottleneck`: how channels run through, and how they are written.

After He et al., "Deep Residual Learning for Image Recognition", 2016, arXiv 1512.03385, and
torchvision's `resnet.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

from prunecore.plugin import BlockSource, Call, Channels, Signal, Writer


@dataclass(frozen=True)
class Kind:
    """One of torchvision's residual blocks.

    Attributes:
        name: the class's name.
        kernels: kernel size of each convolution, in order.
        strided: which convolution has the block's stride, groups and dilation, from 1.
    """

    name: str
    kernels: tuple[int, ...]
    strided: int


BASIC = Kind("BasicBlock", (3, 3), 1)
BOTTLENECK = Kind("Bottleneck", (1, 3, 1), 2)


def calculate(kind: Kind, block: Any, x: Signal, channels: Channels) -> Signal:
    """Follow the channels: convolution, norm and activation in turn, then the shortcut."""
    out = x
    for number in range(1, len(kind.kernels) + 1):
        out = channels.through(getattr(block, f"conv{number}"), out)
        out = channels.through(getattr(block, f"bn{number}"), out)
        if number < len(kind.kernels):
            out = channels.through(block.relu, out)
    identity = x if block.downsample is None else channels.through(block.downsample, x)
    return channels.through(block.relu, channels.couple(out, identity))  # type: ignore[no-any-return]


def is_usual(kind: Kind, block: Any) -> bool:
    """Whether a block has the layers that its class makes unless it is told otherwise."""
    convs, norms = _layers(kind, block)
    strided = convs[kind.strided - 1]
    stride, groups = strided.stride[0], strided.groups
    usual = type(block.relu) is nn.ReLU and block.relu.inplace
    for number, (conv, norm, kernel) in enumerate(zip(convs, norms, kind.kernels, strict=True), 1):
        own = (stride, groups) if number == kind.strided else (1, 1)
        usual &= _is_usual_convolution(conv, kernel, *own) and _is_usual_norm(norm)
    if block.downsample is not None:
        layers = list(block.downsample.children())
        usual &= type(block.downsample) is nn.Sequential and len(layers) == 2
        usual = usual and _is_usual_convolution(layers[0], 1, stride, 1)
        usual = usual and _is_usual_norm(layers[1])
    return usual


def write(kind: Kind, block: Any, writer: Writer) -> BlockSource:
    """Write a usual block as torchvision does."""
    convs, _ = _layers(kind, block)
    widths = [writer.width(convs[0].weight, 1), *(writer.width(c.weight, 0) for c in convs)]
    strided = convs[kind.strided - 1]
    is_grouped = strided.groups > 1
    keywords = {"groups": writer.argument(strided, "groups")} if is_grouped else {}
    keywords |= {"stride": strided.stride[0], "downsample": block.downsample is not None}
    constructor = Call(kind.name, tuple(widths), keywords, {"stride": 1, "downsample": False})
    return BlockSource(constructor, {kind.name: _source(kind, is_grouped)})


def _layers(kind: Kind, block: Any) -> tuple[list[Any], list[Any]]:
    """The branch's convolutions and norms, in order."""
    numbers = range(1, len(kind.kernels) + 1)
    return [getattr(block, f"conv{n}") for n in numbers], [
        getattr(block, f"bn{n}") for n in numbers
    ]


def _is_usual_convolution(conv: Any, kernel: int, stride: int, groups: int) -> bool:
    return (
        type(conv) is nn.Conv2d
        and conv.kernel_size == (kernel, kernel)
        and conv.stride == (stride, stride)
        and conv.padding == (kernel // 2, kernel // 2)
        and conv.dilation == (1, 1)
        and conv.groups == groups
        and conv.bias is None
        and conv.padding_mode == "zeros"
    )


def _is_usual_norm(norm: Any) -> bool:
    return (
        type(norm) is nn.BatchNorm2d
        and (norm.eps, norm.momentum) == (1e-5, 0.1)
        and norm.affine
        and norm.track_running_stats
    )


def _source(kind: Kind, is_grouped: bool) -> str:
    """The class's text."""
    last = len(kind.kernels)
    inner = ["width"] if last == 2 else [f"width{number}" for number in range(1, last)]
    widths = ["in_channels", *inner, "out_channels"]
    parameters = [f"{width}: int" for width in widths]
    parameters += ["groups: int"] if is_grouped else []
    parameters += ["stride: int = 1", "downsample: bool = False"]
    layers, branch = [], []
    for number, kernel in enumerate(kind.kernels, start=1):
        options = "stride=stride, " if number == kind.strided else ""
        options += f"padding={kernel // 2}, " if kernel > 1 else ""
        options += "groups=groups, " if is_grouped and number == kind.strided else ""
        before, after = widths[number - 1 : number + 1]
        layers += _assignment(
            f"conv{number}", f"nn.Conv2d({before}, {after}, {kernel}, {options}bias=False)"
        )
        layers.append(f"self.bn{number} = nn.BatchNorm2d({after})")
        value = f"self.bn{number}(self.conv{number}({'x' if number == 1 else 'out'}))"
        branch.append(f"out = {value if number == last else f'self.relu({value})'}")
    return _TEMPLATE.format(
        name=kind.name,
        parameters="".join(f"        {parameter},\n" for parameter in ["self", *parameters]),
        layers="\n".join(f"        {line}" for line in layers),
        branch="\n".join(f"        {line}" for line in branch),
    )


def _assignment(attribute: str, value: str) -> list[str]:
    """An assignment within a constructor, over several lines where one is too short."""
    line = f"self.{attribute} = {value}"
    if len(line) + 8 <= 88:
        return [line]
    function, _, arguments = value.removesuffix(")").partition("(")
    return [
        f"self.{attribute} = {function}(",
        *(f"    {argument}," for argument in arguments.split(", ")),
        ")",
    ]


_TEMPLATE = """class {name}(nn.Module):
    def __init__(
{parameters}    ) -> None:
        super().__init__()
{layers}
        self.relu = nn.ReLU(inplace=True)
        self.downsample = None
        if downsample:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False),
                nn.BatchNorm2d(out_channels),
            )

    def forward(self, x: Tensor) -> Tensor:
        identity = x if self.downsample is None else self.downsample(x)

{branch}

        return self.relu(out + identity)
"""
