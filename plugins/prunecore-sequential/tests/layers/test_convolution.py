"""The layers that make channels: exact ids, groups, refusals, and the oracle."""

from __future__ import annotations

import numpy as np
import pytest
from torch import nn

from prunecore.errors import InputShapeError

SIZES = {1: (7,), 2: (7, 6), 3: (5, 6, 4)}
CONV = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
TRANSPOSED = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}


def channels_of(dependencies, name):
    """The channels along each bound axis of a tensor, as lists."""
    bound = dependencies.bound.get(name, {})
    return {axis: dependencies.axes[index].tolist() for axis, index in bound.items()}


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_conv_binds_outputs_and_inputs(find, rank):
    conv = CONV[rank]
    dependencies = find(nn.Sequential(conv(3, 4, 3), conv(4, 5, 1)), (1, 3, *SIZES[rank]))
    assert channels_of(dependencies, "0.weight") == {0: [0, 1, 2, 3]}
    assert channels_of(dependencies, "0.bias") == {0: [0, 1, 2, 3]}
    assert channels_of(dependencies, "1.weight") == {0: [4, 5, 6, 7, 8], 1: [0, 1, 2, 3]}
    assert dependencies.removable.tolist() == [True] * 4 + [False] * 5
    assert dependencies.axes[dependencies.widths["1", "in_channels"]].tolist() == [0, 1, 2, 3]
    assert ("0", "in_channels") not in dependencies.widths
    assert dependencies.left_whole == {}


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_transposed_conv_makes_channels_on_its_second_axis(find, rank):
    conv = TRANSPOSED[rank]
    dependencies = find(nn.Sequential(conv(3, 4, 3), conv(4, 5, 1)), (1, 3, *SIZES[rank]))
    assert channels_of(dependencies, "0.weight") == {1: [0, 1, 2, 3]}
    assert channels_of(dependencies, "1.weight") == {0: [0, 1, 2, 3], 1: [4, 5, 6, 7, 8]}
    assert channels_of(dependencies, "1.bias") == {0: [4, 5, 6, 7, 8]}
    assert [name for name, axis, _ in dependencies.filters if axis == 1] == ["0.weight", "1.weight"]


def test_linear_binds_outputs_and_inputs(find):
    dependencies = find(nn.Sequential(nn.Linear(6, 3), nn.Linear(3, 2, bias=False)), (1, 4, 6))
    assert channels_of(dependencies, "0.weight") == {0: [0, 1, 2]}
    assert channels_of(dependencies, "1.weight") == {0: [3, 4], 1: [0, 1, 2]}
    assert dependencies.macs == {"0.weight": 4, "1.weight": 4}


def test_linear_along_another_axis_than_the_channels_is_left_whole(find, cut):
    model = nn.Sequential(nn.Conv1d(3, 4, 1), nn.Linear(5, 6), nn.Conv1d(4, 2, 1))
    dependencies = find(model, (1, 3, 5))
    assert channels_of(dependencies, "1.weight") == {}
    assert channels_of(dependencies, "2.weight")[1] == [0, 1, 2, 3]
    assert "another axis" in dependencies.left_whole["1"]


def test_depthwise_couples_each_input_with_its_outputs(find):
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 8, 3, groups=4), nn.Conv2d(8, 2, 1))
    dependencies = find(model, (1, 3, 5, 5))
    assert channels_of(dependencies, "1.weight") == {0: [0, 0, 1, 1, 2, 2, 3, 3]}
    assert channels_of(dependencies, "2.weight")[1] == [0, 0, 1, 1, 2, 2, 3, 3]
    assert dependencies.axes[dependencies.widths["1", "groups"]].tolist() == [0, 1, 2, 3]


def test_many_small_groups_go_whole(find):
    model = nn.Sequential(nn.Conv2d(3, 6, 1), nn.Conv2d(6, 6, 1, groups=3), nn.Conv2d(6, 2, 1))
    dependencies = find(model, (1, 3, 5, 5))
    assert channels_of(dependencies, "0.weight") == {0: [0, 0, 1, 1, 2, 2]}
    assert channels_of(dependencies, "1.weight") == {0: [0, 0, 1, 1, 2, 2]}
    assert dependencies.axes[dependencies.widths["1", "groups"]].tolist() == [0, 1, 2]


def test_few_large_groups_lose_the_same_positions(find):
    model = nn.Sequential(nn.Conv2d(3, 6, 1), nn.Conv2d(6, 4, 1, groups=2), nn.Conv2d(4, 2, 1))
    dependencies = find(model, (1, 3, 5, 5))
    assert channels_of(dependencies, "0.weight") == {0: [0, 1, 2, 0, 1, 2]}
    assert channels_of(dependencies, "1.weight") == {0: [3, 4, 3, 4], 1: [0, 1, 2]}
    assert ("1", "groups") not in dependencies.widths


def test_groups_of_the_networks_input_are_left_whole(find):
    model = nn.Sequential(nn.Conv2d(4, 8, 1, groups=4), nn.Conv2d(8, 2, 1))
    dependencies = find(model, (1, 4, 5, 5))
    assert not dependencies.removable.any()
    assert dependencies.left_whole == {"0": "each group's input always stays"}


def test_large_groups_of_the_networks_input_lose_positions(find):
    model = nn.Sequential(nn.Conv2d(4, 6, 1, groups=2), nn.Conv2d(6, 2, 1))
    dependencies = find(model, (1, 4, 5, 5))
    assert channels_of(dependencies, "0.weight") == {0: [0, 1, 2, 0, 1, 2]}
    assert dependencies.removable.tolist() == [True] * 3 + [False] * 2


def test_one_output_is_not_depthwise_and_stays(find):
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 1, 1), nn.Conv2d(1, 4, 1), nn.ReLU())
    dependencies = find(model, (1, 3, 5, 5))
    assert channels_of(dependencies, "1.weight") == {0: [4], 1: [0, 1, 2, 3]}
    assert channels_of(dependencies, "2.weight") == {0: [5, 6, 7, 8]}
    assert dependencies.removable.tolist() == [True] * 4 + [False] * 5
    assert dependencies.left_whole == {"1": "it makes a single channel"}


def test_channels_along_a_spatial_axis_are_left_whole(find):
    model = nn.Sequential(nn.Linear(6, 8), nn.Conv1d(3, 4, 3), nn.Conv1d(4, 2, 1))
    dependencies = find(model, (1, 3, 6))
    assert dependencies.left_whole == {"0": "conv1d mixes it"}
    assert channels_of(dependencies, "1.weight") == {0: [8, 9, 10, 11]}


def test_a_width_that_does_not_fit_is_an_input_shape_error(find):
    with pytest.raises(InputShapeError, match=r"1 \(Linear\) cannot take"):
        find(nn.Sequential(nn.Flatten(), nn.Linear(12, 3)), (1, 3, 5))
    with pytest.raises(InputShapeError, match=r"0 \(Conv2d\) cannot take"):
        find(nn.Sequential(nn.Conv2d(3, 4, 1)), (1, 4, 5, 5))


GROUPED = [
    {"groups": 1},
    {"groups": 12},  # depthwise with a multiplier
    {"groups": 6},  # whole groups of two
    {"groups": 4},  # groups of three and a number of groups that is larger
    {"groups": 3},  # positions
    {"groups": 2, "bias": False},
    {"kernel_size": 3, "stride": 2, "padding": 1, "dilation": 2},
]


@pytest.mark.parametrize("options", GROUPED, ids=str)
@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("transposed", [False, True], ids=["conv", "transposed"])
def test_removed_channels_equal_masked_ones(cut, options, rank, transposed):
    options = {"kernel_size": 1, **options}
    conv = (TRANSPOSED if transposed else CONV)[rank]
    model = nn.Sequential(
        CONV[rank](3, 12, 1), conv(12, 24, **options), nn.ReLU(), CONV[rank](24, 5, 1)
    )
    for seed in range(3):
        small = cut(model, (2, 3, *SIZES[rank]), seed)
        assert small.model[1].out_channels < 24


@pytest.mark.parametrize("mode", ["zeros", "reflect", "replicate", "circular"])
def test_every_padding_mode(cut, mode):
    conv = nn.Conv2d(3, 8, 3, padding="same", padding_mode=mode)
    small = cut(nn.Sequential(conv, nn.Conv2d(8, 2, 1)), (2, 3, 6, 6))
    assert small.model[0].padding == "same"


def test_linear_after_flattened_maps(cut):
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 9, 6), nn.Linear(6, 2)
    )
    small = cut(model, (2, 3, 5, 5))
    assert small.model[3].in_features == 9 * small.model[0].out_channels


def test_inputs_of_a_lost_group_follow_into_earlier_layers(cut):
    model = nn.Sequential(
        nn.Conv2d(3, 8, 1),
        nn.Conv2d(8, 16, 3, groups=8),
        nn.BatchNorm2d(16),
        nn.Conv2d(16, 16, 1, groups=4),
        nn.Conv2d(16, 4, 1),
    )
    for seed in range(5):
        cut(model, (2, 3, 5, 5), seed)


def test_weights_are_never_read(find):
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 1, groups=8), nn.Flatten())
    model = model.to("meta")
    assert find(model, (1, 3, 5, 5)).count == 8


def test_every_tensor_keeps_its_place_in_the_report(cut):
    small = cut(nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 2, 1)), (1, 3, 4, 4))
    kept = small.keep.indices(small.keep.dependencies.tensors["0.weight"], 0)
    assert kept is not None
    assert (np.diff(kept) > 0).all()


def test_a_linear_layer_beside_the_channels_is_counted_for_those_that_stay(cut):
    mixer = nn.Sequential(nn.Conv2d(3, 12, 1), nn.Linear(5, 7), nn.ReLU(), nn.Conv2d(12, 4, 1))
    small = cut(mixer, (2, 3, 6, 5))
    assert small.model[0].out_channels < 12
    assert small.model[1].weight.shape == (7, 5)


def test_a_linear_layer_used_beside_the_channels_and_elsewhere_holds_them(find):
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.mix = nn.Linear(5, 5)
            self.conv = nn.Conv2d(3, 12, 1)
            self.end = nn.Conv2d(12, 4, 1)

        def forward(self, x):
            return self.end(self.mix(self.conv(self.mix(x))))

    assert find(Twice(), (1, 3, 6, 5)).left_whole["conv"] == (
        "a layer that works along it is used elsewhere, too"
    )
