"""A smaller network in training, taught by the one that it was cut from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from prunecore.errors import UsageError
from prunecore_train.config import DistillationConfig, TrainConfig
from prunecore_train.training.network import Network


class Student(Network):
    """A smaller network in training, whose loss is also how far it is from the original.

    After Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network", 2015, arXiv
    1503.02531; and of features, Romero et al., "FitNets", 2015, arXiv 1412.6550, for which each
    kept channel has the one of the original that it was.

    Args:
        network: the smaller one.
        config: how it is trained.
        classes: as for `Network`.
        teacher: the original, which stays as it is.
        distillation: how much of what is taught.
        report: of the smaller network, with the kept indices.
    """

    def __init__(
        self,
        network: nn.Module,
        config: TrainConfig,
        classes: int,
        teacher: nn.Module,
        distillation: DistillationConfig,
        report: Mapping[str, Any],
    ) -> None:
        super().__init__(network, config, classes)
        self.distillation = distillation
        self._teacher = [teacher.eval().requires_grad_(False)]  # no part of what checkpoints hold
        self._features = Features(network, teacher, report) if distillation.features else None

    def on_fit_start(self) -> None:
        """Have the teacher where the student is."""
        self._teacher[0].to(self.device)

    def step_loss(self, images: Any, outputs: Any, labels: Any) -> Tensor:
        """The loss by the labels, and by what the original returns for the same images."""
        with torch.no_grad():
            taught = self._teacher[0](images)
        share = self.distillation.logits
        loss = self.loss(outputs, labels)
        if share:
            loss = (1 - share) * loss + share * self._of_logits(outputs, taught)
        if self._features is not None:
            loss = loss + self.distillation.features * self._features.loss()
        return loss

    def _of_logits(self, outputs: Any, taught: Any) -> Tensor:
        if not isinstance(outputs, Tensor) or not isinstance(taught, Tensor):
            raise UsageError(
                "The network returns no tensor of scores, and distillation compares those.\n"
                "Give train: distillation: none, or {logits: 0, features: 1}."
            )
        if outputs.shape != taught.shape:
            raise UsageError(
                f"The network returns scores of shape {tuple(outputs.shape)}, and the original of "
                f"{tuple(taught.shape)}.\nGive train: distillation: none."
            )
        heat = self.distillation.temperature
        return heat**2 * F.kl_div(
            F.log_softmax(outputs / heat, 1),
            F.log_softmax(taught / heat, 1),
            reduction="batchmean",
            log_target=True,
        )


class Features:
    """How far what the layers of a smaller network make is from the original's kept channels.

    Of each group of coupled layers, the last one that both networks have is compared.

    Args:
        student: the smaller network.
        teacher: the original.
        report: of the smaller network.
    """

    def __init__(self, student: nn.Module, teacher: nn.Module, report: Mapping[str, Any]) -> None:
        ours, theirs = dict(student.named_modules()), dict(teacher.named_modules())
        self._pairs: dict[str, tuple[int, Tensor | None]] = {}
        self._seen: dict[tuple[str, str], Tensor] = {}
        for group in report["groups"]:
            path = _last(group["layers"], ours, theirs)
            if path is None:
                continue
            axes = report["kept"].get(f"{path}.weight", [None])
            kept = None if axes[0] is None else torch.tensor(axes[0])
            self._pairs[path] = (-1 if isinstance(ours[path], nn.Linear) else 1, kept)
            for whose, module in (("student", ours[path]), ("teacher", theirs[path])):
                module.register_forward_hook(self._recorder(whose, path))
        if not self._pairs:
            raise UsageError(
                "Both networks have no layer whose features could be compared.\n"
                "Give train: distillation: {features: 0}."
            )

    def _recorder(self, whose: str, path: str) -> Any:
        def record(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
            self._seen[whose, path] = output

        return record

    def loss(self) -> Tensor:
        """The mean over the layers of the squared distance, relative to what the original makes."""
        errors = []
        for path, (axis, kept) in self._pairs.items():
            ours, theirs = self._seen["student", path], self._seen["teacher", path].detach()
            if kept is not None:
                theirs = theirs.index_select(axis, kept.to(theirs.device))
            scale = theirs.square().mean().clamp_min(torch.finfo(theirs.dtype).tiny)
            errors.append(F.mse_loss(ours, theirs) / scale)
        self._seen.clear()
        return torch.stack(errors).mean()


def _last(
    layers: Sequence[str], ours: Mapping[str, nn.Module], theirs: Mapping[str, nn.Module]
) -> str | None:
    """The last of some layers whose first weight axis is its outputs, in both networks."""
    for path in reversed(layers):
        both = (ours.get(path), theirs.get(path))
        if all(isinstance(module, nn.Linear | _ConvNd) for module in both) and not any(
            isinstance(module, _ConvTransposeNd) for module in both
        ):
            return path
    return None
