"""The fingerprint of a written set: a hash of all that it was made from, to resume by."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn

from prunecore.inputs import Inputs
from prunecore.planning.request import Request


def fingerprint_network(
    model: nn.Module, arguments: Mapping[str, Any], plugins: Mapping[str, str]
) -> str:
    """Hash a network: its weights, its layers and classes, and who prunes it.

    Args:
        model: the network.
        arguments: what it was made with.
        plugins: distribution name to version, the core among them.
    """
    digest = hashlib.sha256()
    classes = {type(module) for module in model.modules()}
    sources = sorted(_source(cls) for cls in classes)
    made = {key: repr(value) for key, value in arguments.items()}
    digest.update(_text([repr(model), sources, made, plugins]))
    for name, tensor in model.state_dict().items():
        digest.update(_text([name]))
        _add(digest, tensor)
    return digest.hexdigest()


def fingerprint_set(
    network: str,
    inputs: Inputs,
    drop: Sequence[str],
    request: Request,
    images: str | None = None,
    shard_size: int | None = None,
) -> str:
    """Hash all that one written set depends on.

    Args:
        network: the fingerprint of the network.
        inputs: what the network is called with.
        drop: the modules that training is to do without.
        request: what was asked of it.
        images: the hash of the calibration images, if there are any.
        shard_size: how many bytes of weights a file holds at most.
    """
    digest = hashlib.sha256()
    for example in inputs.examples or ():
        _add(digest, example)
    given = [inputs.as_dict(), digest.hexdigest()]
    asked = [network, given, list(drop), asdict(request), images, shard_size]
    return hashlib.sha256(_text(asked)).hexdigest()


def _add(digest: hashlib._Hash, tensor: Tensor) -> None:
    digest.update(_text([str(tensor.dtype), list(tensor.shape)]))
    values: Any = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
    digest.update(values)


def _text(values: Any) -> bytes:
    return json.dumps(values, sort_keys=True).encode()


def _source(cls: type[nn.Module]) -> str:
    """A class's source; its name where there is none, as for one typed at a prompt."""
    try:
        return inspect.getsource(cls)
    except (OSError, TypeError):
        return f"{cls.__module__}.{cls.__qualname__}"
