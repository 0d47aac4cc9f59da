"""The normalisations: what they bind, what they couple, and the oracle over kept channels."""

from __future__ import annotations

import pytest
from torch import nn

from prunecore.errors import InputShapeError

SIZES = {1: (7,), 2: (7, 6), 3: (5, 6, 4)}
CONV = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
BATCH = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
INSTANCE = {1: nn.InstanceNorm1d, 2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}


def channels_of(dependencies, name):
    bound = dependencies.bound.get(name, {})
    return {axis: dependencies.axes[index].tolist() for axis, index in bound.items()}


def between(rank, *layers, width=12):
    """Layers between a convolution that makes the channels and one that reads them."""
    return nn.Sequential(CONV[rank](3, width, 1), *layers, CONV[rank](width, 4, 1))


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("norms", [BATCH, INSTANCE], ids=["batch", "instance"])
def test_norms_of_one_channel_bind_all_they_store(find, rank, norms):
    norm = norms[rank](3, affine=True, track_running_stats=True)
    dependencies = find(nn.Sequential(CONV[rank](2, 3, 1), norm), (1, 2, *SIZES[rank]))
    for name in ("weight", "bias", "running_mean", "running_var"):
        assert channels_of(dependencies, f"1.{name}") == {0: [0, 1, 2]}
    assert dependencies.axes[dependencies.widths["1", "num_features"]].tolist() == [0, 1, 2]
    assert channels_of(dependencies, "1.num_batches_tracked") == {}


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("norms", [BATCH, INSTANCE], ids=["batch", "instance"])
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("tracked", [True, False])
def test_norms_of_one_channel_equal_masked(cut, rank, norms, affine, tracked):
    norm = norms[rank](12, affine=affine, track_running_stats=tracked)
    small = cut(between(rank, norm), (2, 3, *SIZES[rank]))
    assert small.model[1].num_features == small.model[0].out_channels < 12


def test_batch_norm_of_features(cut):
    model = nn.Sequential(nn.Linear(5, 12), nn.BatchNorm1d(12), nn.Linear(12, 3))
    assert cut(model, (4, 5)).model[1].num_features < 12


def test_batch_norm_lets_channels_along_other_axes_pass(find):
    model = nn.Sequential(nn.Linear(5, 6), nn.BatchNorm1d(4), nn.Linear(6, 3))
    dependencies = find(model, (2, 4, 5))
    assert channels_of(dependencies, "1.weight") == {}
    assert dependencies.removable.tolist() == [True] * 6 + [False] * 3


def test_batch_norm_without_statistics_mixes_other_axes(find):
    norm = nn.BatchNorm1d(4, track_running_stats=False)
    dependencies = find(nn.Sequential(nn.Linear(5, 6), norm, nn.Linear(6, 3)), (2, 4, 5))
    assert dependencies.left_whole == {"0": "batch_norm mixes it"}


def test_instance_norm_mixes_channels_along_spatial_axes(find):
    model = nn.Sequential(nn.Linear(5, 6), nn.InstanceNorm1d(4), nn.Linear(6, 3))
    assert find(model, (2, 4, 5)).left_whole == {"0": "instance_norm mixes it"}


def test_group_norm_of_many_small_groups_loses_groups(find):
    dependencies = find(between(2, nn.GroupNorm(6, 12)), (1, 3, 5, 5))
    assert channels_of(dependencies, "1.weight") == {0: [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]}
    assert dependencies.axes[dependencies.widths["1", "num_groups"]].tolist() == [0, 1, 2, 3, 4, 5]
    assert dependencies.masked_forwards == {}


def test_group_norm_of_few_large_groups_loses_positions(find):
    dependencies = find(between(2, nn.GroupNorm(2, 12)), (1, 3, 5, 5))
    assert channels_of(dependencies, "1.bias") == {0: [0, 1, 2, 3, 4, 5] * 2}
    assert ("1", "num_groups") not in dependencies.widths
    assert list(dependencies.masked_forwards) == ["1"]


@pytest.mark.parametrize("groups", [1, 2, 3, 4, 6, 12])
@pytest.mark.parametrize("affine", [True, False])
def test_group_norm_equals_one_over_kept_channels(cut, groups, affine):
    for seed in range(3):
        small = cut(between(2, nn.GroupNorm(groups, 12, affine=affine)), (2, 3, 5, 4), seed)
        assert small.model[1].num_channels < 12
        assert small.model[1].num_groups == (
            small.model[1].num_channels * groups // 12 if groups > 3 else groups
        )


def test_group_norm_of_the_networks_input_stays(find, cut):
    model = nn.Sequential(nn.GroupNorm(2, 4), nn.Conv2d(4, 8, 1), nn.Conv2d(8, 2, 1))
    assert cut(model, (2, 4, 5, 5)).model[0].num_channels == 4


NORMS = [nn.LayerNorm, *([nn.RMSNorm] if hasattr(nn, "RMSNorm") else [])]


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("affine", [True, False])
def test_layer_norm_of_features(find, cut, norm, affine):
    model = nn.Sequential(
        nn.Linear(5, 12), norm(12, elementwise_affine=affine), nn.GELU(), nn.Linear(12, 3)
    )
    dependencies = find(model, (2, 4, 5))
    assert channels_of(dependencies, "1.weight") == ({0: list(range(12))} if affine else {})
    small = cut(model, (2, 4, 5))
    assert small.model[1].normalized_shape == (small.model[0].out_features,)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("affine", [True, False])
def test_layer_norm_of_whole_maps(find, cut, norm, affine):
    model = between(2, norm((12, 5, 4), elementwise_affine=affine))
    dependencies = find(model, (1, 3, 5, 4))
    assert channels_of(dependencies, "1.weight") == ({0: list(range(12))} if affine else {})
    small = cut(model, (2, 3, 5, 4))
    assert small.model[1].normalized_shape == (small.model[0].out_channels, 5, 4)


def test_layer_norm_without_bias(cut):
    cut(nn.Sequential(nn.Linear(5, 12), nn.LayerNorm(12, bias=False), nn.Linear(12, 3)), (2, 5))


def test_layer_norm_beside_the_channels_lets_them_pass(cut):
    small = cut(between(2, nn.LayerNorm(4)), (2, 3, 5, 4))
    assert small.model[1].normalized_shape == (4,)
    assert small.model[0].out_channels < 12


def test_local_response_norm_leaves_its_channels_whole(find):
    dependencies = find(between(2, nn.LocalResponseNorm(3)), (1, 3, 5, 5))
    assert dependencies.left_whole == {"0": "local_response_norm mixes it"}


@pytest.mark.parametrize(
    "norm",
    [nn.BatchNorm2d(5), nn.InstanceNorm2d(5), nn.GroupNorm(1, 5), nn.LayerNorm(5)],
    ids=lambda norm: type(norm).__name__,
)
def test_another_width_is_an_input_shape_error(find, norm):
    with pytest.raises(InputShapeError, match=rf"1 \({type(norm).__name__}\) cannot take"):
        find(nn.Sequential(nn.Conv2d(3, 4, 1), norm), (1, 3, 6, 6))


def test_another_rank_is_an_input_shape_error(find):
    with pytest.raises(InputShapeError, match="expected 4D"):
        find(nn.Sequential(nn.BatchNorm2d(3)), (1, 3, 6))
