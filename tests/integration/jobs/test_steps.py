"""A level that is reached in several steps: nested, within the original's limits, and proven."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch import Tensor, nn

import prunecore
from prunecore.cli.main import main
from prunecore.errors import LevelError, UsageError, WeightsError

SHAPE = (3, 8, 8)


class Block(nn.Module):
    """A residual block with norms."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x))))))


class Net(nn.Module):
    """Two residual blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.layers = nn.Sequential(Block(16), Block(16))
        self.fc = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.layers(self.stem(x)).mean((2, 3)))


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return Net().eval()


def images(number: int) -> Tensor:
    return torch.randn(number, *SHAPE, generator=torch.Generator().manual_seed(1))


def test_steps_are_nested_and_the_last_is_proven(model: nn.Module, tmp_path: Path) -> None:
    seen: list[tuple[int, float]] = []
    kept: list[Any] = []

    def look(small: prunecore.PrunedModel, step: int) -> None:
        seen.append((step, small.plan.achieved))
        kept.append(small.plan.kept)
        assert small.report["verified"] is None

    small = prunecore.prune(
        model,
        level=60,
        target="macs",
        input_shape=SHAPE,
        calibration=images(32),
        steps=3,
        on_step=look,
        name="net",
    )
    assert [step for step, _ in seen] == [1, 2]
    assert [round(level / 20) for _, level in seen] == [1, 2]
    assert abs(small.plan.achieved - 60) <= 1
    for before, after in zip(kept, [*kept[1:], small.plan.kept], strict=True):
        assert not (after & ~before).any()
        assert (before & ~after).any()
    assert small.report["steps"] == 3
    file = tmp_path / "net_60.py"
    small.save(file)
    found = prunecore.verify(file, model)
    assert found.max_relative_difference <= 1e-9
    assert found.recovered


def test_later_steps_choose_by_what_is_left(model: nn.Module) -> None:
    once, twice = (
        prunecore.prune(
            model,
            level=70,
            input_shape=SHAPE,
            calibration=images(32),
            steps=steps,
            mode="activation",
        )
        for steps in (1, 4)
    )
    assert not np.array_equal(once.plan.kept, twice.plan.kept)
    assert [step["step"] for step in twice.report["recovered"]] == ["refit"]


def test_what_is_trained_between_steps_is_gone_on_with(model: nn.Module, tmp_path: Path) -> None:
    def train(small: prunecore.PrunedModel, _step: int) -> None:
        with torch.no_grad():
            small.model.get_parameter("fc.bias").add_(5)

    small = prunecore.prune(model, level=40, input_shape=SHAPE, steps=2, on_step=train, name="net")
    plain = prunecore.prune(model, level=40, input_shape=SHAPE, name="net")
    torch.testing.assert_close(small.weights["fc.bias"], plain.weights["fc.bias"] + 5)
    assert small.model.get_parameter("fc.bias").equal(small.weights["fc.bias"])
    assert small.report["recovered"] == [
        {"step": "on_step", "changed": ["fc.bias"], "undone": False}
    ]
    file = tmp_path / "net_40.py"
    small.save(file)
    assert prunecore.verify(file, model).recovered == ("fc.bias",)


def other_layer(network: nn.Module) -> None:
    network.stem = nn.Conv2d(3, 16, 3)


def no_bias(network: nn.Module) -> None:
    network.get_submodule("fc").register_parameter("bias", None)


def more_of_it(network: nn.Module) -> None:
    network.register_buffer("average", torch.zeros(3))


def in_another_type(network: nn.Module) -> None:
    network.double()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (other_layer, "stem is another one, or of another shape, type or device."),
        (no_bias, "fc.bias is gone."),
        (more_of_it, "average is new."),
        (in_another_type, "stem.weight is another one, or of another shape, type or device."),
    ],
)
def test_between_steps_only_weights_may_change(
    model: nn.Module, change: Callable[[nn.Module], None], told: str
) -> None:
    with pytest.raises(UsageError, match="on_step has changed more of") as raised:
        prunecore.prune(
            model,
            level=40,
            input_shape=SHAPE,
            steps=2,
            on_step=lambda small, step: change(small.model),
        )
    assert told in str(raised.value)


@pytest.mark.parametrize("name", ["fc.weight", "layers.0.bn1.running_var"])
def test_training_that_diverges_is_told_of_on_step(model: nn.Module, name: str) -> None:
    def diverge(small: prunecore.PrunedModel, _step: int) -> None:
        small.model.state_dict()[name].fill_(torch.nan)

    with pytest.raises(WeightsError, match="on_step has left") as raised:
        prunecore.prune(model, level=40, input_shape=SHAPE, steps=2, on_step=diverge)
    assert name in str(raised.value)
    assert "--weights" not in str(raised.value)


def test_limits_are_those_of_the_original(model: nn.Module) -> None:
    limits = prunecore.Limits(
        max_level=60, layers={"layers.0.conv1": "keep", "layers.1.conv1": {"min_channels": 11}}
    )
    small = prunecore.prune(model, level=40, input_shape=SHAPE, limits=limits, steps=3)
    assert small.weights["layers.0.conv1.weight"].shape[0] == 16
    assert small.weights["layers.1.conv1.weight"].shape[0] >= 11
    assert small.weights["stem.weight"].shape[0] >= 7  # 60 % of 16, and not of what a step has left


def test_widths_are_multiples_after_every_step(model: nn.Module) -> None:
    small = prunecore.prune(
        model, level=50, input_shape=SHAPE, limits=prunecore.Limits(round_to=4), steps=2
    )
    assert {small.weights[f"layers.{i}.conv1.weight"].shape[0] % 4 for i in (0, 1)} == {0}


def test_protected_layers_stay_whole(model: nn.Module) -> None:
    @prunecore.skip(layers=["conv1"])
    class Kept(Block):
        pass

    network = nn.Sequential(nn.Conv2d(3, 16, 3), Kept(16), nn.Conv2d(16, 4, 3)).eval()
    small = prunecore.prune(network, level=30, input_shape=SHAPE, steps=3)
    assert small.weights["1.conv1.weight"].shape[0] == 16


def test_residual_blocks_may_go_in_any_step(model: nn.Module) -> None:
    limits = prunecore.Limits(remove_blocks=True, min_channels=8)
    small = prunecore.prune(model, level=75, input_shape=SHAPE, limits=limits, steps=3)
    assert small.plan.removed_blocks == ("layers.1",)
    assert abs(small.plan.achieved - 75) <= 1
    assert small.report["verified"]["max_relative_difference"] <= 1e-9


def test_what_cannot_be_reached_is_told_of_the_whole(model: nn.Module) -> None:
    limits = prunecore.Limits(max_level=20)
    with pytest.raises(LevelError, match="Level 90 cannot be reached: at most"):
        prunecore.prune(model, level=90, input_shape=SHAPE, limits=limits, steps=2)


@pytest.mark.parametrize("steps", [0, -1, 101, 1.5, True, "2"])
def test_steps_are_a_whole_number(model: nn.Module, steps: Any) -> None:
    with pytest.raises(UsageError, match="steps is"):
        prunecore.prune(model, level=30, input_shape=SHAPE, steps=steps)


def test_between_no_steps_nothing_is_called(model: nn.Module) -> None:
    with pytest.raises(UsageError, match="Give steps=2 or more"):
        prunecore.prune(model, level=30, input_shape=SHAPE, on_step=lambda small, step: None)


def test_steps_on_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nets.py").write_text(
        "from torch import nn\n"
        "def net():\n"
        "    return nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), "
        "nn.Linear(32, 3))\n"
    )
    job = ["prune", "nets.py:net", "--input-shape", "8", "--level", "50", "--name", "net"]
    done = CliRunner().invoke(main, [*job, "--steps", "3"])
    assert done.exit_code == 0, done.output
    assert '"steps": 3' in (tmp_path / "net_50.json").read_text()
    for number in ("0", "101"):
        wrong = CliRunner().invoke(main, [*job, "--steps", number])
        assert wrong.exit_code == 2
        assert f"--steps: steps is {number}, not a whole number from 1 to 100." in wrong.output
