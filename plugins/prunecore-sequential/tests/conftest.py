"""What the tests share: walking a network, and cutting it at random against its masked self."""

from __future__ import annotations

import copy
import functools
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from prunecore.channels.dependencies import Dependencies
from prunecore.channels.keep import Keep
from prunecore.planning.cost import Counter
from prunecore.plugins.loading import load
from prunecore.registry import Plugins
from prunecore.walking.network import find_dependencies
from prunecore.writing.instances import resolved
from prunecore.writing.text import render
from prunecore.writing.writer import Writer

WORDS = {"nn": nn, "OrderedDict": OrderedDict, "torch": torch}


@dataclass
class Cut:
    """A network with some channels gone, as the plugin writes it."""

    text: str
    model: nn.Module
    keep: Keep


Find = Callable[..., Dependencies]
CutAtRandom = Callable[..., Cut]


@pytest.fixture(scope="session")
def plugins() -> Plugins:
    return load()


@pytest.fixture(scope="session")
def find(plugins: Plugins) -> Find:
    """Walk a network: `find(model, shape, ...)` with the batch in the shapes."""

    def walk(model: nn.Module, *shapes: tuple[int, ...]) -> Dependencies:
        inputs = [torch.empty(shape, device="meta") for shape in shapes]
        return find_dependencies(model, inputs, plugins)

    return walk


@pytest.fixture(scope="session")
def cut(find: Find, plugins: Plugins) -> CutAtRandom:
    """Remove channels at random, and check the written network against the masked original."""

    def check(model: nn.Module, shape: tuple[int, ...], seed: int = 0, share: float = 0.5) -> Cut:
        model = randomised(model)
        dependencies = find(model, shape)
        kept = random_choice(dependencies, seed, share)
        keep = Keep(model, dependencies, kept)
        text = render(resolved(Writer(model, keep, plugins).child(model, ""), {}))
        small = eval(text, dict(WORDS)).double().eval()
        small.load_state_dict(
            {name: keep.cut(tensor) for name, tensor in model.state_dict(keep_vars=True).items()}
        )
        check_outputs(masked(model, keep), small, shape)
        check_counts(dependencies, kept, small, shape)
        return Cut(text, small, keep)

    return check


def randomised(model: nn.Module) -> nn.Module:
    """The model in float64, with no weight or statistic that a mistake could hide behind."""
    model = copy.deepcopy(model).double().eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for tensor in [*model.parameters(), *model.buffers()]:
            if tensor.is_floating_point():
                tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.1)
                tensor.mul_(torch.rand(tensor.shape, generator=generator).sub(0.3).sign())
        for name, tensor in model.named_buffers():
            if name.endswith("running_var"):
                tensor.abs_()
    return model


def random_choice(dependencies: Dependencies, seed: int, share: float) -> NDArray[np.bool_]:
    """Removable channels, each gone with a probability, but none of the axes empty."""
    random = np.random.default_rng(seed)
    kept = ~dependencies.removable | (random.random(dependencies.count) >= share)
    for axis in dependencies.axes:
        if not np.append(kept, True)[axis].any():
            kept[axis[0]] = True
    return kept


def masked(model: nn.Module, keep: Keep) -> nn.Module:
    """The original with zeros wherever the small network has nothing."""
    model = copy.deepcopy(model)
    tensors = dict([*model.named_parameters(), *model.named_buffers()])
    with torch.no_grad():
        for name, bound in keep.dependencies.bound.items():
            for axis, index in bound.items():
                gone = np.setdiff1d(np.arange(tensors[name].shape[axis]), keep.place(index))
                tensors[name].index_fill_(axis, torch.from_numpy(gone), 0)
    for path, (index, forward) in keep.dependencies.masked_forwards.items():
        module: Any = model.get_submodule(path)
        module.forward = functools.partial(forward, module, torch.from_numpy(keep.place(index)))
    return model


def check_outputs(reference: nn.Module, small: nn.Module, shape: tuple[int, ...]) -> None:
    x = torch.rand(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2)) - 0.4
    with torch.no_grad():
        torch.manual_seed(3)  # fractional pooling draws its places
        expected = reference(x)
        torch.manual_seed(3)
        actual = small(x)
    assert actual.shape == expected.shape
    assert torch.isfinite(expected).all()
    assert expected.abs().max() > 1e-6
    torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-9 * float(expected.abs().max()))


def check_counts(
    dependencies: Dependencies, kept: NDArray[np.bool_], small: nn.Module, shape: tuple[int, ...]
) -> None:
    cost = Counter(dependencies).cost(kept)
    assert cost.params == sum(parameter.numel() for parameter in small.parameters())
    assert cost.macs == macs(small, shape)


def macs(model: nn.Module, shape: tuple[int, ...]) -> int:
    """The multiply-accumulates of one input, counted while the network runs."""
    counted = []

    def count(module: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        if isinstance(module, nn.Linear):
            places = inputs[0].numel() // inputs[0].shape[0]
            counted.append(places * module.out_features)
        elif "Transpose" in type(module).__name__:
            places = inputs[0][0].numel() // module.in_channels
            counted.append(places * module.weight.numel())
        else:
            places = output[0].numel() // module.out_channels
            counted.append(places * module.weight.numel())

    for module in model.modules():
        if type(module).__name__.startswith(("Conv", "Linear")):
            module.register_forward_hook(count)
    with torch.no_grad():
        model(torch.zeros(shape, dtype=torch.float64))
    return sum(counted)
