"""The proof catches what is wrong, wherever it is, and whether or not the output shows it."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from prunecore import PrunecoreError, VerificationError
from prunecore.inputs import of_shape
from prunecore.plugin import Keep
from prunecore.registry import Plugins
from prunecore.verifying.comparison import verify
from prunecore.writing.building import build, import_file, transfer_weights
from prunecore.writing.source_file import write_network

from .. import toy

SHAPE = (3, 4, 4)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 6, 3, padding=1)
        self.bn = nn.BatchNorm2d(6)
        self.relu = nn.ReLU()
        self.b = nn.Conv2d(6, 6, 3, padding=1)
        self.scale = toy.Scale(6)
        self.shift = nn.Parameter(torch.rand(6, 1, 1))
        self.fc = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn(self.a(x))) + 0.5  # so that what is zero does not stay so
        x = self.scale(self.b(x)) * self.shift + x
        return self.fc(x.mean([2, 3]))


@pytest.fixture
def pair(find: Callable[..., Any], toys: Plugins) -> tuple[nn.Module, Keep, Any]:
    """A network, what is kept of it, and the written network."""
    torch.manual_seed(0)
    model = Net().eval()
    with torch.no_grad():
        model.bn.running_mean.uniform_(-1, 1)
        model.bn.running_var.uniform_(0.5, 2)
        model.bn.weight.uniform_(0.5, 2)
        model.bn.bias.uniform_(-1, 1)
    found = find(model, (2, *SHAPE))
    kept = np.ones(found.count, dtype=bool)
    kept[[1, 4]] = False
    keep = Keep(model, found, kept)
    text = write_network(model, keep, toys, "net", "A network.")
    return model, keep, build(text, "net", transfer_weights(model, keep, toys)).eval()


FLOATS = [
    "a.weight", "a.bias", "bn.weight", "bn.bias", "bn.running_mean", "bn.running_var",
    "b.weight", "b.bias", "scale.weight", "shift", "fc.weight", "fc.bias",
]  # fmt: skip


def test_a_right_network_passes(pair: tuple[Any, ...]) -> None:
    model, keep, small = pair
    assert sorted(FLOATS) == sorted(
        n for n, t in small.state_dict().items() if t.is_floating_point()
    )
    assert verify(model, keep, small, of_shape(SHAPE)) == {
        "max_relative_difference": 1e-12,
        "inputs": 8,
    }


@pytest.mark.parametrize("place", [0, -1])
@pytest.mark.parametrize("name", FLOATS)
def test_one_wrong_number_is_caught(pair: tuple[Any, ...], name: str, place: int) -> None:
    model, keep, small = pair
    small.state_dict()[name].view(-1)[place] += 1e-3
    with pytest.raises(VerificationError) as caught:
        verify(model, keep, small, of_shape(SHAPE))
    first, second = str(caught.value).splitlines()
    assert first.startswith("The written network differs from the masked original by ")
    assert "at most 1e-09 is right" in first
    assert "fault of prunecore or of a plugin" in second


@pytest.mark.parametrize("name", ["a.weight", "b.weight", "bn.bias", "shift"])
def test_two_channels_in_each_others_place_are_caught(pair: tuple[Any, ...], name: str) -> None:
    model, keep, small = pair
    tensor = small.state_dict()[name]
    tensor.copy_(tensor[[1, 0, 2, 3]])
    with pytest.raises(VerificationError, match="differs from the masked original"):
        verify(model, keep, small, of_shape(SHAPE))


def test_inputs_in_each_others_place_are_caught(pair: tuple[Any, ...]) -> None:
    model, keep, small = pair
    small.b.weight.data = small.b.weight.data[:, [0, 2, 1, 3]].clone()
    with pytest.raises(VerificationError, match=r"first at b \(Conv2d, in the care of "):
        verify(model, keep, small, of_shape(SHAPE))


def test_a_layer_of_another_kind_is_caught(pair: tuple[Any, ...]) -> None:
    model, keep, small = pair
    small.relu = nn.LeakyReLU(1e-5)
    with pytest.raises(VerificationError, match=r"first at relu \(ReLU, in the care of "):
        verify(model, keep, small, of_shape(SHAPE))


def test_another_option_of_a_layer_is_caught(pair: tuple[Any, ...]) -> None:
    model, keep, small = pair
    small.bn.eps = 1.1e-5
    with pytest.raises(VerificationError, match="differs from the masked original"):
        verify(model, keep, small, of_shape(SHAPE))


@pytest.mark.parametrize("name", ["a.weight", "a.bias", "bn.running_var", "b.weight"])
def test_a_fault_that_the_output_does_not_show_is_caught(pair: tuple[Any, ...], name: str) -> None:
    model, keep, small = pair
    for network in (model, small):
        network.fc.weight.data.zero_()
    verify(model, keep, small, of_shape(SHAPE))
    small.state_dict()[name].view(-1)[0] += 1e-3
    with torch.no_grad():
        x = torch.rand(2, *SHAPE)
        assert torch.equal(model(x), small(x))
    layer = name.partition(".")[0]
    with pytest.raises(VerificationError, match=rf"first at {layer} \(\w+, in the care of "):
        verify(model, keep, small, of_shape(SHAPE))


def test_a_tiny_signal_is_judged_by_its_own_size(pair: tuple[Any, ...]) -> None:
    """A wrong number among tiny ones moves the output by less than the tolerance."""
    model, keep, small = pair
    for network in (model, small):
        network.shift.data.mul_(1e-12)
        network.b.weight.data.mul_(1e-12)
        network.b.bias.data.zero_()
    verify(model, keep, small, of_shape(SHAPE))
    small.b.weight.data[0, 0, 0, 0] += 1e-13
    with pytest.raises(VerificationError, match=r"first at b \(Conv2d, in the care of "):
        verify(model, keep, small, of_shape(SHAPE))


def test_wrong_kept_indices_are_caught(pair: tuple[Any, ...]) -> None:
    model, keep, small = pair
    kept = keep.kept.copy()
    kept[[0, 1]] = kept[[1, 0]]
    with pytest.raises(VerificationError, match="differs from the masked original"):
        verify(model, Keep(model, keep.dependencies, kept), small, of_shape(SHAPE))


@pytest.mark.parametrize("where", ["original", "written"])
def test_what_is_not_finite_is_caught(pair: tuple[Any, ...], where: str) -> None:
    model, keep, small = pair
    network = model if where == "original" else small
    network.fc.bias.data[0] = math.nan if where == "original" else math.inf
    expected = "not finite" if where == "original" else "differs from the masked original"
    with pytest.raises(VerificationError, match=expected):
        verify(model, keep, small, of_shape(SHAPE))


def test_an_output_of_another_shape_is_caught(pair: tuple[Any, ...]) -> None:
    model, keep, small = pair

    class Flat(type(small)):  # type: ignore[misc]
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x).flatten()

    small.__class__ = Flat
    with pytest.raises(VerificationError, match=r"first at its output \(Net\);"):
        verify(model, keep, small, of_shape(SHAPE))


def test_a_layer_that_is_called_once_more_is_caught(pair: tuple[Any, ...]) -> None:
    model, keep, small = pair

    class More(type(small)):  # type: ignore[misc]
        def forward(self, x: Tensor) -> Tensor:
            self.a(x)
            return super().forward(x)

    small.__class__ = More
    with pytest.raises(VerificationError, match="differs from the masked original by inf"):
        verify(model, keep, small, of_shape(SHAPE))


def test_a_network_that_does_not_run_is_said_to(pair: tuple[Any, ...]) -> None:
    model, keep, small = pair
    small.fc = nn.Linear(5, 4)
    with pytest.raises(VerificationError) as caught:
        verify(model, keep, small, of_shape(SHAPE))
    first, second = str(caught.value).splitlines()
    what = "As it is written, Net cannot be run in float64 on inputs of shape (8, 3, 4, 4): Runtime"
    assert first.startswith(what)
    assert first.endswith(
        ", in fc (Linear, in the care of prunecore-toy 0.1), where the original can."
    )
    assert second.startswith("This is a fault of prunecore or of a plugin")


def test_an_original_that_does_not_run_is_said_to(pair: tuple[Any, ...]) -> None:
    model, keep, small = pair
    model.fc = nn.Linear(5, 4)
    with pytest.raises(VerificationError) as caught:
        verify(model, keep, small, of_shape(SHAPE))
    first, second = str(caught.value).splitlines()
    assert first.startswith("Net cannot be run in float64 on inputs of shape (8, 3, 4, 4): Runtime")
    assert second.startswith("Take what ties its forward to another type")


def test_both_networks_are_left_as_they_were(pair: tuple[Any, ...]) -> None:
    model, keep, small = pair
    for network in (model, small):
        network.train()
    seen: list[Any] = []
    handle = model.a.register_forward_hook(lambda *given: seen.append(given))
    before = {id(n): {k: t.clone() for k, t in n.state_dict().items()} for n in (model, small)}
    random = torch.get_rng_state()
    verify(model, keep, small, of_shape(SHAPE))
    assert torch.equal(random, torch.get_rng_state())
    assert list(model.a._forward_hooks) == [handle.id]
    assert seen == []
    for network in (model, small):
        assert all(module.training for module in network.modules())
        for name, tensor in network.state_dict().items():
            assert tensor.dtype == before[id(network)][name].dtype
            assert torch.equal(tensor, before[id(network)][name])
    assert not any(module._forward_hooks for module in small.modules())


def test_large_inputs_come_one_at_a_time(find: Callable[..., Any], toys: Plugins) -> None:
    model = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2))
    shape = (224 * 224, 3)
    found = find(model, (2, *shape))
    keep = Keep(model, found, np.ones(found.count, dtype=bool))
    assert verify(model, keep, model, of_shape(shape))["inputs"] == 1
    assert verify(model, keep, model, of_shape((224 * 112, 3)))["inputs"] == 2


def test_a_norm_over_channels_is_compared_over_those_that_are_kept(
    cut: Callable[..., Any],
) -> None:
    result = cut(nn.Sequential(nn.Linear(3, 8), toy.Centre(), nn.Linear(8, 2)), 3)
    keep = result.keep
    result.dependencies.masked_forwards.clear()
    with pytest.raises(VerificationError, match=r"first at 1 \(Centre, in the care of"):
        verify(result.model, keep, result.small, of_shape((3,)))


def test_a_wrong_forward_of_a_plugin_is_caught_before_anything_is_cut(
    cut: Callable[..., Any],
) -> None:
    """It may be on both sides of the comparison, as the plugin writes the block as well."""
    result = cut(nn.Sequential(nn.Linear(3, 8), toy.Centre(), nn.Linear(8, 2)), 3)
    forwards = result.dependencies.masked_forwards
    index, forward = forwards["1"]
    forwards["1"] = index, lambda module, kept, x: forward(module, kept, x) * 2
    with pytest.raises(VerificationError) as caught:
        verify(result.model, result.keep, result.small, of_shape((3,)))
    first, second = str(caught.value).splitlines()
    assert first.startswith("The network does something else when it is called than what was ")
    assert "first at 2 (Linear" in first
    assert "report it with the network" in second


def test_a_hook_that_is_not_in_the_text_is_caught(pair: tuple[Any, ...]) -> None:
    model, keep, small = pair
    model.b.register_forward_hook(lambda _module, _inputs, output: output * 2)
    with pytest.raises(VerificationError, match=r"else when it is called .*first at fc \("):
        verify(model, keep, small, of_shape(SHAPE))


def test_a_hook_of_the_network_itself_is_caught(pair: tuple[Any, ...]) -> None:
    model, keep, small = pair
    model.register_forward_hook(lambda _module, _inputs, output: output * 2)
    with pytest.raises(VerificationError, match=r"else when it is called .*first at its output"):
        verify(model, keep, small, of_shape(SHAPE))


def test_what_cannot_be_copied_is_left_alone(pair: tuple[Any, ...]) -> None:
    model, keep, small = pair
    model.numbers = (number for number in range(3))
    assert verify(model, keep, small, of_shape(SHAPE))["max_relative_difference"] == 1e-12
    assert list(model.numbers) == [0, 1, 2]


def test_a_file_is_imported_without_a_trace(tmp_path: Path) -> None:
    path = tmp_path / "some_net_50.py"
    path.write_text("value = 3\n")
    assert import_file(path).value == 3
    assert "some_net_50" not in sys.modules
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_raises_on_import_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "net.py"
    path.write_text("raise KeyError('x')\n")
    with pytest.raises(PrunecoreError) as caught:
        import_file(path)
    assert str(caught.value).startswith(f"{path} raises KeyError on import: 'x'")


def test_a_file_that_is_not_python_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PrunecoreError, match=r"is not a Python file"):
        import_file(tmp_path / "net.txt")
