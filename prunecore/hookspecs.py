"""The hooks that a plugin may implement, and the marker that it implements them with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import Tensor, nn

    from prunecore.channels.channels import Channels
    from prunecore.channels.keep import Keep
    from prunecore.channels.layers.linear_map import LinearMap, RunningStatistics
    from prunecore.channels.signal import Signal
    from prunecore.criteria.criterion import Criterion
    from prunecore.functions.rule import FunctionRule
    from prunecore.latency.backends import LatencyBackend
    from prunecore.writing.text import BlockSource
    from prunecore.writing.writer import Writer


hookspec = pluggy.HookspecMarker("prunecore")


hookimpl = pluggy.HookimplMarker("prunecore")


@hookspec(firstresult=True)
def prunecore_block_types() -> Sequence[type[nn.Module]]:  # type: ignore[empty-body]
    """Name the module classes that this plugin owns.

    A class that derives from an owned one and overrides nothing of it but the constructor is owned
    with it. Two plugins that name one class are an error.

    Returns:
        The classes. The sequence may be empty, and may grow as a user decorates classes.

    Example:
        ```python
        @hookimpl
        def prunecore_block_types():
            return [ScaledResidual]
        ```
    """


@hookspec(firstresult=True)
def prunecore_calculate_dependencies(
    block: nn.Module, inputs: tuple[Any, ...], channels: Channels
) -> Signal | tuple[Signal, ...] | None:
    """Follow the channels through one block that the plugin owns.

    Only the owner is called. Read it as the block's forward pass over channel ids.

    Args:
        block: the module, untouched: its weights are read for their shapes alone.
        inputs: what its forward is called with; a `Signal` stands for each tensor.
        channels: binds, couples and pins channels, and walks through children.

    Returns:
        One `Signal` for each tensor that the block's forward returns. `None` is an error.

    Raises:
        UnsupportedError: through `channels.refuse`, where the block cannot be followed.

    Example:
        ```python
        @hookimpl
        def prunecore_calculate_dependencies(block, inputs, channels):
            (x,) = inputs
            return channels.couple(channels.through(block.body, x), x)
        ```
    """


@hookspec(firstresult=True)
def prunecore_write_block(block: nn.Module, name: str, writer: Writer) -> BlockSource | None:
    """Write one block that the plugin owns: its constructor call, and the class that it calls.

    Args:
        block: the original module.
        name: its path in the network, such as `layer1.0`.
        writer: gives the kept widths, writes children, and traces what needs no hand.

    Returns:
        The constructor call and the definitions that it needs. `None` is an error.

    Example:
        ```python
        @hookimpl
        def prunecore_write_block(block, name, writer):
            width = writer.width(block.body.weight, 0)
            return writer.source(Call("ScaledResidual", (width,)), ScaledResidual)
        ```
    """


@hookspec(firstresult=True)
def prunecore_transfer_weights(block: nn.Module, name: str, keep: Keep) -> dict[str, Tensor] | None:
    """Give the written block's weights, where cutting every bound axis is not enough.

    A plugin without this hook gets the default: each tensor indexed along each bound axis.

    Args:
        block: the original module.
        name: its path in the network.
        keep: the kept indices of every tensor of the network.

    Returns:
        The state dict of the block, with keys relative to it.

    Example:
        ```python
        @hookimpl
        def prunecore_transfer_weights(block, name, keep):
            return {"scale": keep.cut(block.scale).clone()}
        ```
    """


@hookspec(firstresult=True)
def prunecore_recover_layer(block: nn.Module) -> LinearMap | RunningStatistics | None:
    """Tell how a layer that the plugin owns can be refitted on what it reads.

    A plugin without this hook leaves its layers as they are cut.

    Args:
        block: a layer, of the original or of the written network.

    Returns:
        The layer as a linear map, the running statistics of a norm, or `None` for any other.

    Example:
        ```python
        @hookimpl
        def prunecore_recover_layer(block):
            return Dense(block) if isinstance(block, nn.Linear) else None
        ```
    """


@hookspec(firstresult=True)
def prunecore_functions() -> Mapping[Callable[..., Any], FunctionRule]:  # type: ignore[empty-body]
    """Give the rules for functions that a traced forward may call.

    Returns:
        A rule by function. Methods are named by the function that they are, `torch.Tensor.view`.

    Example:
        ```python
        @hookimpl
        def prunecore_functions():
            return {torch.special.expit: FunctionRule(elementwise)}
        ```
    """


@hookspec(firstresult=True)
def prunecore_criteria() -> Mapping[str, Criterion]:  # type: ignore[empty-body]
    """Give importance criteria by the name that `--mode` takes.

    Returns:
        A criterion by name, words joined by hyphens. It is called with one `ScoringContext`, which
        has the `dependencies`, the `tensors` by name and the `seed`, and returns one score a
        channel, shape `(dependencies.count,)`; low goes first.

    Example:
        ```python
        @hookimpl
        def prunecore_criteria():
            return {"last-first": lambda context: -np.arange(context.dependencies.count)}
        ```
    """


@hookspec(firstresult=True)
def prunecore_latency_backends() -> Mapping[str, LatencyBackend]:  # type: ignore[empty-body]
    """Give what runs networks to measure their latency, by the name that `--latency` takes.

    Returns:
        A backend by name, words joined by hyphens. It is called with a network in eval mode, the
        tensors that it is given by place, and those by name, and returns a function without
        arguments that runs one forward and comes back when it is done.

    Example:
        ```python
        @hookimpl
        def prunecore_latency_backends():
            return {"scripted": scripted}
        ```
    """
