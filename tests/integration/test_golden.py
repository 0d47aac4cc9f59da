"""The written files, to be read: any change of the writer shows as a change of tests/golden.

`GOLDEN=write pytest tests/integration/test_golden.py` writes them anew. Their channels are drawn by
numpy, so that they are the same on every machine.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from prunecore.inputs import of_shape
from prunecore.planning.request import Request
from prunecore.traced_model import TracedModel

from .detector import SHAPES, Detector
from .networks import NETWORKS, filled, network
from .oracle import check_imports, check_style

GOLDEN = Path(__file__).parents[1] / "golden"
FILES = {  # network and level to the name in the file
    ("resnet18", 50): "resnet18",
    ("resnet50", 50): "resnet50",
    ("resnext50_32x4d", 70): "resnext50_32x4d",
    ("vgg11", 30): "vgg11",
    ("alexnet", 50): "alexnet",
    ("resnet20_decorated_b", 50): "resnet20",
    ("resnet20_lambda", 30): "resnet20_lambda",
    ("functional", 50): "functional",
    ("mobilenet_v2", 50): "mobilenet_v2",
    ("mnasnet1_0", 30): "mnasnet1_0",
    ("squeezenet1_1", 50): "squeezenet1_1",
    ("googlenet", 50): "googlenet",
    ("googlenet_cifar", 70): "googlenet_cifar",
    ("vit_cifar", 50): "vit_cifar",
    ("swin_cifar", 50): "swin_cifar",
    ("densenet121", 50): "densenet121",
    ("regnet_y_400mf", 50): "regnet_y_400mf",
    ("shufflenet_v2_x1_0", 50): "shufflenet_v2_x1_0",
    ("detector", 50): "detector",
}


def written(name: str, level: float, factory: str) -> str:
    is_own = name in NETWORKS or name == "detector"
    origin = f"networks.{factory}" if is_own else f"torchvision.models.{factory}"
    request = Request(level, "random", verify=name == "detector", name=factory, origin=origin)
    if name == "detector":
        return TracedModel(filled(Detector()), of_shape(SHAPES)).carry_out(request).source
    shape = (3, 32, 32) if is_own else (3, 224, 224)
    return TracedModel(network(name), of_shape(shape)).carry_out(request).source


@pytest.mark.parametrize(("name", "level"), FILES)
def test_the_written_file_is_the_one_that_was_reviewed(name: str, level: int) -> None:
    factory = FILES[name, level]
    file = GOLDEN / f"{factory}_{level}.py"
    source = written(name, level, factory)
    if os.environ.get("GOLDEN") == "write":
        file.write_text(source, encoding="utf-8")
    assert source == file.read_text(encoding="utf-8")
    check_imports(source)


def test_every_golden_file_is_tested_and_passes_ruff() -> None:
    names = [f"{factory}_{level}.py" for (_, level), factory in FILES.items()]
    assert sorted(file.name for file in GOLDEN.glob("*.py")) == sorted(names)
    check_style(GOLDEN)


def test_resnet50_is_as_short_as_a_person_would_have_written_it() -> None:
    assert len((GOLDEN / "resnet50_50.py").read_text(encoding="utf-8").splitlines()) < 120


def test_densenet121_is_as_short_as_a_person_would_have_written_it() -> None:
    assert len((GOLDEN / "densenet121_50.py").read_text(encoding="utf-8").splitlines()) < 150


def test_shufflenet_is_not_drowned_in_the_orders_of_its_channels() -> None:
    file = GOLDEN / "shufflenet_v2_x1_0_50.py"
    assert len(file.read_text(encoding="utf-8").splitlines()) < 330
