"""A plan and the original modules make one source file."""

from __future__ import annotations

import ast
import sys
from collections.abc import Hashable
from dataclasses import replace
from typing import Any

from torch import Tensor, nn
from torch.utils import _pytree as pytree

from prunecore.channels import Visit
from prunecore.classes import Instance, define_classes
from prunecore.errors import PluginError, UnsupportedError
from prunecore.forward import Statement, self_path, write_forward
from prunecore.keep import Keep
from prunecore.plugins import Plugins
from prunecore.signal import Signal
from prunecore.source import BlockSource, Call, Name, Value, is_of_torch, one_line, signature

_LONGEST_CONSTANT = 64  # elements of a buffer that is written out

_IMPORTS = {  # name in the file to the import that it needs
    "math": "import math",
    "operator": "import operator",
    "OrderedDict": "from collections import OrderedDict",
    "torch": "import torch",
    "F": "from torch.nn import functional as F",
}


class Writer:
    """Writes modules; what plugins write blocks with.

    Args:
        model: the original network.
        keep: what stays of it.
        plugins: the loaded plugins.
    """

    def __init__(self, model: nn.Module, keep: Keep, plugins: Plugins) -> None:
        self.keep = keep
        self.definitions: dict[str, str] = {}
        self.imports: set[str] = set()
        self.ties: list[tuple[str, str]] = []  # (path, path of the module or tensor that it is)
        self._plugins = plugins
        self._paths = {id(module): path for path, module in model.named_modules()}
        self._left_out = keep.dependencies.left_out

    def width(self, tensor: Tensor, axis: int) -> int:
        """The kept width of one axis of a parameter or buffer."""
        return self.keep.width(tensor, axis)

    def argument(self, module: nn.Module, name: str) -> Any:
        """The kept value of one of a module's constructor arguments."""
        return self.keep.argument(module, name)

    def child(self, module: nn.Module, name: str) -> Value | None:
        """Write the module at a path.

        Args:
            module: a child of a block.
            name: its path in the network.

        Returns:
            Its constructor call; `None` where the forward never reaches it, so that the written
            network does without.

        Raises:
            PluginError: the plugin that owns it answers with something that cannot be used.
        """
        path = self._paths[id(module)]
        if any(path == out or path.startswith(f"{out}.") for out in self._left_out):
            return None
        if path != name:
            self.ties.append((name, path))
        owner = self._plugins.owner(type(module))
        if owner is None:
            return self.trace(module, path).call
        source = owner.call("prunecore_write_block", path, block=module, name=path, writer=self)
        if not isinstance(source, BlockSource):
            raise PluginError(
                f"{owner.label}: prunecore_write_block returned {type(source).__name__} for "
                f"{path or 'the network'}, not BlockSource.\nReport it to the plugin's author."
            )
        self._define(source, owner.label, path)
        return source.call

    def trace(self, module: nn.Module, name: str) -> BlockSource:
        """Write a module as a class of its own, its forward as it was traced."""
        path = self._paths[id(module)]
        trace = self.keep.dependencies.traces.get(path)
        forward = (
            None if trace is None else write_forward(trace, self.keep, self._plugins.functions)
        )
        visits = self.keep.dependencies.visits.get(path, [Visit((), None)])
        instance = Instance(
            type(module).__name__,
            (*self._tensors(module, path), *self._children(module, path)),
            forward,
            self._channels(visits[0].inputs),
            self._channels(visits[0].output),
        )
        return BlockSource(instance)

    def _children(self, module: nn.Module, path: str) -> list[Statement]:
        fields = []
        for key, child in module._modules.items():
            value = Name("None") if child is None else self.child(child, join(path, key))
            if value is not None and (child is not None or key in vars(type(module))):
                if key.isidentifier():
                    fields.append(Statement(f"self.{key} = ", value))
                else:
                    fields.append(Statement("", Call("self.add_module", (key, value))))
        return fields

    def _tensors(self, module: nn.Module, path: str) -> list[Statement]:
        """The module's own parameters and buffers."""
        fields = []
        for key, parameter in module._parameters.items():
            if parameter is not None:
                value = Call("nn.Parameter", (self._zeros(parameter),))
                fields.append(Statement(f"self.{key} = ", value))
        for key, buffer in module._buffers.items():
            if buffer is None:
                continue
            if key in module._non_persistent_buffers_set:
                value = self._constant(module, path, key, buffer)
                call = Call("self.register_buffer", (key, value), {"persistent": False})
            else:
                call = Call("self.register_buffer", (key, self._zeros(buffer)))
            fields.append(Statement("", call))
        return fields

    def _zeros(self, tensor: Tensor) -> Call:
        sizes = tuple(self.keep.width(tensor, axis) for axis in range(tensor.ndim))
        keywords = {} if tensor.is_floating_point() else {"dtype": Name(str(tensor.dtype))}
        return Call("torch.zeros", sizes or ((),), keywords)

    def _constant(self, module: nn.Module, path: str, key: str, buffer: Tensor) -> Call:
        if buffer.numel() > _LONGEST_CONSTANT:
            raise UnsupportedError(
                path,
                type(module).__name__,
                f"its buffer {key} of {buffer.numel()} elements is not part of the state dict",
                "Register it with persistent=True, so that the weights file holds it.",
            )
        return Call("torch.tensor", (self.keep.cut(buffer).tolist(),))

    def _define(self, source: BlockSource, label: str, path: str) -> None:
        self.imports |= source.imports
        for name, text in source.definitions.items():
            if self.definitions.setdefault(name, text) != text:
                raise PluginError(
                    f"{label} defines {name} for {path or 'the network'} otherwise than it is "
                    "defined already.\nReport it to the plugin's author."
                )

    def _channels(self, value: Any) -> Hashable:
        """What names the channels that a block's first input or output carries."""
        leaf = next((x for x in pytree.tree_leaves(value) if isinstance(x, Signal)), None)
        if leaf is None or leaf.ndim < 2:
            return None
        if not leaf.channel_axes:
            return one_line(leaf.shape[1])
        return self.keep.count(leaf.ids.ravel()).channels


def write_network(model: nn.Module, keep: Keep, plugins: Plugins, name: str, docstring: str) -> str:
    """Write the smaller network's source file.

    Args:
        model: the original network.
        keep: what stays of it.
        plugins: the loaded plugins.
        name: the factory's name.
        docstring: the file's, without its quotes.

    Returns:
        The file's text.
    """
    writer = Writer(model, keep, plugins)
    root = _network(model, writer.child(model, ""), name)
    root = replace(root, fields=(*root.fields, *_ties(model, writer)))
    taken = {*writer.definitions, *_IMPORTS, "Tensor", "nn", name}
    texts, _ = define_classes(root, taken, _output_argument(keep))
    *_, network = texts
    definitions = [*writer.definitions.values(), *texts.values(), _factory(name, network)]
    body = "\n\n".join(definitions)
    return f'"""{docstring}"""\n\n{_import_lines(body, writer.imports)}\n\n\n{body}'


def join(path: str, key: str) -> str:
    """The path of a child."""
    return f"{path}.{key}" if path else key


def _network(model: nn.Module, value: Value, name: str) -> Instance:
    """The class of the whole; where a plugin wrote it as a call, a class derived from that."""
    if isinstance(value, Instance):
        return value
    own = type(model).__name__
    class_name = own if not is_of_torch(type(model)) else name.title().replace("_", "")
    statement = Statement("", replace(value, function="super().__init__"))
    return Instance(class_name, (statement,), None, None, None, base=value.function)


def _ties(model: nn.Module, writer: Writer) -> list[Statement]:
    """What the network holds under two names is one thing in the written network, too."""
    ties = dict(writer.ties)
    tensors: dict[int, str] = {}
    for name, tensor in [
        *model.named_parameters(remove_duplicate=False),
        *model.named_buffers(remove_duplicate=False),
    ]:
        first = tensors.setdefault(id(tensor), name)
        if first != name and not any(name.startswith(f"{path}.") for path in ties):
            ties[name] = first
    return [
        Statement(f"{self_path(model, name)} = ", Name(self_path(model, first)))
        for name, first in ties.items()
        if not isinstance(held := _held(model, name), nn.Module) or any(held.state_dict())
    ]


def _held(model: nn.Module, path: str) -> Any:
    holder, _, key = path.rpartition(".")
    return getattr(model.get_submodule(holder), key)


def _output_argument(keep: Keep) -> dict[Hashable, str]:
    """A network that returns one vector takes its length as `num_classes`."""
    output = keep.dependencies.visits[""][0].output
    if isinstance(output, Signal) and output.channel_axes == [output.ndim - 1] == [1]:
        width = keep.count(output.ids.ravel())
        return {width.channels: "num_classes"}
    return {}


def _factory(name: str, network: str) -> str:
    return f'''{signature(name, ["weights: str | None = None", "**arguments: int"], network)}
    """Build the network; `weights` is the path of its .safetensors file."""
    model = {network}(**arguments)
    if weights is not None:
        from safetensors.torch import load_file

        model.load_state_dict(load_file(weights))
    return model
'''


def _import_lines(body: str, imports: set[str]) -> str:
    """The imports that the names in a file's body need, sorted."""
    names = {node.id for node in ast.walk(ast.parse(body)) if isinstance(node, ast.Name)}
    lines = imports | {line for name, line in _IMPORTS.items() if name in names}
    if from_torch := sorted(names & {"Tensor", "nn"}):
        lines.add(f"from torch import {', '.join(from_torch)}")
    standard = {line for line in lines if line.split()[1] in sys.stdlib_module_names}
    sections = [sorted(part, key=_import_order) for part in (standard, lines - standard)]
    return "\n\n".join("\n".join(section) for section in sections if section)


def _import_order(line: str) -> tuple[bool, str]:
    return line.startswith("from"), line.split()[1]
