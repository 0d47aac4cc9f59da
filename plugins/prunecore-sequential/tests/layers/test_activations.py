"""The activations and dropout: which pass channels on, and which see them together."""

from __future__ import annotations

import pytest
from torch import nn

from prunecore.testing import check_block
from prunecore_sequential.activations import RULES, elementwise

POINTWISE = [cls for cls, rule in RULES.items() if rule is elementwise]
NEEDED = {nn.Threshold: (0.1, 2.0)}


@pytest.mark.parametrize("cls", POINTWISE)
def test_pointwise_layers_pass_channels_on(cls):
    axes = {nn.Dropout1d: 1, nn.Dropout3d: 3}.get(cls, 2)
    check_block(cls(*NEEDED.get(cls, ())), (8, *[4] * axes))


def test_every_activation_of_torch_is_owned():
    module = nn.modules.activation
    missing = {getattr(nn, name) for name in module.__all__} - set(RULES)
    assert missing == {nn.MultiheadAttention}


def test_prelu_binds_a_slope_for_each_channel(find, cut):
    model = nn.Sequential(nn.Conv2d(3, 8, 1), nn.PReLU(8), nn.Conv2d(8, 2, 1))
    dependencies = find(model, (1, 3, 4, 4))
    assert dependencies.axes[dependencies.bound["1.weight"][0]].tolist() == list(range(8))
    small = cut(model, (2, 3, 4, 4))
    assert small.model[1].num_parameters == small.model[0].out_channels < 8


def test_prelu_with_one_slope_keeps_it(cut):
    model = nn.Sequential(nn.Conv2d(3, 8, 1), nn.PReLU(), nn.Conv2d(8, 2, 1))
    assert cut(model, (2, 3, 4, 4)).model[1].num_parameters == 1


def test_glu_couples_a_channel_with_its_gate(find, cut):
    model = nn.Sequential(nn.Conv2d(3, 8, 1), nn.GLU(1), nn.Conv2d(4, 2, 1))
    dependencies = find(model, (1, 3, 4, 4))
    assert dependencies.axes[dependencies.bound["0.weight"][0]].tolist() == [0, 1, 2, 3] * 2
    assert dependencies.axes[dependencies.bound["2.weight"][1]].tolist() == [0, 1, 2, 3]
    small = cut(model, (2, 3, 4, 4))
    assert small.model[0].out_channels == 2 * small.model[2].in_channels < 8


def test_glu_along_another_axis_passes_channels_on(cut):
    model = nn.Sequential(nn.Conv2d(3, 8, 1), nn.GLU(), nn.Conv2d(8, 2, 1))
    assert cut(model, (2, 3, 4, 4)).model[0].out_channels < 8


def test_glu_that_leaves_one_channel_keeps_it(find):
    model = nn.Sequential(nn.Conv2d(3, 2, 1), nn.GLU(1), nn.Conv2d(1, 2, 1), nn.ReLU())
    dependencies = find(model, (1, 3, 4, 4))
    assert dependencies.left_whole == {"0": "it makes a single channel"}


@pytest.mark.parametrize(
    ("layer", "name"),
    [
        (nn.Softmax(1), "Softmax"),
        (nn.Softmax(-3), "Softmax"),
        (nn.Softmax(), "Softmax"),
        (nn.LogSoftmax(1), "LogSoftmax"),
        (nn.Softmin(1), "Softmin"),
        (nn.Softmax2d(), "Softmax2d"),
    ],
    ids=str,
)
def test_softmax_over_channels_leaves_them_whole(find, layer, name):
    model = nn.Sequential(nn.Conv2d(3, 8, 1), layer, nn.Conv2d(8, 2, 1))
    assert find(model, (1, 3, 4, 4)).left_whole == {"0": f"{name} mixes it"}


@pytest.mark.parametrize("layer", [nn.Softmax(2), nn.LogSoftmax(-1), nn.Softmin(3)], ids=str)
def test_softmax_beside_the_channels_passes_them_on(cut, layer):
    model = nn.Sequential(nn.Conv2d(3, 8, 1), layer, nn.Conv2d(8, 2, 1))
    assert cut(model, (2, 3, 4, 4)).model[0].out_channels < 8


def test_softmax_without_a_dimension_takes_torchs_own(find):
    # of three axes the first, which is the batch
    model = nn.Sequential(nn.Conv1d(3, 8, 1), nn.Softmax(), nn.Conv1d(8, 2, 1))
    assert find(model, (1, 3, 4)).left_whole == {}
