"""Written sets: built from their text, and checked against the network that they came from."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import prunecore
from prunecore import PrunecoreError, VerificationError
from prunecore.errors import WeightsError
from prunecore.inputs import of_shape
from prunecore.verification import Verification
from prunecore.walking.network import BATCH, walk
from prunecore.writing.building import build

pytestmark = pytest.mark.usefixtures("toys_installed")


class Net(nn.Module):
    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.a = nn.Linear(3, width)
        self.b = nn.Linear(width, width)
        self.c = nn.Linear(width, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        return self.c(torch.sigmoid(self.b(x)) + x)


@pytest.fixture
def model() -> Net:
    torch.manual_seed(0)
    return Net()


@pytest.fixture
def file(model: Net, tmp_path: Path) -> Path:
    """The .py file of a set."""
    return prunecore.prune(model, level=40, input_shape=(3,)).save(tmp_path / "net_40.py")[0]


def check(file: Path, model: nn.Module, shape: tuple[int, ...] = (3,)) -> Any:
    return prunecore.verify(file, model, input_shape=shape)


def test_a_set_that_is_right(file: Path, model: Net) -> None:
    assert check(file, model) == Verification(max_relative_difference=1e-12, inputs=8)
    assert sorted(path.name for path in file.parent.iterdir()) == [
        "net_40.json",
        "net_40.py",
        "net_40.safetensors",
    ]


def test_a_file_that_was_changed_is_caught(file: Path, model: Net) -> None:
    text = file.read_text()
    assert "torch.sigmoid" in text
    file.write_text(text.replace("torch.sigmoid", "torch.tanh"))
    with pytest.raises(VerificationError, match=r"first at c \(Linear, in"):
        check(file, model)


def test_a_file_that_was_changed_to_the_same_is_right(file: Path, model: Net) -> None:
    file.write_text(file.read_text().replace("torch.sigmoid(", "1 * torch.sigmoid("))
    check(file, model)


@pytest.mark.parametrize("name", ["a.weight", "b.bias", "c.weight"])
def test_a_weight_that_was_changed_is_caught(file: Path, model: Net, name: str) -> None:
    weights = load_file(file.with_suffix(".safetensors"))
    weights[name].view(-1)[0] += 1e-4
    save_file(weights, file.with_suffix(".safetensors"))
    with pytest.raises(VerificationError, match=f"first at {name}, whose values are not the"):
        check(file, model)


def test_another_original_is_caught(file: Path) -> None:
    with pytest.raises(VerificationError, match=r"first at a\.bias, whose values are not the"):
        check(file, Net())


def test_another_architecture_is_caught(file: Path) -> None:
    with pytest.raises(PrunecoreError) as caught:
        check(file, Net(width=6))
    assert str(caught.value).startswith(f"{file} was not made from this network: its report and")


@pytest.mark.parametrize(
    "kept",
    [
        {"a.weight": [[0, 1], None]},
        {"other.weight": [[0, 1], None]},
        {"a.weight": [[0, 99], None]},
        {"a.weight": [[0, 1]]},
        {"a.weight": [[], None]},
        {"a.weight": []},
    ],
)
def test_kept_indices_that_do_not_fit_are_caught(file: Path, model: Net, kept: Any) -> None:
    report = file.with_suffix(".json")
    report.write_text(json.dumps({**json.loads(report.read_text()), "kept": kept}))
    with pytest.raises(PrunecoreError, match="was not made from this network"):
        check(file, model)


def test_a_report_that_keeps_everything_is_caught(file: Path, model: Net) -> None:
    report = file.with_suffix(".json")
    report.write_text(json.dumps({**json.loads(report.read_text()), "kept": {}}))
    with pytest.raises(VerificationError, match=r"a\.bias, of shape \(5,\) in place of \(8,\)"):
        check(file, model)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"kept": []}', '{"kept": {}}', "{", "\udcff"])
def test_a_report_that_is_none(file: Path, model: Net, text: str) -> None:
    file.with_suffix(".json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(PrunecoreError, match=r"net_40\.json is not the report of a written set"):
        check(file, model)


@pytest.mark.parametrize("text", ["[" * 99_999, '{"a": ' * 99_999, "9" * 9_999, "NaN", "\0"])
def test_a_report_that_cannot_be_read_at_all(file: Path, model: Net, text: str) -> None:
    file.with_suffix(".json").write_text(text)
    with pytest.raises(PrunecoreError, match=r"not the report of a written set") as caught:
        check(file, model)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize(
    ("key", "value"),
    [("kept", {"a.weight": [[True], None]}), ("left_out", [{}]), ("model", "a b"), ("after", 3)],
)
def test_a_report_whose_values_cannot_be(file: Path, model: Net, key: str, value: Any) -> None:
    report = file.with_suffix(".json")
    report.write_text(json.dumps({**json.loads(report.read_text()), key: value}))
    with pytest.raises(PrunecoreError, match=rf"not the report of a written set: {key}: expected"):
        check(file, model)


@pytest.mark.parametrize("left_out", [[""], ["a"], ["c"], ["b", "b"], ["training"], ["a\n"]])
def test_a_report_that_leaves_out_what_is_there(file: Path, model: Net, left_out: Any) -> None:
    report = file.with_suffix(".json")
    report.write_text(json.dumps({**json.loads(report.read_text()), "left_out": left_out}))
    with pytest.raises(PrunecoreError) as caught:
        check(file, model)
    assert str(caught.value).count("\n") == 1


@pytest.mark.parametrize("suffix", [".json", ".safetensors"])
def test_a_pipe_in_a_file_s_place_is_not_waited_for(file: Path, model: Net, suffix: str) -> None:
    file.with_suffix(suffix).unlink()
    os.mkfifo(file.with_suffix(suffix))
    with pytest.raises(PrunecoreError, match=rf"net_40\{suffix}"):
        check(file, model)


@pytest.mark.parametrize("suffix", [".py", ".json", ".safetensors"])
def test_a_set_that_is_not_complete(file: Path, model: Net, suffix: str) -> None:
    missing = file.with_suffix(suffix)
    missing.unlink()
    with pytest.raises(PrunecoreError, match=missing.name):
        check(file, model)


def test_weights_that_are_cut_short(file: Path, model: Net) -> None:
    weights = file.with_suffix(".safetensors")
    weights.write_bytes(weights.read_bytes()[:-10])
    with pytest.raises(WeightsError, match=r"net_40\.safetensors is truncated"):
        check(file, model)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("missing", r"a\.bias, which is missing"),
        ("unexpected", r"d\.bias, which the written network does not have"),
        ("shape", r"a\.bias, of shape \(1,\) in place of \(5,\)"),
    ],
)
def test_weights_that_do_not_fit(file: Path, model: Net, change: str, said: str) -> None:
    weights = load_file(file.with_suffix(".safetensors"))
    if change == "missing":
        del weights["a.bias"]
    elif change == "unexpected":
        weights["d.bias"] = torch.rand(3)
    else:
        weights["a.bias"] = torch.rand(1)
    save_file(weights, file.with_suffix(".safetensors"))
    with pytest.raises(VerificationError, match=f"net_40.safetensors does not hold .* at {said}"):
        check(file, model)


def test_a_file_without_its_factory(file: Path, model: Net) -> None:
    file.write_text(file.read_text().replace("def net(", "def other("))
    with pytest.raises(PrunecoreError, match="has no factory net"):
        check(file, model)


def test_a_file_that_raises(file: Path, model: Net) -> None:
    file.write_text("import no_such_module\n")
    with pytest.raises(PrunecoreError, match=r"net_40\.py raises ModuleNotFoundError on import"):
        check(file, model)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("class Own(BaseException): pass\nraise Own('no')", "raises Own on import: no"),
        ("raise GeneratorExit", "raises GeneratorExit on import"),
        ("raise SystemExit(3)", "raises SystemExit on import: 3"),
        ("def __getattr__(name): raise GeneratorExit(name)", "cannot be built: GeneratorExit: net"),
        ("def net(): raise GeneratorExit", "cannot be built: GeneratorExit"),
        ("def net(): raise ValueError('a\\nb' * 9999)", "cannot be built: ValueError: a ba b"),
        ("def net(): return 3", "The network of net_40.py is an int, not a torch.nn.Module"),
        ("net = 3", "cannot be built: TypeError"),
    ],
)
def test_a_file_that_makes_no_network(file: Path, model: Net, text: str, message: str) -> None:
    file.write_text(text)
    with pytest.raises(PrunecoreError, match=message) as caught:
        check(file, model)
    assert str(caught.value).count("\n") == 1
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("text", ["raise KeyboardInterrupt", "def net(): raise KeyboardInterrupt"])
def test_an_interrupt_stops_the_check(file: Path, model: Net, text: str) -> None:
    file.write_text(text)
    with pytest.raises(KeyboardInterrupt):
        check(file, model)


@pytest.mark.parametrize("error", ["GeneratorExit('no')", "SystemExit", "ValueError('a' * 9999)"])
def test_a_forward_that_raises(file: Path, model: Net, error: str) -> None:
    head, _, _ = file.read_text().rpartition("        return self.c")
    tail = file.read_text().rpartition("\n\n\n")[2]
    file.write_text(f"{head}        raise {error}\n\n\n{tail}")
    with pytest.raises(VerificationError, match=r"As it is written, .* cannot be run") as caught:
        check(file, model)
    assert len(str(caught.value)) < 1000


def test_an_original_that_is_not_finite_is_named(file: Path, model: Net) -> None:
    model.b.bias.data[0] = math.inf
    with pytest.raises(
        WeightsError, match=r"^b\.bias of the network holds values that are no finite"
    ):
        check(file, model)


# Building


def test_a_network_is_built_of_the_very_tensors_that_are_given(model: Net) -> None:
    small = prunecore.prune(model, level=40, input_shape=(3,))
    again = build(small.source, "net", small.weights)
    for name, tensor in again.state_dict().items():
        assert tensor.data_ptr() == small.weights[name].data_ptr()
    assert not any(parameter.is_meta for parameter in again.parameters())


def test_building_draws_no_random_numbers(model: Net) -> None:
    class Constant(Net):
        """What is not in the weights has the network built twice."""

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("factor", torch.tensor([2.0]), persistent=False)

        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) * self.factor

    for network in (model, Constant()):
        before = torch.get_rng_state()
        small = prunecore.prune(network, level=40, input_shape=(3,))
        assert torch.equal(before, torch.get_rng_state())
    assert small.model.factor.tolist() == [2.0]


@pytest.mark.parametrize("trainable", [True, False])
def test_tied_parameters_stay_tied_and_trainable_as_they_were(trainable: bool) -> None:
    class Tied(Net):
        def __init__(self) -> None:
            super().__init__()
            self.twin = nn.Linear(3, 8)
            self.twin.weight = self.a.weight

        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) + self.c(self.twin(x))

    model = Tied()
    model.a.weight.requires_grad_(trainable)
    small = prunecore.prune(model, level=40, input_shape=(3,)).model
    assert small.a.weight is small.twin.weight
    assert small.a.weight.requires_grad is trainable


def test_a_walk_sees_more_than_one_input(model: Net, toys: Any) -> None:
    found = walk(model, of_shape((3,)), toys)
    assert found.forwards.visits[""][0].inputs[0].shape == (BATCH, 3)
    assert BATCH > 1


def test_a_batch_size_in_the_forward_does_not_go_unnoticed(toys: Any) -> None:
    class Baked(Net):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x).view(1, 4)

    with pytest.raises(PrunecoreError, match="cannot take a tensor of shape"):
        walk(Baked(), of_shape((3,)), toys)


def test_the_text_is_that_of_a_file(model: Net, install: Callable[..., None]) -> None:
    with pytest.raises(PrunecoreError, match=r"net\.py raises SyntaxError on import"):
        build("class", "net", {})
