"""Whole networks at many levels: what is written equals the original without what was removed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torchvision

from prunecore import VerificationError
from prunecore.channels.keep import Keep
from prunecore.inputs import of_shape
from prunecore.verifying.comparison import verify
from prunecore.writing.building import build, transfer_weights

from .conftest import Cut
from .networks import NETWORKS, network
from .oracle import FACTORY, Subject

MODES = ["random", "l1-norm"]
LEVELS = [10, 30, 50, 70, 90]

# Networks that are cut in a second, and what is tried with them: every level in every mode.
SMALL = [
    *NETWORKS,
    "alexnet",
    "resnet18",
    "resnet34",
    "resnet50",
    "resnext50_32x4d",
    "mobilenet_v2",
    "mnasnet0_5",
    "mnasnet1_0",
    "squeezenet1_0",
    "squeezenet1_1",
    "googlenet",
]
# Networks whose weights alone take a second to copy.
LARGE = ["vgg11", "vgg16_bn", "resnet101", "wide_resnet50_2"]
# Networks that are planned and written, without weights, but not run.
HUGE = ["resnet152", "wide_resnet101_2", "resnext101_32x8d", "resnext101_64x4d"]
HUGE += ["vgg11_bn", "vgg13", "vgg13_bn", "vgg16", "vgg19", "vgg19_bn"]
# Networks whose branches are concatenated, one after the other or within one another.
CONCATENATED = ["squeezenet1_0", "squeezenet1_1", "squeezenet_cifar", "googlenet"]
CONCATENATED += ["googlenet_cifar", "inception_v3", "densenet121"]
SIDES = dict.fromkeys(["alexnet", "squeezenet1_0", "squeezenet1_1"], 64)  # where 32 is too small
SIDES["inception_v3"] = 96

ALL = [*SMALL, *LARGE]


@pytest.fixture(scope="module")
def subject(request: pytest.FixtureRequest) -> Subject:
    side = SIDES.get(request.param, 32)
    return Subject.of(network(request.param), 3, side, side)


@pytest.mark.parametrize("subject", SMALL, indirect=True)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("level", LEVELS)
def test_every_level_is_reached_and_right(
    cut: Cut, subject: Subject, mode: str, level: float
) -> None:
    cut(subject, subject.plan(level, mode).kept)


@pytest.mark.parametrize("subject", SMALL, indirect=True)
@pytest.mark.parametrize(("seed", "share"), [(0, 0.2), (1, 0.5), (2, 0.9)])
def test_any_choice_of_channels_is_right(
    cut: Cut, subject: Subject, seed: int, share: float
) -> None:
    cut(subject, subject.random_choice(seed, share))


@pytest.mark.parametrize("subject", LARGE, indirect=True)
@pytest.mark.parametrize(("mode", "level"), [("l1-norm", 50), ("random", 90)])
def test_large_networks_are_right(cut: Cut, subject: Subject, mode: str, level: float) -> None:
    cut(subject, subject.plan(level, mode).kept)


@pytest.mark.parametrize("subject", LARGE, indirect=True)
def test_any_choice_of_a_large_network_s_channels_is_right(cut: Cut, subject: Subject) -> None:
    cut(subject, subject.random_choice(seed=0, share=0.7))


@pytest.mark.parametrize("name", HUGE)
@pytest.mark.parametrize("level", LEVELS)
def test_huge_networks_are_counted_as_they_are_built(name: str, level: float) -> None:
    with torch.device("meta"):
        model = getattr(torchvision.models, name)().eval()
        subject = Subject.of(model, 3, 32, 32)
        plan = subject.plan(level, "random")
        source, keep = subject.write(plan.kept)
        small = build(source, FACTORY, transfer_weights(model, keep, subject.plugins))
    assert plan.after.params == sum(parameter.numel() for parameter in small.parameters())
    assert list(small.state_dict()) == list(model.state_dict())


@pytest.mark.parametrize("subject", ["resnet20_plain_b", "googlenet_cifar"], indirect=True)
def test_weighted_scores_give_networks_of_one_size_that_differ(cut: Cut, subject: Subject) -> None:
    texts, macs = set(), []
    for seed in range(8):
        plan = subject.plan(50, "random-weighted", seed=seed)
        texts.add(cut(subject, plan.kept).source)
        macs.append(plan.after.macs)
    assert len(texts) == 8
    assert max(macs) > 1.3 * min(macs)


@pytest.mark.parametrize("subject", ["resnet50", "functional"], indirect=True)
@pytest.mark.parametrize("target", ["macs", "channels"])
@pytest.mark.parametrize("level", LEVELS)
def test_other_targets_are_reached(subject: Subject, target: str, level: float) -> None:
    plan = subject.plan(level, "l1-norm", target)
    if target == "macs":
        assert plan.achieved == pytest.approx(100 * (1 - plan.after.macs / plan.before.macs))
    else:
        removable = subject.dependencies.removable
        assert plan.achieved == pytest.approx(100 * (~plan.kept).sum() / removable.sum())


@pytest.mark.parametrize("subject", ["functional", "resnet18"], indirect=True)
def test_channels_in_another_order_are_found_wrong(subject: Subject) -> None:
    source, keep = subject.write(subject.plan(50, "random").kept)
    weights = transfer_weights(subject.model, keep, subject.plugins)
    weights["conv1.weight"] = weights["conv1.weight"].flip(0)
    small = build(source, FACTORY, weights)
    with pytest.raises(VerificationError, match="first at conv1"):
        verify(subject.model, keep, small, of_shape(subject.shape))


@pytest.mark.parametrize("subject", ["functional", "resnet18"], indirect=True)
def test_one_channel_taken_for_another_is_found_wrong(subject: Subject) -> None:
    kept = subject.plan(50, "random").kept
    source, keep = subject.write(kept)
    small = build(source, FACTORY, transfer_weights(subject.model, keep, subject.plugins))
    other = kept.copy()
    layer = subject.dependencies.axes[subject.dependencies.layers["conv1"]]
    gone, stays = layer[~kept[layer]][0], layer[kept[layer]][0]
    other[[gone, stays]] = other[[stays, gone]]
    with pytest.raises(VerificationError):
        verify(
            subject.model,
            Keep(subject.model, subject.dependencies, other),
            small,
            of_shape(subject.shape),
        )


@pytest.mark.parametrize("name", ["resnet20_plain_b", "resnet20_decorated_b"])
def test_l1_norm_removes_what_is_weakest(name: str) -> None:
    model = network(name)
    weakest = [1, 5, 6, 11]
    with torch.no_grad():
        model.get_parameter("layer1.1.conv1.weight")[weakest] *= 1e-3
    subject = Subject.of(model, 3, 32, 32)
    kept = Keep(model, subject.dependencies, subject.plan(10, "l1-norm").kept)
    stays = kept.indices(model.get_parameter("layer1.1.conv1.weight"), 0)
    assert stays is not None
    assert not set(weakest) & set(stays.tolist())


def test_a_decorated_block_is_cut_and_written_as_the_plain_one() -> None:
    for option in ("a", "b"):
        plain, decorated = (
            Subject.of(network(f"resnet20_{kind}_{option}"), 3, 32, 32)
            for kind in ("plain", "decorated")
        )
        kept = plain.plan(50, "l1-norm").kept
        assert np.array_equal(kept, decorated.plan(50, "l1-norm").kept)
        text = decorated.write(kept)[0].replace("DecoratedBlock", "PlainBlock")
        assert "".join(text.split()) == "".join(plain.write(kept)[0].split())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_stays_as_it_is(dtype: torch.dtype) -> None:
    subject = Subject.of(network("functional").to(dtype), 3, 32, 32)
    source, keep = subject.write(subject.plan(50, "l1-norm").kept)
    weights = transfer_weights(subject.model, keep, subject.plugins)
    small = build(source, FACTORY, weights)
    assert {weight.dtype for weight in small.state_dict().values()} == {dtype, torch.int64}
    verify(subject.model, keep, small, of_shape(subject.shape))


@pytest.mark.parametrize("subject", CONCATENATED, indirect=True)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("level", [80, 85, 90, 95])
def test_concatenated_channels_keep_their_order_at_high_levels(
    cut: Cut, subject: Subject, mode: str, level: float
) -> None:
    keep = cut(subject, subject.plan(level, mode).kept).keep
    for tensor in subject.dependencies.tensors.values():
        for axis in range(tensor.ndim):
            kept = keep.indices(tensor, axis)
            assert kept is None or (np.diff(kept) > 0).all()


@pytest.mark.parametrize(
    ("subject", "reader"),
    [
        ("squeezenet1_1", "features.10.squeeze"),
        ("googlenet", "inception4b.branch1.conv"),
        ("googlenet_cifar", "b4.b1.0"),
    ],
    indirect=["subject"],
)
@pytest.mark.parametrize("level", [80, 95])
def test_channels_in_another_order_after_a_concatenation_are_found(
    subject: Subject, reader: str, level: float
) -> None:
    source, keep = subject.write(subject.plan(level, "random").kept)
    weights = transfer_weights(subject.model, keep, subject.plugins)
    weight = weights[f"{reader}.weight"]
    assert weight.shape[1] > 2
    weights[f"{reader}.weight"] = weight.flip(1)
    with pytest.raises(VerificationError):
        verify(subject.model, keep, build(source, FACTORY, weights), of_shape(subject.shape))


SWEPT = [*ALL, *HUGE, "inception_v3"]  # every network named in the README, and more


@pytest.mark.slow
@pytest.mark.parametrize("name", SWEPT)
@pytest.mark.parametrize("mode", MODES)
def test_every_fifth_level(cut: Cut, name: str, mode: str) -> None:
    side = 32 if name in NETWORKS else max(64, SIDES.get(name, 0))
    subject = Subject.of(network(name), 3, side, side)
    for level in range(5, 100, 5):
        cut(subject, subject.plan(level, mode).kept)
