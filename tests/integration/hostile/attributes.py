"""Small networks that hold a name as an attribute: of a layer, weight, buffer or number."""

from __future__ import annotations

from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .nets import Net


def child(name: str) -> nn.Module:
    """A layer as an attribute."""

    class Net2(Net):
        def between(self, x: Tensor) -> Tensor:
            return F.relu(getattr(self, name)(x))

    net = Net2()
    net.add_module(name, nn.Linear(8, 8))
    return net


def unchecked_child(name: str) -> nn.Module:
    """A layer under a name that torch itself would not take."""

    class Net2(Net):
        def between(self, x: Tensor) -> Tensor:
            return F.relu(self._modules[name](x))  # type: ignore[misc]

    net = Net2()
    net._modules[name] = nn.Linear(8, 8)
    return net


def assigned_child(name: str) -> nn.Module:
    """A layer that is assigned, which hides nothing of what its class has."""
    net = Net()
    setattr(net, name, nn.Linear(8, 8))
    return net


def grandchild(name: str) -> nn.Module:
    """A layer in an attribute of a module that is written as a class of its own."""

    class Inner(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return F.relu(getattr(self, name)(x)) + x

    class Net2(Net):
        def __init__(self) -> None:
            super().__init__()
            self.inner = Inner()
            self.inner.add_module(name, nn.Linear(8, 8))

        def between(self, x: Tensor) -> Tensor:
            return self.inner(x)

    return Net2()


def outer(name: str) -> nn.Module:
    """A module that holds a layer, which the network's forward reaches through it."""

    class Inner(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(8, 8)

    class Net2(Net):
        def between(self, x: Tensor) -> Tensor:
            return F.relu(getattr(self, name).layer(x))

    net = Net2()
    net.add_module(name, Inner())
    return net


def dictionary(name: str) -> nn.Module:
    """A key of a dictionary of layers."""

    class Net2(Net):
        def __init__(self) -> None:
            super().__init__()
            self.heads = nn.ModuleDict({name: nn.Linear(8, 8), "other": nn.Linear(8, 8)})

        def between(self, x: Tensor) -> Tensor:
            return self.heads[name](x) + self.heads["other"](x)

    return Net2()


def looped_dictionary(name: str) -> nn.Module:
    """Keys of a dictionary of layers that a forward goes through."""

    class Net2(Net):
        def __init__(self) -> None:
            super().__init__()
            keys = (name, f"{name}2", f"{name}3", "other")
            self.heads = nn.ModuleDict({key: nn.Linear(8, 8) for key in keys})

        def between(self, x: Tensor) -> Tensor:
            for head in self.heads.values():
                x = F.relu(head(x))
            return x

    return Net2()


def returned_dictionary(name: str) -> nn.Module:
    """A key of a dictionary of layers, and of what the network returns."""

    class Net2(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Linear(6, 8)
            self.heads = nn.ModuleDict({name: nn.Linear(8, 4), "other": nn.Linear(8, 3)})

        def forward(self, x: Tensor) -> dict[str, Tensor]:
            x = F.relu(self.first(x))
            return {key: head(x) for key, head in self.heads.items()}

    return Net2()


class Heads(nn.ModuleDict):
    """A dictionary of layers with a forward of its own."""

    def forward(self, x: Tensor) -> Tensor:
        for head in self.values():
            x = F.relu(head(x))
        return x


def derived_dictionary(name: str) -> nn.Module:
    """Keys of dictionaries that differ in how many layers they have."""

    class Net2(Net):
        def __init__(self) -> None:
            super().__init__()
            self.one = Heads({f"{name}{n}": nn.Linear(8, 8) for n in range(2)})
            self.other = Heads({f"{name}{n}": nn.Linear(8, 8) for n in range(3)})

        def between(self, x: Tensor) -> Tensor:
            return self.other(self.one(x))

    return Net2()


def differing_dictionary(name: str) -> nn.Module:
    """A key of a dictionary of layers that its class's other instance has not."""

    class Net2(Net):
        def __init__(self) -> None:
            super().__init__()
            self.one = Heads({name: nn.Linear(8, 8), "b": nn.Linear(8, 8)})
            self.other = Heads({"c": nn.Linear(8, 8), "d": nn.Linear(8, 8)})

        def between(self, x: Tensor) -> Tensor:
            return self.other(self.one(x))

    return Net2()


def looped(name: str) -> nn.Module:
    """A list of layers that a forward goes through: what is one of them called?"""

    class Net2(Net):
        def between(self, x: Tensor) -> Tensor:
            outputs = []
            for layer in getattr(self, f"{name}s"):
                x = F.relu(layer(x))
                outputs.append(x)
            return x + torch.cat(outputs, 1).unflatten(1, (3, 8)).sum(1)

    net = Net2()
    net.add_module(f"{name}s", nn.ModuleList([nn.Linear(8, 8) for _ in range(3)]))
    return net


def listed(name: str) -> nn.Module:
    """A layer of a list."""

    class Net2(Net):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleList([nn.Linear(8, 8)])
            self.layers.add_module(name, nn.Linear(8, 8))

        def between(self, x: Tensor) -> Tensor:
            for layer in self.layers.children():
                x = F.relu(layer(x))
            return x

    return Net2()


def row(name: str) -> nn.Module:
    """A layer of a named nn.Sequential."""

    class Net2(Net):
        def __init__(self) -> None:
            super().__init__()
            layers = [("a", nn.Linear(8, 8)), (name, nn.ReLU()), ("c", nn.Linear(8, 8))]
            self.body = nn.Sequential(OrderedDict(layers))

        def between(self, x: Tensor) -> Tensor:
            return self.body(x)

    return Net2()


def in_row(name: str) -> nn.Module:
    """A layer of a named nn.Sequential that a forward calls by itself."""

    class Net2(Net):
        def __init__(self) -> None:
            super().__init__()
            layers = [(name, nn.Linear(8, 8)), ("c", nn.Linear(8, 8))]
            self.body = nn.Sequential(OrderedDict(layers))

        def between(self, x: Tensor) -> Tensor:
            return self.body.c(F.relu(getattr(self.body, name)(x)))

    return Net2()


class Row(nn.Sequential):
    """Layers of a name of their own."""


def derived_row(name: str) -> nn.Module:
    """A layer of two containers that derive from nn.Sequential."""

    class Net2(Net):
        def __init__(self) -> None:
            super().__init__()
            for key in ("one", "two", "three"):
                layers = [(name, nn.Linear(8, 8)), ("norm", nn.BatchNorm1d(8)), ("act", nn.ReLU())]
                self.add_module(key, Row(OrderedDict(layers)))

        def between(self, x: Tensor) -> Tensor:
            return self.three(self.two(self.one(x)))

    return Net2()


def parameter(name: str) -> nn.Module:
    """A weight of the network's own."""

    class Net2(Net):
        def between(self, x: Tensor) -> Tensor:
            return x * getattr(self, name)

    net = Net2()
    net.register_parameter(name, nn.Parameter(torch.rand(8) + 0.5))
    return net


def buffer(name: str) -> nn.Module:
    """A buffer that is part of the state dict."""

    class Net2(Net):
        def between(self, x: Tensor) -> Tensor:
            return x * getattr(self, name)

    net = Net2()
    net.register_buffer(name, torch.rand(8) + 0.5)
    return net


def constant_buffer(name: str) -> nn.Module:
    """A buffer that is not part of the state dict."""

    class Net2(Net):
        def between(self, x: Tensor) -> Tensor:
            return x * getattr(self, name)

    net = Net2()
    net.register_buffer(name, torch.tensor(0.5), persistent=False)
    return net


def parameters(name: str) -> nn.Module:
    """A key of a dictionary of parameters."""

    class Net2(Net):
        def __init__(self) -> None:
            super().__init__()
            weights = {name: torch.rand(8) + 0.5, "other": torch.rand(8) + 0.5}
            self.scales = nn.ParameterDict({key: nn.Parameter(w) for key, w in weights.items()})

        def between(self, x: Tensor) -> Tensor:
            return x * self.scales[name] * self.scales["other"]

    return Net2()


def tied(name: str) -> nn.Module:
    """Two names of one layer, and two of one weight."""

    class Net2(Net):
        def between(self, x: Tensor) -> Tensor:
            return getattr(self, name)(F.relu(self.one(x))) + self.other(x)

    net = Net2()
    net.one = nn.Linear(8, 8)
    net.add_module(name, net.one)
    net.other = nn.Linear(8, 8)
    net.other.weight = net.one.weight
    return net


def number(name: str) -> nn.Module:
    """A number that a forward reads off its module."""

    class Net2(Net):
        def between(self, x: Tensor) -> Tensor:
            return x * getattr(self, name)

    net = Net2()
    setattr(net, name, 0.5)
    return net


def _block(name: str, out: int, optional: bool) -> nn.Module:
    class Block(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            out = F.relu(getattr(self, name)(x))
            return out if self._modules[f"{name}2"] is None else getattr(self, f"{name}2")(out)

    block = Block()
    block.add_module(name, nn.Linear(8, out))
    block.add_module(f"{name}2", nn.Linear(out, 8) if optional else None)
    return block


def differing(name: str) -> nn.Module:
    """Layers of instances that differ, so that they are arguments of one class."""
    block = type(_block(name, 8, False))

    class Net2(Net):
        def __init__(self) -> None:
            super().__init__()
            for key, width, optional in (("one", 8, False), ("two", 5, True), ("three", 7, True)):
                made = _block(name, width, optional)
                made.__class__ = block
                self.add_module(key, made)

        def between(self, x: Tensor) -> Tensor:
            return self.three(self.two(self.one(x)))

    return Net2()


def differing_kind(name: str) -> nn.Module:
    """A layer that is of another class in each instance, and a number that is another one."""

    class Block(nn.Module):
        def __init__(self, layer: nn.Module, eps: float) -> None:
            super().__init__()
            self.add_module(name, layer)
            setattr(self, f"{name}_", eps)

        def forward(self, x: Tensor) -> Tensor:
            return getattr(self, name)(x) * getattr(self, f"{name}_")

    class Net2(Net):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.other = Block(nn.ReLU(), 0.5), Block(nn.Tanh(), 0.7)

        def between(self, x: Tensor) -> Tensor:
            return self.other(self.one(x))

    return Net2()
