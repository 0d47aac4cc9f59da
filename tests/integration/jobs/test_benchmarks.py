"""What the benchmarks do beside measuring: reading CIFAR-10, and writing parts of one page."""

from __future__ import annotations

import hashlib
import importlib
import json
import pickle
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> ModuleType:
    """One of the scripts as a module."""
    for folder in (BENCHMARKS, BENCHMARKS / "accuracy"):
        monkeypatch.syspath_prepend(str(folder))
    return importlib.import_module(request.param)


def write_batches(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A few images in the files of CIFAR-10, and their sums where torchvision looks for them."""
    from torchvision.datasets import CIFAR10

    inside = folder / CIFAR10.base_folder
    inside.mkdir(parents=True)
    random = np.random.default_rng(0)

    def written(name: str, content: dict[str, object]) -> str:
        (inside / name).write_bytes(pickle.dumps(content))
        return hashlib.md5((inside / name).read_bytes()).hexdigest()

    def batch(name: str, count: int) -> list[str]:
        data = random.integers(0, 256, (count, 3072), dtype=np.uint8)
        labels = [number % 10 for number in range(count)]
        return [name, written(name, {"data": data, "labels": labels})]

    training = [batch(name, 8) for name, _ in CIFAR10.train_list]
    monkeypatch.setattr(CIFAR10, "train_list", training)
    monkeypatch.setattr(CIFAR10, "test_list", [batch("test_batch", 10)])
    names = {"label_names": [str(number) for number in range(10)]}
    sums = {**CIFAR10.meta, "md5": written(CIFAR10.meta["filename"], names)}
    monkeypatch.setattr(CIFAR10, "meta", sums)


@pytest.mark.parametrize("script", ["quality"], indirect=True)
def test_networks_are_compared_on_cifar(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_batches(tmp_path / "data", monkeypatch)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(importlib.import_module("cifar"), "_EPOCHS", 1)
    monkeypatch.setattr(script, "OURS", ("magnitude",))
    monkeypatch.setattr(script, "IN_STEPS", ())
    monkeypatch.setattr(script, "THEIRS", ("magnitude l1",))
    data = str(tmp_path / "data")
    script.main(["--cifar", data, "--networks", "resnet20", "--levels", "30", "--seeds", "0"])
    made = tmp_path / "build" / "quality" / "cifar"
    assert sorted(file.name for file in made.iterdir()) == [
        "resnet20_0.safetensors",
        "results.json",
    ]
    rows = json.loads((made / "results.json").read_text())
    assert [row["tool"] for row in rows] == ["prunecore", "Torch-Pruning"]
    assert rows[0]["cells"]["30.0"].keys() == {"plain", "data-free", "statistics", "refit"}
    assert rows[1]["cells"]["30.0"].keys() == {"plain", "statistics"}


@pytest.mark.parametrize("script", ["quality"], indirect=True)
def test_cifar_that_is_not_there_is_not_downloaded(script: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="not found or corrupted"):
        script.main(["--cifar", str(tmp_path)])
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("script", ["page"], indirect=True)
def test_each_script_writes_its_part_of_the_page(script: ModuleType, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Page\n\n<!-- a -->\n<!-- end of a -->\n\n<!-- b -->\n<!-- end of b -->\n")
    script.write_part("a", "one \\1\n", page)
    script.write_part("b", "two", page)
    script.write_part("a", "three", page)
    assert page.read_text() == (
        "# Page\n\n<!-- a -->\n\nthree\n\n<!-- end of a -->\n\n"
        "<!-- b -->\n\ntwo\n\n<!-- end of b -->\n"
    )
    with pytest.raises(ValueError, match="no part between"):
        script.write_part("c", "", page)


@pytest.mark.parametrize("script", ["tools"], indirect=True)
def test_the_head_has_the_default_and_the_best_of_the_others(script: ModuleType) -> None:
    def row(tool: str, mode: str, seed: int, **cells: float) -> dict[str, object]:
        start = {"network": "vgg", "before": 90 + seed, "seed": seed, "tool": tool, "mode": mode}
        return {**start, "cells": {50.0: cells}}

    rows = [
        row("prunecore", "magnitude", 0, plain=99.0, refit=99.0),
        row("prunecore", "surgeon", 0, plain=5.0, refit=80.0),
        row("prunecore", "surgeon", 1, plain=6.0, refit=82.0),
        row("Torch-Pruning", "lamp", 0, plain=10.0, statistics=60.0),
        row("Torch-Pruning", "lamp", 1, plain=70.0, statistics=40.0),
        row("Torch-Pruning", "taylor", 0, plain=55.0, statistics=20.0),
    ]
    assert script.head(rows, [50.0, 70.0])[2:] == [
        "| vgg | 90.3 | prunecore | 81.0 | not reached |",
        "| vgg | 90.3 | Torch-Pruning | 55.0 | not reached |",
    ]


PARTS = {
    "README.md": ["quality", "speed"],
    "docs/quality.md": ["digits", "photographs"],
    "docs/speed.md": [
        "pruning",
        "verification",
        "memory",
        "large weights",
        "growth",
        "start",
        "kirigami",
    ],
    "docs/train.md": ["adaptation"],
}


@pytest.mark.parametrize("file", PARTS)
@pytest.mark.parametrize("script", ["page"], indirect=True)
def test_a_page_has_its_parts(script: ModuleType, file: str, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text((BENCHMARKS.parent / file).read_text())
    for part in PARTS[file]:
        script.write_part(part, "text", page)
        assert f"<!-- {part} -->\n\ntext\n\n<!-- end of {part} -->" in page.read_text()
    with pytest.raises(ValueError, match="has no part between <!-- none -->"):
        script.write_part("none", "text", page)
