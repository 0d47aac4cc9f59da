"""Values read the same way from flags and configurations."""

from __future__ import annotations

from typing import Any

import pytest

from prunecore.errors import UsageError
from prunecore.files import values


def test_targets_are_those_of_the_plan() -> None:
    from prunecore.planning.plan import TARGETS

    assert values.TARGETS == TARGETS


@pytest.mark.parametrize(("given", "level"), [("50", 50.0), (12.5, 12.5), ("99.9", 99.9)])
def test_a_level_is_a_percentage(given: object, level: float) -> None:
    assert values.read_level(given) == level


@pytest.mark.parametrize("given", [0, 100, -5, "abc", "nan", "inf", True, None, [50]])
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


@pytest.mark.parametrize("given", ["", "3,x", "3,0", "3,-1", "3.5", [3, True], [], "3,,3"])
def test_anything_else_is_no_input_shape(given: object) -> None:
    with pytest.raises(UsageError, match="3,224,224"):
        values.read_shape(given)


@pytest.mark.parametrize("given", [-1, 2**63, 1.5, "1", True])
def test_a_seed_is_a_whole_number(given: object) -> None:
    with pytest.raises(UsageError, match="a seed is"):
        values.read_seed(given)


def test_an_unknown_target_is_named_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match=r"(?s)'param'.*Did you mean 'params'.*channels, macs"):
        values.read_target("param")


@pytest.mark.parametrize("given", ["../net", "class", "res-net", "", "50net", "a/b", "a.b"])
def test_a_network_s_name_can_be_imported(given: str) -> None:
    with pytest.raises(UsageError, match="Python name"):
        values.read_net_name(given)


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
    with pytest.raises(UsageError, match="not YAML"):
        values.read_argument(given)
