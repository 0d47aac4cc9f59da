"""Numbers that a forward makes of sizes, as those that use them have them.

One that counts channels, which may be fewer, is stated as it is. Where it depends on the sizes of
the input as well, it is computed of these, with what counts channels stated in it.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from typing import Any

from torch import fx
from torch.utils import _pytree as pytree

from prunecore.channels.channels import Channels
from prunecore.channels.signal import Signal, leaves_of
from prunecore.channels.sizes import Count, Ratio, counted, depending
from prunecore.tracing.conditions import TAKEN
from prunecore.tracing.nodes import reads_shape

OF_NUMBERS = (int, float, max, min, round)  # which may make of channels what is stated

_MIXED = "a number that is computed of its width and of sizes of the input is compared or rounded"


class Numbers:
    """The numbers of one traced forward.

    Args:
        channels: the walk.
        values: what the nodes so far have computed.
    """

    def __init__(self, channels: Channels, values: dict[fx.Node, Any]) -> None:
        self._channels = channels
        self._values = values

    def state(self, node: fx.Node, args: Sequence[Any]) -> None:
        """Let what uses a number have it as it is, where it counts channels, which may be fewer.

        What `int` makes of a whole number is that number.

        Args:
            node: a call; where it makes such a number, it goes.
            args: what it is called with.
        """
        value: Any = self._values[node]
        leaves = leaves_of(args)
        is_read = any(leaf is value or isinstance(leaf, Signal) for leaf in leaves)
        if isinstance(value, Count | Ratio) and not is_read:
            sources = node.all_input_nodes
            value.follows_input = any(map(self._follows_input, sources))
            value.is_merged = any(one.is_merged for one in _counts(map(self._known, sources)))
        if node.target not in OF_NUMBERS:
            return
        if isinstance(value, Count | Ratio):
            stated = self._stated(node, node)
        elif node.target in (int, float) and value is args[0]:
            stated = node.args[0]
        else:
            return
        if stated is node:  # all that it counts stays
            return
        for user in list(node.users):
            user.args = fx.node.map_arg(user.args, lambda arg: stated if arg is node else arg)
            user.kwargs = fx.node.map_arg(user.kwargs, lambda arg: stated if arg is node else arg)
        node.graph.erase_node(node)

    def state_in(self, guard: fx.Node) -> None:
        """Let an assertion say what it does of sizes that do not count channels.

        Args:
            guard: an assertion that depends on how many channels there are; it goes where it says
                nothing else.
        """
        condition: Any = guard.args[0]
        holds: Any = self._values[condition]
        if not holds.follows_input or self._has_one(condition, 1):
            stated: Any = None
        elif self._has_one(condition, 0):  # which it has with fewer channels, too
            stated = condition
        elif any(isinstance(self._known(side), tuple) for side in condition.args):
            stated = self._compared(condition, guard)
        else:
            stated = self._stated(condition, guard)
        if stated is None:  # widths have chosen the way, which is the same for all inputs
            guard.meta.pop(TAKEN, None)
            guard.graph.erase_node(guard)
        else:
            guard.args = (stated, *guard.args[1:])
            self._values[guard] = None

    def _has_one(self, condition: fx.Node, number: int) -> bool:
        """True if this number is compared with how many places a tensor has in several axes."""
        read = [one for one in _counts(map(self._known, condition.args)) if one.is_merged]
        others = [side for side in condition.args if not isinstance(side, fx.Node)]
        return len(read) == 1 and others == [number]

    def _known(self, leaf: Any) -> Any:
        return self._values[leaf] if isinstance(leaf, fx.Node) else leaf

    def _follows_input(self, node: fx.Node) -> bool:
        """True if a number, or what it is read of, depends on the sizes of the input."""
        value = self._values[node]
        if isinstance(value, Count | Ratio):
            return value.follows_input
        if isinstance(value, Signal):
            return not value.is_of_weights
        return node.op == "placeholder" or any(map(self._follows_input, node.all_input_nodes))

    def _stated(self, node: fx.Node, before: fx.Node) -> Any:
        """A number, or what computes it of the sizes of the input.

        What it counts stays where that cannot be told from these.

        Args:
            node: what computes it now.
            before: the call that is to have it.
        """
        value = self._values[node]
        if not counted(leaves_of(value)):
            return node
        if isinstance(value, tuple):
            return tuple(self._item(node, place, before) for place in range(len(value)))
        if not value.follows_input:
            return _as_number(value)
        if value.is_merged or not node.all_input_nodes:  # it is given to the forward
            for ids in value.ids:
                self._channels.pin(ids, _MIXED)
            return node
        given = fx.node.map_arg(
            (node.args, dict(node.kwargs)), lambda source: self._stated(source, before)
        )
        return self._inserted(node, node.target, given, before, node.op)

    def _inserted(
        self, like: fx.Node, target: Any, given: Any, before: fx.Node, kind: str = "call_function"
    ) -> fx.Node:
        """A node that computes a number or several of them, none of which counts channels.

        Its name is the same on all ways that the forward goes, by which what comes before a branch
        is told to be one.
        """
        with like.graph.inserting_before(before):
            args, kwargs = given
            name = f"{like.name}_of_{before.name}"
            made = like.graph.create_node(kind, target, tuple(args), kwargs, name)
        made.meta = dict(like.meta)
        self._values[made] = pytree.tree_map_only((Count, Ratio), _as_number, self._values[like])
        return made

    def _item(self, side: Any, place: int, before: fx.Node) -> Any:
        """One of several sizes."""
        if isinstance(side, tuple):
            item = side[place]
            return self._stated(item, before) if isinstance(item, fx.Node) else item
        size = self._values[side][place]
        if isinstance(size, Count | Ratio) and not size.follows_input:
            return _as_number(size)
        for ids in counted([size]):
            self._channels.pin(ids, _MIXED)
        while side.target is operator.getitem and isinstance(side.args[1], slice):
            whole, part = side.args
            side, place = whole, range(len(self._values[whole]))[part][place]
        made = self._inserted(side, operator.getitem, ((side, place), {}), before)
        self._values[made] = int(size)
        return made

    def _compared(self, condition: fx.Node, guard: fx.Node) -> fx.Node | None:
        """A comparison of several sizes without those that count channels, if any are left.

        Args:
            condition: the comparison.
            guard: the assertion that is to have it.
        """
        sides: Any = condition.args
        pairs = list(zip(*map(self._sizes, sides), strict=True))
        are_settled = [self._is_settled(pair) for pair in pairs]
        if any(own and pair[0] != pair[1] for own, pair in zip(are_settled, pairs, strict=True)):
            return None
        left = [place for place, own in enumerate(are_settled) if not own]
        if left[:1] == [0] and all(map(self._has_batch, sides)) and pairs[0][0] == pairs[0][1]:
            del left[0]  # which is the same for both
        if not left:
            return None
        behind = slice(left[0] - len(pairs), None)
        are_read = all(isinstance(side, fx.Node) for side in sides)
        given: list[Any]
        if are_read and len(left) == -behind.start and not counted(sum(pairs[behind], ())):
            given = [self._part(side, behind, guard) for side in sides]
        else:
            given = [tuple(self._item(side, place, guard) for place in left) for side in sides]
            if len(left) == 1:
                given = [one for (one,) in given]
        return self._inserted(condition, condition.target, (given, {}), guard)

    def _part(self, side: fx.Node, behind: slice, before: fx.Node) -> fx.Node:
        """The last ones of several sizes."""
        made = self._inserted(side, operator.getitem, ((side, behind), {}), before)
        self._values[made] = self._values[side][behind]
        return made

    def _sizes(self, side: Any) -> tuple[Any, ...]:
        """What is compared with several others; a number as one that counts no channels."""
        if isinstance(side, tuple):
            return tuple(
                self._values[item] if isinstance(item, fx.Node) else depending(item, [])
                for item in side
            )
        sizes: tuple[Any, ...] = self._values[side]
        return sizes

    def _is_settled(self, pair: Sequence[Any]) -> bool:
        """True of two numbers of channels, or where one has channels and other places in it."""
        return all(isinstance(size, Count) for size in pair) or any(
            isinstance(size, Count) and size.follows_input for size in pair
        )

    def _has_batch(self, side: Any) -> bool:
        """True for the sizes of a tensor of the network, the batch first."""
        if not isinstance(side, fx.Node) or not reads_shape(side):
            return False
        tensor = self._known(side.args[0])
        return isinstance(tensor, Signal) and not tensor.is_of_weights


def is_settled(condition: Any) -> bool:
    """True for a comparison of numbers alone, since those that count channels are stated."""
    return isinstance(condition, fx.Node) and not condition.all_input_nodes


def _counts(values: Iterable[Any]) -> list[Count | Ratio]:
    """The numbers that count channels."""
    return [value for value in values if isinstance(value, Count | Ratio)]


def _as_number(value: Any) -> Any:
    return float(value) if isinstance(value, Ratio) else int(value)
