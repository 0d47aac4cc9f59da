"""A written set: its file imported, its weights loaded, and the set checked."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from prunecore import plugins as plugin_registry
from prunecore.dependencies import Dependencies, find_dependencies
from prunecore.errors import PrunecoreError, WeightsError, told
from prunecore.inputs import InputShape, on_meta
from prunecore.keep import Keep
from prunecore.records import is_within
from prunecore.storage import read_report
from prunecore.training import TRAINING
from prunecore.verify import import_file, verify

BATCH = 2  # of the walk: a batch size that the forward bakes in does not go unnoticed


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
        path = Path(folder, f"{name}.py")
        path.write_text(source, encoding="utf-8")
        return _network(path, name, weights)


def walk(
    model: nn.Module,
    input_shape: InputShape,
    plugins: plugin_registry.Plugins,
    drop: Collection[str] = (),
) -> Dependencies:
    """Follow the channels of a network.

    Args:
        model: the network.
        input_shape: of one input, without the batch; or of each.
        plugins: the loaded plugins.
        drop: paths of modules that training is to do without; `training` for all of them.
    """
    return find_dependencies(model, on_meta(input_shape, BATCH), plugins, drop)


def verify_file(file: Path, model: nn.Module, input_shape: InputShape) -> dict[str, Any]:
    """Check a written set against the network that it was made from.

    Args:
        file: the set's .py file; its weights and its report lie beside it.
        model: the original network, with its weights.
        input_shape: of one input, without the batch; or of each.

    Returns:
        `max_relative_difference` and the number of `inputs`.

    Raises:
        VerificationError: the two do not agree.
        PrunecoreError: the set is not complete, or was not made from this network.
    """
    report = read_report(file)
    plugins = plugin_registry.load()
    dependencies = walk(model, input_shape, plugins)
    only_in_training = (TRAINING, *dependencies.only_in_training)
    if drop := [path for path in report["left_out"] if path in only_in_training]:
        dependencies = walk(model, input_shape, plugins, drop)
    keep = _keep(model, dependencies, report, file)
    weights_file = file.with_suffix(".safetensors")
    try:
        weights = load_file(weights_file)
    except (OSError, SafetensorError) as error:
        raise WeightsError(
            f"{weights_file} cannot be read: {error}\nWrite the set again with prunecore prune."
        ) from error
    return verify(model, keep, _network(file, report["model"], weights), input_shape)


def _keep(
    model: nn.Module, dependencies: Dependencies, report: Mapping[str, Any], file: Path
) -> Keep:
    """What a report says is kept, as a choice of channels.

    Raises:
        PrunecoreError: the report does not fit the network.
    """
    kept = report["kept"]
    removed = [path for path in report["left_out"] if path not in dependencies.left_out]
    for path in removed:
        if path not in dependencies.visits:
            raise _made_from_another(file, str(path))
    tensors: dict[str, Tensor] = dict(model.named_buffers(remove_duplicate=False))
    tensors.update(model.named_parameters(remove_duplicate=False))
    stays = np.ones(dependencies.count + 1, dtype=bool)  # the last place stands for FIXED
    for name, axes in kept.items():
        if not _fits(axes, tensors.get(name)):
            raise _made_from_another(file, name)
        for axis, index in dependencies.bound.get(name, {}).items():
            if axes[axis] is not None:
                gone = np.ones(len(dependencies.axes[index]), dtype=bool)
                gone[axes[axis]] = False
                stays[dependencies.axes[index][gone]] = False
    keep = Keep(model, dependencies, stays[:-1], removed)
    for name, tensor in dependencies.tensors.items():
        if is_within(name, removed):
            continue
        ours = [keep.indices(tensor, axis) for axis in range(tensor.ndim)]
        theirs = kept.get(name) or [None] * tensor.ndim
        if [None if axis is None else axis.tolist() for axis in ours] != theirs:
            raise _made_from_another(file, name)
    return keep


def _fits(axes: Any, tensor: Tensor | None) -> bool:
    """Whether kept indices by axis, as a report gives them, can be those of a tensor."""
    return (
        tensor is not None
        and isinstance(axes, list)
        and len(axes) == tensor.ndim
        and all(
            places is None
            or (
                isinstance(places, list)
                and all(isinstance(place, int) and 0 <= place < size for place in places)
            )
            for places, size in zip(axes, tensor.shape, strict=True)
        )
    )


def _made_from_another(file: Path, name: str) -> PrunecoreError:
    return PrunecoreError(
        f"{file} was not made from this network: its report and the network differ in what is "
        f"kept of {name}.\nGive the network, arguments and input shape that the set was made with."
    )


def _network(file: Path, name: str, weights: dict[str, Tensor]) -> nn.Module:
    """The network of a file, holding these very tensors: nothing is initialised or copied."""
    factory = getattr(import_file(file), name, None)
    if factory is None:
        raise PrunecoreError(
            f"{file} has no factory {name}.\nGive the .py file of a written set as it was written."
        )
    with torch.device("meta"):
        network = _made(file, factory)
    if any(buffer.is_meta for name, buffer in network.named_buffers() if name not in weights):
        with torch.random.fork_rng(devices=[]):  # as it is initialised, too
            # it has constants of its own, which meta tensors cannot hold
            network = _made(file, factory)
    try:
        network.load_state_dict(_tied(network, weights), strict=True, assign=True)
    except RuntimeError as error:
        raise WeightsError(
            f"The network of {file.name} does not take its weights: {error}\n"
            "Write the set again; if that does not help, report it with the network."
        ) from error
    return network


def _made(file: Path, factory: Callable[[], nn.Module]) -> nn.Module:
    try:
        return factory()
    except (Exception, SystemExit) as error:  # whatever the file's classes raise
        raise PrunecoreError(
            f"The network of {file.name} cannot be built: {told(error)}\n"
            "Correct the file, or write it again."
        ) from error


def _tied(network: nn.Module, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights, one parameter for all the names that the network has for it.

    Assigned one by one, a parameter of two names would become two.
    """
    names: dict[int, list[str]] = {}
    for name, parameter in network.named_parameters(remove_duplicate=False):
        if name in weights:
            names.setdefault(id(parameter), []).append(name)
    tied = dict(weights)
    for first, *others in names.values():
        if others:
            one = nn.Parameter(weights[first], weights[first].is_floating_point())
            tied.update(dict.fromkeys((first, *others), one))
    return tied
