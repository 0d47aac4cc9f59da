"""Each block by itself: exact for any choice of channels, and what else its constructor takes."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torchvision.models.maxvit import (
    PartitionAttentionLayer,
    RelativePositionalMultiHeadAttention,
)
from torchvision.models.swin_transformer import (
    PatchMerging,
    PatchMergingV2,
    ShiftedWindowAttention,
    ShiftedWindowAttentionV2,
    SwinTransformerBlock,
)
from torchvision.models.video.swin_transformer import ShiftedWindowAttention3d
from torchvision.ops.misc import Permute

import prunecore
from prunecore.testing import check_block

ATTENTIONS = [ShiftedWindowAttention, ShiftedWindowAttentionV2]


def check(block: nn.Module, *shape: int, traceable: bool = False) -> None:
    torch.manual_seed(0)
    for parameter in block.parameters():
        nn.init.uniform_(parameter, -1, 1)
    check_block(block, shape, traceable=traceable, axis=-1)


@pytest.mark.parametrize("shift", [[0, 0], [1, 0], [1, 2]])
@pytest.mark.parametrize("heads", [1, 2, 4])
@pytest.mark.parametrize("attention", ATTENTIONS)
def test_attention_in_windows(attention: type[nn.Module], heads: int, shift: list[int]) -> None:
    check(attention(12, [2, 4], shift, heads), 5, 9, 12)


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_attention_without_biases(attention: type[nn.Module]) -> None:
    block = attention(12, [2, 2], [1, 1], 3, qkv_bias=False, proj_bias=False)
    check(block, 4, 4, 12)


def test_the_keys_of_the_second_version_have_no_bias() -> None:
    block = ShiftedWindowAttentionV2(12, [2, 2], [0, 0], 3)
    nn.init.uniform_(block.qkv.bias, 5, 9)
    check_block(block, (4, 4, 12), traceable=False, axis=-1)


@pytest.mark.parametrize("shift", [[0, 0, 0], [0, 1, 0], [1, 1, 2]])
@pytest.mark.parametrize("heads", [1, 4])
@pytest.mark.parametrize("shape", [(4, 5, 9), (2, 3, 3), (1, 2, 9)])
def test_attention_for_videos(heads: int, shift: list[int], shape: tuple[int, ...]) -> None:
    block = ShiftedWindowAttention3d(12, [2, 2, 4], shift, heads)
    check(block, *shape, 12)


def test_attention_for_videos_without_biases() -> None:
    block = ShiftedWindowAttention3d(12, [2, 2, 2], [1, 1, 1], 3, qkv_bias=False, proj_bias=False)
    check(block, 4, 4, 4, 12)


@pytest.mark.parametrize("heads", [1, 3])
def test_attention_of_maxvit(heads: int) -> None:
    block = RelativePositionalMultiHeadAttention(4 * heads, 4, 9)
    check(block, 5, 9, 4 * heads, traceable=heads > 1)


@pytest.mark.parametrize("kind", ["window", "grid"])
def test_a_layer_of_maxvit_is_followed_as_its_forward_is(kind: str) -> None:
    layer = functools.partial(PartitionAttentionLayer, 12, 4, 3, kind, (6, 6), 2)
    for norm in (nn.LayerNorm, functools.partial(nn.LayerNorm, eps=0.1)):  # usual, and not
        check_block(layer(nn.GELU, norm, 0.1, 0.2, 0.3), (12, 6, 6))
    check_block(layer(nn.SiLU, nn.LayerNorm, 0.0, 0.0, 0.0), (12, 6, 6))


@pytest.mark.parametrize("merging", [PatchMerging, PatchMergingV2])
@pytest.mark.parametrize("shape", [(6, 6), (5, 7)])
def test_merging(merging: type[nn.Module], shape: tuple[int, int]) -> None:
    check(merging(8), *shape, 8, traceable=True)


class LayerNorm(nn.LayerNorm):
    """Of the same name and options as torch's, but it computes something else."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 2 * super().forward(x)


class Linear(nn.Linear):
    """Of the same name and options as torch's, but it computes something else."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 2 * super().forward(x)


def change_norm(layer: Any) -> None:
    layer.attn_layer[0] = LayerNorm(12)


def change_mlp(layer: Any) -> None:
    layer.mlp_layer[1] = Linear(12, 48)


@pytest.mark.parametrize("change", [change_norm, change_mlp])
def test_a_layer_of_maxvit_with_other_layers_is_written_as_its_forward_is(
    change: Callable[[Any], None],
) -> None:
    layer = PartitionAttentionLayer(
        12, 4, 3, "window", (6, 6), 4, nn.GELU, nn.LayerNorm, 0.0, 0.0, 0.0
    )
    change(layer)
    network = nn.Sequential(nn.Conv2d(3, 12, 1), layer, nn.Conv2d(12, 4, 1))
    small = prunecore.prune(network, level=30, input_shape=(3, 6, 6), mode="random")
    assert small.report["verified"]
    assert "mlp_width" not in small.source


def test_attention_of_maxvit_with_other_layers_is_written_as_its_forward_is() -> None:
    block = RelativePositionalMultiHeadAttention(12, 4, 9)
    block.merge = Linear(12, 12)
    network = nn.Sequential(nn.Linear(3, 12), block, nn.Linear(12, 4))
    small = prunecore.prune(network, level=30, input_shape=(5, 9, 3), strict=True)
    assert small.report["verified"]
    assert "2 * F.linear" in small.source or "Linear(nn.Linear)" in small.source


@pytest.mark.parametrize("merging", [PatchMerging, PatchMergingV2])
@pytest.mark.parametrize(
    "norm",
    [LayerNorm, nn.Identity, functools.partial(nn.LayerNorm, elementwise_affine=False)],
    ids=["doubled", "none", "without weights"],
)
def test_merging_with_another_norm(merging: type[nn.Module], norm: Callable[..., Any]) -> None:
    block = merging(8, norm_layer=norm)
    check(block, 6, 6, 8, traceable=True)
    network = nn.Sequential(nn.Linear(3, 8), block, nn.Linear(16, 4))
    assert prunecore.prune(network, level=30, input_shape=(6, 6, 3), mode="random").report[
        "verified"
    ]


@pytest.mark.parametrize("dims", [[0, 2, 3, 1], [0, 3, 1, 2], (0, 1, 3, 2)])
def test_permuted_axes(dims: list[int]) -> None:
    check_block(Permute(dims), (6, 4, 5))


def test_channels_along_the_map_are_left_whole() -> None:
    network = nn.Sequential(
        nn.Conv1d(3, 8, 1),
        nn.Unflatten(2, (4, 12)),
        ShiftedWindowAttention(12, [2, 2], [0, 0], 3),
    )
    report = prunecore.prune(network, level=10, input_shape=(3, 48), mode="random").report
    assert {"layer": "0", "reason": "attention in windows mixes it"} in report["left_whole"]


def test_projections_are_refitted() -> None:
    block = SwinTransformerBlock(8, 2, [2, 2], [0, 0])
    network = nn.Sequential(nn.Linear(8, 8), block, nn.Linear(8, 3)).eval()
    images = torch.randn(64, 4, 4, 8)
    small = prunecore.prune(network, images[:1], 40, calibration=images)
    (step,) = small.report["recovered"]
    assert {"1.attn.qkv.weight", "1.attn.proj.weight"} <= {*step["changed"]}
