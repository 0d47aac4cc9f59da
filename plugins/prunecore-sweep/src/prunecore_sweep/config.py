"""The section `sweep` of a configuration, and the grid of cells that it spans."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from prunecore.errors import UsageError, unknown_name
from prunecore.escaping import shown_value
from prunecore.files import models, values
from prunecore.files.config import ModelConfig, Reader, read_model
from prunecore_train.config import DataConfig, Job, read_classes, read_count, read_job

MOST_CELLS = 100_000


@dataclass(frozen=True)
class SweepConfig:
    """What is swept over; what is not given is as the other sections have it.

    Attributes:
        networks: in the place of the section model.
        subsets: in the place of the subset of the section data: `sub_classes` and `subset_name`;
            by where the file has them.
        levels: in percent.
        modes: the importance criteria.
        seeds: of modes that draw, of weights that no file gives, and of training.
        train: whether each network is trained once it is refitted.
        latency: what measures the latency of each; `None` to measure none.
        cpus: of a cell.
        gpus: likewise, of which a cell may share one: 0.5.
        retries: how often a cell whose process died is tried again.
        output: the folder of what comes out.
    """

    networks: tuple[ModelConfig, ...] = ()
    subsets: Mapping[str, DataConfig] = field(default_factory=dict)
    levels: tuple[float, ...] = (50,)
    modes: tuple[str | None, ...] = (None,)
    seeds: tuple[int, ...] = (0,)
    train: bool = True
    latency: str | None = None
    cpus: int = 1
    gpus: float = 0
    retries: int = 2
    output: Path | None = None


@dataclass(frozen=True)
class Cell:
    """One place of the grid.

    Attributes:
        name: of its folder.
        network: the factory's name.
        subset: what it is called; `None` for that of the section data.
        level: in percent.
        mode: the importance criterion; `None` for that of the section pruner.
        seed: of all that is drawn.
        job: what is asked for in it.
    """

    name: str
    network: str
    subset: str | None
    level: float
    mode: str | None
    seed: int
    job: Job

    @property
    def tuned(self) -> Path:
        """The folder, in the sweep's, of its network trained on its subset."""
        subset = f"_{self.subset}" if self.subset else ""
        return Path("finetuned", f"{self.network}{subset}_seed-{self.seed}")


def read_sweep(file: Path) -> tuple[SweepConfig, list[Cell]]:
    """Read a configuration with the section `sweep`, and the cells that it asks for.

    Raises:
        UsageError: it cannot be read, or makes no sense.
    """
    job = read_job(file, {"sweep": _SWEEP})
    given = dict(job.config.others["sweep"])
    networks = tuple(
        read_model(raw, file, f"sweep: networks: {number}")
        for number, raw in enumerate(given.pop("networks", ()), 1)
    )
    subsets = {
        f"data with sweep: subsets: {number}": replace(
            job.data, **{"sub_classes": (), "subset_name": None, **subset}
        )
        for number, subset in enumerate(given.pop("subsets", ()), 1)
    }
    config = SweepConfig(networks or (job.config.model,), subsets or {"data": job.data}, **given)
    for model in config.networks:
        if model.name is None:
            raise UsageError("sweep: which networks?\nGive networks: [resnet18, net.py:factory].")
    counts = (config.networks, config.subsets, config.levels, config.modes, config.seeds)
    count = 1
    for axis in counts:
        count *= len(axis)
    if count > MOST_CELLS:
        raise UsageError(
            f"That makes {count:,} cells, and a sweep has {MOST_CELLS:,} at most.\n"
            "Give fewer levels, modes or seeds."
        )
    return config, list(_cells(config, job))


def _cells(config: SweepConfig, job: Job) -> Iterator[Cell]:
    names = [models.factory_name(str(model.name)) for model in config.networks]
    for (place, model), (number, data), level, mode, seed in itertools.product(
        enumerate(config.networks),
        enumerate(config.subsets.values()),
        config.levels,
        config.modes,
        config.seeds,
    ):
        network = names[place] if names.count(names[place]) == 1 else f"{names[place]}-{place + 1}"
        subset = data.subset_name
        pruner = replace(job.config.pruner, seed=seed)
        own = replace(
            job,
            config=replace(
                job.config, model=model, pruner=replace(pruner, mode=mode or pruner.mode)
            ),
            data=data,
            train=replace(job.train, seed=seed),
        )
        parts = (
            network,
            subset or (f"subset-{number + 1}" if len(config.subsets) > 1 else None),
            f"{level:g}".replace(".", "_"),
            mode,
            f"seed-{seed}",
        )
        name = "_".join(part for part in parts if part)
        yield Cell(name, network, parts[1], level, pruner.mode if mode is None else mode, seed, own)


def _list_of(read: Reader) -> Reader:
    def each(value: object) -> tuple[Any, ...]:
        items = value if isinstance(value, list | tuple) else [value]
        found = tuple(dict.fromkeys(read(item) for item in items))
        if not found:
            raise UsageError("there is nothing in the list; leave it out.")
        return found

    return each


def _networks(value: object) -> tuple[Any, ...]:
    """Names of factories, or what a section model has; each is read once its file is known."""
    items = value if isinstance(value, list | tuple) else [value]
    if not items:
        raise UsageError("there is no network in the list; leave it out for that of model.")
    return tuple({"name": item} if isinstance(item, str) else item for item in items)


_SUBSET: dict[str, Reader] = {
    "sub_classes": read_classes,
    "subset_name": values.read_folder_name,
}


def _subsets(value: object) -> tuple[Mapping[str, Any], ...]:
    items = value if isinstance(value, list | tuple) else [value]
    found = []
    for item in items:
        given = {"subset_name": item} if isinstance(item, str) else item
        if not isinstance(given, Mapping):
            raise UsageError(
                "a subset is a name, or {subset_name: evens, sub_classes: [0, 2]}, not "
                f"{shown_value(given)}."
            )
        for key in given:
            if key not in _SUBSET:
                raise unknown_name("key of a subset", str(key), _SUBSET)
        found.append({key: _SUBSET[key](part) for key, part in given.items()})
    return tuple(found)


def _share_of(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 64:
        raise UsageError(f"GPUs of a cell are a number from 0 to 64, not {shown_value(value)}.")
    return float(value)


def _latency(value: object) -> str | None:
    text = values.read_text(value)
    return None if text == "none" else text


_SWEEP: dict[str, Callable[[Any], Any]] = {
    "networks": _networks,
    "subsets": _subsets,
    "levels": values.read_levels,
    "modes": _list_of(values.read_text),
    "seeds": _list_of(values.read_seed),
    "train": values.read_switch,
    "latency": _latency,
    "cpus": read_count(1),
    "gpus": _share_of,
    "retries": read_count(0),
    "output": values.read_path,
}
