"""Weights files, read into a network: safetensors, or a state dict that torch saved."""

from __future__ import annotations

import itertools
import os
import pickletools
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn.modules.utils import consume_prefix_in_state_dict_if_present
from torch.utils import _pytree as pytree

from prunecore.channels.state_dicts import put_state
from prunecore.channels.stored import kind_of, type_of
from prunecore.errors import UsageError, WeightsError, a_kind, reason_of
from prunecore.escaping import shown
from prunecore.files.paths import is_file
from prunecore.files.shards import INDEX, check_shard, is_index, read_index

SUFFIXES = (".safetensors", ".pt", ".pth")


ARCHIVE = b"PK\x03\x04"  # what a file begins with that torch takes for an archive


BEFORE_TENSORS = 4  # the pickles of a file of an older torch; the fourth is the state dict


BYTES = "bytearray"  # torch makes one of any size that a pickle says


WRAPPERS = ("state_dict", "model_state_dict", "model")


DATA_PARALLEL = "module."


AGAIN = "Copy it or save it again."


AS_STATE_DICT = "Save the state dict alone: torch.save(model.state_dict(), FILE)."


SHOWN = 4  # keys that an error names of each kind


def check_weights_file(file: Path) -> None:
    """See that there is such a file, before any work.

    Raises:
        UsageError: there is none, or its name says that it is something else.
    """
    if file.suffix not in SUFFIXES and not is_index(file):
        raise UsageError(f"{shown(file)}: a weights file ends in {', '.join((*SUFFIXES, INDEX))}.")
    if not is_file(file):
        raise UsageError(f"There is no weights file {shown(file)}.")


def load_weights(model: nn.Module, file: Path) -> None:
    """Put a file's weights into a network, in the file's own dtype.

    Args:
        model: the network; its parameters are replaced, not copied into.
        file: a state dict, `.safetensors`, `.pt` or `.pth`; or an index of shards.

    Raises:
        UsageError: there is no such file.
        WeightsError: it cannot be read, or is of another network.
    """
    check_weights_file(file)
    own = model.state_dict(keep_vars=True)
    state = _unwrapped(read_weights(file), file, own)
    tied = _complete(state, own)
    if _of_other_types(state, own):
        raise _mismatch(file, state, own, "")
    try:
        put_state(model, state)
    except Exception as error:  # what does not fit, and whatever the network's classes raise
        raise _mismatch(file, state, own, reason_of(error)) from error
    for name, first in tied.items():
        _tie(model, name, first)
    _keep_held(model, own)


def read_weights(file: Path) -> Mapping[str, Any]:
    """What a weights file holds, or the shards of an index; code in it is never run.

    Tensors in safetensors are mapped into memory, not copied.

    Raises:
        WeightsError: it is truncated, holds pickled objects, or is no weights file at all.
    """
    if is_index(file):
        content: dict[str, Any] = {}
        for shard, names in read_index(file).items():
            found = read_weights(shard)
            check_shard(file, shard, names, found)
            content.update(found)
        return content
    where = shown(file)
    try:
        if file.suffix == ".safetensors":
            return safetensors.torch.load_file(file)
        _refuse_large(file)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on a file that is refused right after
            content = torch.load(file, map_location="cpu", weights_only=True)
    except WeightsError:
        raise
    except OSError as error:
        raise WeightsError(f"Cannot read {where}: {error.strerror or reason_of(error)}.") from error
    except SafetensorError as error:
        raise WeightsError(
            f"{where} is truncated or no weights file: {reason_of(error)}.\n{AGAIN}"
        ) from error
    except Exception as error:  # torch.load raises what the bytes happen to lead to
        if "GLOBAL" in str(error) or "Unsupported class" in str(error):
            raise _of_objects(file) from error
        raise WeightsError(f"{where} is truncated or no weights file.\n{AGAIN}") from error
    if not isinstance(content, Mapping):
        raise WeightsError(f"{where} holds {a_kind(content)}, not a state dict.")
    return content


def _refuse_large(file: Path) -> None:
    """Refuse what may take any memory, whatever the file's size, as a compressed archive."""
    with file.open("rb") as stream:
        if stream.read(len(ARCHIVE)) != ARCHIVE:
            stream.seek(0)
            names = itertools.chain.from_iterable(map(_named, [stream] * BEFORE_TENSORS))
            if BYTES in names:
                raise _of_objects(file)
            return
        size = stream.seek(0, os.SEEK_END)
    with zipfile.ZipFile(file) as archive:
        records = archive.infolist()
        is_compressed = any(record.compress_type != zipfile.ZIP_STORED for record in records)
        if is_compressed or sum(record.file_size for record in records) > size:
            raise WeightsError(
                f"{shown(file)} is compressed, or its records overlap.\n"
                "Save it again with torch.save."
            )
        pickles = [record for record in records if record.filename.endswith("data.pkl")]
        if any(f"{BYTES}\n".encode() in archive.read(record) for record in pickles):
            raise _of_objects(file)


def _named(stream: IO[bytes]) -> Iterator[str]:
    """The classes and functions that the next pickle of a stream names."""
    for code, name, _ in pickletools.genops(stream):
        if code.name == "GLOBAL":
            yield str(name).rpartition(" ")[2]


def _of_objects(file: Path) -> WeightsError:
    return WeightsError(
        f"{shown(file)} holds pickled Python objects, which are not run.\n{AS_STATE_DICT}"
    )


def _unwrapped(
    content: Mapping[str, Any], file: Path, own: Mapping[str, Tensor]
) -> OrderedDict[str, Tensor]:
    """The state dict itself, under the network's own keys."""
    for key in WRAPPERS:
        if isinstance(content.get(key), Mapping):
            content = content[key]
            break
    odd = [key for key in content if not isinstance(key, str)]
    if odd:
        raise WeightsError(
            f"{shown(file)} is no state dict: it has keys that are no names: "
            f"{', '.join(map(shown, odd[:SHOWN]))}.\n{AS_STATE_DICT}"
        )
    others = [key for key, value in content.items() if not isinstance(value, Tensor)]
    if others:
        raise WeightsError(
            f"{shown(file)} is no state dict: not a tensor under {_listed(others)}.\n"
            f"{AS_STATE_DICT}"
        )
    state = OrderedDict((key, _plain(tensor)) for key, tensor in content.items())
    if hasattr(content, "_metadata"):
        if not _is_metadata(content._metadata):
            raise WeightsError(
                f"{shown(file)} is no state dict: what its _metadata says is no versions of "
                f"modules.\n{AS_STATE_DICT}"
            )
        state._metadata = content._metadata.copy()  # type: ignore[attr-defined]
    if not any(key.startswith(DATA_PARALLEL) for key in own):
        consume_prefix_in_state_dict_if_present(state, DATA_PARALLEL)
    if not hasattr(state, "_metadata"):
        state._metadata = own._metadata  # type: ignore[attr-defined]  # MNASNet insists on it
    return state


def _plain(tensor: Tensor) -> Tensor:
    """A tensor whose values lie in memory as they are, not to be negated or conjugated first."""
    return tensor.detach().resolve_conj().resolve_neg()


def _is_metadata(given: object) -> bool:
    """True if this is what torch keeps in a state dict: by path, the versions of modules."""
    return isinstance(given, dict) and all(
        isinstance(path, str)
        and isinstance(module, dict)
        and isinstance(module.get("version"), int | None)
        for path, module in given.items()
    )


def _complete(state: dict[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, str]:
    """Add what files may leave out: batch counters, and the further names of a tied tensor.

    Returns:
        Further name to first name, of the network's tied tensors.
    """
    first_names: dict[int, str] = {}
    tied: dict[str, str] = {}
    for name, tensor in own.items():
        first = first_names.setdefault(id(tensor), name)
        if first != name:
            tied[name] = first
        elif name.endswith("num_batches_tracked"):
            state.setdefault(name, tensor.detach())
    for name, first in tied.items():
        for absent, present in ((name, first), (first, name)):
            if present in state:
                state.setdefault(absent, state[present])
    return tied


def _tie(model: nn.Module, name: str, first: str) -> None:
    holder, _, attribute = name.rpartition(".")
    source, _, source_attribute = first.rpartition(".")
    tensor = getattr(model.get_submodule(source), source_attribute)
    setattr(model.get_submodule(holder), attribute, tensor)


def _keep_held(model: nn.Module, before: Mapping[str, Tensor]) -> None:
    """Leave the tensors in their places that modules hold in plain lists, too, with the new values.

    Args:
        model: the network, with its weights.
        before: its parameters and buffers as they were, by name.
    """
    held = {
        id(leaf)
        for module in model.modules()
        for key, value in vars(module).items()
        if key not in ("_parameters", "_buffers", "_modules")
        for leaf in pytree.tree_leaves(value)
        if isinstance(leaf, Tensor)
    }
    for name, tensor in before.items():
        if id(tensor) in held and not tensor.is_meta:
            holder, _, key = name.rpartition(".")
            module = model.get_submodule(holder)
            tensor.data = getattr(module, key).data
            setattr(module, key, tensor)


def _mismatch(
    file: Path, state: Mapping[str, Tensor], own: Mapping[str, Tensor], reason: str
) -> WeightsError:
    shapes = [
        f"{key} (file {tuple(state[key].shape)}, network {tuple(own[key].shape)})"
        for key in own
        if key in state and not state[key].is_nested and state[key].shape != own[key].shape
    ]
    kinds = {
        "missing from the file": [key for key in own if key not in state],
        "not in the network": [key for key in state if key not in own],
        "of another shape": shapes,
        "of another type": _of_other_types(state, own),
    }
    found = [f"{len(keys)} {kind}: {_listed(keys)}" for kind, keys in kinds.items() if keys]
    return WeightsError(
        f"{shown(file)} does not fit the network: {'; '.join(found) or reason}.\n"
        "Give this network's weights, or the arguments it was made with (--model-arg)."
    )


def _of_other_types(state: Mapping[str, Tensor], own: Mapping[str, Any]) -> list[str]:
    """What of a file cannot stand for what the network has, with both types."""
    stands = {
        key: tensor.new_empty(0, device="cpu") if tensor.is_meta else tensor  # it will have storage
        for key, tensor in own.items()
        if key in state and isinstance(tensor, Tensor)
    }
    return [
        f"{key} (file {type_of(state[key])}, network {type_of(tensor)})"
        for key, tensor in stands.items()
        if kind_of(state[key]) != kind_of(tensor)
    ]


def _listed(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(map(shown, names[:SHOWN])) + (", ..." if len(names) > SHOWN else "")
