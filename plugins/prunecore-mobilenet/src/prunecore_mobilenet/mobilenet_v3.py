"""MobileNetV3's `InvertedResidual`: how channels run through, and how it is written.

After Howard et al., "Searching for MobileNetV3", 2019, arXiv 1905.02244, and torchvision's
`mobilenetv3.py`.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from prunecore.plugin import BlockSource, Call, Channels, Name, Signal, Writer
from prunecore_mobilenet import squeeze_excitation
from prunecore_mobilenet.definitions import Definitions
from prunecore_mobilenet.kinds import Kind
from prunecore_mobilenet.layers import Branch, numbered, read_branch

_SQUEEZE = ("nn.ReLU()", "nn.Hardsigmoid()")  # the activations of its squeeze-excitation


def _read(block: Any) -> Branch | None:
    """The layers of a block that has the usual ones."""
    *stages, projection = numbered(block.block) or [None]
    squeeze = None
    if stages and squeeze_excitation.is_of(stages[-1], *_SQUEEZE):
        squeeze = stages.pop()
    parts = [*map(numbered, stages), numbered(projection)]
    return read_branch(parts, [nn.ReLU, nn.Hardswish], squeeze)


def _calculate(block: Any, x: Signal, channels: Channels) -> Signal:
    """The shortcut, where there is one, is coupled with what the branch returns."""
    out: Signal = channels.through(block.block, x)
    return channels.couple(out, x) if block.use_res_connect else out


def _write(block: Any, layers: Branch, writer: Writer) -> BlockSource:
    definitions = Definitions(writer)
    conv_norm = definitions.conv_norm(layers.norm)
    names = {"conv_norm": conv_norm, "squeeze_parameter": "", "squeeze_layer": ""}
    squeezes = any(squeeze_excitation.is_of(m, *_SQUEEZE) for m in writer.keep.model.modules())
    if squeezes:
        squeeze = squeeze_excitation.define(definitions, *_SQUEEZE)
        names["squeeze_parameter"] = _SQUEEZE_PARAMETER
        names["squeeze_layer"] = _SQUEEZE_LAYER.format(squeeze_excitation=squeeze)
    name = definitions.add("InvertedResidual", _TEXT, **names)
    depthwise = layers.depthwise
    activation = Name(f"nn.{layers.activation.__name__}")
    squeeze_width = None if layers.squeeze is None else writer.width(layers.squeeze.fc1.weight, 0)
    keywords = {
        "squeeze": squeeze_width,
        "stride": depthwise.stride[0],
        "dilation": depthwise.dilation[0],
        "expand": layers.expansion is not None,
        "skip": block.use_res_connect,
    }
    defaults = {"squeeze": None, "stride": 1, "dilation": 1, "expand": True, "skip": False}
    by_place = (*layers.widths(writer), depthwise.kernel_size[0], activation)
    return BlockSource(Call(name, by_place, keywords, defaults), definitions.texts)


KIND = Kind(_read, _calculate, _write)

_TEXT = """class {name}(nn.Module):
    def __init__(
        self,
        in_channels: int,
        width: int,
        out_channels: int,
        kernel_size: int,
        activation: type[nn.Module],
{squeeze_parameter}        stride: int = 1,
        dilation: int = 1,
        expand: bool = True,
        skip: bool = False,
    ) -> None:
        super().__init__()
        self.use_res_connect = skip
        layers = []
        if expand:
            expansion = nn.Conv2d(in_channels, width, 1, bias=False)
            layers.append({conv_norm}(expansion, activation(inplace=True)))
        depthwise = nn.Conv2d(
            width,
            width,
            kernel_size,
            stride=stride,
            padding=kernel_size // 2 * dilation,
            dilation=dilation,
            groups=width,
            bias=False,
        )
        layers.append({conv_norm}(depthwise, activation(inplace=True)))
{squeeze_layer}        layers.append({conv_norm}(nn.Conv2d(width, out_channels, 1, bias=False)))
        self.block = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.block(x) + x if self.use_res_connect else self.block(x)
"""
_SQUEEZE_PARAMETER = "        squeeze: int | None = None,\n"
_SQUEEZE_LAYER = """        if squeeze is not None:
            layers.append({squeeze_excitation}(width, squeeze))
"""
