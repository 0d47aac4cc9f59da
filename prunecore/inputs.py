"""What a network is called with: example inputs or what they are like, and random ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from prunecore.errors import UsageError, a_kind, check_kind
from prunecore.escaping import shown_value
from prunecore.typed_input import TypedInput, read_typed_input

# The shape of one input without the batch; of a network with several inputs, the shapes of each.
InputShape: TypeAlias = Sequence[int] | Sequence[Sequence[int]]

# What the network is called with, as torch.export takes it: a tensor, or a tuple of tensors,
# numbers and flags, and of lists, tuples and dictionaries of these.
ExampleInputs: TypeAlias = Tensor | tuple[Any, ...]

Arguments: TypeAlias = tuple[list[Any], dict[str, Any]]  # by place and by name

BATCH = 2  # of the walk: a batch size that the forward bakes in does not go unnoticed

_PLACES = 3 * 224 * 224  # input values to verify with: small inputs come several at a time
_MOST_INPUTS = 8

_PLAIN = (bool, int, float, str)  # what a network may be called with beside tensors, as may None


@dataclass(frozen=True)
class Inputs:
    """What a network is called with.

    Attributes:
        args: a `TypedInput` for each tensor, and numbers, flags, words and `None` as they are; in
            lists, tuples and dictionaries where the network is given such.
        kwargs: likewise, those that are given by name.
        examples: of each tensor, in that order; `None` where only their types are known.
    """

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    examples: tuple[Tensor, ...] | None = None

    def __post_init__(self) -> None:
        """Refuse inputs of which the batch is not known.

        Raises:
            UsageError: the first tensor has none.
        """
        if self.tensors and self.tensors[0].is_shared:
            raise UsageError(
                f"The first tensor, {self.tensors[0]}, has no batch.\n"
                "Give one that has before it, and those that all of the batch share by name."
            )

    @property
    def tensors(self) -> tuple[TypedInput, ...]:
        """The inputs that are tensors, those given by name last."""
        leaves = pytree.tree_leaves((self.args, dict(self.kwargs)))
        return tuple(leaf for leaf in leaves if isinstance(leaf, TypedInput))

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """The shape of each tensor without the batch, those given by name last."""
        return tuple(each.shape for each in self.tensors)

    @property
    def image(self) -> tuple[int, ...] | None:
        """The shape of one input, where a batch of floating point numbers is all there is."""
        given = (*self.args, *self.kwargs.values())
        alone = self.args[0] if len(given) == 1 and self.args else None
        return alone.shape if isinstance(alone, TypedInput) and alone.is_float else None

    def as_dict(self) -> dict[str, Any]:
        """What they are like, by place and by name, ready for JSON.

        A tensor of floating point numbers is its shape without the batch; another one as
        `read_typed_input` takes it; what is no tensor stands under `value`, and what is in a list,
        tuple or dictionary under `list`, `tuple` or `dict`.
        """
        return {
            "shapes": list(map(_plain, self.args)),
            "named": {name: _plain(given) for name, given in self.kwargs.items()},
        }

    @classmethod
    def from_dict(cls, inputs: Mapping[str, Any]) -> Inputs:
        """Inputs like those of which `as_dict` told.

        Raises:
            UsageError: one is not spelt as it should be.
            InputShapeError: one is too large.
        """
        args = tuple(map(_of_plain, inputs["shapes"]))
        return cls(args, {name: _of_plain(given) for name, given in inputs["named"].items()})

    def on_meta(self, batch: int) -> Arguments:
        """Inputs of these shapes and types that have no storage."""
        return self._like([each.on_meta(batch) for each in self.tensors])

    def batch(self, least: int = 1) -> int:
        """How many inputs a network is tried on, 1 to 8, and `least` at least."""
        places = sum(int(torch.Size(shape).numel()) for shape in self.shapes)
        return max(least, min(_MOST_INPUTS, _PLACES // max(places, 1)))

    def samples(self, model: nn.Module, least: int = 1) -> Arguments:
        """Inputs to try a network on, the same each time, where the network is.

        Half of them are the examples; the others are drawn evenly between an example's smallest
        and largest value. Where there is no example, they are drawn of the type and range that are
        given; floating point numbers without a range, and those of an example that is constant, as
        zeros are, which would hide what is wrong, from a normal distribution.

        Args:
            model: the network.
            least: how large the batch is at least.

        Returns:
            Tensors of shape `(batch, *shape)` with a batch of 1 to 8, those of floating point in
            float64.
        """
        device = next((p.device for p in model.parameters()), torch.device("cpu"))
        device = torch.device("cpu") if device.type == "mps" else device  # has no float64
        count = self.batch(least)
        generator = torch.Generator().manual_seed(0)
        drawn = [each.drawn(count, generator) for each in self.tensors]
        if self.examples is not None:
            drawn = list(map(_beside, self.tensors, self.examples, drawn))
        return self._like([tensor.to(device) for tensor in drawn])

    def example(self, model: nn.Module) -> Arguments:
        """What a network is called with once, in its own dtype and where it is.

        Args:
            model: the network.

        Returns:
            The examples; where only types are known, one input, the same each time.
        """
        like = next((p for p in model.parameters() if p.is_floating_point()), torch.empty(0))
        generator = torch.Generator().manual_seed(0)
        row = self.examples or [each.drawn(1, generator) for each in self.tensors]
        return self._like(
            [
                x.detach().to(like.device, like.dtype if x.is_floating_point() else x.dtype)
                for x in row
            ]
        )

    def _like(self, row: Sequence[Tensor]) -> Arguments:
        """Tensors in the order of `tensors`, by place and by name, with what else there is."""
        rest = iter(row)
        given = (list(self.args), dict(self.kwargs))
        made: Arguments = pytree.tree_map_only(TypedInput, lambda _: next(rest), given)
        return made


def tensors(arguments: Arguments) -> list[Tensor]:
    """All tensors that a network is called with, those given by name last."""
    return [leaf for leaf in pytree.tree_leaves(arguments) if isinstance(leaf, Tensor)]


def drawn_like(arguments: Arguments, like: Tensor) -> Arguments:
    """Random arguments of the shapes of some, the same each time; zeros for whole numbers.

    Args:
        arguments: on the meta device.
        like: has the type of floating point and the device.
    """
    generator = torch.Generator().manual_seed(0)

    def drawn(x: Tensor) -> Tensor:
        if x.is_floating_point():
            return torch.randn(x.shape, dtype=torch.float64, generator=generator).to(like)
        return torch.zeros(x.shape, dtype=x.dtype, device=like.device)

    made: Arguments = pytree.tree_map_only(Tensor, drawn, arguments)
    return made


def _plain(given: Any) -> Any:
    if isinstance(given, dict):
        return {"dict": {key: _plain(item) for key, item in given.items()}}
    if isinstance(given, list | tuple):
        return {type(given).__name__: list(map(_plain, given))}
    if not isinstance(given, TypedInput):
        return {"value": given}
    is_plain = given == TypedInput(given.shape) and given.shape
    return list(given.shape) if is_plain else str(given)


def _of_plain(told: Any) -> Any:
    if not isinstance(told, dict):
        return read_typed_input(told) if isinstance(told, str) else TypedInput(tuple(told))
    ((kind, held),) = told.items()
    if kind == "dict":
        return {key: _of_plain(item) for key, item in held.items()}
    if kind in ("list", "tuple"):
        items = list(map(_of_plain, held))
        return items if kind == "list" else tuple(items)
    return held


def _beside(kind: TypedInput, example: Tensor, drawn: Tensor) -> Tensor:
    """A batch of which half are examples and half are drawn, if there may be others."""
    example = example.detach().cpu().to(drawn.dtype)
    if kind.is_shared:
        return example
    if kind.batch_axis:
        parts = (x.movedim(kind.batch_axis, 0) for x in (example, drawn))
        return _beside(replace(kind, batch_axis=0), *parts).movedim(0, kind.batch_axis)
    given = min(len(example), (len(drawn) + 1) // 2)
    if not kind.is_float:
        return torch.cat([example[:given], drawn[given:]])
    low, high = example.aminmax()
    if low == high:
        return drawn
    if not (low.isfinite() and high.isfinite()):  # as in a mask that is added to scores
        return example[torch.arange(len(drawn)) % len(example)]
    spread = low + (high - low) * torch.special.ndtr(drawn[given:])
    return torch.cat([example[:given], spread])


def of_shape(input_shape: InputShape) -> Inputs:
    """The inputs of a network of which the shapes are known.

    Args:
        input_shape: the shape of one input, without the batch; of several inputs, of each.

    Raises:
        UsageError: it is not a row of positive whole numbers, or a row of such.
        InputShapeError: one is too large.
    """
    is_row = isinstance(input_shape, list | tuple)
    is_one = is_row and all(isinstance(size, int) for size in input_shape)
    for shape in [input_shape] if is_one or not is_row else input_shape:
        if (
            not isinstance(shape, list | tuple)
            or not shape
            or any(not isinstance(size, int) or size < 1 for size in shape)
        ):
            raise UsageError(
                f"The input shape {shown_value(shape)} is not a row of positive whole numbers.\n"
                "Give the shape of one input without the batch, such as (3, 224, 224); of several "
                "inputs a list of such."
            )
    rows = [row for row in input_shape if not isinstance(row, int)]
    sizes = tuple(size for size in input_shape if isinstance(size, int))
    return Inputs(tuple(TypedInput(tuple(shape)) for shape in rows or [sizes]))


def of_examples(
    example_inputs: ExampleInputs | None, example_kwargs: Mapping[str, Any] | None = None
) -> Inputs:
    """The inputs of a network by example.

    The batch is the first axis of the first tensor. A tensor without axes, and a later one that is
    of another size along its first axis, has no batch: it is the same for all of it, as a mask over
    positions is. One of three axes whose second one is the batch is taken for the state of a
    recurrent layer.

    Args:
        example_inputs: a tensor, or a tuple of a tensor, number or flag for each input, or a list,
            tuple or dictionary of such.
        example_kwargs: likewise, those that are given by name.

    Raises:
        UsageError: there is no tensor, or one that is empty, holds what is no number, or cannot be
            read.
    """
    args = (example_inputs,) if isinstance(example_inputs, Tensor) else example_inputs
    args = () if args is None else args
    if not isinstance(args, tuple | list):
        raise _no_examples(args)
    named = {} if example_kwargs is None else example_kwargs
    check_kind("example_kwargs", named, Mapping, "Give tensors by name: {'mask': mask}.")
    given: Arguments = list(args), dict(named)
    leaves = pytree.tree_leaves_with_path(given)
    examples = tuple(leaf for _, leaf in leaves if isinstance(leaf, Tensor))
    for key, leaf in leaves:
        _check_example(_place(key), leaf, any(leaf is first for first in examples[:1]))
    if not examples:
        raise UsageError(
            "There are no example inputs.\n"
            "Give what the network is called with, such as torch.rand(1, 3, 224, 224)."
        )
    batch = len(examples[0])
    kinds, by_name = pytree.tree_map_only(Tensor, lambda x: _kind(x, batch), given)
    return Inputs(tuple(kinds), by_name, examples)


def _no_examples(given: object) -> UsageError:
    """The error for what is no tensor and no tuple of such."""
    remedy = "Give what the network is called with, such as torch.rand(1, 3, 224, 224)."
    if isinstance(given, Mapping):
        remedy = (
            "Give inputs that have names as example_kwargs, and a dictionary that is an input "
            "itself in a tuple."
        )
    return UsageError(
        f"example_inputs is {a_kind(given)}, not a tensor or a tuple of tensors.\n{remedy}"
    )


def _place(key: Sequence[Any]) -> str:
    """Where an input stands, in words: `1`, `'mask'`, `0[2]`."""
    (is_named, first), *rest = ((isinstance(k, pytree.MappingKey), k) for k in key[1:])
    name = repr(first.key) if is_named else str(first.idx)
    return f"{name}{pytree.keystr(tuple(k for _, k in rest))}"


_OF_STATES = 3  # axes of the states of recurrent layers: layers, batch and hidden size


def _kind(example: Tensor, batch: int) -> TypedInput:
    """What an example tells of tensors like it."""
    is_shared = example.ndim == 0 or len(example) != batch
    shape = tuple(example.shape if is_shared else example.shape[1:])
    if example.is_floating_point():
        if is_shared and example.ndim == _OF_STATES and example.shape[1] == batch:
            return TypedInput((shape[0], shape[2]), batch_axis=1)
        return TypedInput(shape, is_shared=is_shared)
    low, high = (int(bound) for bound in example.to(torch.int64).aminmax())
    if example.dtype is torch.bool and low != high:
        return TypedInput(shape, example.dtype, is_shared=is_shared)
    return TypedInput(shape, example.dtype, low, high, is_shared)


def _check_example(name: str, value: Any, is_first: bool) -> None:
    if not isinstance(value, Tensor):
        if value is None or isinstance(value, _PLAIN):
            return
        raise UsageError(
            f"Example input {name} is {a_kind(value)}, not a tensor.\n"
            "Give tensors, numbers and flags, and lists, tuples and dictionaries of these; bind "
            "other arguments beforehand."
        )
    if value.is_complex():
        raise UsageError(
            f"Example input {name} is of {value.dtype}, which has no channels to follow.\n"
            "Give real numbers, such as torch.view_as_real makes of them."
        )
    if not value.numel() or (is_first and value.ndim < 1):
        raise UsageError(
            f"Example input {name} has the shape {tuple(value.shape)}: the first axis is the "
            "batch, and nothing may be empty.\nGive at least one example."
        )
    if value.isnan().any():
        raise UsageError(
            f"Example input {name} holds values that are no numbers (NaN): "
            f"{int(value.isnan().sum())} of {value.numel()}.\nGive what the network reads in use."
        )


def inputs_of(
    example_inputs: ExampleInputs | None,
    example_kwargs: Mapping[str, Any] | None,
    input_shape: InputShape | None,
) -> Inputs:
    """What a network is called with, by example or by its shape.

    Args:
        example_inputs: a tensor, or a tuple of a tensor, number or flag for each input.
        example_kwargs: likewise, those that are given by name.
        input_shape: in their place, the shape of one input, without the batch; or of each.

    Raises:
        UsageError: neither or both are given, or they cannot be used.
    """
    by_example = example_inputs is not None or example_kwargs not in (None, {})
    if by_example and input_shape is not None:
        raise UsageError("Both example inputs and an input shape are given.\nGive one of the two.")
    if input_shape is not None:
        return of_shape(input_shape)
    if not by_example:
        raise UsageError(
            "What is the network called with?\nGive example inputs, such as "
            "torch.rand(1, 3, 224, 224), or input_shape=(3, 224, 224)."
        )
    return of_examples(example_inputs, example_kwargs)
