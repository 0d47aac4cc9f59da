from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import nn
from torchvision.models import GoogLeNet, Inception3
from torchvision.models.googlenet import BasicConv2d, Inception
from torchvision.models.inception import BasicConv2d as BasicConv2dOfV3
from torchvision.models.inception import InceptionA, InceptionB, InceptionC, InceptionD, InceptionE

import prunecore
from prunecore.testing import check_block, check_plugin

WIDTHS = (6, 4, 6, 4, 5, 7)  # of an Inception's convolutions
V3 = ["BasicConv2d", *(f"Inception{letter}" for letter in "ABCDE"), "Inception3"]


def googlenet(**arguments: object) -> GoogLeNet:
    return GoogLeNet(num_classes=10, init_weights=False, **arguments)


def inception_v3(**arguments: object) -> Inception3:
    return Inception3(num_classes=10, init_weights=False, **arguments)


def test_the_plugin_answers_as_it_should():
    check_plugin("googlenet")


def small_inception(**arguments):
    """Without the auxiliary head, which takes no input that is smaller than 299 x 299."""
    return inception_v3(aux_logits=False, **arguments)


@pytest.mark.parametrize(
    "block",
    [
        partial(BasicConv2d, 12, 9, kernel_size=3, stride=2, padding=1),
        partial(BasicConv2d, 12, 9, kernel_size=(1, 7), padding=(0, 3), dilation=1),
        partial(BasicConv2d, 12, 8, kernel_size=3, groups=4, padding_mode="reflect", padding=1),
        partial(BasicConv2d, 12, 12, kernel_size=3, groups=12),
        partial(BasicConv2dOfV3, 12, 9, kernel_size=1),
        partial(Inception, 12, *WIDTHS),
        partial(InceptionA, 12, pool_features=8),
        partial(InceptionB, 12),
        partial(InceptionC, 12, channels_7x7=8),
        partial(InceptionD, 12),
        partial(InceptionE, 12),
    ],
    ids=lambda block: block.func.__name__,
)
def test_a_block_is_followed_and_written_as_its_forward_is(block):
    made = block()
    for module in made.modules():
        if isinstance(module, nn.BatchNorm2d):  # so that few outputs are zero
            nn.init.constant_(module.bias, 2)
    check_block(made, (12, 9, 9), seeds=range(4))


@pytest.mark.parametrize("mode", ["random", "l1-norm"])
@pytest.mark.parametrize("level", [20, 80, 95])
def test_googlenet_is_exact(level, mode, varied, check, check_style, classes, is_reached):
    model = varied(googlenet())
    small = prunecore.prune(model, level=level, input_shape=(3, 48, 48), mode=mode)
    assert is_reached(small)
    check(model, small, (3, 48, 48))
    check_style(small.source)
    assert classes(small.source) == [
        "GoogLeNetOutputs",
        "BasicConv2d",
        "Inception",
        "InceptionAux",
        "GoogLeNet",
    ]
    assert small.report["left_out"] == []


@pytest.mark.parametrize(
    ("network", "level", "shape"),
    [(googlenet, 50, (3, 48, 48)), (small_inception, 85, (3, 75, 75))],
)
def test_transform_input_is_written_as_a_person_would(
    network, level, shape, varied, check, check_style
):
    model = varied(network(transform_input=True))
    small = prunecore.prune(model, level=level, input_shape=shape)
    check(model, small, shape)
    check_style(small.source)
    assert (
        """
        x_ch0 = torch.unsqueeze(x[:, 0], 1) * 0.458 - 0.03
        x_ch1 = torch.unsqueeze(x[:, 1], 1) * 0.448 - 0.088
        x_ch2 = torch.unsqueeze(x[:, 2], 1) * 0.45 - 0.188
        x = torch.cat((x_ch0, x_ch1, x_ch2), 1)
"""
        in small.source
    )


@pytest.mark.parametrize(("level", "mode"), [(50, "random"), (80, "l1-norm"), (95, "random")])
def test_inception_v3_is_exact(level, mode, varied, check, check_style, classes, is_reached):
    model = varied(inception_v3())
    small = prunecore.prune(
        model, level=level, input_shape=(3, 75, 75), mode=mode, drop=["AuxLogits"]
    )
    assert is_reached(small)
    check(model, small, (3, 75, 75))
    check_style(small.source)
    assert classes(small.source) == V3
    assert small.report["left_out"] == ["AuxLogits"]


def test_networks_without_auxiliary_heads_are_written_whole(varied):
    small = prunecore.prune(varied(googlenet(aux_logits=False)), level=40, input_shape=(3, 32, 32))
    assert small.report["left_out"] == []


def test_arguments_are_widths_by_torchvision_s_names(varied):
    small = prunecore.prune(
        varied(small_inception()), level=60, input_shape=(3, 75, 75), mode="random"
    )
    kept = small.model.Mixed_6b

    def widths(branch: str, count: int) -> list[int]:
        numbers = range(1, count + 1)
        return [getattr(kept, f"{branch}_{n}").conv.out_channels for n in numbers]

    assert (
        f"""
        self.Mixed_6b = InceptionC(
            {kept.branch1x1.conv.in_channels},
            ch1x1={kept.branch1x1.conv.out_channels},
            ch7x7={widths("branch7x7", 3)},
            ch7x7dbl={widths("branch7x7dbl", 5)},
            pool_features={kept.branch_pool.conv.out_channels},
        )
"""
        in small.source
    )


def test_googlenet_s_arguments_are_torchvision_s(varied):
    small = prunecore.prune(varied(googlenet()), level=60, input_shape=(3, 32, 32), mode="random")
    ours = small.model.inception4a.__init__.__annotations__
    theirs = Inception.__init__.__annotations__
    assert list(ours) == [name for name in theirs if name != "conv_block"]


class Bare(nn.Module):
    """A convolution block of the user's own, of another norm and activation."""

    def __init__(self, in_channels: int, out_channels: int, **options: object) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, bias=False, **options)
        self.norm = nn.GroupNorm(1, out_channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.sigmoid(self.norm(self.conv(x)))


class Thin(Inception):
    """Constructs an `Inception` otherwise, of its usual layers."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, 4, 5, 6, 4, 5, 6)


def with_a_biased_convolution() -> Inception:
    block = Inception(12, *WIDTHS)
    block.branch2[1].conv = nn.Conv2d(4, 6, 3, padding=1)
    return block


def with_another_eps() -> Inception:
    block = Inception(12, *WIDTHS)
    block.branch3[0].bn.eps = 1e-5
    return block


def with_another_pool() -> Inception:
    block = Inception(12, *WIDTHS)
    block.branch4[0] = nn.AvgPool2d(3, stride=1, padding=1)
    return block


def with_a_longer_branch() -> Inception:
    block = Inception(12, *WIDTHS)
    block.branch1 = nn.Sequential(BasicConv2d(12, 5, kernel_size=1), Bare(5, 8, kernel_size=1))
    return block


def with_a_class_of_its_own() -> Inception:
    class Other(BasicConv2d):
        """Of torchvision's name and layers, but another forward."""

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.tanh(self.bn(self.conv(x)))

    Other.__name__ = "BasicConv2d"
    return Inception(12, *WIDTHS, conv_block=Other)


@pytest.mark.parametrize(
    "unusual",
    [
        partial(Inception, 12, *WIDTHS, conv_block=Bare),
        partial(InceptionB, 12, conv_block=Bare),
        partial(InceptionE, 12, conv_block=Bare),
        with_a_biased_convolution,
        with_another_eps,
        with_another_pool,
        with_a_longer_branch,
        with_a_class_of_its_own,
    ],
)
def test_unusual_blocks_are_written_as_their_forward_is(unusual, varied):
    block = unusual()
    width = block(torch.rand(1, 12, 16, 16)).shape[1]
    model = varied(
        nn.Sequential(BasicConv2d(3, 12, kernel_size=3), block, Thin(width), nn.Conv2d(21, 4, 1))
    )
    small = prunecore.prune(model, level=70, input_shape=(3, 16, 16), mode="random", name="net")
    assert small.report["verified"]
    assert list(small.model.state_dict()) == list(model.state_dict())
    assert "        Inception(\n" not in small.source.partition("class Net(")[0]
    assert small.source.count("class BasicConv2d(nn.Module)") == 1


def test_blocks_of_one_name_go_by_different_names_where_their_texts_differ(
    varied, check, check_style, classes
):
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(8, 8, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.tanh(self.conv(x))

    Own.__name__ = Own.__qualname__ = "BasicConv2d"
    unusual = BasicConv2d(8, 8, kernel_size=3)
    unusual.bn = nn.BatchNorm2d(8, momentum=0.01)
    model = nn.Sequential(
        BasicConv2d(3, 8, kernel_size=3), BasicConv2dOfV3(8, 8, kernel_size=1), unusual, Own()
    )
    model.append(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)))
    small = prunecore.prune(
        varied(model), level=50, input_shape=(3, 16, 16), mode="random", name="net"
    )
    check(model, small, (3, 16, 16))
    check_style(small.source)
    assert classes(small.source) == ["BasicConv2d", "BasicConv2d2", "BasicConv2d3", "Net"]


def test_a_block_can_be_the_whole_network(varied):
    small = prunecore.prune(varied(InceptionE(3)), level=30, input_shape=(3, 8, 8), name="block")
    assert small.report["verified"]
    assert "class Block(InceptionE)" in small.source
    assert small.model.branch3x3_2a.conv.out_channels == 384
