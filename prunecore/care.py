"""Which module of a running network something happens in, and in whose care that is."""

from __future__ import annotations

import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from torch import Tensor, nn

from prunecore.errors import VerificationError, told
from prunecore.records import Visit

Visits = Mapping[str, Sequence[Visit]]


def cared_for(path: str, network: nn.Module, visits: Visits) -> str:
    """A module's path and class, with the plugins that take care of it and of what it lies in.

    Args:
        path: of the module.
        network: the network that it lies in.
        visits: the calls of each module in the walk, by path.
    """
    words: list[str] = []
    labels: set[str] = set()
    at = path
    while at or not words:
        calls = visits.get(at, ())
        label = calls[0].owner.label if calls and calls[0].owner else ""
        if not words or (label and label not in labels):
            name = type(network.get_submodule(at)).__name__
            care = f", in the care of {label}" if label else ""
            words.append(f"{at or 'its output'} ({name}{care})")
            labels.add(label)
        at = at.rpartition(".")[0]
    return " within ".join(words)


@contextmanager
def telling_where(network: nn.Module, visits: Visits, inputs: Sequence[Tensor]) -> Iterator[None]:
    """Say in which module a network raises that is run.

    Args:
        network: the network.
        visits: the calls of each module in the walk, by path.
        inputs: what it is run on, in float64.

    Raises:
        VerificationError: it raises something.
    """
    try:
        yield
    except Exception as error:  # whatever a forward raises
        paths = {id(module): path for path, module in network.named_modules()}
        frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
        holders = [id(frame.f_locals.get("self")) for frame in frames]
        innermost = [paths[holder] for holder in holders if holder in paths][-1:]
        shapes = " and ".join(str(tuple(tensor.shape)) for tensor in inputs)
        where = "".join(f", in {cared_for(path, network, visits)}" for path in innermost if path)
        raise VerificationError(
            f"{type(network).__name__} cannot be run in float64 on inputs of shape "
            f"{shapes}: {told(error)}{where}.\n"
            "Take what ties its forward to another type or batch size out of it, or pass "
            "--no-verify."
        ) from error
