"""The source file of a whole network: docstring, imports, classes and factory, and its name."""

from __future__ import annotations

import ast
import re
import sys
import threading
from collections.abc import Hashable, Mapping
from dataclasses import replace
from typing import Any

from torch import nn

from prunecore.channels.coupling import MEETS_WHOLE
from prunecore.channels.dependencies import Dependencies
from prunecore.channels.keep import Keep
from prunecore.channels.names import is_of_torch, is_within, named_tensors
from prunecore.channels.signal import Signal
from prunecore.errors import UsageError, check_kind
from prunecore.escaping import in_docstring, nearest_name, quoted, shown_value, why_no_name
from prunecore.registry import Plugins
from prunecore.writing.classes import define_classes
from prunecore.writing.expressions import self_path
from prunecore.writing.instances import Instance
from prunecore.writing.statements import Statement, signature
from prunecore.writing.tensors.frozen import freezing
from prunecore.writing.text import (
    DEFINITIONS,
    IMPORTS,
    INDENT,
    RESERVED,
    Call,
    Name,
    Value,
    fits,
    is_taken,
)
from prunecore.writing.writer import Writer

# Python before 3.13 counts how deep a tree is for all threads that parse together, which then fail
_parsing = threading.RLock()


def checked_name(name: str) -> str:
    """The name of a written file's factory.

    Raises:
        UsageError: it cannot be that.
    """
    check_kind("name", name, str, "Give one such as name='resnet18'.")
    if reason := why_no_name(name):
        wrong = f"cannot name a Python function: {reason}"
    elif is_taken(name):
        wrong = "is one of the file's own"
    else:
        return name
    raise UsageError(
        f"The name {shown_value(name)} {wrong}.\nGive one such as 'resnet18' (--name)."
    )


def default_name(model: nn.Module) -> str:
    """A factory's name after a network's class: `my_net` for `MyNet`, `resnet` for `ResNet`."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z][a-z])", "_", type(model).__name__)
    name = nearest_name(words.lower().replace("res_net", "resnet"), "net")
    return f"{name}_net" if is_taken(name) else name


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
    with _parsing:
        root = _network(model, writer.child(model, ""), name)
        further = (*_ties(model, writer), *freezing(model, keep))
        root = replace(root, fields=(*root.fields, *further))
        if name in writer.definers:
            plugin, path = writer.definers[name]
            raise UsageError(
                f"The name {name!r} is that of what {plugin.label} defines for {path}.\n"
                "Give the network another (--name)."
            )
        if name in writer.tuples or name in writer.own.names:
            what = "a named tuple that the network returns" if name in writer.tuples else "a part"
            raise UsageError(
                f"The name {name!r} is that of {what}.\nGive the network another (--name)."
            )
        return file_text(root, writer, name, docstring, _output_argument(keep))


def file_text(
    root: Instance, writer: Writer, name: str, docstring: str, named: Mapping[Hashable, str]
) -> str:
    """The text of a file.

    Args:
        root: the network, or a part of it.
        writer: what wrote it; has the definitions that it needs.
        name: the factory's name.
        docstring: the file's, without its quotes.
        named: names of the root's constructor arguments, by the channels that they count.

    Raises:
        SyntaxError: a plugin's text does not compile.
    """
    given = [*writer.own.texts.values(), *writer.definitions.values()]
    read = _names("\n\n".join(given))  # built-in functions among them
    used = {*writer.definers, *writer.tuples, *writer.own.names, *read}
    taken = {*used, *RESERVED, *_IN_FACTORY, name}
    texts, _ = define_classes(root, taken, named)
    *_, network = texts
    written = [*texts.values(), _factory(name, network)]
    names = read | _names("\n\n".join(written))
    own = [DEFINITIONS[one] for one in DEFINITIONS if one in names]
    names |= _names("\n\n".join(own))
    body = "\n\n".join([*own, *given, *written])
    imports = _import_lines(names, body, writer.imports | writer.own.imports)
    return f'"""{in_docstring(docstring)}"""\n\n{imports}\n\n\n{body}'


def _network(model: nn.Module, value: Value, name: str) -> Instance:
    """The class of the whole; where a plugin wrote it as a call, a class derived from that."""
    if isinstance(value, Instance):
        return value
    own = type(model).__name__
    is_taken = is_of_torch(type(model)) or own == value.function
    class_name = nearest_name(name.title().replace("_", ""), "Net") if is_taken else own
    statement = Statement("", replace(value, function="super().__init__"))
    return Instance(class_name, (statement,), None, None, None, base=value.function)


def _ties(model: nn.Module, writer: Writer) -> list[Statement]:
    """What the network holds under two names is one thing in the written network, too."""
    ties = dict(writer.ties)
    tensors: dict[int, str] = {}
    for name, tensor in named_tensors(model, remove_duplicate=False):
        if is_within(name, writer.keep.left_out) or is_within(name, writer.named_again):
            continue
        first = tensors.setdefault(id(tensor), name)
        if first != name and not any(name.startswith(f"{path}.") for path in ties):
            ties[name] = first
    return [
        statement
        for name, first in ties.items()
        if not isinstance(held := _held(model, name), nn.Module) or any(held.state_dict())
        for statement in _tie(model, name, self_path(model, first))
    ]


def _tie(model: nn.Module, name: str, first: str) -> list[Statement]:
    """The statements that make two paths one; with a variable where one line is too short."""
    holder, _, key = name.rpartition(".")
    path, whole = self_path(model, name), self_path(model, holder) if holder else "self"
    if path == f"getattr({whole}, {quoted(key)})":  # to which nothing can be assigned
        return [Statement("", Call("setattr", (Name(whole), key, Name(first))))]
    one = Statement(f"{path} = ", Name(first))
    if fits(one.value, 2 * INDENT, len(one.target)):
        return [one]
    return [Statement("tied = ", Name(first)), Statement(f"{path} = ", Name("tied"))]


def _held(model: nn.Module, path: str) -> Any:
    holder, _, key = path.rpartition(".")
    return getattr(model.get_submodule(holder), key)


def _output_argument(keep: Keep) -> dict[Hashable, str]:
    """A network that returns one vector takes its length as `num_classes`, where layers make it."""
    output = keep.dependencies.forwards.visits[""][0].output
    if isinstance(output, Signal) and output.channel_axes == [output.ndim - 1] == [1]:
        width = keep.count(output.ids.ravel())
        if _is_free(keep.dependencies, width.channels):
            return {width.channels: "num_classes"}
    return {}


def _is_free(found: Dependencies, channels: Hashable) -> bool:
    """True if constructor arguments alone say how many channels the layers that make them have."""
    counted = {path for (path, _), index in found.widths.items() if index == channels}
    makers = {name.rpartition(".")[0] for name, _, index in found.filters if index == channels}
    met = [path for path in makers if found.left_whole.get(path) == MEETS_WHOLE]
    return makers <= counted and not met


# names of its own, and of that of weights in shards
_IN_FACTORY = ("arguments", "files", "json", "load_file", "model", "Path", "shards", "weights")


_WHAT_WEIGHTS_ARE = "`weights` is the path of its .safetensors file."


_LOADING = """
    if weights is not None:
        from safetensors.torch import load_file

        model.load_state_dict(load_file(weights))
"""


_LOADING_SHARDS = """
    if weights is not None:
        import json
        from pathlib import Path

        from safetensors.torch import load_file

        shards = set(json.loads(Path(weights).read_text())["weight_map"].values())
        files = [load_file(Path(weights).with_name(shard)) for shard in shards]
        model.load_state_dict({name: file[name] for file in files for name in file})
"""


def _factory(name: str, network: str) -> str:
    return f'''{signature(name, ["weights: str | None = None", "**arguments: int"], network)}
    """Build the network; {_WHAT_WEIGHTS_ARE}"""
    model = {network}(**arguments){_LOADING}    return model
'''


def reading_shards(source: str) -> str:
    """The text of a written file, for weights in shards."""
    before, _, factory = source.rpartition(_WHAT_WEIGHTS_ARE)
    what = _WHAT_WEIGHTS_ARE.replace(".safetensors file", ".safetensors.index.json")
    return f"{before}{what}{factory.replace(_LOADING, _LOADING_SHARDS)}"


def import_lines(body: str, imports: set[str]) -> str:
    """The imports that the names in a file's body need, sorted."""
    return _import_lines(_names(body), body, imports)


def _import_lines(names: set[str], body: str, imports: set[str]) -> str:
    lines = imports | {line for name, line in IMPORTS.items() if name in names}
    if "torch.ops.torchvision." in body:
        lines.add("import torchvision  # noqa: F401, which brings the operators")
    if from_torch := sorted(names & {"Tensor", "nn"}):
        lines.add(f"from torch import {', '.join(from_torch)}")
    lines = _joined(lines, body)
    standard = {line for line in lines if _package(line) in sys.stdlib_module_names}
    sections = [sorted(part, key=_import_order) for part in (standard, lines - standard)]
    return "\n\n".join("\n".join(section) for section in sections if section)


def _names(body: str) -> set[str]:
    return {node.id for node in ast.walk(ast.parse(body)) if isinstance(node, ast.Name)}


def _joined(lines: set[str], body: str) -> set[str]:
    """What is imported from one module, in one line, without what the body does not name."""
    joined = {line for line in lines if " import " not in line}
    names: dict[str, set[str]] = {}
    for line in lines - joined:
        source, _, imported = line.partition(" import ")
        named = {name for name in imported.split(", ") if _is_named(name, body)}
        names.setdefault(source, set()).update(named)
    joined |= {f"{source} import {', '.join(sorted(own))}" for source, own in names.items() if own}
    return joined


def _is_named(imported: str, body: str) -> bool:
    """True if a text has the name of what is imported, `F` of `functional as F`."""
    return re.search(rf"\b{re.escape(imported.split()[-1])}\b", body) is not None


def _package(line: str) -> str:
    return line.split()[1].partition(".")[0]


def _import_order(line: str) -> tuple[bool, str]:
    return line.startswith("from"), line.split()[1]
