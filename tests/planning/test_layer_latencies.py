"""Tables of layer latencies from end to end: filled by a made-up clock, then pruned by."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import prunecore
from prunecore import LevelError, PrunecoreError, UsageError
from prunecore.files.latency_tables import read_table, write_table
from prunecore.latency import timing
from prunecore.planning import latency
from prunecore.planning.lookup import layer_axes

from .. import toy
from ..strangers import module


def network(width: int = 40) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, width), nn.ReLU(), nn.Linear(width, 60), nn.Linear(60, 4))


def milliseconds(network: nn.Module) -> float:
    """What the clock goes on by: for each weight, each layer, and the network as such."""
    weights = [tensor for name, tensor in network.named_parameters() if "weight" in name]
    alone = len(weights) == 1
    return sum(0.001 * weight.numel() + 0.05 for weight in weights) + (0.0 if alone else 0.3)


@pytest.fixture
def table(install: Callable[..., None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A table of the network's layers."""
    now = [0.0]

    def board(
        network: nn.Module, args: Sequence[Tensor], kwargs: Mapping[str, Tensor]
    ) -> Callable[[], Any]:
        takes = 1e-3 * milliseconds(network)

        def run() -> Any:
            now[0] += takes
            return network(*args, **kwargs)

        return run

    monkeypatch.setattr(timing, "perf_counter", lambda: now[0])
    install(toy=toy, mine=module(prunecore_latency_backends=lambda: {"board": board}))
    file = tmp_path / "board.json"
    write_table(prunecore.trace(network(), input_shape=(5,)).latency_table("board"), file)
    return file


def test_a_network_is_as_fast_as_asked_by_the_table(table: Path) -> None:
    small = prunecore.prune(network(), input_shape=(5,), to="1.5ms", latency=str(table))
    assert milliseconds(small.model) == pytest.approx(1.5, rel=0.05)
    found = small.report["latency"]
    assert found["backend"] == "board.json"
    assert found["before"] == {
        "ms": pytest.approx(milliseconds(network()), rel=1e-3),
        "spread": 0,
    }
    assert found["after"]["ms"] == pytest.approx(milliseconds(small.model), rel=1e-3)


def test_a_level_is_a_share_of_the_tables_latency(table: Path) -> None:
    small = prunecore.prune(
        network(), input_shape=(5,), level=40, target="latency", latency=str(table)
    )
    gone = 100 * (1 - milliseconds(small.model) / milliseconds(network()))
    assert small.report["level"]["achieved"] == pytest.approx(gone, abs=0.1)
    assert gone == pytest.approx(40, abs=1)


def test_the_table_says_what_was_measured(table: Path) -> None:
    found = json.loads(table.read_text())
    assert found["schema"] == 1
    assert found["backend"] == "board"
    assert found["layers"].keys() == {"0", "2", "3"}
    assert found["layers"]["2"]["widths"][0] == [60, 40]
    assert found["layers"]["3"]["widths"][0] == [60]
    assert found["ms"][0] == pytest.approx(milliseconds(network()))
    assert len({tuple(row) for row in found["layers"]["2"]["widths"]}) >= len(found["ms"]) - 1
    assert np.allclose(read_table(table).layers["2"].widths, found["layers"]["2"]["widths"])


@pytest.mark.usefixtures("table")  # its clock
def test_widths_of_a_table_are_multiples() -> None:
    layers = prunecore.trace(network(), input_shape=(5,)).latency_table("board", round_to=8).layers
    narrower = np.concatenate([layer.widths[1:].ravel() for layer in layers.values()])
    assert set(narrower.tolist()) - {60} == {8, 16, 24, 32, 40, 48, 56}


def test_a_table_of_another_network_is_refused(table: Path) -> None:
    for other, what in (
        (network(30), "the first widths of 0 are not [30]"),
        (network()[:3], "it has a layer 3"),
    ):
        with pytest.raises(UsageError) as caught:
            prunecore.prune(other, input_shape=(5,), to="1ms", latency=str(table))
        assert f"The table board.json is of another network: {what}." in str(caught.value)


def test_a_layer_that_a_table_lacks_is_to_be_added(table: Path) -> None:
    other = nn.Sequential(*network(), nn.Linear(4, 3))
    with pytest.raises(UsageError) as caught:
        prunecore.prune(other, input_shape=(5,), to="1ms", latency=str(table))
    first, second = str(caught.value).splitlines()
    assert first == "The table board.json lacks the layer 4."
    assert second.startswith("Add it, as every layer whose weights may lose channels, norms too;")


def test_a_busy_machine_that_fills_a_table_is_not_sent_to_one(
    table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(latency, "BUSY", -1.0)
    with pytest.raises(PrunecoreError) as caught:
        prunecore.trace(network(), input_shape=(5,)).latency_table("board")
    assert str(caught.value).splitlines()[1] == ("Stop what else runs on it, and measure again.")


def test_a_table_is_not_what_fills_one(table: Path) -> None:
    with pytest.raises(UsageError, match=r"Layers are to be measured, and board\.json is a"):
        prunecore.trace(network(), input_shape=(5,)).latency_table("board.json")


def test_a_goal_that_no_limits_allow_names_one_that_can_be_reached(table: Path) -> None:
    with pytest.raises(LevelError) as caught:
        prunecore.prune(network(), input_shape=(5,), to="0.1ms", latency=str(table))
    first, second = str(caught.value).splitlines()
    assert first.startswith("The goal 0.1ms cannot be reached: at most ")
    assert "the table's odd widths (--round-to 8, for it and here, may be faster)" in second
    goal = second.rpartition("Ask for ")[2].removesuffix(" or more.")
    prunecore.prune(network(), input_shape=(5,), to=goal, latency=str(table))
    with pytest.raises(LevelError, match=r"^Nothing has to go for the goal 9ms: the network has 3"):
        prunecore.prune(network(), input_shape=(5,), to="9ms", latency=str(table))


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"schema": 2}, "its schema is not 1"),
        ({"threads": True}, "it has no threads"),
        ({"layers": []}, "it has no layers"),
        ({"ms": [1.0, float("nan")]}, "ms is no list of two positive numbers or more"),
        ({"ms": [1.0]}, "ms is no list of two positive numbers or more"),
        ({"layers": {"0": 3}}, "ms is no list of positive numbers of the layer 0"),
        ({"layers": {"0": {"ms": [1], "widths": 3}}}, "widths is no list of lists"),
        ({"layers": {"0": {"ms": [1, 2], "widths": [[1], [1, 2]]}}}, "the same number of axes"),
        ({"layers": {"0": {"ms": [1], "widths": [[1]]}}}, "there are not 16 rows"),
    ],
)
def test_what_is_no_table_is_told(table: Path, change: dict[str, Any], what: str) -> None:
    table.write_text(json.dumps({**json.loads(table.read_text()), **change}))
    with pytest.raises(UsageError) as caught:
        read_table(table)
    said = str(caught.value)
    assert what in said
    assert said.startswith(f"{table} is no table of layer latencies: ")
    assert len(said.splitlines()) == 2


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "null"])
def test_what_is_no_json_is_told(tmp_path: Path, text: str) -> None:
    file = tmp_path / "a.json"
    file.write_text(text)
    with pytest.raises(UsageError, match="is no table of layer latencies: "):
        read_table(file)


def test_a_table_that_is_not_there_is_told(table: Path) -> None:
    with pytest.raises(PrunecoreError, match="no such file"):
        prunecore.prune(network(), input_shape=(5,), to="1ms", latency="nowhere.json")


@pytest.mark.usefixtures("toys_installed")
def test_a_layer_is_what_nothing_that_is_called_lies_in() -> None:
    model = nn.Sequential(
        nn.Linear(3, 8), nn.Sequential(nn.ReLU(), nn.Linear(8, 6)), nn.Linear(6, 2)
    )
    dependencies = prunecore.trace(model, input_shape=(3,)).dependencies
    axes = layer_axes(dependencies)
    lengths = {path: [len(dependencies.axes[index]) for index in row] for path, row in axes.items()}
    assert lengths == {"0": [8], "1.1": [6, 8], "2": [6]}
