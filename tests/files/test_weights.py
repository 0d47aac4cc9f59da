"""Weights files: every form that is understood, and every way in which one can be wrong."""

from __future__ import annotations

import pickle
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision import models as torchvision_models

from prunecore.errors import UsageError, WeightsError
from prunecore.files import weights
from prunecore.files.weights import load_weights, read_weights


class Net(nn.Module):
    def __init__(self, width: int = 3) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, width, 1)
        self.bn = nn.BatchNorm2d(width)


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(2, 2, bias=False)
        self.second = nn.Linear(2, 2, bias=False)
        self.second.weight = self.first.weight


def state_of(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def saved(file: Path, content: Any) -> Path:
    if file.suffix == ".safetensors":
        save_file(content, file)
    else:
        torch.save(content, file)
    return file


def assert_loads(file: Path, state: Mapping[str, Tensor]) -> None:
    model = Net()
    load_weights(model, file)
    loaded = model.state_dict()
    assert loaded.keys() == state.keys()
    for name, tensor in state.items():
        assert loaded[name].dtype == tensor.dtype
        assert loaded[name].equal(tensor)


@pytest.mark.parametrize("name", ["net.safetensors", "net.pt", "net.pth"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_each_kind_of_file_in_its_own_dtype(tmp_path: Path, name: str, dtype: torch.dtype) -> None:
    state = state_of(Net().to(dtype))
    assert_loads(saved(tmp_path / name, state), state)


@pytest.mark.parametrize("wrapper", ["state_dict", "model_state_dict", "model"])
def test_a_checkpoint_around_the_state_dict(tmp_path: Path, wrapper: str) -> None:
    state = state_of(Net())
    assert_loads(saved(tmp_path / "net.pt", {"epoch": 3, wrapper: state, "lr": 0.1}), state)


def test_the_prefix_of_data_parallel(tmp_path: Path) -> None:
    parallel = nn.ModuleDict({"module": Net()})
    state = state_of(parallel["module"])
    assert_loads(saved(tmp_path / "net.pt", parallel.state_dict()), state)
    assert_loads(saved(tmp_path / "net.safetensors", state_of(parallel)), state)


def test_a_module_of_that_name_is_no_prefix(tmp_path: Path) -> None:
    parallel = nn.ModuleDict({"module": Net()})
    load_weights(parallel, saved(tmp_path / "net.pt", parallel.state_dict()))


def test_the_old_file_format(tmp_path: Path) -> None:
    state = state_of(Net())
    torch.save(state, tmp_path / "net.pth", _use_new_zipfile_serialization=False)
    assert_loads(tmp_path / "net.pth", state)


def test_a_file_of_an_old_torch_without_batch_counters(tmp_path: Path) -> None:
    state = state_of(Net())
    counter = state.pop("bn.num_batches_tracked")
    file = saved(tmp_path / "net.pt", state)
    assert_loads(file, {**state, "bn.num_batches_tracked": counter})


@pytest.mark.parametrize("name", ["net.safetensors", "net.pt"])
def test_metadata_that_a_network_insists_on(tmp_path: Path, name: str) -> None:
    model = torchvision_models.mnasnet0_5(num_classes=2)
    file = saved(tmp_path / name, state_of(model))
    again = torchvision_models.mnasnet0_5(num_classes=2)
    load_weights(again, file)
    assert again.state_dict()["layers.0.weight"].equal(model.state_dict()["layers.0.weight"])


def test_the_file_s_own_metadata_wins(tmp_path: Path) -> None:
    state = OrderedDict(Net().state_dict())
    state._metadata = {"bn": {"version": 1}}  # type: ignore[attr-defined]
    del state["bn.num_batches_tracked"]
    load_weights(Net(), saved(tmp_path / "net.pt", state))


def test_a_frozen_parameter_stays_frozen(tmp_path: Path) -> None:
    model = Net()
    model.conv.weight.requires_grad_(False)
    load_weights(model, saved(tmp_path / "net.pt", state_of(Net())))
    assert not model.conv.weight.requires_grad
    assert model.conv.bias is not None
    assert model.conv.bias.requires_grad


@pytest.mark.parametrize("given", [["first"], ["second"], ["first", "second"]])
def test_tied_parameters_stay_tied_under_whichever_name_they_come(
    tmp_path: Path, given: list[str]
) -> None:
    state = {f"{name}.weight": torch.eye(2) for name in given}
    model = Tied()
    load_weights(model, saved(tmp_path / "net.pt", state))
    assert model.first.weight is model.second.weight
    assert model.first.weight.equal(torch.eye(2))


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"There is no weights file .*none\.pt"):
        load_weights(Net(), tmp_path / "none.pt")


def test_another_kind_of_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"ends in \.safetensors, \.pt, \.pth"):
        load_weights(Net(), tmp_path / "net.bin")


def test_a_file_without_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(torch, "load", refused)
    with pytest.raises(WeightsError, match=r"Cannot read .*net\.pt: Permission denied"):
        read_weights(tmp_path / "net.pt")


class Ran(Exception):
    """Raised where a pickle's code is run."""


def run() -> None:
    raise Ran


class Code:
    def __reduce__(self) -> Any:
        return run, ()


@pytest.mark.parametrize("content", [nn.Linear(1, 1), {"a": Code()}, {"state_dict": {"a": Code()}}])
def test_pickled_code_is_refused_and_not_run(tmp_path: Path, content: Any) -> None:
    file = saved(tmp_path / "net.pt", content)
    with pytest.raises(WeightsError, match=r"holds pickled Python objects.*\n.*state_dict\(\)"):
        load_weights(Net(), file)


def test_a_plain_pickle_is_refused_and_not_run(tmp_path: Path) -> None:
    (tmp_path / "net.pt").write_bytes(pickle.dumps(Code()))
    with pytest.raises(WeightsError):
        load_weights(Net(), tmp_path / "net.pt")


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
@pytest.mark.parametrize("kind", ["truncated", "empty", "text", "noise"])
def test_a_file_that_is_no_weights_file(tmp_path: Path, suffix: str, kind: str) -> None:
    file = saved(tmp_path / f"net{suffix}", state_of(Net()))
    whole = file.read_bytes()
    noise = bytes((i * i * 31 + 7) % 256 for i in range(999))
    contents = {
        "truncated": whole[: len(whole) // 2],
        "empty": b"",
        "text": b"hello, these are no weights",
        "noise": noise,
    }
    file.write_bytes(contents[kind])
    with pytest.raises(WeightsError, match="truncated or no weights file") as caught:
        load_weights(Net(), file)
    assert str(caught.value).count("\n") == 1


@pytest.mark.parametrize("content", [[1, 2], 3, torch.ones(2)])
def test_something_else_that_torch_saved(tmp_path: Path, content: Any) -> None:
    with pytest.raises(WeightsError, match="not a state dict"):
        load_weights(Net(), saved(tmp_path / "net.pt", content))


def test_a_checkpoint_without_a_state_dict_that_is_known(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="not a tensor under epoch, net"):
        load_weights(Net(), saved(tmp_path / "net.pt", {"epoch": 3, "net": state_of(Net())}))


def test_weights_of_another_network_are_listed(tmp_path: Path) -> None:
    state = state_of(Net(width=4))
    del state["bn.running_mean"], state["bn.running_var"]
    state |= {f"fc{i}": torch.ones(1) for i in range(6)}
    with pytest.raises(WeightsError) as caught:
        load_weights(Net(), saved(tmp_path / "net.pt", state))
    assert str(caught.value) == (
        f"{tmp_path / 'net.pt'} does not fit the network: "
        "2 missing from the file: bn.running_mean, bn.running_var; "
        "6 not in the network: fc0, fc1, fc2, fc3, ...; "
        "4 of another shape: conv.weight (file (4, 2, 1, 1), network (3, 2, 1, 1)), "
        "conv.bias (file (4,), network (3,)), bn.weight (file (4,), network (3,)), "
        "bn.bias (file (4,), network (3,)).\n"
        "Give this network's weights, or the arguments it was made with (--model-arg)."
    )


def test_the_network_holds_the_very_tensors_that_were_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = state_of(Net())
    file = saved(tmp_path / "net.pt", state)
    monkeypatch.setattr(weights, "read_weights", lambda _: state)
    model = Net()
    load_weights(model, file)
    assert model.conv.weight.data_ptr() == state["conv.weight"].data_ptr()
