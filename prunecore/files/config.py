"""Configuration files, YAML and INI, read into frozen dataclasses and checked."""

from __future__ import annotations

import configparser
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prunecore.calibration import Calibration
from prunecore.criteria.scoring import Scoring
from prunecore.errors import UsageError, reason_of, unknown_name
from prunecore.escaping import shown, shown_value
from prunecore.files import values
from prunecore.files.paths import read_text
from prunecore.files.shards import SHARD_SIZE, shard_size_of
from prunecore.planning.request import DEFAULT_BACKEND, Limits

if TYPE_CHECKING:
    from prunecore.criteria.scoring import Normalization, Part, Reduction
    from prunecore.inputs import Inputs
    from prunecore.planning.goal import Goal, Target
    from prunecore.planning.request import LayerLimits, Scope


LONGEST = 1_000_000  # bytes of a file


SHOWN = 8  # sections that an error names


Reader = Callable[[Any], Any]  # of the value of a key, which it checks


@dataclass(frozen=True)
class ModelConfig:
    """Which network to prune.

    Attributes:
        name: a torchvision name, `package.module:factory` or `file.py:factory`.
        arguments: what the factory is called with.
        weights: its weights file.
        input_shape: the shape of each input, without the batch.
        inputs: in its place, the type and sizes of each, or its value.
        module: the path of the module that is pruned in place of the whole.
    """

    name: str | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    weights: Path | None = None
    input_shape: tuple[tuple[int, ...], ...] | None = None
    inputs: Inputs | None = None
    module: str | None = None


@dataclass(frozen=True)
class PrunerConfig:
    """How to prune it, and where the written sets go.

    Attributes:
        project_dir: where `model_path` starts.
        model_path: the folder of all written sets.
        subset_name: a folder in it.
        net_name: the written network's name, where it is not the factory's.
        mode: the importance criterion; where not given, that is left to whether there are
            calibration images.
        members: what of a channel it counts; where not given, that is left to it.
        reduce: how the members' values become one, likewise.
        normalize: how the scores of groups compare, likewise.
        recover: the steps that give the accuracy back, in order; `refit` where not given, if there
            are calibration images.
        target: what the levels are percentages of.
        latency: where latencies come from: what runs networks to measure them.
        seed: for random scores and for weights that no file gives.
        remove_blocks: whether residual blocks may go as a whole.
        scope: whether channels are ranked over the network, or within each group.
        min_channels: how many channels every layer keeps at least.
        max_level: how many percent of a layer's channels may go.
        round_to: what widths become multiples of.
        layers: limits of single layers, by patterns of their paths.
        drop: the modules that training is to do without.
        strict: whether what is not understood is refused.
        pruning_perc: the levels, in percent.
        to: what is to be left, beside the levels.
        count: how many networks to write for each level, each from a seed of its own.
        steps: in how many steps each level is reached.
        shard_size: how many bytes of weights a file holds at most.
    """

    project_dir: Path = Path()
    model_path: Path = Path()
    subset_name: str | None = None
    net_name: str | None = None
    mode: str | None = None
    members: tuple[Part, ...] | None = None
    reduce: Reduction | None = None
    normalize: Normalization | None = None
    recover: tuple[str, ...] | None = None
    target: Target = "params"
    latency: str = DEFAULT_BACKEND
    seed: int = 0
    remove_blocks: bool = False
    scope: Scope = Limits.scope
    min_channels: int = Limits.min_channels
    max_level: float | None = Limits.max_level
    round_to: int = Limits.round_to
    layers: Mapping[str, LayerLimits] = field(default_factory=dict)
    drop: tuple[str, ...] = ()
    strict: bool = False
    pruning_perc: tuple[float, ...] = ()
    to: tuple[Goal, ...] = ()
    count: int | None = None
    steps: int = 1
    shard_size: int = shard_size_of(SHARD_SIZE)

    @property
    def asked(self) -> tuple[float | Goal, ...]:
        """The levels, and what is to be left."""
        return (*self.pruning_perc, *self.to)

    @property
    def options(self) -> dict[str, Any]:
        """What is asked of each prune, by the names that `prunecore.prune` has for it."""
        return {
            "mode": self.mode,
            "target": self.target,
            "seed": self.seed,
            "limits": self.limits,
            "recover": self.recover,
            "scoring": Scoring(self.members, self.reduce, self.normalize),
            "steps": self.steps,
            "latency": self.latency,
        }

    @property
    def limits(self) -> Limits:
        """What has to stay."""
        return Limits(
            self.min_channels,
            self.remove_blocks,
            self.scope,
            self.max_level,
            self.round_to,
            self.layers,
        )


@dataclass(frozen=True)
class Config:
    """Everything that a job is asked for.

    Attributes:
        model: which network.
        dataset: a folder in that of all written sets.
        pruner: how to prune it.
        calibration: images without labels.
        others: the values of further sections, which commands of plugins have.
    """

    model: ModelConfig = ModelConfig()
    dataset: str | None = None
    pruner: PrunerConfig = PrunerConfig()
    calibration: Calibration | None = None
    others: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """Where the written sets lie."""
        inner = [name for name in (self.dataset, self.pruner.subset_name) if name]
        return self.pruner.project_dir.joinpath(self.pruner.model_path, *inner)


def read_config(
    file: Path,
    others: Mapping[str, Mapping[str, Reader]] | None = None,
    elsewhere: Collection[str] = (),
) -> Config:
    """Read a YAML file, or the sections of an `.ini` file that have the same names.

    Args:
        file: relative paths in it start at its folder.
        others: the sections of a YAML file that a plugin's command has beside these, by name; of
            each key what reads its value. Relative paths in them are made to start there, too.
        elsewhere: the sections of a YAML file that other commands read, and this one does not.

    Raises:
        UsageError: it cannot be read, or has a key or value that makes no sense.
    """
    raw = _read_ini(file) if file.suffix == ".ini" else _read_yaml(file)
    where = shown(file)
    model = read_model(raw.pop("model", None), file, "model")
    pruner = PrunerConfig(**_section(raw.pop("pruner", None), _PRUNER, f"{where}: pruner"))
    images = _section(raw.pop("calibration", None), _CALIBRATION, f"{where}: calibration")
    sections = {
        name: _section(raw.pop(name, None), readers, f"{where}: {name}")
        for name, readers in (others or {}).items()
    }
    for name in elsewhere:
        raw.pop(name, None)
    known = ("model", "pruner", "calibration", *sections)
    top = _section(raw, {"dataset": values.read_folder_name}, where, known)
    folder = file.parent
    if images and "images" not in images:
        raise UsageError(
            f"{where}: calibration: images are missing.\n"
            "Give images: FOLDER, or images: package.module:function."
        )
    if images and ":" not in images["images"]:
        images["images"] = str(folder / images["images"])
    return Config(
        model,
        top.get("dataset"),
        replace(pruner, project_dir=folder / pruner.project_dir),
        Calibration(**images) if images else None,
        {name: _from_folder(section, folder) for name, section in sections.items()},
    )


def read_model(raw: object, file: Path, where: str) -> ModelConfig:
    """Read what the section `model` has, or another place that names a network.

    Args:
        raw: the keys and values.
        file: that they are from; relative paths start at its folder.
        where: they stand in it.

    Raises:
        UsageError: there is a key or value that makes no sense.
    """
    where, folder = f"{shown(file)}: {where}", file.parent
    model = ModelConfig(**_section(raw, _MODEL, where))
    with named(where):
        values.check_inputs(model.input_shape, model.inputs)
    name = model.name
    if name and name.rpartition(":")[0].endswith(".py"):
        name = str(folder / name)
    return replace(model, name=name, weights=model.weights and folder / model.weights)


def _from_folder(section: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The values of a section, the paths among them from a folder."""
    return {
        key: folder / value if isinstance(value, Path) else value for key, value in section.items()
    }


def _section(
    raw: object, readers: Mapping[str, Reader], where: str, others: tuple[str, ...] = ()
) -> dict[str, Any]:
    """The checked values of one section; keys without a value are left out."""
    if raw is not None and not isinstance(raw, Mapping):
        first = next(iter(readers))
        raise UsageError(
            f"{where}: keys with values belong here, not {shown_value(raw)}.\n"
            f"Give {where.rpartition(' ')[2]}: {{{first}: {shown_value(raw)}}}."
        )
    read = {}
    for key, value in (raw or {}).items():
        if readers is _PRUNER and key in _OF_CALIBRATION:
            raise UsageError(
                f"{where}: {key}: calibration images have a section of their own.\n"
                "Give beside pruner: calibration: {images: FOLDER}."
            )
        if key not in readers:
            with named(where):
                raise unknown_name("key", str(key), [*readers, *others])
        if value is not None and value != "":
            with named(f"{where}: {key}"):
                read[key] = readers[key](value)
    return read


@contextmanager
def named(where: str) -> Iterator[None]:
    """Say in an error where the value stands."""
    try:
        yield
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from error


def _read_yaml(file: Path) -> dict[str, Any]:
    if file.suffix not in (".yaml", ".yml"):
        raise UsageError(f"{shown(file)}: a configuration is a .yaml, .yml or .ini file.")
    text = read_text(file, LONGEST)
    with named(shown(file)):
        raw = values.read_yaml(text)
        if raw is not None and not isinstance(raw, dict):
            raise UsageError(f"keys such as model and pruner belong here, not {shown_value(raw)}.")
    return raw or {}


def _read_ini(file: Path) -> dict[str, Any]:
    """The sections that are ours, as YAML would have them; other tools may own the others."""
    parser = configparser.ConfigParser(interpolation=None, inline_comment_prefixes=("#", ";"))
    where = shown(file)
    try:
        parser.read_string(read_text(file, LONGEST), source=file.name)
    except configparser.Error as error:
        raise UsageError(f"{where} is not an INI file: {reason_of(error)}") from error
    if not parser.has_section("pruner"):
        found = ", ".join(map(shown, parser.sections()[:SHOWN])) or "none"
        raise UsageError(f"{where} has no [pruner] section; its sections: {found}.")
    raw: dict[str, Any] = {}
    for section, readers in _SECTIONS.items():
        raw[section] = {}
        for key, text in parser[section].items() if parser.has_section(section) else ():
            with named(f"{where}: {section}: {shown(key)}"):
                plain = key not in readers or readers[key] in _OF_TEXT
                raw[section][key] = text if plain else values.read_yaml(text)
    if "dataset" in raw["pruner"]:
        raw["dataset"] = raw["pruner"].pop("dataset")  # an INI file has no place above sections
    return raw


_MODEL: dict[str, Reader] = {
    "name": values.read_text,
    "arguments": values.read_arguments,
    "weights": values.read_path,
    "input_shape": values.read_shapes,
    "inputs": values.read_inputs,
    "module": values.read_text,
}


_PRUNER: dict[str, Reader] = {
    "project_dir": values.read_path,
    "model_path": values.read_path,
    "subset_name": values.read_folder_name,
    "net_name": values.read_net_name,
    "mode": values.read_text,
    "members": values.read_members,
    "reduce": values.read_reduction,
    "normalize": values.read_normalization,
    "recover": values.read_steps,
    "target": values.read_target,
    "latency": values.read_text,
    "seed": values.read_seed,
    "remove_blocks": values.read_switch,
    "scope": values.read_scope,
    "min_channels": values.read_min_channels,
    "max_level": values.read_max_level,
    "round_to": values.read_round_to,
    "layers": values.read_layers,
    "drop": values.read_modules,
    "strict": values.read_switch,
    "pruning_perc": values.read_levels,
    "to": values.read_goals,
    "shard_size": shard_size_of,
    "count": values.read_count,
    "steps": values.read_step_count,
}


_CALIBRATION: dict[str, Reader] = {
    "images": values.read_images,
    "number": values.read_image_count,
    "size": values.read_size,
    "mean": values.read_numbers,
    "std": values.read_numbers,
    "seed": values.read_seed,
}


_OF_CALIBRATION = ("calibrate", "calibration", "images")  # what users look for in pruner


_SECTIONS = {"model": _MODEL, "pruner": _PRUNER, "calibration": _CALIBRATION}


_OF_TEXT = (
    values.read_text,
    values.read_images,
    values.read_path,
    values.read_folder_name,
    values.read_net_name,
    values.read_target,
    values.read_reduction,
    values.read_normalization,
    values.read_scope,
)
