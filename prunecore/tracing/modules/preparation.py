"""A network as it is followed: without what wraps it, and with weights for what computes them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import remove_spectral_norm, remove_weight_norm
from torch.nn.utils.parametrize import is_parametrized
from torch.nn.utils.prune import BasePruningMethod, remove
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from prunecore.channels.names import join, named_modules
from prunecore.isolation.copies import OF_STATE_DICTS, Isolation

# what a network may do without, by the names that follow the module's path
PREPARED = frozenset(
    {
        *("DataParallel", "DistributedDataParallel", "OptimizedModule"),
        *("weight_norm", "spectral_norm", "prune", "parametrizations"),
    }
)


@dataclass(frozen=True)
class Prepared:
    """A network to be followed.

    Attributes:
        model: the network; what needs no preparation is the user's own.
        left_out: what it does without, each after the module that has it.
    """

    model: nn.Module
    left_out: tuple[str, ...]


def prepare(model: nn.Module) -> Prepared:
    """Take off wrappers, and fold what computes weights from others into plain ones.

    Wrappers are those of `nn.DataParallel`, `DistributedDataParallel` and `torch.compile`. Weights
    are computed by `torch.nn.utils.parametrize`, and by the hooks of `weight_norm`,
    `spectral_norm` and `torch.nn.utils.prune`.

    Args:
        model: the network; it is left as it is.
    """
    left_out: list[str] = []
    model = _unwrapped(model, "", left_out)
    if any(_inner(module) is not None for _, module in named_modules(model)):
        only = [module for _, module in _outside(model)]
        model = Isolation(model, only=only, with_hooks=True).of(model)
        for path, module in list(_outside(model)):
            for name, child in module._modules.items():
                if child is not None:
                    module._modules[name] = _unwrapped(child, join(path, name), left_out)
    computing = [module for _, module in named_modules(model) if _computes(module)]
    if computing:
        own = {
            id(x): nn.Parameter(x.detach().clone(), x.requires_grad)
            for module in computing
            for x in module.parameters()
        }
        model = Isolation(model, with_hooks=True, stored=own).of(model)
        for path, module in list(model.named_modules()):
            if _computes(module):
                left_out += [join(path, name) for name in _folded(module)]
    return Prepared(model, tuple(left_out))


def _inner(module: nn.Module) -> nn.Module | None:
    """What a wrapper wraps; `None` of what is no wrapper."""
    if isinstance(module, nn.DataParallel | DistributedDataParallel):
        inner: nn.Module = module.module
        return inner
    kind = type(module)  # of torch.compile, whose import takes seconds
    is_compiled = kind.__name__ == "OptimizedModule" and kind.__module__.startswith("torch.")
    return getattr(module, "_orig_mod", None) if is_compiled else None


def _unwrapped(module: nn.Module, path: str, left_out: list[str]) -> nn.Module:
    while (inner := _inner(module)) is not None:
        left_out.append(join(path, next(k.__name__ for k in type(module).mro() if _is_noted(k))))
        module = inner
    return module


def _is_noted(kind: type) -> bool:
    return kind.__name__ in PREPARED


def _outside(module: nn.Module, path: str = "") -> Iterator[tuple[str, nn.Module]]:
    """A module, and those within it that no wrapper lies around, with their paths."""
    yield path, module
    for name, child in module._modules.items():
        if child is not None and _inner(child) is None:
            yield from _outside(child, join(path, name))


def _computes(module: nn.Module) -> bool:
    """True if a module computes a weight each time that it is called."""
    kinds = WeightNorm | SpectralNorm | BasePruningMethod
    hooks = module._forward_pre_hooks.values()
    is_told = "parametrizations" in module._modules  # which `is_parametrized` finds out slowly
    return (is_told and is_parametrized(module)) or any(isinstance(hook, kinds) for hook in hooks)


def _folded(module: nn.Module) -> Iterator[str]:
    """Give a module plain weights; what it no longer has.

    Args:
        module: a copy, with tensors of its own. The class that torch has made for it is shared with
            the original.
    """
    for name in OF_STATE_DICTS:
        vars(module)[name] = OrderedDict(vars(module)[name])
    for hook in list(module._forward_pre_hooks.values()):
        if isinstance(hook, WeightNorm):
            remove_weight_norm(module, hook.name)
            yield "weight_norm"
        elif isinstance(hook, SpectralNorm):
            remove_spectral_norm(module, hook.name)
            yield "spectral_norm"
        elif isinstance(hook, BasePruningMethod):
            remove(module, hook._tensor_name)  # type: ignore[no-untyped-call]
            yield "prune"
    if is_parametrized(module):
        computed: Any = module._modules["parametrizations"]
        computed.eval()
        with torch.no_grad():
            values: dict[str, Tensor] = {name: getattr(module, name).clone() for name in computed}
        trained = {
            name: any(x.requires_grad for x in computed[name].parameters()) for name in values
        }
        stored = {name: any(True for _ in computed[name].parameters()) for name in values}
        module.__class__ = type(module).__bases__[0]
        del module._modules["parametrizations"]
        for name, value in values.items():
            if stored[name]:
                module.register_parameter(name, nn.Parameter(value, trained[name]))
            else:
                module.register_buffer(name, value)
        yield "parametrizations"
