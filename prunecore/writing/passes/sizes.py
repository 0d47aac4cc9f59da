"""Sizes along channels that a forward computes, rewritten for the kept widths.

`x.view(n, 8, c // 8)` has 8 groups whatever `c` is, which no longer holds where whole groups went.
Where what is computed would not be the size that is kept, the size is left to be found out, or
written as a number where several are; in all instances of a class alike. Of a product with a size
of the input, as in `x.view(b * 8, -1, d)`, the number of channels alone is written otherwise. A
number that the forward computes with, such as attention's scale, stays what it was.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Hashable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import Any, cast

from torch import fx
from torch.utils import _pytree as pytree

from prunecore.channels.keep import Keep
from prunecore.channels.records import Trace
from prunecore.channels.signal import Signal
from prunecore.channels.sizes import Count, Ratio, counted
from prunecore.functions.rule import Arguments
from prunecore.functions.table import SIGNS
from prunecore.tracing.contexts import UNDER, under
from prunecore.tracing.nodes import function_of, name_of
from prunecore.walking.calls import Functions, counting, picking
from prunecore.writing.passes.rehearsal import Rehearsal, rehearsals
from prunecore.writing.text import Name, free_name


def with_kept_sizes(
    traces: Mapping[str, Trace], keep: Keep, functions: Functions
) -> dict[str, Trace]:
    """The forwards, their calls given the sizes of what is kept.

    Args:
        traces: the followed forwards, by path.
        keep: what stays.
        functions: the rules.
    """
    alike: dict[Hashable, list[str]] = {}
    wrong: dict[str, dict[tuple[int, int], set[int]]] = {}
    for path, trace in traces.items():
        calls = tuple((node.op, node.target, *_kinds(trace, node)) for node in trace.graph.nodes)
        alike.setdefault((type(trace.module), calls), []).append(path)
        tried = rehearsals(trace, keep, functions)
        wrong[path] = {
            (place, number): _along_channels(trace, node, source)
            for place, node in enumerate(trace.graph.nodes)
            for number, source in enumerate(_computed(trace, node))
            if not all(
                _holds(trace, node, source, one, keep, functions) for one in tried if one.runs(node)
            )
            and name_of(node) not in keep.dependencies.masked_functions.get(path, {})
        }
    result = dict(traces)
    for paths in alike.values():
        places: dict[tuple[int, int], set[int]] = {}
        for path in paths:
            for key, sizes in wrong[path].items():
                places.setdefault(key, set()).update(sizes)
        if places:
            stated = [_stated(traces[path], places, keep, functions) for path in paths]
            result |= dict(zip(paths, _with_factors(stated), strict=True))
    return result


def _computed(trace: Trace, node: fx.Node) -> list[fx.Node]:
    """The arguments of a call that are computed numbers, or shapes with numbers of channels."""
    if node.op not in ("call_function", "call_method") or picking(trace, node):
        return []
    counts = counting(trace, node)
    return [
        source
        for source in node.all_input_nodes
        if source in counts or isinstance(trace.values[source], int) or _is_shape(trace, source)
    ]


def _kinds(trace: Trace, node: fx.Node) -> list[bool]:
    """Whether each number that a call is given counts channels: none else is to be stated."""
    return [bool(counted([trace.values[source]])) for source in _computed(trace, node)]


def _is_shape(trace: Trace, node: fx.Node) -> bool:
    """True if a node is several sizes, of the input perhaps, which are all that they were."""
    value = trace.values[node]
    return isinstance(value, tuple) and all(isinstance(size, int) for size in value)


def _along_channels(trace: Trace, node: fx.Node, source: fx.Node) -> set[int]:
    """Which of several sizes that a call is given are those of axes that channels lie along."""
    sizes, result = trace.values[source], trace.values[node]
    if not isinstance(sizes, tuple):
        return set()
    is_shape = isinstance(result, Signal) and len(sizes) == result.ndim
    return {
        place
        for place, size in enumerate(sizes)
        if counted([size]) or (is_shape and result.may_be_cut(place))
    }


def _holds(
    trace: Trace,
    node: fx.Node,
    source: fx.Node,
    rehearsal: Rehearsal,
    keep: Keep,
    functions: Functions,
) -> bool:
    """True if what a call computes for one of its arguments is what its rule would write."""
    rule = functions.get(function_of(node))
    if rule is not None and rule.keeps_numbers and isinstance(trace.values[node], Signal):
        value = trace.values[source]
        return not counted([value]) or rehearsal.value(source) == value
    if rule is None or rule.rewrite is None:
        return True
    given = _given(node, {source: _as_ints(trace.values[source])})
    needed = fx.node.map_arg(rule.rewrite(given, trace.values[node], keep), rehearsal.value)
    return _numbers_in(needed) == _numbers_in(rehearsal.arguments(node, rule.rewrite))


def _numbers_in(arguments: Any) -> list[int]:
    return [leaf for leaf in pytree.tree_leaves(arguments) if isinstance(leaf, int)]


def _as_ints(sizes: Any) -> Any:
    return pytree.tree_map_only(Count, int, sizes)


def _given(node: fx.Node, numbers: Mapping[fx.Node, Any]) -> Arguments:
    """The arguments of a call, with numbers in the places of what computes them."""
    args = fx.node.map_arg(node.args, lambda source: numbers.get(source, source))
    kwargs = fx.node.map_arg(node.kwargs, lambda source: numbers.get(source, source))
    return tuple(args), dict(kwargs)


@dataclass(frozen=True)
class _Factor:
    """A kept number of channels that a forward multiplies a size by.

    Attributes:
        node: the product.
        place: of the number, among the two factors.
        name: the attribute that the original has it of, if it is one.
    """

    node: fx.Node
    place: int
    name: str


def _with_factors(stated: Sequence[tuple[Trace, Sequence[_Factor]]]) -> list[Trace]:
    """The forwards of one class; numbers that differ among them are attributes of the module.

    Args:
        stated: the forwards, each with the numbers that its products have.
    """
    taken = {name for trace, _ in stated for name in dir(trace.module)}
    names: dict[tuple[Any, ...], str] = {}  # by the numbers of all instances
    held: list[dict[str, Any]] = [{} for _ in stated]
    for column in zip(*(factors for _, factors in stated), strict=True):
        numbers = tuple(one.node.args[one.place] for one in column)
        if len(set(numbers)) > 1 and numbers not in names:
            names[numbers] = free_name(f"kept_{column[0].name}", taken)
            taken.add(names[numbers])
        for one, number, own in zip(column, numbers, held, strict=True):
            if numbers in names:
                own[names[numbers]] = number
                one.node.update_arg(one.place, Name(f"self.{names[numbers]}"))
            elif number == 1:
                one.node.replace_all_uses_with(one.node.args[1 - one.place])
                one.node.graph.erase_node(one.node)
    return [
        replace(trace, orders={**trace.orders, **own})
        for (trace, _), own in zip(stated, held, strict=True)
    ]


def _stated(
    trace: Trace,
    places: Mapping[tuple[int, int], Set[int]],
    keep: Keep,
    functions: Functions,
) -> tuple[Trace, list[_Factor]]:
    """A forward some calls of which are given numbers for what they compute.

    Args:
        trace: the forward.
        places: of the calls, among its nodes, and of the arguments, among the computed ones; with
            which sizes are stated where an argument is several.
        keep: what stays.
        functions: the rules.

    Returns:
        The forward, and the numbers that products in it have in the places of others.
    """
    result, copies = trace.copied()
    values = dict(result.values)
    factors: list[_Factor] = []
    for place, node in enumerate(trace.graph.nodes):
        copy = copies[node]
        rule = functions.get(function_of(node))
        keeps = rule is not None and rule.keeps_numbers
        numbers = {
            copies[source]: _numbers(copies[source], places[place, number], values, copy, keeps)
            for number, source in enumerate(_computed(trace, node))
            if (place, number) in places
        }
        if not numbers:
            continue
        if _is_inferred(copy, list(numbers.values()), functions):
            numbers = dict.fromkeys(numbers, -1)
        elif rule is not None and rule.rewrite is not None:
            given = _given(copy, numbers)
            kept = rule.rewrite(given, trace.values[node], keep)
            numbers |= _of_other_factors(copy, numbers, kept, values, factors)
        copy.args, copy.kwargs = _given(copy, numbers)
    return replace(result, values=values), factors


def _of_other_factors(
    call: fx.Node,
    numbers: Mapping[fx.Node, Any],
    kept: Arguments,
    values: dict[fx.Node, Any],
    factors: list[_Factor],
) -> dict[fx.Node, fx.Node]:
    """The sizes that depend on the input's as well, computed with what is kept of the channels.

    Args:
        call: what is given the sizes.
        numbers: what they are in the original, by what computes them.
        kept: the arguments of the call with the kept sizes in them.
        values: of all nodes.
        factors: the numbers that products have; those of new ones are added.
    """
    before = pytree.tree_leaves((call.args, dict(call.kwargs)))
    sizes = dict(zip(before, pytree.tree_leaves(kept), strict=False))
    result = values[call]
    of_axes = {size for axis, size in enumerate(result.shape) if result.may_be_cut(axis)}
    return {
        node: _scaled(node, sizes[node], values, call, factors)
        for node, number in numbers.items()
        if type(number) is int and number in of_axes and not _counts_channels_alone(node, values)
    }


def _counts_channels_alone(number: Any, values: Mapping[fx.Node, Any]) -> bool:
    """True for a number that is the same whatever the sizes of the input are."""
    if not isinstance(number, fx.Node):
        return True
    sources = number.all_input_nodes
    if not all(isinstance(values[source], int | float) for source in sources):
        return isinstance(values[number], Count)  # it is read off a tensor
    return all(_counts_channels_alone(source, values) for source in sources)


def _scaled(
    number: fx.Node,
    kept: int,
    values: dict[fx.Node, Any],
    before: fx.Node,
    factors: list[_Factor],
) -> fx.Node:
    """What computes a size with other numbers of channels in it, so that it is the kept one."""
    size = int(values[number])
    for place in (1, 0) if number.target is operator.mul else ():
        operand: Any = number.args[place]
        part: Any = values[operand] if isinstance(operand, fx.Node) else operand
        if part * kept % size:
            continue
        own: Any = part * kept // size
        is_number = _counts_channels_alone(operand, values)
        if not is_number:
            if operand.target is not operator.mul:
                continue
            own = _scaled(operand, own, values, before, factors)
        pair = [*number.args]
        pair[place] = own
        made = _inserted(operator.mul, pair, size, values, before)
        if is_number:
            factors.append(_Factor(made, place, getattr(operand, "attribute", "width")))
        return made
    common = math.gcd(kept, size)
    made = _inserted(operator.mul, (number, kept // common), size, values, before)
    factors.append(_Factor(made, 1, "width"))
    return _inserted(operator.floordiv, (made, size // common), size, values, before)


def _inserted(
    target: Any, args: Sequence[Any], value: int, values: dict[fx.Node, Any], before: fx.Node
) -> fx.Node:
    with before.graph.inserting_before(before):
        made = before.graph.call_function(target, tuple(args))
    made.meta[UNDER] = under(before)
    values[made] = value
    return made


def _is_inferred(call: fx.Node, numbers: Sequence[Any], functions: Functions) -> bool:
    """True if a call may find out the one size that is stated."""
    leaves = pytree.tree_leaves((call.args, call.kwargs))
    is_one = len(numbers) == 1 and isinstance(numbers[0], int) and -1 not in leaves
    return is_one and functions[function_of(call)].infers_size


def _numbers(
    node: fx.Node, stated: Set[int], values: dict[fx.Node, Any], before: fx.Node, keeps: bool
) -> Any:
    """A size as a number; of several sizes, those that are stated.

    Args:
        node: what computes it.
        stated: which of several are stated.
        values: of all nodes.
        before: what is given it.
        keeps: whether that computes with it, so that it is what it was for inputs of any size.
    """
    value = values[node]
    if isinstance(value, Ratio) or (keeps and isinstance(value, Count)):
        return _of_numbers(node, values, before)
    if not isinstance(value, tuple):
        return int(value)
    sizes: list[Any] = []
    for place, size in enumerate(value):
        if place in stated:
            sizes.append(int(size))
            continue
        with node.graph.inserting_before(before):
            sizes.append(node.graph.call_function(operator.getitem, (node, place)))
        sizes[-1].meta[UNDER] = under(before)
        values[sizes[-1]] = size
    return tuple(sizes)


def _is_computed(number: fx.Node, values: Mapping[fx.Node, Any]) -> bool:
    """True for a number that is computed of others, and not read off a tensor."""
    sources = number.all_input_nodes
    return bool(sources) and all(isinstance(values[one], int | float) for one in sources)


def _compares_shapes(number: fx.Node, values: Mapping[fx.Node, Any]) -> bool:
    """True if a number is whether several sizes are others."""
    sign = SIGNS.get(cast(Any, number.target))
    compares = sign is not None and bool(sign.opposite)
    return compares and any(isinstance(values[one], tuple) for one in number.all_input_nodes)


def _of_numbers(node: fx.Node, values: dict[fx.Node, Any], before: fx.Node) -> Any:
    """What computes a number of sizes, given these as numbers: `32 ** -0.5`."""
    value = values[node]
    is_number = not isinstance(value, Ratio) and not _compares_shapes(node, values)
    if is_number and not (value.follows_input and _is_computed(node, values)):
        return int(value)

    def number(source: fx.Node) -> Any:
        if isinstance(sizes := values[source], tuple):
            places = {place for place, size in enumerate(sizes) if counted([size])}
            return _numbers(source, places, values, before, keeps=True) if places else source
        return _of_numbers(source, values, before) if counted([sizes]) else source

    args, kwargs = fx.node.map_arg((node.args, dict(node.kwargs)), number)
    with node.graph.inserting_before(before):
        made = node.graph.create_node(node.op, node.target, args, kwargs)
    made.meta = dict(node.meta)
    values[made] = values[node]
    return made
