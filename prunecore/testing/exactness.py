"""The check that a block with channels removed is written exactly as it must be."""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils import _pytree as pytree

from prunecore.channels.keep import Keep
from prunecore.channels.signal import Signal
from prunecore.isolation.random_states import OwnDraws
from prunecore.planning.cost import Counter
from prunecore.registry import Plugin, Plugins
from prunecore.testing.walk import PATH, Followed, Network
from prunecore.verifying.comparison import TOLERANCE
from prunecore.verifying.masking import as_double, masked_original
from prunecore.writing.building import written_network
from prunecore.writing.writer import Writer

_CPU = torch.device("cpu")


_BATCH = 3  # another one than the walk's: a batch size that is written does not go unnoticed


def check_written(
    network: Network, followed: Followed, keep: Keep, plugins: Plugins, owner: Plugin
) -> tuple[Mapping[str, str], float]:
    """Check what is written of a block for one choice of channels.

    Args:
        network: the block's network.
        followed: what the walk with its owner found.
        keep: what stays.
        plugins: the loaded plugins.
        owner: of the block.

    Returns:
        The texts that plugins wrote, by the name that each defines; the largest value compared.
    """
    writer = Writer(network, keep, plugins)
    writer.child(network.block, PATH)
    for text in (*writer.definitions.values(), *writer.imports):
        _check_imports(text, owner)
    name, docstring = "network", "A network of one block."
    small = written_network(network, keep, plugins, name, docstring).network.eval()
    counted = Counter(followed.dependencies).cost(keep.kept).params
    has = sum(parameter.numel() for parameter in small.parameters())
    if counted != has:
        raise AssertionError(
            f"{owner.label}: {_named(network)} has {has} parameters as it is written, and "
            f"{counted} were counted.\n"
            "Bind every axis that is cut, and write each width as it is kept."
        )
    return writer.definitions, _compare(network, followed, keep, owner, small)


def _check_imports(text: str, owner: Plugin) -> None:
    """A text needs only torch and the standard library."""
    for module in _imported(ast.parse(text)):
        if module != "torch" and module not in sys.stdlib_module_names:
            raise AssertionError(
                f"{owner.label}: prunecore_write_block gives text that imports {module}.\n"
                "A written file has torch and the standard library alone."
            )


def _imported(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield (node.module or ".").partition(".")[0]


def _compare(
    network: Network, followed: Followed, keep: Keep, owner: Plugin, small: nn.Module
) -> float:
    """Run the masked original and, on the kept channels, what was written of it.

    Returns:
        The largest value that was compared.
    """
    generator = torch.Generator().manual_seed(0)
    inputs = [
        torch.randn((_BATCH, *signal.shape[1:]), dtype=torch.float64, generator=generator)
        for signal in followed.inputs
    ]
    kept = [_kept(x, signal, keep) for x, signal in zip(inputs, followed.inputs, strict=True)]
    original = masked_original(network, keep, _CPU)
    expected = _run(f"{_named(network)} cannot be run", lambda: original(*inputs))
    actual = _run(
        f"What {owner.label} writes of {_named(network)} cannot be run",
        lambda: functional_call(small, as_double(small, _CPU), tuple(kept), tie_weights=False),
    )
    if not len(expected) == len(followed.outputs) == len(actual):
        raise AssertionError(
            f"{_named(network)} returns {len(expected)} tensors, {owner.label} follows "
            f"{len(followed.outputs)} and writes {len(actual)}."
        )
    largest = 0.0
    for number, (ours, signal, theirs) in enumerate(
        zip(expected, followed.outputs, actual, strict=True), start=1
    ):
        if tuple(ours.shape[1:]) != signal.shape[1:]:
            raise AssertionError(
                f"{owner.label}: prunecore_calculate_dependencies gives output {number} of "
                f"{_named(network)} the shape {signal.shape[1:]}; it has {tuple(ours.shape[1:])}."
            )
        name = f"output {number} of {_named(network)}"
        largest = max(largest, _check_equal(name, _kept(ours, signal, keep), theirs, owner))
    return largest


def _run(failing: str, call: Callable[[], Any]) -> list[Tensor]:
    """The tensors that a network returns."""
    with torch.no_grad(), OwnDraws():  # some layers draw numbers in eval mode, too
        try:
            output = call()
        except Exception as error:  # whatever the block's own forward raises
            raise AssertionError(f"{failing}: {type(error).__name__}: {error}") from error
    return [leaf.double() for leaf in pytree.tree_leaves(output) if isinstance(leaf, Tensor)]


def _kept(tensor: Tensor, signal: Signal, keep: Keep) -> Tensor:
    """What stays of a tensor of the forward pass."""
    for axis in signal.channel_axes:
        ids = signal.ids.swapaxes(0, axis).reshape(signal.ids.shape[axis], -1)[:, 0]
        tensor = tensor.index_select(axis, torch.from_numpy(keep.mask(ids).nonzero()[0]))
    return tensor


def _check_equal(name: str, expected: Tensor, actual: Tensor, owner: Plugin) -> float:
    """Compare two tensors; the largest value is returned."""
    if expected.shape != actual.shape:
        raise AssertionError(
            f"{owner.label} writes {name} with the shape {tuple(actual.shape)}, batch first; the "
            f"kept channels have {tuple(expected.shape)}."
        )
    size = float(expected.abs().max()) if expected.numel() else 0.0
    if not size < float("inf"):
        raise AssertionError(
            f"{name} is not finite for random inputs, so that nothing can be compared.\n"
            "Give the block other weights."
        )
    apart = float((expected - actual).abs().max())
    if not apart <= TOLERANCE * size:
        channel = _first_apart(expected, actual, TOLERANCE * size)
        raise AssertionError(
            f"{owner.label}: {name} differs from the masked original's by {apart:.3g}, first at "
            f"kept channel {channel}; its values are up to {size:.3g}.\n"
            "Bind the weights to what their places mean, write the forward as it is, and cut each "
            "tensor with keep.cut."
        )
    return size


def _first_apart(expected: Tensor, actual: Tensor, allowed: float) -> int:
    """The first index along axis 1, if there is one, at which two tensors differ."""
    apart = ((expected - actual).abs() > allowed) | ~actual.isfinite()
    rows = apart.movedim(1, 0).flatten(1) if apart.ndim > 1 else apart[None]
    return int(rows.any(dim=1).int().argmax())


def _named(network: Network) -> str:
    return type(network.block).__name__
