"""The three parts of a data set, and the order in which their images come."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from prunecore.errors import UsageError
from prunecore.escaping import shown
from prunecore.files.config import named
from prunecore_train.config import DataConfig
from prunecore_train.images.sources import PARTS, Source, source_of
from prunecore_train.images.subsets import chosen


class Data(LightningDataModule):
    """Labelled images in three parts that are apart.

    Parts that the data set lacks are drawn by the seed, of each class the same share: the test part
    of all images, the validation part of those that train.

    Args:
        config: which images, and how they are parted.

    Attributes:
        source: the images as they lie there.
        kept: the numbers of the classes that are kept.
        places: of each part, which images of which part of the source.
        renumbered: whether labels count the kept classes, for a network that knows no others.

    Raises:
        UsageError: the data is not there, has no such class, or none of its images.
    """

    def __init__(self, config: DataConfig) -> None:
        super().__init__()
        self.config = config
        self.source = source_of(config)
        self.kept = _kept(self.source, config)
        self.places = _parted(self.source, self.kept, config)
        self.renumbered = False
        self._check()

    @property
    def count(self) -> int:
        """How many classes labels count."""
        return len(self.kept) if self.renumbered else len(self.source.classes)

    def part(self, name: str) -> _Part:
        """A part, by its name."""
        own, places = self.places[name]
        numbers = self.kept if self.renumbered else None
        seed = self.config.seed if self.source.draws else None
        return _Part(self.source.parts[own], places, numbers, seed)

    def images(self, count: int) -> Tensor:
        """Some images of the training part, which the seed chooses; all where they are fewer.

        Raises:
            UsageError: they are no tensors of one shape.
        """
        part = self.part("train")
        generator = torch.Generator().manual_seed(self.config.seed)
        chosen = torch.randperm(len(part), generator=generator)[:count].sort().values.tolist()
        images = [part[0, place][0] for place in chosen]
        shapes = {image.shape if isinstance(image, Tensor) else None for image in images}
        if len(shapes) > 1 or None in shapes:
            raise UsageError(
                f"The images of {shown(self.source.name)} are no tensors of one shape, which "
                "channels are scored by.\nGive data: size: [224, 224], or return such tensors."
            )
        return torch.stack(images)

    def train_dataloader(self) -> DataLoader[Any]:
        """Batches in an order of each epoch's own; what makes no whole batch is left out."""
        return self._loader("train", shuffled=True)

    def val_dataloader(self) -> DataLoader[Any]:
        """Batches of the validation part, in order."""
        return self._loader("val", shuffled=False)

    def test_dataloader(self) -> DataLoader[Any]:
        """Batches of the test part, in order."""
        return self._loader("test", shuffled=False)

    def _loader(self, name: str, shuffled: bool) -> DataLoader[Any]:
        rank, ranks = 0, 1
        if self.trainer is not None:
            rank, ranks = self.trainer.global_rank, self.trainer.world_size
        part = self.part(name)
        seed = self.config.seed if shuffled else None
        batches = Batches(len(self.places[name][1]), self.config.batch_size, seed, rank, ranks)
        workers = self.config.workers
        return DataLoader(
            part,
            batch_sampler=batches,
            num_workers=workers,
            persistent_workers=workers > 0,
            generator=torch.Generator().manual_seed(0),  # no draw of the loop's own
            collate_fn=getattr(part.data, "collate_fn", None),
        )

    def record(self) -> dict[str, Any]:
        """What the parts are, ready for JSON; of which images they are made tells a hash."""
        parts = {}
        for name, (own, places) in self.places.items():
            digest = hashlib.sha256(json.dumps([own, places.tolist()]).encode()).hexdigest()
            parts[name] = {"of": own, "images": len(places), "sha256": digest}
        return {
            "name": self.source.name,
            "subset_name": self.config.subset_name,
            "classes": [self.source.classes[number] for number in self.kept],
            "class_numbers": self.kept,
            "seed": self.config.seed,
            "parts": parts,
        }

    def _check(self) -> None:
        """Refuse a part without images of a class, and a batch that is larger than the data."""
        for name, (own, places) in self.places.items():
            if not len(places):
                raise UsageError(
                    f"The {name} part of {shown(self.source.name)} has no images.\n"
                    "Give more, or data: validation and test other shares."
                )
            if self.source.labels:
                counts = self.source.labels[own][places].bincount(
                    minlength=len(self.source.classes)
                )
                for number in self.kept:
                    if not counts[number]:
                        raise UsageError(
                            f"The {name} part of {shown(self.source.name)} has no image of class "
                            f"{shown(self.source.classes[number])}.\nGive some, or leave the class "
                            "out of data: sub_classes."
                        )
        images = len(self.places["train"][1])
        if self.config.batch_size > images:
            raise UsageError(
                f"batch_size: {self.config.batch_size} is more than the {images} images that train."
                f"\nGive data: batch_size: {images} at most."
            )


class Batches(Sampler[list[tuple[int, int]]]):
    """Epoch and place of each image of a batch: those of one process, of a batch that all share.

    Args:
        count: how many images there are.
        size: of a batch of all processes together.
        seed: of the order in each epoch, and then whole batches alone; `None` for the order as it
            is.
        rank: of this process.
        ranks: how many processes there are.
    """

    def __init__(self, count: int, size: int, seed: int | None, rank: int, ranks: int) -> None:
        self.count, self.size, self.seed = count, size, seed
        self.rank, self.ranks = rank, ranks
        self.epoch = 0
        self.sampler = self  # Lightning tells the sampler of a batch sampler its epoch

    def set_epoch(self, epoch: int) -> None:
        """Take the order of an epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.count // self.size if self.seed is not None else -(-self.count // self.size)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        order = torch.arange(self.count)
        if self.seed is not None:
            generator = torch.Generator().manual_seed(mixed(self.seed, self.epoch))
            order = torch.randperm(self.count, generator=generator)
        for batch in torch.split(order, self.size)[: len(self)]:
            yield [(self.epoch, place) for place in batch[self.rank :: self.ranks].tolist()]


def mixed(seed: int, number: int) -> int:
    """A seed for each number that one seed gives: those of seeds beside each other are apart."""
    digest = hashlib.sha256(f"{seed}, {number}".encode()).digest()
    return int.from_bytes(digest[:7], "big")


class _Part(Dataset[Any]):
    """Some of a data set's images, by epoch and place.

    Args:
        data: the data set.
        places: of the images in it.
        numbers: the classes whose places labels become; `None` for labels as they are.
        seed: of what the data set draws, anew for each image in each epoch; `None` where it draws
            nothing.
    """

    def __init__(
        self, data: Dataset[Any], places: Tensor, numbers: list[int] | None, seed: int | None
    ) -> None:
        self.data, self.places, self.seed = data, places.tolist(), seed
        self.numbers = numbers and {number: place for place, number in enumerate(numbers)}

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: tuple[int, int]) -> Any:
        epoch, place = index
        if self.seed is None:
            item = self.data[self.places[place]]
        else:
            with isolate_rng(include_cuda=False):
                drawn = mixed(self.seed, epoch * len(self) + place)
                torch.manual_seed(drawn)
                random.seed(drawn)
                np.random.seed(drawn % 2**32)
                item = self.data[self.places[place]]
        if not self.numbers:
            return item
        image, label = item
        return image, self.numbers[int(label)]


def _kept(source: Source, config: DataConfig) -> list[int]:
    with named("sub_classes" if config.sub_classes else "subset_name"):
        if not source.labels and (config.sub_classes or config.subset_name):
            raise UsageError(
                f"{shown(source.name)} has no labels that are classes, of which some could be kept."
                "\nLeave sub_classes and subset_name out, or give its data set `targets`."
            )
        return chosen(source.classes, config.sub_classes, config.subset_name)


def _parted(source: Source, kept: list[int], config: DataConfig) -> dict[str, tuple[str, Tensor]]:
    """Of each part, which part of the source its images are from, and their places there."""
    parts = {}
    for name, data in source.parts.items():
        places = torch.arange(len(data))  # type: ignore[arg-type]
        if source.labels:
            places = places[torch.isin(source.labels[name], torch.tensor(kept))]
        parts[name] = (name, places)
    for number, (name, share) in enumerate((("test", config.test), ("val", config.validation))):
        if name not in parts:
            own, places = parts["train"]
            labels = source.labels[own][places] if source.labels else torch.zeros_like(places)
            taken = _drawn(labels, share, mixed(config.seed, number))
            parts[name] = (own, places[taken])
            parts["train"] = (own, places[~taken])
    return {name: parts[name] for name in PARTS}


def _drawn(labels: Tensor, share: float, seed: int) -> Tensor:
    """Which images a share takes, of each class as many: one at least, and never all.

    Those of a class are the same whatever other classes there are: a network that was trained on
    all of them has seen none of a subset's test part.
    """
    taken = torch.zeros(len(labels), dtype=torch.bool)
    for label in torch.unique(labels):
        generator = torch.Generator().manual_seed(mixed(seed, int(label)))
        (places,) = (labels == label).nonzero(as_tuple=True)
        wanted = min(max(1, round(share * len(places))), len(places) - 1)
        taken[places[torch.randperm(len(places), generator=generator)[:wanted]]] = True
    return taken
