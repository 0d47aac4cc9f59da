"""The statements that freeze in a written network what is frozen in the original."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from prunecore.channels.keep import Keep
from prunecore.channels.names import is_within, join, named_modules, named_tensors
from prunecore.writing.expressions import self_path
from prunecore.writing.statements import AnyStatement, Compound, Statement
from prunecore.writing.text import Call


def freezing(model: nn.Module, keep: Keep) -> list[AnyStatement]:
    """Say `requires_grad_(False)` to what no gradient is computed for in the original.

    One statement does for a module of which all is frozen, one loop for all layers of a class.

    Args:
        model: the original network.
        keep: what stays of it.
    """
    stored = (tensor for _, tensor in named_tensors(model) if isinstance(tensor, nn.Parameter))
    if all(tensor.requires_grad for tensor in stored if tensor.is_floating_point()):
        return []
    frozen = list(_frozen(model, "", keep))
    statements: list[AnyStatement] = []
    classes = {type(model.get_submodule(path)) for path, is_module in frozen if is_module and path}
    for cls in sorted(classes, key=lambda cls: cls.__name__):
        own = {path for path, module in named_modules(model) if isinstance(module, cls)}
        found = {path for path, is_module in frozen if is_module} & own
        is_torchs = vars(nn).get(cls.__name__) is cls
        if is_torchs and len(found) > 1 and all(map(_is_frozen, map(model.get_submodule, own))):
            freeze = Statement("", Call("module.requires_grad_", (False,)))
            is_one = Compound(f"if isinstance(module, nn.{cls.__name__})", (freeze,))
            statements.append(Compound("for module in self.modules()", (is_one,)))
            frozen = [one for one in frozen if one[0] not in found]
    for path, _ in frozen:
        reached = self_path(model, path) if path else "self"
        statements.append(Statement("", Call(f"{reached}.requires_grad_", (False,))))
    return statements


def _frozen(module: nn.Module, path: str, keep: Keep) -> Iterator[tuple[str, bool]]:
    """The paths of the largest modules of which all is frozen, and of parameters in others."""
    if is_within(path, keep.left_out):
        return
    own = [parameter for parameter in module.parameters() if parameter.is_floating_point()]
    if own and _is_frozen(module):
        yield path, True
        return
    for key, parameter in module.named_parameters(recurse=False):
        if parameter.is_floating_point() and not parameter.requires_grad:
            yield join(path, key), False
    for key, child in module.named_children():
        yield from _frozen(child, join(path, key), keep)


def _is_frozen(module: nn.Module) -> bool:
    return not any(parameter.requires_grad for parameter in module.parameters())
