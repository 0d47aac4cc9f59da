"""A small plugin for the core's own tests: a few layers of torch, and three of its own."""

from __future__ import annotations

import inspect
import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from prunecore.plugin import BlockSource, Call, Channels, Keep, Signal, Writer, along, hookimpl


class Dense(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.rand(outputs, inputs) - 0.5)
        self.bias = nn.Parameter(torch.rand(outputs) - 0.5)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight, self.bias)


class Scale(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.rand(width) + 0.5)
        self.register_buffer("count", torch.tensor(width))

    def forward(self, x: Tensor) -> Tensor:
        return (x.transpose(1, -1) * self.weight).transpose(1, -1)


class Centre(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x - x.mean(1, keepdim=True)


def _dense(channels: Channels, layer: Any, x: Signal) -> Signal:
    weight = torch.empty(layer.weight.shape, dtype=x.meta.dtype, device="meta")
    meta = channels.run(F.linear, x, weight)
    channels.count_macs(layer.weight, math.prod(x.shape[1:-1]))
    made = channels.fresh(layer.weight.shape[0])
    entering = channels.axis(channels.pin_axes(x, range(x.ndim - 1), "linear"), x.ndim - 1)
    channels.bind(layer.weight, 0, made, filters=True)
    channels.bind(layer.weight, 1, entering)
    channels.bind(layer.bias, 0, made)
    channels.width(layer, "in_features", entering)
    channels.width(layer, "out_features", made)
    return Signal(meta, along(x.ndim - 1, x.ndim, made))


def _conv(channels: Channels, layer: nn.Conv2d, x: Signal) -> Signal:
    weight = torch.empty(layer.weight.shape, dtype=x.meta.dtype, device="meta")
    meta = channels.run(F.conv2d, x, weight, None, layer.stride, layer.padding)
    channels.count_macs(layer.weight, meta.shape[2] * meta.shape[3])
    made = channels.fresh(layer.out_channels)
    entering = channels.axis(channels.pin_axes(x, [0, 2, 3], "conv2d"), 1)
    channels.bind(layer.weight, 0, made, filters=True)
    channels.bind(layer.weight, 1, entering)
    channels.bind(layer.bias, 0, made)
    channels.width(layer, "in_channels", entering)
    channels.width(layer, "out_channels", made)
    return Signal(meta, along(1, 4, made))


def _norm(channels: Channels, layer: nn.BatchNorm2d, x: Signal) -> Signal:
    ids = channels.axis(x, 1)
    for tensor in (layer.weight, layer.bias, layer.running_mean, layer.running_var):
        channels.bind(tensor, 0, ids)
    channels.width(layer, "num_features", ids)
    return x


def _scale(channels: Channels, layer: Any, x: Signal) -> Signal:
    channels.bind(layer.weight, 0, channels.axis(x, 1))
    return x


def _centre(channels: Channels, layer: Centre, x: Signal) -> Signal:
    channels.masked_forward(layer, channels.axis(x, 1), _centre_kept)
    return x


def _centre_kept(module: Centre, kept: Tensor, x: Tensor) -> Tensor:
    part = module.__class__.forward(module, x.index_select(1, kept))
    return torch.zeros_like(x).index_copy(1, kept, part)


def _same(channels: Channels, layer: nn.Module, x: Signal) -> Signal:
    return x


def _sequential(channels: Channels, block: nn.Sequential, x: Any) -> Any:
    for child in block:
        x = channels.through(child, x)
    return x


def _without_forward(channels: Channels, block: nn.Module, *inputs: Any) -> None:
    channels.refuse("it has no forward", "Call its children.")


_RULES: dict[type[nn.Module], Any] = {
    Dense: _dense,
    Scale: _scale,
    Centre: _centre,
    nn.Linear: _dense,
    nn.Conv2d: _conv,
    nn.BatchNorm2d: _norm,
    **dict.fromkeys((nn.ReLU, nn.Hardswish, nn.Sigmoid, nn.GELU, nn.Dropout), _same),
    nn.Sequential: _sequential,
    nn.ModuleList: _without_forward,
}
_ARGUMENTS = {
    nn.Linear: ["in_features", "out_features"],
    nn.Conv2d: ["in_channels", "out_channels", "kernel_size", "stride", "padding"],
    nn.BatchNorm2d: ["num_features"],
    **{cls: ["inplace"] for cls in (nn.ReLU, nn.Hardswish)},
    **{cls: [] for cls in (nn.Sigmoid, nn.GELU)},
    nn.Dropout: ["p"],
}


def _own_class(block: nn.Module) -> type[nn.Module]:
    return next(cls for cls in type(block).__mro__ if cls in _RULES)


def _ordered(children: dict[str, Any]) -> Call:
    if all(map(str.isidentifier, children)):
        return Call("OrderedDict", keywords=children)
    return Call("OrderedDict", (children,))


@hookimpl
def prunecore_block_types() -> Sequence[type[nn.Module]]:
    return list(_RULES)


@hookimpl
def prunecore_calculate_dependencies(
    block: nn.Module, inputs: tuple[Any, ...], channels: Channels
) -> Any:
    return _RULES[_own_class(block)](channels, block, *inputs)


@hookimpl
def prunecore_write_block(block: nn.Module, name: str, writer: Writer) -> BlockSource:
    cls = _own_class(block)
    if cls in (nn.Sequential, nn.ModuleList):
        children = {
            key: writer.child(child, f"{name}.{key}" if name else key)
            for key, child in block._modules.items()
        }
        stays = [(key, child) for key, child in children.items() if child is not None]
        if cls is nn.ModuleList:
            either = [child or Call("nn.Identity") for child in children.values()]
            return BlockSource(Call("nn.ModuleList", (either,)))
        if [key for key, _ in stays] == [str(number) for number in range(len(children))]:
            return BlockSource(Call("nn.Sequential", tuple(children.values())))
        named = Call("nn.Sequential", (_ordered(dict(stays)),))
        return BlockSource(named, imports=frozenset({"from collections import OrderedDict"}))
    if cls in _ARGUMENTS:
        arguments = {key: _argument(block, key, writer) for key in _ARGUMENTS[cls]}
        if cls in (nn.Linear, nn.Conv2d):
            arguments["bias"] = block.bias is not None
        return BlockSource(Call.of(cls, **arguments))
    sizes: tuple[int, ...] = ()
    if cls is Dense:
        sizes = (writer.width(block.weight, 1), writer.width(block.weight, 0))
    elif cls is Scale:
        sizes = (writer.width(block.weight, 0),)
    return BlockSource(Call(cls.__name__, sizes), {cls.__name__: inspect.getsource(cls)})


def _argument(block: nn.Module, key: str, writer: Writer) -> Any:
    value = writer.argument(block, key)
    return value[0] if isinstance(value, tuple) else value


@hookimpl
def prunecore_transfer_weights(block: nn.Module, name: str, keep: Keep) -> dict[str, Tensor]:
    if isinstance(block, Scale):
        weight = keep.cut(block.weight)
        return {"weight": weight, "count": torch.tensor(len(weight))}
    return {}
