"""The highest level that a subset allows is found, its network written, and nothing is lost."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from prunecore.files.storage import read_report
from prunecore.files.weights import read_weights
from prunecore.writing.building import import_file, network_of
from prunecore_train import Network
from prunecore_train.config import AdaptConfig
from prunecore_train.jobs import adapt as adapt_job
from prunecore_train.jobs.search import highest


@given(st.integers(0, 60), st.integers(0, 60))
def test_the_highest_level_is_found_in_few_probes(count: int, held: int) -> None:
    levels, tried = list(range(1, count + 1)), []

    def holds(level: float) -> bool:
        tried.append(level)
        return level <= held

    best = min(count, held)
    assert highest(levels, holds) == (best or None)
    assert len(tried) <= math.ceil(math.log2(count + 1))
    assert len(set(tried)) == len(tried)


def test_adapt_s_own_levels_take_five_probes_and_begin_in_the_middle() -> None:
    levels = AdaptConfig().searched
    assert levels == tuple(range(5, 100, 5))
    tried: list[float] = []

    def holds(level: float) -> bool:
        tried.append(level)
        return True

    assert highest(levels, holds) == 95
    assert tried == [50, 75, 90, 95]


def test_levels_of_a_step_are_as_they_are_written() -> None:
    config = AdaptConfig(lower=0.1, upper=0.7, step=0.2)
    assert config.searched == (0.1, 0.3, 0.5, 0.7)
    assert AdaptConfig(lower=10, upper=24, step=5).searched == (10, 15, 20)


@pytest.fixture
def searching(job: Callable[..., Path], run: Any) -> Path:
    """The configuration of a search, of a network that was trained a little."""
    wide = {"arguments": {"width": 24}}
    run("train", job("train.yaml", model=wide, train={"epochs": 4}), "--output", "out")
    return job(
        "adapt.yaml",
        model={"weights": "out/small.safetensors", **wide},
        data={"sub_classes": [1, 4, 7], "subset_name": "ones"},
        train={"epochs": 2},
        adapt={"finetune_epochs": 2, "step": 15, "lower": 20},
    )


def test_a_subset_is_searched(searching: Path, run: Any, folder: Path) -> None:
    result = run("adapt", searching)
    outcome = json.loads((folder / "small_adapted/outcome.json").read_text())
    history = json.loads((folder / "small_adapted/history.json").read_text())
    levels = [probe["level"] for probe in history["probes"]]
    assert levels[0] == 65  # the middle of 20, 35, 50, 65, 80, 95
    assert outcome["level"] == max(probe["level"] for probe in history["probes"] if probe["holds"])
    for probe in history["probes"]:
        found = (probe["trained"] or probe["refitted"])["top-1"]
        assert probe["holds"] == (found >= history["unpruned"]["top-1"])
        assert (probe["trained"] is None) == (probe["epochs"] == 0)
        if probe["trained"] is None:  # it held at once
            assert probe["holds"]
    name = f"small_{outcome['level']:g}"
    assert result.stdout.splitlines()[-1] == (
        f"Wrote small_adapted/{name}.py and small_adapted/outcome.json."
    )
    assert f"level: {outcome['level']:g} % of params" in result.stdout
    evaluated = run("evaluate", f"small_adapted/{name}.py", "--config", searching, "--json")
    assert json.loads(evaluated.stdout)["test"] == outcome["test"]
    picture = (folder / "small_adapted/accuracy.svg").read_text()
    assert "Multiply-accumulates" in picture
    tried = [line.split()[1] for line in result.stderr.splitlines() if line.startswith("Level ")]
    assert [float(level) for level in tried] == levels


def test_a_head_for_the_subset_names_its_classes(
    searching: Path, job: Any, run: Any, folder: Path
) -> None:
    content = searching.read_text()
    searching.write_text(
        content.replace("finetune_epochs: 2", "finetune_epochs: 1\n  shrink_head: true")
    )
    run("adapt", searching)
    outcome = json.loads((folder / "small_adapted/outcome.json").read_text())
    file = folder / f"small_adapted/small_{outcome['level']:g}.py"
    assert import_file(file).CLASSES == {1: "1", 4: "4", 7: "7"}
    weights = dict(read_weights(file.with_suffix(".safetensors")))
    network = network_of(file, "small", weights).eval()
    assert network(torch.rand(2, 1, 8, 8)).shape == (2, 3)
    run("evaluate", file, "--config", searching)
    said = run(
        "verify", file, "small_adapted/finetuned/small.py:small",
        "--weights", "small_adapted/finetuned/small.safetensors", "--input-shape", "1,8,8",
    ).stdout  # fmt: skip
    assert "computes what" in said


def test_a_search_that_was_done_stays(searching: Path, run: Any) -> None:
    first = json.loads(run("adapt", searching, "--json").stdout)
    again = json.loads(run("adapt", searching, "--json").stdout)
    assert again == {**first, "resumed": True}
    assert run("adapt", searching).stderr.startswith("Skipped: ")
    anew = json.loads(run("adapt", searching, "--json", "--force").stdout)
    assert anew == first


@pytest.mark.parametrize("place", ["finetune", "prune", "train", "test"])
def test_a_killed_search_goes_on_to_the_same_result(
    place: str, searching: Path, run: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = searching.read_text().replace("lower: 20", "lower: 90\n  upper: 90\n  tolerance: 0.4")
    content = content.replace("epochs: 2", "epochs: 6", 1).replace("lr: 0.1", "lr: 0.03")
    searching.write_text(
        f"{content}\npruner: {{recover: none, mode: random}}\n"
    )  # so that it is trained
    whole = json.loads(run("adapt", searching, "--output", "whole", "--json").stdout)
    assert whole["probes"][0]["epochs"]
    begun: list[int] = []

    class Killed(Exception):
        pass

    def killed(*_: Any, **__: Any) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        if place in ("finetune", "train"):
            begin = Network.on_train_epoch_start

            def on_train_epoch_start(self: Network) -> None:
                begun.append(self.current_epoch)
                if len(begun) == (2 if place == "finetune" else 4):
                    raise Killed
                begin(self)

            patch.setattr(Network, "on_train_epoch_start", on_train_epoch_start)
        else:
            name = "judge" if place == "test" else "fit"
            home = adapt_job if place == "test" else "prunecore_train.jobs.probes"
            if place == "test":
                patch.setattr(home, name, killed)
            else:
                patch.setattr(f"{home}.{name}", killed)
        run("adapt", searching, "--output", "part", exit_code=1)
    resumed = json.loads(run("adapt", searching, "--output", "part", "--json").stdout)
    assert resumed == whole
    for end in ("py", "safetensors"):
        files = (folder / f"{name}/small_90.{end}" for name in ("whole", "part"))
        first, second = (file.read_bytes() for file in files)
        assert first == second
    assert read_report(folder / "part/small_90.py")["recovered"][-1]["step"] == "trained"


DIVERGING = """\
import torch.nn.functional as F

calls = []


def loss(outputs, labels, last):
    calls.append(1)
    return F.cross_entropy(outputs, labels) * (float("nan") if len(calls) > last else 1)
"""


@pytest.mark.parametrize(
    ("last", "training", "checkpoint"),
    [
        (10, "Fine-tuning on the subset", "finetuned/checkpoints"),
        (38, "Training at level 90, of small_adapted/probes/small_90.py", "small_90_checkpoints"),
    ],
    ids=["finetune", "probe"],
)
def test_a_training_whose_loss_is_no_number_is_named(
    last: int, training: str, checkpoint: str, job: Any, run: Any, folder: Path
) -> None:
    (folder / "diverging.py").write_text(DIVERGING)
    file = job(
        model={"arguments": {"width": 24}},
        data={"sub_classes": [1, 4, 7]},
        train={"epochs": 7, "loss": {"name": "diverging.py:loss", "last": last}},
        pruner={"recover": "none", "mode": "random"},
        adapt={"finetune_epochs": 5, "lower": 90, "upper": 90},
    )
    error = run("adapt", file, exit_code=1).stderr
    assert f"Error: {training}: The loss is no finite number (NaN or infinity) in epoch " in error
    assert f"{checkpoint}/last.ckpt.\n" in error
    assert (folder / error.split("checkpoint is ")[1].splitlines()[0].rstrip(".")).is_file()


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.7, 0.9])
def test_a_disk_that_is_full_at_any_time_loses_nothing(
    share: float, job: Any, run: Any, filling: Any
) -> None:
    file = job(
        model={"arguments": {"width": 24}},
        data={"sub_classes": [1, 4, 7]},
        train={"epochs": 3, "optimizer": {"name": "SGD", "lr": 0.3}},
        pruner={"recover": "none", "mode": "random"},
        adapt={"finetune_epochs": 4, "lower": 80, "upper": 90, "tolerance": 0.6},
    )
    with filling() as written:
        whole = json.loads(run("adapt", file, "--output", "whole", "--json").stdout)
    with filling(int(share * len(written))):
        error = run("adapt", file, "--output", "part", exit_code=1).stderr
    assert ": No space left on device.\n" in error
    assert error.endswith("and start again: what was done until then is kept.\n")
    assert json.loads(run("adapt", file, "--output", "part", "--json").stdout) == whole


def test_no_level_that_holds_is_told(searching: Path, run: Any, folder: Path) -> None:
    content = searching.read_text()
    content = content.replace("lower: 20", "lower: 95").replace("lr: 0.1", "lr: 0.0001")
    searching.write_text(f"{content}\npruner: {{recover: none}}\n")
    error = run("adapt", searching, exit_code=1).stderr
    assert "No level from 95 to 95 keeps the top-1 at" in error
    assert "tolerance" in error
    history = json.loads((folder / "small_adapted/history.json").read_text())
    assert [probe["holds"] for probe in history["probes"]] == [False]
    assert not (folder / "small_adapted/outcome.json").exists()


def test_what_was_tried_is_not_tried_again_within_other_bounds(
    searching: Path, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = searching.read_text()
    searching.write_text(content.replace("lower: 20", "lower: 65").replace("step: 15", "step: 30"))
    first = json.loads(run("adapt", searching, "--json").stdout)
    searching.write_text(content.replace("lower: 20", "lower: 65").replace("step: 15", "step: 15"))
    error = run("adapt", searching, exit_code=2).stderr
    assert "another" in error
    assert first["level"] in (65, 95)


@pytest.mark.parametrize(
    ("section", "told"),
    [
        ({"lower": 80, "upper": 20}, "lower is 80, above upper, 20"),
        ({"lower": 0}, "level"),
        ({"lower": 20, "upper": 40, "step": 30}, "step is 30, and from lower to upper are 20"),
        ({"step": 0}, "levels are apart by"),
        ({"tolerance": 1}, "takes any network"),
        ({"shrink_head": True}, "all are kept"),
        ({"tolerance": -1}, "how far the metric may fall"),
        ({"lowr": 5}, "lower"),
        ({"images": 1}, "number of images"),
        ({"finetune_epochs": -1}, "whole number from 0"),
    ],
)
def test_bounds_that_make_no_sense_are_refused(
    section: dict[str, Any], told: str, job: Any, run: Any
) -> None:
    error = run("adapt", job(adapt=section), exit_code=2).stderr
    assert told in error
    assert len(error.splitlines()) <= 3


def test_a_mode_that_is_not_known_is_told_before_any_training(job: Any, run: Any) -> None:
    error = run("adapt", job(pruner={"mode": "l1norm"}), exit_code=2).stderr
    assert "l1-norm" in error
    assert "Epoch" not in error


def test_what_a_subset_brings_is_told(searching: Path, run: Any, folder: Path) -> None:
    content = searching.read_text()
    searching.write_text(
        content.replace("finetune_epochs: 2", "finetune_epochs: 1\n  levels: [80]")
    )
    said = run("compare", searching).stdout
    outcome = json.loads((folder / "small_compared/outcome.json").read_text())
    (row,) = outcome["levels"]
    points = 100 * (row["with"]["test"]["top-1"] - row["without"]["test"]["top-1"])
    assert said.splitlines()[0].endswith(f"{points:+.2f} points")
    assert row["with"]["params"] == pytest.approx(row["without"]["params"], rel=0.1)
    assert row["with"]["epochs"] == row["without"]["epochs"] == 2
    assert run("compare", searching).stderr.startswith("Skipped: ")


def test_a_comparison_needs_a_subset(job: Any, run: Any) -> None:
    error = run("compare", job(), exit_code=2).stderr
    assert "keeps all classes" in error
    assert "sub_classes" in error
