"""torchvision's `BasicBlock` and `Bottleneck`: how channels run through, and how they are written.

After He et al., "Deep Residual Learning for Image Recognition", 2016, arXiv 1512.03385, and
torchvision's `resnet.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

from prunecore import BlockSource, Call, Channels, Signal, Writer, call


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


def write(kind: Kind, block: Any, name: str, writer: Writer) -> BlockSource | None:
    """Write a block as torchvision does; `None` where its layers are not the usual ones."""
    convs = [getattr(block, f"conv{number}") for number in range(1, len(kind.kernels) + 1)]
    widths = [writer.width(convs[0].weight, 1), *(writer.width(c.weight, 0) for c in convs)]
    strided = convs[kind.strided - 1]
    stride, groups = strided.stride[0], writer.argument(strided, "groups")
    layers = _layers(kind, widths, stride, groups)
    if block.downsample is not None:
        layers["downsample"] = Call(
            "nn.Sequential",
            (
                _convolution(widths[0], widths[-1], 1, stride=stride),
                call(nn.BatchNorm2d, num_features=widths[-1]),
            ),
        )
    for key, layer in layers.items():
        if str(writer.child(getattr(block, key), f"{name}.{key}")) != str(layer):
            return None
    is_grouped = strided.groups > 1
    keywords: dict[str, int] = {"groups": groups} if is_grouped else {}
    keywords |= {"stride": stride, "downsample": block.downsample is not None}
    constructor = Call(kind.name, tuple(widths), keywords, {"stride": 1, "downsample": False})
    return BlockSource(constructor, {kind.name: _source(kind, is_grouped)})


def _convolution(
    in_channels: int, out_channels: int, kernel: int, stride: int = 1, groups: int = 1
) -> Call:
    return call(
        nn.Conv2d,
        in_channels=in_channels,
        out_channels=out_channels,
        kernel_size=kernel,
        stride=stride,
        padding=kernel // 2,
        groups=groups,
        bias=False,
    )


def _layers(kind: Kind, widths: list[int], stride: int, groups: int) -> dict[str, Call]:
    """The layers of the branch as torchvision makes them, by attribute."""
    layers = {"relu": call(nn.ReLU, inplace=True)}
    for number, kernel in enumerate(kind.kernels, start=1):
        strided = {"stride": stride, "groups": groups} if number == kind.strided else {}
        layers[f"conv{number}"] = _convolution(
            widths[number - 1], widths[number], kernel, **strided
        )
        layers[f"bn{number}"] = call(nn.BatchNorm2d, num_features=widths[number])
    return layers


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
