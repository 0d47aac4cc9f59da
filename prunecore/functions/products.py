"""Rules for products of tensors that sum over axes: matmul, einsum, attention."""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils import _pytree as pytree

from prunecore.channels.computed import is_open
from prunecore.channels.coupling import meet_filled
from prunecore.channels.ids import Ids, along, without_channels
from prunecore.channels.layers.products import count_product
from prunecore.channels.signal import Computed, Expanded, Filled, Grid, Signal, Stored
from prunecore.functions.rule import FunctionRule, Operation, Sign, everywhere

if TYPE_CHECKING:
    from prunecore.channels.channels import Channels


_CROSSWISE = "a product has channels along several axes"


_MEETS = "in a product it meets a tensor of which everything stays"


Labels = tuple[str, ...]  # one an axis; axes of one label are multiplied place by place


@dataclass(frozen=True)
class Product:
    """A sum of products, as `einsum` writes it.

    Attributes:
        factors: the tensors.
        labels: of each one's axes.
        result: of the result's axes; what is not among them is summed over.
    """

    factors: tuple[Signal, ...]
    labels: tuple[Labels, ...]
    result: Labels


def multiply(channels: Channels, operation: Operation, product: Product, meta: Tensor) -> Signal:
    """Follow channels through a sum of products.

    Channels along an axis that is summed over go from all factors together, and the masked original
    sums over the kept ones. A parameter among the factors works as a linear layer's weight does.

    Args:
        channels: the walk.
        operation: the call.
        product: the factors and their axes.
        meta: the result, on the meta device.

    Returns:
        The result, of the shape of `meta`.
    """
    carried = {
        label: ids
        for label in dict.fromkeys(label for labels in product.labels for label in labels)
        if (ids := _meeting(channels, product, label)) is not None
    }
    weights = [factor for factor in product.factors if _is_weight(factor)]
    for number, factor in enumerate(product.factors):
        if _is_weight(factor):
            carried |= _weighted(channels, product, number, carried)
    _count(channels, product, carried)
    summed = [label for label in carried if label not in product.result]
    left = [label for label in carried if label in product.result]
    left.sort(key=functools.partial(_stays_apart, product), reverse=True)
    for label in [*summed[1:], *left[1:]]:
        channels.pin(carried[label], _CROSSWISE)
    if summed and (not weights or any(map(is_open, weights))):
        axes = {
            place: labels.index(summed[0])
            for place, labels in zip(_places(operation, product), product.labels, strict=True)
            if summed[0] in labels
        }
        over_kept = functools.partial(_over_kept, operation.function, axes)
        channels.masked_function(carried[summed[0]], over_kept)
    if not left:
        return Signal(meta, without_channels(meta.ndim))
    return Signal(meta, along(product.result.index(left[0]), meta.ndim, carried[left[0]]))


def _stays_apart(product: Product, label: str) -> tuple[bool, int]:
    """Which of several axes of the result its channels lie along: attention's heads, or the last.

    Args:
        product: the factors and their axes.
        label: of an axis of the result.

    Returns:
        Whether it may be that of heads, and its place; the largest is the one.
    """
    place = product.result.index(label)
    in_all = all(label in labels for labels in product.labels)
    return in_all or (place == 1 and len(product.result) == 4), place


def _count(channels: Channels, product: Product, carried: Mapping[str, Ids]) -> None:
    """Count the multiply-accumulates, factor after factor, as attention multiplies its three."""
    if channels.follows_weights:  # once for all inputs
        return
    sizes: dict[str, int] = {}
    for factor, labels in zip(product.factors, product.labels, strict=True):
        for label, size in zip(labels, factor.shape, strict=True):
            sizes[label] = max(size, sizes.get(label, 1))
    present = product.labels[0]
    for number, labels in enumerate(product.labels[1:], start=2):
        met = tuple(dict.fromkeys((*present, *labels)))
        along_met = (carried[label] for label in met if label in carried)
        count_product(channels, math.prod(sizes[label] for label in met), *along_met)
        needed = {*product.result, *(label for later in product.labels[number:] for label in later)}
        present = tuple(label for label in met if label in needed)


def _is_weight(factor: Signal) -> bool:
    """True if it is a parameter, or computed of such, that has no channels yet."""
    return (factor.parameter is not None and not factor.channel_axes) or is_open(factor)


def _meeting(channels: Channels, product: Product, label: str) -> Ids | None:
    """The channels along the axes of one label, coupled; `None` where there are none."""
    found: list[Ids] = []
    alike: list[tuple[Filled, int]] = []  # of tensors whose places along the axis are all alike
    meets_whole = False
    for factor, labels in zip(product.factors, product.labels, strict=True):
        axes = [axis for axis, own in enumerate(labels) if own == label]
        if not axes or factor.shape[axes[0]] == 1 or _is_weight(factor):
            continue
        ids = channels.axis(factor, axes[0])
        expanded = factor.origin_as(Expanded)
        if ids is None and expanded and len(axes) == 1 and axes[0] in expanded.axes:
            alike.append((expanded.filled, expanded.axes[axes[0]]))
            continue
        if ids is None:
            meets_whole = True
            continue
        found.append(ids)
        if len(axes) > 1:
            channels.pin(ids, "a product takes its diagonal")
    for filled, axis in alike if found and not meets_whole else ():
        meets_whole |= not meet_filled(channels, filled, axis, found[0])
    for ids in found:
        channels.join(found[0], ids)
        if meets_whole:
            channels.pin(ids, _MEETS)
    return None if meets_whole or not found else found[0]


def _weighted(
    channels: Channels, product: Product, number: int, carried: Mapping[str, Ids]
) -> dict[str, Ids]:
    """Bind a parameter among the factors; the channels that it makes, if it does."""
    weight, labels = product.factors[number], product.labels[number]
    elsewhere = {
        label for place, own in enumerate(product.labels) if place != number for label in own
    }
    made: dict[str, Ids] = {}
    for axis, label in enumerate(labels):
        is_new = label in product.result and label not in elsewhere
        if is_new and weight.shape[axis] > 1:
            made[label] = channels.fresh(weight.shape[axis])
            channels.bind(weight, axis, made[label], filters=True)
        else:
            channels.bind(weight, axis, carried.get(label))
    return made


def _places(operation: Operation, product: Product) -> list[int]:
    """The number of each factor among all that the call is given."""
    leaves = pytree.tree_leaves((operation.args, dict(operation.kwargs)))
    places: list[int] = []
    for factor in product.factors:
        places.append(
            next(n for n, leaf in enumerate(leaves) if leaf is factor and n not in places)
        )
    return places


def _over_kept(
    function: Callable[..., Any], axes: Mapping[int, int], kept: Tensor, *args: Any, **kwargs: Any
) -> Any:
    """A product whose factors have the kept places alone, along the axis of each."""
    leaves, structure = pytree.tree_flatten((args, kwargs))
    for place, axis in axes.items():
        leaves[place] = leaves[place].index_select(axis, kept)
    args, kwargs = pytree.tree_unflatten(leaves, structure)
    return function(*args, **kwargs)


def _matmul(channels: Channels, operation: Operation) -> Signal:
    """The last axis of the first tensor with the axis before the last of the second."""
    meta = operation.run(channels)
    given = (operation.tensor, operation.argument(1, "other", operation.kwargs.get("mat2")))
    factors = tuple(channels.settle_beside(factor, _within(factor)) for factor in given)
    args = (*factors, *operation.args[2:])
    return multiply(channels, replace(operation, args=args, kwargs={}), _matrices(factors), meta)


def _within(factor: Signal) -> Sequence[int]:
    """The axes of a matrix, of the many for each input that a tensor is: whole ones go."""
    return range(factor.ndim - 2, factor.ndim) if factor.ndim > 3 else ()


def _added_matmul(channels: Channels, operation: Operation) -> Signal:
    """A tensor, and a product of two others."""
    meta = operation.run(channels)
    product = _matrices((operation.args[1], operation.args[2]))
    return channels.couple(operation.tensor, multiply(channels, operation, product, meta))


def _matrices(factors: tuple[Signal, ...]) -> Product:
    left, right = factors
    batch = [f"batch{axis}" for axis in range(max(left.ndim, right.ndim) - 2, 0, -1)]
    own = ["row", "sum"][-left.ndim :], ["sum", "column"][: max(1, right.ndim)]
    labels = tuple(
        (*batch[len(batch) - max(0, factor.ndim - 2) :], *names)
        for factor, names in zip(factors, own, strict=True)
    )
    ends = [name for name in ("row", "column") if name in own[0] + own[1]]
    return Product(factors, labels, (*batch, *ends))


def _outer(channels: Channels, operation: Operation) -> Signal:
    """All products of the places of two rows."""
    meta = operation.run(channels)
    factors = (operation.tensor, operation.argument(1, "vec2"))
    return multiply(
        channels, operation, Product(factors, (("row",), ("column",)), ("row", "column")), meta
    )


def _einsum(channels: Channels, operation: Operation) -> Signal:
    """By its equation."""
    meta = operation.run(channels)
    equation, *factors = operation.args
    if len(factors) == 1 and isinstance(factors[0], list | tuple):
        factors = list(factors[0])
    given, arrow, result = equation.replace(" ", "").partition("->")
    names = given.split(",")
    if not arrow:
        letters = given.replace(",", "").replace("...", "")
        once = [letter for letter in sorted(set(letters)) if letters.count(letter) == 1]
        result = "".join((["..."] if "..." in given else []) + once)
    dots = max(
        (factor.ndim - len(own) + 3 for factor, own in zip(factors, names, strict=True)
         if "..." in own), default=0,
    )  # fmt: skip
    labels = tuple(
        _spelt(own, factor.ndim, dots) for factor, own in zip(factors, names, strict=True)
    )
    product = Product(tuple(factors), labels, _spelt(result, meta.ndim, dots))
    return multiply(channels, operation, product, meta)


def _spelt(names: str, rank: int, dots: int) -> Labels:
    """The label of each axis; those that `...` stands for are counted from the last."""
    before, has_dots, after = names.partition("...")
    count = rank - len(before) - len(after) if has_dots else 0
    return (*before, *(f"...{number}" for number in range(dots - count, dots)), *after)


def _repeated(tensor: Signal, heads: int) -> Signal:
    """A tensor each of whose heads is there so many times that they are as many as this."""
    axis = tensor.ndim - 3
    if tensor.shape[axis] == 1:  # which meets any number of heads
        return tensor
    times = heads // tensor.shape[axis]
    ids = np.repeat(tensor.ids, times, axis) if tensor.carries_channels(axis) else tensor.ids
    return Signal(tensor.meta.repeat_interleave(times, axis), ids)


def _attention(channels: Channels, operation: Operation) -> Signal:
    """Heads go as a whole, and what the values are wide; not what queries and keys are compared by.

    The scale counts the places that they are compared by.
    """
    meta = operation.run(channels)
    names = ("query", "key", "value")
    given = [channels.whole(operation.argument(at, name)) for at, name in enumerate(names)]
    query, key, value = (
        channels.settle_beside(tensor, (tensor.ndim - 2, tensor.ndim - 1)) for tensor in given
    )
    if operation.kwargs.get("enable_gqa"):  # several queries share a key and a value
        key, value = (_repeated(tensor, query.shape[-3]) for tensor in (key, value))
    mixed = ((query, [-1, -2]), (key, [-1, -2]), (value, [-2]))
    query, key, value = (
        replace(channels.pin_axes(tensor, axes, operation.name), origin=tensor.origin_as(Expanded))
        for tensor, axes in mixed
    )
    mask = operation.argument(3, "attn_mask")
    if isinstance(mask, Signal):
        _mask(channels, operation, query, mask)
    batch = tuple(f"batch{axis}" for axis in range(meta.ndim - 2))
    product = Product(
        (query, key, value),
        ((*batch, "query", "place"), (*batch, "key", "place"), (*batch, "key", "value")),
        (*batch, "query", "value"),
    )
    return multiply(channels, operation, product, meta)


def _mask(channels: Channels, operation: Operation, query: Signal, mask: Signal) -> None:
    """Couple attention's heads with a mask that has a part for each, such as biases by place.

    Args:
        channels: the walk.
        operation: the attention.
        query: its queries, whose heads may go.
        mask: added to the products of queries and keys, or true where these count.
    """
    _, mask = channels.meeting([query, mask])
    if any(mask.carries_channels(axis) for axis in (-1, -2)):
        mask = channels.pin_axes(mask, [-1, -2], operation.name)
    heads, parts = (
        Signal(
            tensor.meta[..., :1, :1],
            tensor.ids[..., :1, :1],
            tensor.origin_as(Stored) or tensor.origin_as(Filled) or tensor.origin_as(Expanded),
        )
        for tensor in (query, mask)
    )
    channels.couple(heads, parts)


RULES: Mapping[Callable[..., Any], FunctionRule] = {
    operator.matmul: FunctionRule(_matmul, understands=(Computed, Grid), sign=Sign("@", 5)),
    **everywhere("matmul bmm mm", FunctionRule(_matmul, understands=(Computed, Grid))),
    **everywhere("baddbmm addmm", FunctionRule(_added_matmul, understands=(Computed,))),
    **everywhere("outer ger", FunctionRule(_outer, understands=(Computed,))),
    torch.einsum: FunctionRule(_einsum, understands=(Computed,)),
    F.scaled_dot_product_attention: FunctionRule(_attention, understands=(Grid, Computed)),
}
