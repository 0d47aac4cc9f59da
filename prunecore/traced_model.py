"""A network whose channels have been followed, and the smaller networks made of it."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from prunecore.calibration import Calibration, Images
from prunecore.channels.dependencies import Dependencies
from prunecore.channels.keep import Keep
from prunecore.channels.layers.linear_map import LinearMap, RunningStatistics
from prunecore.channels.names import named_parameters
from prunecore.channels.stored import check_names, check_stored
from prunecore.criteria.criterion import ScoringContext
from prunecore.criteria.scoring import OPEN, Scoring
from prunecore.errors import UsageError
from prunecore.escaping import shown, shown_value
from prunecore.files.images import CalibrationImages, calibration_images
from prunecore.files.latency_tables import check_backend, is_table, read_table
from prunecore.files.reports.report import build_report, docstring_of
from prunecore.inputs import Inputs
from prunecore.latency.table import LatencyTable
from prunecore.planning.cost import Counter
from prunecore.planning.goal import Goal, Target
from prunecore.planning.layer_latencies import OnNetwork, fill_table
from prunecore.planning.lookup import Lookup
from prunecore.planning.plan import Plan, make_plan
from prunecore.planning.request import (
    CALIBRATED_MODE,
    DATA_FREE,
    DEFAULT_BACKEND,
    DEFAULT_MODE,
    Limits,
    Request,
    asked_level,
    check_asked,
    checked_recovery,
    checked_target,
    target_of,
)
from prunecore.planning.residual_blocks import ResidualBlock, find_residual_blocks
from prunecore.planning.stopwatch import Stopwatch
from prunecore.plugins import loading as plugin_registry
from prunecore.pruned_model import PrunedModel
from prunecore.recovery.calls import calls_all, layers_of
from prunecore.recovery.data_free import recover_without_images
from prunecore.recovery.steps import Networks
from prunecore.recovery.steps import recover as recover_accuracy
from prunecore.tracing.modules.preparation import prepare
from prunecore.tracing.stand_ins.patches import beside_others
from prunecore.verifying.comparison import verify as verify_network
from prunecore.verifying.masking import running_copy
from prunecore.walking.network import walk
from prunecore.writing.building import written_network
from prunecore.writing.source_file import checked_name, default_name


class TracedModel:
    """A network whose channels have been followed; `prunecore.trace` makes it.

    Args:
        model: the network; it is left exactly as it is.
        inputs: what it is called with.
        drop: paths of modules that training is to do without; `training` for all of them.
        calibration: images without labels, to score by and to refit on.
        strict: whether what is not understood is refused, rather than its neighbourhood left whole.

    Attributes:
        model: the network, without what wraps it and with weights for what computes them.
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
        strict: bool = False,
    ) -> None:
        check_names(model)
        prepared = prepare(model)
        self.model = prepared.model
        self.inputs = inputs
        self.drop = tuple(drop)
        self.strict = strict
        self.images: CalibrationImages | None = None
        if calibration is not None:
            given = (
                calibration if isinstance(calibration, Calibration) else Calibration(calibration)
            )
            self.images = calibration_images(given, inputs).like(model)
        self.plugins = plugin_registry.load()
        found = walk(self.model, inputs, self.plugins, drop, strict)
        self.dependencies = replace(found, left_out=(*found.left_out, *prepared.left_out))

    def __repr__(self) -> str:
        removable = int(self.dependencies.removable.sum())
        return (
            f"TracedModel({shown(type(self.model).__name__)}: {removable} of "
            f"{self.dependencies.count} channels may go, in {len(self.dependencies.layers)} layers)"
        )

    def like(self, model: nn.Module) -> TracedModel:
        """Another network, followed for the same inputs, and with the same images."""
        other = TracedModel(model, self.inputs, strict=self.strict)
        other.images = self.images
        return other

    @functools.cached_property
    @beside_others()
    def _blocks(self) -> list[ResidualBlock]:
        return find_residual_blocks(self.model, self.dependencies, self.inputs)

    @functools.cached_property
    def _checked(self) -> Dependencies:
        """The channels, of a network whose stored values can be scored and cut."""
        check_stored(self.model, self.dependencies)
        return self.dependencies

    @beside_others()
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
        scoring = OPEN if scoring is None else scoring
        check_asked(self.mode(mode), seed, scoring)
        context = ScoringContext(self._checked, self._checked.tensors, seed, scoring=scoring)
        if self.images is not None:
            layers = self.layers
            context = replace(
                context,
                model=self.observed,
                images=self.images.batches,
                linear_maps={p: f for p, f in layers.items() if isinstance(f, LinearMap)},
            )
        return self.plugins.criterion(self.mode(mode))(context)

    @functools.cached_property
    def original(self) -> nn.Module:
        """A copy of the network in eval mode, to be run."""
        return running_copy(self.model, self.dependencies.forwards.without_hooks)

    @functools.cached_property
    def observed(self) -> nn.Module:
        """The network in eval mode, to be run under hooks that see each of its layers called.

        Where blocks compute with the weights of their layers and do not call these, as
        `nn.MultiheadAttention` does, it is the network as it is written with all of its channels.
        """
        visits = self.dependencies.forwards.visits
        paths = [path for path in self.plugins.layers(self.original) if visits.get(path)]
        image = self.inputs.image
        if image is None or calls_all(self.original, image, paths):
            return self.original
        keep = Keep(self.model, self._checked, np.ones(self.dependencies.count, dtype=bool))
        name = default_name(self.model)
        written = written_network(self.model, keep, self.plugins, name, "All channels.")
        return written.network.eval()

    @functools.cached_property
    def layers(self) -> dict[str, LinearMap | RunningStatistics]:
        """What is known of its layers, by path."""
        return self.layers_of(self.observed)

    def layers_of(self, network: nn.Module) -> dict[str, LinearMap | RunningStatistics]:
        """The layers of this network, or of a smaller one, that can be refitted, by path."""
        return layers_of(network, self.inputs.image, self.plugins)

    def mode(self, mode: str | None = None) -> str:
        """A mode, or where none is given that which suits what there is to read."""
        return mode or (DEFAULT_MODE if self.images is None else CALIBRATED_MODE)

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
        latency: str = DEFAULT_BACKEND,
    ) -> Plan:
        """Which channels stay at a level, and what that comes to; nothing is written.

        Args:
            level: percentage of the target to remove, within (0, 100).
            to: in the place of a level, what is to be left, as for `prunecore.prune`.
            mode: how channels are scored.
            scores: one's own in place of the mode's, shape `(channels,)`; low goes first.
            target: what the level is a percentage of: `params`, `macs`, `bytes`, `channels` or
                `latency`.
            seed: of modes that draw.
            limits: what has to stay.
            scoring: what of a channel counts, and how it is put together.
            latency: where latencies come from, as for `prunecore.prune`.

        Raises:
            LevelError: the level cannot be reached.
        """
        request = self.request(
            asked_level(level, to),
            mode=mode,
            target=target,
            seed=seed,
            limits=limits,
            scoring=scoring,
            recover=(),
            latency=latency,
        )
        return self.plan_for(request, None if scores is None else self._checked_scores(scores))

    @beside_others()
    def plan_for(self, request: Request, scores: NDArray[np.float64] | None = None) -> Plan:
        """Which channels stay for what is asked; see `plan`.

        Args:
            request: what is asked.
            scores: one's own in place of the mode's, shape `(channels,)`.
        """
        limits = request.limits
        if scores is None:
            scores = self.scores(request.mode, request.seed, scoring=request.scoring)
        target = checked_target(target_of(request.level, request.target))
        return make_plan(
            self.dependencies,
            scores,
            request.level,
            target,
            limits,
            self._blocks if limits.remove_blocks else (),
            **(self._latency(request.latency) if target == "latency" else {}),
        )

    def _latency(self, source: str) -> dict[str, Any]:
        """What tells the latency of a choice: a table, or a stopwatch."""
        if is_table(source):
            return {"lookup": Lookup(self.dependencies, read_table(Path(source)))}
        return {"measure": self._stopwatch(source)}

    @beside_others()
    def latency_table(
        self,
        backend: str = DEFAULT_BACKEND,
        round_to: int = 1,
        on_network: OnNetwork | None = None,
    ) -> LatencyTable:
        """Measure the layers on this machine, at several widths.

        Args:
            backend: what runs them.
            round_to: what these widths are multiples of, as networks' will be.
            on_network: called after each network with how many are done, and how many there are.

        Raises:
            UsageError: the backend is not known.
            PrunecoreError: there is nothing to prune, or the machine is too busy to tell.
        """
        check_backend(backend)
        stopwatch = self._stopwatch(backend)
        return fill_table(self._checked, stopwatch, backend, round_to, on_network)

    def _stopwatch(self, backend: str) -> Stopwatch:
        """What writes and times networks."""
        return Stopwatch(
            self.model, self.original, self._checked, self.inputs, self.plugins, backend
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
        latency: str = DEFAULT_BACKEND,
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
            latency: as for `prunecore.prune`.

        Raises:
            PrunecoreError: with what is wrong, where, and what to do.
        """
        plan = level if isinstance(level, Plan) and to is None else None
        if plan:
            self._check_plan(plan)
            asked, target = plan.goal or plan.asked, plan.target
        else:
            asked = asked_level(level, to)
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
            latency=latency,
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
            limits=Limits() if limits is None else limits,
            scoring=OPEN if scoring is None else scoring,
            recover=checked_recovery(recover, self.images is not None),
            **others,
        )

    @beside_others()
    def carry_out(
        self,
        request: Request,
        plan: Plan | None = None,
        carried: Mapping[str, Tensor] | None = None,
    ) -> PrunedModel:
        """Score, plan, write, transfer, verify, recover.

        Args:
            request: what is asked.
            plan: what stays, where that is decided already.
            carried: weights of the smaller network, by name, that take the place of the cut ones
                after the proof.

        Raises:
            PrunecoreError: with what is wrong, where, and what to do.
        """
        model, dependencies = self.model, self._checked
        name = checked_name(request.name or default_name(model))
        plan = plan or self.plan_for(request)
        keep = Keep(model, dependencies, plan.kept, plan.removed_blocks)
        docstring = docstring_of(model, request, plan, self.inputs, dependencies.forwards.needed)
        source, small, weights = written_network(model, keep, self.plugins, name, docstring)
        verified = verify_network(model, keep, small, self.inputs) if request.verify else None
        if carried is not None:
            small.load_state_dict(carried)
            for key, value in weights.items():
                value.copy_(carried[key])
        recovered = self._recovered(small, keep, weights, request)
        small.train(model.training)
        freeze_like(model, small)
        report = build_report(
            name=name,
            model=model,
            request=request,
            plan=plan,
            keep=keep,
            dependencies=dependencies,
            verified=verified,
            recovered=recovered,
            plugins=self.plugins.versions(),
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
            self.observed,
            small.eval(),
            keep,
            self.layers,
            self.layers_of(small),
        )
        if self.images is None or DATA_FREE in request.recover:
            told = recover_without_images(networks, self.inputs.image, request.seed)
        else:
            told = recover_accuracy(networks, self.images.tensor, request.recover, request.seed)
        stored = small.state_dict()
        for name in weights:
            weights[name].copy_(stored[name])
        return told

    def _check_plan(self, plan: Plan) -> None:
        """Refuse the plan of another network."""
        dependencies = self._checked
        everything = np.ones(dependencies.count, dtype=bool)
        size = Counter(dependencies).cost(everything)
        if plan.kept.shape != everything.shape or plan.before != size:
            raise UsageError(
                "The plan is of another network: its channels are not those of this one.\n"
                "Make one with `plan` of the same traced network."
            )

    def _checked_scores(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        try:
            array = np.asarray(scores, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise UsageError(
                f"scores are {shown_value(scores)}, not an array of numbers.\n"
                "Start from those of `scores`; a criterion is given as mode."
            ) from error
        if array.shape != (self.dependencies.count,) or not np.isfinite(array).all():
            raise UsageError(
                f"Scores of shape {array.shape} do not fit: there are {self.dependencies.count} "
                "channels, each with one finite score.\nStart from those of `scores`."
            )
        return array


def freeze_like(model: nn.Module, small: nn.Module) -> None:
    """Freeze those parameters of a smaller network that are frozen in the original."""
    originals = dict(named_parameters(model))
    for name, parameter in named_parameters(small):
        parameter.requires_grad_(originals[name].requires_grad)
