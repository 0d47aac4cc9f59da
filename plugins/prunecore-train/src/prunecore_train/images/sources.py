"""Labelled images by name: scikit-learn's digits, pairs of them, torchvision's, a folder's."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset, TensorDataset

from prunecore.errors import UsageError, a_kind, unknown_name
from prunecore.escaping import shown
from prunecore.files import models
from prunecore.files.config import named
from prunecore.files.paths import is_folder
from prunecore_train.config import DataConfig, plain_name
from prunecore_train.images import digit_pairs

PARTS = ("train", "val", "test")
_PAIRS = {"train": 12_000, "val": 2_000, "test": 3_000}
_SIDE = 224  # of images that have any size
_IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Source:
    """Labelled images as they lie there.

    Attributes:
        name: of the data set.
        parts: the data sets that it has, by their names of `PARTS`; `train` at least.
        labels: of each part, the class of each image; none where they are no classes.
        classes: the names of all classes.
        draws: whether an image may be another one each time, as a factory's may.
    """

    name: str
    parts: Mapping[str, Dataset[Any]]
    labels: Mapping[str, Tensor]
    classes: tuple[str, ...]
    draws: bool = False


def source_of(config: DataConfig) -> Source:
    """The images that a configuration names.

    Raises:
        UsageError: they are not there, or there is no such data set.
    """
    if config.folder is not None:
        with named("folder"):
            return _folder(config.folder, config)
    name = str(config.name)
    if ":" in name:
        with named("name"):
            return _of_factory(name, config.arguments)
    if name not in _NAMED:
        error = str(unknown_name("data set", name, _NAMED)).removesuffix(".")
        raise UsageError(f"name: {error}; or give package.module:factory, or folder: FOLDER.")
    return _NAMED[name](config)


def _digits(_: DataConfig) -> Source:
    from sklearn.datasets import load_digits

    data = load_digits()
    images = torch.tensor(data.images, dtype=torch.float32)[:, None] / 16
    labels = torch.tensor(data.target)
    classes = tuple(map(str, range(10)))
    return Source("digits", {"train": TensorDataset(images, labels)}, {"train": labels}, classes)


def _digit_pairs(config: DataConfig) -> Source:
    drawn = {
        part: digit_pairs.pairs(_PAIRS[part], digits, len(PARTS) * config.seed + number)
        for number, (part, digits) in enumerate(digit_pairs.PARTS.items())
    }
    return Source(
        "digit-pairs",
        {part: TensorDataset(*tensors) for part, tensors in drawn.items()},
        {part: labels for part, (_, labels) in drawn.items()},
        tuple(map(str, range(100))),
    )


def _torchvision(name: str) -> Callable[[DataConfig], Source]:
    """A data set that torchvision reads from the disk."""

    def source(config: DataConfig) -> Source:
        import torchvision.datasets

        if config.root is None:
            raise UsageError(f"root: {name} lies somewhere on the disk.\nGive data: root: FOLDER.")
        options: dict[str, Any] = {"transform": _transform(config, name == "ImageNet")}
        make = getattr(torchvision.datasets, name)
        by_part: dict[str, dict[str, Any]]
        if name == "ImageNet":
            by_part = {"train": {"split": "train"}, "test": {"split": "val"}}
        else:
            options["download"] = config.download
            by_part = {"train": {"train": True}, "test": {"train": False}}
        try:
            parts = {
                part: make(str(config.root), **options, **own) for part, own in by_part.items()
            }
        except (RuntimeError, OSError) as error:  # what torchvision raises for what is not there
            more = "" if name == "ImageNet" else ", or load it: data: download: true"
            raise UsageError(
                f"root: There is no {name} at {shown(config.root)}.\nGive that which torchvision "
                f"reads it from{more}."
            ) from error
        classes = parts["train"].classes
        names = tuple(map(str, (one[0] if isinstance(one, tuple) else one for one in classes)))
        labels = {part: torch.as_tensor(data.targets) for part, data in parts.items()}
        return Source(name, parts, labels, names)

    return source


_NAMED: dict[str, Callable[[DataConfig], Source]] = {
    "digits": _digits,
    "digit-pairs": _digit_pairs,
    **{
        name: _torchvision(name)
        for name in ("MNIST", "FashionMNIST", "CIFAR10", "CIFAR100", "ImageNet")
    },
}


def _folder(folder: Path, config: DataConfig) -> Source:
    """Images in a sub-folder for each class, of one folder or of those of the parts."""
    from torchvision.datasets import ImageFolder

    if not is_folder(folder):
        raise UsageError(f"There is no folder {shown(folder)}.\nGive a folder of images.")
    places = {part: folder / part for part in PARTS if is_folder(folder / part)}
    if "train" not in places:
        places = {"train": folder}
    transform = _transform(config, resized=True)
    parts = {}
    for part, place in places.items():
        try:
            parts[part] = ImageFolder(str(place), transform)
        except FileNotFoundError as error:
            raise UsageError(
                f"{shown(place)} has no images of each of its classes: {error}\n"
                "Give a folder with a sub-folder of images for each class."
            ) from error
    classes = parts["train"].classes
    for part, data in parts.items():
        if data.classes != classes:
            odd = sorted({*data.classes} ^ {*classes})[0]
            raise UsageError(
                f"{shown(places[part])} and {shown(places['train'])} have not the same classes: "
                f"{shown(odd)} is in one of them.\nGive each a sub-folder of each class."
            )
    labels = {part: torch.tensor(data.targets) for part, data in parts.items()}
    return Source(folder.name, parts, labels, tuple(classes))


def _of_factory(spec: str, arguments: Mapping[str, Any]) -> Source:
    """What a function of the user's gives: a data set, or several by the names of parts."""
    given = models.load_images(spec, arguments)
    parts = given if isinstance(given, Mapping) else {"train": given}
    for part, data in parts.items():
        if part not in PARTS:
            raise unknown_name(f"part of {spec}", str(part), PARTS)
        if not hasattr(data, "__getitem__") or not hasattr(data, "__len__"):
            raise UsageError(
                f"{shown(spec)} gives {a_kind(data)}, not a data set.\nReturn one with __len__ "
                "and __getitem__, or several: {'train': ..., 'val': ..., 'test': ...}."
            )
    if "train" not in parts:
        raise UsageError(f"{shown(spec)} gives no data set under 'train'.\nReturn one.")
    found = {part: _labels(data) for part, data in parts.items()}
    labels = {part: tensor for part, tensor in found.items() if tensor is not None}
    if len(labels) < len(parts):
        return Source(plain_name(spec), parts, {}, (), draws=True)
    count = 1 + max(int(tensor.max()) for tensor in labels.values() if len(tensor))
    classes = getattr(parts["train"], "classes", range(count))
    return Source(plain_name(spec), parts, labels, tuple(map(str, classes)), draws=True)


def _labels(data: Any) -> Tensor | None:
    """The class of each of a data set's images; `None` where they have none."""
    given = getattr(data, "targets", None)
    if given is None and isinstance(data, TensorDataset):
        given = data.tensors[-1]
    if given is None and len(data) and _is_class(_label(data[0])):
        given = [_label(data[place]) for place in range(len(data))]
    if given is None or len(given) != len(data):
        return None
    if isinstance(given, Sequence) and not all(map(_is_class, given)):
        return None
    labels = torch.as_tensor(given)
    is_whole = not labels.is_floating_point() and labels.ndim == 1
    return labels.long() if is_whole else None


def _label(item: Any) -> Any:
    return item[1] if isinstance(item, tuple | list) and len(item) == 2 else None


def _is_class(label: Any) -> bool:
    if isinstance(label, Tensor):
        return label.ndim == 0 and not label.is_floating_point()
    return isinstance(label, int)


def _transform(config: DataConfig, resized: bool) -> Callable[[Any], Tensor]:
    """Make a tensor of an image: its middle where it is resized, scaled and normalised."""
    from torchvision.transforms import CenterCrop, Compose, Resize, ToTensor

    size = config.size or ((_SIDE, _SIDE) if resized else None)
    steps: list[Any] = []
    if size is not None:
        steps += [Resize(max(size)), CenterCrop(size)]
    return Compose([*steps, ToTensor(), _Normalized(config.mean, config.std)])  # type: ignore[no-any-return]


class _Normalized:
    """Takes the mean off an image and divides it by the deviation, as calibration images are."""

    def __init__(self, mean: tuple[float, ...] | None, std: tuple[float, ...] | None) -> None:
        self.mean, self.std = mean, std

    def __call__(self, image: Tensor) -> Tensor:
        channels = len(image)
        usual = _IMAGENET if channels == 3 else ((0.0,) * channels, (1.0,) * channels)
        mean, std = (
            torch.tensor(given if given is not None else default)[:, None, None]
            for given, default in zip((self.mean, self.std), usual, strict=True)
        )
        if len(mean) != channels or len(std) != channels:
            raise UsageError(
                f"Images have {channels} channel(s), and data: mean and std {len(mean)} and "
                f"{len(std)} numbers.\nGive one for each channel."
            )
        return (image - mean) / std
