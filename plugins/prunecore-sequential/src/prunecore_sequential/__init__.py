"""The layers of `torch.nn` and `nn.Sequential`, for prunecore."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from torch import nn

from prunecore.plugin import (
    BlockSource,
    Channels,
    FunctionRule,
    LinearMap,
    RunningStatistics,
    hookimpl,
)
from prunecore_sequential import (
    activations,
    containers,
    convolution,
    deformable,
    embedding,
    functional,
    linear_maps,
    normalization,
    shapes,
    writing,
)
from prunecore_sequential.rules import torch_class

if TYPE_CHECKING:
    from prunecore.plugin import Writer
    from prunecore_sequential.rules import Rule

_RULES: Mapping[type[nn.Module], Rule] = {
    **convolution.RULES,
    **normalization.RULES,
    **activations.RULES,
    **shapes.RULES,
    **embedding.RULES,
    **containers.RULES,
}
_WRITERS: Mapping[type[nn.Module], Any] = {**writing.WRITERS, **containers.WRITERS}


@hookimpl
def prunecore_block_types() -> Sequence[type[nn.Module]]:
    """The layers of `torch.nn` that are understood, and its containers."""
    return list(_RULES)


@hookimpl
def prunecore_calculate_dependencies(
    block: nn.Module, inputs: tuple[Any, ...], channels: Channels
) -> Any:
    """By the rule of the layer's class."""
    return _RULES[torch_class(block)](channels, block, *inputs)


@hookimpl
def prunecore_write_block(block: nn.Module, name: str, writer: Writer) -> BlockSource:
    """The constructor call, as the layer's attributes tell it."""
    if isinstance(block, containers.OF_MODULES) and (block._parameters or block._buffers):
        return writer.trace(block, name)
    source: BlockSource = _WRITERS.get(torch_class(block), writing.write_layer)(block, name, writer)
    return source


@hookimpl
def prunecore_recover_layer(block: nn.Module) -> LinearMap | RunningStatistics | None:
    """Convolutions and linear layers as linear maps, batch norms by their statistics."""
    told = linear_maps.LAYERS.get(torch_class(block))
    return None if told is None else told(block)


@hookimpl
def prunecore_functions() -> Mapping[Callable[..., Any], FunctionRule]:
    """The layers of `torch.nn.functional`, and torchvision's operators where it is imported."""
    return {**functional.RULES, **deformable.rules()}
