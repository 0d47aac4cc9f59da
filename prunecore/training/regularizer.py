"""A group lasso over coupled channels, to train with so that what is pruned later is small."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from prunecore.channels.dependencies import Dependencies
from prunecore.channels.names import is_bias
from prunecore.errors import PrunecoreError, UsageError, a_kind
from prunecore.inputs import ExampleInputs, InputShape, inputs_of
from prunecore.plugins import loading
from prunecore.tracing.stand_ins.patches import beside_others
from prunecore.walking.network import walk


class GroupLasso:
    """The penalty; `prunecore.regularizer` makes it.

    Args:
        dependencies: the network's channels.

    Attributes:
        channels: how many channels it is over: those that may go.
    """

    def __init__(self, dependencies: Dependencies) -> None:
        self.channels = int(dependencies.removable.sum())
        number = torch.full((dependencies.count + 1,), self.channels)  # the last: of what stays
        number[:-1][torch.from_numpy(dependencies.removable)] = torch.arange(self.channels)
        # a parameter, the axis that channels lie along, and the number of the channel at each place
        self._members: list[tuple[nn.Parameter, int, Tensor]] = []
        sizes = torch.zeros(self.channels + 1)
        for name, bound in dependencies.bound.items():
            tensor = dependencies.tensors[name]
            if not isinstance(tensor, nn.Parameter) or (tensor.ndim == 1 and is_bias(name)):
                continue
            for axis, index in bound.items():
                places = number[torch.from_numpy(dependencies.axes[index])]
                self._members.append((tensor, axis, places))
                each = torch.full(places.shape, tensor.numel() / len(places))
                sizes.index_add_(0, places, each)
        self._weights = sizes[:-1].sqrt()

    def __call__(self) -> Tensor:
        """The penalty of the weights as they are, a number to be added to a loss.

        Returns:
            The mean over the channels of the l2 norm of all weights that are bound to one, divided
            by the root of their number: about the size of a weight.
        """
        squares: Tensor | None = None
        for parameter, axis, places in self._members:
            others = [other for other in range(parameter.ndim) if other != axis]
            each = parameter.square().sum(others) if others else parameter.square()
            if squares is None:
                squares = each.new_zeros(self.channels + 1)
            squares = squares.index_add(0, places.to(each.device), each.to(squares))
        assert squares is not None
        norms = (squares[:-1] + torch.finfo(squares.dtype).tiny).sqrt()  # steep, not infinite, at 0
        return (norms / self._weights.to(norms)).mean()

    def __repr__(self) -> str:
        return f"GroupLasso({self.channels} channels)"


def regularizer(
    model: nn.Module,
    example_inputs: ExampleInputs | None = None,
    *,
    input_shape: InputShape | None = None,
    example_kwargs: Mapping[str, Tensor] | None = None,
    drop: Sequence[str] = (),
) -> GroupLasso:
    """A penalty for a training loop, under which whole channels become small.

    It is the group lasso of Yuan and Lin, "Model selection and estimation in regression with
    grouped variables", 2006, with all weights that are bound to a channel as a group: of what makes
    it, what reads it and the norms between, in all layers that are coupled, as in Fang et al.,
    "DepGraph: Towards Any Structural Pruning", 2023, arXiv 2301.12900.

    Args:
        model: the network that is trained; its parameters stay its own.
        example_inputs: as for `prunecore.prune`.
        input_shape: as for `prunecore.prune`.
        example_kwargs: as for `prunecore.prune`.
        drop: as for `prunecore.prune`.

    Returns:
        What is called in each step, and gives a number with a gradient.

    Raises:
        PrunecoreError: with what is wrong, where, and what to do.

    Example:
        >>> penalty = prunecore.regularizer(model, torch.rand(1, 3, 224, 224))
        >>> loss = cross_entropy(model(images), labels) + 0.1 * penalty()
    """
    if not isinstance(model, nn.Module):
        raise UsageError(
            f"The model is {a_kind(model)}, not a torch.nn.Module.\nGive the network itself."
        )
    inputs = inputs_of(example_inputs, example_kwargs, input_shape)
    with beside_others():
        dependencies = walk(model, inputs, loading.load(), drop, strict=False)
    if not dependencies.removable.any():
        raise PrunecoreError(
            "The network has no channel that may go, so that there is nothing to make small.\n"
            "See `prunecore inspect` for every layer."
        )
    return GroupLasso(dependencies)
