"""Pruning, the main job: walk, score, plan, write, cut the weights, verify."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from prunecore.calibration import Calibration, Images
from prunecore.channels.dependencies import Dependencies
from prunecore.channels.keep import Keep
from prunecore.channels.linear_map import LinearMap, RunningStatistics
from prunecore.channels.stored import check_stored
from prunecore.criteria.criterion import ScoringContext
from prunecore.criteria.scoring import OPEN, Scoring
from prunecore.errors import UsageError, unknown_name
from prunecore.escaping import nearest_name, shown, shown_value, visible, why_no_name
from prunecore.files.images import CalibrationImages, calibration_images
from prunecore.files.report import build_report
from prunecore.files.storage import save_set
from prunecore.inputs import ExampleInputs, Inputs, InputShape, inputs_of
from prunecore.planning.goal import TARGETS, Goal, Target, read_goal
from prunecore.planning.plan import Plan, make_plan
from prunecore.planning.request import (
    CALIBRATED_MODE,
    DEFAULT_MODE,
    RECOVERY_STEPS,
    Limits,
    Request,
)
from prunecore.planning.residual_blocks import ResidualBlock, find_residual_blocks
from prunecore.plugins import loading as plugin_registry
from prunecore.recovery.data_free import DATA_FREE, recover_without_images
from prunecore.recovery.steps import Networks
from prunecore.recovery.steps import recover as recover_accuracy
from prunecore.tracing.patches import beside_others
from prunecore.verifying.comparison import verify as verify_network
from prunecore.verifying.masking import running_copy
from prunecore.walking.network import walk
from prunecore.writing.building import build, check_kinds, naming_the_writer, transfer_weights
from prunecore.writing.source_file import write_network
from prunecore.writing.text import is_taken


@dataclass(frozen=True)
class PrunedModel:
    """A smaller network.

    Attributes:
        model: built from the written source, with its weights.
        source: the text of the written file.
        weights: its state dict, with the original's keys.
        report: what was asked, what came of it, and the proof; contract keys, schema 1.
        plan: which channels stay, and what that comes to.
    """

    model: nn.Module
    source: str
    weights: dict[str, Tensor]
    report: dict[str, Any]
    plan: Plan

    def save(self, path: str | Path, force: bool = False) -> tuple[Path, Path, Path]:
        """Write the three files that belong together; all or none appear.

        Args:
            path: of the .py file; the weights and the report lie beside it.
            force: whether to replace a set that is there.

        Returns:
            The paths of the .py, .safetensors and .json file.
        """
        return save_set(Path(path), self.source, self.weights, self.report, force)

    def __repr__(self) -> str:
        verified = self.report["verified"]
        proof = (
            f"exact to {verified['max_relative_difference']:.0e}" if verified else "not verified"
        )
        return f"PrunedModel({self.report['model']}, {self.report['mode']}, {self.plan}, {proof})"


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
) -> PrunedModel:
    """Remove whole channels from a network and write the smaller one as source.

    Args:
        model: the network, or a part of it such as `model.backbone`; it is left exactly as it is.
            What a part returns is as wide as before, so that the smaller one can take its place.
        example_inputs: what the network is called with, as `torch.export` takes it: a tensor of
            floating point numbers, or a tuple of a tensor for each input; the batch is axis 0.
        level: percentage of the target to remove, within (0, 100).
        to: in the place of a level, what is to be left: `5M-params`, `1.5G-macs`, `12MB`, or
            `500-channels` of those that may go.
        input_shape: in the place of examples, the shape of one input without the batch; of several
            inputs, the shape of each: `[(3, 32, 32), (8,)]`.
        example_kwargs: example inputs that the network is given by name.
        mode: how channels are scored, `magnitude`, `l1-norm`, `random` and others, or a plugin's;
            `surgeon` where there are calibration images, and else `magnitude`.
        target: what the level is a percentage of: `params`, `macs`, `bytes` or `channels`.
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

    Returns:
        The smaller network: the model, its source, weights, report and plan.

    Raises:
        PrunecoreError: with what is wrong, where, and what to do.

    Example:
        >>> small = prunecore.prune(model, torch.rand(1, 3, 224, 224), level=50)
        >>> small.save("smaller_50.py")
    """
    _asked(level, to)  # what is wrong with it is told before the network is followed
    _checked_target(target)
    traced = trace(
        model,
        example_inputs,
        input_shape=input_shape,
        example_kwargs=example_kwargs,
        drop=drop,
        calibration=calibration,
    )
    return traced.prune(
        level,
        to=to,
        mode=mode,
        target=target,
        seed=seed,
        limits=limits,
        name=name,
        verify=verify,
        scoring=scoring,
        recover=recover,
    )


def trace(
    model: nn.Module,
    example_inputs: ExampleInputs | None = None,
    *,
    input_shape: InputShape | None = None,
    example_kwargs: Mapping[str, Tensor] | None = None,
    drop: Sequence[str] = (),
    calibration: Calibration | Images | None = None,
) -> TracedModel:
    """Follow the channels of a network once, to prune it at several levels or by own scores.

    Args:
        model: the network; it is left exactly as it is.
        example_inputs: as for `prune`.
        input_shape: as for `prune`.
        example_kwargs: as for `prune`.
        drop: as for `prune`.
        calibration: as for `prune`.

    Raises:
        PrunecoreError: with what is wrong, where, and what to do.

    Example:
        >>> traced = prunecore.trace(model, torch.rand(1, 3, 224, 224))
        >>> sizes = [traced.plan(level).after.params for level in (30, 50, 70)]
        >>> small = traced.prune(50, mode="random", seed=1)
    """
    if not isinstance(model, nn.Module):
        raise UsageError(
            f"The model is a {type(model).__name__}, not a torch.nn.Module.\n"
            "Give the network itself."
        )
    if isinstance(drop, str):
        raise UsageError(
            f"drop is a list of modules, not {shown_value(drop)}.\nGive [{shown_value(drop)}]."
        )
    inputs = inputs_of(example_inputs, example_kwargs, input_shape)
    return TracedModel(model, inputs, drop, calibration)


class TracedModel:
    """A network whose channels have been followed; `prunecore.trace` makes it.

    Args:
        model: the network; it is left exactly as it is.
        inputs: what it is called with.
        drop: paths of modules that training is to do without; `training` for all of them.
        calibration: images without labels, to score by and to refit on.

    Attributes:
        model: the network.
        inputs: what it is called with.
        images: the calibration images, shape `(n, ...)`; `None` without.
        dependencies: its channels, and all that is bound to them.
    """

    def __init__(
        self,
        model: nn.Module,
        inputs: Inputs,
        drop: Sequence[str] = (),
        calibration: Calibration | Images | None = None,
    ) -> None:
        self.model = model
        self.inputs = inputs
        self.drop = tuple(drop)
        self.images: CalibrationImages | None = None
        if calibration is not None:
            given = (
                calibration if isinstance(calibration, Calibration) else Calibration(calibration)
            )
            self.images = calibration_images(given, inputs).like(model)
        self.plugins = plugin_registry.load()
        self.dependencies = walk(model, inputs, self.plugins, drop)

    def __repr__(self) -> str:
        removable = int(self.dependencies.removable.sum())
        return (
            f"TracedModel({shown(type(self.model).__name__)}: {removable} of "
            f"{self.dependencies.count} channels may go, in {len(self.dependencies.layers)} layers)"
        )

    @functools.cached_property
    @beside_others()
    def _blocks(self) -> list[ResidualBlock]:
        return find_residual_blocks(self.model, self.dependencies, self.inputs)

    @functools.cached_property
    def _checked(self) -> Dependencies:
        """The channels, of a network whose stored values can be scored and cut."""
        check_stored(self.model, self.dependencies)
        return self.dependencies

    def scores(
        self, mode: str | None = None, seed: int = 0, *, scoring: Scoring | None = None
    ) -> NDArray[np.float64]:
        """The importance of each channel.

        Args:
            mode: the criterion; `surgeon` where there are calibration images, and else `magnitude`.
            seed: of modes that draw.
            scoring: what of a channel counts, and how it is put together.

        Returns:
            One score a channel, shape `(channels,)`; low goes first.

        Raises:
            UsageError: the mode is not known, or reads images and none are given.
        """
        context = ScoringContext(
            self._checked, self._checked.tensors, seed, scoring=scoring or OPEN
        )
        if self.images is not None:
            layers = self._layers
            context = replace(
                context,
                model=self._original,
                images=self.images.batches,
                linear_maps={p: f for p, f in layers.items() if isinstance(f, LinearMap)},
            )
        return self.plugins.criterion(self.mode(mode))(context)

    @functools.cached_property
    def _original(self) -> nn.Module:
        """A copy of the network in eval mode, to be run."""
        return running_copy(self.model, self.dependencies.forwards.without_hooks)

    @functools.cached_property
    def _layers(self) -> dict[str, LinearMap | RunningStatistics]:
        """What owners tell of its layers, by path."""
        return self.plugins.layers(self._original)

    def mode(self, mode: str | None = None) -> str:
        """A mode, or where none is given that which suits what there is to read."""
        return mode or (DEFAULT_MODE if self.images is None else CALIBRATED_MODE)

    def _steps(self, recover: Sequence[str] | None) -> tuple[str, ...]:
        """The steps of recovery that are asked for.

        Raises:
            UsageError: one is not known, or there are no images for them.
        """
        if recover is None:
            return () if self.images is None else ("refit",)
        steps = (recover,) if isinstance(recover, str) else tuple(recover)
        for step in steps:
            if step not in RECOVERY_STEPS:
                raise unknown_name("step of recovery", step, RECOVERY_STEPS)
        if DATA_FREE in steps and len(steps) > 1:
            raise UsageError(
                f"The step {DATA_FREE} is for networks without images, and goes with no other.\n"
                "Leave it or the others out."
            )
        if steps and DATA_FREE not in steps and self.images is None:
            raise UsageError(
                f"The step {steps[0]} reads images, and none are given.\n"
                "Give some: --calibrate FOLDER, or calibration= in Python."
            )
        return steps

    def plan(
        self,
        level: float | None = None,
        *,
        to: str | None = None,
        mode: str | None = None,
        scores: NDArray[np.float64] | None = None,
        target: Target = "params",
        seed: int = 0,
        limits: Limits | None = None,
        scoring: Scoring | None = None,
    ) -> Plan:
        """Which channels stay at a level, and what that comes to; nothing is written.

        Args:
            level: percentage of the target to remove, within (0, 100).
            to: in the place of a level, what is to be left, as for `prunecore.prune`.
            mode: how channels are scored.
            scores: one's own in place of the mode's, shape `(channels,)`; low goes first.
            target: what the level is a percentage of: `params`, `macs`, `bytes` or `channels`.
            seed: of modes that draw.
            limits: what has to stay.
            scoring: what of a channel counts, and how it is put together.

        Raises:
            LevelError: the level cannot be reached.
        """
        request = self.request(
            _asked(level, to),
            mode=mode,
            target=target,
            seed=seed,
            limits=limits,
            scoring=scoring,
            recover=(),
        )
        return self._plan(request, None if scores is None else self._checked_scores(scores))

    def _plan(self, request: Request, scores: NDArray[np.float64] | None = None) -> Plan:
        limits = request.limits
        if scores is None:
            scores = self.scores(request.mode, request.seed, scoring=request.scoring)
        return make_plan(
            self.dependencies,
            scores,
            request.level,
            _checked_target(request.target),
            limits,
            self._blocks if limits.remove_blocks else (),
        )

    def prune(
        self,
        level: float | Plan | None = None,
        *,
        to: str | None = None,
        mode: str | None = None,
        target: Target = "params",
        seed: int = 0,
        limits: Limits | None = None,
        name: str | None = None,
        verify: bool = True,
        scoring: Scoring | None = None,
        recover: Sequence[str] | None = None,
    ) -> PrunedModel:
        """Write the smaller network of a level, or of a plan.

        Args:
            level: percentage of the target to remove, within (0, 100), or a plan that was made
                with `plan`, which holds target and limits.
            to: in the place of either, what is to be left, as for `prunecore.prune`.
            mode: how channels are scored; of a plan, how the report is to call its scores.
            target: as for `prunecore.prune`.
            seed: as for `prunecore.prune`.
            limits: as for `prunecore.prune`.
            name: as for `prunecore.prune`.
            verify: as for `prunecore.prune`.
            scoring: as for `prunecore.prune`.
            recover: as for `prunecore.prune`.

        Raises:
            PrunecoreError: with what is wrong, where, and what to do.
        """
        plan = level if isinstance(level, Plan) and to is None else None
        if plan:
            asked, target = plan.goal or plan.asked, plan.target
        else:
            asked = _asked(level, to)
        request = self.request(
            asked,
            mode=mode,
            target=target,
            seed=seed,
            limits=limits,
            name=name,
            verify=verify,
            scoring=scoring,
            recover=recover,
        )
        return self.carry_out(request, plan)

    def request(
        self,
        asked: float | Goal,
        *,
        mode: str | None = None,
        recover: Sequence[str] | None = None,
        scoring: Scoring | None = None,
        limits: Limits | None = None,
        **others: Any,
    ) -> Request:
        """What is asked, with the defaults for a network with or without calibration images.

        Args:
            asked: the level or goal.
            mode: how channels are scored.
            recover: the steps that give the accuracy back.
            scoring: what of a channel counts.
            limits: what has to stay.
            others: further attributes of a `Request`.

        Raises:
            UsageError: a step is not known, or there are no images for it.
        """
        return Request(
            asked,
            self.mode(mode),
            limits=limits or Limits(),
            scoring=scoring or OPEN,
            recover=self._steps(recover),
            **others,
        )

    @beside_others()
    def carry_out(self, request: Request, plan: Plan | None = None) -> PrunedModel:
        """Score, plan, write, transfer, verify, recover.

        Args:
            request: what is asked.
            plan: what stays, where that is decided already.

        Raises:
            PrunecoreError: with what is wrong, where, and what to do.
        """
        model, dependencies = self.model, self._checked
        name = checked_name(request.name or _default_name(model))
        plan = plan or self._plan(request)
        keep = Keep(model, dependencies, plan.kept, plan.removed_blocks)
        docstring = _docstring(model, request, plan)
        weights = transfer_weights(model, keep, self.plugins)
        with naming_the_writer(model, keep, self.plugins, weights):
            source = write_network(model, keep, self.plugins, name, docstring)
            small = build(source, name, weights)
            check_kinds(model, small)
        verified = verify_network(model, keep, small, self.inputs) if request.verify else None
        recovered = self._recovered(small, keep, weights, request)
        small.train(model.training)
        _freeze_like(model, small)
        report = build_report(
            name=name,
            mode=request.mode,
            seed=request.seed,
            plan=plan,
            keep=keep,
            dependencies=dependencies,
            verified=verified,
            recovered=recovered,
            plugins=self.plugins.versions(),
            fingerprint=request.fingerprint,
            inputs=self.inputs,
        )
        return PrunedModel(small, source, weights, report, plan)

    def _recovered(
        self, small: nn.Module, keep: Keep, weights: dict[str, Tensor], request: Request
    ) -> list[dict[str, Any]]:
        """Get the accuracy back; the weights become those of the smaller network.

        It comes after the proof, so that it hides no fault of what has been cut and written.
        """
        if not request.recover:
            return []
        networks = Networks(
            self._original,
            small.eval(),
            keep,
            self._layers,
            self.plugins.layers(small),
        )
        if self.images is None or DATA_FREE in request.recover:
            told = recover_without_images(networks, self.inputs.shapes, request.seed)
        else:
            told = recover_accuracy(networks, self.images.tensor, request.recover, request.seed)
        stored = small.state_dict()
        for name in weights:
            weights[name].copy_(stored[name])
        return told

    def _checked_scores(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        array = np.asarray(scores, dtype=np.float64)
        if array.shape != (self.dependencies.count,) or not np.isfinite(array).all():
            raise UsageError(
                f"Scores of shape {array.shape} do not fit: there are {self.dependencies.count} "
                "channels, each with one finite score.\nStart from those of `scores`."
            )
        return array


def _freeze_like(model: nn.Module, small: nn.Module) -> None:
    originals = dict(model.named_parameters())
    for name, parameter in small.named_parameters():
        parameter.requires_grad_(originals[name].requires_grad)


def module_of(model: nn.Module, path: str) -> nn.Module:
    """The module at a path of a network.

    Raises:
        UsageError: there is none.
    """
    modules: dict[str, nn.Module] = dict(model.named_modules(remove_duplicate=False))
    if path not in modules:
        raise unknown_name("module", path, (name for name in modules if name))
    return modules[path]


def full_name(model: nn.Module) -> str:
    """The full name of a network's class."""
    return f"{type(model).__module__}.{type(model).__qualname__}"


def checked_level(level: object) -> float:
    """A level, if it is one.

    Raises:
        UsageError: it is not a percentage between 0 and 100.
    """
    if not isinstance(level, int | float) or isinstance(level, bool) or not 0 < level < 100:
        raise UsageError(
            f"Level {shown_value(level)} is not a percentage between 0 and 100.\n"
            "Give the share of the target to remove, such as level=50."
        )
    return level


def _asked(level: object, to: str | None) -> float | Goal:
    """A level, or what is to be left in its place.

    Raises:
        UsageError: neither is given, or both, or it is none.
    """
    if (level is None) == (to is None):
        raise UsageError(
            f"{'Neither a level nor' if to is None else 'Both a level and'} a goal are given.\n"
            "Give one of them: level=50, or to='5M-params'."
        )
    return checked_level(level) if to is None else read_goal(to)


def _checked_target(target: Target) -> Target:
    if target not in TARGETS:
        raise unknown_name("target", target, TARGETS)
    return target


def checked_name(name: str) -> str:
    """The name of a written file's factory.

    Raises:
        UsageError: it cannot be that.
    """
    if reason := why_no_name(name):
        wrong = f"cannot name a Python function: {reason}"
    elif is_taken(name):
        wrong = "is one of the file's own"
    else:
        return name
    raise UsageError(
        f"The name {shown_value(name)} {wrong}.\nGive one such as 'resnet18' (--name)."
    )


def _default_name(model: nn.Module) -> str:
    """A factory's name after a network's class: `my_net` for `MyNet`, `resnet` for `ResNet`."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z][a-z])", "_", type(model).__name__)
    name = nearest_name(words.lower().replace("res_net", "resnet"), "net")
    return f"{name}_net" if is_taken(name) else name


def _docstring(model: nn.Module, request: Request, plan: Plan) -> str:
    """What the written file says of itself; nothing that another run would not say."""
    before, after = plan.before, plan.after
    counted = {"params": "parameters", "macs": "MACs"}.get(plan.target, plan.target)
    params = _amounts(before.params, after.params) + " parameters" * (plan.target != "params")
    figures = f"{params}, {_amounts(before.macs, after.macs)}MACs"
    asked = f"to {plan.goal.text}" if plan.goal else f"level {plan.asked:g}"
    origin = visible(request.origin or full_name(model))
    name = nearest_name(type(model).__name__, "Module")
    return (
        f"{name} without {plan.achieved:.0f} % of its {counted}: {figures}.\n\n"
        f"Written by prunecore ({request.mode}, {asked}) from {origin}. "
        "Edit freely.\n"
    )


def _amounts(before: int, after: int) -> str:
    """`11689512, 5594000` to `11.69 -> 5.59 M`, in the unit that suits the first."""
    size, unit = next((s, u) for s, u in _UNITS if before >= s or s == 1)
    return f"{before / size:.2f} -> {after / size:.2f} {unit}"


_UNITS = ((1e9, "G"), (1e6, "M"), (1e3, "k"), (1, ""))
