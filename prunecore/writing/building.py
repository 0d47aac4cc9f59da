"""Building the written network: its source imported, its weights cut and loaded."""

from __future__ import annotations

import copy
import importlib.util
import linecache
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from torch import Tensor, nn

from prunecore.channels.keep import Keep
from prunecore.channels.names import (
    join,
    named_buffers,
    named_modules,
    named_parameters,
    named_tensors,
)
from prunecore.channels.state_dicts import put_state
from prunecore.errors import (
    PluginError,
    PrunecoreError,
    WeightsError,
    a_kind,
    reason_of,
    told,
)
from prunecore.escaping import shown
from prunecore.isolation.random_states import OwnDraws
from prunecore.isolation.uninitialised import Uninitialised
from prunecore.registry import Plugins
from prunecore.writing.instances import Instance
from prunecore.writing.source_file import file_text, write_network
from prunecore.writing.statements import Statement
from prunecore.writing.tensors.constants import stored_constants
from prunecore.writing.writer import Writer, Written


class WrittenNetwork(NamedTuple):
    """A smaller network as it is written.

    Attributes:
        source: the text of its file.
        network: what that builds, in the mode of training.
        weights: its state dict, by the original's keys; the network holds these very tensors.
    """

    source: str
    network: nn.Module
    weights: dict[str, Tensor]


def written_network(
    model: nn.Module, keep: Keep, plugins: Plugins, name: str, docstring: str
) -> WrittenNetwork:
    """Write the network of what is kept, and build it from its text, with the kept weights.

    Args:
        model: the original network.
        keep: what stays of it.
        plugins: the loaded plugins.
        name: of the factory in the file.
        docstring: the file's, without its quotes.

    Raises:
        PluginError: a block that a plugin wrote cannot be built.
        PrunecoreError: something else cannot be written or built.
    """
    weights = transfer_weights(model, keep, plugins)
    with naming_the_writer(model, keep, plugins, weights):
        source = write_network(model, keep, plugins, name, docstring)
        network = build(source, name, weights)
        check_kinds(model, network)
    return WrittenNetwork(source, network, weights)


def transfer_weights(model: nn.Module, keep: Keep, plugins: Plugins) -> dict[str, Tensor]:
    """Cut every tensor of the original's state dict to what is kept, and long constants beside it.

    No tensor of the result shares memory with the original or with another one.

    Args:
        model: the original network.
        keep: what stays of it.
        plugins: owners with the hook prunecore_transfer_weights give their blocks' own.

    Returns:
        Tensors by the original's keys, without those of what is left out.
    """
    stored = {**model.state_dict(keep_vars=True), **stored_constants(model, keep, plugins)}
    given = _from_owners(model, keep, plugins)
    left_out = tuple(f"{path}." for path in keep.left_out)
    weights = {}
    taken = {tensor.untyped_storage().data_ptr() for tensor in stored.values() if given}
    for name, tensor in stored.items():
        if name.startswith(left_out):
            continue
        if name in given:
            cut = given[name].detach().contiguous()
            is_another_ones = cut.untyped_storage().data_ptr() in taken
        else:
            cut = keep.cut(tensor).contiguous()
            is_another_ones = cut.data_ptr() == tensor.data_ptr()
        weights[name] = cut.clone() if is_another_ones else cut
        if given:
            taken.add(weights[name].untyped_storage().data_ptr())
    return weights


def _from_owners(model: nn.Module, keep: Keep, plugins: Plugins) -> dict[str, Tensor]:
    """The weights that the owners of modules give."""
    hook = "prunecore_transfer_weights"
    modules = named_modules(model, remove_duplicate=False)
    owners = {kind: plugins.owner(kind) for kind in {type(module) for _, module in modules}}
    given: dict[str, Tensor] = {}
    answers: dict[int, Mapping[str, Tensor]] = {}  # by id of module: some have several paths
    for path, module in modules:
        owner = owners[type(module)]
        if owner is None or hook not in owner.hooks:
            continue
        if id(module) not in answers:
            is_opened = path in keep.dependencies.forwards.opened
            own = {} if is_opened else owner.call(hook, path, block=module, name=path, keep=keep)
            answers[id(module)] = own
        given.update({join(path, key): value for key, value in answers[id(module)].items()})
    return given


def import_file(path: Path) -> ModuleType:
    """Import a written file, without leaving it in `sys.modules` or bytecode beside it.

    Raises:
        PrunecoreError: the file raises while it is imported.
    """
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or not isinstance(spec.loader, SourceFileLoader):
        raise PrunecoreError(
            f"{shown(path)} is not a Python file.\nGive the .py file of a written set."
        )
    module = importlib.util.module_from_spec(spec)
    try:
        text = spec.loader.get_data(str(path))
        exec(spec.loader.source_to_code(text, str(path)), vars(module))
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # whatever the file raises
        raise PrunecoreError(
            f"{shown(path)} raises {shown(type(error).__name__)} on import: "
            f"{reason_of(error)}\n"
            "Correct the file, or write it again."
        ) from error
    return module


def build(source: str, name: str, weights: dict[str, Tensor]) -> nn.Module:
    """Write a source to a file, import that, and build its network with these weights.

    Args:
        source: the file's text.
        name: of the factory in it.
        weights: its state dict; the network holds these very tensors.

    Raises:
        PrunecoreError: the file does not import, or its network does not take the weights.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"{name[:64]}.py")  # of a length that every file system takes
        path.write_text(source, encoding="utf-8")
        lines = source.splitlines(keepends=True)
        linecache.cache[str(path)] = (len(source), None, lines, str(path))  # outlives the file
        return network_of(path, name, weights)


def network_of(file: Path, name: str, weights: dict[str, Tensor]) -> nn.Module:
    """The network of a file, holding these very tensors: nothing is initialised or copied."""
    module = import_file(file)
    with _building(file):
        factory = getattr(module, name, None)
    if factory is None:
        raise PrunecoreError(
            f"{shown(file)} has no factory {shown(name)}.\n"
            "Give the .py file of a written set as it was written."
        )
    with Uninitialised():
        network = _made(file, factory)
    if any(buffer.is_meta for name, buffer in named_buffers(network) if name not in weights):
        with OwnDraws():  # as it is initialised, too
            # it has constants of its own, which meta tensors cannot hold
            network = _made(file, factory)
    try:
        put_state(network, _tied(network, weights))
    except Exception as error:  # what does not fit, and whatever the file's classes raise
        raise WeightsError(
            f"The network of {shown(file.name)} does not take its weights: "
            f"{reason_of(error)}\nWrite the set again; if that does not help, report it with the "
            "network."
        ) from error
    return network


def _made(file: Path, factory: Callable[[], nn.Module]) -> nn.Module:
    with _building(file):
        network = factory()
    if not isinstance(network, nn.Module):
        raise PrunecoreError(
            f"The network of {shown(file.name)} is {a_kind(network)}, "
            "not a torch.nn.Module.\nCorrect the file, or write it again."
        )
    return network


@contextmanager
def _building(file: Path) -> Iterator[None]:
    """Make an error of whatever a file's classes raise, but for an interrupt."""
    try:
        yield
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # whatever the file's classes raise
        raise PrunecoreError(
            f"The network of {shown(file.name)} cannot be built: {told(error)}\n"
            "Correct the file, or write it again."
        ) from error


def _tied(network: nn.Module, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights, one parameter for all the names that the network has for it.

    Assigned one by one, a parameter of two names would become two.
    """
    names: dict[int, list[str]] = {}
    for name, parameter in named_parameters(network, remove_duplicate=False):
        if name in weights:
            names.setdefault(id(parameter), []).append(name)
    tied = dict(weights)
    for first, *others in names.values():
        if others:
            one = nn.Parameter(weights[first], weights[first].is_floating_point())
            tied.update(dict.fromkeys((first, *others), one))
    return tied


_ALONE = "block"  # the block's name in a network of its own


@contextmanager
def naming_the_writer(
    model: nn.Module, keep: Keep, plugins: Plugins, weights: Mapping[str, Tensor]
) -> Iterator[None]:
    """Name the plugin that wrote the block at fault, where writing or building a network fails.

    Args:
        model: the original network.
        keep: what stays of it.
        plugins: the loaded plugins.
        weights: the written network's state dict.

    Raises:
        PluginError: a block that a plugin wrote cannot be built alone, either.
    """
    try:
        yield
    except PluginError:
        raise
    except (PrunecoreError, SyntaxError):
        writer = Writer(model, keep, plugins)
        writer.child(model, "")
        so_far = copy.copy(writer)
        so_far.definitions, so_far.imports = {}, set()
        for block in writer.written:
            so_far.definitions |= block.source.definitions
            so_far.imports |= block.source.imports
            try:
                _build_alone(block, model.get_submodule(block.path), so_far, weights)
            except (PrunecoreError, SyntaxError) as error:
                if block.owner is None:
                    break  # what lies around it cannot be built, either
                raise block.owner.error(_what_is_wrong(block, error)) from error
        raise


def check_kinds(original: nn.Module, written: nn.Module) -> None:
    """Check that the original's parameters are parameters of the written module, and no others.

    Raises:
        PrunecoreError: a parameter of the one is a buffer of the other.
    """
    before = {name for name, _ in named_parameters(original, remove_duplicate=False)}
    after = {name for name, _ in named_parameters(written, remove_duplicate=False)}
    for name, _ in named_tensors(written, remove_duplicate=False) if before != after else ():
        if (name in before) != (name in after):
            kind = "parameter" if name in before else "buffer"
            raise PrunecoreError(
                f"{name} of the written network is no {kind}, as it is in the original.\n"
                "Report it with the network."
            )


def _build_alone(
    block: Written, original: nn.Module, writer: Writer, weights: Mapping[str, Tensor]
) -> None:
    fields = (Statement(f"self.{_ALONE} = ", block.source.call),)
    own = {
        join(_ALONE, name.removeprefix(join(block.path, ""))): tensor
        for name, tensor in weights.items()
        if name.startswith(join(block.path, ""))
    }
    text = file_text(Instance("Alone", fields, None, None, None), writer, "alone", "", {})
    check_kinds(original, build(text, "alone", own).get_submodule(_ALONE))


def _what_is_wrong(block: Written, error: PrunecoreError | SyntaxError) -> str:
    what = f"prunecore_write_block for {block.path or 'the network'} gives text that"
    if isinstance(error, SyntaxError):
        return f"{what} does not compile: {error.msg}: {block.source.call}"
    cause = told(error.__cause__) if error.__cause__ else str(error).splitlines()[0]
    return f"{what} does not make the block: {cause}"
