"""Networks that nobody chose are cut right, whatever is in them.

Every fault that they found has a test of its own, with the smallest network that shows it.
"""

from __future__ import annotations

import copy
from collections import Counter
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import nn
from torch.utils import _pytree as pytree

from prunecore import LevelError
from prunecore.channels.dependencies import Dependencies
from prunecore.channels.keep import Keep
from prunecore.channels.names import is_within
from prunecore.inputs import of_shape
from prunecore.planning.cost import Counter as Counting
from prunecore.planning.plan import Plan, make_plan
from prunecore.planning.request import Limits
from prunecore.plugins.loading import load
from prunecore.verifying.comparison import verify
from prunecore.walking.network import find_dependencies
from prunecore.writing.building import build, transfer_weights
from prunecore.writing.source_file import write_network

from ...conftest import masked
from ..networks import filled
from ..oracle import check_imports, check_style
from .random_calls import calls
from .random_forwards import forwards, moves
from .random_networks import Drawn, Shapes, networks
from .random_ways import ways

HEALTH = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]

Outcome = Literal["reached", "as far as it goes", "nothing may go"]


def check(
    model: nn.Module, shapes: Shapes, level: float, number: int, folder: Path | None = None
) -> Outcome:
    """Prune to a level, or as far as it goes, by scores that `number` draws.

    The written file is left in the folder, if there is one.
    """
    model = filled(model)
    plugins = load()
    inputs = [torch.empty((2, *shape), device="meta") for shape in shapes]
    dependencies = find_dependencies(model, inputs, plugins, strict=False)
    if not dependencies.removable.any():
        return "nothing may go"
    scores = np.random.default_rng(number).random(dependencies.count)
    asked = level
    while (plan := planned(dependencies, scores, level)) is None:
        level /= 2
        if level < 0.01:  # every layer is at its minimum
            return "nothing may go"
    keep = Keep(model, dependencies, plan.kept)
    source = write_network(model, keep, plugins, "net", "A network.")
    check_imports(source)
    if folder:
        (folder / f"net{len(list(folder.iterdir()))}.py").write_text(source)
    small = build(source, "net", transfer_weights(model, keep, plugins))
    used = [name for name in model.state_dict() if not is_within(name, dependencies.left_out)]
    assert list(small.state_dict()) == used
    assert Counting(dependencies).cost(keep.kept).params == sum(
        parameter.numel() for parameter in small.parameters()
    )
    verify(model, keep, small, of_shape(shapes))
    if can_train(model, shapes):
        take_step(small, shapes)
    check_same(masked(model.double(), keep), small.double().eval(), shapes)
    return "reached" if level == asked else "as far as it goes"


def planned(dependencies: Dependencies, scores: NDArray[np.float64], level: float) -> Plan | None:
    """A plan for a level; `None` where it cannot be reached."""
    try:
        return make_plan(dependencies, scores, level, limits=Limits(min_channels=1))
    except LevelError:
        return None


def take_step(network: nn.Module, shapes: Shapes) -> None:
    """Take a step of training, which has to reach every weight."""
    network = copy.deepcopy(network).train()
    outputs = pytree.tree_leaves(network(*(torch.rand(2, *shape) for shape in shapes)))
    torch.stack([output.sum() for output in outputs]).sum().backward()
    assert [name for name, weight in network.named_parameters() if weight.grad is None] == []


def can_train(model: nn.Module, shapes: Shapes) -> bool:
    """Whether a step of training works: what is changed in place may be needed for gradients.

    torch's attention with the batch first trains on copies of its inputs, which the written one
    does not make; so the length comes first here.
    """
    model = copy.deepcopy(model)
    for module in model.modules():
        if isinstance(module, nn.MultiheadAttention):
            module.batch_first = False
    try:
        take_step(model, shapes)
    except (RuntimeError, AssertionError):
        return False
    return True


def check_same(reference: nn.Module, small: nn.Module, shapes: Shapes) -> None:
    """In float64 the two return the same, for batches that the walk did not see."""
    generator = torch.Generator().manual_seed(2)
    for batch in (3, 1):
        inputs = [torch.randn(batch, *s, dtype=torch.float64, generator=generator) for s in shapes]
        with torch.no_grad():
            expected, actual = (run(*(x.clone() for x in inputs)) for run in (reference, small))
        assert type(expected).__name__ == type(actual).__name__
        leaves = (pytree.tree_leaves_with_path(output) for output in (expected, actual))
        for (key, ours), (other_key, theirs) in zip(*leaves, strict=True):
            assert key == other_key
            size = float(ours.abs().max())
            torch.testing.assert_close(theirs, ours, rtol=1e-9, atol=1e-9 * size)


def check_many(
    strategy: st.SearchStrategy[Drawn], count: int, number: int, folder: Path
) -> Counter[Outcome]:
    """Check so many networks, always the same for a number; what came of them."""
    outcomes: Counter[Outcome] = Counter()

    @seed(number)
    @settings(max_examples=count, deadline=None, database=None, suppress_health_check=HEALTH)
    @given(strategy, st.integers(5, 80), st.integers(0, 10_000))
    def each(drawn: Drawn, level: float, scores: int) -> None:
        outcomes[check(*drawn, level, scores, folder)] += 1

    each()
    check_style(folder)
    assert outcomes.total() >= count
    return outcomes


def check_networks(count: int, number: int, folder: Path) -> None:
    """Check networks of blocks, nearly all of which can be cut."""
    outcomes = check_many(networks(), count, number, folder)
    assert outcomes["nothing may go"] <= 0.03 * count
    assert outcomes["as far as it goes"] <= 0.3 * count


FORWARDS = {"forwards": forwards(), "moves": moves(), "calls": calls(), "ways": ways()}


def test_any_network_is_cut_right(tmp_path: Path) -> None:
    check_networks(100, 0, tmp_path)


@pytest.mark.parametrize("kind", FORWARDS)
def test_any_forward_is_cut_right(kind: str, tmp_path: Path) -> None:
    check_many(FORWARDS[kind], 60, 0, tmp_path)


@pytest.mark.random
@pytest.mark.parametrize("part", range(1, 11))
def test_five_thousand_networks_are_cut_right(part: int, tmp_path: Path) -> None:
    check_networks(500, part, tmp_path)


@pytest.mark.random
@pytest.mark.parametrize("part", range(1, 6))
@pytest.mark.parametrize("kind", FORWARDS)
def test_a_thousand_forwards_of_a_kind_are_cut_right(kind: str, part: int, tmp_path: Path) -> None:
    check_many(FORWARDS[kind], 200, part, tmp_path)
