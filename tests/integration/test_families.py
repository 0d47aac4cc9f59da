"""All families together: what a plugin says of a block is what its forward does."""

from __future__ import annotations

import pytest
from torch import nn

from prunecore.inputs import of_shape
from prunecore.plugin import Signal
from prunecore.plugins.loading import load
from prunecore.testing import check_block, check_plugin
from prunecore.walking.network import walk

from .networks import network

FAMILIES = [
    "googlenet",
    "mobilenet",
    "recurrent",
    "resnet",
    "sequential",
    "squeezenet",
    "swin",
    "vit",
]
OWNED = {  # network to the classes of it that a family owns, and the side of its input
    "resnet18": ({"BasicBlock"}, 32),
    "resnet50": ({"Bottleneck"}, 32),
    "resnext50_32x4d": ({"Bottleneck"}, 32),
    "mobilenet_v2": ({"InvertedResidual"}, 32),
    "mobilenet_v3_small": ({"InvertedResidual", "SqueezeExcitation"}, 32),
    "mobilenet_v3_large": ({"InvertedResidual", "SqueezeExcitation"}, 32),
    "mnasnet1_0": ({"_InvertedResidual"}, 32),
    "efficientnet_b0": ({"MBConv", "SqueezeExcitation", "StochasticDepth"}, 32),
    "efficientnet_v2_s": ({"FusedMBConv", "MBConv", "SqueezeExcitation", "StochasticDepth"}, 32),
    "squeezenet1_0": ({"Fire"}, 64),
    "squeezenet1_1": ({"Fire"}, 64),
    "googlenet": ({"BasicConv2d", "Inception"}, 32),
    "inception_v3": ({"BasicConv2d", *(f"Inception{letter}" for letter in "ABCDE")}, 96),
    "resnet20_decorated_a": ({"DecoratedBlock"}, 32),
    "mobilenet_v2_cifar": ({"MobileBlock"}, 32),
    "squeezenet_cifar": ({"FireBlock"}, 32),
    "googlenet_cifar": ({"InceptionBlock"}, 32),
}


def blocks_of(model: nn.Module, side: int) -> dict[str, tuple[nn.Module, list[tuple[int, ...]]]]:
    """A block of each configuration that a family owns, and the shapes of its inputs."""
    plugins = load()
    found = walk(model, of_shape((3, side, side)), plugins)
    blocks = {}
    for path, visits in found.forwards.visits.items():
        block = model.get_submodule(path)
        owner = plugins.owner(type(block))
        if owner is not None and owner.name != "sequential":
            shapes = [x.shape[1:] for x in visits[0].inputs if isinstance(x, Signal)]
            blocks[repr(block)] = block, shapes
    return blocks


@pytest.mark.parametrize("name", OWNED)
def test_a_plugin_agrees_with_tracing_on_every_block_that_it_owns(name: str) -> None:
    classes, side = OWNED[name]
    blocks = blocks_of(network(name), side)
    assert {type(block).__name__ for block, _ in blocks.values()} == classes
    for block, shapes in blocks.values():
        if type(block).__name__ != "StochasticDepth":  # makes no channels; see its plugin's tests
            check_block(block, *shapes, seeds=[0])


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_is_a_whole_plugin(family: str) -> None:
    check_plugin(family)


def test_every_family_is_tested_here() -> None:
    assert sorted(plugin.name for plugin in load().all if plugin.hooks) == sorted(
        [*FAMILIES, "builtin", "onnx"]
    )


@pytest.mark.parametrize("name", ["squeezenet1_1", "googlenet", "mobilenet_v2", "resnet18"])
def test_without_its_family_a_network_is_followed_through_its_own_forward(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    side = OWNED[name][1]
    model = network(name)
    owned = walk(model, of_shape((3, side, side)), load())
    monkeypatch.setenv("PRUNECORE_BLOCK", "googlenet,mobilenet,resnet,squeezenet")
    traced = walk(model, of_shape((3, side, side)), load())
    assert traced.bound.keys() == owned.bound.keys()
    assert traced.count == owned.count
    assert (traced.removable == owned.removable).all()
