"""Which layers a network calls, and those that no plugin owns, told of by a function's call.

A layer of a class of the user's own that returns one call of a function with its own weight, such
as a convolution that pads what it reads first, is scored and refitted as `nn.Conv2d` is; and so is
what stands for it in the written file.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from prunecore.channels.layers.linear_map import LinearMap, RunningStatistics
from prunecore.functions.rule import Operation
from prunecore.isolation.random_states import OwnDraws, kept_random_states

if TYPE_CHECKING:
    from prunecore.functions.rule import FunctionRule
    from prunecore.registry import Plugins

Functions = Mapping[Callable[..., Any], "FunctionRule"]


def layers_of(
    network: nn.Module, image: Sequence[int] | None, plugins: Plugins
) -> dict[str, LinearMap | RunningStatistics]:
    """The layers of a network that can be refitted, by path, whoever tells of them.

    Args:
        network: in eval mode; it is run once if layers may tell of themselves by what they call.
        image: the shape of its input, without the batch; where it takes others, owners alone tell.
        plugins: the loaded plugins.
    """
    told = plugins.layers(network)
    if image is None:
        return told
    with kept_random_states(), OwnDraws():
        images = _images(network, image)
        return {**told, **called_layers(network, images, plugins.functions, told)}


def calls_all(network: nn.Module, image: Sequence[int], paths: Collection[str]) -> bool:
    """True if a network calls each of some modules, and does not compute with their weights itself.

    Args:
        network: in eval mode; it is run once.
        image: the shape of its input, without the batch.
        paths: of the modules.
    """
    called: set[str] = set()
    handles = [
        network.get_submodule(path).register_forward_pre_hook(
            lambda *_, path=path: called.add(path)
        )
        for path in paths
    ]
    try:
        with torch.no_grad(), kept_random_states(), OwnDraws():
            network(_images(network, image))
    finally:
        for handle in handles:
            handle.remove()
    return len(called) == len(paths)


def _images(network: nn.Module, shape: Sequence[int]) -> Tensor:
    return next(network.parameters()).new_zeros(1, *shape)


def called_layers(
    network: nn.Module,
    image: Tensor,
    functions: Functions,
    told: Collection[str],
) -> dict[str, LinearMap]:
    """The modules that return what one call of a function with their own weight does, by path.

    Args:
        network: in eval mode; it is run once if there may be such modules.
        image: what it is called with, shape `(1, ...)`.
        functions: the rules for functions.
        told: paths of the layers that their owners tell of, and of norms; a module that is one or
            holds one is left to them.
    """
    asked = {
        path: module
        for path, module in network.named_modules()
        if isinstance(getattr(module, "weight", None), nn.Parameter)
        and not any(layer == path or layer.startswith(f"{path}.") for layer in told)
    }
    if not asked:
        return {}
    returned: dict[nn.Module, list[tuple[tuple[Any, ...], Any]]] = {}

    def note(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        returned.setdefault(module, []).append((inputs, output))

    handles = [module.register_forward_hook(note) for module in asked.values()]
    try:
        with torch.no_grad(), _Calls(functions, asked.values()) as calls:
            network(image)
    finally:
        for handle in handles:
            handle.remove()
    layers: dict[str, LinearMap] = {}
    for path, module in asked.items():
        made = [call for call in calls.made if call.layer.weight is module.weight]
        seen = returned.get(module, [])
        if len(made) == len(seen) == 1 and _is_all(module, made[0], *seen[0]):
            layers[path] = _Called(module, made[0].layer, functions)
    return layers


@dataclass(frozen=True)
class _Call:
    """A call of a function that is a linear map of what it reads.

    Attributes:
        layer: the map.
        read: what the function works on.
        result: what it returns.
    """

    layer: LinearMap
    read: Tensor
    result: Tensor


class _Calls(TorchFunctionMode):
    """Notes the calls of functions with the weights of some modules.

    Args:
        functions: the rules for functions.
        modules: the modules.
    """

    def __init__(self, functions: Functions, modules: Collection[nn.Module]) -> None:
        super().__init__()
        self.made: list[_Call] = []
        self._functions = functions
        self._weights = {id(module.weight) for module in modules}

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        """Call a function, and note what it works on and returns."""
        result = func(*args, **(kwargs or {}))
        rule = self._functions.get(func)
        if rule is not None and rule.linear_map is not None:
            operation = Operation(func, tuple(args), kwargs or {})
            layer = rule.linear_map(operation)
            if id(layer.weight) in self._weights:
                read: Any = operation.tensor
                self.made.append(_Call(layer, read, result))
        return result


def _is_all(module: nn.Module, call: _Call, inputs: tuple[Any, ...], output: Any) -> bool:
    """True if a module does no more than bring its input into place and call a function."""
    read = inputs[0] if inputs else None
    return (
        output is call.result
        and (call.layer.bias is None or call.layer.bias is getattr(module, "bias", None))
        and isinstance(read, Tensor)
        and read.ndim == call.read.ndim
        and read.shape[:2] == call.read.shape[:2]
    )


class _Called(LinearMap):
    """A module as the linear map that the function is which it calls.

    Args:
        module: the module.
        layer: the map, as of a call with some other input.
        functions: the rules for functions.
    """

    def __init__(self, module: nn.Module, layer: LinearMap, functions: Functions) -> None:
        self.weight, self.bias = layer.weight, layer.bias
        self._module, self._layer, self._functions = module, layer, functions

    def places(self, output: Tensor) -> tuple[int, ...]:
        """The function's."""
        return self._layer.places(output)

    def rows(self, input: Tensor, size: tuple[int, ...], chosen: Tensor) -> Tensor:
        """What the function reads there, of what the module makes of its input."""
        with torch.no_grad(), _Calls(self._functions, [self._module]) as calls:
            self._module.forward(input)  # not called, lest its hooks be
        call: _Call = calls.made[0]
        return call.layer.rows(call.read, size, chosen)

    def answers(self, output: Tensor, chosen: Tensor) -> Tensor:
        """The function's."""
        return self._layer.answers(output, chosen)

    def matrix(self) -> Tensor:
        """The function's."""
        return self._layer.matrix()

    def as_weight(self, matrix: Tensor) -> Tensor:
        """The function's."""
        return self._layer.as_weight(matrix)
