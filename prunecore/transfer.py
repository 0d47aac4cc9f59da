"""The written network's state dict, cut from the original's weights."""

from __future__ import annotations

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
        Tensors by the original's keys, without those of modules that are left out.
    """
    stored = model.state_dict(keep_vars=True)
    given: dict[str, Tensor] = {}
    for path, module in model.named_modules():
        owner = plugins.owner(type(module))
        if owner is not None and "prunecore_transfer_weights" in owner.hooks:
            own = owner.call("prunecore_transfer_weights", path, block=module, name=path, keep=keep)
            given.update({f"{path}.{key}" if path else key: value for key, value in own.items()})
    left_out = tuple(f"{path}." for path in keep.dependencies.left_out)
    weights = {}
    for name, tensor in stored.items():
        if not name.startswith(left_out):
            cut = given[name] if name in given else keep.cut(tensor)
            shares = cut.untyped_storage().data_ptr() == tensor.untyped_storage().data_ptr()
            weights[name] = cut.clone() if shares else cut
    return weights
