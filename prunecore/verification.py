"""Verification of a written set: its file imported, its weights loaded, both compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from prunecore.channels.dependencies import Dependencies
from prunecore.channels.keep import Keep
from prunecore.channels.names import is_within, named_plain_tensors
from prunecore.channels.records import TRAINING
from prunecore.channels.stored import check_stored, type_of
from prunecore.errors import PrunecoreError, VerificationError, WeightsError, check_kind
from prunecore.escaping import shown
from prunecore.files.storage import hash_of, read_report, weights_file, weights_hashes
from prunecore.files.weights import check_weights_file, read_weights
from prunecore.inputs import ExampleInputs, Inputs, InputShape, inputs_of
from prunecore.plugins import loading as plugin_registry
from prunecore.tracing.modules.preparation import PREPARED, prepare
from prunecore.tracing.modules.scopes import hooks_to_drop, named_hooks
from prunecore.tracing.stand_ins.patches import beside_others
from prunecore.verifying.comparison import verify as verify_network
from prunecore.walking.network import walk
from prunecore.writing.building import network_of, transfer_weights


@dataclass(frozen=True)
class Verification:
    """What the check of a written set found.

    Attributes:
        max_relative_difference: between the written network and the masked original, rounded up to
            a power of ten of at least 1e-12.
        inputs: how many inputs they were compared on.
        recovered: the names of the tensors that were refitted, estimated anew or trained after the
            proof. These are finite, and no more is known of them: in their places the original's
            cut ones are compared.
    """

    max_relative_difference: float
    inputs: int
    recovered: tuple[str, ...] = field(default=(), repr=False)  # there may be hundreds


def verify(
    file: str | Path,
    model: nn.Module,
    example_inputs: ExampleInputs | None = None,
    *,
    input_shape: InputShape | None = None,
    example_kwargs: Mapping[str, Tensor] | None = None,
) -> Verification:
    """Check a written set against the network that it was made from.

    The file is imported, which runs it.

    Args:
        file: the set's .py file; its weights and its report lie beside it.
        model: the original network, with its weights.
        example_inputs: what it is called with, as for `prunecore.prune`; without any, inputs like
            those that the set was made with are drawn.
        input_shape: in their place, the shape of one input without the batch; or of each.
        example_kwargs: example inputs that the network is given by name.

    Raises:
        VerificationError: the two do not agree, or a tensor is not the slice of the original's
            that its report tells of.
        WeightsError: a refitted tensor is not finite.
        PrunecoreError: the set is not complete, or was not made from this network.

    Example:
        >>> prunecore.verify("resnet18_50.py", model)
    """
    check_kind("file", file, (str, Path), "Give the path of the set's .py file.")
    check_kind("model", model, nn.Module, "Give the original network itself.")
    asked = example_inputs is not None or example_kwargs or input_shape is not None
    inputs = inputs_of(example_inputs, example_kwargs, input_shape) if asked else None
    return verify_set(Path(file), model, inputs)


@beside_others()
def verify_set(file: Path, model: nn.Module, inputs: Inputs | None) -> Verification:
    """Check a written set; see `verify`.

    Args:
        file: the set's .py file.
        model: the original network, with its weights.
        inputs: what it is called with; where not given, inputs like those that the set was made
            with are drawn.
    """
    read = _read(file, model, inputs)
    network = network_of(file, read.report["model"], read.weights)
    if read.changed:  # the file is proven with what was cut; the weights fit it, and are other ones
        proven = {
            name: read.cut[name] if name in read.changed else read.weights[name]
            for name in read.weights
        }
        network = network_of(file, read.report["model"], proven)
    try:
        found = verify_network(read.keep.model, read.keep, network, read.inputs)
    except VerificationError as error:
        raise VerificationError(
            f"{str(error).splitlines()[0]}\nThe file was edited since, or the network has not the "
            "weights that it was made from: give those, or prune anew."
        ) from error
    return Verification(**found, recovered=tuple(sorted(read.changed)))


@beside_others()
def check_set(file: Path, model: nn.Module, inputs: Inputs | None) -> tuple[str, ...]:
    """Check a written set without running any of its file; see `verify_set`.

    The text is what its report was written with, and each tensor is the slice that the report
    tells of. What the text computes is not known then.

    Returns:
        The names of the tensors that were refitted, estimated anew or trained, which are finite.

    Raises:
        PrunecoreError: the text was changed since, or as `verify`.
    """
    read = _read(file, model, inputs)
    if hash_of(file) != read.report["sha256"]["source"]:
        raise PrunecoreError(
            f"{shown(file)} is not the text that was written with its report: it was edited since, "
            "or is of another set.\nRead it, and check it by running it, without --no-run; or "
            "write the set again."
        )
    return tuple(sorted(read.changed))


@dataclass(frozen=True)
class _Read:
    """What there is to know of a set without its file.

    Attributes:
        report: the set's.
        weights: the set's.
        keep: what stays of the original, as the report says.
        inputs: what the original is called with.
        cut: the original's weights, cut to that.
        changed: the names of those that were refitted, estimated anew or trained.
    """

    report: Mapping[str, Any]
    weights: dict[str, Tensor]
    keep: Keep
    inputs: Inputs
    cut: Mapping[str, Tensor]
    changed: set[str]


def _read(file: Path, model: nn.Module, inputs: Inputs | None) -> _Read:
    """Read a set's report and weights, and check them against the original."""
    report = read_report(file)
    weights_path = weights_file(file, report)
    check_weights_file(weights_path)
    weights = dict(read_weights(weights_path))
    if inputs is None:
        inputs = Inputs.from_dict(report["inputs"])
    plugins = plugin_registry.load()
    model = prepare(model).model
    hooks = [name for name in report["left_out"] if name in hooks_to_drop(model)]
    dependencies = walk(model, inputs, plugins, hooks, strict=False)
    only_in_training = (TRAINING, *dependencies.forwards.only_in_training)
    if drop := [path for path in report["left_out"] if path in only_in_training]:
        dependencies = walk(model, inputs, plugins, [*hooks, *drop], strict=False)
    check_stored(model, dependencies)
    keep = _keep(model, dependencies, report, file)
    changed = _recovered(report, weights, file)
    cut = transfer_weights(model, keep, plugins)
    _check_weights(weights_path, weights, cut, changed)
    for part, told in weights_hashes(file, report).items() if changed else ():
        if hash_of(part) != told:
            raise WeightsError(
                f"{shown(part)} is not what was written with its report, and what was refitted in "
                "it can be compared with nothing else: it was changed since, or is of another set."
                "\nWrite the set again, with --force."
            )
    return _Read(report, weights, keep, inputs, cut, changed)


def _check_weights(
    file: Path, weights: Mapping[str, Tensor], cut: Mapping[str, Tensor], changed: set[str]
) -> None:
    """Check that each tensor is the slice of the original that the report tells of.

    Args:
        file: of the weights.
        weights: what it holds.
        cut: the original's, cut.
        changed: the names of those that were refitted, which have other values.

    Raises:
        VerificationError: one is something else, or there is one too many or too few.
    """
    for name in sorted({*weights, *cut}):
        if name not in cut:
            what = "which the written network does not have"
        elif name not in weights:
            what = "which is missing"
        elif weights[name].shape != cut[name].shape:
            shapes = [tuple(tensor.shape) for tensor in (weights[name], cut[name])]
            what = f"of shape {shapes[0]} in place of {shapes[1]}"
        elif weights[name].dtype != cut[name].dtype:
            what = f"of {type_of(weights[name])} in place of {type_of(cut[name])}"
        elif name not in changed and not _are_same(weights[name], cut[name]):
            what = "whose values are not the original's"
        else:
            continue
        raise VerificationError(
            f"{shown(file)} does not hold what its report says is kept, first at {shown(name)}, "
            f"{what}.\nIt was changed since, or the network has not the weights that it was made "
            "from: give those, or prune anew."
        )


def _are_same(ours: Tensor, theirs: Tensor) -> bool:
    """True if two tensors of one shape and type hold the same bytes: NaN is itself."""
    return torch.equal(
        *(x.detach().cpu().contiguous().reshape(-1).view(torch.uint8) for x in (ours, theirs))
    )


def _recovered(report: Mapping[str, Any], weights: Mapping[str, Tensor], file: Path) -> set[str]:
    """The names of the tensors that were refitted, estimated anew or trained after the proof.

    Raises:
        PrunecoreError: the weights have none of such a name.
        WeightsError: one is not finite. Nothing else would show it, as it is not compared.
    """
    steps = [step for step in report["recovered"] if not step["undone"]]
    changed = {name for step in steps for name in step["changed"]}
    for name in sorted(changed - weights.keys()):
        raise _made_from_another(file, name)
    if spoilt := [name for name in sorted(changed) if not weights[name].isfinite().all()]:
        others = f" and {len(spoilt) - 1} more hold" if len(spoilt) > 1 else " holds"
        raise WeightsError(
            f"In {shown(weights_file(file, report))}, {shown(spoilt[0])}{others} values that "
            "are no finite numbers (NaN or infinity).\nPrune anew, with --force."
        )
    return changed


def _keep(
    model: nn.Module, dependencies: Dependencies, report: Mapping[str, Any], file: Path
) -> Keep:
    """What a report says is kept, as a choice of channels.

    Raises:
        PrunecoreError: the report does not fit the network.
    """
    kept = report["kept"]
    modules = [path for path, _ in model.named_modules()]
    known = {path for path in report["left_out"] if path.rpartition(".")[2] in PREPARED}
    known = {*known, *map(named_hooks, modules)} - {*modules}  # which need not be there again
    known |= {*dependencies.left_out}
    removed = [path for path in report["left_out"] if path not in known]
    for path in removed:
        if not path or path not in dependencies.forwards.visits:
            raise _made_from_another(file, path)
    tensors: dict[str, Tensor] = dict(named_plain_tensors(model))
    tensors.update(model.named_buffers(remove_duplicate=False))
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


def _fits(axes: list[list[int] | None], tensor: Tensor | None) -> bool:
    """True if ascending kept indices by axis can be those of a tensor."""
    return (
        tensor is not None
        and len(axes) == tensor.ndim
        and all(
            places is None or not places or places[-1] < size
            for places, size in zip(axes, tensor.shape, strict=True)
        )
    )


def _made_from_another(file: Path, name: str) -> PrunecoreError:
    return PrunecoreError(
        f"{shown(file)} was not made from this network: its report and the network differ in "
        f"what is kept of {shown(name)}.\n"
        "Give the network, arguments and input shape that the set was made with."
    )
