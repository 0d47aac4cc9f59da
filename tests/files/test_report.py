"""The report: its keys, what it counts, its text; and what inspection shows."""

from __future__ import annotations

import io
import json
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from rich.table import Table
from torch import nn

from prunecore.channels.dependencies import Dependencies
from prunecore.channels.keep import Keep
from prunecore.channels.records import Forwards
from prunecore.cli import tables
from prunecore.files.reports import report
from prunecore.files.reports.schema import what_is_wrong
from prunecore.inputs import of_shape
from prunecore.planning.cost import Cost
from prunecore.planning.plan import Plan
from prunecore.planning.request import Request

KEYS = {"latency", "schema", "model", "mode", "target", "scope", "seed", "goal", "level"}
KEYS |= {
    "before",
    "after",
    "fingerprint",
    "fixed_arguments",
    "needed_arguments",
    "inputs",
    "kept",
    "groups",
    "verified",
    "recovered",
    "steps",
    "tried",
    "scoring",
    "limits",
    "left_out",
    "left_whole",
    "plugins",
}


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.left = nn.Linear(3, 2)
        self.right = nn.Linear(3, 2)
        self.both = nn.Linear(4, 4)
        self.alone = nn.Linear(4, 3)
        self.again = nn.Linear(4, 3, bias=False)
        self.again.weight = self.alone.weight
        self.out = nn.Linear(3, 5)
        self.aux = nn.Linear(3, 3, bias=False)
        self.aux.weight = self.out.weight


def dependencies_of(model: nn.Module) -> Dependencies:
    """`left` and `right` are concatenated and added to `both`; `out` is the output."""
    left, right = np.array([0, 1]), np.array([2, 3])
    both, alone, out = np.array([0, 1, 2, 3]), np.array([4, 5, 6]), np.array([-1] * 5)
    bound = {
        "left.weight": {0: 0},
        "left.bias": {0: 0},
        "right.weight": {0: 1},
        "right.bias": {0: 1},
        "both.weight": {0: 2, 1: 2},
        "both.bias": {0: 2},
        "alone.weight": {0: 3, 1: 2},
        "alone.bias": {0: 3},
        "out.weight": {0: 4, 1: 3},
        "out.bias": {0: 4},
    }
    unread: dict[str, Any] = {field.name: {} for field in fields(Dependencies)}
    given: dict[str, Any] = {
        "count": 7,
        "removable": np.array([True, True, True, True, True, True, False]),
        "axes": (left, right, both, alone, out),
        "bound": bound,
        "layers": {"left": 0, "both": 2, "alone": 3, "right": 1, "out": 4},
        "tensors": dict(model.named_parameters()),
        "macs": {"both.weight": 2},
        "left_out": ("aux",),
        "left_whole": {"out": "softmax mixes it"},
    }
    return Dependencies(**{**unread, "forwards": Forwards(), **given})


@pytest.fixture
def built() -> dict[str, Any]:
    model = Net()
    dependencies = dependencies_of(model)
    kept = np.array([True, False, True, True, False, True, True])
    return report.build_report(
        name="net",
        model=model,
        request=Request(30, "l1-norm", seed=3),
        plan=Plan(kept, "params", 50.0, 50.123456, Cost(9, 8, 7), Cost(6, 5, 4)),
        keep=Keep(model, dependencies, kept),
        dependencies=dependencies,
        verified={"max_relative_difference": 1e-15, "inputs": 2},
        recovered=[],
        plugins={"prunecore": "1.0"},
        inputs=of_shape((3,)),
    )


def test_the_keys_are_those_that_users_rely_on(built: dict[str, Any]) -> None:
    assert set(built) == KEYS
    assert built["schema"] == 1
    assert built["level"] == {"asked": 50.0, "achieved": 50.1235}
    assert built["before"] == {"params": 9, "macs": 8, "bytes": 7}
    assert built["left_out"] == ["aux"]
    assert built["left_whole"] == [{"layer": "out", "reason": "softmax mixes it"}]


def test_kept_indices_are_listed_for_what_was_cut_under_every_name(built: dict[str, Any]) -> None:
    assert built["kept"] == {
        "left.weight": [[0], None],
        "left.bias": [[0]],
        "both.weight": [[0, 2, 3], [0, 2, 3]],
        "both.bias": [[0, 2, 3]],
        "alone.weight": [[1, 2], [0, 2, 3]],
        "alone.bias": [[1, 2]],
        "again.weight": [[1, 2], [0, 2, 3]],
        "out.weight": [None, [1, 2]],
    }


def test_layers_that_share_a_channel_are_one_group(built: dict[str, Any]) -> None:
    assert built["groups"] == [
        {"layers": ["left", "both", "right"], "channels": [4, 3]},
        {"layers": ["alone"], "channels": [3, 2]},
        {"layers": ["out"], "channels": [5, 5]},
    ]


def test_the_text_is_sorted_json_with_an_entry_a_line(built: dict[str, Any]) -> None:
    text = report.report_text(built)
    assert json.loads(text) == built
    assert list(json.loads(text)) == sorted(built)
    assert text.endswith("}\n")
    assert '\n    "alone.weight": [[1, 2], [0, 2, 3]],\n' in text
    assert text == report.report_text(dict(reversed(built.items())))


def test_a_report_without_verification_says_so(built: dict[str, Any]) -> None:
    text = report.report_text({**built, "verified": None})
    assert '\n  "verified": null\n' in text


def test_a_line_is_the_same_report(built: dict[str, Any]) -> None:
    line = report.report_line(built)
    assert json.loads(line) == built
    assert "\n" not in line


HASHES = {"source": "0a" * 32, "weights": "1b" * 32}


@pytest.fixture
def saved(built: dict[str, Any]) -> dict[str, Any]:
    return {**built, "sha256": HASHES}


def test_what_is_saved_is_a_whole_report(saved: dict[str, Any]) -> None:
    assert what_is_wrong(json.loads(report.report_text(saved))) is None


@pytest.mark.parametrize("key", sorted(KEYS | {"sha256"}))
def test_a_key_that_is_missing_is_named(saved: dict[str, Any], key: str) -> None:
    wrong = what_is_wrong({name: saved[name] for name in saved if name != key})
    assert wrong is not None
    assert wrong.startswith(f"{key}")


@pytest.mark.parametrize(
    ("key", "values"),
    [
        ("schema", [2, "1", None, True, 1.5]),
        ("model", ["", "a b", None, 3, ["net"]]),
        ("mode", [None, 3, ["l1-norm"]]),
        ("seed", [-1, 0.5, True, None]),
        ("seed", [2**64, 10**400]),
        ("limits", [None, {}, {"round_to": "8"}]),
        ("recovered", [[{"step": "refit", "changed": [], "undone": False}]]),
        ("recovered", [[{"step": "on_step", "changed": [], "undone": True}]]),
        ("fingerprint", [3, [], True]),
        ("sha256", [None, "0a" * 32, {}, {"source": "0a" * 32}, {**HASHES, "weights": 3}]),
        ("sha256", [{**HASHES, "source": text} for text in ("", "0" * 63, "G" * 64, "0A" * 32)]),
        ("inputs", [None, [], {}, {"shapes": [[3]]}, {"shapes": [3], "named": {}}]),
        ("inputs", [{"shapes": [[size]], "named": {}} for size in (0, True, None, "3", [3])]),
        ("inputs", [{"shapes": [[]], "named": {}}, {"shapes": [], "named": {"x": 3}}]),
        ("inputs", [{"shapes": [], "named": {}}]),
        ("goal", [3, [], True]),
        ("latency", [3, [], {}, {"backend": "eager", "before": {"ms": 3.0}, "after": None}]),
        ("level", [50, None, [], {}, {"asked": 50}, {"asked": "50", "achieved": 50}]),
        ("level", [{"asked": float("nan"), "achieved": 50}, {"asked": 50, "achieved": True}]),
        ("before", [None, {}, {"params": 1, "macs": 2}, {"params": 1, "macs": 2, "bytes": [3]}]),
        (
            "after",
            [3, {"params": 1.5, "macs": 2, "bytes": 3}, {"params": -1, "macs": 2, "bytes": 3}],
        ),
        ("kept", [None, [], {"a": None}, {"a": 3}, {"a": [3]}, {"a": [["x"]]}, {"a": [[0.0]]}]),
        ("kept", [{"a": [[True]]}, {"a": [[-1]]}, {"a": [[1, 0]]}, {"a": [[1, 1]]}, {"a": [{}]}]),
        ("groups", [None, {}, [3], [{}], [{"layers": [3], "channels": []}]]),
        ("groups", [[{"layers": [], "channels": ["4"]}], [{"layers": "a", "channels": []}]]),
        ("verified", [3, [], {}, {"max_relative_difference": "0", "inputs": 1}]),
        ("left_out", [None, "a", [{}], [None], [3], [["a"]]]),
        ("fixed_arguments", [None, "a", [1]]),
        ("needed_arguments", [None, "a", [1]]),
        ("left_whole", [None, ["a"], [{}], [{"layer": "a"}], [{"layer": 3, "reason": "b"}]]),
        ("plugins", [None, [], {"prunecore": 3}]),
    ],
)
def test_a_value_that_cannot_be_is_named_with_what_is_expected(
    saved: dict[str, Any], key: str, values: list[Any]
) -> None:
    for value in values:
        wrong = what_is_wrong({**saved, key: value})
        assert wrong is not None, value
        assert wrong.startswith(f"{key}: ")
        assert wrong.startswith(f"{key}: expected ")
        assert len(wrong) < 200


@pytest.mark.parametrize("given", [None, 3, [], "report", [{}]])
def test_a_report_is_a_mapping(given: Any) -> None:
    assert str(what_is_wrong(given)).startswith("expected a mapping, not ")


def test_names_that_would_move_the_cursor_are_escaped(built: dict[str, Any]) -> None:
    odd = {**built, "left_out": ["a\x1b[2J"], "left_whole": [{"layer": "b\n", "reason": "c"}]}
    lines = tables.whole_lines(odd)
    assert lines == ["Left whole: b\\n, because c.", "Left out: a\\x1b[2J."]


def shown_value(table: Table) -> str:
    text = io.StringIO()
    Console(file=text, width=200).print(table)
    return text.getvalue()


def test_the_table_has_a_row_a_level(built: dict[str, Any]) -> None:
    big = {**built, "before": {"params": 25_557_032, "macs": 4_089_184_256, "bytes": 1}}
    text = shown_value(tables.prune_table([big, {**built, "verified": None}]))
    assert "net, l1-norm, level in percent of the params" in text
    assert "25.56 M -> 6   4.09 G -> 5" in text
    assert "<= 1e-15" in text
    assert "not verified" in text


def test_inspection_counts_what_may_go() -> None:
    model = Net()
    inspection = report.build_inspection(
        name="net",
        model=model,
        inputs=of_shape((3,)),
        dependencies=dependencies_of(model),
        plugins={"prunecore": "1.0"},
    )
    assert json.loads(report.report_line(inspection)) == inspection
    assert inspection["input_shape"] == [3]
    assert inspection["macs"] == 32
    assert inspection["groups"] == [
        {"layers": ["left", "both", "right"], "channels": 4, "removable": 4},
        {"layers": ["alone"], "channels": 3, "removable": 2},
        {"layers": ["out"], "channels": 5, "removable": 0},
    ]
    assert inspection["layers"][1] == {
        "layer": "both",
        "class": "Linear",
        "channels": 4,
        "params": 20,
        "macs": 32,
        "group": 0,
    }
    text = shown_value(tables.inspection_table(inspection))
    assert "both    Linear       0          4           4           20     32" in text


def test_what_was_left_whole_and_out_is_said_by_reason(built: dict[str, Any]) -> None:
    more = [*built["left_whole"], {"layer": "alone", "reason": "softmax mixes it"}]
    told = {**built, "left_whole": more, "fixed_arguments": ["labels", "log"]}
    told["needed_arguments"] = ["mask"]
    assert tables.whole_lines(told) == [
        "Left whole: out, alone, because softmax mixes it.",
        "Without arguments of its forward: labels, log.",
        "Never without arguments that the original's forward may lack: mask.",
        "Left out: aux.",
    ]
    names = ("left_whole", "left_out", "fixed_arguments", "needed_arguments")
    nothing: dict[str, list[str]] = {key: [] for key in names}
    assert tables.whole_lines(nothing) == []
