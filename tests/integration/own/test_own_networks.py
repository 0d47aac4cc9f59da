"""Networks in the style of what people write, each pruned as they would, used and pruned again."""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType

import pytest
import torch
from torch import nn
from torch.utils import _pytree as pytree

import prunecore

from . import attention, blocks, detector, generative, maps, rearranged, sequences

IMAGE = (3, 32, 32)

# Their factories, and the shapes of their inputs where these are not one image.
NETWORKS: dict[ModuleType, dict[str, Sequence[int] | list[tuple[int, ...]]]] = {
    maps: dict.fromkeys(("unet", "unet_bilinear", "fpn", "hrnet", "deepsup"), IMAGE)
    | {"c3d": (3, 4, 8, 8)},
    detector: {"yolo": IMAGE},
    attention: dict.fromkeys(
        ("mixer", "own_vit", "annotated", "einattn", "gpt", "mha", "transformer", "sagan"), IMAGE
    ),
    sequences: {
        "tcn": (4, 32),
        "wavenet": (1, 32),
        "pointnet": (3, 20),
        "highway": (10,),
        "moe": (8,),
        "siamese": [(3, 16, 16), (3, 16, 16)],
    },
    blocks: dict.fromkeys(
        ("convmixer", "ghost", "res2net", "sknet", "senet", "coordatt", "option_a", "prelu"), IMAGE
    ),
    rearranged: dict.fromkeys(("EinopsVit", "EinopsCnn"), IMAGE),
    generative: {
        "espcn": IMAGE,
        "vae": IMAGE,
        "discr": [IMAGE, (4,)],
        "film": [(3, 16, 16), (5,)],
        "multitask": IMAGE,
    },
}
CASES = [
    pytest.param(getattr(module, name), shape, id=name)
    for module, networks in NETWORKS.items()
    for name, shape in networks.items()
]


@pytest.mark.parametrize("mode", ["l1-norm", "random-weighted"])
@pytest.mark.parametrize(("make", "shape"), CASES)
def test_a_network_that_people_write(
    make: type[nn.Module], shape: Sequence[int] | list[tuple[int, ...]], mode: str
) -> None:
    torch.manual_seed(0)
    model = make()
    small = prunecore.prune(model, level=40, input_shape=shape, mode=mode)
    assert abs(small.report["level"]["achieved"] - 40) < 10  # a channel of small ones is much
    assert small.report["verified"]
    assert small.model.state_dict().keys() <= model.state_dict().keys()
    shapes = shape if isinstance(shape, list) else [shape]
    for training in (False, True):
        output = small.model.train(training)(*(torch.rand(2, *each) for each in shapes))
        sum(leaf.sum() for leaf in pytree.tree_leaves(output)).backward()


@pytest.mark.parametrize(("make", "shape"), CASES)
def test_what_was_written_can_be_pruned_again(
    make: type[nn.Module], shape: Sequence[int] | list[tuple[int, ...]]
) -> None:
    torch.manual_seed(0)
    once = prunecore.prune(make(), level=30, input_shape=shape, mode="random", verify=False).model
    assert prunecore.prune(once, level=20, input_shape=shape).report["verified"]
