"""What is read of a written set may be anyone's: it is checked, and with `--no-run` never run."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import prunecore
from prunecore.cli.main import main
from prunecore.errors import PrunecoreError, VerificationError, WeightsError
from prunecore.files.storage import hash_of, save_set
from prunecore.files.weights import read_weights
from prunecore.verification import check_set
from prunecore.writing.building import import_file

Change = Callable[[dict[str, Tensor]], Any]

NET = """
from torch import nn


def net() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 3))
"""


def network() -> nn.Module:
    torch.manual_seed(0)
    scope: dict[str, Any] = {}
    exec(NET, scope)
    model: nn.Module = scope["net"]()
    return model


def written(folder: Path, **options: Any) -> Path:
    small = prunecore.prune(network(), level=50, input_shape=(3, 8, 8), name="net", **options)
    return small.save(folder / "net_50.py")[0]


def change_report(file: Path, **values: Any) -> None:
    report = file.with_suffix(".json")
    report.write_text(json.dumps({**json.loads(report.read_text()), **values}))


def rehash(file: Path) -> None:
    """Let a report tell of the files as they are, as whoever forges them would."""
    weights = hash_of(file.with_suffix(".safetensors"))
    change_report(file, sha256={"source": hash_of(file), "weights": weights})


def change_weights(file: Path, change: Change) -> None:
    weights = load_file(file.with_suffix(".safetensors"))
    change(weights)
    save_file(weights, file.with_suffix(".safetensors"))


CHANGES: dict[str, Change] = {
    "0.weight.* values": lambda weights: weights["0.weight"].view(-1)[3].mul_(1.5),
    "0.bias.* values": lambda weights: weights["0.bias"][0].fill_(torch.nan),
    "1.running_var.* values": lambda weights: weights["1.running_var"].mul_(2),
    "1.num_batches_tracked.* values": lambda weights: weights["1.num_batches_tracked"].add_(1),
    r"3.bias, of shape \(3,\) in place of \(4,\)": lambda weights: weights.update(
        {"3.bias": weights["3.bias"][:3].clone()}
    ),
    "3.bias, of .*float64.* in place of": lambda weights: weights.update(
        {"3.bias": weights["3.bias"].double()}
    ),
    "1.num_batches_tracked, which is missing": lambda weights: weights.pop("1.num_batches_tracked"),
    "more, which the written network": lambda weights: weights.update(more=torch.ones(2)),
}


@pytest.mark.parametrize("check", [prunecore.verify, lambda *both: check_set(*both, None)])
@pytest.mark.parametrize("message", CHANGES)
def test_each_tensor_is_the_slice_that_the_report_tells_of(
    tmp_path: Path, message: str, check: Callable[..., Any]
) -> None:
    file = written(tmp_path)
    check(file, network())
    change_weights(file, CHANGES[message])
    rehash(file)
    with pytest.raises(VerificationError, match=rf"net_50.safetensors does not hold .*{message}"):
        check(file, network())


@pytest.mark.parametrize("check", [prunecore.verify, lambda *both: check_set(*both, None)])
def test_what_was_refitted_is_what_was_written(tmp_path: Path, check: Callable[..., Any]) -> None:
    images = torch.rand(64, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    file = written(tmp_path, calibration=images, recover=["refit"])
    report = json.loads(file.with_suffix(".json").read_text())
    name = report["recovered"][0]["changed"][0]
    check(file, network())
    change_weights(file, lambda weights: weights[name].mul_(2))
    with pytest.raises(WeightsError, match=r"net_50.safetensors is not what was written with"):
        check(file, network())


def test_nothing_of_a_file_is_run_where_it_is_not_to_be(tmp_path: Path) -> None:
    file = written(tmp_path)
    file.write_text(f"{file.read_text()}\n\nimport os; os.mkdir({str(tmp_path / 'ran')!r})\n")
    with pytest.raises(PrunecoreError, match=r"net_50.py is not the text .*\n.*without --no-run"):
        check_set(file, network(), None)
    rehash(file)
    assert check_set(file, network(), None) == ()
    assert not (tmp_path / "ran").exists()
    prunecore.verify(file, network())
    assert (tmp_path / "ran").exists()


def test_the_command_says_what_it_did_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("nets.py").write_text(NET)
    shape = "--input-shape=3,8,8"
    invoke = CliRunner().invoke
    assert invoke(main, ["prune", "nets.py:net", shape, "--level=50"]).exit_code == 0
    result = invoke(main, ["verify", "net_50.py", "nets.py:net", "--no-run"])
    assert result.exit_code == 0, result.output
    assert "net_50.py is the text that was written, and its weights are those of" in result.stdout
    assert "Nothing of it was run" in result.stdout
    Path("net_50.py").write_text("raise SystemExit")
    result = invoke(main, ["verify", "net_50.py", "nets.py:net", "--no-run"])
    assert result.exit_code == 1
    assert len(result.stderr.splitlines()) == 2
    assert "net_50.py is not the text that was written with its report" in result.stderr


def test_a_set_in_shards_is_read_by_its_own_file_and_verified(tmp_path: Path) -> None:
    small = prunecore.prune(network(), level=50, input_shape=(3, 8, 8), name="net")
    path, weights, report = small.save(tmp_path / "net_50.py", shard_size="100B")
    shards = json.loads(report.read_text())["sha256"]["shards"]
    assert len(shards) > 2
    loaded = import_file(path).net(str(weights))
    x = torch.rand(1, 3, 8, 8)
    assert torch.equal(loaded.eval()(x), small.model.eval()(x))
    prunecore.verify(path, network())
    check_set(path, network(), None)
    first = tmp_path / next(iter(shards))
    save_file({name: 2 * tensor for name, tensor in load_file(first).items()}, first)
    with pytest.raises(VerificationError, match=r"index\.json does not hold .* 0\."):
        prunecore.verify(path, network())


def test_weights_in_shards_are_read_and_written_by_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("nets.py").write_text(NET)
    whole = prunecore.prune(network(), level=20, input_shape=(3, 8, 8), name="net")
    parts = [{name: tensor} for name, tensor in network().state_dict().items()]
    save_set(Path("given.py"), "x = 1", parts, dict(whole.report), force=False)
    given = ["nets.py:net", "--weights", "given.safetensors.index.json", "--input-shape", "3,8,8"]
    Path("run.yaml").write_text("pruner: {shard_size: 300B}")
    for options in (["--shard-size", "300B"], ["--config", "run.yaml", "--force"]):
        done = CliRunner().invoke(main, ["prune", *given, "--level", "20", *options])
        assert done.exit_code == 0, done.output
        assert re.search(
            r"net_20\.safetensors\.index\.json with \d shards, and \.json", done.output
        )
    assert CliRunner().invoke(main, ["verify", "net_20.py", *given]).exit_code == 0
    held = read_weights(Path("net_20.safetensors.index.json"))
    assert all(torch.equal(held[name], tensor) for name, tensor in whole.weights.items())
