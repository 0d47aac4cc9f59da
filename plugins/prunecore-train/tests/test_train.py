"""A network is trained from the shell, and a run that was killed goes on to the same result."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch.utils.data import default_collate

from prunecore.cli import load
from prunecore.errors import PrunecoreError
from prunecore_train import Data, DataConfig, Network, writing
from prunecore_train.jobs import training


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from prunecore.cli.main import main\n"
        "try: main(['--help'], prog_name='prunecore')\n"
        "except SystemExit: pass\n"
        "slow = {'torch', 'lightning', 'torchmetrics', 'sklearn', 'prunecore_train'}\n"
        "sys.exit(', '.join(slow & sys.modules.keys()) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "\n  train " in done.stdout


@pytest.mark.parametrize("command", ["train", "finetune", "evaluate"])
def test_help_of_a_command_imports_no_torch(command: str) -> None:
    code = (
        "import sys; from prunecore.cli.main import main\n"
        f"try: main([{command!r}, '--help'], prog_name='prunecore')\n"
        "except SystemExit: pass\n"
        "slow = {'torch', 'lightning', 'torchmetrics', 'sklearn'}\n"
        "sys.exit(', '.join(slow & sys.modules.keys()) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_network_is_trained(job, run, folder: Path) -> None:
    file = job(train={"epochs": 4})
    result = run("train", file, "--output", "out")
    told = json.loads((folder / "out/outcome.json").read_text())
    assert told["test"]["top-1"] > 0.5
    assert result.stdout == (
        f"validation: loss {told['validation']['loss']:.3g}, "
        f"top-1 {100 * told['validation']['top-1']:.2f} %, "
        f"top-5 {100 * told['validation']['top-5']:.2f} %\n"
        f"test: loss {told['test']['loss']:.3g}, top-1 {100 * told['test']['top-1']:.2f} %, "
        f"top-5 {100 * told['test']['top-5']:.2f} %\n"
        "Wrote out/small.safetensors and out/outcome.json.\n"
    )
    assert [row["epoch"] for row in told["history"]] == [1, 2, 3, 4]
    assert {*told["history"][0]} == {"epoch", "train loss", "val loss", "val top-1", "val top-5"}
    best = max(told["history"], key=lambda row: row["val top-1"])
    assert told["best_epoch"] == best["epoch"]
    weights = load_file(folder / "out/small.safetensors")
    assert weights["0.weight"].shape == (8, 1, 3, 3)
    again = json.loads(run("train", file, "--output", "out", "--json").stdout)
    assert again == {**told, "resumed": True}


@pytest.mark.parametrize(
    "schedule",
    ["cosine", {"name": "step", "step_size": 1, "gamma": 0.5}, "none"],
    ids=["cosine", "step", "none"],
)
def test_a_killed_run_goes_on_to_the_same_result(
    job, run, folder: Path, monkeypatch: pytest.MonkeyPatch, schedule: Any
) -> None:
    file = job(train={"epochs": 3, "schedule": schedule})
    whole = json.loads(run("train", file, "--output", "whole", "--json").stdout)
    ended = Network.on_train_epoch_start

    def killed(self: Network) -> None:
        if self.current_epoch == 2:
            raise KeyboardInterrupt
        ended(self)

    with monkeypatch.context() as patch:
        patch.setattr(Network, "on_train_epoch_start", killed)
        assert run_killed("train", file, "--output", "part")
    assert (folder / "part/checkpoints/last.ckpt").is_file()
    assert not (folder / "part/outcome.json").exists()
    part = json.loads(run("train", file, "--output", "part", "--json").stdout)
    assert part == whole
    first, second = (load_file(folder / name / "small.safetensors") for name in ("whole", "part"))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_the_loss_of_a_part_is_the_mean_over_its_images(job, run, folder: Path) -> None:
    """The last batch is a smaller one."""
    file = job(train={"epochs": 1})
    told = json.loads(run("train", file, "--output", "out", "--json").stdout)
    model = load("net.py:small", {}, folder / "out/small.safetensors", 0).model.eval()
    part = Data(DataConfig(name="digits")).part("test")
    images, labels = default_collate([part[0, place] for place in range(len(part))])
    with torch.no_grad():
        expected = F.cross_entropy(model(images), labels)
    assert told["test"]["loss"] == pytest.approx(float(expected), rel=1e-5)


def run_killed(*arguments: object) -> bool:
    """True of a command that was interrupted."""
    from click.testing import CliRunner

    from prunecore.cli.main import main

    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    return result.exit_code != 0


def test_a_checkpoint_of_another_network_is_refused(job, run, folder: Path) -> None:
    run("train", job(), "--output", "out")
    other = job("other.yaml", model={"arguments": {"width": 4}})
    said = run("train", other, "--output", "out", exit_code=2).stderr
    assert said.startswith("Error: out/outcome.json is of another network, other data, ")
    (folder / "out/outcome.json").unlink()
    said = run("train", other, "--output", "out", exit_code=2).stderr
    assert said.startswith("Error: out/checkpoints/last.ckpt is of another network, ")
    told = json.loads(run("train", other, "--output", "out", "--force", "--json").stdout)
    assert told["epochs"] == 2
    (folder / "out/outcome.json").unlink()
    (folder / "out/checkpoints/last.ckpt").write_bytes(b"nothing")
    said = run("train", other, "--output", "out", exit_code=1).stderr
    assert said.startswith("Error: out/checkpoints/last.ckpt is no checkpoint of a training.\n")


def test_a_loss_that_is_no_number_stops(job, run, folder: Path) -> None:
    (folder / "odd.py").write_text(
        "import torch.nn.functional as F\n"
        "calls = []\n"
        "def loss(outputs, labels):\n"
        "    calls.append(1)\n"
        "    return F.cross_entropy(outputs, labels) * (float('nan') if len(calls) > 40 else 1)\n"
    )
    said = run("train", job(train={"epochs": 9, "loss": "odd.py:loss"}), exit_code=1).stderr
    assert said.startswith("Error: The loss is no finite number (NaN or infinity) in epoch 2; the ")
    assert "small_trained/checkpoints/last.ckpt" in said


LOSS = """\
import torch.nn.functional as F


def loss(outputs, labels):
    return F.cross_entropy(outputs, labels)
"""
BLOBS = """\
import torch


def blobs():
    labels = torch.arange(400) % 10
    return torch.utils.data.TensorDataset(torch.rand(400, 1, 8, 8), labels)
"""


@pytest.mark.parametrize("place", ["own.py", "own"])
@pytest.mark.parametrize("what", ["loss", "data"])
def test_functions_of_one_s_own_count_by_what_their_file_holds(
    job, run, folder: Path, monkeypatch: pytest.MonkeyPatch, what: str, place: str
) -> None:
    monkeypatch.delitem(sys.modules, "own", raising=False)
    code = LOSS if what == "loss" else BLOBS
    (folder / "own.py").write_text(code)
    sections: dict[str, Any] = {"train": {"epochs": 1}, "data": {}}
    if what == "loss":
        sections["train"]["loss"] = f"{place}:loss"
    else:
        sections["data"]["name"] = f"{place}:blobs"
    file = job(**sections)
    run("train", file)
    assert run("train", file).stderr.startswith("Skipped: ")
    (folder / "own.py").write_text(f"{code}\n")
    assert "is of another network, other data, another tr" in run("train", file, exit_code=2).stderr


def test_training_ends_early(job, run) -> None:
    train = {"epochs": 9, "patience": 1, "optimizer": {"name": "SGD", "lr": 1e-9}}
    told = json.loads(run("train", job(train=train), "--json").stdout)
    assert told["epochs"] < 9


def test_training_that_has_ended_early_is_not_gone_on_with(
    job, run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between its last epoch and the test."""
    train = {"epochs": 9, "patience": 1, "optimizer": {"name": "SGD", "lr": 0.2}}
    file = job(train={**train, "schedule": "none"})
    whole = json.loads(run("train", file, "--output", "whole", "--json").stdout)
    assert whole["epochs"] < 9

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(training, "judge", killed)
        run("train", file, "--output", "part", exit_code=1)
    assert json.loads(run("train", file, "--output", "part", "--json").stdout) == whole


def test_torch_is_left_as_it_was(job, run) -> None:
    run("train", job())
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.parametrize(
    ("sections", "options", "says"),
    [
        ({"model": {"arguments": {"num_classes": 7}}}, [], "tells 7 classes apart, and digits has"),
        ({"data": {"sub_classes": [1, "one"]}}, [], ": data: sub_classes: Unknown class 'one'."),
        ({"data": {"sub_classes": [12]}}, [], ": data: sub_classes: There is no class 12: "),
        ({"data": {"subset_name": "odd"}}, [], ": data: subset_name: Unknown subset 'odd'.\n"),
        ({"data": {"name": "MNIST", "root": "no"}}, [], ": data: root: There is no MNIST at "),
        ({"data": {"batch_size": 5000}}, [], ": data: batch_size: 5000 is more than the 1295"),
        ({}, ["--accelerator", "tpu"], "Cannot train with --accelerator tpu: "),
        ({}, ["--precision", "17"], "Cannot train with --precision 17: Precision '17' is inva"),
        ({"train": {"optimizer": {"name": "SGD", "rate": 1}}}, [], "train: optimizer: Unknown op"),
        ({"train": {"optimizer": {"name": "SGD", "lr": -1}}}, [], "train: optimizer: SGD does not"),
        ({"train": {"optimizer": "SDG"}}, [], "Unknown optimizer 'SDG'. Did you mean 'SGD'?"),
        ({"train": {"schedule": "step"}}, [], "train: schedule: The schedule step has step_siz"),
        ({"train": {"schedule": "explicit"}}, [], "train: schedule: The schedule explicit has"),
        ({"train": {"metrics": ["top1"]}}, [], "train: metrics: Unknown metric 'top1'. Did y"),
        ({"train": {"loss": "cross_entropi"}}, [], "train: loss: Unknown loss 'cross_entropi'."),
        ({"train": {"epoch": 1}}, [], "train: Unknown key 'epoch'. Did you mean 'epochs'?"),
    ],
)
def test_what_cannot_be_is_said(job, run, sections, options, says: str) -> None:
    said = run("train", job(**sections), *options, exit_code=2).stderr
    assert says in said
    assert 1 <= said.strip().count("\n") + 1 <= 2


@pytest.mark.parametrize("command", ["train", "adapt", "compare"])
def test_a_machine_that_is_not_there_is_told_before_any_work(
    job, run, folder: Path, command: str
) -> None:
    file = job(data={"sub_classes": [1, 2]})
    said = run(command, file, "--accelerator", "hpu", "--devices", 2, exit_code=2).stderr
    assert said.startswith("Error: Cannot train with --accelerator hpu --devices 2: ")
    assert sorted(path.name for path in folder.iterdir()) == ["job.yaml", "net.py"]


def test_a_network_that_does_not_take_the_images_is_said(job, run) -> None:
    said = run("train", job(model={"name": "resnet18"}), exit_code=1).stderr
    assert "The network does not take the images of shape (2, 1, 8, 8) of digits: " in said


def test_a_file_is_written_as_a_whole(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writing.write(folder / "sub/file", b"first")

    def full(_: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(PrunecoreError, match="No space left on device"):
        writing.write(folder / "sub/file", b"second")
    assert [*(folder / "sub").iterdir()] == [folder / "sub/file"]
    assert (folder / "sub/file").read_bytes() == b"first"


def test_a_file_below_a_file_cannot_be_written(folder: Path) -> None:
    with pytest.raises(PrunecoreError, match=r"Cannot write net\.py/sub/file: "):
        writing.write(Path("net.py/sub/file"), b"first")


def test_a_file_may_be_written_by_several_at_once(folder: Path) -> None:
    contents = [bytes([number]) * 100_000 for number in range(40)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda content: writing.write(folder / "file", content), contents))
    assert (folder / "file").read_bytes() in contents
    assert [path.name for path in folder.iterdir() if "part" in path.name] == []


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("raise KeyError('scale')", "odd.py:loss raised KeyError: 'scale'."),
        ("return 3", "odd.py:loss returned 3, not one number.\nReturn a tensor"),
    ],
)
def test_a_loss_that_fails_is_named(job, run, folder: Path, body: str, says: str) -> None:
    (folder / "odd.py").write_text(f"def loss(outputs, labels):\n    {body}\n")
    said = run("train", job(train={"loss": "odd.py:loss"}), exit_code=1).stderr
    assert says in said


@pytest.mark.parametrize("share", [0, 0.3, 0.6, 0.9])
def test_a_disk_that_is_full_loses_nothing(job, run, filling, folder: Path, share: float) -> None:
    file = job(train={"epochs": 3})
    with filling() as written:
        whole = json.loads(run("train", file, "--output", "whole", "--json").stdout)
    with filling(last := int(share * len(written))):
        said = run("train", file, "--output", "part", exit_code=1).stderr
    assert said.startswith("Error: Cannot write ")
    assert ": No space left on device.\nSee that it can be written there, and start again: " in said
    assert len(list(folder.glob("part/checkpoints/*.ckpt"))) == min(2, last)
    assert json.loads(run("train", file, "--output", "part", "--json").stdout) == whole


def test_computing_in_fewer_bits(job, run) -> None:
    told = json.loads(run("train", job(), "--precision", "bf16-mixed", "--json").stdout)
    assert 2 < told["test"]["loss"] < 2.4
