"""Whether all that a network holds can be reached by its name, and stored under it."""

from __future__ import annotations

from torch import nn

from prunecore.errors import UnsupportedError
from prunecore.escaping import is_number, shown

_NAMES = """
    add_module buffers children eval forward get_submodule load_state_dict modules named_buffers
    named_children named_modules named_parameters parameters register_buffer register_parameter
    state_dict train
"""

_METHODS = tuple(_NAMES.split())  # of every module, which torch and the walk call

_REGISTRIES = {"_modules": "child", "_parameters": "parameter", "_buffers": "buffer"}


def check_names(model: nn.Module) -> None:
    """Check the names of a network's children, parameters and buffers, and of what it adds.

    Args:
        model: the network.

    Raises:
        UnsupportedError: a name cannot be part of a path or of a weights file, or has two meanings.
    """
    pending, seen = [("", model)], set()
    while pending:
        path, module = pending.pop()
        if id(module) in seen:
            continue
        seen.add(id(module))
        _check(module, path)
        children = vars(module)["_modules"].items()
        pending += [
            (f"{path}.{n}" if path else n, held) for n, held in children if held is not None
        ]


def _check(module: nn.Module, path: str) -> None:
    for method in _METHODS:
        if not callable(getattr(module, method, None)):
            raise _hiding(module, path, method)
    if not isinstance(getattr(module, "training", None), bool | int):
        raise _hiding(module, path, "training")
    for registry, kind in _REGISTRIES.items():
        if not isinstance(vars(module).get(registry), dict):
            raise _hiding(module, path, registry)
        for name, held in vars(module)[registry].items():
            if held is not None and (reason := _unreachable(module, name, held)):
                raise UnsupportedError(
                    path,
                    type(module).__name__,
                    f"its {kind} {shown(repr(name))} {reason}",
                    "Give it another name.",
                )


def _unreachable(module: nn.Module, name: str, held: object) -> str:
    """Why a name cannot stand for what a module holds; nothing if it can."""
    if not name or "." in name:
        return "cannot be part of a path"
    if not name.isascii() and any("\ud800" <= letter <= "\udfff" for letter in name):
        return "cannot be a key of a weights file, which takes whole letters alone"
    if _is_out_of_place(module, name):
        return "is at no place in the list"
    is_another = name in vars(module) or hasattr(type(module), name)
    if is_another and getattr(module, name, None) is not held:
        return f"is hidden by another attribute of that name, which a {type(module).__name__} has"
    return ""


def _is_out_of_place(module: nn.Module, name: str) -> bool:
    """Whether a list holds something that its numbers do not reach."""
    if isinstance(module, nn.ModuleList):
        return name in module._modules and not is_number(name)
    if isinstance(module, nn.ParameterList):
        is_place = is_number(name) and int(name) < len(module)
        return name in module._parameters and not is_place
    return False


def _hiding(module: nn.Module, path: str, name: str) -> UnsupportedError:
    return UnsupportedError(
        path,
        type(module).__name__,
        f"its attribute {name} hides what every module has by that name",
        "Give it another name.",
    )
