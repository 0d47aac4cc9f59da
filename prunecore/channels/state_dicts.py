"""A network's state dict put into it, in time linear in its modules."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, NamedTuple

from torch import Tensor, nn
from torch.__future__ import get_swap_module_params_on_conversion as swaps_tensors
from torch.nn.modules import module as torch_modules

from prunecore.channels.names import named_modules


class _Odd(NamedTuple):
    """What one of a network and a state dict has, and the other does not, as hooks are given it."""

    missing_keys: list[str]
    unexpected_keys: list[str]


def put_state(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Put a state dict's own tensors into a network, as `load_state_dict(assign=True)` does.

    That one looks for the keys of each child among those of all: of 10,000 blocks in a row, for a
    minute. A network that has one of its own is given to it. Modules are asked where one of them
    may do more than to hold what it is given, or where there is something to say.

    Args:
        model: the network.
        state: tensors by their names, which become the network's; it may have torch's `_metadata`.

    Raises:
        RuntimeError: they do not fit the network.
    """
    if type(model).load_state_dict is not nn.Module.load_state_dict:
        model.load_state_dict(state, strict=True, assign=True)
        return
    places = _places(model, state)
    if places is not None:
        for held, name, tensor in places:
            held[name] = tensor
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


def _places(
    model: nn.Module, state: Mapping[str, Tensor]
) -> list[tuple[dict[str, Any], str, Tensor]] | None:
    """Where each tensor goes: what holds it, its name there, and what is put there.

    `None` where modules have to be asked.
    """
    if swaps_tensors() or any(_REGISTRATION_HOOKS):
        return None
    places: list[tuple[dict[str, Any], str, Tensor]] = []
    plain: dict[type, bool] = {}
    for path, module in named_modules(model, remove_duplicate=False):
        kind = type(module)
        if kind not in plain:
            plain[kind] = _only_holds(kind)
        hooks = module._load_state_dict_pre_hooks or module._load_state_dict_post_hooks
        if hooks or not plain[kind] or "_load_from_state_dict" in vars(module):
            return None
        for held in (module._parameters, module._buffers):
            for name, old in held.items():
                if old is None or (
                    held is module._buffers and name in module._non_persistent_buffers_set
                ):
                    continue
                new = _fitting(old, state.get(f"{path}.{name}" if path else name))
                if new is None:
                    return None
                places.append((held, name, new))
    return places if len(places) == len(state) else None


_REGISTRATION_HOOKS = (
    torch_modules._global_parameter_registration_hooks,
    torch_modules._global_buffer_registration_hooks,
)


def _only_holds(kind: type[nn.Module]) -> bool:
    """True if modules of a class hold the tensors that they are given, and do nothing else."""
    alike = ("__setattr__", "register_parameter", "register_buffer", "set_extra_state")
    return kind._load_from_state_dict in _LOADING and all(
        getattr(kind, name) is getattr(nn.Module, name) for name in alike
    )


# that of norms adds a count that older ones have not stored
_LOADING = (nn.Module._load_from_state_dict, nn.modules.batchnorm._NormBase._load_from_state_dict)


def _fitting(old: Tensor, new: Any) -> Tensor | None:
    """What takes the place of a parameter or buffer; `None` where that is not told so quickly."""
    kinds = type(old), type(new)
    if kinds == (Tensor, Tensor):
        return new if new.shape == old.shape and not isinstance(new, nn.Buffer) else None
    if type(old) is not nn.Parameter or type(new) not in (Tensor, nn.Parameter):
        return None
    if new.shape != old.shape or not new.is_floating_point():
        return None
    parameter = nn.Parameter(new, old.requires_grad) if type(new) is Tensor else new
    return parameter.requires_grad_(old.requires_grad)
