"""torch's own transformers, whose layers are followed one by one: their fused form hides them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import prunecore

WIDTH = 16


class Net(nn.Module):
    def __init__(self, transformer: nn.Module, batch_first: bool = True) -> None:
        super().__init__()
        self.embed = nn.Linear(3, WIDTH)
        self.transformer = transformer
        self.batch_first = batch_first
        self.head = nn.Linear(WIDTH, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        if not self.batch_first:
            return self.head(self.transformer(x.transpose(0, 1)).transpose(0, 1).mean(1))
        return self.head(self.transformer(x).mean(1))


class Causal(Net):
    def __init__(self, transformer: nn.Module) -> None:
        super().__init__(transformer)
        self.register_buffer("mask", nn.Transformer.generate_square_subsequent_mask(6))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.transformer(self.embed(x), self.mask, is_causal=True).mean(1))


class Decoded(Net):
    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        return self.head(self.transformer(x, x.flip(1)).mean(1))


class Masked(Net):
    """A mask is made for each input, as long as that is; whether it is causal is not said."""

    def __init__(self, transformer: nn.Module, fill: Any) -> None:
        super().__init__(transformer)
        self.fill = fill

    def forward(self, x: Tensor) -> Tensor:
        mask = torch.triu(torch.full((x.size(1), x.size(1)), self.fill), 1)
        return self.head(self.transformer(self.embed(x), mask).mean(1))


class Translator(nn.Module):
    """Both halves, of inputs of two lengths."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(3, WIDTH)
        self.transformer = nn.Transformer(WIDTH, 4, 1, 2, 24, batch_first=True)
        self.head = nn.Linear(WIDTH, 5)

    def forward(self, x: Tensor) -> Tensor:
        source, target = self.embed(x[:, 2:]), self.embed(x)
        mask = self.transformer.generate_square_subsequent_mask(target.size(1))
        return self.head(self.transformer(source, target, tgt_mask=mask))


def layer(**options: Any) -> nn.TransformerEncoderLayer:
    return nn.TransformerEncoderLayer(WIDTH, 4, 24, **{"batch_first": True, **options})


def decoder(**options: Any) -> nn.TransformerDecoder:
    one = nn.TransformerDecoderLayer(WIDTH, 4, 24, batch_first=True, **options)
    return nn.TransformerDecoder(one, 2, nn.LayerNorm(WIDTH))


NETWORKS = {
    "one layer": lambda: Net(layer()),
    "norm first": lambda: Net(layer(norm_first=True)),
    "gelu": lambda: Net(layer(activation="gelu")),
    "a module as activation": lambda: Net(layer(activation=nn.SiLU())),
    "length first": lambda: Net(layer(batch_first=False), batch_first=False),
    "several layers": lambda: Net(nn.TransformerEncoder(layer(), 2)),
    "a norm at the end": lambda: Net(nn.TransformerEncoder(layer(), 2, nn.LayerNorm(WIDTH))),
    "causal": lambda: Causal(nn.TransformerEncoder(layer(), 2)),
    "mask of a call": lambda: Masked(nn.TransformerEncoder(layer(), 2), float("-inf")),
    "mask of truths": lambda: Masked(nn.TransformerEncoder(layer(), 2), True),
    "both halves": Translator,
    "decoder": lambda: Decoded(decoder()),
    "decoder, norm first": lambda: Decoded(decoder(norm_first=True)),
}


@pytest.mark.parametrize("make", NETWORKS.values(), ids=list(NETWORKS))
def test_a_transformer_is_pruned_within(make: Any) -> None:
    torch.manual_seed(0)
    network = make()
    small = prunecore.prune(network, level=50, input_shape=(6, 3), mode="random", name="small")
    assert small.report["verified"]
    assert small.report["left_whole"] == []
    assert list(small.model.state_dict()) == list(network.state_dict())
    small.model.train()(torch.randn(2, 6, 3)).sum().backward()


def test_the_fused_form_is_used_again_afterwards() -> None:
    torch.manual_seed(0)
    prunecore.prune(Net(layer()), level=50, input_shape=(6, 3), mode="random", name="small")
    assert torch.backends.mha.get_fastpath_enabled()


def test_the_layers_of_a_transformer_are_one_class() -> None:
    torch.manual_seed(0)
    network = Net(nn.TransformerEncoder(layer(), 3))
    small = prunecore.prune(
        network, level=50, input_shape=(6, 3), mode="random-weighted", name="small"
    )
    assert small.source.count("class TransformerEncoderLayer") == 1
    assert "for layer in self.layers:" in small.source
