"""Configurations: YAML and INI, defaults, paths, and every mistake in them."""

from __future__ import annotations

from pathlib import Path

import pytest

from prunecore.calibration import Calibration
from prunecore.errors import UsageError
from prunecore.files.config import Config, ModelConfig, PrunerConfig, read_config
from prunecore.planning.goal import read_goal
from prunecore.planning.request import Limits

WHOLE = """
model:
  name: resnet18
  arguments: {num_classes: 100}
  weights: weights/resnet18_cifar100.safetensors
  input_shape: [3, 32, 32]
dataset: cifar100
pruner:
  project_dir: .
  model_path: models/pruned
  subset_name: aquatic
  mode: random
  members: [consumers, norms]
  reduce: sum
  normalize: group
  pruning_perc: [10, 30, 50]
"""


def written(folder: Path, text: str, name: str = "run.yaml") -> Path:
    file = folder / name
    file.write_text(text, encoding="utf-8")
    return file


def test_a_whole_configuration(tmp_path: Path) -> None:
    config = read_config(written(tmp_path, WHOLE))
    assert config == Config(
        ModelConfig(
            "resnet18",
            {"num_classes": 100},
            tmp_path / "weights/resnet18_cifar100.safetensors",
            ((3, 32, 32),),
        ),
        "cifar100",
        PrunerConfig(
            project_dir=tmp_path,
            model_path=Path("models/pruned"),
            subset_name="aquatic",
            mode="random",
            members=("consumers", "norms"),
            reduce="sum",
            normalize="group",
            pruning_perc=(10.0, 30.0, 50.0),
        ),
    )
    assert config.folder == tmp_path / "models/pruned/cifar100/aquatic"


def test_goals_and_limits(tmp_path: Path) -> None:
    text = """
    pruner:
      pruning_perc: 30
      to: [5M-params, 1G-macs, 5M-params]
      scope: group
      min_channels: 4
      max_level: 70
      round_to: 8
      layers: {"layer4.*": {max_level: 30, min_channels: 16}, "stem*": keep}
    """
    pruner = read_config(written(tmp_path, text)).pruner
    assert pruner.asked == (30.0, read_goal("5M-params"), read_goal("1G-macs"))
    assert pruner.limits == Limits(
        min_channels=4,
        scope="group",
        max_level=70,
        round_to=8,
        layers={"layer4.*": {"max_level": 30, "min_channels": 16}, "stem*": "keep"},
    )


def test_goals_in_an_ini_file(tmp_path: Path) -> None:
    text = "[pruner]\nto = 5M-params, 12MB\nscope = group\nlayers = {fc: keep}\n"
    pruner = read_config(written(tmp_path, text, "run.ini")).pruner
    assert pruner.asked == (read_goal("5M-params"), read_goal("12MB"))
    assert (pruner.scope, pruner.layers) == ("group", {"fc": "keep"})


def test_an_empty_configuration_is_the_default_one_in_its_own_folder(tmp_path: Path) -> None:
    config = read_config(written(tmp_path, ""))
    assert config == Config(pruner=PrunerConfig(project_dir=tmp_path))
    assert config.folder == tmp_path


def test_sections_that_other_commands_read_are_passed_over(tmp_path: Path) -> None:
    file = tmp_path / "job.yaml"
    file.write_text("model: {name: resnet18}\ndata: {name: 3}\n")
    with pytest.raises(UsageError, match="Unknown key 'data'"):
        read_config(file)
    assert read_config(file, elsewhere=["data", "train"]).model.name == "resnet18"


def test_without_a_dataset_or_subset_their_folders_are_left_out() -> None:
    assert Config().folder == Path()
    assert Config(dataset="mnist").folder == Path("mnist")
    assert Config(pruner=PrunerConfig(subset_name="odd")).folder == Path("odd")


def test_a_factory_s_file_is_beside_the_configuration(tmp_path: Path) -> None:
    config = read_config(written(tmp_path, "model: {name: 'nets/own.py:make'}"))
    assert config.model.name == f"{tmp_path / 'nets/own.py'}:make"


@pytest.mark.parametrize("levels", ["10, 30, 50", "[10, 30, 50]"])
def test_an_ini_file_with_the_same_keys(tmp_path: Path, levels: str) -> None:
    text = f"""
[pruner]
project_dir = out
model_path = models
dataset = cifar100
subset_name = 100
net_name = small
seed = 3
remove_blocks = true
members = norms,producers
normalize = none
count = 2
pruning_perc = {levels}  ; in percent
[training]
epochs = 5
"""
    config = read_config(written(tmp_path, text, "run.ini"))
    assert config == Config(
        dataset="cifar100",
        pruner=PrunerConfig(
            project_dir=tmp_path / "out",
            model_path=Path("models"),
            subset_name="100",
            net_name="small",
            seed=3,
            remove_blocks=True,
            members=("norms", "producers"),
            normalize="none",
            pruning_perc=(10.0, 30.0, 50.0),
            count=2,
        ),
    )


def test_an_ini_file_may_name_the_model_too(tmp_path: Path) -> None:
    text = "[model]\nname = resnet18\narguments = {num_classes: 10}\n[pruner]\n"
    config = read_config(written(tmp_path, text, "run.ini"))
    assert config.model == ModelConfig("resnet18", {"num_classes": 10})


def test_calibration_in_an_ini_file(tmp_path: Path) -> None:
    text = """
[pruner]
[calibration]
images = photographs  ; a folder
number = 16
size = 24
mean = 0.5, 0.5, 0.5
std = [0.2, 0.2, 0.2]
seed = 3
"""
    config = read_config(written(tmp_path, text, "run.ini"))
    assert config.calibration == Calibration(
        str(tmp_path / "photographs"), 16, (24, 24), (0.5, 0.5, 0.5), (0.2, 0.2, 0.2), 3
    )
    assert config == read_config(
        written(
            tmp_path,
            "calibration: {images: photographs, number: 16, size: 24, mean: [0.5, 0.5, 0.5], "
            "std: [0.2, 0.2, 0.2], seed: 3}",
        )
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("pruner: {pruning_per: 3}", r"pruner: Unknown key 'pruning_per'.*'pruning_perc'\?"),
        ("prunner: {}", r"Unknown key 'prunner'.*'pruner'\?"),
        ("model: {weigths: a.pt}", r"model: Unknown key 'weigths'.*'weights'\?"),
        ("3: 4", "Unknown key '3'"),
        ("pruner: {pruning_perc: 0}", "pruning_perc: a level is .* not 0"),
        ("pruner: {pruning_perc: [50, 100]}", "pruning_perc: a level is .* not 100"),
        ("pruner: {pruning_perc: true}", "pruning_perc: a level is .* not True"),
        ("pruner: {pruning_perc: {a: 1}}", "pruning_perc: a level is"),
        ("pruner: {pruning_perc: '__import__(\"os\")'}", "pruning_perc: a level is"),
        ("pruner: {pruning_perc: []}", "pruning_perc: there is no level"),
        ("pruner: {subset_name: ../up}", "subset_name: it must be a plain folder name"),
        ("pruner: {subset_name: /etc}", "subset_name: it must be a plain folder name"),
        ("pruner: {subset_name: 7}", "subset_name: text belongs here, not 7"),
        ("dataset: ..", "dataset: it must be a plain folder name"),
        ("pruner: {net_name: a/b}", "net_name: a network's name is a Python name"),
        ("pruner: {mode: [l1]}", "mode: text belongs here"),
        ("pruner: {target: flops}", r"target: Unknown target 'flops'"),
        ("pruner: {members: [norm]}", r"members: Unknown member 'norm'.*'norms'"),
        ("pruner: {reduce: median}", r"reduce: Unknown reduction 'median'"),
        ("pruner: {normalize: [group]}", "normalize: text belongs here"),
        ("pruner: {to: []}", "to: there is no goal in the list"),
        ("pruner: {to: 5000000}", "to: 5000000 is no goal"),
        ("pruner: {to: [5M-params, 5M-flops]}", "to: Unknown unit '-flops'|to: Unknown unit 'M-fl"),
        ("pruner: {scope: local}", "scope: Unknown scope 'local'"),
        ("pruner: {scope: 3}", "scope: text belongs here"),
        ("pruner: {min_channels: 0}", "min_channels: min_channels is 0"),
        ("pruner: {max_level: 101}", "max_level: max_level is 101"),
        ("pruner: {round_to: true}", "round_to: round_to is True"),
        ("pruner: {layers: [a]}", r"layers: layers is \['a'\]"),
        ("pruner: {layers: {a: 30}}", "layers: The limit of 'a' is 30"),
        ("pruner: {layers: {a: {}}}", "layers: The limit of 'a' is {}"),
        ("pruner: {layers: {3: keep}}", "layers: The limit of 3 is 'keep'"),
        ("pruner: {layers: {a: {max_lvl: 3}}}", "layers: Unknown limit 'max_lvl'.*'max_level'"),
        ("pruner: {layers: {a: {max_level: 0}}}", "layers: max_level of 'a' is 0"),
        ("pruner: {layers: {a: {min_channels: x}}}", "layers: min_channels of 'a' is 'x'"),
        ("pruner: {seed: x}", "seed: a seed is a whole number"),
        ("pruner: {remove_blocks: maybe}", "remove_blocks: it is either true or false"),
        ("pruner: {count: 0}", "count: a count is a whole number from 1 to 10,000, not 0"),
        ("pruner: {count: true}", "count: a count is"),
        ("pruner: {project_dir: 3}", "project_dir: text belongs here"),
        ("model: {input_shape: [3, 0]}", "input_shape: an input shape is"),
        ("model: {arguments: [1]}", "arguments: arguments are names"),
        ("model: resnet18", "model: keys .* not 'resnet18'.*Give model: {name: 'resnet18'}"),
        ("calibration: photographs", r"Give calibration: {images: 'photographs'}\."),
        ("pruner: {calibrate: a}", r"calibrate: calibration .* calibration: {images: FOLDER}\."),
        ("pruner: {images: a}", "pruner: images: calibration images have a section"),
        ("calibrate: {images: a}", r"Unknown key 'calibrate'.*'calibration'\?"),
        ("pruner: {recover: refitt}", "recover: Unknown step 'refitt'.*data-free, none, refit"),
        ("- a", "keys such as model and pruner belong here"),
        ("pruner: [1", "cannot be read as YAML: .* in line 1"),
        ("pruner: !!python/object/apply:os.getcwd []", "cannot be read as YAML"),
    ],
)
def test_a_mistake_is_named_with_file_and_key(tmp_path: Path, text: str, message: str) -> None:
    file = written(tmp_path, text)
    with pytest.raises(UsageError, match=f"(?s){message}") as caught:
        read_config(file)
    assert str(caught.value).startswith(str(file))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[prune]\nmode = random", r"has no \[pruner\] section; its sections: prune"),
        ("mode = random", "not an INI file: File contains no section headers"),
        ("[pruner]\n[pruner]", "not an INI file"),
        ("[pruner]\nmodel_pth = x", "Unknown key 'model_pth'"),
        ("[pruner]\n[calibration]\nnumber = 16", "calibration: images are missing"),
        ("[pruner]\n[calibration]\nimage = x", "calibration: Unknown key 'image'.*'images'"),
        ("[pruner]\npruning_perc = 10; 20, 101", "pruning_perc: a level is"),
        ("[pruner]\npruning_perc = [1", "pruner: pruning_perc: this cannot be read as YAML"),
        ("[pruner]\nsubset_name = ..", "subset_name: it must be a plain folder name"),
    ],
)
def test_a_mistake_in_an_ini_file(tmp_path: Path, text: str, message: str) -> None:
    file = written(tmp_path, text, "run.ini")
    with pytest.raises(UsageError, match=message) as caught:
        read_config(file)
    assert str(caught.value).startswith(str(file))


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"Cannot read .*none.yaml: no such file"):
        read_config(tmp_path / "none.yaml")
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="UTF-8"):
        read_config(tmp_path / "bytes.yaml")
    with pytest.raises(UsageError, match=r"a \.yaml, \.yml or \.ini file"):
        read_config(tmp_path / "run.toml")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("run.yaml", "model:\n  inputs:\n    tokens: int64[8]<30\n    scale: 2.0\n"),
        ("run.yaml", "model: {inputs: ['tokens:int64[8]<30', scale=2.0]}"),
        (
            "run.ini",
            "[model]\ninputs = {tokens: 'int64[8]<30', scale: 2.0}\n[pruner]\npruning_perc = 3",
        ),
    ],
)
def test_typed_inputs(tmp_path: Path, name: str, text: str) -> None:
    inputs = read_config(written(tmp_path, text, name)).model.inputs
    assert inputs is not None
    assert inputs.as_dict() == {
        "shapes": [],
        "named": {"tokens": "int64[8]<30", "scale": {"value": 2.0}},
    }


def test_inputs_by_their_shapes_and_by_their_types(tmp_path: Path) -> None:
    file = written(tmp_path, "model: {input_shape: [3], inputs: 'float[3]'}")
    with pytest.raises(UsageError, match="model: Both an input shape and inputs are given"):
        read_config(file)
