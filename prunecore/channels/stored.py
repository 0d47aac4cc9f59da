"""What a network stores: under names that reach it, and with values that can be cut and scored."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.modules.lazy import LazyModuleMixin
from torch.nn.parameter import is_lazy

from prunecore.channels.dependencies import Dependencies
from prunecore.channels.names import named_plain_tensors, named_tensors
from prunecore.channels.on_host import on_host
from prunecore.errors import UnsupportedError, WeightsError, a_kind
from prunecore.escaping import is_number, shown

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_WHOLE = (torch.int8, torch.int16, torch.int32, torch.int64, torch.uint8)


def check_stored(model: nn.Module, dependencies: Dependencies) -> None:
    """Refuse what a network stores and cannot be cut right, or would be cut to something useless.

    Parameters, and buffers that lose places, such as a batch norm's statistics, hold finite values.
    Other buffers may hold infinite ones, as a mask of attention does, but none that is no number.
    What the written network does without may hold anything.

    Args:
        model: the network.
        dependencies: its channels.

    Raises:
        WeightsError: names the tensor.
    """
    may_go = _axes_that_may_go(dependencies)
    read = dependencies.tensors
    may_hold = named_plain_tensors(model) if dependencies.forwards.constants_held else ()
    plain = [(name, tensor) for name, tensor in may_hold if name in read]
    left_out = tuple(f"{path}." for path in dependencies.left_out)
    holding: list[tuple[str, Tensor, bool]] = []
    for name, tensor in [*named_tensors(model), *plain]:
        if f"{name}.".startswith(left_out):
            continue
        is_cut = not may_go.isdisjoint(dependencies.bound.get(name, {}).values())
        if wrong := _wrong_kind(tensor, is_cut):
            raise _unusable(name, wrong)
        if tensor.dtype in FLOATS and tensor.numel():
            holding.append((name, tensor, is_cut or isinstance(tensor, nn.Parameter)))
    with torch.no_grad():
        if _are_finite(_joined([tensor for _, tensor, _ in holding])).all():
            return
        are_finite = _are_finite([tensor for _, tensor, _ in holding])
        for (name, tensor, is_finite), is_right in zip(holding, are_finite, strict=True):
            if not is_right and (wrong := _wrong_values(tensor, not is_finite)):
                raise _unusable(name, wrong)


def _axes_that_may_go(dependencies: Dependencies) -> set[int]:
    """The indices into axes of those that lose places at some level."""
    lengths = [len(places) for places in dependencies.axes]
    places = np.concatenate([*dependencies.axes, np.zeros(0, dtype=np.int64)])
    may_go = np.append(dependencies.removable, False)[places]  # the last is for fixed places
    return set(np.repeat(np.arange(len(lengths)), lengths)[may_go].tolist())


def _joined(tensors: Sequence[Tensor]) -> list[Tensor]:
    """The values of tensors, those of small ones together: to ask takes longer than to read."""
    joined: dict[tuple[torch.device, torch.dtype], list[Tensor]] = {}
    large = []
    for tensor in tensors:
        if tensor.numel() > _SMALL:
            large.append(tensor)
        else:
            joined.setdefault((tensor.device, tensor.dtype), []).append(tensor.reshape(-1))
    return [*map(torch.cat, joined.values()), *large]


_SMALL = 1 << 12  # numbers


def _are_finite(tensors: Sequence[Tensor]) -> NDArray[np.bool_]:
    """Whether the sum of each tensor's values is finite: it is not where one of these is not."""
    return np.isfinite([float(total) for total in on_host(list(map(_sum, tensors)))])


def _unusable(name: str, wrong: str) -> WeightsError:
    return WeightsError(
        f"{shown(name)} of the network {wrong}.\n"
        "Give it other weights (--weights), or mend this tensor."
    )


def is_plain(tensor: Tensor) -> bool:
    """True if a tensor has all of its values in memory, one beside the other."""
    return (
        tensor.layout is torch.strided
        and not tensor.is_meta
        and not tensor.is_nested
        and not tensor.is_quantized
    )


def kind_of(tensor: Tensor) -> str:
    """What a tensor's values are, the same for types that can stand for each other."""
    if is_plain(tensor):
        for kind, types in (("a float", FLOATS), ("a whole number", _WHOLE)):
            if tensor.dtype in types:
                return kind
    return type_of(tensor)


def type_of(tensor: Tensor) -> str:
    """A tensor's type as messages have it: `float32`, `meta float32`, `sparse_coo float32`."""
    dtype = str(tensor.dtype).removeprefix("torch.")
    if tensor.is_nested:
        return f"nested {dtype}"
    if tensor.layout is not torch.strided:
        return f"{str(tensor.layout).removeprefix('torch.').strip('_')} {dtype}"
    return f"meta {dtype}" if tensor.is_meta else dtype


def _wrong_kind(tensor: Tensor, is_cut: bool) -> str | None:
    if tensor.is_meta:
        return "has no values: it is on the meta device"
    exact = (*FLOATS, *_WHOLE, torch.bool)
    if not is_plain(tensor) or (is_cut and tensor.dtype not in exact):
        return f"is of the type {type_of(tensor)}, which cannot be cut"
    return None


def _sum(tensor: Tensor) -> Tensor:
    """The sum of a tensor's values, read in one pass."""
    short = tensor.dtype in (torch.float16, torch.bfloat16)
    return tensor.sum(dtype=torch.float32 if short else None).double()


def _wrong_values(tensor: Tensor, may_be_infinite: bool) -> str | None:
    odd = int((tensor.isnan() if may_be_infinite else ~tensor.isfinite()).sum())
    kind = "no numbers (NaN)" if may_be_infinite else "no finite numbers (NaN or infinity)"
    return f"holds values that are {kind}: {odd} of {tensor.numel()}" if odd else None


_NAMES = """
    add_module buffers children eval forward get_submodule load_state_dict modules named_buffers
    named_children named_modules named_parameters parameters register_buffer register_parameter
    state_dict train
"""

_METHODS = tuple(_NAMES.split())  # of every module, which torch and the walk call

_REGISTRIES = {"_modules": "child", "_parameters": "parameter", "_buffers": "buffer"}


def check_names(model: nn.Module) -> None:
    """Check the names of a network's children, parameters and buffers, and that they are made.

    Args:
        model: the network.

    Raises:
        UnsupportedError: a name cannot be part of a path or of a weights file, or has two meanings;
            or a lazy module has not been called yet.
    """
    pending, seen = [("", model)], set()
    classes: dict[type, _Class] = {}
    while pending:
        path, module = pending.pop()
        if id(module) in seen:
            continue
        seen.add(id(module))
        kind = type(module)
        if kind not in classes:
            classes[kind] = _Class.of(kind)
        _check(module, path, classes[kind])
        if children := vars(module)["_modules"]:
            below = f"{path}." if path else ""
            pending += [(below + n, held) for n, held in children.items() if held is not None]


class _Class(NamedTuple):
    """What is looked up once for all modules of a class.

    Attributes:
        has_methods: whether its modules have what every module has, where nothing of their own
            hides it.
        names: of what its modules hold, which their class has no other meaning for.
    """

    has_methods: bool
    names: set[str]

    @classmethod
    def of(cls, kind: type[nn.Module]) -> _Class:
        """What is known of a class before its modules are seen."""
        is_usual = kind.__getattribute__ is object.__getattribute__
        held = [vars(base) for base in kind.__mro__]  # as they are, not as the class answers
        methods = (next((own[name] for own in held if name in own), None) for name in _METHODS)
        return cls(is_usual and all(map(inspect.isfunction, methods)), set())


def _check(module: nn.Module, path: str, known: _Class) -> None:
    if isinstance(module, torch.jit.ScriptModule):
        raise UnsupportedError(
            path,
            type(module).__name__,
            "it is compiled by TorchScript, and has no text of Python to follow or to write",
            "Give the network with the module that torch.jit.script or torch.jit.trace was given.",
        )
    own = vars(module)
    for method in _METHODS if not known.has_methods or not own.keys().isdisjoint(_METHODS) else ():
        if not callable(getattr(module, method, None)):
            raise _hiding(module, path, method)
    if not isinstance(getattr(module, "training", None), bool | int):
        raise _hiding(module, path, "training")
    for registry, kind in _REGISTRIES.items():
        if not isinstance(own.get(registry), dict):
            raise _hiding(module, path, registry)
        for name, held in own[registry].items():
            if held is None or (name in known.names and name not in own):
                continue
            if reason := _unreachable(module, name, held):
                raise UnsupportedError(
                    path,
                    type(module).__name__,
                    f"its {kind} {shown(repr(name))} {reason}",
                    "Give it another name.",
                )
            if not hasattr(type(module), name) and not isinstance(module, nn.ParameterList):
                known.names.add(name)
    if _is_lazy(module):
        raise UnsupportedError(
            path,
            type(module).__name__,
            "it is lazy and has not been called yet, so that its shapes are not known",
            "Call the network once first, as by model(torch.rand(1, 3, 224, 224)), in the factory "
            "that makes it; what is lazy even then is never called, and can be deleted.",
        )


def _is_lazy(module: nn.Module) -> bool:
    """True of a module of which shapes are known only when it has been called."""
    if isinstance(module, LazyModuleMixin) and module.cls_to_become is not None:
        return True
    held: tuple[Any, Any] = module._parameters, module._buffers
    return any(any(map(is_lazy, registry.values())) for registry in held)


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
        return f"is hidden by another attribute of that name, which {a_kind(module)} has"
    return ""


def _is_out_of_place(module: nn.Module, name: str) -> bool:
    """True if a list holds something that its numbers do not reach."""
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
