"""The names of a written forward's variables."""

from __future__ import annotations

import itertools
import operator
from collections.abc import Iterator, Mapping, Sequence, Set
from typing import Any

from torch import fx

from prunecore.channels.signal import Signal
from prunecore.escaping import is_name
from prunecore.tracing.nodes import is_dead, reads_shape
from prunecore.writing.expressions import names_in, own_name
from prunecore.writing.text import Value

_PLAIN = {"x", "y", "z", "h", "out", "input", "inputs", "tensor", "features", "hidden_states"}


class Variables:
    """The variables of a forward that is being written.

    Args:
        uses: how many nodes that are yet to be written use each node.
        values: what each node computes, `Signal` for tensor.
        own: what the original calls it.
        reserved: names that no variable may have.

    Attributes:
        names: the variables that hold what is computed, by node.
    """

    def __init__(
        self,
        uses: dict[fx.Node, int],
        values: Mapping[fx.Node, Any],
        own: Mapping[fx.Node, Sequence[str]],
        reserved: Set[str],
    ) -> None:
        self.names: dict[fx.Node, str] = {}
        self._uses = uses
        self._values = values
        self._own = own
        self._reserved = reserved
        self._taken_from: dict[str, str] = {}  # the variable that a part was computed of

    def assign(
        self, node: fx.Node, value: Value, composite: bool, optional: bool, needed: Set[str]
    ) -> str:
        """Name the variable that holds a node: one that ends here, else a new one.

        Args:
            node: what is computed.
            value: its expression.
            composite: whether it is the call of a module that has children.
            optional: whether it is the call of a module that other instances lack.
            needed: variables that expressions which are written later read.
        """
        live = {name for other, name in self.names.items() if self._uses[other] > 0}
        taken = self._reserved | needed | live
        is_tensor = isinstance(self._values[node], Signal)
        own = [name for name in names_in(value) if name in self.names.values()]
        if given := self._given(node, taken):
            name = given
        elif is_tensor and own and _is_part(node):
            name = self._part(node, own[0], taken)
        else:
            sources = [self._taken_from[name] for name in own if name in self._taken_from]
            whole = [name for name in (*sources, *own) if name not in self._taken_from]
            is_entry = node.target is operator.getitem and isinstance(node.args[1], str)
            held = self._tensors() if is_tensor and not is_entry else set()
            free = [name for name in whole if name in held - taken]
            is_out = is_tensor and not composite and not is_entry
            if not free and is_tensor and not is_entry and self._telling():
                free = [name for name in ("x",) if name not in taken]
            if size := self._size(node):
                name = _free([size], taken, size, 2)
            else:
                name = free[0] if free else _new(node, is_out, optional, taken)
        self.names[node] = name
        return name

    def _size(self, node: fx.Node) -> str | None:
        """The name of the axis whose size a node reads; `None` where it does something else."""
        place: Any = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim")
        if not isinstance(place, int):
            return None
        if reads_shape(node):
            axes = _axis_names(self._values[node.args[0]])  # type: ignore[index]
        elif node.target is operator.getitem:
            axes = _axes(node.args[0], self._values)  # type: ignore[arg-type]
        else:
            return None
        return axes[place] if -len(axes) <= place < len(axes) else None

    def longest_before(self, node: fx.Node, value: Value) -> int:
        """How long may be what stands before an expression: `return `, or a name it may be given.

        Args:
            node: what is computed.
            value: its expression.
        """
        held = {*self.names.values()}
        names = {*names_in(value)} & held | {*self._own.get(node, ())}
        if "out" in held or not isinstance(self._values.get(node), Signal):
            names.add(own_name(node))
        return max(map(len, ["return ", *(f"{name} = " for name in names)]))

    def _tensors(self) -> set[str]:
        """The variables that may hold another tensor: no dictionary, and no image of an input."""
        held = [node for node in self.names if isinstance(self._values.get(node), Signal)]
        return {self.names[node] for node in held} - self._telling()

    def _telling(self) -> set[str]:
        """The inputs whose names tell what they are."""
        inputs = {name for node, name in self.names.items() if node.op == "placeholder"}
        return set() if "x" in inputs else inputs - _PLAIN

    def unpack(
        self,
        node: fx.Node,
        parts: Sequence[Sequence[fx.Node]],
        wanted: Sequence[str],
        source: str | None,
        nested: Sequence[Sequence[Sequence[fx.Node]]] = (),
    ) -> list[str]:
        """Name the variables that hold the items of a result.

        Args:
            node: what is computed; nothing but its items is used.
            parts: the nodes that take each item, by place.
            wanted: the names, where they are free.
            source: the variable that it takes apart, if there is one.
            nested: for each item, the nodes that take items of it, if it is taken apart as well.

        Returns:
            A name an item, `_` for those that nothing takes, `(h, c)` for one that is taken apart.
        """
        self._uses[node] -= sum(map(len, parts))
        names = []
        for number, name in enumerate(self._of_items(parts, wanted)):
            items, inner = parts[number], nested[number] if nested else ()
            if inner and not self._own.get(items[0]):
                several = [f"{name}{place}" for place in range(1, len(inner) + 1)]
                names.append(f"({', '.join(self.unpack(items[0], inner, several, source))})")
            else:
                names.append(self.free(name) if items else "_")
            self.names.update(dict.fromkeys(items, names[-1]))
            if source is not None:
                self._taken_from[names[-1]] = source
        return names

    def free(self, name: str) -> str:
        """A name that no variable has whose value is still to be read, numbered if need be."""
        live = {name for other, name in self.names.items() if self._uses[other] > 0}
        return _free([name], self._reserved | live, name, 2)

    def fresh(self, node: fx.Node) -> str:
        """A name that no variable has had, after what computes a node."""
        taken = self._reserved | set(self.names.values())
        return self._given(node, taken) or _new(node, True, False, taken)

    def _given(self, node: fx.Node, taken: Set[str]) -> str | None:
        """The name that the original gives it, if that can be had."""
        return next((name for name in self._own.get(node, ()) if name not in taken), None)

    def _of_items(self, parts: Sequence[Sequence[fx.Node]], wanted: Sequence[str]) -> Iterator[str]:
        """The names that the original gives the items, numbered where they are the same."""
        given = [
            next((name for item in items for name in self._own.get(item, ())), "")
            for items in parts
        ]
        for number, (name, other) in enumerate(zip(given, wanted, strict=True), start=1):
            is_shared = name and given.count(name) > 1
            yield f"{name}{number}" if is_shared else name or other

    def _part(self, node: fx.Node, source: str, taken: Set[str]) -> str:
        """The name of one of several tensors that are put together: after its first layer."""
        layers = [layer for layer in self._layers(node) if is_name(layer)]
        name = _free(layers[:1], taken, source.rstrip("0123456789"), 1)
        self._taken_from[name] = source
        return name

    def _layers(self, node: fx.Node) -> Iterator[str]:
        """The names of the layers that an expression calls, in order."""
        for source in node.all_input_nodes:
            if source not in self.names:  # it is part of the expression
                yield from self._layers(source)
        if node.op == "call_module":
            yield own_name(node)


def _is_part(node: fx.Node) -> bool:
    """True if a tensor goes into a list that a function puts together, and is no such list."""
    return not _joined(node) and any(node in one for user in node.users for one in _joined(user))


def _joined(node: fx.Node) -> list[list[fx.Node]]:
    """The lists of several tensors among a function's arguments."""
    if node.op == "output":
        return []
    lists = [argument for argument in node.args if isinstance(argument, list | tuple)]
    nodes = [[item for item in items if isinstance(item, fx.Node)] for items in lists]
    return [items for items in nodes if len(items) > 1]


def _new(node: fx.Node, is_out: bool, optional: bool, taken: Set[str]) -> str:
    names = [*(["out"] if is_out else []), "identity" if optional else own_name(node)]
    good = [name for name in names if is_name(name)]
    return _free(good, taken, good[0] if good else "out", 2)


def _free(names: list[str], taken: Set[str], stem: str, first: int) -> str:
    """The first of these names that can be had, else the stem with a number."""
    numbered = (f"{stem}{number}" for number in itertools.count(first))
    return next(
        name for name in itertools.chain(names, numbered) if is_name(name) and name not in taken
    )


_MOST = 8  # results; of more, a list is kept


_OTHER_AXES = {2: "b", 3: "bn", 4: "bhw", 5: "bthw"}  # by rank: all but that of the channels


_WORDS = ("kv", "qk", "qkv")  # what layers are called whose output is several things


def parts_of(node: fx.Node, value: Any) -> list[list[fx.Node]]:
    """What takes a result apart, by place.

    Args:
        node: the call.
        value: what it returns.

    Returns:
        The items taken, by their number; nothing unless two and at least half of all are taken,
        and all that uses the result takes an item of it, if it is no tuple that is an input.
    """
    parts = _items_of(node, value, node.op == "placeholder" and isinstance(value, tuple))
    taken = sum(map(bool, parts))
    return parts if taken >= 2 and 2 * taken >= len(parts) else []


def nested_parts(items: Sequence[fx.Node], value: Any) -> list[list[fx.Node]]:
    """What takes an item of a result apart in turn, by place, as the states of an LSTM.

    Args:
        items: the nodes that take the item.
        value: the item.

    Returns:
        The items taken of it, by their number; nothing unless one node takes it, and all that uses
        that takes such.
    """
    parts = _items_of(items[0], value) if len(items) == 1 else []
    return parts if any(parts) else []


def _items_of(node: fx.Node, value: Any, is_kept: bool = False) -> list[list[fx.Node]]:
    """The nodes that take each item of what a node has; nothing if it is used otherwise.

    Args:
        node: what has several items.
        value: these.
        is_kept: whether it may be used otherwise.
    """
    if not isinstance(value, list | tuple) or not 2 <= len(value) <= _MOST:
        return []
    parts: list[list[fx.Node]] = [[] for _ in value]
    for user in node.users:
        if is_dead(user):
            continue
        place = user.args[1] if user.target is operator.getitem else None
        if isinstance(place, int) and user.args[0] is node:
            parts[place].append(user)
        elif not is_kept:
            return []
    return parts


def part_names(node: fx.Node, values: Mapping[fx.Node, Any], source: str | None) -> list[str]:
    """What a person calls the results of a call, by place.

    Args:
        node: the call.
        values: what each node computes.
        source: the variable that it takes apart, if there is one.
    """
    value = values[node]
    if hasattr(value, "_fields"):
        return list(value._fields)
    if axes := _axes(node, values):
        return axes
    layer = node
    while layer.op != "call_module" and layer.all_input_nodes:
        layer = layer.all_input_nodes[0]
    word = own_name(layer).rpartition("_")[2]
    if word in _WORDS and len(word) == len(value):
        return list(word)
    stem = own_name(node) if source is None or node.op == "call_module" else source
    stem = stem.rstrip("0123456789")
    return [f"{stem}{number}" for number in range(1, len(value) + 1)]


def _axes(node: fx.Node, values: Mapping[fx.Node, Any]) -> list[str]:
    """The names of the axes whose sizes a node is; nothing if it is something else."""
    source: Any = node.args[0] if node.args else None
    if node.target is operator.getitem and isinstance(node.args[1], slice):
        return _axes(source, values)[node.args[1]]
    return _axis_names(values[source]) if reads_shape(node) else []


def _axis_names(tensor: Signal) -> list[str]:
    rank, axes = tensor.ndim, tensor.channel_axes
    channels = axes[0] if len(axes) == 1 else 2 if rank == 3 else 1
    if rank == 2 and not axes and not tensor.meta.is_floating_point():
        return ["b", "n"]  # tokens
    if rank not in _OTHER_AXES or channels == 0:
        return [f"size{number}" for number in range(rank)]
    names = list(_OTHER_AXES[rank])
    return [*names[:channels], "c", *names[channels:]]
