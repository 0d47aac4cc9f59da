"""Checks of what plugins answer to hooks: their rules and criteria, too, as they are called."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from prunecore.channels.ids import are_handed_out
from prunecore.channels.layers.linear_map import LinearMap, RunningStatistics
from prunecore.channels.signal import Signal
from prunecore.criteria.criterion import Criterion, ScoringContext
from prunecore.functions.rule import FunctionRule, Operation
from prunecore.registry import BACKENDS, CRITERIA, FUNCTIONS, RECOVER, Plugin, hyphened
from prunecore.writing.instances import Instance
from prunecore.writing.text import BlockSource, Call

if TYPE_CHECKING:
    from prunecore.channels.channels import Channels
    from prunecore.channels.keep import Keep
    from prunecore.latency.backends import LatencyBackend


*_FIRST, _LAST = (field.name for field in fields(ScoringContext))
_ATTRIBUTES = f"{', '.join(_FIRST)} and {_LAST}"


def checked(plugin: Plugin, hook: str, what: str, answer: Any, arguments: Mapping[str, Any]) -> Any:
    """A hook's answer, if it can be used.

    Args:
        plugin: who answered.
        hook: the hook's name.
        what: the hook and for which module it was called, for messages.
        answer: what it returned.
        arguments: what it was called with.

    Returns:
        The answer; rules and criteria in it name the plugin where they go wrong in turn.

    Raises:
        PluginError: it cannot be used.
    """
    if answer is None and hook == RECOVER:
        return None
    wrong = "returned None" if answer is None else _CHECKS[hook](answer, **arguments)
    if wrong:
        raise plugin.error(f"{what} {wrong}")
    if hook == FUNCTIONS and not plugin.is_core:
        return {key: _checked_rule(plugin, key, rule) for key, rule in answer.items()}
    if hook == CRITERIA and not plugin.is_core:
        return {hyphened(key): _checked_criterion(plugin, key, answer[key]) for key in answer}
    if hook == BACKENDS and not plugin.is_core:
        return {hyphened(key): _checked_backend(plugin, key, answer[key]) for key in answer}
    return answer


def _block_types(answer: Any) -> str | None:
    if not isinstance(answer, Collection):
        return f"returned {type(answer).__name__}, not a sequence of classes"
    for block_type in answer:
        if not (isinstance(block_type, type) and issubclass(block_type, nn.Module)):
            return f"names {block_type!r}, which is not a torch.nn.Module class"
    return None


def _functions(answer: Any) -> str | None:
    if not isinstance(answer, Mapping):
        return f"returned {type(answer).__name__}, not a mapping of functions to rules"
    for function, rule in answer.items():
        if not isinstance(rule, FunctionRule):
            return f"gives {rule!r} for {_name(function)}, which is not a FunctionRule"
    return None


def _criteria(answer: Any) -> str | None:
    if wrong := _no_functions(answer, "a criterion", "criteria"):
        return wrong
    for name, criterion in answer.items():
        if taken := _takes_no_context(criterion):
            return (
                f"gives {name} with the arguments {taken}; a criterion takes one, a "
                f"ScoringContext, and reads {_ATTRIBUTES} of it"
            )
    return None


def _backends(answer: Any) -> str | None:
    return _no_functions(answer, "a backend", "backends")


def _no_functions(answer: Any, one: str, many: str) -> str | None:
    """What is wrong with what are to be functions by name, each once."""
    if not isinstance(answer, Mapping):
        return f"returned {type(answer).__name__}, not a mapping of names to {many}"
    for name, function in answer.items():
        if not (name and isinstance(name, str)):
            return f"names {one} {name!r}, which is not a name"
        if not callable(function):
            return f"gives {function!r} for {name}, which cannot be called"
    names = [hyphened(name).lower() for name in answer]
    twice = [name for name in names if names.count(name) > 1]
    return f"gives {twice[0]} twice" if twice else None


def _takes_no_context(criterion: Callable[..., Any]) -> str | None:
    """The parameters of what cannot be called with one context; `None` for what can."""
    try:
        signature = inspect.signature(criterion)
    except ValueError:  # written in C, and without one
        return None
    try:
        signature.bind(None)
    except TypeError:
        return f"({', '.join(signature.parameters)})"
    return None


def _dependencies(
    output: Any, block: nn.Module, inputs: tuple[Any, ...], channels: Channels
) -> str | None:
    if isinstance(output, Signal):
        passes = any(output is given for given in inputs)
        return None if passes else _not_handed_out(output, channels)
    leaves = pytree.tree_leaves(output)
    if not any(isinstance(leaf, Signal) for leaf in leaves):
        return f"returned {type(output).__name__}, not a Signal for each tensor"
    return _in_place_of_tensors(leaves, channels)


def _in_place_of_tensors(leaves: list[Any], channels: Channels) -> str | None:
    """What is wrong with what stands for the tensors that a block or a function returns."""
    for leaf in leaves:
        if isinstance(leaf, Tensor | nn.Module | np.ndarray):
            return f"returned {type(leaf).__name__}, not a Signal for each tensor"
        if isinstance(leaf, Signal) and (wrong := _not_handed_out(leaf, channels)):
            return wrong
    return None


def _not_handed_out(signal: Signal, channels: Channels) -> str | None:
    count = channels.records.count
    if are_handed_out(signal.ids, count):
        return None
    low, high = signal.ids.min(), signal.ids.max()
    return f"returned ids from {low} to {high}; handed out are those from 0 to {count - 1}"


def _source(source: Any, block: nn.Module, name: str, writer: Any) -> str | None:
    if not isinstance(source, BlockSource):
        return f"returned {type(source).__name__}, not a BlockSource"
    if not isinstance(source.call, Call | Instance):
        return f"gives {source.call!r} as the constructor call, which is not a Call"
    if not isinstance(source.definitions, Mapping) or not all(
        isinstance(text, str) for pair in source.definitions.items() for text in pair
    ):
        return f"gives {source.definitions!r} as definitions, not texts by name"
    if not isinstance(source.imports, frozenset | set) or not all(
        isinstance(line, str) for line in source.imports
    ):
        return f"gives {source.imports!r} as imports, not a set of lines"
    return None


def _weights(weights: Any, block: nn.Module, name: str, keep: Keep) -> str | None:
    if not isinstance(weights, Mapping):
        return f"returned {type(weights).__name__}, not tensors by the keys of the block's state"
    stored = block.state_dict(keep_vars=True)
    for key, given in weights.items():
        if key not in stored:
            return f"gives {key!r}, which the block's state does not have"
        if not isinstance(given, Tensor):
            return f"gives {type(given).__name__} for {key}, not a tensor"
        tensor = stored[key]
        widths = tuple(int(keep.width(tensor, axis)) for axis in range(tensor.ndim))
        if (tuple(given.shape), given.dtype) != (widths, tensor.dtype):
            return (
                f"gives {key} in shape {tuple(given.shape)} of {given.dtype}; "
                f"kept of it is the shape {widths} of {tensor.dtype}"
            )
    return None


def _layer(answer: Any, block: nn.Module) -> str | None:
    if not isinstance(answer, LinearMap | RunningStatistics):
        return f"returned {type(answer).__name__}, not a LinearMap or RunningStatistics"
    return None


_CHECKS: Mapping[str, Callable[..., str | None]] = {
    "prunecore_block_types": _block_types,
    "prunecore_calculate_dependencies": _dependencies,
    "prunecore_write_block": _source,
    "prunecore_transfer_weights": _weights,
    RECOVER: _layer,
    "prunecore_functions": _functions,
    "prunecore_criteria": _criteria,
    BACKENDS: _backends,
}


def _checked_rule(plugin: Plugin, function: Callable[..., Any], rule: FunctionRule) -> FunctionRule:
    """A plugin's rule that names the plugin and the module where it goes wrong."""
    what = f"the rule for {_name(function)} of prunecore_functions"

    def calculate(channels: Channels, operation: Operation) -> Any:
        where = f"{what} in {channels.path or 'the network'}"
        output = plugin.guarded(where, rule.calculate, channels, operation)
        wrong = "returned None" if output is None else None
        wrong = wrong or _in_place_of_tensors(pytree.tree_leaves(output), channels)
        if wrong:
            raise plugin.error(f"{where} {wrong}")
        return output

    def rewrite(arguments: Any, result: Signal, keep: Keep) -> Any:
        where = f"{what} in {_holder(result, keep)}"
        assert rule.rewrite is not None
        written = plugin.guarded(where, rule.rewrite, arguments, result, keep)
        kinds = [type(part) for part in written] if isinstance(written, tuple) else []
        if kinds != [tuple, dict]:
            raise plugin.error(f"{where} returned {written!r}, not arguments and keywords")
        return written

    return replace(rule, calculate=calculate, rewrite=rewrite if rule.rewrite else None)


def _holder(result: Signal, keep: Keep) -> str:
    """The path of the module whose traced forward computed this."""
    for path, trace in keep.dependencies.forwards.traces.items():
        if any(value is result for value in trace.values.values()):
            return path or "the network"
    return "the network"


def _checked_criterion(plugin: Plugin, name: str, criterion: Criterion) -> Criterion:
    """A plugin's criterion that names the plugin where it goes wrong."""
    what = f"the criterion {name} of prunecore_criteria"

    def scored(context: ScoringContext) -> Any:
        scores = plugin.guarded(what, criterion, context)
        count = context.dependencies.count
        kind = scores.dtype if isinstance(scores, np.ndarray) else type(scores).__name__
        if not (isinstance(kind, np.dtype) and kind.kind in "iuf"):
            raise plugin.error(f"{what} returned {kind}, not an array of real numbers")
        if scores.shape != (count,):
            raise plugin.error(
                f"{what} returned scores of shape {scores.shape}, not one for each of the {count} "
                "channels"
            )
        if np.isnan(scores).any():
            raise plugin.error(f"{what} returned scores that are not numbers (NaN)")
        return scores

    return scored


def _name(function: Any) -> str:
    return str(getattr(function, "__name__", function))


def _checked_backend(plugin: Plugin, name: str, backend: LatencyBackend) -> LatencyBackend:
    """A plugin's backend that names the plugin where it goes wrong."""
    what = f"the latency backend {name}"

    def made(
        network: nn.Module, args: Sequence[Tensor], kwargs: Mapping[str, Tensor]
    ) -> Callable[[], Any]:
        run = plugin.guarded(what, backend, network, args, kwargs)
        if not callable(run):
            raise plugin.error(f"{what} returned {type(run).__name__}, which cannot be called")
        return lambda: plugin.guarded(what, run)

    return made
