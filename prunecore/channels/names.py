"""What the modules and tensors of a network are called: by paths, the first of several."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TypeAlias

from torch import Tensor, nn

Named: TypeAlias = list[tuple[str, Tensor]]


def named_modules(model: nn.Module, remove_duplicate: bool = True) -> list[tuple[str, nn.Module]]:
    """What torch's method of that name yields, without a generator for each level of the tree."""
    found: list[tuple[str, nn.Module]] = []
    seen, pending = set(), [("", model)]
    while pending:
        path, module = one = pending.pop()
        if remove_duplicate:
            if id(module) in seen:
                continue
            seen.add(id(module))
        found.append(one)
        if module._modules:
            below = f"{path}." if path else ""
            children = reversed(module._modules.items())
            pending += [(below + key, child) for key, child in children if child is not None]
    return found


def named_tensors(model: nn.Module, remove_duplicate: bool = True) -> Named:
    """The parameters of a network, then its buffers, as torch's methods yield them."""
    modules = named_modules(model, remove_duplicate)
    return [
        *_held(modules, "_parameters", remove_duplicate),
        *_held(modules, "_buffers", remove_duplicate),
    ]


def named_parameters(model: nn.Module, remove_duplicate: bool = True) -> Named:
    """What torch's method of that name yields."""
    return _held(named_modules(model, remove_duplicate), "_parameters", remove_duplicate)


def named_buffers(model: nn.Module, remove_duplicate: bool = True) -> Named:
    """What torch's method of that name yields."""
    return _held(named_modules(model, remove_duplicate), "_buffers", remove_duplicate)


def _held(
    modules: Iterable[tuple[str, nn.Module]], registry: str, remove_duplicate: bool = True
) -> Named:
    """What modules have in one of their registries, by paths."""
    held = [
        (f"{path}.{key}" if path else key, tensor)
        for path, module in modules
        for key, tensor in module.__dict__[registry].items()
        if tensor is not None
    ]
    if not remove_duplicate:
        return held
    first: dict[int, tuple[str, Tensor]] = {}
    for one in held:
        first.setdefault(id(one[1]), one)
    return [*first.values()]


def module_paths(model: nn.Module) -> dict[int, str]:
    """The path of each module of a network, `layer1.0.conv1`, by the module's id."""
    return {id(module): path for path, module in named_modules(model)}


def tensor_names(model: nn.Module) -> dict[int, str]:
    """The name of each parameter, buffer and plain tensor of a network, by the tensor's id."""
    modules = named_modules(model)
    names = [
        *_held(modules, "_parameters", remove_duplicate=False),
        *_held(modules, "_buffers", remove_duplicate=False),
        *_plain(modules),
    ]
    return {id(tensor): name for name, tensor in reversed(names)}


def named_plain_tensors(model: nn.Module) -> Named:
    """The tensors that modules hold as attributes which are neither parameters nor buffers."""
    return _plain(named_modules(model))


def _plain(modules: Iterable[tuple[str, nn.Module]]) -> Named:
    """What modules hold as plain attributes, by paths."""
    return [
        (join(path, key), value)
        for path, module in modules
        if Tensor in map(type, vars(module).values())  # few modules hold any
        for key, value in vars(module).items()
        if type(value) is Tensor
    ]


def is_of_torch(cls: type) -> bool:
    """True if a class is one that generated files call as `nn.Name`."""
    return getattr(nn, cls.__name__, None) is cls


def is_called(module: nn.Module) -> bool:
    """True if a module has a forward of its own, as a plain list of modules has none."""
    return type(module).forward is not nn.Module.forward


def is_bias(name: str) -> bool:
    """True if a parameter is named as a bias: `fc.bias`, `in_proj_bias`, or `bias_ih_l0`."""
    return "bias" in name.rpartition(".")[2].split("_")


def join(path: str, key: str) -> str:
    """The path of what a module holds under a key; the network's own path is empty."""
    return f"{path}.{key}" if path else key


def is_within(name: str, paths: Collection[str]) -> bool:
    """True if the path of a module or tensor is one of `paths`, or lies below one."""
    if not paths:
        return False
    end = len(name)
    while end >= 0:
        if name[:end] in paths:
            return True
        end = name.rfind(".", 0, end)
    return False


def tied_to(model: nn.Module, path: str, called: Iterable[str]) -> str | None:
    """The path of a layer of the same class that has a parameter of this one; `None` without one.

    Args:
        model: the network.
        path: of a layer.
        called: paths of the layers to look among.
    """
    layer = model.get_submodule(path)
    own = set(map(id, layer.parameters(recurse=False)))
    for other in called if own else ():
        module = model.get_submodule(other)
        is_alike = other != path and type(module) is type(layer)
        if is_alike and own & set(map(id, module.parameters(recurse=False))):
            return other
    return None
