"""Who is at fault where a network's text cannot be built: whose block cannot be built alone."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from torch import Tensor, nn

from prunecore.errors import PluginError, PrunecoreError, told
from prunecore.instances import Instance
from prunecore.keep import Keep
from prunecore.plugins import Plugins
from prunecore.source_file import file_text
from prunecore.statements import Statement
from prunecore.writer import Writer, Written, join
from prunecore.written import build

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
    before = {name for name, _ in original.named_parameters(remove_duplicate=False)}
    after = {name for name, _ in written.named_parameters(remove_duplicate=False)}
    for name in written.state_dict():
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
