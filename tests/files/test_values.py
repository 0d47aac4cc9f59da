"""Values read the same way from flags and configurations."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from prunecore.errors import UsageError
from prunecore.files import values
from prunecore.inputs import Inputs
from prunecore.typed_input import TypedInput


@pytest.mark.parametrize(("given", "level"), [("50", 50.0), (12.5, 12.5), ("99.9", 99.9)])
def test_a_level_is_a_percentage(given: object, level: float) -> None:
    assert values.read_level(given) == level


@pytest.mark.parametrize(
    "given",
    [
        0, 100, -5, "abc", "nan", "inf", True, None, [50], float("nan"), "1_0", "\uff15\uff10",
        "\u0665", "0x10", "", "5 0", "1e-400", "5" * 99, {},
    ],
)  # fmt: skip
def test_anything_else_is_no_level(given: object) -> None:
    with pytest.raises(UsageError, match="above 0 and below 100"):
        values.read_level(given)


@pytest.mark.parametrize(
    ("given", "levels"),
    [
        (50, (50.0,)),
        ([10, 30.5, 10], (10.0, 30.5)),
        ("10, 30, 50", (10.0, 30.0, 50.0)),
        (("70", "30"), (70.0, 30.0)),
    ],
)
def test_levels_come_one_or_many(given: object, levels: tuple[float, ...]) -> None:
    assert values.read_levels(given) == levels


def test_an_empty_list_of_levels_is_an_error() -> None:
    with pytest.raises(UsageError, match="no level"):
        values.read_levels([])


@pytest.mark.parametrize("given", ["3,224,224", "3, 224, 224", [3, 224, 224]])
def test_an_input_shape_is_whole_numbers(given: object) -> None:
    assert values.read_shape(given) == (3, 224, 224)


def test_a_number_too_large_for_a_float_is_no_level() -> None:
    with pytest.raises(UsageError, match="not a number of 5000 digits"):
        values.read_level(10**5000)


@pytest.mark.parametrize(
    "given",
    [
        "", "3,x", "3,0", "3,-1", "3.5", [3, True], [], "3,,3", "1_0", "\u0663", "\xb2", [3.0], {},
        "9" * 19, [None],
    ],
)  # fmt: skip
def test_anything_else_is_no_input_shape(given: object) -> None:
    with pytest.raises(UsageError, match="3,224,224"):
        values.read_shape(given)


@pytest.mark.parametrize("given", [0, -1, 10_001, 1.0, "1", True, None])
def test_a_count_is_as_many_as_a_job_writes(given: object) -> None:
    with pytest.raises(UsageError, match="a count is a whole number from 1 to 10,000"):
        values.read_count(given)


@pytest.mark.parametrize("given", [-1, 2**63, 1.5, "1", True])
def test_a_seed_is_a_whole_number(given: object) -> None:
    with pytest.raises(UsageError, match="a seed is"):
        values.read_seed(given)


def test_an_unknown_target_is_named_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match=r"(?s)'param'.*Did you mean 'params'.*latency, macs"):
        values.read_target("param")


@pytest.mark.parametrize(
    ("given", "why"),
    [
        *(
            (name, "it is no identifier")
            for name in ("../net", "res-net", "", "50net", "a/b", "a.b")
        ),
        *((name, "it is no identifier") for name in ("a\0", "net\n", "\ud800", "a\u202e")),
        *((name, "it is a keyword") for name in ("class", "None", "True")),
        *((name, "may need Python's own") for name in ("super", "int", "range", "print")),
        ("__import__", "are Python's own"),
        ("__name__", "are Python's own"),
        ("__getattr__", "are Python's own"),
        ("\ufb01", "Python reads it as 'fi'"),
        ("\uff33uper", "Python reads it as 'Super'"),
        ("cla\u017fs", "Python reads it as 'class'"),
        ("e\u0301", "Python reads it as '\xe9'"),
        ("net\xaa", "Python reads it as 'neta'"),
    ],
)
def test_a_network_s_name_can_be_imported_and_called(given: str, why: str) -> None:
    with pytest.raises(UsageError, match=f"Python name.*{why}"):
        values.read_net_name(given)


@pytest.mark.parametrize(
    "given", ["net", "true", "match", "_", "_net", "__net", "gr\xf6\xdfe", "Super"]
)
def test_a_name_that_python_takes(given: str) -> None:
    assert values.read_net_name(given) == given


@pytest.mark.parametrize("given", ["a\0b", "\ud800", "a/\udcff/b"])
def test_a_path_that_no_system_has(given: str) -> None:
    with pytest.raises(UsageError, match=r"cannot be a path|no text in UTF-8"):
        values.read_path(given)


@pytest.mark.parametrize(
    "given", ["..", ".", "/etc", "a/b", "../x", "a\\b", "C:", "C:x", "", "a\0b", "a\n"]
)
def test_a_folder_s_name_leads_nowhere_else(given: str) -> None:
    with pytest.raises(UsageError, match="plain folder name"):
        values.read_folder_name(given)


@pytest.mark.parametrize("given", ["aquatic", "cifar-100", "run 1", "..."])
def test_a_plain_name_is_a_folder_s_name(given: str) -> None:
    assert values.read_folder_name(given) == given


@pytest.mark.parametrize(
    ("given", "value"),
    [
        ("n=10", 10),
        ("n=0.5", 0.5),
        ("n=true", True),
        ("n=relu", "relu"),
        ("n=[1, 2]", [1, 2]),
        ("n=a=b", "a=b"),
        ("n=", None),
        ("n=190:20:30", "190:20:30"),
        ("n=010", "010"),
        ("n=__import__('os').getcwd()", "__import__('os').getcwd()"),
    ],
)
def test_an_argument_s_value_is_read_as_yaml_and_never_run(given: str, value: Any) -> None:
    assert values.read_argument(given) == ("n", value)


@pytest.mark.parametrize("given", ["n", "=3", "a b=3", "1=2"])
def test_an_argument_has_a_name_and_a_value(given: str) -> None:
    with pytest.raises(UsageError, match="NAME=VALUE"):
        values.read_argument(given)


@pytest.mark.parametrize("given", ["n=[1", "n=!!python/object:os.system {}"])
def test_an_argument_that_is_no_yaml_is_an_error(given: str) -> None:
    with pytest.raises(UsageError, match="cannot be read as YAML"):
        values.read_argument(given)


TOKENS = TypedInput((128,), torch.int64, 0, 29999)


@pytest.mark.parametrize(
    ("given", "inputs"),
    [
        ("int64[128]<30000", Inputs((TOKENS,))),
        ("tokens:int64[128]<30000", Inputs((), {"tokens": TOKENS})),
        (
            ("float[3]", " mask : bool[8]", "scale=2.0", "how=mean", "cache=null", "train=true"),
            Inputs(
                (TypedInput((3,)),),
                {
                    "mask": TypedInput((8,), torch.bool),
                    "scale": 2.0,
                    "how": "mean",
                    "cache": None,
                    "train": True,
                },
            ),
        ),
        (
            {"image": [3, 8, 8], "tokens": "int64[128]<30000", "scale": 2, "cache": None},
            Inputs(
                (), {"image": TypedInput((3, 8, 8)), "tokens": TOKENS, "scale": 2, "cache": None}
            ),
        ),
        ([[3, 8, 8], "bool[]"], Inputs((TypedInput((3, 8, 8)), TypedInput((), torch.bool)))),
    ],
)
def test_inputs_by_place_and_by_name(given: object, inputs: Inputs) -> None:
    assert values.read_inputs(given) == inputs


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ("int46[3]<4", "Unknown type of an input 'int46'"),
        (["x:float[3]", "x:bool[3]"], "the input 'x' is given twice"),
        ("scale=[1]", "NAME=VALUE"),
        ("scale=.inf", "NAME=VALUE"),
        ([], "there is no input"),
        ({}, "there is no input"),
        ({"a b": 1}, "'a b' cannot be the name of an input"),
        ({3: 1}, "3 cannot be the name"),
        ({"mask": "bool"}, "has no sizes"),
        ({"mask": {"a": 1}}, "an input shape is whole numbers"),
    ],
)
def test_what_are_no_inputs(given: object, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        values.read_inputs(given)
