"""Each group of coupled layers is pruned alone, refitted, and compared with the whole."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import pytest
import torch
from torch import Tensor, nn

import prunecore
from prunecore.channels.keep import Keep
from prunecore.errors import LevelError, UsageError
from prunecore.plugin import hookimpl
from prunecore.recovery.steps import Networks, agreement_on, refit
from prunecore.strategies import sensitivity as sensitivities
from prunecore.strategies.sensitivity import sensitivity
from prunecore.traced_model import TracedModel

from ..conftest import randomised
from ..criteria.linear import Rows


@hookimpl
def recover_layer(block: nn.Module) -> Rows | None:
    return Rows(block) if isinstance(block, nn.Linear) else None


@pytest.fixture(autouse=True)
def _toys_that_recover(install: Callable[..., None], toy: ModuleType) -> None:
    """Make a toy plugin the only one that is installed which tells of linear layers, too."""
    recovering = ModuleType("toy")
    vars(recovering).update(vars(toy), prunecore_recover_layer=recover_layer)
    install(toy=recovering)


class Net(nn.Module):
    """Of the first group half of the channels say nothing, of the second all matter."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.first = nn.Linear(6, 8)
        self.second = nn.Linear(8, width)
        self.last = nn.Linear(width, 5)
        with torch.no_grad():
            self.second.weight[:, ::2] = 0

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.relu(self.second(torch.relu(self.first(x)))))


def images(number: int = 48, width: int = 6) -> Tensor:
    return torch.randn(number, width, generator=torch.Generator().manual_seed(1))


def traced(model: nn.Module, calibration: Tensor | None) -> TracedModel:
    return prunecore.trace(model, input_shape=(6,), calibration=calibration)


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return Net().eval()


def test_what_says_nothing_goes_for_nothing(model: nn.Module) -> None:
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    seen: list[tuple[int, int]] = []
    found = sensitivity(traced(model, images()), on_group=lambda *done: seen.append(done))
    assert (found["mode"], found["images"], found["held_back"]) == ("surgeon", 32, 16)
    assert seen == [(1, 2), (2, 2)]
    first, second = found["groups"]
    assert (first["layers"], second["layers"]) == (["first"], ["second"])
    for group in (first, second):
        assert [(one["asked"], one["removed"]) for one in group["levels"]] == [
            (25, 2), (50, 4), (75, 6),
        ]  # fmt: skip
        errors = [level["error"] for level in group["levels"]]
        assert max(errors[:2]) < errors[2]
    assert [level["error"] < 1e-5 for level in first["levels"]] == [True, True, False]
    assert [level["agreement"] for level in first["levels"]][:2] == [1.0, 1.0]
    assert second["levels"][1]["error"] > 1e-3
    assert all(tensor.equal(before[name]) for name, tensor in model.state_dict().items())


def test_it_is_what_pruning_and_refitting_the_group_brings(model: nn.Module) -> None:
    given = images(240)
    is_held = torch.arange(240) % 3 == 0
    whole = traced(model, given[~is_held])
    limits = prunecore.Limits(layers={"first": "keep"})
    small = whole.prune(25, target="channels", limits=limits, recover=(), verify=False)
    assert len(small.weights["second.bias"]) == 4
    networks = Networks(
        whole.original,
        small.model,
        Keep(model, whole.dependencies, small.plan.kept),
        whole.layers,
        whole.plugins.layers(small.model),
    )
    with torch.no_grad():
        refit(networks, given[~is_held], 0)
    alone = agreement_on(whole.original, small.model, given[is_held])
    level = sensitivity(traced(model, given))["groups"][1]["levels"][1]
    assert (level["asked"], level["removed"]) == (50, 4)
    assert level["agreement"] == pytest.approx(alone.top1, abs=1e-4)
    assert level["error"] == pytest.approx(alone.error, rel=1e-3)


def test_a_share_that_a_layer_cannot_lose_is_left_out() -> None:
    torch.manual_seed(0)
    found = sensitivity(traced(Net(width=3).eval(), images()))
    (levels,) = (one["levels"] for one in found["groups"] if one["layers"] == ["second"])
    assert [(level["asked"], level["removed"]) for level in levels] == [(25, 1)]


def test_without_classes_there_is_no_agreement() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 1)).eval()
    (group,) = sensitivity(traced(network, images()))["groups"]
    assert {level["agreement"] for level in group["levels"]} == {None}


def test_two_images_are_enough(model: nn.Module) -> None:
    found = sensitivity(traced(model, images(2)))
    assert (found["images"], found["held_back"]) == (1, 1)


def test_of_many_values_fewer_images_are_taken(
    model: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sensitivities, "_VALUES", 6 * 12)
    found = sensitivity(traced(model, images(120)))
    assert (found["images"], found["held_back"]) == (8, 4)


def test_without_images_nothing_is_told(model: nn.Module) -> None:
    with pytest.raises(UsageError, match="none are given"):
        sensitivity(traced(model, None))
    with pytest.raises(UsageError, match="none are given"):
        prunecore.inspect(model, input_shape=(6,), sensitivity=True)


def test_images_that_nothing_reads_are_refused(model: nn.Module) -> None:
    with pytest.raises(UsageError, match="Give sensitivity=True"):
        prunecore.inspect(model, input_shape=(6,), calibration=images())


def test_nothing_to_prune() -> None:
    with pytest.raises(LevelError, match="no channel that may go"):
        sensitivity(traced(nn.Linear(6, 3).eval(), images()))
    narrow = nn.Sequential(nn.Linear(6, 2), nn.ReLU(), nn.Linear(2, 3)).eval()
    with pytest.raises(LevelError, match="a layer keeps 2 at least"):
        sensitivity(traced(narrow, images()))


def test_an_inspection_names_the_groups(model: nn.Module) -> None:
    plain = prunecore.inspect(randomised(model), input_shape=(6,))
    found = prunecore.inspect(model, input_shape=(6,), calibration=images(), sensitivity=True)
    assert "sensitivity" not in plain.report
    assert repr(found) == repr(plain)
    for group in found.report["sensitivity"]["groups"]:
        assert found.groups[group["group"]]["layers"] == group["layers"]
