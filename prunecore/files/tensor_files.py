"""Weights written in safetensors, tensor by tensor: nothing of their size is made for it."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from prunecore.channels.stored import type_of
from prunecore.errors import PrunecoreError
from prunecore.escaping import shown

# As safetensors calls them; those that only newer ones of torch have are not looked for.
_TYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
    torch.complex64: "C64",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
    torch.uint16: "U16",
    torch.uint32: "U32",
    torch.uint64: "U64",
}


_ALIGNED = 8  # bytes: where tensors begin, as those of the largest types come first


def write_tensors(file: Path, tensors: Mapping[str, Tensor]) -> str:
    """Write a file in safetensors.

    Args:
        file: the file, which is replaced.
        tensors: what it is to hold.

    Returns:
        The SHA-256 of what was written.

    Raises:
        PrunecoreError: a tensor is of a type that the format does not have.
        OSError: the system refuses to.
    """
    names = sorted(tensors, key=lambda name: (-tensors[name].itemsize, name))
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name in names:
        tensor = tensors[name]
        if tensor.dtype not in _TYPES or tensor.layout is not torch.strided:
            raise PrunecoreError(
                f"{shown(name)} is of the type {type_of(tensor)}, which no file in safetensors "
                "can hold.\nGive the network another tensor in its place."
            )
        begin, end = end, end + tensor.nbytes
        header[name] = {
            "dtype": _TYPES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [begin, end],
        }
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNED)
    digest = hashlib.sha256()
    with file.open("wb") as opened:
        for piece in (struct.pack("<Q", len(text)), text):
            digest.update(piece)
            opened.write(piece)
        for name in names:
            values: Any = tensors[name].detach().cpu().contiguous().reshape(-1).view(torch.uint8)
            digest.update(values.numpy())
            opened.write(values.numpy())
    return digest.hexdigest()
