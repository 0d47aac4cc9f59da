"""The sections `data`, `train` and `adapt` of a configuration, read into frozen dataclasses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from decimal import Decimal
from math import inf
from pathlib import Path
from typing import Any

from prunecore.errors import UsageError, unknown_name
from prunecore.escaping import shown, shown_value
from prunecore.files import values
from prunecore.files.config import Config, Reader, read_config
from prunecore.plugins import loading

MOST = 1_000_000  # epochs, images of a batch, processes


@dataclass(frozen=True)
class DataConfig:
    """Labelled images, and how they are parted.

    Attributes:
        name: `digits`, `digit-pairs`, a data set of torchvision, `package.module:factory` or
            `file.py:factory`.
        folder: in its place, a folder of images: one sub-folder a class, or those below `train`,
            `val` and `test`.
        root: where torchvision's data set lies.
        arguments: what the factory is called with.
        download: whether torchvision may load a data set that is not there.
        size: height and width that images are resized to; where not given, those that are larger
            than a network takes, of a folder and of ImageNet, 224.
        mean: of each channel, taken off once values are scaled to 0 to 1; as for calibration.
        std: of each channel, that the rest is divided by; likewise.
        sub_classes: the classes that are kept, by name or number; superclasses, too.
        subset_name: of those; alone, a subset whose classes are known.
        validation: the share of the training images that validates, where no part of its own does.
        test: likewise, the share of all images.
        seed: of these shares, and of the order of training images.
        batch_size: of all processes together.
        workers: processes that read images.
    """

    name: str | None = None
    folder: Path | None = None
    root: Path | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    download: bool = False
    size: tuple[int, int] | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    sub_classes: tuple[str | int, ...] = ()
    subset_name: str | None = None
    validation: float = 0.1
    test: float = 0.2
    seed: int = 0
    batch_size: int = 64
    workers: int = 0


@dataclass(frozen=True)
class Named:
    """An optimiser, a schedule or a loss: its name, and its options."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class DistillationConfig:
    """What a smaller network learns of the one that it was cut from.

    Attributes:
        logits: the share of the loss that compares what both return.
        temperature: which scores are divided by for that.
        features: the weight of what the layers make, beside it.
    """

    logits: float = 0.5
    temperature: float = 4.0
    features: float = 0.0


@dataclass(frozen=True)
class TrainConfig:
    """How a network is trained.

    Attributes:
        epochs: how often at most all training images are seen.
        optimizer: `SGD` or `AdamW`, with the options that torch gives it.
        schedule: of its rate: `cosine`, `step`, or `explicit` with `rates` by epoch.
        loss: a function of `torch.nn.functional`, or `package.module:function` of outputs and
            labels, with its options.
        metrics: `top-1`, `top-5`, or names of torchmetrics' for several classes, such as `F1Score`.
        patience: after how many epochs without a better validation training ends.
        seed: of what is drawn while training.
        output: the folder of checkpoints and of what comes out.
        distillation: where a smaller network is trained and the original is given.
    """

    epochs: int = 10
    optimizer: Named = Named("SGD", {"lr": 0.05, "momentum": 0.9, "weight_decay": 5e-4})
    schedule: Named | None = Named("cosine")
    loss: Named = Named("cross_entropy")
    metrics: tuple[str, ...] = ("top-1", "top-5")
    patience: int | None = None
    seed: int = 0
    output: Path | None = None
    distillation: DistillationConfig | None = DistillationConfig()


@dataclass(frozen=True)
class AdaptConfig:
    """How the level is searched for that a subset of the classes allows.

    Attributes:
        lower: the lowest level, in percent.
        upper: the highest.
        step: between levels.
        tolerance: how far below the unpruned network a smaller one may validate: 0.01 is a point.
        finetune_epochs: of the unpruned network on the subset, before it is pruned.
        images: how many of those that train are for scores and refits.
        shrink_head: whether outputs of other classes are dropped.
        levels: those that `compare` compares at.
        output: the folder of what comes out.
    """

    lower: float = 5
    upper: float = 95
    step: float = 5
    tolerance: float = 0.0
    finetune_epochs: int = 5
    images: int = 256
    shrink_head: bool = False
    levels: tuple[float, ...] = (50,)
    output: Path | None = None

    @property
    def searched(self) -> tuple[float, ...]:
        """The levels that are searched, in ascending order."""
        lower, upper, step = (Decimal(repr(x)) for x in (self.lower, self.upper, self.step))
        count = int((upper - lower) / step) + 1
        return tuple(float(lower + number * step) for number in range(count))


@dataclass(frozen=True)
class Job:
    """Everything that a command is asked for."""

    config: Config
    data: DataConfig
    train: TrainConfig
    adapt: AdaptConfig


def read_job(file: Path, others: Mapping[str, Mapping[str, Reader]] | None = None) -> Job:
    """Read a configuration with the sections `data`, `train` and `adapt`.

    Args:
        file: the configuration.
        others: further sections, as for `prunecore.files.config.read_config`.

    Raises:
        UsageError: it cannot be read, names no data, or its bounds contradict each other.
    """
    own = {"data": _DATA, "train": _TRAIN, "adapt": _ADAPT, **(others or {})}
    config = read_config(file, own, loading.installed_sections() - own.keys())
    data, train = DataConfig(**config.others["data"]), TrainConfig(**config.others["train"])
    adapt = AdaptConfig(**config.others["adapt"])
    if not adapt.lower <= adapt.upper:
        raise UsageError(
            f"{shown(file)}: adapt: lower is {adapt.lower:g}, above upper, {adapt.upper:g}.\n"
            "Give lower: 5 and upper: 95, for instance."
        )
    if adapt.lower < adapt.upper and len(adapt.searched) == 1:
        apart = f"{adapt.upper - adapt.lower:g}"
        raise UsageError(
            f"{shown(file)}: adapt: step is {adapt.step:g}, and from lower to upper are {apart}.\n"
            f"Give step: {apart} at most, or one level as lower and as upper."
        )
    if (data.name is None) == (data.folder is None):
        found = "no data" if data.name is None else "both a name and a folder"
        raise UsageError(
            f"{shown(file)}: data: there is {found}.\n"
            "Give one of the two: data: {name: digits}, or data: {folder: FOLDER}."
        )
    if data.name:
        data = replace(data, name=_beside(file, data.name))
    loss = replace(train.loss, name=_beside(file, train.loss.name))
    return Job(config, data, replace(train, loss=loss), adapt)


def _beside(file: Path, name: str) -> str:
    """A name, and of `file.py:function` the path from a configuration's folder."""
    return str(file.parent / name) if name.rpartition(":")[0].endswith(".py") else name


def plain_name(name: str) -> str:
    """A name that is the same on every machine: of `folder/file.py:function` without the folder."""
    place, colon, function = name.rpartition(":")
    return f"{Path(place).name}:{function}" if colon and place.endswith(".py") else name


def read_count(least: int) -> Callable[[object], int]:
    """What reads a whole number from the least one on."""

    def read(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= MOST:
            raise UsageError(
                f"it is a whole number from {least} to {MOST:,}, not {shown_value(value)}."
            )
        return value

    return read


def _step(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 100:
        raise UsageError(f"levels are apart by a number of percents, not {shown_value(value)}.")
    return float(value)


def _tolerance(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < inf:
        raise UsageError(
            f"it is how far the metric may fall, such as 0.01, not {shown_value(value)}."
        )
    return float(value)


def _share(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1:
        raise UsageError(f"a share is a number between 0 and 1, not {shown_value(value)}.")
    return float(value)


def read_classes(value: object) -> tuple[str | int, ...]:
    """Classes by name or number: one, or a list of them; each once."""
    found = tuple(value) if isinstance(value, list | tuple) else (value,)
    for item in found:
        if isinstance(item, bool) or not isinstance(item, str | int):
            raise UsageError(f"classes are names or numbers, not {shown_value(item)}.")
    if not found:
        raise UsageError("there is no class in the list; leave it out to keep all.")
    return tuple(dict.fromkeys(found))


def _named(value: object) -> Named:
    """A name alone, or `{name: SGD, lr: 0.1}`."""
    if isinstance(value, str):
        return Named(value)
    if not isinstance(value, Mapping) or not isinstance(value.get("name"), str):
        raise UsageError(
            f"a name belongs here, alone or with options as in {{name: SGD, lr: 0.1}}, not "
            f"{shown_value(value)}."
        )
    options = {key: option for key, option in value.items() if key != "name"}
    for key in options:
        if not isinstance(key, str):
            raise UsageError(f"options have names, not {shown_value(key)}.")
    return Named(value["name"], options)


def _one_of(kind: str, *names: str) -> Callable[[object], Named | None]:
    """A name of a few, `none` among them where it may be."""

    def read(value: object) -> Named | None:
        named = _named(value)
        if named.name not in names:
            raise unknown_name(kind, named.name, names)
        return None if named.name == "none" else named

    return read


def _distillation(value: object) -> DistillationConfig | None:
    """`none`, or some of the values; what is left out is as it is usual."""
    if value == "none":
        return None
    known = [field.name for field in fields(DistillationConfig)]
    if not isinstance(value, Mapping):
        raise UsageError(
            f"distillation is {{logits: 0.5, features: 1}} or none, not {shown_value(value)}."
        )
    for key, number in value.items():
        if key not in known:
            raise unknown_name("key of distillation", str(key), known)
        most = 1 if key == "logits" else MOST
        if (
            isinstance(number, bool)
            or not isinstance(number, int | float)
            or not 0 <= number <= most
        ):
            raise UsageError(f"{key} is a number from 0 to {most:,}, not {shown_value(number)}.")
    found = DistillationConfig(**value)
    if not found.temperature:
        raise UsageError("temperature is a number above 0.")
    return found if found.logits or found.features else None


def _names(value: object) -> tuple[str, ...]:
    items = value if isinstance(value, list | tuple) else [value]
    return tuple(dict.fromkeys(values.read_text(item) for item in items))


_DATA: dict[str, Reader] = {
    "name": values.read_text,
    "folder": values.read_path,
    "root": values.read_path,
    "arguments": values.read_arguments,
    "download": values.read_switch,
    "size": values.read_size,
    "mean": values.read_numbers,
    "std": values.read_numbers,
    "sub_classes": read_classes,
    "subset_name": values.read_folder_name,
    "validation": _share,
    "test": _share,
    "seed": values.read_seed,
    "batch_size": read_count(1),
    "workers": read_count(0),
}


_TRAIN: dict[str, Reader] = {
    "epochs": read_count(1),
    "optimizer": _one_of("optimizer", "SGD", "AdamW"),
    "schedule": _one_of("schedule", "cosine", "step", "explicit", "none"),
    "loss": _named,
    "metrics": _names,
    "patience": read_count(1),
    "seed": values.read_seed,
    "output": values.read_path,
    "distillation": _distillation,
}


_ADAPT: dict[str, Reader] = {
    "lower": values.read_level,
    "upper": values.read_level,
    "step": _step,
    "tolerance": _tolerance,
    "finetune_epochs": read_count(0),
    "images": values.read_image_count,
    "shrink_head": values.read_switch,
    "levels": values.read_levels,
    "output": values.read_path,
}
