"""torchvision's multiscale vision transformers for videos: exact, and free-standing."""

from __future__ import annotations

import functools
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torchvision.models.video.mvit import MSBlockConfig, MViT

import prunecore

POOL, NONE = [3, 3, 3], list[int]()


def first() -> MViT:
    """Positions are added to the patches."""
    return MViT(
        (32, 32),
        4,
        [
            MSBlockConfig(1, 12, 24, NONE, POOL, NONE, [1, 4, 4]),
            MSBlockConfig(2, 24, 24, POOL, POOL, [1, 2, 2], [1, 2, 2]),
            MSBlockConfig(2, 24, 24, NONE, NONE, NONE, NONE),
        ],
        residual_pool=False,
        residual_with_cls_embed=True,
        rel_pos_embed=False,
        proj_after_attn=False,
        num_classes=5,
    )


def second(residual_pool: bool = True, with_class: bool = False, side: int = 32) -> MViT:
    """Relative positions are added in the attention."""
    return MViT(
        (side, side),
        4,
        [
            MSBlockConfig(1, 12, 12, POOL, POOL, [1, 1, 1], [1, 4, 4]),
            MSBlockConfig(2, 12, 24, POOL, POOL, [1, 2, 2], [1, 2, 2]),
            MSBlockConfig(2, 24, 24, NONE, POOL, NONE, [2, 1, 2]),
            MSBlockConfig(2, 24, 24, NONE, NONE, NONE, NONE),
        ],
        residual_pool=residual_pool,
        residual_with_cls_embed=with_class,
        rel_pos_embed=True,
        proj_after_attn=True,
        attention_dropout=0.1,
        stochastic_depth_prob=0.2,
        num_classes=5,
    )


NETWORKS: dict[str, Callable[[], MViT]] = {
    "first": first,
    "second": second,
    "second_with_class": functools.partial(second, with_class=True),
    "second_without_residual": functools.partial(second, residual_pool=False),
    # pooled, an odd side is longer than its tables, which are interpolated
    "second_odd": functools.partial(second, side=36),
}


@functools.cache
def original(name: str) -> nn.Module:
    """A network in which nothing is zero from the start, so that everything counts."""
    torch.manual_seed(0)
    model = NETWORKS[name]()
    for parameter in model.parameters():
        if parameter.ndim < 2 or not parameter.any():
            nn.init.uniform_(parameter, -1, 1)
    return model


def prune(name: str, level: float, mode: str = "random") -> prunecore.PrunedModel:
    side = 36 if name == "second_odd" else 32
    return prunecore.prune(
        original(name), level=level, input_shape=(3, 4, side, side), mode=mode, name="small"
    )


@pytest.mark.parametrize(("level", "mode"), [(20, "l1-norm"), (70, "random")])
@pytest.mark.parametrize("name", NETWORKS)
def test_every_level_is_exact(name: str, level: float, mode: str) -> None:
    small = prune(name, level, mode)
    assert small.report["verified"]
    assert abs(small.report["level"]["achieved"] - level) <= 2
    assert small.report["left_whole"] == small.report["left_out"] == []
    assert small.model.state_dict().keys() == original(name).state_dict().keys()


def test_a_channel_goes_at_its_place_in_every_head() -> None:
    kept = prune("second", 60).report["kept"]
    tables = [kept[f"blocks.1.attn.rel_pos_{side}"] for side in "thw"]
    (place,) = {tuple(table[1]) for table in tables}
    assert 2 <= len(place) < 12
    rows = [12 * head + row for head in range(3 * 2) for row in place]
    assert kept["blocks.1.attn.qkv.weight"][0] == rows
    assert kept["blocks.1.attn.pool_k.pool.weight"][0] == list(place)
    assert kept["blocks.1.attn.project.0.weight"][1] == rows[: 2 * len(place)]


@pytest.mark.parametrize("name", ["first", "second"])
def test_the_written_file_stands_alone(name: str, check_alone: Callable[..., None]) -> None:
    check_alone(prune(name, 50), (3, 4, 32, 32))
