"""torchvision's Swin transformers and MaxViT: exact at every level, and free-standing."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torchvision import models
from torchvision.models.swin_transformer import PatchMergingV2, SwinTransformerBlockV2

import prunecore
from prunecore.testing import check_plugin

V2 = {"block": SwinTransformerBlockV2, "downsample_layer": PatchMergingV2}


def swin(window: tuple[int, int] = (4, 4), **options: Any) -> nn.Module:
    return models.SwinTransformer(
        patch_size=[4, 4],
        embed_dim=24,
        depths=[2, 2],
        num_heads=[2, 4],
        window_size=list(window),
        num_classes=10,
        **options,
    )


def swin3d() -> nn.Module:
    return models.video.SwinTransformer3d(
        patch_size=[2, 4, 4],
        embed_dim=24,
        depths=[2, 2],
        num_heads=[2, 4],
        window_size=[2, 4, 4],
        num_classes=10,
    )


def maxvit() -> nn.Module:
    return models.MaxVit(
        (64, 64),
        stem_channels=8,
        partition_size=2,
        block_channels=[16, 24],
        block_layers=[1, 2],
        head_dim=8,
        stochastic_depth_prob=0.2,
        num_classes=10,
    )


# The shapes are such that maps are padded, and that a map is a single window along one side.
NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "swin": (swin, (3, 40, 36)),
    "swin_one_window": (functools.partial(swin, (4, 3)), (3, 12, 52)),
    "swin_dropout": (functools.partial(swin, dropout=0.1, attention_dropout=0.2), (3, 32, 32)),
    "swin_v2": (functools.partial(swin, **V2), (3, 40, 36)),
    "swin_v2_one_window": (functools.partial(swin, (3, 5), **V2), (3, 60, 16)),
    "swin3d": (swin3d, (3, 7, 40, 12)),
    "maxvit": (maxvit, (3, 64, 64)),
}


@functools.cache
def original(name: str) -> nn.Module:
    """A network in which nothing is zero from the start, so that everything counts."""
    torch.manual_seed(0)
    model = NETWORKS[name][0]()
    for key, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if tensor.is_floating_point() and (tensor.ndim == 1 or "relative_position" in key):
            low = 0.5 if key.endswith(("weight", "var")) else -0.5
            nn.init.uniform_(tensor, low, low + 1)
    return model.eval()


def prune(name: str, level: float, mode: str = "random", **options: Any) -> prunecore.PrunedModel:
    return prunecore.prune(
        original(name),
        level=level,
        input_shape=NETWORKS[name][1],
        mode=mode,
        name="small",
        **options,
    )


@functools.cache
def half(name: str) -> prunecore.PrunedModel:
    return prune(name, 50)


@pytest.mark.parametrize(("level", "mode"), [(20, "l1-norm"), (75, "random")])
@pytest.mark.parametrize("name", NETWORKS)
def test_every_level_is_exact(name: str, level: float, mode: str) -> None:
    small = prune(name, level, mode)
    assert small.report["verified"]
    assert abs(small.report["level"]["achieved"] - level) <= 1
    assert small.report["left_whole"] == small.report["left_out"] == []


@pytest.mark.parametrize("name", NETWORKS)
def test_what_is_no_weight_is_as_in_the_original(name: str) -> None:
    expected = original(name).state_dict()
    assert list(half(name).model.state_dict()) == list(expected)
    names: dict[str, Any] = {"__name__": "written"}
    exec(half(name).source, names)
    state = names["small"]().state_dict()  # without the weights' file
    for key, tensor in expected.items():
        if key.endswith(("relative_position_index", "relative_coords_table")):
            torch.testing.assert_close(state[key], tensor)


@pytest.mark.parametrize("name", NETWORKS)
def test_whole_heads_go_with_their_biases(name: str) -> None:
    model = original(name)
    kept = prune(name, 70).report["kept"]
    fewer = 0
    for path, block in model.named_modules():
        layers = {"qkv": "proj", "to_qkv": "merge"}
        for qkv, proj in layers.items():
            if not hasattr(block, qkv):
                continue
            rows = kept.get(f"{path}.{qkv}.weight", [None])[0]
            count = getattr(block, "num_heads", getattr(block, "n_heads", 0))
            inner = getattr(block, proj).in_features
            width = inner // count
            heads = (
                range(count) if rows is None else sorted({r // width for r in rows if r < inner})
            )
            assert rows in (
                None,
                [p * inner + width * h + i for p in range(3) for h in heads for i in range(width)],
            )
            for tensor, axis in {
                "relative_position_bias_table": 1,
                "logit_scale": 0,
                "cpb_mlp.2.weight": 0,
            }.items():
                if f"{path}.{tensor}" in model.state_dict() and len(heads) < count:
                    assert kept[f"{path}.{tensor}"][axis] == heads
            fewer += len(heads) < count
    assert fewer


@pytest.mark.parametrize("name", NETWORKS)
def test_the_written_file_stands_alone(name: str, check_alone: Callable[..., None]) -> None:
    check_alone(half(name), NETWORKS[name][1])


def test_dropout_is_that_of_the_original() -> None:
    source = half("swin_dropout").source
    assert "attention_dropout=0.2" in source
    small = half("swin_dropout").model
    for path, block in original("swin_dropout").named_modules():
        for option in ("attention_dropout", "dropout"):
            if hasattr(block, "relative_position_index"):
                assert getattr(small.get_submodule(path), option) == getattr(block, option)


def test_another_size_than_the_walk_s_runs() -> None:
    small = half("swin_v2").model.eval()
    assert small(torch.randn(1, 3, 64, 80)).shape == (1, 10)


def test_the_plugin_s_hooks_answer_and_its_errors_name_it() -> None:
    check_plugin("swin")
