"""The command line, as far as it goes without a plugin: the job itself is a stand-in here."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from torch import nn

from prunecore.cli import jobs
from prunecore.cli.main import main
from prunecore.errors import LevelError
from prunecore.planning.goal import Goal
from prunecore.planning.request import Limits, Request
from prunecore.plugins.loading import load
from prunecore.pruned_model import PrunedModel

NETS = """
from torch import nn

def tiny(width=4):
    print("making it")
    return nn.Linear(3, width)

def boom():
    raise ValueError("no such stage")
"""
COST = {"params": 2_000, "macs": 3, "bytes": 5}

Invoke = Callable[..., Result]


@pytest.fixture
def invoke(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Invoke:
    """Run the command line in a folder with nets.py."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nets.py").write_text(NETS, encoding="utf-8")
    return lambda *arguments: CliRunner().invoke(main, list(arguments))


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What the stand-in for the job is called with; level 99 cannot be reached."""
    made: list[dict[str, Any]] = []

    class Traced:
        images = None

        def __init__(
            self, model: nn.Module, inputs: Any, drop: Any, images: None, strict: bool
        ) -> None:
            self.model, self.inputs, self.plugins = model, inputs, load()
            self.drop, self.strict = drop, strict

        def mode(self, mode: str | None = None) -> str:
            return mode or "magnitude"

        def request(self, level: Any, mode: Any, recover: Any, **asked: Any) -> Request:
            return Request(level, self.mode(mode), recover=recover or (), **asked)

        def scores(self, mode: str | None, seed: int) -> Any:
            return np.full(3, 0 if self.mode(mode) == "magnitude" else seed)

        def carry_out(self, request: Request) -> PrunedModel:
            print("the user's forward prints")
            if request.level == 99:
                raise LevelError("Level 99 cannot be reached.\nAsk for less.")
            shape = {"input_shape": self.inputs.shapes, "drop": self.drop, "strict": self.strict}
            made.append({"model": self.model, **shape, **asdict(request)})
            mark = made[-1].pop("fingerprint")
            goal = request.level if isinstance(request.level, Goal) else None
            level = 50.0 if goal else request.level
            report = {
                "schema": 1,
                "model": request.name,
                "mode": request.mode,
                "target": request.target,
                "scope": "global",
                "seed": request.seed,
                "inputs": self.inputs.as_dict(),
                "goal": goal and goal.text,
                "latency": None,
                "level": {"asked": level, "achieved": level},
                "before": COST,
                "after": COST,
                "kept": {},
                "fingerprint": mark,
                "verified": None,
                "recovered": [],
                "steps": 1,
                "tried": [],
                "scoring": {},
                "limits": {"round_to": 1},
                "fixed_arguments": [],
                "needed_arguments": [],
                "left_whole": [{"layer": "fc", "reason": "it is shy"}],
                "left_out": [],
                "groups": [],
                "plugins": {},
            }
            weights = {"a": torch.ones(1)}
            made_plan: Any = None  # nobody looks at it
            return PrunedModel(self.model, "x = 1\n", weights, report, made_plan)

    monkeypatch.setattr(jobs, "TracedModel", Traced)
    return made


def files(folder: str = ".") -> list[str]:
    found = (file for file in Path(folder).rglob("*.*") if file.suffix != ".pyc")
    return sorted(file.relative_to(folder).as_posix() for file in found if file.name != "nets.py")


def assert_fails(result: Result, exit_code: int, *messages: str) -> None:
    """A line or two on stderr, nothing on stdout, no traceback, and no file."""
    assert result.exit_code == exit_code, result.output
    assert isinstance(result.exception, SystemExit)
    assert result.stdout == ""
    lines = result.stderr.removeprefix("making it\n").splitlines()
    assert len(lines) <= 2
    assert lines[0].startswith("Error: ")
    for message in messages:
        assert re.search(message, result.stderr), result.stderr
    assert [name for name in files() if "_50" in name] == []


def test_prune_writes_the_set_and_shows_a_table(
    invoke: Invoke, calls: list[dict[str, Any]]
) -> None:
    result = invoke("prune", "nets.py:tiny", "--level", "50")
    assert result.exit_code == 0
    assert files() == ["tiny_50.json", "tiny_50.py", "tiny_50.safetensors"]
    assert "2.00 k -> 2.00 k" in result.stdout
    assert "Wrote tiny_50.py, and tiny_50.safetensors and .json beside it." in result.stdout
    # older versions of rich put an empty line between
    assert [*filter(None, result.stderr.splitlines())] == [
        "making it",
        "the user's forward prints",
        "Left whole: fc, because it is shy.",
    ]


def test_the_job_gets_what_was_asked_for(invoke: Invoke, calls: list[dict[str, Any]]) -> None:
    arguments = (
        "--level 12.5 --mode random --target macs --seed 3 --no-verify --name small --remove-blocks"
        " --strict --drop aux1 --drop aux2 --members norms,producers --reduce max --normalize none"
    )
    shape = "--input-shape 3 --model-arg width=7 --output out/deep"
    assert invoke("prune", "nets.py:tiny", *arguments.split(), *shape.split()).exit_code == 0
    (call,) = calls
    assert call.pop("model").out_features == 7
    assert call == {
        "level": 12.5,
        "input_shape": ((3,),),
        "mode": "random",
        "recover": (),
        "steps": 1,
        "latency": "eager",
        "scoring": {
            "members": ("norms", "producers"),
            "reduce": "max",
            "normalize": "none",
        },
        "target": "macs",
        "seed": 3,
        "verify": False,
        "limits": asdict(Limits(remove_blocks=True)),
        "drop": ("aux1", "aux2"),
        "strict": True,
        "name": "small",
        "origin": "nets.py:tiny",
    }
    assert "small_12_5.py" in files("out/deep")


def test_defaults(invoke: Invoke, calls: list[dict[str, Any]]) -> None:
    assert invoke("prune", "nets.py:tiny", "--level", "50").exit_code == 0
    (call,) = calls
    del call["model"]
    assert call == {
        "level": 50.0,
        "input_shape": ((3, 224, 224),),
        "mode": "magnitude",
        "recover": (),
        "steps": 1,
        "latency": "eager",
        "scoring": {"members": None, "reduce": None, "normalize": None},
        "target": "params",
        "seed": 0,
        "verify": True,
        "limits": asdict(Limits()),
        "drop": (),
        "strict": False,
        "name": "tiny",
        "origin": "nets.py:tiny",
    }


def test_goals_and_limits(invoke: Invoke, calls: list[dict[str, Any]]) -> None:
    arguments = (
        "--to 5M-params --to 12MB --scope group --limit layer4.*=30% --limit stem*=keep "
        "--max-level 75 --min-channels 4 --round-to 8"
    )
    result = invoke("prune", "nets.py:tiny", *arguments.split())
    assert result.exit_code == 0
    assert [call["level"]["text"] for call in calls] == ["5M-params", "12M-bytes"]
    for call in calls:
        assert call["limits"] == {
            "min_channels": 4,
            "remove_blocks": False,
            "scope": "group",
            "max_level": 75,
            "round_to": 8,
            "layers": {"layer4.*": {"max_level": 30}, "stem*": "keep"},
        }
    assert [name for name in files() if name.endswith(".py")] == [
        "tiny_12M_bytes.py",
        "tiny_5M_params.py",
    ]
    assert "5M-params" in result.stdout


@pytest.mark.parametrize(
    ("flags", "asked"),
    [("", [30.0, "1k-macs"]), ("--level 50", [50.0]), ("--to 2k-macs", ["2k-macs"])],
)
def test_flags_ask_in_place_of_all_that_a_file_asks(
    invoke: Invoke, calls: list[dict[str, Any]], flags: str, asked: list[Any]
) -> None:
    text = "model: {name: nets.py:tiny}\npruner: {pruning_perc: 30, to: 1k-macs}"
    Path("run.yaml").write_text(text, encoding="utf-8")
    assert invoke("prune", "--config", "run.yaml", *flags.split()).exit_code == 0
    levels = [call["level"] for call in calls]
    assert [one["text"] if isinstance(one, dict) else one for one in levels] == asked


def test_json_is_alone_on_stdout_a_line_a_level(
    invoke: Invoke, calls: list[dict[str, Any]]
) -> None:
    levels = ["--level", "50", "--level", "30", "--level", "50.0"]
    result = invoke("prune", "nets.py:tiny", *levels, "--json")
    reports = [json.loads(line) for line in result.stdout.splitlines()]
    assert [report["level"]["asked"] for report in reports] == [50, 30]


def test_a_configuration_and_flags_that_win_over_it(
    invoke: Invoke, calls: list[dict[str, Any]], tmp_path: Path
) -> None:
    (tmp_path / "job").mkdir()
    (tmp_path / "job/run.yaml").write_text(
        """
model: {name: '../nets.py:tiny', arguments: {width: 5}, input_shape: [3]}
dataset: cifar100
pruner:
  {model_path: models, subset_name: aquatic, mode: random, seed: 5, pruning_perc: [10, 30]}
"""
    )
    assert invoke("prune", "--config", "job/run.yaml").exit_code == 0
    assert [call["level"] for call in calls] == [10, 30]
    assert calls[0]["model"].out_features == 5
    assert (calls[0]["mode"], calls[0]["seed"], calls[0]["input_shape"]) == ("random", 5, ((3,),))
    assert "tiny_30.py" in files("job/models/cifar100/aquatic")
    calls.clear()
    flags = "--level 40 --mode l1_norm --seed 0 --output out --model-arg width=6"
    assert invoke("prune", "--config", "job/run.yaml", *flags.split()).exit_code == 0
    (call,) = calls
    assert (call["mode"], call["seed"], call["model"].out_features) == ("l1-norm", 0, 6)
    assert "tiny_40.py" in files("out/cifar100/aquatic")


def test_an_existing_set_is_replaced_only_by_force(
    invoke: Invoke, calls: list[dict[str, Any]]
) -> None:
    Path("tiny_30.py").write_text("old")
    levels = ["--level", "50", "--level", "30"]
    assert_fails(invoke("prune", "nets.py:tiny", *levels), 2, r"tiny_30.py exists.\n.*--force")
    assert calls == []
    assert invoke("prune", "nets.py:tiny", *levels, "--force").exit_code == 0
    assert Path("tiny_30.py").read_text() == "x = 1\n"


def test_a_list_resumes_where_it_was_cut_off(invoke: Invoke, calls: list[dict[str, Any]]) -> None:
    levels = ["--level", "50", "--level", "99", "--level", "30"]
    assert invoke("prune", "nets.py:tiny", *levels).exit_code == 1
    levels[3] = "70"
    result = invoke("prune", "nets.py:tiny", *levels, "--json")
    assert result.exit_code == 0, result.output
    assert [call["level"] for call in calls] == [50, 70, 30]
    note = "Skipped tiny_50.py: written already with the same inputs (--force writes it again).\n"
    assert note in result.stderr
    asked = [json.loads(line)["level"]["asked"] for line in result.stdout.splitlines()]
    assert asked == [50, 70, 30]
    assert invoke("prune", "nets.py:tiny", *levels, "--force").exit_code == 0
    assert len(calls) == 6


@pytest.mark.parametrize("suffix", [".py", ".safetensors"])
def test_a_set_that_is_mixed_is_not_skipped(
    invoke: Invoke, calls: list[dict[str, Any]], suffix: str
) -> None:
    levels = ["--level", "50", "--level", "30"]
    assert invoke("prune", "nets.py:tiny", *levels).exit_code == 0
    whole = Path(f"tiny_50{suffix}").read_bytes()
    Path(f"tiny_50{suffix}").write_bytes(b"of another set")
    result = invoke("prune", "nets.py:tiny", *levels)
    assert result.exit_code == 2
    assert f"as tiny_50{suffix} is not what was written with tiny_50.json" in result.stderr
    assert "replace it with --force" in result.stderr
    assert len(calls) == 2
    assert invoke("prune", "nets.py:tiny", *levels, "--force").exit_code == 0
    assert Path(f"tiny_50{suffix}").read_bytes() == whole


@pytest.mark.parametrize(
    "other",
    [
        "--seed 1",
        "--mode random",
        "--target macs",
        "--remove-blocks",
        "--model-arg width=5",
        "--no-verify",
        "--weights w.pt",
        "--input-shape 3,8,8",
    ],
)
def test_a_list_does_not_take_sets_of_other_inputs_for_its_own(
    invoke: Invoke, calls: list[dict[str, Any]], other: str
) -> None:
    torch.save({"weight": torch.ones(4, 3), "bias": torch.zeros(4)}, "w.pt")
    assert invoke("prune", "nets.py:tiny", "--level", "30").exit_code == 0
    levels = ["--level", "50", "--level", "30", *other.split()]
    result = invoke("prune", "nets.py:tiny", *levels)
    assert_fails(result, 2, r"tiny_30.py exists, written with other inputs.\n.*--force")
    assert len(calls) == 1


def test_changed_code_of_the_network_is_another_input(
    invoke: Invoke, calls: list[dict[str, Any]]
) -> None:
    net = (
        "from torch import nn\nclass Net(nn.Linear):\n    scale = {}\ndef net(): return Net(3, 4)\n"
    )
    levels = ["--level", "50", "--level", "30"]
    for scale, exit_code in ((1, 0), (1, 0), (2, 2)):
        Path("own.py").write_text(net.format(scale))
        assert invoke("prune", "own.py:net", *levels).exit_code == exit_code
    assert len(calls) == 2


def test_one_level_alone_is_not_skipped(invoke: Invoke, calls: list[dict[str, Any]]) -> None:
    assert invoke("prune", "nets.py:tiny", "--level", "50").exit_code == 0
    result = invoke("prune", "nets.py:tiny", "--level", "50")
    assert result.exit_code == 2
    assert "tiny_50.py exists." in result.stderr


def test_a_set_that_is_not_whole_is_not_skipped(
    invoke: Invoke, calls: list[dict[str, Any]]
) -> None:
    levels = ["--level", "50", "--level", "30"]
    assert invoke("prune", "nets.py:tiny", *levels).exit_code == 0
    Path("tiny_50.json").unlink()
    result = invoke("prune", "nets.py:tiny", *levels)
    assert result.exit_code == 2
    assert "tiny_50.py exists." in result.stderr
    assert "not whole, as tiny_50.json is missing: replace it with --force" in result.stderr


def test_a_count_writes_so_many_networks_from_seed_after_seed(
    invoke: Invoke, calls: list[dict[str, Any]]
) -> None:
    levels = ["--level", "50", "--level", "30"]
    job = ["prune", "nets.py:tiny", *levels, "--mode", "random", "--seed", "7", "--count"]
    assert invoke(*job, "2").exit_code == 0
    assert [(call["level"], call["seed"]) for call in calls] == [(50, 7), (50, 8), (30, 7), (30, 8)]
    sources = [file for file in files() if file.endswith(".py")]
    assert sources == ["tiny_30_1.py", "tiny_30_2.py", "tiny_50_1.py", "tiny_50_2.py"]
    more = invoke(*job, "3")
    assert more.exit_code == 0
    assert more.stderr.count("Skipped") == 4
    assert len(calls) == 6


def test_a_count_of_a_mode_that_draws_nothing_is_refused(
    invoke: Invoke, calls: list[dict[str, Any]]
) -> None:
    result = invoke("prune", "nets.py:tiny", "--level", "50", "--count", "2")
    assert_fails(result, 2, "Mode magnitude draws nothing.*\n.*random-weighted")


def test_levels_before_one_that_cannot_be_reached_are_kept_and_shown(
    invoke: Invoke, calls: list[dict[str, Any]]
) -> None:
    result = invoke("prune", "nets.py:tiny", "--level", "50", "--level", "99")
    assert result.exit_code == 1
    assert "Wrote tiny_50.py" in result.stdout
    assert "Error: Level 99 cannot be reached.\nAsk for less.\n" in result.stderr
    assert len(files()) == 3


def test_a_torchvision_model_without_weights_is_warned_about(
    invoke: Invoke, calls: list[dict[str, Any]]
) -> None:
    result = invoke("prune", "squeezenet1_1", "--level", "50")
    assert "Warning: squeezenet1_1 has random weights; give --weights FILE." in result.stderr
    assert calls[0]["origin"] == "torchvision.models.squeezenet1_1"


def test_weights_are_loaded(invoke: Invoke, calls: list[dict[str, Any]]) -> None:
    state = {"weight": torch.ones(4, 3), "bias": torch.zeros(4)}
    torch.save(state, "w.pt")
    assert invoke("prune", "nets.py:tiny", "--level", "50", "--weights", "w.pt").exit_code == 0
    assert calls[0]["model"].weight.equal(state["weight"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("prune", "Which MODEL"),
        ("prune nets.py:tiny", r"Which level\? Give --level 50 or --to"),
        ("prune nets.py:tiny --to 5", "--to: '5' is no goal"),
        ("prune nets.py:tiny --to 0-params", "--to: The goal '0-params' leaves nothing"),
        ("prune nets.py:tiny --to 5M-parms", "--to: Unknown unit .* Did you mean '5M-params'"),
        ("prune nets.py:tiny --level 50 --scope all", "--scope: Unknown scope 'all'"),
        ("prune nets.py:tiny --level 50 --limit fc", "--limit: a limit is GLOB=keep, .* not 'fc'"),
        ("prune nets.py:tiny --level 50 --limit fc=30", "--limit: a limit is .* not 'fc=30'"),
        ("prune nets.py:tiny --level 50 --limit =keep", "--limit: a limit is .* not '=keep'"),
        ("prune nets.py:tiny --level 50 --limit fc=0%", "--limit: max_level of 'fc' is 0"),
        ("prune nets.py:tiny --level 50 --limit a=keep --limit a=3%", "--limit: 'a' .* two limits"),
        ("prune nets.py:tiny --level 50 --max-level 0", "--max-level: max_level is 0"),
        ("prune nets.py:tiny --level 50 --max-level x", "--max-level: max_level is 'x'"),
        ("prune nets.py:tiny --level 50 --min-channels 0", "--min-channels: min_channels is 0"),
        ("prune nets.py:tiny --level 50 --round-to 1.5", "--round-to: round_to is 1.5"),
        ("prune nets.py --level 50", r"Which factory of nets.py\?"),
        ("prune : --level 50", r"':' names no network"),
        ("prune resnet81 --level 50", r"Unknown model 'resnet81'. Did you mean 'resnet18'\?"),
        ("prune nets.py:tyni --level 50", r"Unknown factory of nets.py 'tyni'.*'tiny'"),
        ("prune none.py:tiny --level 50", "There is no file none.py"),
        ("prune nets.py:tiny --level 0", "--level: a level is .* not '0'"),
        ("prune nets.py:tiny --level 100", "--level: a level is .* not '100'"),
        ("prune nets.py:tiny --level -5", "--level: a level is .* not '-5'"),
        ("prune nets.py:tiny --level abc", "--level: a level is .* not 'abc'"),
        ("prune nets.py:tiny --level nan", "--level: a level is .* not 'nan'"),
        ("prune nets.py:tiny --level 50 --level 0", "--level: a level is .* not '0'"),
        ("prune nets.py:tiny --level 50 --mode l1-nrom", "Unknown mode 'l1-nrom'.*'l1-norm'"),
        ("prune nets.py:tiny --level 50 --mode bset", "Unknown mode 'bset'.*'best'"),
        ("prune nets.py:tiny --level 50 --target flops", "--target: Unknown target 'flops'"),
        ("prune nets.py:tiny --level 50 --seed x", "--seed: a seed is a whole number .* not 'x'"),
        ("prune nets.py:tiny --level 50 --seed -1", "--seed: a seed is"),
        ("prune nets.py:tiny --level 50 --count 0", "--count: a count is .* not 0"),
        ("prune nets.py:tiny --level 50 --name ../x", "--name: a network's name"),
        ("prune nets.py:tiny --level 50 --name class", "--name: a network's name"),
        ("prune nets.py:tiny --level 50 --input-shape 3,x", "--input-shape: an input shape"),
        ("prune nets.py:tiny --level 50 --model-arg width", "--model-arg: .*NAME=VALUE"),
        ("prune nets.py:tiny --level 50 --model-arg widht=3", "'widht'. Did you mean 'width'"),
        ("prune nets.py:tiny --level 50 --weights none.pt", "There is no weights file none.pt"),
        ("prune nets.py:tiny --level 50 --output nets.py", "nets.py is a file, not a folder"),
        ("prune nets.py:tiny --level 50 --config none.yaml", "Cannot read none.yaml"),
        ("prune nets.py:tiny --levle 50", r"--levle.*--level.*\nSee `prunecore prune --help`"),
        ("prune nets.py:tiny more --level 50", r"extra argument.*\nSee `prunecore prune --help`"),
        (
            "prun nets.py:tiny",
            r"Unknown command 'prun'\. Did you mean 'prune'\?\nKnown: .*inspect, latency, plugins",
        ),
        ("inspect nets.py", r"Which factory of nets.py\?"),
        ("inspect", "Missing argument 'MODEL'"),
        ("inspect nets.py:tiny --sensitivity", "Give some: --calibrate FOLDER"),
        ("inspect nets.py:tiny --picture a.svg", "--picture is read with --sensitivity alone"),
        ("inspect nets.py:tiny --calibrate .", "--calibrate is read with --sensitivity alone"),
        ("inspect nets.py:tiny --weights w.pt", "--weights is read with --sensitivity alone"),
        (
            "inspect nets.py:tiny --sensitivity --calibrate . --picture a.gif",
            r"The picture a\.gif is no \.svg or \.png file",
        ),
        (
            "inspect nets.py:tiny --sensitivity --calibrate none",
            "There is no folder none",
        ),
        ("verify none.py nets.py:tiny", "There is no file none.py"),
    ],
)
def test_wrong_usage_ends_with_2(invoke: Invoke, arguments: str, message: str) -> None:
    assert_fails(invoke(*arguments.split()), 2, message)


def test_a_failing_factory_ends_with_1(invoke: Invoke) -> None:
    result = invoke("prune", "nets.py:boom", "--level", "50")
    assert_fails(result, 1, r"ValueError: no such stage\n.*nets.py:9\.")


def test_a_file_that_raises_on_import_ends_with_1(invoke: Invoke) -> None:
    Path("bad.py").write_text("\nraise RuntimeError('no GPU here')")
    result = invoke("prune", "bad.py:net", "--level", "50")
    assert_fails(result, 1, r"bad.py cannot be imported: RuntimeError: no GPU here\n.*bad.py:2\.")


@pytest.mark.parametrize("content", [b"no weights", b""])
def test_unreadable_weights_end_with_1(invoke: Invoke, content: bytes) -> None:
    Path("w.pt").write_bytes(content)
    result = invoke("prune", "nets.py:tiny", "--level", "50", "--weights", "w.pt")
    assert_fails(result, 1, "w.pt is truncated or no weights file")


def test_weights_of_another_network_end_with_1(invoke: Invoke) -> None:
    torch.save({"weight": torch.ones(9, 3)}, "w.pt")
    result = invoke("prune", "nets.py:tiny", "--level", "50", "--weights", "w.pt")
    assert_fails(result, 1, "w.pt does not fit the network: 1 missing from the file: bias; 1 of")


def test_a_full_disk_ends_with_1_and_leaves_nothing(
    invoke: Invoke, calls: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("prunecore.files.storage.write_tensors", full)
    result = invoke("prune", "nets.py:tiny", "--level", "50", "--output", "out")
    assert result.exit_code == 1
    assert "Cannot write out/tiny_50.py" in result.stderr.replace("\\", "/")
    assert "No space left on device" in result.stderr
    assert not Path("out").exists()


def test_python_runs_the_package_as_the_command() -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "prunecore", "--help"], capture_output=True, text=True, check=True
    )
    assert ran.stdout.startswith("Usage: ")
    assert "prune " in ran.stdout


def test_inputs_with_their_types(invoke: Invoke, calls: list[dict[str, Any]]) -> None:
    Path("run.yaml").write_text("model: {name: 'nets.py:tiny', input_shape: [5]}")
    given = ["--level", "50", "--input", "int64[8]<30", "--input", "mask:bool[4]"]
    for where in (["nets.py:tiny"], ["--config", "run.yaml", "--force"]):
        assert invoke("prune", *where, *given).exit_code == 0
        assert calls.pop()["input_shape"] == ((8,), (4,))
    assert '"int64[8]<30"' in Path("tiny_50.json").read_text()
    Path("run.yaml").write_text("model: {name: 'nets.py:tiny', inputs: ['float[5]', 'bool[4]']}")
    shape = ["--level", "30", "--input-shape", "3"]
    assert invoke("prune", "--config", "run.yaml", *shape).exit_code == 0
    assert calls.pop()["input_shape"] == ((3,),)


@pytest.mark.parametrize("command", ["prune nets.py:tiny --level 50", "inspect nets.py:tiny"])
def test_inputs_by_their_shapes_and_by_their_types(
    invoke: Invoke, calls: list[dict[str, Any]], command: str
) -> None:
    both = ["--input-shape", "3", "--input", "float[3]"]
    assert_fails(invoke(*command.split(), *both), 2, "Both an input shape and inputs are given")


def test_examples_beside_the_factory(invoke: Invoke, calls: list[dict[str, Any]]) -> None:
    examples = "\nimport torch\ndef example_inputs():\n    return torch.ones(2, 5), None\n"
    Path("nets.py").write_text(NETS + examples)
    assert invoke("prune", "nets.py:tiny", "--level", "50").exit_code == 0
    assert calls.pop()["input_shape"] == ((5,),)
    assert invoke("prune", "nets.py:tiny", "--level", "30", "--input-shape", "3").exit_code == 0
    assert calls.pop()["input_shape"] == ((3,),)
    Path("nets.py").write_text(NETS + examples.replace("ones(2, 5)", "ones(3, 5)"))
    again = invoke("prune", "nets.py:tiny", "--level", "50", "--level", "60")
    assert again.exit_code == 2
    assert "written with other inputs" in again.stderr
