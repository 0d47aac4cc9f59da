"""A network's state dict put into it, in time linear in its modules."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor, nn


class _Odd(NamedTuple):
    """What one of a network and a state dict has, and the other does not, as hooks are given it."""

    missing_keys: list[str]
    unexpected_keys: list[str]


def put_state(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Put a state dict's own tensors into a network, as `load_state_dict(assign=True)` does.

    That one looks for the keys of each child among those of all: of 10,000 blocks in a row, for a
    minute. A network that has one of its own is given to it.

    Args:
        model: the network.
        state: tensors by their names, which become the network's; it may have torch's `_metadata`.

    Raises:
        RuntimeError: they do not fit the network.
    """
    if type(model).load_state_dict is not nn.Module.load_state_dict:
        model.load_state_dict(state, strict=True, assign=True)
        return
    odd = _Odd([], [])
    reasons: list[str] = []
    versions = getattr(state, "_metadata", {})

    def put(module: nn.Module, own: OrderedDict[str, Tensor], prefix: str) -> None:
        metadata = {**versions.get(prefix[:-1], {}), "assign_to_params_buffers": True}
        module._load_from_state_dict(own, prefix, metadata, True, *odd, reasons)
        parts: dict[str, OrderedDict[str, Tensor]] = {}
        for key, tensor in own.items():
            name, dot, _ = key.removeprefix(prefix).partition(".")
            if dot:
                parts.setdefault(name, OrderedDict())[key] = tensor
        for name, child in module._modules.items():
            if child is not None:
                put(child, parts.get(name, OrderedDict()), f"{prefix}{name}.")
        for hook in module._load_state_dict_post_hooks.values():
            hook(module, odd)

    put(model, OrderedDict(state), "")
    for kind, keys in (("Missing", odd.missing_keys), ("Unexpected", odd.unexpected_keys)):
        if keys:
            reasons.append(f"{kind} key(s) in state_dict: {', '.join(map(json.dumps, keys))}")
    if reasons:
        raise RuntimeError("; ".join(reasons))
