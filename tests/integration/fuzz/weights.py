"""Weights files: safetensors with lying headers, and whatever torch can be brought to save."""

from __future__ import annotations

import io
import json
import pickle
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from hypothesis import strategies as st
from safetensors import SafetensorError
from safetensors.torch import save
from torch import Tensor, nn

from .harness import Case
from .scalars import texts, values

NORMED = Path(__file__).with_name("normed.py").read_bytes()


def right() -> dict[str, Tensor]:
    """The weights of NORMED's network."""
    torch.manual_seed(0)
    state = {"conv.weight": torch.rand(8, 2, 1, 1), "conv.bias": torch.rand(8)}
    state |= {f"bn.{name}": torch.rand(8) for name in ("weight", "bias", "running_mean")}
    state |= {"bn.running_var": torch.rand(8), "bn.num_batches_tracked": torch.tensor(3)}
    state |= {"last.weight": torch.rand(2, 8, 1, 1), "last.bias": torch.rand(2)}
    return {**state, "scale": torch.ones(2, 1, 1), "mask": torch.zeros(2, 1, 1, dtype=torch.bool)}


KEYS = sorted(right())


def _with(tensor: Tensor, value: float) -> Tensor:
    return tensor.double().index_fill(0, torch.tensor(0), value) if tensor.ndim else tensor


_DTYPES = [value for value in vars(torch).values() if isinstance(value, torch.dtype)]

CHANGES: dict[str, Callable[[Tensor], Any]] = {
    "nan": lambda x: _with(x, float("nan")),
    "inf": lambda x: _with(x, float("inf")),
    "-inf": lambda x: _with(x, float("-inf")),
    "huge": lambda x: _with(x, 1e308),
    "large half": lambda x: _with(x, 60000.0).half(),
    "complex": lambda x: x.to(torch.complex64),
    "conjugate": lambda x: x.to(torch.complex64).conj(),
    "negated": lambda x: torch._neg_view(x.float()),
    "coo": lambda x: x.float().to_sparse(),
    "csr": lambda x: x.float().flatten(1).to_sparse_csr() if x.ndim > 1 else x.float().to_sparse(),
    "csc": lambda x: x.float().flatten(1).to_sparse_csc() if x.ndim > 1 else x.float().to_sparse(),
    "bsr": lambda x: x.float().flatten(1).to_sparse_bsr((1, 1)) if x.ndim > 1 else x,
    "mkldnn": lambda x: x.float().to_mkldnn(),
    "meta": lambda x: x.to("meta"),
    "quantised": lambda x: torch.quantize_per_tensor(x.float(), 0.1, 0, torch.qint8),
    "by channel": lambda x: (
        torch.quantize_per_channel(
            x.float(), torch.ones(len(x)), torch.zeros(len(x)), 0, torch.qint8
        )
        if x.ndim
        else x
    ),
    "nested": lambda x: torch.nested.nested_tensor([x.float().flatten(), x.float().flatten()]),
    "jagged": lambda x: torch.nested.nested_tensor([x.float().flatten()], layout=torch.jagged),
    "expanded": lambda x: (
        x.float().flatten()[:1].expand(x.numel()).reshape(x.shape)
        if x.numel() == 1
        else torch.ones(1).expand(x.shape)
    ),
    "transposed": lambda x: x.float().mT.contiguous().mT if x.ndim > 1 else x,
    "channels last": lambda x: x.to(memory_format=torch.channels_last) if x.ndim == 4 else x,
    "with gradient": lambda x: x.float().requires_grad_(),
    "computed": lambda x: x.float().requires_grad_() * 2,
    "parameter": lambda x: nn.Parameter(x.float()),
    "buffer": lambda x: nn.Buffer(x.float()) if hasattr(nn, "Buffer") else x,
    "empty": lambda x: x[:0] if x.ndim else x,
    "scalar": lambda x: x.sum(),
    "one axis more": lambda x: x[None],
    "flat": lambda x: x.flatten(),
    "doubled": lambda x: torch.cat([x, x]) if x.ndim else x,
    "storage": lambda x: x.untyped_storage(),
    "size": lambda x: x.shape,
    "dtype": lambda x: x.dtype,
    "number": lambda x: 3,
    "none": lambda x: None,
    "list": lambda x: [x],
    "dict": lambda x: {"weight": x},
    "text": lambda x: "weight",
    **{str(dtype): lambda x, dtype=dtype: _as(x, dtype) for dtype in _DTYPES},
}


def _as(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    try:
        return tensor.to(dtype)
    except (RuntimeError, NotImplementedError):
        return torch.empty(tensor.shape, dtype=torch.uint8).view(dtype)


def changed(value: Any, kind: str) -> Any:
    """A tensor of another kind, where this torch has that kind."""
    if not isinstance(value, Tensor):
        return value
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of kinds of tensors that torch calls a prototype
            return CHANGES[kind](value)
    except (RuntimeError, NotImplementedError, AttributeError, TypeError, ValueError):
        return value


_ODD_KEYS = st.one_of(
    texts(),
    st.sampled_from(["module.", "module.module.a", "", ".", "conv", "conv.", "conv.weight.x"]),
    st.sampled_from([1, -1, 0.5, None, True, b"conv.weight", ("conv", "weight"), 1j, 2**70]),
)

_METADATA = st.one_of(
    st.sampled_from(
        [3, None, "x", [], [1], {}, {"": 3}, {"bn": 3}, {"bn": {"version": "x"}}, {1: {}}]
    ),
    st.sampled_from(
        [{"bn": {"version": None}}, {"bn": None}, {"bn": {"version": 10**30}}, {"bn": {}}]
    ),
)


@st.composite
def states(draw: st.DrawFn) -> Any:
    """A state dict, a little wrong, as torch saves it; and what is no state dict."""
    state: dict[Any, Any] = right()
    kinds = ["changed"] * 5 + ["key", "missing", "shared", "prefix", "metadata", "wrapper", "none"]
    for kind in draw(st.lists(st.sampled_from(kinds), min_size=1, max_size=2)):
        if kind == "changed":
            key = draw(st.sampled_from(KEYS))
            state[key] = changed(state.get(key), draw(st.sampled_from(sorted(CHANGES))))
        elif kind == "key":
            state[draw(_ODD_KEYS)] = draw(st.just(torch.ones(2)) | values())
        elif kind == "missing":
            state.pop(draw(st.sampled_from(KEYS)), None)
        elif kind == "shared":
            flat = torch.rand(200)
            state["conv.bias"], state["bn.weight"] = flat[:8], flat[draw(st.integers(0, 8)) :][:8]
        elif kind == "prefix":
            state = {f"module.{key}": value for key, value in state.items()}
        elif kind == "metadata":
            state = OrderedDict(state)
            state._metadata = draw(_METADATA)  # type: ignore[attr-defined]
        elif kind == "wrapper":
            wrapper = draw(st.sampled_from(["state_dict", "model", "model_state_dict", "net"]))
            more = draw(st.dictionaries(_ODD_KEYS, values(), max_size=1))
            state = {wrapper: state} | more
        else:
            return draw(st.sampled_from([[state], (state, state), state.keys(), 3, None, "x"]))
    return state


def saved(content: Any, legacy: bool) -> bytes:
    stream = io.BytesIO()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.save(content, stream, _use_new_zipfile_serialization=not legacy)
    except (RuntimeError, TypeError, AttributeError, KeyError, pickle.PicklingError):
        torch.save(str(type(content)), stream)  # what torch cannot save is no file to be read
    return stream.getvalue()


def _zipped(content: bytes, compressed: bool, dropped: str) -> bytes:
    """The same archive, compressed, or without one of its records."""
    stream = io.BytesIO()
    try:
        archive = zipfile.ZipFile(io.BytesIO(content))
    except zipfile.BadZipFile:
        return content
    kind = zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED
    with zipfile.ZipFile(stream, "w", kind) as again:
        for item in archive.infolist():
            if not item.filename.endswith(dropped):
                again.writestr(item.filename, archive.read(item))
    return stream.getvalue()


@st.composite
def _damaged(draw: st.DrawFn, content: bytes) -> bytes:
    """Cut short, with some bytes changed, or with more behind it."""
    kind = draw(st.sampled_from(["cut", "changed", "longer"]))
    if kind == "cut":
        return content[: draw(st.integers(0, len(content)))]
    if kind == "longer":
        return content + draw(st.binary(max_size=99))
    changed = bytearray(content)
    for place in draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=4)):
        changed[place] = draw(st.integers(0, 255))
    return bytes(changed)


class _Code:
    def __reduce__(self) -> Any:
        return exec, ("raise SystemExit(77)",)


_PICKLES = [
    pickle.dumps(_Code()),
    pickle.dumps({"a": 1}, 0),
    pickle.dumps(right()["conv.bias"].numpy()),
    b"\x80\x02}.",
    b"\x80\x02" + b"(" * 50_000 + b".",
    b"\x80\x02" + b"]" * 50_000 + b"a" * 49_999 + b".",
    b"\x80\x02\x8b\xff\xff\xff\x7f.",
    b"\x80\x02X\xff\xff\xff\xffx.",
    b"\x80\x02ctorch\nload\n.",
    b"\x80\x02ccollections\nOrderedDict\n)R}X\x01\x00\x00\x00ab.",
    b"\x80\x02c" + b"a" * 9_999 + b"\nb\n.",
    b"\x80\x02I" + b"9" * 9_999 + b"\n.",
    b"\x80\x02h\x05.",
    b"\x80\x02\x85\x86\x87.",
]


@st.composite
def torch_files(draw: st.DrawFn) -> bytes:
    """What lies in a .pt or .pth file."""
    kind = draw(st.sampled_from(["saved"] * 8 + ["damaged", "zip", "pickle", "bytes"]))
    if kind == "pickle":
        return draw(st.sampled_from(_PICKLES))
    if kind == "bytes":
        return draw(st.binary(max_size=200))
    content = saved(draw(states()), draw(st.sampled_from([False, False, True])))
    if kind == "damaged":
        return draw(_damaged(content))
    if kind == "zip":
        parts = ["data.pkl", "version", "byteorder", "data/0", "no such"]
        return _zipped(content, draw(st.booleans()), draw(st.sampled_from(parts)))
    return content


_TYPES = [
    "F64", "F32", "F16", "BF16", "I64", "I32", "I16", "I8", "U8", "BOOL", "U16", "U32", "U64",
    "F8_E4M3", "F8_E5M2", "F8_E8M0", "F4", "F6_E2M3", "C64", "F128", "", "f32", 3, None,
]  # fmt: skip


@st.composite
def safetensors_files(draw: st.DrawFn) -> bytes:
    """What lies in a .safetensors file."""
    tensors = right()
    for key in draw(st.lists(st.sampled_from(KEYS), max_size=1)):
        other = changed(tensors[key], draw(st.sampled_from(sorted(CHANGES))))
        if isinstance(other, Tensor) and other.layout is torch.strided and not other.is_meta:
            tensors[key] = other.detach()
    if not draw(st.integers(0, 5)):
        key = draw(texts())
        tensors[key.encode(errors="replace").decode()] = torch.ones(2)
    try:
        content = save({key: tensor.contiguous() for key, tensor in tensors.items()})
    except (KeyError, AttributeError, NotImplementedError, RuntimeError, SafetensorError):
        content = save(right())
    kind = draw(st.sampled_from(["whole"] * 3 + ["damaged", "header", "header", "noise", "bytes"]))
    if kind == "damaged":
        return draw(_damaged(content))
    if kind == "bytes":
        return draw(st.binary(max_size=200))
    length = int.from_bytes(content[:8], "little")
    header, data = content[8 : 8 + length], content[8 + length :]
    if kind == "noise":
        text = draw(texts()).encode("utf-8", "surrogatepass") + draw(st.sampled_from([b"", header]))
        lie = draw(st.sampled_from([len(text), 0, 1, 2**31, 2**63, 2**64 - 1]))
        return lie.to_bytes(8, "little") + text + data
    if kind == "header":
        parsed = json.loads(header)
        entry = parsed[draw(st.sampled_from(sorted(parsed)))]
        what = draw(st.sampled_from(["dtype", "shape", "data_offsets", "more", "metadata"]))
        numbers = st.integers(-2, 40) | st.sampled_from([2**31, 2**63, 2**64, -1, 0.5, "3", None])
        if what == "metadata":
            parsed["__metadata__"] = draw(values())
        else:
            entry[what] = (
                draw(st.sampled_from(_TYPES))
                if what == "dtype"
                else draw(st.lists(numbers, max_size=4) | values())
            )
        header = json.dumps(parsed).encode()
        return len(header).to_bytes(8, "little") + header + data
    return content


@st.composite
def weights_cases(draw: st.DrawFn) -> Case:
    """A network pruned, or checked, with a hostile weights file."""
    is_torch = draw(st.integers(0, 2))
    name = draw(st.sampled_from(["w.pt", "w.pth"])) if is_torch else "w.safetensors"
    content = draw(torch_files() if is_torch else safetensors_files())
    flags = draw(st.sampled_from([(), ("--no-verify",), ("--mode", "random", "--no-verify")]))
    level = draw(st.sampled_from(["50", "20", "60"]))
    arguments = ("prune", "nets.py:Normed", "--level", level, "--input-shape", "2,2,2")
    return Case((*arguments, "--weights", name, *flags), {"nets.py": NORMED, name: content})
