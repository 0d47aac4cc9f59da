"""torchvision's vision transformers: exact, and written as a person would."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torchvision import models
from torchvision.models.vision_transformer import ConvStemConfig, EncoderBlock, MLPBlock

import prunecore
from prunecore.testing import check_block

SHAPE = (3, 32, 32)
STEM = [ConvStemConfig(6, 3, 2), ConvStemConfig(8, 3, 4)]
# What a network is made with, beside its sizes.
OPTIONS: dict[str, dict[str, Any]] = {
    "usual": {},
    "dropout": {"dropout": 0.1, "attention_dropout": 0.2},
    "representation": {"representation_size": 24},
    "stem": {"conv_stem_configs": STEM},
    "norm": {"norm_layer": functools.partial(nn.LayerNorm, eps=1e-5)},
    "unusual norm": {"norm_layer": functools.partial(nn.LayerNorm, elementwise_affine=False)},
}


def original(**options: Any) -> nn.Module:
    """A network in which nothing is zero from the start, so that everything counts."""
    torch.manual_seed(0)
    model = models.VisionTransformer(
        image_size=32,
        patch_size=8,
        num_layers=2,
        num_heads=4,
        hidden_dim=32,
        mlp_dim=64,
        num_classes=10,
        **options,
    )
    for parameter in model.parameters():
        if parameter.ndim < 2 or not parameter.any():
            nn.init.uniform_(parameter, -1, 1)
    return model


def prune(model: nn.Module, level: float, mode: str = "random") -> prunecore.PrunedModel:
    return prunecore.prune(model, level=level, input_shape=SHAPE, mode=mode, name="vit")


@pytest.mark.parametrize("options", OPTIONS.values(), ids=list(OPTIONS))
@pytest.mark.parametrize(("level", "mode"), [(15, "l1-norm"), (70, "random")])
def test_every_level_is_exact(options: dict[str, Any], level: float, mode: str) -> None:
    model = original(**options)
    small = prune(model, level, mode)
    assert small.report["verified"]
    assert abs(small.report["level"]["achieved"] - level) <= 2  # a head is 3 % of so small a one
    assert small.report["left_whole"] == small.report["left_out"] == []
    assert list(small.model.state_dict()) == list(model.state_dict())


def test_width_heads_and_mlp_widths_all_go() -> None:
    kept = prune(original(), 60).report["kept"]
    for name in (
        "class_token",
        "encoder.pos_embedding",
        "conv_proj.weight",
        "encoder.layers.encoder_layer_0.ln_1.weight",
        "encoder.layers.encoder_layer_0.self_attention.in_proj_weight",
        "encoder.layers.encoder_layer_0.self_attention.out_proj.weight",
        "encoder.layers.encoder_layer_0.mlp.0.weight",
        "encoder.ln.bias",
        "heads.head.weight",
    ):
        assert any(places is not None for places in kept[name]), name


@pytest.mark.parametrize("options", OPTIONS.values(), ids=list(OPTIONS))
def test_the_written_file_stands_alone(
    options: dict[str, Any], check_alone: Callable[..., None]
) -> None:
    check_alone(prune(original(**options), 50), SHAPE)


def test_a_usual_network_is_written_by_hand(classes: Callable[[str], list[str]]) -> None:
    source = prune(original(dropout=0.1, attention_dropout=0.2), 50).source
    assert classes(source) == [
        "SelfAttention",
        "EncoderBlock",
        "Encoder",
        "VisionTransformer",
        "Vit",
    ]
    assert "            attention_heads=[" in source
    assert "            num_classes=num_classes,\n            dropout=0.1,\n" in source


def test_a_network_named_as_its_class_has_a_class_of_its_own() -> None:
    small = prunecore.prune(original(), level=50, input_shape=SHAPE, mode="random")
    assert type(small.model).__mro__[1].__name__ == "VisionTransformer"


def test_blocks_in_another_s_network_are_written_by_hand() -> None:
    torch.manual_seed(0)
    blocks = [EncoderBlock(4, 16, 24, 0.1, 0.2) for _ in range(2)]
    network = nn.Sequential(nn.Linear(3, 16), *blocks, nn.Linear(16, 5))
    source = prunecore.prune(
        network, level=40, input_shape=(6, 3), mode="random", name="own"
    ).source
    assert source.count("class EncoderBlock(nn.Module):") == 1
    assert source.count("class SelfAttention(nn.Module):") == 1
    assert "dropout=0.1, attention_dropout=0.2)" in source
    assert "class VisionTransformer" not in source
    assert "F.scaled_dot_product_attention(" in source


def test_dropout_is_that_of_the_original_in_training() -> None:
    model = original(dropout=0.5, attention_dropout=0.5)
    small = prune(model, 15).model
    for name, layer in model.named_modules():
        if isinstance(layer, nn.Dropout):
            assert small.get_submodule(name).p == layer.p
    small.train()
    x = torch.randn(1, *SHAPE)
    assert not torch.equal(small(x), small(x))


@pytest.mark.parametrize("heads", [1, 3])
def test_a_block_is_followed_as_its_forward_is(heads: int) -> None:
    check_block(EncoderBlock(heads, 12, 20, 0.1, 0.0), (5, 12), axis=2)


def test_an_mlp_alone_is_a_sequence_of_layers() -> None:
    check_block(MLPBlock(12, 20, 0.1), (5, 12), axis=2)


def test_a_block_with_other_layers_is_written_as_its_forward_is() -> None:
    model: Any = original()
    model.encoder.layers.encoder_layer_0.mlp[1] = nn.ReLU()
    small = prune(model, 50)
    assert small.report["verified"]
    assert "class MultiheadAttention(nn.Module):" in small.source


class LayerNorm(nn.LayerNorm):
    """Of the same name and options as torch's, but it computes something else."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 2 * super().forward(x)


class Doubled(nn.Sequential):
    """Of the same layers as an MLP, but it computes something else."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 2 * super().forward(x)


def change_norm(block: Any) -> None:
    block.ln_1 = LayerNorm(32, eps=1e-6)


def change_mlp(block: Any) -> None:
    block.mlp = Doubled(*block.mlp)


def change_axes(block: Any) -> None:
    block.self_attention = nn.MultiheadAttention(32, 4)  # the batch is its second axis


@pytest.mark.parametrize("change", [change_norm, change_mlp, change_axes])
def test_a_block_that_only_looks_usual_is_written_as_its_forward_is(
    change: Callable[[Any], None],
) -> None:
    block = original().encoder.layers.encoder_layer_0  # type: ignore[union-attr]
    change(block)
    network = nn.Sequential(nn.Linear(3, 32), block, nn.Linear(32, 4))
    small = prunecore.prune(network, level=30, input_shape=(5, 3), mode="random")
    assert small.report["verified"]
    assert "class SelfAttention" not in small.source


def change_block(model: Any) -> None:
    model.encoder.layers.encoder_layer_1 = nn.Identity()


def change_head(model: Any) -> None:
    model.heads = nn.Linear(32, 10)


def change_patches(model: Any) -> None:
    model.conv_proj = nn.Conv2d(3, 32, 8, stride=8, bias=False)


def change_encoder(model: Any) -> None:
    model.encoder = model.encoder.layers


def share_a_block(model: Any) -> None:
    model.encoder.layers.encoder_layer_1 = model.encoder.layers.encoder_layer_0


CHANGES = [change_block, change_head, change_patches, change_encoder, share_a_block]


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_network_is_written_as_its_forward_is(change: Callable[[Any], None]) -> None:
    model = original()
    change(model)
    small = prune(model, 50)
    assert small.report["verified"]
    assert "attention_heads" not in small.source


@pytest.mark.parametrize("level", [92, 97])
def test_whole_blocks_may_go(level: float) -> None:
    model = original()
    with torch.no_grad():
        for parameter in model.encoder.layers.encoder_layer_0.parameters():  # type: ignore[union-attr, operator]
            parameter *= 1e-3  # goes first
    small = prunecore.prune(
        model,
        level=level,
        input_shape=SHAPE,
        name="vit",
        mode="l1-norm",
        scoring=prunecore.Scoring(normalize="none"),
        limits=prunecore.Limits(remove_blocks=True),
    )
    assert small.report["verified"]
    assert small.report["left_out"] == ["encoder.layers.encoder_layer_0"]
