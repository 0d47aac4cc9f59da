"""Networks for segmentation and video, the backbones of detectors, and several inputs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree
from torchvision.models import get_model
from torchvision.ops.misc import FrozenBatchNorm2d

import prunecore

from .networks import filled

SHAPES = {
    "fcn_resnet50": (3, 33, 33),
    "deeplabv3_mobilenet_v3_large": (3, 64, 64),
    "deeplabv3_resnet50": (3, 33, 33),
    "lraspp_mobilenet_v3_large": (3, 64, 64),
    "r3d_18": (3, 4, 24, 24),
    "mc3_18": (3, 4, 24, 24),
    "r2plus1d_18": (3, 4, 24, 24),
    "s3d": (3, 16, 224, 224),
}
RUN = """
import sys, torch
from torch.utils import _pytree as pytree
import net_50
assert not any(name.startswith(("prunecore", "torchvision")) for name in sys.modules)
net = net_50.net(weights="net_50.safetensors")
for training in (True, False):
    output = net.train(training)(torch.randn(2, *{shape}))
    sum(leaf.float().mean() for leaf in pytree.tree_leaves(output)).backward()
"""


def torchvision_model(name: str, **arguments: Any) -> nn.Module:
    none: dict[str, Any] = {"weights": None}
    if len(SHAPES.get(name, ())) < 4:  # all but those for video
        none["weights_backbone"] = None
    with torch.device("meta"):
        model: nn.Module = get_model(name, **{**none, **arguments})
    return filled(model.to_empty(device="cpu"))


def run_alone(small: prunecore.PrunedModel, shape: tuple[int, ...], folder: Path) -> None:
    """Load a written set in a process without prunecore; run it forward and backward."""
    small.save(folder / "net_50.py")
    script = RUN.format(shape=shape)
    subprocess.run([sys.executable, "-c", script], cwd=folder, check=True)


@pytest.mark.parametrize("name", SHAPES)
def test_segmentation_and_video_are_halved_exactly(name: str, tmp_path: Path) -> None:
    model, shape = torchvision_model(name), SHAPES[name]
    verified = name != "s3d"  # which takes no smaller input
    small = prunecore.prune(model, level=50, input_shape=shape, verify=verified, name="net")
    assert small.report["level"]["achieved"] == pytest.approx(50, abs=1)
    assert small.report["left_out"] == []
    if verified:
        assert small.report["verified"]["max_relative_difference"] <= 1e-9
        run_alone(small, shape, tmp_path)


def test_auxiliary_classifiers_are_written_as_the_dictionary_has_them() -> None:
    model = torchvision_model("fcn_resnet50", aux_loss=True, num_classes=5)
    small = prunecore.prune(model, level=50, input_shape=(3, 33, 33))
    outputs = small.model.train()(torch.randn(2, 3, 33, 33))
    assert {key: tuple(value.shape) for key, value in outputs.items()} == {
        "out": (2, 5, 33, 33),
        "aux": (2, 5, 33, 33),
    }


@pytest.mark.parametrize(
    ("name", "shape"), [("googlenet", (3, 64, 64)), ("inception_v3", (3, 299, 299))]
)
def test_auxiliary_heads_train(name: str, shape: tuple[int, ...], tmp_path: Path) -> None:
    model = get_model(name, weights=None, init_weights=False)
    small = prunecore.prune(filled(model), level=50, input_shape=shape, name="net")
    assert small.report["left_out"] == []
    theirs = model.train()(torch.randn(2, *shape))
    ours = small.model.train()(torch.randn(2, *shape))
    assert type(ours).__name__ == type(theirs).__name__
    assert ours._fields == theirs._fields
    assert [tuple(x.shape) for x in ours] == [tuple(x.shape) for x in theirs]
    run_alone(small, shape, tmp_path)


def test_one_head_of_two_is_dropped() -> None:
    model = filled(get_model("googlenet", weights=None, init_weights=False))
    small = prunecore.prune(model, level=50, input_shape=(3, 64, 64), drop=["aux1"])
    assert small.report["left_out"] == ["aux1"]
    outputs = small.model.train()(torch.randn(2, 3, 64, 64))
    assert outputs.aux_logits1 is None
    assert outputs.aux_logits2.shape == (2, 1000)


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("fasterrcnn_resnet50_fpn", "backbone.body"),
        ("retinanet_resnet50_fpn", "backbone.body"),
        ("ssdlite320_mobilenet_v3_large", "backbone"),
    ],
)
def test_a_detector_s_backbone_is_put_in_the_place_of_its_own(name: str, module: str) -> None:
    model = torchvision_model(name)
    shape = (3, 64, 64)
    small = prunecore.prune(model.get_submodule(module), level=40, input_shape=shape)
    before = model.get_submodule(module)(torch.randn(1, *shape))
    after = small.model.eval()(torch.randn(1, *shape))
    assert list(before) == list(after)
    assert [before[key].shape for key in before] == [after[key].shape for key in after]
    holder, _, key = module.rpartition(".")
    setattr(model.get_submodule(holder), key, small.model)
    (found,) = model([torch.rand(3, 64, 64)])
    assert set(found) == {"boxes", "labels", "scores"}


def test_a_frozen_batch_norm_s_buffers_are_cut() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), FrozenBatchNorm2d(8), nn.Conv2d(8, 4, 1))
    small = prunecore.prune(filled(model), level=40, input_shape=(3, 8, 8))
    width = small.model[0].out_channels
    assert width < 8
    assert {len(buffer) for _, buffer in small.model[1].named_buffers()} == {width}


class TwoInputs(nn.Module):
    """An image and a vector, two outputs in a dictionary."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 12, 3)
        self.fc = nn.Linear(5, 12)
        self.left = nn.Linear(12, 4)
        self.right = nn.Linear(12, 3)

    def forward(self, image: Tensor, vector: Tensor) -> dict[str, Any]:
        x = self.conv(image).relu().mean([2, 3]) + self.fc(vector)
        return {"left": self.left(x), "both": (image, [self.right(x)])}


def test_several_inputs_and_nested_outputs(tmp_path: Path) -> None:
    model, shapes = filled(TwoInputs()), [(3, 8, 8), (5,)]
    small = prunecore.prune(model, level=40, input_shape=shapes)
    inputs = [torch.randn(2, *shape) for shape in shapes]
    assert pytree.tree_structure(small.model(*inputs)) == pytree.tree_structure(model(*inputs))
    small.save(tmp_path / "two_40.py")

    assert prunecore.verify(tmp_path / "two_40.py", model, input_shape=shapes).inputs == 8
