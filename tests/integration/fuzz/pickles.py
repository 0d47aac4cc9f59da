"""Files that torch may read, made by hand: pickles that call what they name, and odd archives."""

from __future__ import annotations

import io
import pickle
import pickletools
import struct
import zipfile
from collections import OrderedDict
from copy import copy
from typing import Any

import torch
from hypothesis import strategies as st

from .indices import sharded
from .weights import KEYS, right, safetensors_files, saved, torch_files

RAN = "ran"  # the file, or the attribute of sys, that a pickle leaves which was run


def _text(text: str) -> bytes:
    return b"X" + struct.pack("<I", len(text.encode())) + text.encode()


_EXEC = _text(f"import sys; sys.{RAN} = True")
_CALLS = {  # what leaves a trace, and its arguments
    ("builtins", "exec"): _EXEC,
    ("__builtin__", "exec"): _EXEC,
    ("builtins", "eval"): _text(f"setattr(__import__('sys'), '{RAN}', True)"),
    ("builtins", "open"): _text(RAN) + _text("w"),
    ("io", "open"): _text(RAN) + _text("w"),
    ("os", "mkdir"): _text(RAN),
    ("posix", "mkdir"): _text(RAN),
    ("os", "system"): _text(f"touch {RAN}"),
    ("subprocess", "Popen"): b"](" + _text("touch") + _text(RAN) + b"e",
    ("runpy", "_run_code"): _EXEC + b"}",
    ("torch", "hub.exec"): _EXEC,
    ("torch._utils", "os.mkdir"): _text(RAN),
    ("torch.serialization", "os.mkdir"): _text(RAN),
    ("collections", "_sys.setrecursionlimit"): b"K\x32",
    ("collections.OrderedDict", "exec"): _EXEC,
}


def _named(module: str, name: str, way: str) -> bytes:
    """The codes that put an object on the stack by its name."""
    if way == "stack_global":
        return _text(module) + _text(name) + b"\x93"
    return f"c{module}\n{name}\n".encode()


EXECUTED = b"\x80\x02" + _named("builtins", "exec", "global") + _EXEC + b"\x85R."


@st.composite
def _calls(draw: st.DrawFn) -> bytes:
    """Codes that would call a function, and leave one object on the stack."""
    (module, name), given = draw(st.sampled_from(sorted(_CALLS.items())))
    way = draw(st.sampled_from(["reduce", "stack_global", "inst", "obj", "newobj", "ext", "build"]))
    if way == "inst":
        return b"(" + given + f"i{module}\n{name}\n".encode()
    if way == "obj":
        return b"(" + _named(module, name, "global") + given + b"o"
    if way == "newobj":
        return _named(module, name, "global") + b"(" + given + b"t\x81"
    if way == "ext":
        return draw(st.sampled_from([b"\x82\x01", b"\x83\x01\x00", b"\x84\x01\x00\x00\x00"]))
    if way == "build":  # sets attributes of a class that may be named
        return (
            b"ccollections\nOrderedDict\n}"
            + _text("__init__")
            + _named(module, name, "global")
            + b"sb"
        )
    return _named(module, name, way) + b"(" + given + b"tR"


_OPCODES = [opcode for opcode in pickletools.opcodes if opcode.name not in ("STOP", "FRAME")]


@st.composite
def _noise(draw: st.DrawFn) -> bytes:
    """Codes of a pickle at random, with what may follow each."""
    codes = b""
    for opcode in draw(st.lists(st.sampled_from(_OPCODES), max_size=30)):
        codes += opcode.code.encode("latin1")
        if opcode.arg is not None:
            codes += draw(
                st.sampled_from([b"1\n", b"\x01", b"torch\nload\n", b"\x01\0\0\0a", b"\n"])
            )
    return codes + b"."


class _Storage:
    """Stands for a storage of the archive."""

    def __init__(self, *told: Any) -> None:
        self.told = told


class _Called:
    """Is pickled as a call."""

    def __init__(self, function: Any, *given: Any) -> None:
        self.call = function, given

    def __reduce__(self) -> Any:
        return self.call


class _Pickler(pickle.Pickler):
    def persistent_id(self, obj: Any) -> Any:
        return obj.told if isinstance(obj, _Storage) else None


def _pickled(content: Any) -> bytes:
    stream = io.BytesIO()
    _Pickler(stream, 2).dump(content)
    return stream.getvalue()


_NUMBERS = st.integers(-2, 40) | st.sampled_from(
    [2**31 - 1, 2**31, 2**34, 2**40, 2**62, 2**63 - 1, 2**63, 2**64, -(2**63), True, None, 0.5, "8"]
)
_SIZES = st.lists(_NUMBERS, max_size=4).map(tuple)
_FUNCTIONS = [
    getattr(torch._utils, name)
    for name in (
        *("_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_tensor_v3", "_rebuild_parameter"),
        *("_rebuild_sparse_tensor", "_rebuild_qtensor", "_rebuild_meta_tensor_no_storage"),
        *(
            "_rebuild_nested_tensor",
            "_rebuild_wrapper_subclass",
            "_rebuild_device_tensor_from_numpy",
        ),
        "_rebuild_parameter_with_state",
    )
    if hasattr(torch._utils, name)
]
_MAKERS = [torch.Tensor, torch.Size, bytearray, torch.nn.Parameter, OrderedDict, torch.device]


@st.composite
def _storages(draw: st.DrawFn) -> _Storage:
    kind = draw(st.sampled_from([torch.FloatStorage, torch.DoubleStorage, torch.UntypedStorage, 3]))
    where = draw(st.sampled_from(["cpu"] * 5 + ["meta", "cuda", "cuda:9", "", 3, None]))
    number = draw(st.just(16) | _NUMBERS)
    told = ["storage", kind, draw(st.sampled_from(["0", "1", "../0", "", 0])), where, number]
    return _Storage(*(told[: draw(st.sampled_from([5] * 9 + [1, 4]))]))


@st.composite
def _rebuilt(draw: st.DrawFn) -> Any:
    """What is pickled as a tensor that lies about its storage, sizes or kind."""
    if not draw(st.integers(0, 3)):
        return _Called(
            draw(st.sampled_from(_MAKERS)), *draw(st.lists(_NUMBERS | _SIZES, max_size=3))
        )
    storage = draw(st.just(_Storage("storage", torch.FloatStorage, "0", "cpu", 16)) | _storages())
    place = draw(st.just(0) | _NUMBERS)
    size = draw(st.sampled_from([(8, 2, 1, 1), (8,)]) | _SIZES)
    stride = draw(st.sampled_from([(2, 1, 1, 1), (1,), (0,), (0, 0, 0, 0)]) | _SIZES)
    plain = [storage, place, size, stride, False, OrderedDict()]
    others = st.sampled_from([torch.float32, torch.sparse_coo, None, {}, "", (), torch.strided])
    if draw(st.booleans()):
        return _Called(torch._utils._rebuild_tensor_v2, *plain)
    more = [*plain, *draw(st.lists(others | _SIZES, max_size=3))]
    return _Called(draw(st.sampled_from(_FUNCTIONS)), *draw(st.permutations(more))[: len(more)])


def _archive(pickled: bytes, more: dict[str, bytes]) -> bytes:
    """What torch writes around a pickle, aligned or not."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        records = {"data.pkl": pickled, "byteorder": b"little", "data/0": bytes(64)}
        for name, content in {**records, "version": b"3\n", **more}.items():
            archive.writestr(f"archive/{name}", content)
    return stream.getvalue()


_LEGACY = b"".join(
    pickle.dumps(part, 2)
    for part in (
        torch.serialization.MAGIC_NUMBER,
        torch.serialization.PROTOCOL_VERSION,
        {"protocol_version": 1001, "little_endian": True, "type_sizes": {"int": 4, "long": 4}},
    )
)


def _wrapped(pickled: bytes, way: str) -> bytes:
    if way == "archive":
        return _archive(pickled, {})
    if way == "legacy":
        return _LEGACY + pickled + pickle.dumps(["0"], 2) + struct.pack("<q", 16) + bytes(64)
    return pickled


@st.composite
def _pickles(draw: st.DrawFn) -> bytes:
    """A pickle by itself or in one of torch's formats, which calls, lies, or makes no sense."""
    way = draw(st.sampled_from(["archive", "archive", "legacy", "bare"]))
    kind = draw(st.sampled_from(["call", "call", "before", "noise", "rebuilt", "rebuilt"]))
    if kind == "noise":
        return _wrapped(b"\x80\x02" + draw(_noise()), way)
    if kind == "call":
        return _wrapped(b"\x80\x02}" + _text("conv.bias") + draw(_calls()) + b"s.", way)
    if kind == "before":  # is dropped at once from what is otherwise a whole file
        whole = zipfile.ZipFile(io.BytesIO(saved(right(), legacy=False)))
        records = {name.partition("/")[2]: whole.read(name) for name in whole.namelist()}
        pickled = b"\x80\x02" + draw(_calls()) + b"0" + records.pop("data.pkl")[2:]
        return _archive(pickled, records)
    key = draw(st.sampled_from(KEYS))
    return _wrapped(_pickled({key: draw(_rebuilt())}), way)


def _bomb() -> bytes:
    stream = io.BytesIO(saved(right(), legacy=False))
    with zipfile.ZipFile(stream, "a", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        archive.writestr(f"{archive.namelist()[0].partition('/')[0]}/data/99", bytes(1 << 29))
    return stream.getvalue()


_WHOLE = saved(right(), legacy=False)
_BOMBS = [_bomb(), _archive(_bomb(), {"data/0": _bomb()})]
# Where in an archive's table of contents each number stands that one may lie about, with its bytes.
_FIELDS = {"method": (10, 2), "packed": (20, 4), "size": (24, 4), "name": (28, 2), "place": (42, 4)}
_TABLE, _END = b"PK\x01\x02", b"PK\x05\x06"


def _overlapping(name: str) -> bytes:
    """A whole file in which every tensor is one of its records, which is there once."""
    stream = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(_WHOLE)) as old, zipfile.ZipFile(stream, "w") as new:
        for record in old.infolist():
            if "/data/" not in record.filename or record.filename.endswith(name):
                new.writestr(record.filename, old.read(record))
        shared = next(record for record in new.infolist() if record.filename.endswith(name))
        for place in range(len(KEYS)):
            again = copy(shared)
            again.filename = f"{shared.filename.partition('/')[0]}/data/{place}"
            new.filelist.append(again)
    return stream.getvalue()


@st.composite
def _archives(draw: st.DrawFn) -> bytes:
    """A whole file whose archive lies about its records, or repeats them."""
    content = bytearray(_WHOLE)
    kind = draw(st.sampled_from(["lie", "lie", "end", "overlap", "bomb", "before", "twice"]))
    places = [at for at in range(len(content)) if content.startswith(_TABLE, at)]
    if kind == "bomb":
        return draw(st.sampled_from(_BOMBS))
    if kind == "before":
        return draw(st.binary(max_size=40)) + content
    if kind == "twice":
        stream = io.BytesIO(_WHOLE)
        with zipfile.ZipFile(stream, "a") as archive:
            name = draw(st.sampled_from(archive.namelist()))
            odd = draw(st.sampled_from([name, "../x", "/x", f"x/{name}", name.upper(), "x/"]))
            if odd not in archive.namelist():
                archive.writestr(odd, draw(st.binary(max_size=99)))
        return stream.getvalue()
    if kind == "overlap":
        return _overlapping(draw(st.sampled_from(["data.pkl", "version", "data/0", "data/10"])))
    number = draw(st.integers(0, 99) | st.sampled_from([2**16 - 1, 2**31, 2**32 - 2, 2**32 - 1]))
    if kind == "end":
        at = content.rindex(_END) + draw(st.sampled_from([8, 10, 12, 16, 20]))
        content[at : at + 2] = (number % 2**16).to_bytes(2, "little")
    else:
        start, width = _FIELDS[draw(st.sampled_from(sorted(_FIELDS)))]
        at = draw(st.sampled_from(places)) + start
        content[at : at + width] = (number % 256**width).to_bytes(width, "little")
    return bytes(content)


def weights_files() -> st.SearchStrategy[dict[str, bytes]]:
    """A hostile weights file, at times one of another kind than its name says, or shards."""
    suffixes = st.sampled_from([".pt", ".pth"])
    torch_s = st.one_of(torch_files(), _pickles(), _pickles(), _archives())
    single = st.one_of(
        st.tuples(suffixes, torch_s),
        st.tuples(suffixes, torch_s),
        st.tuples(st.just(".safetensors"), safetensors_files()),
        st.tuples(st.sampled_from([".pt", ".safetensors"]), torch_s | safetensors_files()),
    ).map(lambda drawn: {f"net{drawn[0]}": drawn[1]})
    return st.one_of(single, single, single, sharded())
