"""The names that users and authors rely on, and what they hand out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import prunecore
import prunecore.plugin

from .conftest import randomised

pytestmark = pytest.mark.usefixtures("toys_installed")


@pytest.fixture
def model() -> nn.Module:
    return randomised(nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 6), nn.Linear(6, 2)))


def test_there_are_few_names_and_all_are_there() -> None:
    assert len(prunecore.__all__) <= 15
    assert sorted(prunecore.__all__) == prunecore.__all__
    for module in (prunecore, prunecore.plugin):
        for name in module.__all__:
            assert getattr(module, name) is not None
    assert dir(prunecore) == prunecore.__all__
    lowered = [name.lower() for name in (*prunecore.__all__, *prunecore.plugin.__all__)]
    same = set(prunecore.__all__) & set(prunecore.plugin.__all__)
    assert len(set(lowered)) == len(lowered) - len(same)  # none differ by case alone


def test_a_name_that_is_not_there() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'prun'"):
        prunecore.prun  # noqa: B018


def test_one_walk_serves_several_levels(model: nn.Module) -> None:
    traced = prunecore.trace(model, torch.rand(1, 3))
    assert repr(traced) == "TracedModel(Sequential: 14 of 16 channels may go, in 3 layers)"
    for level in (20, 40):
        small = traced.prune(level)
        once = prunecore.prune(model, torch.rand(1, 3), level)
        assert small.source == once.source
        assert small.report == once.report
        assert np.array_equal(small.plan.kept, traced.plan(level).kept)


def test_own_scores_decide(model: nn.Module) -> None:
    traced = prunecore.trace(model, input_shape=(3,))
    scores = traced.scores("magnitude")
    first, last = (traced.plan(40, scores=each) for each in (scores, -scores))
    assert np.array_equal(first.kept, traced.plan(40).kept)
    assert not np.array_equal(first.kept, last.kept)
    small = traced.prune(last, mode="mine")
    assert small.report["mode"] == "mine"
    assert np.array_equal(small.plan.kept, last.kept)
    assert small.report["verified"]
    with pytest.raises(prunecore.UsageError, match=r"Scores of shape \(2,\) do not fit"):
        traced.plan(40, scores=scores[:2])


def test_limits_hold(model: nn.Module) -> None:
    wide = prunecore.prune(model, torch.rand(1, 3), 20, limits=prunecore.Limits(min_channels=5))
    widths = [layer.out_features for layer in wide.model if isinstance(layer, nn.Linear)]
    assert min(widths[:2]) >= 5
    with pytest.raises(prunecore.UsageError, match="min_channels is 0"):
        prunecore.Limits(min_channels=0)


def test_results_read_well(model: nn.Module, tmp_path: Path) -> None:
    small = prunecore.prune(model, torch.rand(1, 3), 40, name="net")
    assert repr(small).startswith("PrunedModel(net, magnitude, Plan(3")
    assert repr(small).endswith("exact to 1e-12)")
    found = prunecore.inspect(model, torch.rand(1, 3))
    assert repr(found).splitlines()[0] == "Sequential: 100 parameters, 84 MACs"
    assert len(repr(found).splitlines()) == 6
    assert found._repr_html_().count("<tr>") == 4
    small.save(tmp_path / "net_40.py")
    check = prunecore.verify(tmp_path / "net_40.py", model)
    assert repr(check) == "Verification(max_relative_difference=1e-12, inputs=8)"
