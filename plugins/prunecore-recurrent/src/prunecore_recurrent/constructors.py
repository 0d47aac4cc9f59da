"""How recurrent layers and their cells are constructed: their classes and options."""

from __future__ import annotations

from typing import Any

from torch import nn

from prunecore.plugin import BlockSource, Call, Writer

# the options that a layer or a cell may have, with what they are where they are not given
_DEFAULTS = {
    "num_layers": 1,
    "nonlinearity": "tanh",
    "bias": True,
    "batch_first": False,
    "dropout": 0.0,
    "bidirectional": False,
    "proj_size": 0,
}
_WIDTHS = ("input_size", "hidden_size")


def torch_class(layer: nn.Module) -> Any:
    """The class of `torch.nn` that a layer is of, or that its class only constructs otherwise."""
    return next(cls for cls in type(layer).__mro__ if vars(nn).get(cls.__name__) is cls)


def options_of(layer: nn.Module) -> dict[str, Any]:
    """What a layer was made with beside its widths, as far as it differs from the defaults."""
    given = {name: getattr(layer, name, default) for name, default in _DEFAULTS.items()}
    return {name: value for name, value in given.items() if value != _DEFAULTS[name]}


def write(layer: nn.Module, writer: Writer) -> BlockSource:
    """Call the constructor with what the layer's attributes tell, in the kept widths."""
    widths = tuple(writer.argument(layer, name) for name in _WIDTHS)
    options = {name: writer.argument(layer, name) for name in options_of(layer)}
    return BlockSource(Call(f"nn.{torch_class(layer).__name__}", widths, options, names=_WIDTHS))
