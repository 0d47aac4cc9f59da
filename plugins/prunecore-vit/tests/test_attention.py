"""nn.MultiheadAttention: whole heads and its width go, in every form that is understood."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import prunecore
from prunecore.testing import check_block, check_plugin

WIDTH = 12


class Net(nn.Module):
    """Attention with a shortcut, called as `call` does."""

    def __init__(self, call: Any, **options: Any) -> None:
        super().__init__()
        self.embed = nn.Linear(3, WIDTH)
        self.attention = nn.MultiheadAttention(WIDTH, 4, **{"batch_first": True, **options})
        self.norm = nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, 5)
        self.register_buffer("mask", torch.ones(6, 6, dtype=torch.bool).triu(1))
        self.call = call

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        x = self.norm(x + self.call(self, x))
        return self.head(x.mean(1))


def prune(network: nn.Module, level: float = 40) -> prunecore.PrunedModel:
    return prunecore.prune(network, level=level, input_shape=(6, 3), mode="random", name="small")


CALLS = {
    "without weights": lambda net, x: net.attention(x, x, x, need_weights=False)[0],
    "weights not used": lambda net, x: net.attention(x, x, x)[0],
    "another key": lambda net, x: net.attention(x, x * 2, x + 1, need_weights=False)[0],
    "by name": lambda net, x: net.attention(query=x, key=x, value=x, need_weights=False)[0],
    "masked": lambda net, x: net.attention(x, x, x, attn_mask=net.mask, need_weights=False)[0],
    "masked, with weights": lambda net, x: net.attention(x, x, x, attn_mask=net.mask)[0],
    "causal": lambda net, x: net.attention(
        x, x, x, None, False, attn_mask=net.mask, is_causal=True
    )[0],
    "weights used": lambda net, x: net.attention(x, x, x)[0] * net.attention(x, x, x)[1].amax(),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=list(CALLS))
@pytest.mark.parametrize("bias", [True, False])
def test_every_call_is_exact(call: Any, bias: bool) -> None:
    torch.manual_seed(0)
    network = Net(call, bias=bias)
    small = prune(network)
    assert small.report["verified"]
    assert list(small.model.state_dict()) == list(network.state_dict())
    small.model.train()(torch.randn(2, 6, 3)).sum().backward()


@pytest.mark.parametrize("call", [CALLS["without weights"], CALLS["weights used"]])
def test_the_length_may_come_first(call: Any) -> None:
    torch.manual_seed(0)
    network = Net(lambda net, x: call(net, x.transpose(0, 1)).transpose(0, 1), batch_first=False)
    assert prune(network).report["verified"]


def changed(net: Net, x: Tensor) -> Tensor:
    y = net.attention(x, x, x)[0]
    other = y.flatten(0, 1)  # a view or a copy
    y.relu_()
    return other.view(x.shape)


@pytest.mark.parametrize("batch_first", [True, False])
def test_what_it_returns_lies_in_memory_as_torch_has_it(batch_first: bool) -> None:
    torch.manual_seed(0)
    assert prune(Net(changed, batch_first=batch_first), 10).report["verified"]


@pytest.mark.parametrize("heads", [1, 2, 6])
def test_whole_heads_and_the_width_go(heads: int) -> None:
    block = nn.MultiheadAttention(WIDTH, heads, batch_first=True)
    check_block(block, *[(5, WIDTH)] * 3, traceable=False, axis=2)
    check_block(block, (5, WIDTH), (4, WIDTH), (4, WIDTH), traceable=False, axis=2)


def test_a_head_goes_with_its_rows_and_columns() -> None:
    torch.manual_seed(0)
    network = Net(CALLS["without weights"])
    kept = prune(network, 60).report["kept"]
    rows, _ = kept["attention.in_proj_weight"]
    heads = sorted({row // 3 for row in rows if row < WIDTH})
    assert 0 < len(heads) < 4
    inner = [3 * head + place for head in heads for place in range(3)]
    assert rows == [part * WIDTH + place for part in range(3) for place in inner]
    assert kept["attention.in_proj_bias"] == [rows]
    assert kept["attention.out_proj.weight"] == [kept["embed.weight"][0], inner]


def test_channels_along_the_length_are_left_whole() -> None:
    class Lengthwise(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv1d(3, 6, 1)
            self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            x = self.conv(x)
            return self.attention(x, x, x, need_weights=False)[0]

    report = prunecore.prune(Lengthwise(), level=20, input_shape=(3, 8), mode="random").report
    assert {"layer": "conv", "reason": "attention mixes it"} in report["left_whole"]


class Crossed(nn.Module):
    """Queries of one tensor, keys and values of another one, perhaps of another width."""

    def __init__(self, call: Any, width: int = WIDTH, **options: Any) -> None:
        super().__init__()
        self.embed, self.embed_keys = nn.Linear(3, WIDTH), nn.Linear(3, width)
        self.attention = nn.MultiheadAttention(WIDTH, 4, **options)
        self.head = nn.Linear(WIDTH, 5)
        self.call = call

    def forward(self, x: Tensor) -> Tensor:
        keys = self.embed_keys(x)
        return self.head(self.call(self.attention, self.embed(x), keys))


RARE: dict[str, dict[str, Any]] = {
    "width of its own": {"kdim": 10, "vdim": 10, "width": 10},
    "further key": {"add_bias_kv": True},
    "further zero": {"add_zero_attn": True},
    "length first": {"kdim": 10, "vdim": 10, "width": 10, "batch_first": False},
}


@pytest.mark.parametrize("name", RARE)
@pytest.mark.parametrize("with_weights", [True, False])
def test_rare_options_go_by_heads_too(name: str, with_weights: bool) -> None:
    def call(attention: Any, x: Tensor, keys: Tensor) -> Tensor:
        y, weights = attention(x, keys, keys, need_weights=with_weights)
        return y * weights.amax() if with_weights else y  # type: ignore[no-any-return]

    torch.manual_seed(0)
    network = Crossed(call, **{"batch_first": True, **RARE[name]})
    small = prune(network)
    assert small.report["verified"]
    assert small.report["left_whole"] == []
    assert list(small.model.state_dict()) == list(network.state_dict())
    assert len(small.report["kept"]["attention.out_proj.weight"][1]) in (3, 6, 9)


def test_a_mask_of_each_head_keeps_the_heads() -> None:
    def call(attention: Any, x: Tensor, keys: Tensor) -> Any:
        mask = torch.zeros(x.shape[0] * 4, x.shape[1], keys.shape[1])
        return attention(x, keys, keys, attn_mask=mask, need_weights=False)[0]

    torch.manual_seed(0)
    report = prune(Crossed(call, batch_first=True), level=20).report
    assert report["verified"]
    assert [one["layer"] for one in report["left_whole"]] == ["attention"]


def test_the_plugin_s_hooks_answer_and_its_errors_name_it() -> None:
    check_plugin("vit")


def test_output_projections_are_refitted_and_heads_are_scored_by_images() -> None:
    torch.manual_seed(0)
    network = Net(CALLS["without weights"]).eval()
    images = torch.randn(64, 6, 3)
    traced = prunecore.trace(network, images[:1], calibration=images)
    scores = traced.scores("fisher")[traced.dependencies.removable]
    assert (scores > 0).all()  # of heads, too, which the output projection reads
    small = traced.prune(40)
    (step,) = small.report["recovered"]
    assert "attention.out_proj.weight" in step["changed"]
