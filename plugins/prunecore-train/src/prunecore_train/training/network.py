"""A network in training, as a `LightningModule`."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torchmetrics import Metric, MetricCollection

from prunecore.errors import PrunecoreError
from prunecore.escaping import shown
from prunecore.files.config import named
from prunecore_train.config import TrainConfig
from prunecore_train.images.data import mixed
from prunecore_train.training.losses import loss_of, metrics_of
from prunecore_train.training.optimizers import optimizer_of, schedule_of

VALIDATION = "val "  # begins the names of what the validation part says
_BETWEEN = 16  # batches after which a loss that is no number is seen


class MeanLoss(Metric):
    """The mean of a loss over images; unlike torchmetrics' own, it stays NaN once it is."""

    total: Tensor
    images: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("total", "images"):
            self.add_state(name, torch.tensor(0.0, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, loss: Tensor, count: int) -> None:
        """Add the mean loss of so many images."""
        self.total += loss.detach().double() * count
        self.images += count

    def compute(self) -> Tensor:
        """The mean, as a number of 32 bits."""
        return (self.total / self.images).float()


class Judge(nn.Module):
    """The loss and the metrics of a part, over batches and processes.

    Args:
        part: its name, which those of the values begin with.
        metrics: beside the loss.
    """

    def __init__(self, part: str, metrics: MetricCollection) -> None:
        super().__init__()
        self.part = part
        self.loss = MeanLoss()
        self.metrics = metrics.clone(prefix=f"{part} ")

    def update(self, outputs: Any, labels: Any, loss: Tensor, count: int) -> None:
        """Add a batch of so many images."""
        self.loss.update(loss, count)
        if len(self.metrics):
            self.metrics.update(outputs, labels)

    def take(self) -> dict[str, Tensor]:
        """All values by name; what is added then begins anew."""
        values = {f"{self.part} loss": self.loss.compute(), **self.metrics.compute()}
        self.loss.reset()
        self.metrics.reset()
        return values


class Network(LightningModule):
    """A network, what it is trained for, and how.

    Args:
        network: which is trained; its parameters stay its own.
        config: how.
        classes: how many there are for metrics to tell apart; 0 where labels are no classes.

    Attributes:
        monitored: the name of the value that tells the best epoch, and `mode` which way.
        history: what was told of each epoch, over runs that were killed.
    """

    def __init__(self, network: nn.Module, config: TrainConfig, classes: int) -> None:
        super().__init__()
        self.network, self.config = network, config
        with named("train: loss"):
            self.loss = loss_of(config.loss)
        with named("train: metrics"):
            found = metrics_of(config.metrics if classes else (), classes)
        self.trained = MeanLoss()
        self.judges = {part: Judge(part, found) for part in ("val", "test")}
        for part, judge in self.judges.items():
            self.add_module(f"{part}_judge", judge)
        self.monitored = f"{VALIDATION}{next(iter(found)) if len(found) else 'loss'}"
        self.mode = "max" if len(found) else "min"
        self.history: list[dict[str, float]] = []
        with named("train: optimizer"):  # wrong ones are seen at once
            optimizer = optimizer_of(config.optimizer, network.parameters())
        if config.schedule:
            with named("train: schedule"):
                schedule_of(config.schedule, optimizer, config.epochs, 1)

    def forward(self, *inputs: Any) -> Any:
        """What the network returns."""
        return self.network(*inputs)

    def training_step(self, batch: Any, number: int) -> Tensor:
        """The loss of a batch."""
        images, labels = batch
        loss = self.step_loss(images, self.network(images), labels)
        if number % _BETWEEN == 0 and not bool(torch.isfinite(loss)):
            raise self.diverged()
        self.trained.update(loss, len(images))
        return loss

    def step_loss(self, images: Any, outputs: Any, labels: Any) -> Tensor:
        """What a step makes smaller."""
        return self.loss(outputs, labels)

    def validation_step(self, batch: Any, number: int) -> None:
        """Judge the network by a batch of the validation part."""
        self._judge("val", batch)

    def test_step(self, batch: Any, number: int) -> None:
        """Judge the network by a batch of the test part."""
        self._judge("test", batch)

    def _judge(self, part: str, batch: Any) -> None:
        images, labels = batch
        outputs = self.network(images)
        self.judges[part].update(outputs, labels, self.loss(outputs, labels), len(images))

    def on_train_epoch_start(self) -> None:
        """Draw in an epoch what only its number and the seed say: so does a run that goes on."""
        torch.manual_seed(mixed(self.config.seed, self.current_epoch) + self.global_rank)

    def on_train_epoch_end(self) -> None:
        """Tell of an epoch, after its validation.

        Raises:
            PrunecoreError: it is no number.
        """
        mean = self.trained.compute()
        self.trained.reset()
        if not bool(torch.isfinite(mean)):
            raise self.diverged()
        told = {
            name: float(value)
            for name, value in self.trainer.callback_metrics.items()
            if name.startswith(VALIDATION)
        }
        self.history.append({"epoch": self.current_epoch + 1, "train loss": float(mean), **told})

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep what was told, too."""
        checkpoint["history"] = self.history

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on from what was told."""
        self.history = list(checkpoint["history"])

    def on_validation_epoch_end(self) -> None:
        """Tell what the validation part says."""
        self.log_dict(self.judges["val"].take(), prog_bar=True)

    def on_test_epoch_end(self) -> None:
        """Tell what the test part says."""
        self.log_dict(self.judges["test"].take())

    def configure_optimizers(self) -> Any:
        """The optimiser, and the schedule of its rate."""
        optimizer = optimizer_of(self.config.optimizer, self.network.parameters())
        if self.config.schedule is None:
            return optimizer
        steps = max(1, self.trainer.estimated_stepping_batches // self.config.epochs)
        schedule = schedule_of(self.config.schedule, optimizer, self.config.epochs, int(steps))
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }

    def diverged(self) -> PrunecoreError:
        """The error for a loss that is no number."""
        kept = getattr(self.trainer.checkpoint_callback, "last_model_path", "")
        where = (
            f"the last good checkpoint is {shown(kept)}" if kept else "no epoch was finished before"
        )
        return PrunecoreError(
            f"The loss is no finite number (NaN or infinity) in epoch {self.current_epoch + 1}; "
            f"{where}.\nGive a smaller lr, or look for images that hold no numbers."
        )
