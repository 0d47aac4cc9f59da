"""What a network is called with: example inputs or their shapes, and random ones like them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from prunecore.errors import InputShapeError, UsageError, check_kind
from prunecore.escaping import shown_value

# The shape of one input without the batch; of a network with several inputs, the shapes of each.
InputShape: TypeAlias = Sequence[int] | Sequence[Sequence[int]]

# What the network is called with, as torch.export takes it: a tensor, or a tuple of tensors.
ExampleInputs: TypeAlias = Tensor | tuple[Tensor, ...]

Arguments: TypeAlias = tuple[list[Tensor], dict[str, Tensor]]  # by place and by name

BATCH = 2  # of the walk: a batch size that the forward bakes in does not go unnoticed

_PLACES = 3 * 224 * 224  # input values to verify with: small inputs come several at a time
_MOST_INPUTS = 8

_MOST_AXES = 15  # of an input; numpy's arrays, as of its channels' ids, have 32 at least
_MOST_VALUES = 2**30  # of an input: 8 GiB in the float64 of verification


@dataclass(frozen=True)
class Inputs:
    """What a network is called with.

    Attributes:
        args: a tensor for each input, with the batch; on the meta device where only the shape is
            known.
        kwargs: likewise, those that are given by name.
    """

    args: tuple[Tensor, ...]
    kwargs: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """The shape of each input without the batch, those given by name last."""
        return tuple(tuple(tensor.shape[1:]) for tensor in self._all)

    @property
    def are_examples(self) -> bool:
        """True if they have values."""
        return not any(tensor.is_meta for tensor in self._all)

    @property
    def _all(self) -> tuple[Tensor, ...]:
        return (*self.args, *self.kwargs.values())

    def as_dict(self) -> dict[str, Any]:
        """The shapes without the batch, by place and by name, ready for JSON."""
        rows = [list(shape) for shape in self.shapes]
        by_place = len(self.args)
        return {
            "shapes": rows[:by_place],
            "named": dict(zip(self.kwargs, rows[by_place:], strict=True)),
        }

    @classmethod
    def from_dict(cls, shapes: Mapping[str, Any]) -> Inputs:
        """Inputs of the shapes that `as_dict` gave.

        Raises:
            InputShapeError: one is too large.
        """
        args = tuple(of_shape(shape).args[0] for shape in shapes["shapes"])
        return cls(args, {name: of_shape(row).args[0] for name, row in shapes["named"].items()})

    def on_meta(self, batch: int) -> Arguments:
        """Inputs of these shapes that have no storage; whole numbers are of their own type."""
        return self._like(
            [
                torch.empty(
                    (batch, *tensor.shape[1:]),
                    dtype=torch.float32 if tensor.is_floating_point() else tensor.dtype,
                    device="meta",
                )
                for tensor in self._all
            ]
        )

    def samples(self, model: nn.Module, least: int = 1) -> Arguments:
        """Inputs to try a network on, the same each time, in float64 and where the network is.

        Half of them are the examples; the others are drawn evenly between an example's smallest
        and largest value. Where there are no examples, or one is constant, as zeros are, which
        would hide what is wrong, all numbers with a fraction are drawn from a normal distribution.
        Whole numbers, such as tokens, keep their type and stay within those of the example.

        Args:
            model: the network.
            least: how large the batch is at least.

        Returns:
            Tensors of shape `(batch, *shape)`, with a batch of 1 to 8.
        """
        device = next((p.device for p in model.parameters()), torch.device("cpu"))
        device = torch.device("cpu") if device.type == "mps" else device  # has no float64
        places = sum(int(torch.Size(shape).numel()) for shape in self.shapes)
        count = max(least, min(_MOST_INPUTS, _PLACES // places))
        generator = torch.Generator().manual_seed(0)
        drawn = [
            torch.randn(count, *shape, dtype=torch.float64, generator=generator)
            for shape in self.shapes
        ]
        fractions = [tensor for tensor in self._all if tensor.is_floating_point()]
        if self.are_examples:
            is_usable = not any(map(_is_constant, fractions))
            given = min(len(self._all[0]), (count + 1) // 2) if is_usable else 0
            drawn = [
                _like_example(tensor, noise, given)
                if is_usable or not tensor.is_floating_point()
                else noise
                for tensor, noise in zip(self._all, drawn, strict=True)
            ]
        return self._like([tensor.to(device) for tensor in drawn])

    def example(self, model: nn.Module) -> Arguments:
        """What a network is called with once, in its own dtype and where it is.

        Args:
            model: the network.

        Returns:
            The examples; where only shapes are known, one input, the same each time.
        """
        like = next((p for p in model.parameters() if p.is_floating_point()), torch.empty(0))
        generator = torch.Generator().manual_seed(0)
        row = [
            torch.randn(tensor.shape, generator=generator) if tensor.is_meta else tensor.detach()
            for tensor in self._all
        ]
        return self._like(
            [
                tensor.to(like.device, like.dtype if tensor.is_floating_point() else tensor.dtype)
                for tensor in row
            ]
        )

    def _like(self, row: list[Tensor]) -> Arguments:
        """Tensors in the order of `shapes`, by place and by name."""
        by_place = len(self.args)
        named = dict(zip(self.kwargs, row[by_place:], strict=True))
        return row[:by_place], named


def tensors(arguments: Arguments) -> list[Tensor]:
    """All tensors that a network is called with, those given by name last."""
    return [*arguments[0], *arguments[1].values()]


def _is_constant(tensor: Tensor) -> bool:
    return bool((tensor == tensor.flatten()[0]).all())


def _like_example(example: Tensor, noise: Tensor, given: int) -> Tensor:
    """The first examples, and values spread evenly between the smallest and the largest of all.

    Args:
        example: the examples, the batch first.
        noise: from a normal distribution, of the shape that is returned.
        given: how many of the examples.
    """
    example = example.detach().cpu()
    low, high = (float(bound) for bound in example.double().aminmax())
    even = torch.special.ndtr(noise[given:])
    if example.is_floating_point():
        return torch.cat([example[:given].double(), low + (high - low) * even])
    whole = (low + (high - low + 1) * even).floor().clamp(low, high)
    return torch.cat([example[:given], whole.to(example.dtype)])


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
    shapes = rows or [sizes]
    check_sizes(shapes)
    return Inputs(tuple(torch.empty((1, *shape), device="meta") for shape in shapes))


def check_sizes(shapes: Sequence[Sequence[int]]) -> None:
    """Refuse inputs that no walk and no proof has room for.

    Args:
        shapes: of each input, without the batch.

    Raises:
        InputShapeError: one is too large.
    """
    for shape in shapes:
        if len(shape) > _MOST_AXES or math.prod(shape) > _MOST_VALUES:
            raise InputShapeError(
                f"An input of the shape {shown_value(tuple(shape))} is too large: it may have "
                f"{_MOST_AXES} axes and {_MOST_VALUES:,} values.\n"
                "Give the shape of one input, without the batch (--input-shape)."
            )


def of_examples(
    example_inputs: ExampleInputs | None, example_kwargs: Mapping[str, Tensor] | None = None
) -> Inputs:
    """The inputs of a network by example.

    Args:
        example_inputs: a tensor, or a tuple of a tensor for each input, with the batch first.
        example_kwargs: likewise, those that are given by name.

    Raises:
        UsageError: one is no tensor of real numbers, is empty or has no batch, or the batches
            differ.
    """
    args = (example_inputs,) if isinstance(example_inputs, Tensor) else example_inputs
    args = () if args is None else args
    if not isinstance(args, tuple | list):
        raise UsageError(
            f"example_inputs is a {type(args).__name__}, not a tensor or a tuple of tensors.\n"
            "Give what the network is called with, such as torch.rand(1, 3, 224, 224)."
        )
    named_inputs = {} if example_kwargs is None else example_kwargs
    check_kind("example_kwargs", named_inputs, Mapping, "Give tensors by name: {'mask': mask}.")
    inputs = Inputs(tuple(args), dict(named_inputs))
    named: list[tuple[str, Any]] = [(f"{i}", tensor) for i, tensor in enumerate(inputs.args)]
    named += [(repr(name), tensor) for name, tensor in inputs.kwargs.items()]
    if not named:
        raise UsageError(
            "There are no example inputs.\n"
            "Give what the network is called with, such as torch.rand(1, 3, 224, 224)."
        )
    for name, tensor in named:
        _check_example(name, tensor)
    batches = {len(tensor) for _, tensor in named}
    if len(batches) > 1:
        raise UsageError(
            f"The example inputs have batches of {', '.join(map(str, sorted(batches)))}.\n"
            "Give the same batch, along the first axis, to all of them."
        )
    return inputs


def _check_example(name: str, tensor: Any) -> None:
    if not isinstance(tensor, Tensor):
        raise UsageError(
            f"Example input {name} is a {type(tensor).__name__}, not a tensor.\n"
            "Give tensors alone; bind other arguments beforehand."
        )
    if tensor.is_complex():
        raise UsageError(
            f"Example input {name} is of {tensor.dtype}, which has no channels to follow.\n"
            "Give real numbers, such as torch.view_as_real makes of them."
        )
    if tensor.ndim < 1 or not tensor.numel():
        raise UsageError(
            f"Example input {name} has the shape {tuple(tensor.shape)}: the first axis is the "
            "batch, and nothing may be empty.\nGive at least one example."
        )
    if tensor.isnan().any():
        raise UsageError(
            f"Example input {name} holds values that are no numbers (NaN): "
            f"{int(tensor.isnan().sum())} of {tensor.numel()}.\nGive what the network reads in use."
        )


def inputs_of(
    example_inputs: ExampleInputs | None,
    example_kwargs: Mapping[str, Tensor] | None,
    input_shape: InputShape | None,
) -> Inputs:
    """What a network is called with, by example or by its shape.

    Args:
        example_inputs: a tensor, or a tuple of a tensor for each input, with the batch first.
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
