"""Residual blocks that go as a whole: which do, when they do, and that the rest stays exact."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import prunecore
from prunecore.channels.keep import Keep
from prunecore.inputs import of_shape
from prunecore.planning.plan import make_plan
from prunecore.planning.residual_blocks import (
    ResidualBlock,
    closed_residual_blocks,
    find_residual_blocks,
)
from prunecore.verifying.comparison import verify
from prunecore.writing.building import build, transfer_weights
from prunecore.writing.source_file import write_network

SHAPE = (3, 6, 6)


class Residual(nn.Module):
    """A branch of some convolutions beside an identity, and perhaps an activation after both."""

    def __init__(self, width: int, *inner: int, act: bool = False) -> None:
        super().__init__()
        widths = [width, *inner, width]
        pairs = itertools.pairwise(widths)
        self.convs = nn.ModuleList(nn.Conv2d(a, b, 1) for a, b in pairs)
        self.act = nn.ReLU() if act else None

    def forward(self, x: Tensor) -> Tensor:
        out = x
        for conv in self.convs:
            out = torch.relu(conv(out))
        out = out + x
        return out if self.act is None else self.act(out)


class Gated(Residual):
    """The same with a gate on the branch, whose own width may come to the minimum."""

    def __init__(self, width: int, inner: int, gate: int) -> None:
        super().__init__(width, inner)
        self.down = nn.Conv2d(inner, gate, 1)
        self.up = nn.Conv2d(gate, inner, 1)

    def forward(self, x: Tensor) -> Tensor:
        out = torch.relu(self.convs[0](x))
        pooled = out.mean([2, 3], keepdim=True)
        out = out * torch.sigmoid(self.up(torch.relu(self.down(pooled))))
        return x + self.convs[1](out)


class TwoWays(nn.Module):
    """A branch of two ways side by side."""

    def __init__(self, width: int, left: int, right: int) -> None:
        super().__init__()
        self.left = nn.Conv2d(width, left, 1)
        self.right = nn.Conv2d(width, right, 1)
        self.merge = nn.Conv2d(left + right, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        both = torch.cat([torch.relu(self.left(x)), torch.relu(self.right(x))], 1)
        return x + self.merge(both)


class Scaled(Residual):
    """Not the identity without its branch."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * x + self.convs[1](self.convs[0](x))


class Projected(Residual):
    """Its shortcut has a layer."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__(width, inner)
        self.shortcut = nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.shortcut(x) + self.convs[1](self.convs[0](x))


class Deep(nn.Module):
    """Blocks between a stem and a head, called one by one."""

    def __init__(self, *blocks: nn.Module, act: bool = False) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 1)
        self.blocks = nn.ModuleList(blocks)
        self.head = nn.Conv2d(8, 4, 1)
        self.act = act

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = torch.relu(x) if self.act else x
        for block in self.blocks:
            x = block(x)
        return self.head(x)


def network(*blocks: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU(), *blocks, nn.Conv2d(8, 4, 1))


@pytest.fixture
def blocks_of(find: Callable[..., Any]) -> Callable[[nn.Module], Any]:
    def found(model: nn.Module) -> Any:
        dependencies = find(model, (2, *SHAPE))
        return dependencies, find_residual_blocks(model, dependencies, of_shape(SHAPE))

    return found


def closing(dependencies: Any, path: str) -> Any:
    """A choice in which the layer at a path has come down to two channels."""
    kept = np.ones(dependencies.count, dtype=bool)
    kept[dependencies.axes[dependencies.layers[path]][2:]] = False
    return kept


@pytest.mark.parametrize(
    "block",
    [Residual(8, 5), Residual(8, 5, 6), Residual(8, 5, act=True), Gated(8, 5, 3), TwoWays(8, 4, 5)],
)
def test_a_block_that_returns_its_input_without_its_branch_may_go(blocks_of, block):
    _, blocks = blocks_of(network(block))
    assert [found.path for found in blocks] == ["2"]


@pytest.mark.parametrize("block", [Scaled(8, 5), Projected(8, 5), nn.Conv2d(8, 8, 1), nn.ReLU()])
def test_any_other_module_may_not(blocks_of, block):
    assert blocks_of(network(block))[1] == []


def test_an_activation_after_the_sum_must_change_nothing(blocks_of):
    block = Residual(8, 5, act=True)
    assert blocks_of(Deep(block, act=False))[1] == []
    assert len(blocks_of(Deep(block, act=True))[1]) == 1


def test_a_block_that_is_used_twice_or_shares_weights_may_not_go(blocks_of):
    one, other = Residual(8, 5), Residual(8, 5)
    assert blocks_of(network(one, one))[1] == []
    other.convs[0].weight = one.convs[0].weight
    assert blocks_of(network(one, other))[1] == []


@pytest.mark.parametrize("inner", ["convs.0", "convs.1"])
def test_one_narrow_layer_on_the_way_closes_a_branch(blocks_of, inner):
    dependencies, blocks = blocks_of(network(Residual(8, 5, 6)))
    kept = closing(dependencies, f"2.{inner}")
    assert closed_residual_blocks(blocks, kept, 2) == tuple(blocks)
    assert closed_residual_blocks(blocks, kept, 1) == ()


def test_a_narrow_gate_does_not_close_a_branch(blocks_of):
    dependencies, blocks = blocks_of(network(Gated(8, 5, 3)))
    assert closed_residual_blocks(blocks, closing(dependencies, "2.down"), 2) == ()
    assert len(closed_residual_blocks(blocks, closing(dependencies, "2.convs.0"), 2)) == 1


def test_a_branch_of_two_ways_closes_with_both(blocks_of):
    dependencies, blocks = blocks_of(network(TwoWays(8, 4, 5)))
    left, right = (closing(dependencies, f"2.{side}") for side in ("left", "right"))
    assert closed_residual_blocks(blocks, left, 2) == closed_residual_blocks(blocks, right, 2) == ()
    assert len(closed_residual_blocks(blocks, left & right, 2)) == 1


def test_a_branch_of_one_layer_never_closes(blocks_of):
    dependencies, blocks = blocks_of(network(Residual(8)))
    assert closed_residual_blocks(blocks, np.zeros(dependencies.count, dtype=bool), 2) == ()


def test_a_layer_that_is_narrow_from_the_start_does_not_close_a_branch(blocks_of):
    dependencies, blocks = blocks_of(network(Residual(8, 2, 6)))
    everything = np.ones(dependencies.count, dtype=bool)
    assert closed_residual_blocks(blocks, everything, 2) == ()
    assert len(closed_residual_blocks(blocks, closing(dependencies, "2.convs.1"), 2)) == 1


@pytest.mark.parametrize(("heads", "closed"), [(3, False), (2, False), (1, True)])
def test_a_layer_of_one_head_is_at_its_minimum(heads, closed):
    trunk, made = np.arange(8), np.repeat([8, 9, 10], 4)  # three heads of four places
    block = ResidualBlock("2", trunk, ((trunk, made), (made, trunk)), np.arange(8, 11))
    kept = np.arange(11) < 8 + heads
    assert block.is_closed(kept, 2) == closed


def test_a_protected_block_stays(blocks_of):
    class Protected(Residual):
        pass

    prunecore.skip(layers=["convs"])(Protected)
    dependencies, blocks = blocks_of(network(Protected(8, 5), Residual(8, 40)))
    assert len(blocks) == 2
    scores = np.random.default_rng(0).random(dependencies.count)
    scores[dependencies.axes[dependencies.layers["0"]]] += 1
    assert make_plan(dependencies, scores, 80, blocks=blocks).removed_blocks == ("3",)


def test_of_nested_blocks_the_outer_one_goes(blocks_of):
    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.inner, self.last = (
                nn.Conv2d(8, 6, 1),
                Residual(6, 5),
                nn.Conv2d(6, 8, 1),
            )

        def forward(self, x: Tensor) -> Tensor:
            return x + self.last(self.inner(self.first(x)))

    dependencies, blocks = blocks_of(network(Outer()))
    kept = closing(dependencies, "2.inner.convs.0")
    assert [block.path for block in closed_residual_blocks(blocks, kept, 2)] == ["2.inner"]
    kept &= closing(dependencies, "2.first")
    assert [block.path for block in closed_residual_blocks(blocks, kept, 2)] == ["2"]


NETWORKS = {
    "last": lambda: network(Residual(8, 24), Residual(8, 24), Residual(8, 24)),
    "gated": lambda: network(Gated(8, 24, 4), Residual(8, 24), Residual(8, 20, 20)),
    "loop": lambda: Deep(Residual(8, 24), Residual(8, 24), Residual(8, 24)),
    "activated": lambda: Deep(Residual(8, 24, act=True), Residual(8, 24, act=True), act=True),
}


@pytest.mark.parametrize("make", NETWORKS.values(), ids=NETWORKS)
@pytest.mark.parametrize("number", [0, 1])
def test_without_a_block_the_network_computes_what_its_shortcut_does(
    blocks_of, toys, check_style, make, number
):
    model = make()
    dependencies, blocks = blocks_of(model)
    block = blocks[number]
    kept = np.ones(dependencies.count, dtype=bool)
    kept[block.own] = False
    keep = Keep(model, dependencies, kept, [block.path])
    text = write_network(model, keep, toys, "net", "A network.")
    weights = transfer_weights(model, keep, toys)
    small = build(text, "net", weights)
    rest = [key for key in model.state_dict() if not key.startswith(f"{block.path}.")]
    assert list(small.state_dict()) == rest  # unchanged, and none of the block
    verify(model, keep, small, of_shape(SHAPE))
    with torch.no_grad():
        for tensor in model.get_submodule(block.path).parameters():
            tensor.zero_()
    x = torch.rand(2, *SHAPE)
    torch.testing.assert_close(small.eval()(x), model.eval()(x))
    check_style([text])


def plans(blocks_of: Any, model: nn.Module, level: float, target: str = "params") -> Any:
    dependencies, blocks = blocks_of(model)
    scores = np.random.default_rng(0).random(dependencies.count)
    scores[dependencies.axes[dependencies.layers["0"]]] += 1  # large channels, which stay
    scores[dependencies.axes[dependencies.layers["2.convs.0"]]] /= 100  # what goes first
    return (
        make_plan(dependencies, scores, level, target),
        make_plan(dependencies, scores, level, target, blocks=blocks),
    )


@pytest.mark.parametrize("target", ["params", "macs", "channels"])
def test_a_plan_lets_the_closed_block_go_and_still_meets_the_level(blocks_of, target):
    model = network(Residual(8, 40), Residual(8, 40), Residual(8, 40))
    without, plan = plans(blocks_of, model, 45, target)
    assert without.removed_blocks == ()
    assert plan.removed_blocks == ("2",)
    assert abs(plan.achieved - 45) <= 1


def test_a_level_beyond_the_minimum_widths_is_reached_with_blocks(blocks_of):
    model = network(Residual(8, 40), Residual(8, 40))
    dependencies, blocks = blocks_of(model)
    scores = np.random.default_rng(0).random(dependencies.count)
    with pytest.raises(prunecore.LevelError):
        make_plan(dependencies, scores, 98.5)
    assert len(make_plan(dependencies, scores, 98.5, blocks=blocks).removed_blocks) == 2


@pytest.mark.usefixtures("toys_installed")
class TestEndToEnd:
    def prune(self, **arguments: Any) -> prunecore.PrunedModel:
        model = network(Residual(8, 40), Residual(8, 40), Residual(8, 40))
        with torch.no_grad():
            for conv in model[3].convs:
                conv.weight /= 1000
        return prunecore.prune(
            model,
            level=45,
            input_shape=SHAPE,
            name="net",
            mode="l1-norm",
            scoring=prunecore.Scoring(normalize="none"),
            limits=prunecore.Limits(remove_blocks=True),
            **arguments,
        )

    def test_the_report_lists_the_block_and_the_rest_keeps_its_keys(self):
        small = self.prune()
        assert small.report["left_out"] == ["3"]
        assert small.report["verified"]
        assert small.report["after"]["params"] == sum(p.numel() for p in small.model.parameters())
        assert not any(key.startswith("3.") for key in small.report["kept"])
        assert [key for key in small.weights if key.startswith("4.")]
        assert len(small.model) == 5

    def test_the_written_set_is_verified_against_its_original(self, tmp_path):
        self.prune(verify=False).save(tmp_path / "net_45.py")
        model = network(Residual(8, 40), Residual(8, 40), Residual(8, 40))
        with torch.no_grad():
            for conv in model[3].convs:
                conv.weight /= 1000
        assert prunecore.verify(tmp_path / "net_45.py", model, input_shape=SHAPE).inputs == 8

    def test_the_network_is_left_as_it_was(self):
        model = network(Residual(8, 40)).train()
        before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        prunecore.prune(
            model,
            level=60,
            input_shape=SHAPE,
            name="net",
            limits=prunecore.Limits(remove_blocks=True),
        )
        assert model.training
        assert all(torch.equal(before[name], t) for name, t in model.state_dict().items())
        assert not any(module._forward_pre_hooks for module in model.modules())
