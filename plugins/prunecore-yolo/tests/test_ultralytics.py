"""ultralytics' own networks are exact, and go back into its trainer and validator."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import prunecore
from prunecore_yolo import graft

pytestmark = [pytest.mark.yolo, pytest.mark.filterwarnings("ignore")]  # ultralytics' own

CLASSES = {
    "seg": "SegmentationModel",
    "pose": "PoseModel",
    "obb": "OBBModel",
    "cls": "ClassificationModel",
}


def network(name: str) -> nn.Module:
    """A network by the name of its configuration, with statistics that a mistake cannot hide in."""
    tasks: Any = import_module("ultralytics.nn.tasks")
    task = name.rpartition("-")[2]
    options = {"data_kpt_shape": (3, 3)} if task == "pose" else {}
    made = getattr(tasks, CLASSES.get(task, "DetectionModel"))
    model: nn.Module = made(f"{name}.yaml", nc=4, verbose=False, **options).eval()
    for key, buffer in model.named_buffers():
        if key.endswith("running_mean"):
            nn.init.normal_(buffer, 0, 0.2)
        elif key.endswith("running_var"):
            nn.init.uniform_(buffer, 0.5, 1.5)
    return model


NAMES = """
    yolov8n yolov8n-seg yolov8n-pose yolov8n-obb yolov8n-cls
    yolo11n yolo11n-seg yolo11n-pose yolo11n-obb yolo11n-cls
    yolo12n yolo12n-seg yolo26n yolo26n-seg yolo26n-pose yolo26n-obb yolo26n-cls
    yolov3-tiny yolov5n yolov9t yolov10n
"""


@pytest.mark.parametrize("name", NAMES.split())
def test_networks_are_exact_at_other_sizes_than_the_one_given(name: str, tmp_path: Path) -> None:
    model = network(name)
    with torch.no_grad():
        model(torch.rand(2, 3, 64, 64))  # which leaves anchors of this size
    small = prunecore.prune(model, torch.rand(1, 3, 64, 64), level=40, verify=False)
    assert abs(small.report["level"]["achieved"] - 40) < 1
    head = f"model.{len(model.model) - 1}."  # boxes and their distribution have sizes of their own
    for entry in small.report["left_whole"]:
        is_of_head = entry["layer"].startswith(head)
        assert is_of_head or entry["reason"] == "it makes a single channel", entry
    file = tmp_path / "small_40.py"
    small.save(file)
    assert prunecore.verify(file, model, input_shape=(3, 96, 128)).max_relative_difference <= 1e-9


def photographs(folder: Path) -> Path:
    """Four images with a box on each, as ultralytics reads them; its configuration's path."""
    rng = np.random.default_rng(0)
    for kind in ("images", "labels"):
        (folder / kind).mkdir(parents=True)
    for number in range(4):
        image = Image.fromarray(rng.integers(0, 255, (64, 64, 3), dtype=np.uint8))
        image.save(folder / "images" / f"{number}.png")
        (folder / "labels" / f"{number}.txt").write_text(f"{number} 0.5 0.5 0.4 0.3\n")
    data = folder / "data.yaml"
    data.write_text(f"path: {folder}\ntrain: images\nval: images\nnames: [a, b, c, d]\n")
    return data


def test_a_pruned_network_is_validated_trained_and_saved_by_ultralytics(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    detect: Any = import_module("ultralytics.models.yolo.detect")
    model = network("yolov8n")
    small = prunecore.prune(model, torch.rand(1, 3, 64, 64), level=50, name="pruned", verify=False)
    small.save(tmp_path / "pruned_50.py")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(sys.modules, "pruned_50", import_module("pruned_50"))
    written = sys.modules["pruned_50"].pruned(weights=str(tmp_path / "pruned_50.safetensors"))
    grafted = graft(model, written).eval()
    x = torch.rand(2, 3, 96, 64)
    assert torch.equal(grafted(x)[0], small.model(x)[0])

    options = {
        "data": str(photographs(tmp_path / "data")),
        "imgsz": 64,
        "batch": 2,
        "device": "cpu",
        "workers": 0,
        "plots": False,
        "project": str(tmp_path / "runs"),
    }
    assert "fitness" in detect.DetectionValidator(args=options)(model=grafted)
    first = written.model[0].conv.weight.clone()
    trainer = detect.DetectionTrainer(overrides={**options, "model": "yolov8n.yaml", "epochs": 1})
    trainer.model = grafted
    trainer.train()
    assert not torch.equal(written.model[0].conv.weight, first)
    yolo = import_module("ultralytics").YOLO(trainer.best)
    assert sum(p.numel() for p in yolo.model.parameters()) == small.report["after"]["params"]
    image = np.zeros((64, 64, 3), dtype=np.uint8)
    assert len(yolo.predict(image, imgsz=64, device="cpu", verbose=False)) == 1
    written.load_state_dict(yolo.model.float().state_dict())  # what was trained, in the plain file
