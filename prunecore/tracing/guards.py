"""Guards: branches of a forward on sizes, decided as the given input has them."""

from __future__ import annotations

import functools
import operator
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

from prunecore.channels.filling import with_numbers
from prunecore.channels.signal import Signal
from prunecore.functions.table import SIGNS
from prunecore.isolation.copies import Isolation
from prunecore.isolation.random_states import OwnDraws
from prunecore.tracing.arguments import called_with
from prunecore.tracing.conditions import TAKEN, Taken
from prunecore.tracing.modules.attributes import TrainingFlag, meta, without_storage
from prunecore.tracing.modules.leaves import always_returned_by
from prunecore.tracing.nodes import reads_shape

GUARD = "written for inputs of another"  # size or kind, the written forward says where it is not so


_UNKNOWN = ("device", "grad")  # of a tensor without storage


class Undecided(Exception):
    """What a forward branches on is not known before it runs."""


class Decider:
    """Computes what nodes of a graph under construction are, as far as shapes tell.

    Args:
        module: whose forward is traced.
        inputs: what each placeholder stands for, by its name.
        in_training: the mode in which modules are called.
        draws: notes what the forward draws, but not what modules do that are called for shapes.
        forced: which ways the first branches on sizes go, whatever these are.

    Attributes:
        is_computing: whether modules are being called for their shapes, not to be traced.
        was_asked: whether anything has been computed.
        refuted: what branches ask for that holds for the given sizes, and not on the way that is
            traced, by what asserts that.
    """

    def __init__(
        self,
        module: nn.Module,
        inputs: Mapping[str, Any],
        in_training: bool,
        forced: Sequence[bool] = (),
        draws: OwnDraws | None = None,
    ) -> None:
        self._draws = draws or OwnDraws()
        self._module = module
        self._inputs = inputs
        self._in_training = in_training
        self._values: dict[fx.Node, Any] = {}
        # whether modules of a kind change lists that modules of a class give to them
        self.changing: dict[Any, bool] = {}
        self._changed: dict[fx.Node, Any] = {}  # what calls that do were given, as it is afterwards
        self.is_computing = False
        self.was_asked = False
        self._forced = forced
        self._ways: list[bool] = []  # which way each branch so far goes
        self._taken: dict[str, bool] = {}  # likewise, by what it asks for
        self.refuted: dict[fx.Node, fx.Node] = {}

    def decide(self, condition: fx.Proxy) -> bool:
        """True if a condition holds; the trace gets an assertion that says so.

        What depends on the type of a tensor is decided as for float32, the type of the walk, and
        has none: the written network may be cast as the original may. Nor has a comparison of sizes
        with what is none, or with another number of sizes.

        Raises:
            Undecided: that depends on the values of tensors.
        """
        node = condition.node
        value = self.known(condition)
        if isinstance(value, Tensor):
            raise Undecided
        sides = fx.node.map_arg(node.args, self._value)
        if isinstance(value, bool) and _is_same_for_all(sides):
            return value
        told = [*map(self._told, node.args)]
        if value is True and node.target is operator.eq and told[0] == told[1]:
            return value
        if (asked := self._told(node)) in self._taken:
            return self._taken[asked]
        place = len(self._ways)
        holds = self._forced[place] if place < len(self._forced) else bool(value)
        asserts = cast(Any, torch._assert)  # which returns what stands for its call
        guard = asserts(_asserted(condition, isinstance(value, bool), holds), self._guard(node))
        guard.node.meta[TAKEN] = Taken(f"branch{''.join(map(str, map(int, self._ways)))}", holds)
        if value is True and not holds:
            self._values[node] = holds
            self.refuted[guard.node] = node
        self._ways.append(holds)
        self._taken[asked] = holds
        sign = SIGNS.get(cast(Any, node.target))
        if sign and sign.opposite:
            self._taken[f"{sign.opposite}({', '.join(told)})"] = not holds
        return holds

    def number(self, proxy: fx.Proxy) -> Any:
        """The number that a proxy stands for; the trace gets an assertion that says which.

        What parameters alone tell is always the same, and needs none.

        Raises:
            Undecided: it is no number, or depends on the values of tensors or on the batch.
        """
        value = self.known(proxy)
        if not isinstance(value, int | float):
            raise Undecided
        sizes = [(node, axis) for node, axis in self._sizes(proxy.node) if not self.is_stored(node)]
        if any(axis == 0 for _, axis in sizes):
            raise Undecided
        if sizes:
            torch._assert(cast(Any, proxy) == value, self._guard(proxy.node))
        return value

    def known(self, proxy: fx.Proxy) -> Any:
        """What a proxy stands for, tensors without storage.

        Raises:
            Undecided: that depends on the values of tensors.
        """
        return self.value(proxy.node)

    def value(self, node: fx.Node) -> Any:
        """What a node is, tensors without storage.

        Raises:
            Undecided: that depends on the values of tensors.
        """
        before = self.is_computing, self._draws.has_drawn
        self.is_computing = True
        try:
            with torch.no_grad():  # under which a part of a tensor may be changed in place
                return self._value(node)
        finally:
            self.is_computing, self._draws.has_drawn = before

    def is_stored(self, node: fx.Node) -> bool:
        """True if a node computes something of parameters and buffers alone."""
        waiting, seen = [node], {node}
        while waiting:
            one = waiting.pop()
            if one.op == "call_module" or (one.op == "placeholder" and not self._is_weight(one)):
                return False
            waiting += [source for source in one.all_input_nodes if source not in seen]
            seen.update(one.all_input_nodes)
        return True

    def _is_weight(self, placeholder: fx.Node) -> bool:
        """True if a forward is given what is computed of parameters and buffers alone."""
        given = self._inputs.get(str(placeholder.target))
        return isinstance(given, Signal) and given.is_of_weights

    def _told(self, leaf: Any) -> str:
        """A text that is the same where the same is computed of sizes of the same tensors."""
        if not isinstance(leaf, fx.Node):
            return repr(leaf)
        if leaf.op == "call_module" or not leaf.args or isinstance(self._value(leaf), Tensor):
            return leaf.name
        given = [self._told(one) for one in (*leaf.args, *leaf.kwargs.values())]
        return f"{leaf.target}({', '.join(given)})"

    def changes_lists(self, call: fx.Node) -> bool:
        """True if a submodule changes a list that it is called with, as far as that is known.

        Tried on one of each kind: many layers of a dense network are given lists, of all before.
        """
        kind = self._kind(self._module.get_submodule(str(call.target)))
        if kind not in self.changing:
            try:
                self.value(call)
            except Undecided:
                self.changing[kind] = False
        return self.changing[kind]

    def changed_by(self, call: fx.Node, path: Sequence[Any]) -> list[Any]:
        """A list that a submodule is given, as it is after the call; tensors without storage.

        Args:
            call: of a submodule that changes lists.
            path: the indices and keys by which the list is found in the arguments of the call.

        Raises:
            Undecided: that depends on the values of tensors.
        """
        self.value(call)
        changed: list[Any] = functools.reduce(operator.getitem, path, self._changed[call])
        return changed

    def _sizes(self, node: fx.Node) -> Iterator[tuple[fx.Node, Any]]:
        """What a number is computed of: tensors, and the axes whose sizes are read of them."""
        args: Any = node.args
        if node.target is operator.getitem and reads_shape(args[0]):
            yield args[0].args[0], args[1]
        elif reads_shape(node):
            yield args[0], node.kwargs.get("dim", args[1] if len(args) > 1 else None)
        elif node.target is len:
            yield args[0], 0
        elif node.op == "placeholder":
            yield node, None
        else:
            for other in node.all_input_nodes:
                if isinstance(self._values[other], int | float):
                    yield from self._sizes(other)
                else:
                    yield other, None

    def _guard(self, node: fx.Node) -> str:
        """What the written forward says where a condition is not as it has been decided."""
        return f"{GUARD} {'size' if self._asks_size(node) else 'kind'}"

    def _asks_size(self, node: fx.Node) -> bool:
        """True if sizes are read for a number, not the type of a tensor or its number of axes."""
        if isinstance(self._values.get(node), Tensor):
            return False
        is_size = reads_shape(node) or node.target in (len, "numel", Tensor.numel, torch.numel)
        return is_size or any(map(self._asks_size, node.all_input_nodes))

    def _leaf(self, leaf: Any) -> Any:
        if isinstance(leaf, TrainingFlag):
            return self._in_training
        return self._value(leaf) if isinstance(leaf, fx.Node) else leaf

    def _given(self, leaf: Any) -> Any:
        """What a function is given: a device as that of tensors without storage."""
        is_device = (
            isinstance(leaf, fx.Node) and leaf.target is getattr and leaf.args[1] == "device"
        )
        return torch.device("meta") if is_device else self._leaf(leaf)

    def _value(self, node: fx.Node) -> Any:
        self.was_asked = True
        if node not in self._values:
            sign = SIGNS.get(cast(Any, node.target))
            compares = bool(sign and sign.opposite) or node.target is getattr
            args, kwargs = called_with(node, self._leaf if compares else self._given)
            self._values[node] = self._computed(node, args, kwargs)
        return self._values[node]

    def _computed(self, node: fx.Node, args: Any, kwargs: Any) -> Any:
        if node.op == "placeholder":
            given = self._inputs.get(str(node.target))
            if given is None:
                raise Undecided  # one of `*args`
            return pytree.tree_map(lambda x: x.meta if isinstance(x, Signal) else x, given)
        if node.op == "get_attr":
            holder, _, name = str(node.target).rpartition(".")
            return meta(getattr(self._module.get_submodule(holder), name))
        if node.op == "call_module":
            child = self._module.get_submodule(str(node.target))
            args, kwargs = pytree.tree_map(lambda x: x, (args, kwargs))  # lists of its own
            before = [(given, list(given)) for given in _lists((args, kwargs))]
            try:
                followed = without_storage(Isolation(child).of(child), self._in_training)
                result = followed(*args, **kwargs)
            except Exception:  # it may ask for numbers
                result = self._returned(child, args, kwargs)
            changes = any(list(map(id, given)) != list(map(id, ones)) for given, ones in before)
            kind = self._kind(child)
            self.changing[kind] = changes or self.changing.get(kind, False)
            if self.changing[kind]:
                self._changed[node] = args, kwargs
            return result
        args, kwargs = with_numbers(
            getattr(node.target, "__name__", str(node.target)), args, kwargs
        )
        if node.op == "call_method" and node.target in ("item", "tolist"):
            raise Undecided
        if node.op == "call_method":
            return getattr(args[0], str(node.target))(*args[1:], **kwargs)
        if node.target is getattr and args[1] in _UNKNOWN:
            raise Undecided
        result = cast(Any, node.target)(*args, **kwargs)
        return result.to("meta") if isinstance(result, Tensor) else result

    def _kind(self, child: nn.Module) -> Any:
        """A child's class, what it is told to do, and who calls it."""
        told = {k: v for k, v in vars(child).items() if isinstance(v, bool | str | None)}
        return type(self._module), type(child), tuple(told.items())

    def _returned(self, child: nn.Module, args: Any, kwargs: Any) -> Any:
        """What a child returns that needs numbers.

        Raises:
            Undecided: that depends on them, or it raises something; the walk will say more of it.
        """
        try:
            return always_returned_by(child, self._in_training, *args, **kwargs)
        except Exception as error:  # whatever a child raises
            raise Undecided from error


def _asserted(condition: fx.Proxy, is_bool: bool, holds: bool) -> Any:
    """What is so where a condition holds, or where it does not."""
    node, asked = condition.node, cast(Any, condition)
    sign = SIGNS.get(cast(Any, node.target))
    if is_bool and not holds and sign and sign.opposite:
        tracer, given = condition.tracer, cast(Any, node.args)
        given = [fx.Proxy(s, tracer) if isinstance(s, fx.Node) else s for s in given]
        return sign.opposite(*given)
    if is_bool and holds:
        return asked
    return asked != 0 if holds else asked == 0


def _is_same_for_all(sides: Sequence[Any]) -> bool:
    """True if two sides compare as they do for inputs of any size, and of the type of the walk."""
    if any(side is None or isinstance(side, torch.dtype) for side in sides):
        return True
    return all(isinstance(side, tuple) for side in sides) and len(set(map(len, sides))) > 1


def _lists(values: Any) -> Iterator[list[Any]]:
    """The lists among values, those within others after them."""
    if isinstance(values, list):
        yield values
    if isinstance(values, list | tuple | dict):
        for item in values.values() if isinstance(values, dict) else values:
            yield from _lists(item)
