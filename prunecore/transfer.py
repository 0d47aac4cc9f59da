"""The written network's state dict, cut from the original's weights."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from prunecore.keep import Keep
from prunecore.plugins import Plugins


def transfer_weights(model: nn.Module, keep: Keep, plugins: Plugins) -> dict[str, Tensor]:
    """Cut every tensor of the original's state dict to what is kept.

    No tensor of the result shares memory with the original or with another one.

    Args:
        model: the original network.
        keep: what stays of it.
        plugins: owners with the hook prunecore_transfer_weights give their blocks' own.

    Returns:
        Tensors by the original's keys, without those of what is left out.
    """
    stored = model.state_dict(keep_vars=True)
    given: dict[str, Tensor] = {}
    answers: dict[int, Mapping[str, Tensor]] = {}  # by id of module: some have several paths
    for path, module in model.named_modules(remove_duplicate=False):
        if id(module) not in answers:
            answers[id(module)] = _from_owner(module, path, keep, plugins)
        own = answers[id(module)]
        given.update({f"{path}.{key}" if path else key: value for key, value in own.items()})
    left_out = tuple(f"{path}." for path in keep.left_out)
    weights = {}
    taken = {tensor.untyped_storage().data_ptr() for tensor in stored.values()}
    for name, tensor in stored.items():
        if not name.startswith(left_out):
            cut = (given[name] if name in given else keep.cut(tensor)).detach().contiguous()
            if cut.untyped_storage().data_ptr() in taken:
                cut = cut.clone()
            taken.add(cut.untyped_storage().data_ptr())
            weights[name] = cut
    return weights


def _from_owner(module: nn.Module, path: str, keep: Keep, plugins: Plugins) -> Mapping[str, Tensor]:
    """The weights that a module's owner gives, by keys relative to the module."""
    hook = "prunecore_transfer_weights"
    owner = plugins.owner(type(module))
    if owner is None or hook not in owner.hooks:
        return {}
    answer: Mapping[str, Tensor] = owner.call(hook, path, block=module, name=path, keep=keep)
    return answer
