"""Augmented assignments of a traced forward: `x += y` changes a tensor that others may share."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from torch import Tensor, fx, nn
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from prunecore.channels.names import is_of_torch
from prunecore.functions.table import SIGNS
from prunecore.tracing.guards import Decider, Undecided
from prunecore.tracing.nodes import BY_LAYOUT, IS_PUT_BACK

# What `x += y` and its like call; the operator that leaves `x` alone, and the method of tensors.
AUGMENTED: Mapping[Callable[..., Any], tuple[Callable[..., Any], str]] = {
    operator.iadd: (operator.add, "add_"),
    operator.isub: (operator.sub, "sub_"),
    operator.imul: (operator.mul, "mul_"),
    operator.itruediv: (operator.truediv, "div_"),
    operator.ifloordiv: (operator.floordiv, "floor_divide_"),
    operator.imod: (operator.mod, "remainder_"),
    operator.ipow: (operator.pow, "pow_"),
    operator.iand: (operator.and_, "bitwise_and_"),
    operator.ior: (operator.or_, "bitwise_or_"),
    operator.ixor: (operator.xor, "bitwise_xor_"),
}


# methods that change the shape of a tensor in place
_SHAPING = ("squeeze_", "swapaxes_", "swapdims_", "t_", "transpose_", "unsqueeze_")


def changes_tensors(graph: fx.Graph) -> bool:
    """True if what follows has something to do, for which it asks for sizes."""
    return any(node.target in AUGMENTED or node.target in _SHAPING for node in graph.nodes)


def without_shaping(graph: fx.Graph, module: nn.Module, supplied: Mapping[str, Any]) -> None:
    """Write what changes a tensor's shape in place as what gives it another shape.

    What reads the tensor afterwards reads that. Where it is known by another name, too, which is
    read, or belongs to the caller, it stays, and is refused.

    Args:
        graph: the trace; it is changed.
        module: whose forward it is.
        supplied: the arguments of its forward that are given, by parameter name.
    """
    deciders = [Decider(module, supplied, in_training) for in_training in (False, True)]
    for place, node in enumerate(graph.nodes):
        if node.op != "call_method" or node.target not in _SHAPING:
            continue
        changed: Any = node.args[0]
        later = set(list(graph.nodes)[place + 1 :])
        others = _read_later(graph, place, later) - {changed}
        if changed.op in ("placeholder", "get_attr") or _is_among(changed, others, deciders):
            continue
        for user in list(changed.users):
            if user in later:
                user.replace_input_with(changed, node)
        node.target = str(node.target).removesuffix("_")


def _is_among(node: fx.Node, others: set[fx.Node], deciders: Sequence[Decider]) -> bool:
    """True if a tensor may be the very one that one of other nodes computes, or holds."""
    try:
        return any(
            leaf is decider.value(node)
            for decider in deciders
            for other in others
            for leaf in pytree.tree_leaves(decider.value(other))
        )
    except Undecided:
        return True


def _read_later(graph: fx.Graph, place: int, later: set[fx.Node]) -> set[fx.Node]:
    """The nodes before a place whose tensors are read after it, by the caller perhaps."""
    return {
        other
        for other in list(graph.nodes)[:place]
        if other.op in ("placeholder", "get_attr") or not later.isdisjoint(other.users)
    }


def without_augmented(graph: fx.Graph, module: nn.Module, supplied: Mapping[str, Any]) -> None:
    """Write augmented assignments as operators where nothing sees the change, else as methods.

    Args:
        graph: the trace; it is changed.
        module: whose forward it is.
        supplied: the arguments of its forward that are given, by parameter name.
    """
    deciders = [Decider(module, supplied, in_training) for in_training in (False, True)]
    with _Layouts() as layouts:
        for place, node in enumerate(graph.nodes):
            if node.op == "call_function" and node.target in AUGMENTED:
                operation, method = AUGMENTED[node.target]
                node.meta[IS_PUT_BACK] = _is_put_back(node)
                if node.meta[IS_PUT_BACK] or not _is_seen(node, place, module, deciders, layouts):
                    node.target = operation
                else:
                    node.op, node.target = "call_method", method


def _is_put_back(node: fx.Node) -> bool:
    """True for the sum of `y[0] += x`, which is put where it was taken; nothing else reads it."""
    taken: Any = node.args[0]
    (user, *others) = node.users or (node,)
    return (
        not others
        and user.target is operator.setitem
        and isinstance(taken, fx.Node)
        and taken.target is operator.getitem
        and list(taken.users) == [node]
        and taken.args == user.args[:2]
    )


def _is_seen(
    node: fx.Node,
    place: int,
    module: nn.Module,
    deciders: Sequence[Decider],
    layouts: _Layouts,
) -> bool:
    """True if anything but the result of a change is read afterwards of what it changes."""
    seen = _read_later(node.graph, place, set(list(node.graph.nodes)[place + 1 :]))
    changed: Any = node.args[0]
    memory = _memory(changed, module)
    if all(memory.isdisjoint(_memory(other, module)) for other in seen):
        return False
    if any(_is_unchanging(changed, decider) for decider in deciders):
        return False
    try:
        return any(
            layouts.may_share(decider.value(changed), decider.value(other))
            for decider in deciders
            for other in seen
        )
    except (Undecided, RuntimeError):  # torch raises where shapes alone do not tell
        return True


def _is_unchanging(node: fx.Node, decider: Decider) -> bool:
    """True for a size, or several, of which an augmented assignment makes another one."""
    try:
        return isinstance(decider.value(node), int | float | tuple)
    except (Undecided, RuntimeError):
        return False


def _memory(node: fx.Node, module: nn.Module) -> set[Any]:
    """Whose memory the tensors of a node may lie in: nodes, ids of modules, and storages."""
    found: set[Any] = set()
    waiting = [node]
    while waiting:
        one = waiting.pop()
        if one in found:
            continue
        found.add(one)
        tensors: list[Tensor] = []
        if one.op == "get_attr":
            holder, _, name = str(one.target).rpartition(".")
            tensors = [getattr(module.get_submodule(holder), name)]
        elif not _is_new(one, module):
            waiting += one.all_input_nodes
            if one.op == "call_module":  # it may return what it holds
                child = module.get_submodule(str(one.target))
                found.update(map(id, child.modules()))
                tensors = [*child.parameters(), *child.buffers()]
        found.update(tensor.untyped_storage()._cdata for tensor in tensors)
    return found


def _is_new(node: fx.Node, module: nn.Module) -> bool:
    """True if a call returns a tensor that lies in memory of its own.

    So do the layers of torch's with weights, and operators between a tensor and anything.
    """
    if node.op == "call_module":
        layer = module.get_submodule(str(node.target))
        return is_of_torch(type(layer)) and any(True for _ in layer.parameters(recurse=False))
    sign = SIGNS.get(cast(Any, node.target))
    return bool(
        sign
        and sign.kind == "infix"
        and any(one.op == "get_attr" or _is_new(one, module) for one in node.all_input_nodes)
    )


class _Layouts(TorchFunctionMode):
    """Notes which tensors may be views of others for inputs of other sizes.

    For a batch of one, or a map of one place, more of them lie in memory in order.
    """

    def __init__(self) -> None:
        super().__init__()
        self._sources: dict[int, set[int]] = {}  # memory that what lies in this one may share
        self._held: list[Any] = []  # so that no other tensor gets the memory of one of them

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Call a function."""
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if func in BY_LAYOUT or "memory_format" in kwargs:
            self._held += [args, kwargs, result]
            (place,) = _storages(result)
            self._sources.setdefault(place, set()).update(_storages((args, kwargs)))
        return result

    def may_share(self, value: Any, other: Any) -> bool:
        """True if tensors of two values lie in the same memory, or may for other sizes."""
        return not self._places(value).isdisjoint(self._places(other))

    def _places(self, value: Any) -> set[int]:
        waiting, found = [*_storages(value)], set[int]()
        while waiting:
            one = waiting.pop()
            if one not in found:
                found.add(one)
                waiting += self._sources.get(one, ())
        return found


def _storages(value: Any) -> set[int]:
    """The memory that tensors lie in."""
    tensors = [leaf for leaf in pytree.tree_leaves(value) if type(leaf) is Tensor]
    return {tensor.untyped_storage()._cdata for tensor in tensors}
