"""A written network is trained on, with the original as its teacher, and is a set again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import nn

import prunecore
from prunecore.files.storage import read_report
from prunecore_train import Network, TrainConfig
from prunecore_train.config import DistillationConfig, Named
from prunecore_train.training.distillation import Features, Student


@pytest.fixture
def trained(job, run, folder: Path) -> Path:
    """The configuration of a network that is trained a little, pruned to half as small_50.py."""
    file = job(train={"epochs": 1})
    run("train", file, "--output", "out")
    model = {"weights": "out/small.safetensors", "input_shape": [1, 8, 8]}
    config = {"model": {"name": "net.py:small", **model}}
    (folder / "prune.yaml").write_text(json.dumps(config))
    run("prune", "--config", "prune.yaml", "--level", 50, "--output", ".")
    return job("tune.yaml", model=model, train={"epochs": 1})


def test_a_set_is_trained_and_is_one_again(trained: Path, run, folder: Path) -> None:
    before = json.loads(run("evaluate", "small_50.py", "--config", trained, "--json").stdout)
    result = run("finetune", "small_50.py", "--config", trained)
    assert result.stdout.splitlines()[-1] == (
        "Wrote small_50_trained.py and small_50_trained_training/outcome.json."
    )
    after = json.loads(run("evaluate", "small_50_trained.py", "--config", trained, "--json").stdout)
    told = json.loads((folder / "small_50_trained_training/outcome.json").read_text())
    assert after["test"] == told["test"]
    assert after["test"]["loss"] < before["test"]["loss"]
    assert (folder / "small_50_trained.py").read_text() == (folder / "small_50.py").read_text()
    old, new = (read_report(folder / f"small_50{end}.py") for end in ("", "_trained"))
    (step,) = new["recovered"]
    assert step["step"] == "trained"
    assert step["distilled"]
    assert step["changed"] == list(load_file(folder / "small_50.safetensors"))
    assert step["epochs"] == 1
    assert step["data"] == told["data"]
    assert {**new, "recovered": [], "fingerprint": None, "sha256": None} == {
        **old,
        "fingerprint": None,
        "sha256": None,
    }
    for options in ([], ["--no-run"]):
        said = run(
            "verify", "small_50_trained.py", "net.py:small",
            "--weights", "out/small.safetensors", *options,
        ).stdout  # fmt: skip
        assert "10 tensors were refitted, estimated anew or trained afterwards" in said


def test_a_set_that_was_trained_with_the_same_inputs_stays(trained: Path, run) -> None:
    first = json.loads(run("finetune", "small_50.py", "--config", trained, "--json").stdout)
    again = run("finetune", "small_50.py", "--config", trained)
    assert again.stderr.startswith("Skipped: ")
    told = json.loads(run("finetune", "small_50.py", "--config", trained, "--json").stdout)
    assert told == {**first, "resumed": True}


def test_a_killed_run_goes_on_to_the_same_set(
    trained: Path, job, run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = {"weights": "out/small.safetensors"}
    taught = {"logits": 0.3, "features": 1}
    config = job("long.yaml", model=model, train={"epochs": 2, "distillation": taught})
    run("finetune", "small_50.py", "--config", config, "--output", "whole.py")
    begin = Network.on_train_epoch_start

    def killed(self: Network) -> None:
        if self.current_epoch == 1:
            raise KeyboardInterrupt
        begin(self)

    arguments = ("finetune", "small_50.py", "--config", config, "--output", "part.py")
    with monkeypatch.context() as patch:
        patch.setattr(Network, "on_train_epoch_start", killed)
        run(*arguments, exit_code=1)
    assert not (folder / "part.py").exists()
    run(*arguments)
    whole, part = (load_file(folder / f"{name}.safetensors") for name in ("whole", "part"))
    assert all(torch.equal(whole[name], part[name]) for name in whole)
    assert read_report(folder / "whole.py") == read_report(folder / "part.py")


def test_without_the_original_it_learns_from_labels(trained: Path, job, run, folder: Path) -> None:
    config = job("alone.yaml", train={"epochs": 1})
    config.write_text(config.read_text().replace("  name: net.py:small\n", "  name: null\n"))
    told = json.loads(run("finetune", "small_50.py", "--config", config, "--json").stdout)
    assert not told["distilled"]


def test_the_original_is_told_from_others(trained: Path, job, run) -> None:
    other = job("other.yaml", model={"arguments": {"width": 4}})
    said = run("finetune", "small_50.py", "--config", other, exit_code=1).stderr
    assert "small_50.py was not made from this network" in said
    untrained = job("untrained.yaml")
    said = run("finetune", "small_50.py", "--config", untrained, exit_code=1).stderr
    assert "does not hold what its report says is kept" in said


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["finetune", "small_50.py"], "On which data?\nGive --config FILE, with a section data."),
        (["evaluate", "none.py", "--config", "tune.yaml"], "There is no file none.py."),
        (["evaluate", "net.py", "--config", "tune.yaml"], "net.json is not the report of a writ"),
    ],
)
def test_what_cannot_be_is_said(trained: Path, run, arguments: list[str], says: str) -> None:
    result = run(*arguments, exit_code=2 if "net.py" not in arguments else 1)
    assert says in result.stderr


def test_a_set_that_exists_is_not_replaced(trained: Path, run, folder: Path) -> None:
    arguments = ("finetune", "small_50.py", "--config", trained, "--output", "small_50.py")
    assert "small_50.py exists, of another network" in run(*arguments, exit_code=2).stderr
    run(*arguments, "--force")
    (step,) = read_report(folder / "small_50.py")["recovered"]
    assert step["step"] == "trained"


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Conv2d(8, 6, 3), nn.Flatten(), nn.Linear(96, 5)
    )


def test_features_are_compared_with_those_of_the_kept_channels() -> None:
    teacher = network()
    small = prunecore.prune(teacher, level=40, input_shape=(1, 8, 8))
    student = small.model
    features = Features(student, teacher, small.report)
    x = torch.rand(4, 1, 8, 8)
    student(x), teacher(x)
    kept = [small.report["kept"][f"{place}.weight"][0] for place in (0, 2)]
    seen = [
        (nn.Sequential(*ours)(x), nn.Sequential(*theirs)(x)[:, kept[number]])
        for number, (ours, theirs) in enumerate(
            (list(student)[:end], list(teacher)[:end]) for end in (1, 3)
        )
    ]
    expected = [F.mse_loss(ours, theirs) / theirs.square().mean() for ours, theirs in seen]
    student(x), teacher(x)
    loss = features.loss()
    ends = F.mse_loss(student(x), teacher(x)) / teacher(x).square().mean()
    torch.testing.assert_close(loss, (sum(expected) + ends) / 3)
    assert expected[0] == 0  # of the first layer, what is kept is what the original makes


def test_logits_are_softened() -> None:
    teacher, student = network(), network()
    nn.init.normal_(student[4].weight)
    config = TrainConfig(loss=Named("cross_entropy"))
    made = Student(student, config, 5, teacher, DistillationConfig(0.25, 2.0), {"groups": []})
    x, labels = torch.rand(4, 1, 8, 8), torch.tensor([0, 1, 2, 3])
    outputs = student(x)
    soft = F.softmax(teacher(x) / 2, 1)
    divergence = (soft * (soft.log() - F.log_softmax(outputs / 2, 1))).sum(1).mean()
    expected = 0.75 * F.cross_entropy(outputs, labels) + 0.25 * 4 * divergence
    torch.testing.assert_close(made.step_loss(x, outputs, labels), expected)
    assert not any(name.startswith("_teacher") for name in made.state_dict())


def test_one_file_serves_all_commands(job, run, folder: Path) -> None:
    model = {"weights": "out/small.safetensors", "input_shape": [1, 8, 8]}
    run("train", job(train={"epochs": 1}), "--output", "out")
    file = job(model=model, pruner={"pruning_perc": 40}, train={"epochs": 1}, adapt={"lower": 30})
    run("prune", "--config", file)
    run("finetune", "small_40.py", "--config", file)
    run("evaluate", "small_40_trained.py", "--config", file)
