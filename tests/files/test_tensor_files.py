"""Files in safetensors as they are written here, read by safetensors itself."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from prunecore.errors import PrunecoreError
from prunecore.files.tensor_files import _TYPES, write_tensors

PLAIN = [kind for kind in _TYPES if kind.itemsize < 8 or kind in (torch.float64, torch.int64)]


def several() -> dict[str, Tensor]:
    numbers = torch.arange(6).reshape(2, 3)
    kinds = [kind for kind in PLAIN if not str(kind).startswith("torch.uint") or kind.itemsize == 1]
    return {
        **{str(kind): numbers.to(kind) for kind in kinds},
        "columns": numbers.float().t(),
        "part": numbers[:, 1:],
        "single": torch.tensor(3.0),
        "empty": torch.empty(0, 4),
        "größe ☃": torch.ones(1),
        "with grad": torch.nn.Parameter(torch.ones(2)),
    }


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    file, tensors = tmp_path / "w.safetensors", several()
    digest = write_tensors(file, tensors)
    assert digest == hashlib.sha256(file.read_bytes()).hexdigest()
    loaded = load_file(file)
    assert loaded.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert loaded[name].dtype == tensor.dtype
        assert loaded[name].shape == tensor.shape
        assert bytes(loaded[name].untyped_storage()) == bytes(
            tensor.detach().contiguous().clone().untyped_storage()
        )
    with safe_open(file, "pt") as opened:
        assert opened.metadata() == {"format": "pt"}


def test_it_is_as_long_as_safetensors_writes_it(tmp_path: Path) -> None:
    ours, theirs = tmp_path / "ours.safetensors", tmp_path / "theirs.safetensors"
    tensors = {name: tensor.contiguous() for name, tensor in several().items()}
    write_tensors(ours, tensors)
    save_file(tensors, theirs, metadata={"format": "pt"})
    assert ours.stat().st_size == theirs.stat().st_size


@pytest.mark.parametrize("tensor", [torch.ones(2).to(torch.complex128), torch.eye(2).to_sparse()])
def test_a_type_that_the_format_lacks_is_told(tmp_path: Path, tensor: Tensor) -> None:
    with pytest.raises(PrunecoreError, match=r"^odd is of the type .*which no file in safetensors"):
        write_tensors(tmp_path / "w.safetensors", {"odd": tensor})
