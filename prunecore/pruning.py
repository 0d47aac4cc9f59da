"""Pruning, the main job, from a network and a level to a smaller network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import overload

from torch import Tensor, nn

from prunecore.calibration import Calibration, Images
from prunecore.criteria.scoring import Scoring
from prunecore.errors import UsageError, a_kind, check_names
from prunecore.escaping import shown_value
from prunecore.inputs import ExampleInputs, InputShape, inputs_of
from prunecore.planning.goal import Target
from prunecore.planning.request import (
    DEFAULT_BACKEND,
    Limits,
    Request,
    asked_level,
    checked_target,
)
from prunecore.pruned_model import PrunedModel
from prunecore.strategies.best import BEST, carry_out_best, check_mode
from prunecore.strategies.iterative import OnStep, carry_out_in_steps
from prunecore.traced_model import TracedModel


@overload
def prune(
    model: nn.Module,
    example_inputs: ExampleInputs,
    level: float | None = None,
    *,
    to: str | None = None,
    example_kwargs: Mapping[str, Tensor] | None = None,
    mode: str | None = None,
    target: Target = "params",
    seed: int = 0,
    limits: Limits | None = None,
    drop: Sequence[str] = (),
    name: str | None = None,
    verify: bool = True,
    calibration: Calibration | Images | None = None,
    recover: Sequence[str] | None = None,
    scoring: Scoring | None = None,
    steps: int = 1,
    on_step: OnStep | None = None,
    latency: str = DEFAULT_BACKEND,
    strict: bool = False,
) -> PrunedModel: ...


@overload
def prune(
    model: nn.Module,
    *,
    level: float | None = None,
    to: str | None = None,
    input_shape: InputShape | None = None,
    example_kwargs: Mapping[str, Tensor] | None = None,
    mode: str | None = None,
    target: Target = "params",
    seed: int = 0,
    limits: Limits | None = None,
    drop: Sequence[str] = (),
    name: str | None = None,
    verify: bool = True,
    calibration: Calibration | Images | None = None,
    recover: Sequence[str] | None = None,
    scoring: Scoring | None = None,
    steps: int = 1,
    on_step: OnStep | None = None,
    latency: str = DEFAULT_BACKEND,
    strict: bool = False,
) -> PrunedModel: ...


def prune(
    model: nn.Module,
    example_inputs: ExampleInputs | None = None,
    level: float | None = None,
    *,
    to: str | None = None,
    input_shape: InputShape | None = None,
    example_kwargs: Mapping[str, Tensor] | None = None,
    mode: str | None = None,
    target: Target = "params",
    seed: int = 0,
    limits: Limits | None = None,
    drop: Sequence[str] = (),
    name: str | None = None,
    verify: bool = True,
    calibration: Calibration | Images | None = None,
    recover: Sequence[str] | None = None,
    scoring: Scoring | None = None,
    steps: int = 1,
    on_step: OnStep | None = None,
    latency: str = DEFAULT_BACKEND,
    strict: bool = False,
) -> PrunedModel:
    """Remove whole channels from a network and write the smaller one as source.

    Args:
        model: the network, or a part of it such as `model.backbone`; it is left exactly as it is.
            What a part returns is as wide as before, so that the smaller one can take its place.
        example_inputs: what the network is called with, as `torch.export` takes it: a tensor of
            floating point numbers, or a tuple of a tensor for each input, or of lists and
            dictionaries of tensors; the batch is axis 0.
        level: percentage of the target to remove, within (0, 100).
        to: in the place of a level, what is to be left: `5M-params`, `1.5G-macs`, `12MB`, or
            `500-channels` of those that may go; `12ms` for a latency.
        input_shape: in the place of examples, the shape of one input without the batch; of several
            inputs, the shape of each: `[(3, 32, 32), (8,)]`.
        example_kwargs: example inputs that the network is given by name.
        mode: how channels are scored, `magnitude`, `l1-norm`, `random` and others, or a plugin's;
            `surgeon` where there are calibration images, and else `magnitude`. `best` tries several
            on the images, and keeps what then agrees most with the original.
        target: what the level is a percentage of: `params`, `macs`, `bytes`, `channels` or
            `latency`.
        seed: of modes that draw.
        limits: what has to stay.
        drop: paths of modules that only training reaches and that are to be left out, such as an
            auxiliary head; `training` for all that only training does. `a.b.hooks` for the forward
            hooks of the module `a.b`, `hooks` for those of all.
        name: of the factory in the written file; made from the class's name where not given.
        verify: whether to prove the written network right; see `prunecore.verify`.
        calibration: images without labels, for modes that read some and to get the accuracy back:
            a tensor of shape `(n, ...)`, batches as a `DataLoader` gives them, a folder, or a
            `Calibration`, which says how many and how they are read.
        recover: what gives the accuracy back, in order: `refit` solves each layer's weights anew,
            `batch-norm` estimates statistics anew, `data-free` refits without images, for networks
            with batch norms. With calibration images `refit` where not given.
        scoring: what of a channel counts for the mode, and how it is put together.
        steps: in how many steps the level is reached, 100 at most; channels are scored anew in
            each, and what is left is recovered.
        on_step: called after each step but the last with the smaller network of that step and the
            step's number, from 1. It may train `small.model`: weights are gone on with.
        latency: where latencies come from: what runs networks here to measure them, `eager` or a
            plugin's `onnxruntime`. They are those of a call with the examples, or one input.
        strict: whether what is not understood is refused, rather than its neighbourhood left whole.

    Returns:
        The smaller network: the model, its source, weights, report and plan.

    Raises:
        PrunecoreError: with what is wrong, where, and what to do.

    Example:
        >>> small = prunecore.prune(model, torch.rand(1, 3, 224, 224), level=50)
        >>> small.save("smaller_50.py")
    """
    asked = asked_level(level, to)  # what is wrong with it is told before the network is followed
    checked_target(target)
    if isinstance(mode, str):  # of what is no text the request tells
        check_mode(mode)
    traced = trace(
        model,
        example_inputs,
        input_shape=input_shape,
        example_kwargs=example_kwargs,
        drop=drop,
        calibration=calibration,
        strict=strict,
    )
    if on_step is not None and not callable(on_step):
        raise UsageError(
            f"on_step is {shown_value(on_step)}, which cannot be called.\n"
            "Give a function of the smaller network and the step's number."
        )
    if on_step is not None and mode == BEST:
        raise UsageError(
            "Mode best tries several networks, and on_step would train each.\nGive a single mode."
        )
    if on_step is not None and steps == 1:
        raise UsageError(
            "on_step is called between steps, and there is one.\nGive steps=2 or more."
        )
    request = traced.request(
        asked,
        mode=mode,
        target=target,
        seed=seed,
        limits=limits,
        name=name,
        verify=verify,
        scoring=scoring,
        recover=recover,
        steps=steps,
        latency=latency,
    )
    return carry_out(traced, request, on_step)


def trace(
    model: nn.Module,
    example_inputs: ExampleInputs | None = None,
    *,
    input_shape: InputShape | None = None,
    example_kwargs: Mapping[str, Tensor] | None = None,
    drop: Sequence[str] = (),
    calibration: Calibration | Images | None = None,
    strict: bool = False,
) -> TracedModel:
    """Follow the channels of a network once, to prune it at several levels or by own scores.

    Args:
        model: the network; it is left exactly as it is.
        example_inputs: as for `prune`.
        input_shape: as for `prune`.
        example_kwargs: as for `prune`.
        drop: as for `prune`.
        calibration: as for `prune`.
        strict: as for `prune`.

    Raises:
        PrunecoreError: with what is wrong, where, and what to do.

    Example:
        >>> traced = prunecore.trace(model, torch.rand(1, 3, 224, 224))
        >>> sizes = [traced.plan(level).after.params for level in (30, 50, 70)]
        >>> small = traced.prune(50, mode="random", seed=1)
    """
    if not isinstance(model, nn.Module):
        raise UsageError(
            f"The model is {a_kind(model)}, not a torch.nn.Module.\nGive the network itself."
        )
    if isinstance(drop, str):
        raise UsageError(
            f"drop is a list of modules, not {shown_value(drop)}.\nGive [{shown_value(drop)}]."
        )
    check_names("drop", drop, "Give the paths of modules, such as drop=['aux'].")
    inputs = inputs_of(example_inputs, example_kwargs, input_shape)
    return TracedModel(model, inputs, drop, calibration, strict)


def carry_out(traced: TracedModel, request: Request, on_step: OnStep | None = None) -> PrunedModel:
    """Carry out what is asked: by the best of several criteria, in several steps, or at once.

    Args:
        traced: the network.
        request: what is asked.
        on_step: called between steps; not for mode `best`, of which most networks are thrown away.

    Raises:
        PrunecoreError: with what is wrong, where, and what to do.
    """
    if request.mode == BEST:
        return carry_out_best(traced, request)
    if request.steps > 1:
        return carry_out_in_steps(traced, request, on_step)
    return traced.carry_out(request)
