"""Pooling, padding, upsampling, flattening and pixel shuffling."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import prunecore
from prunecore import UnsupportedError
from prunecore.errors import InputShapeError
from prunecore.testing import check_block
from prunecore_sequential.shapes import RULES

SIZES = {1: (8,), 2: (8, 6), 3: (6, 8, 4)}
CONV = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}

EACH_CHANNEL = [
    (1, nn.MaxPool1d(2)),
    (2, nn.MaxPool2d(3, stride=2, padding=1, ceil_mode=True)),
    (3, nn.MaxPool3d(2, dilation=1)),
    (1, nn.AvgPool1d(2)),
    (2, nn.AvgPool2d(3, stride=2, padding=1, count_include_pad=False)),
    (3, nn.AvgPool3d((1, 2, 2), divisor_override=3)),
    (1, nn.LPPool1d(2, 2)),
    (2, nn.LPPool2d(2, (2, 3))),
    (1, nn.AdaptiveAvgPool1d(3)),
    (2, nn.AdaptiveAvgPool2d(1)),
    (2, nn.AdaptiveAvgPool2d((None, 3))),
    (3, nn.AdaptiveAvgPool3d(2)),
    (1, nn.AdaptiveMaxPool1d(3)),
    (2, nn.AdaptiveMaxPool2d((2, 3))),
    (3, nn.AdaptiveMaxPool3d(1)),
    (2, nn.FractionalMaxPool2d(2, output_size=3)),
    (3, nn.FractionalMaxPool3d(2, output_ratio=0.5)),
    (1, nn.ZeroPad1d(1)),
    (2, nn.ZeroPad2d((1, 0, 2, 0))),
    (3, nn.ZeroPad3d(1)),
    (1, nn.ConstantPad1d((2, 1), 0.5)),
    (2, nn.ConstantPad2d(1, 1.0)),
    (3, nn.ConstantPad3d(1, -2.0)),
    (1, nn.ReflectionPad1d(1)),
    (2, nn.ReflectionPad2d((1, 2, 0, 1))),
    (3, nn.ReflectionPad3d(1)),
    (1, nn.ReplicationPad1d(1)),
    (2, nn.ReplicationPad2d(2)),
    (3, nn.ReplicationPad3d(1)),
    (1, nn.CircularPad1d(1)),
    (2, nn.CircularPad2d((1, 1, 0, 1))),
    (3, nn.CircularPad3d(1)),
    (1, nn.Upsample(scale_factor=2)),
    (1, nn.Upsample(size=5, mode="linear")),
    (2, nn.Upsample(scale_factor=(2, 3), mode="bilinear", align_corners=True)),
    (2, nn.Upsample(size=(5, 7), mode="bicubic")),
    (3, nn.Upsample(scale_factor=2.0, mode="trilinear")),
    (2, nn.UpsamplingNearest2d(scale_factor=2)),
    (2, nn.UpsamplingBilinear2d(size=5)),
    *([(3, nn.LPPool3d(2, 2))] if hasattr(nn, "LPPool3d") else []),
]


# Their forwards call what only this plugin has a rule for.
NOT_TRACED = (nn.FractionalMaxPool2d, nn.FractionalMaxPool3d)


@pytest.mark.parametrize(("rank", "layer"), EACH_CHANNEL, ids=lambda value: str(value))
def test_each_channel_by_itself(rank, layer):
    check_block(layer, (8, *SIZES[rank]), traceable=not isinstance(layer, NOT_TRACED))


def test_every_layer_that_works_on_each_channel_is_tried():
    tried = {type(layer) for _, layer in EACH_CHANNEL}
    tried |= {nn.MaxUnpool1d, nn.MaxUnpool2d, nn.MaxUnpool3d, nn.Flatten, nn.Unflatten}
    assert set(RULES) - tried == {nn.PixelShuffle, nn.PixelUnshuffle, nn.Unfold, nn.Fold}


def test_every_pooling_and_padding_layer_of_torch_is_owned():
    for module in (nn.modules.pooling, nn.modules.padding, nn.modules.upsampling):
        assert {getattr(nn, name) for name in module.__all__} <= set(RULES)


@pytest.mark.parametrize(
    "layer",
    [nn.MaxPool1d(2), nn.AdaptiveAvgPool1d(3), nn.ZeroPad1d(1), nn.Upsample(scale_factor=2)],
    ids=lambda layer: type(layer).__name__,
)
def test_channels_along_a_worked_axis_are_left_whole(find, layer):
    model = nn.Sequential(nn.Linear(5, 6), layer)
    assert find(model, (1, 4, 5)).left_whole == {"0": f"{type(layer).__name__} mixes it"}


class Unpooled(nn.Module):
    def __init__(self, rank):
        super().__init__()
        self.conv1 = CONV[rank](3, 8, 1)
        self.pool = getattr(nn, f"MaxPool{rank}d")(2, return_indices=True)
        self.unpool = getattr(nn, f"MaxUnpool{rank}d")(2)
        self.conv2 = CONV[rank](8, 2, 1)

    def forward(self, x):
        x, indices = self.pool(self.conv1(x))
        return self.conv2(self.unpool(x, indices))


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_unpooling_at_the_places_of_the_pooling(find, rank):
    dependencies = find(Unpooled(rank), (1, 3, *SIZES[rank]))
    assert dependencies.axes[dependencies.bound["conv2.weight"][1]].tolist() == list(range(8))
    assert dependencies.macs["conv2.weight"] == torch.Size(SIZES[rank]).numel()


def test_unpooled_maps_equal_masked_ones():
    small = prunecore.prune(Unpooled(2), level=40, input_shape=(3, 8, 8))
    assert small.report["verified"]["max_relative_difference"] <= 1e-9
    assert small.model.conv1.out_channels < 8


def test_given_samples_of_fractional_pooling_are_refused(find):
    samples = torch.rand(1, 8, 2)
    layer = nn.FractionalMaxPool2d(2, output_size=3, _random_samples=samples)
    with pytest.raises(UnsupportedError, match="pools at given samples"):
        find(nn.Sequential(nn.Conv2d(3, 8, 1), layer), (1, 3, 8, 8))


def test_flatten_repeats_a_channel_for_each_place_of_its_map(find, cut):
    model = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Flatten(), nn.Linear(8 * 6, 2))
    dependencies = find(model, (1, 3, 2, 3))
    expected = [channel for channel in range(8) for _ in range(6)]
    assert dependencies.axes[dependencies.bound["2.weight"][1]].tolist() == expected
    assert cut(model, (2, 3, 2, 3)).model[2].in_features < 48


def test_flatten_of_the_spatial_axes_alone(cut):
    model = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Flatten(2), nn.Conv1d(8, 2, 1))
    assert cut(model, (2, 3, 2, 3)).model[0].out_channels < 8


@pytest.mark.parametrize("sizes", [(8, 2, 3), [8, 2, 3], (-1, 2, 3), torch.Size([8, 2, 3])])
def test_unflatten_is_written_in_the_kept_width(cut, sizes):
    model = nn.Sequential(nn.Linear(5, 48), nn.Unflatten(1, sizes), nn.Conv2d(8, 2, 1))
    small = cut(model, (2, 5))
    width = small.model[2].in_channels
    assert width < 8
    assert small.model[1].unflattened_size == (-1 if -1 in sizes else width, 2, 3)
    assert small.model[0].out_features == 6 * width


def test_unflatten_beside_the_channels_stays(cut):
    model = nn.Sequential(nn.Conv1d(3, 8, 1), nn.Unflatten(2, (2, 3)), nn.Conv2d(8, 2, 1))
    assert cut(model, (2, 3, 6)).model[1].unflattened_size == (2, 3)


def test_pixel_shuffle_couples_squares(find, cut):
    model = nn.Sequential(nn.Conv2d(3, 16, 1), nn.PixelShuffle(2), nn.Conv2d(4, 2, 1))
    dependencies = find(model, (1, 3, 4, 4))
    expected = [0] * 4 + [1] * 4 + [2] * 4 + [3] * 4
    assert dependencies.axes[dependencies.bound["0.weight"][0]].tolist() == expected
    assert dependencies.axes[dependencies.bound["2.weight"][1]].tolist() == [0, 1, 2, 3]
    assert cut(model, (2, 3, 4, 4)).model[2].in_channels < 4


def test_pixel_shuffle_into_one_map_keeps_it(find):
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.PixelShuffle(2), nn.Conv2d(1, 4, 1), nn.ReLU())
    assert find(model, (1, 3, 4, 4)).left_whole == {"0": "it makes a single channel"}


def test_pixel_unshuffle_makes_four_places_of_a_channel(find, cut):
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.PixelUnshuffle(2), nn.Conv2d(16, 2, 1))
    dependencies = find(model, (1, 3, 4, 4))
    expected = [0] * 4 + [1] * 4 + [2] * 4 + [3] * 4
    assert dependencies.axes[dependencies.bound["2.weight"][1]].tolist() == expected
    assert cut(model, (2, 3, 4, 4)).model[0].out_channels < 4


def test_the_places_of_a_window_are_one_channel(cut):
    layers = nn.Unfold(2, stride=2), nn.Conv1d(24, 12, 1), nn.Fold((6, 4), 2, stride=2)
    model = nn.Sequential(nn.Conv2d(3, 6, 1), *layers, nn.Conv2d(3, 2, 1))
    done = cut(model, (2, 3, 6, 4), share=0.4)
    assert done.model[2].in_channels == 4 * done.model[0].out_channels < 24
    assert done.model[2].out_channels == 4 * done.model[4].in_channels


@pytest.mark.parametrize("layer", [nn.PixelShuffle(2), nn.PixelUnshuffle(2)], ids=str)
def test_shuffling_the_networks_input(cut, layer):
    width = 3 if isinstance(layer, nn.PixelShuffle) else 48
    model = nn.Sequential(layer, nn.Conv2d(width, 8, 1), nn.Conv2d(8, 2, 1))
    assert cut(model, (2, 12, 4, 4)).model[0] is not None


def test_an_input_too_small_is_an_input_shape_error(find):
    with pytest.raises(InputShapeError, match=r"1 \(MaxPool2d\) cannot take"):
        find(nn.Sequential(nn.Conv2d(3, 8, 1), nn.MaxPool2d(8)), (1, 3, 4, 4))
