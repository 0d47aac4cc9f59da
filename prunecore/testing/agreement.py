"""The check that a plugin's calculator agrees with tracing the block's own forward."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from prunecore.channels.dependencies import ChannelArray
from prunecore.channels.signal import Signal
from prunecore.planning.cost import Counter
from prunecore.testing.walk import PATH, Followed

HOOK, FORWARD = "the hook", "the forward"


def difference(hook: Followed, forward: Followed) -> str | None:
    """What a plugin's hook says otherwise than the block's own forward; `None` if nothing.

    Channels that always stay are alike, whether they are coupled with one another or not. A hook
    that gives the block a masked forward may let go what its forward mixes.

    Args:
        hook: the walk in which the owner answered.
        forward: the walk in which the block's forward was traced.
    """
    shapes = [[signal.shape for signal in way.outputs] for way in (hook, forward)]
    if shapes[0] != shapes[1]:
        return f"{HOOK} returns tensors of shapes {shapes[0]}, {FORWARD} of {shapes[1]}"
    left_out = [set(way.dependencies.left_out) for way in (hook, forward)]
    for path in sorted((left_out[0] ^ left_out[1]) - {PATH}):  # which is entered in another way
        does, does_not = (FORWARD, HOOK) if path in left_out[0] else (HOOK, FORWARD)
        return f"{does} goes through {_within_block(path)}, {does_not} does not"
    found = _first_difference(hook, forward)
    if found is None:
        macs = [_macs(hook), _macs(forward)]
        if macs[0] != macs[1]:
            found = f"{HOOK} counts {macs[0]} MACs, {FORWARD} {macs[1]}"
    return found


def _macs(way: Followed) -> int:
    everything = np.ones(way.dependencies.count, dtype=bool)
    return Counter(way.dependencies).cost(everything).macs


def _first_difference(hook: Followed, forward: Followed) -> str | None:
    """The first place that stays, or is coupled with an earlier one, in one of the ways only."""
    first_of: dict[tuple[str, int], tuple[str, int]] = {}  # a channel's first place, and the other
    may_mix = PATH in hook.dependencies.masked_forwards
    for place, ours, theirs in _places(hook, forward):
        if (ours < 0) != (theirs < 0):
            if may_mix and theirs < 0:
                continue
            stays, goes = (HOOK, FORWARD) if ours < 0 else (FORWARD, HOOK)
            return f"{place} always stays by {stays}, and may go by {goes}"
        if ours < 0:
            continue
        for couples, does_not, one, other in (
            (HOOK, FORWARD, ours, theirs),
            (FORWARD, HOOK, theirs, ours),
        ):
            first, known = first_of.setdefault((couples, one), (place, other))
            if known != other:
                return f"{couples} couples {first} with {place}, {does_not} does not"
    return None


def _places(hook: Followed, forward: Followed) -> Iterator[tuple[str, int, int]]:
    """The name of every place that channels lie at, and its channel in both ways."""
    for number, signals in enumerate(zip(hook.inputs, forward.inputs, strict=True), start=1):
        name = "the input" if len(hook.inputs) == 1 else f"input {number}"
        yield from _of_signals(name, hook, forward, *signals)
    bound = [_bound(hook), _bound(forward)]
    for tensor, axis in {**bound[0], **bound[1]}:
        arrays = [of.get((tensor, axis), np.full(1, -1)) for of in bound]
        for place, (ours, theirs) in enumerate(zip(*np.broadcast_arrays(*arrays), strict=True)):
            name = f"place {place} of {_within_block(tensor)} along axis {axis}"
            yield name, int(ours), int(theirs)
    for number, signals in enumerate(zip(hook.outputs, forward.outputs, strict=True), start=1):
        name = "the output" if len(hook.outputs) == 1 else f"output {number}"
        yield from _of_signals(name, hook, forward, *signals)


def _bound(way: Followed) -> dict[tuple[str, int], ChannelArray]:
    """The channels, by tensor and axis; an axis that is not bound always stays."""
    removable = np.append(way.dependencies.removable, False)
    return {
        (tensor, axis): np.where(
            removable[way.dependencies.axes[index]], way.dependencies.axes[index], -1
        )
        for tensor, axes in way.dependencies.bound.items()
        for axis, index in axes.items()
    }


def _of_signals(
    name: str, hook: Followed, forward: Followed, ours: Signal, theirs: Signal
) -> Iterator[tuple[str, int, int]]:
    arrays = np.broadcast_arrays(hook.stays(ours.ids), forward.stays(theirs.ids))
    for place in np.ndindex(arrays[0].shape):
        where = " along ".join(str(p) for p, n in zip(place, arrays[0].shape, strict=True) if n > 1)
        yield f"channel {where} of {name}", int(arrays[0][place]), int(arrays[1][place])


def _within_block(path: str) -> str:
    return path.removeprefix(f"{PATH}.")
