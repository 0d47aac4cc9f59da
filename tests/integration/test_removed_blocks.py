"""Whole networks from which residual blocks go: shorter, exact, and with the keys of the rest."""

from __future__ import annotations

import numpy as np
import pytest
import torchvision

from prunecore.inputs import of_shape
from prunecore.planning.goal import COUNTED, Target
from prunecore.planning.plan import make_plan
from prunecore.planning.residual_blocks import find_residual_blocks

from .conftest import Cut
from .networks import network
from .oracle import Subject

IDENTITIES = {  # blocks whose shortcut is the identity
    "resnet18": 5,
    "resnet50": 12,
    "resnext50_32x4d": 12,
    "resnet20_plain_a": 7,  # where its stride is 1
    "resnet20_decorated_b": 7,
    "resnet20_lambda": 7,
    "mobilenet_v2": 10,
    "mnasnet0_5": 10,
    "mobilenet_v3_large": 10,
}


@pytest.fixture(scope="module")
def subject(request: pytest.FixtureRequest) -> Subject:
    return Subject.of(network(request.param), 3, 32, 32)


@pytest.mark.parametrize("subject", IDENTITIES, indirect=True)
@pytest.mark.parametrize("seed", [0, 1])
def test_any_choice_of_blocks_may_go(
    cut: Cut, subject: Subject, seed: int, request: pytest.FixtureRequest
) -> None:
    blocks = find_residual_blocks(subject.model, subject.dependencies, of_shape(subject.shape))
    assert len(blocks) == IDENTITIES[request.node.callspec.params["subject"]]
    kept = subject.random_choice(seed)
    gone = np.random.default_rng(seed).choice(blocks, size=len(blocks) // 2, replace=False)
    for block in gone:
        kept[block.own] = False
    written = cut(subject, kept, [block.path for block in gone])
    for block in gone:
        stage = block.path.rpartition(".")[0]
        assert len(written.model.get_submodule(stage)) < len(subject.model.get_submodule(stage))


@pytest.mark.parametrize("subject", ["resnet18", "resnet20_plain_a"], indirect=True)
@pytest.mark.parametrize("target", COUNTED)
@pytest.mark.parametrize("level", [40, 80])
def test_a_weak_branch_goes_and_the_level_is_met(
    subject: Subject, target: Target, level: float
) -> None:
    weak = find_residual_blocks(subject.model, subject.dependencies, of_shape(subject.shape))[1]
    scores = np.random.default_rng(0).random(subject.dependencies.count)
    scores[weak.own] /= 100
    plan = make_plan(subject.dependencies, scores, level, target, blocks=[weak])
    assert plan.removed_blocks == (weak.path,)
    assert abs(plan.achieved - level) <= 1


def test_a_stage_of_nothing_but_a_shortcut_is_empty(cut: Cut) -> None:
    subject = Subject.of(network("resnet18"), 3, 32, 32)
    blocks = find_residual_blocks(subject.model, subject.dependencies, of_shape(subject.shape))
    whole = [block for block in blocks if block.path.startswith("layer1.")]
    kept = subject.plan(10, "random").kept
    for block in whole:
        kept[block.own] = False
    written = cut(subject, kept, [block.path for block in whole])
    assert len(written.model.layer1) == 0
    assert "self.layer1 = nn.Sequential()" in written.source


def test_plain_networks_have_no_such_block() -> None:
    for model in (torchvision.models.vgg11(), torchvision.models.squeezenet1_1()):
        subject = Subject.of(model, 3, 64, 64)
        assert find_residual_blocks(model, subject.dependencies, of_shape(subject.shape)) == []
