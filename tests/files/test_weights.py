"""Weights files: every form that is understood, and every way in which one can be wrong."""

from __future__ import annotations

import os
import pickle
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from copy import copy
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


class Holding(nn.Module):
    """Reads its parameters and buffers from plain containers."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(3))
        self.register_buffer("shift", torch.zeros(3))
        self.held = [self.scale, {"shift": self.shift}]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_is_held_in_plain_lists_too_has_the_file_s_values(
    tmp_path: Path, dtype: torch.dtype
) -> None:
    state = {"scale": torch.rand(3, dtype=dtype), "shift": torch.rand(3, dtype=dtype)}
    save_file(state, tmp_path / "held.safetensors")
    model = Holding()
    load_weights(model, tmp_path / "held.safetensors")
    assert model.held[0] is model.scale
    assert model.held[1]["shift"] is model.shift
    assert isinstance(model.scale, nn.Parameter)
    for name in state:
        assert torch.equal(model.get_buffer(name) if name == "shift" else model.scale, state[name])


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"There is no weights file .*none\.pt"):
        load_weights(Net(), tmp_path / "none.pt")


def test_another_kind_of_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"ends in \.safetensors, \.pt, \.pth"):
        load_weights(Net(), tmp_path / "net.bin")


def test_a_file_without_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied")

    file = saved(tmp_path / "net.pt", {})
    monkeypatch.setattr(torch, "load", refused)
    with pytest.raises(WeightsError, match=r"Cannot read .*net\.pt: Permission denied"):
        read_weights(file)


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


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda x: x.to_sparse(), "sparse_coo float32"),
        (lambda x: x.flatten(1).to_sparse_csr(), "sparse_csr float32"),
        (lambda x: x.to("meta"), "meta float32"),
        (lambda x: x.to(torch.complex64), "complex64"),
        (lambda x: x.to(torch.complex64).conj(), "complex64"),
        (lambda x: x.to(torch.float8_e4m3fn), "float8_e4m3fn"),
        (lambda x: x.to(torch.int64), "int64"),
        (lambda x: x > 0, "bool"),
        (lambda x: quantised(x), "qint8"),
    ],
)
@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support:UserWarning")
@pytest.mark.filterwarnings("ignore:.*quantiz:UserWarning")
def test_a_tensor_of_another_type_is_named(tmp_path: Path, change: Any, said: str) -> None:
    state = state_of(Net())
    state["conv.weight"] = change(state["conv.weight"])
    with pytest.raises(WeightsError) as caught:
        load_weights(Net(), saved(tmp_path / "net.pt", state))
    named = f"of another type: conv.weight (file {said}, network float32)"
    assert named in str(caught.value)


def quantised(tensor: Tensor) -> Tensor:
    return torch.quantize_per_tensor(tensor, 0.1, 0, torch.qint8)


def test_a_nested_tensor_is_refused(tmp_path: Path) -> None:
    state = state_of(Net())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what torch calls a prototype
        state["conv.bias"] = torch.nested.nested_tensor([torch.ones(3), torch.ones(2)])
    # which newer versions of torch do not read
    said = r"conv.bias \(file nested float32, network float32\)|holds pickled Python objects"
    with pytest.raises(WeightsError, match=said):
        load_weights(Net(), saved(tmp_path / "net.pt", state))


def test_a_counter_may_be_of_another_whole_type(tmp_path: Path) -> None:
    state = state_of(Net())
    state["bn.num_batches_tracked"] = torch.tensor(3, dtype=torch.int32)
    assert_loads(saved(tmp_path / "net.pt", state), state)


def test_a_tensor_that_is_negated_when_it_is_read_is_stored_negated(tmp_path: Path) -> None:
    state = state_of(Net())
    negated = torch._neg_view(state["conv.bias"])
    assert negated.is_neg()
    model = Net()
    load_weights(model, saved(tmp_path / "net.pt", {**state, "conv.bias": negated}))
    assert model.conv.bias is not None
    assert not model.conv.bias.is_neg()
    assert model.conv.bias.equal(-state["conv.bias"])


@pytest.mark.parametrize("key", [1, None, 0.5, True, b"conv.weight", ("conv", "weight")])
def test_a_key_that_is_no_name(tmp_path: Path, key: Any) -> None:
    file = saved(tmp_path / "net.pt", {**state_of(Net()), key: torch.ones(1)})
    with pytest.raises(WeightsError) as caught:
        load_weights(Net(), file)
    assert f"has keys that are no names: {key!r}.\n" in str(caught.value)


@pytest.mark.parametrize("key", ["a" * 10**5, "a\nb\x1b[31m", "\u202e"])
def test_a_key_that_cannot_be_shown_is_escaped_or_shortened(tmp_path: Path, key: str) -> None:
    for content in ({key: torch.ones(1)}, {key: 3}):
        with pytest.raises(WeightsError) as caught:
            load_weights(Net(), saved(tmp_path / "net.pt", content))
        assert len(str(caught.value)) < 600
        assert all(line.isprintable() for line in str(caught.value).splitlines())
        assert str(caught.value).count("\n") == 1


@pytest.mark.parametrize(
    "metadata", [3, None, [], {1: {}}, {"bn": 3}, {"bn": {"version": "2"}}, {"": {"version": 0.5}}]
)
def test_metadata_that_torch_does_not_write(tmp_path: Path, metadata: Any) -> None:
    state = OrderedDict(state_of(Net()))
    state._metadata = metadata  # type: ignore[attr-defined]
    with pytest.raises(WeightsError, match="what its _metadata says"):
        load_weights(Net(), saved(tmp_path / "net.pt", state))


def test_a_compressed_file_is_not_unpacked(tmp_path: Path) -> None:
    """A thousandth of what it unpacks to, it would fill the memory."""
    file = saved(tmp_path / "net.pt", state_of(Net()))
    compressed = tmp_path / "small.pt"
    with (
        zipfile.ZipFile(file) as old,
        zipfile.ZipFile(compressed, "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for record in old.infolist():
            new.writestr(record.filename, old.read(record))
    with pytest.raises(WeightsError, match=r"small\.pt is compressed"):
        load_weights(Net(), compressed)


def test_records_that_share_their_bytes_are_not_read(tmp_path: Path) -> None:
    """With a few bytes for each, they would fill the memory as well."""
    file = saved(tmp_path / "net.pt", {name: torch.zeros(99) for name in "abcdefghi"})
    shared = tmp_path / "small.pt"
    with zipfile.ZipFile(file) as old, zipfile.ZipFile(shared, "w") as new:
        tensors = [record for record in old.infolist() if "/data/" in record.filename]
        for record in old.infolist():
            if record not in tensors[1:]:
                new.writestr(record.filename, old.read(record))
        for record in tensors[1:]:
            again = copy(new.getinfo(tensors[0].filename))
            again.filename = record.filename
            new.filelist.append(again)
    with pytest.raises(WeightsError, match=r"small\.pt is compressed, or its records overlap"):
        load_weights(Net(), shared)


@pytest.mark.parametrize("is_archive", [True, False])
def test_memory_that_a_pickle_asks_for_by_a_number_is_not_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_archive: bool
) -> None:
    """`bytearray(2**31 - 1)`, which torch calls, is some bytes in a file."""
    file = tmp_path / "net.pt"
    content = {"state_dict": state_of(Net()), "more": bytearray(3)}
    torch.save(content, file, _use_new_zipfile_serialization=is_archive)
    monkeypatch.setattr(torch, "load", None)  # it is not come to
    with pytest.raises(WeightsError, match="holds pickled Python objects"):
        load_weights(Net(), file)


@pytest.mark.parametrize("damage", [lambda x: x[:-1], lambda x: x[:40] + x[-40:]])
def test_an_archive_whose_records_cannot_be_told_is_not_read(tmp_path: Path, damage: Any) -> None:
    file = saved(tmp_path / "net.pt", state_of(Net()))
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(WeightsError, match="truncated or no weights file"):
        load_weights(Net(), file)


def test_a_network_that_refuses_its_weights_is_told(tmp_path: Path) -> None:
    class Refusing(Net):
        def _load_from_state_dict(self, *_: Any) -> None:
            raise KeyError("of no use")

    with pytest.raises(WeightsError, match="does not fit the network: 'of no use'"):
        load_weights(Refusing(), saved(tmp_path / "net.pt", state_of(Net())))


@pytest.mark.parametrize("name", ["net.pt", "net.safetensors"])
def test_what_is_no_regular_file_is_not_read(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    with pytest.raises(UsageError, match="There is no weights file"):
        load_weights(Net(), tmp_path / name)


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
