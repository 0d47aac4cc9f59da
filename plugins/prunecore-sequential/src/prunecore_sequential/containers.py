"""The containers: nn.Sequential is followed and written, lists and dictionaries are written."""

from __future__ import annotations

import keyword
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from prunecore import UnsupportedError
from prunecore.plugin import BlockSource, Call, Channels
from prunecore_sequential.rules import Rule

if TYPE_CHECKING:
    from prunecore.plugin import Writer

OF_MODULES = (nn.Sequential, nn.ModuleList, nn.ModuleDict)  # which have no tensors by their class


def sequential(channels: Channels, block: nn.Sequential, x: Any) -> Any:
    """One child after the other."""
    for child in block:
        x = channels.through(child, x)
    return x


def without_forward(channels: Channels, _block: nn.Module, *_inputs: Any) -> None:
    """Lists and dictionaries of modules or parameters cannot be called."""
    channels.refuse(
        "it has no forward", "Call its children from the forward of the module that holds it."
    )


def write_sequential(block: nn.Sequential, name: str, writer: Writer) -> BlockSource:
    """By number where the original goes by number, else by name.

    Where a block goes that a call of the container would pass, the others keep their names.
    """
    children = _children(block, name, writer)
    has_gap = list(children) != [str(number) for number in range(len(children))]
    if _is_numbered(block) and not (has_gap and writer.is_called(name)):
        return BlockSource(Call("nn.Sequential", tuple(_in_places(children))))
    named = _ordered(children)
    imports = frozenset({"from collections import OrderedDict"})
    return BlockSource(Call("nn.Sequential", (named,)), imports=imports)


def write_module_list(block: nn.ModuleList, name: str, writer: Writer) -> BlockSource:
    """A list of the children; of one whose children have names, the file has a class of its own."""
    children = _children(block, name, writer)
    if not all(map(_is_place, children)):
        return BlockSource(Call("NamedLayers", (children,)))
    return BlockSource(Call("nn.ModuleList", (_in_places(children),)))


def write_module_dict(block: nn.ModuleDict, name: str, writer: Writer) -> BlockSource:
    """A dictionary of the children."""
    return BlockSource(Call("nn.ModuleDict", (_children(block, name, writer),)))


def write_parameter_list(block: nn.ParameterList, name: str, writer: Writer) -> BlockSource:
    """A list of tensors of the kept sizes, for the weights to be loaded into."""
    values = [_empty(value, block, name, writer) for value in block]
    return BlockSource(Call("nn.ParameterList", (values,)), imports=frozenset({"import torch"}))


def write_parameter_dict(block: nn.ParameterDict, name: str, writer: Writer) -> BlockSource:
    """A dictionary of tensors of the kept sizes, for the weights to be loaded into."""
    values = {key: _empty(value, block, name, writer) for key, value in block.items()}
    return BlockSource(Call("nn.ParameterDict", (values,)), imports=frozenset({"import torch"}))


def _ordered(children: Mapping[str, Any]) -> Call:
    """The children as an OrderedDict, their names as keywords where they can be."""
    if all(key.isidentifier() and not keyword.iskeyword(key) for key in children):
        return Call("OrderedDict", keywords=children)
    return Call("OrderedDict", (dict(children),))


def _children(block: nn.Module, name: str, writer: Writer) -> dict[str, Any]:
    """The children that the forward reaches, as written, by name."""
    # named_children leaves out a module's second name, but the written container needs it
    written = {
        key: writer.child(child, f"{name}.{key}" if name else key)
        for key, child in block._modules.items()
        if child is not None
    }
    return {key: value for key, value in written.items() if value is not None}


def _is_place(key: str) -> bool:
    """True for the key of a place in a list; none of five digits, before which too much lies."""
    return key.isdecimal() and len(key) <= 4 and key == str(int(key))


def _is_numbered(block: nn.Module) -> bool:
    return list(block._modules) == [str(number) for number in range(len(block._modules))]


def _in_places(children: Mapping[str, Any]) -> list[Any]:
    """The children, each at its own number, so that indexing finds it after one left out."""
    last = max((int(key) for key in children), default=-1)
    return [children.get(str(number), Call("nn.Identity")) for number in range(last + 1)]


def _empty(value: Any, block: nn.Module, name: str, writer: Writer) -> Call:
    if not isinstance(value, Tensor):
        raise UnsupportedError(
            name,
            type(block).__name__,
            f"it holds {value!r}, which is not a tensor",
            "Keep what is not a tensor in a plain attribute.",
        )
    sizes = tuple(writer.width(value, axis) for axis in range(value.ndim))
    return Call("torch.empty", sizes or ((),))


RULES: Mapping[type[nn.Module], Rule] = {
    nn.Sequential: sequential,
    **dict.fromkeys(
        (nn.ModuleList, nn.ModuleDict, nn.ParameterList, nn.ParameterDict), without_forward
    ),
}
WRITERS = {
    nn.Sequential: write_sequential,
    nn.ModuleList: write_module_list,
    nn.ModuleDict: write_module_dict,
    nn.ParameterList: write_parameter_list,
    nn.ParameterDict: write_parameter_dict,
}
