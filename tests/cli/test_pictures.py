"""Pictures of the sensitivity, and what stands in the way of one."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from prunecore.cli import pictures
from prunecore.cli.pictures import check_picture, draw_sensitivity
from prunecore.cli.tables import sensitivity_table
from prunecore.errors import PrunecoreError, UsageError


def inspection(number: int, agreement: float | None = 0.9) -> dict[str, Any]:
    levels = [
        {"asked": share, "removed": share // 25, "agreement": agreement, "error": error}
        for share, error in ((25, 0.0), (50, 0.1), (75, 0.4))
    ]
    groups = [
        {"group": place, "layers": [f"$_layer{place}", "_b"], "levels": levels[: 1 + place % 3]}
        for place in range(number)
    ]
    return {
        "model": "$net$",
        "groups": [{"removable": 4}] * number,
        "sensitivity": {"mode": "surgeon", "images": 6, "held_back": 3, "groups": groups},
    }


@pytest.mark.parametrize("name", ["a.svg", "a.png", "a.PNG"])
def test_a_picture_is_drawn_and_the_same_each_time(name: str, tmp_path: Path) -> None:
    file = tmp_path / name
    check_picture(file)
    draw_sensitivity(inspection(3), file)
    first = file.read_bytes()
    draw_sensitivity(inspection(3), file)  # which replaces it
    assert file.read_bytes() == first
    if name == "a.svg":
        assert b"<svg" in first
    else:
        with Image.open(file) as image:
            assert image.format == "PNG"


@pytest.mark.parametrize("number", [1, 100])
def test_of_any_number_of_groups(number: int, tmp_path: Path) -> None:
    draw_sensitivity(inspection(number), tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as image:
        assert image.width > 1000


def test_where_outputs_are_of_no_classes_the_error_is_drawn_alone(tmp_path: Path) -> None:
    for name, agreement in (("both.svg", 0.5), ("one.svg", None)):
        draw_sensitivity(inspection(2, agreement), tmp_path / name)
    assert "axes_2" in (tmp_path / "both.svg").read_text()
    assert "axes_2" not in (tmp_path / "one.svg").read_text()


def test_what_stands_in_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match=r"a\.pdf is no \.svg or \.png file"):
        check_picture(tmp_path / "a.pdf")
    with pytest.raises(UsageError, match=r"There is no folder .*none for the picture"):
        check_picture(tmp_path / "none/a.svg")
    (tmp_path / "b.svg").mkdir()
    with pytest.raises(UsageError, match=r"b\.svg is a folder"):
        check_picture(tmp_path / "b.svg")
    with pytest.raises(PrunecoreError, match=r"Cannot write .*: Is a directory"):
        draw_sensitivity(inspection(1), tmp_path / "b.svg")
    monkeypatch.setattr(
        pictures, "find_spec", lambda name: None if name == "matplotlib" else find_spec(name)
    )
    with pytest.raises(UsageError, match=r"pip install 'prunecore\[plot\]'"):
        check_picture(tmp_path / "a.svg")


def test_the_table_has_a_row_a_group_and_a_column_a_share() -> None:
    table = sensitivity_table(inspection(3))
    columns = [[str(cell) for cell in column.cells] for column in table.columns]
    assert columns[1] == [f"$_layer{place} and 1 more" for place in range(3)]
    assert columns[3] == ["90.0%  0.000"] * 3
    assert columns[5] == ["-", "-", "90.0%  0.400"]
    assert next(iter(sensitivity_table(inspection(1, None)).columns[3].cells)) == "-  0.000"
