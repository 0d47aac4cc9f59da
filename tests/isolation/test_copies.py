"""User code changes nothing that the user's network holds, whatever it does on the way."""

from __future__ import annotations

import functools
import random
import threading
import weakref
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import prunecore
from prunecore.isolation.copies import Isolation

pytestmark = pytest.mark.usefixtures("toys_installed")


@dataclass
class State:
    count: int = 0
    seen: list[Any] = field(default_factory=list)


class Net(nn.Module):
    """Layers, and something that is done on the way."""

    def __init__(self, act: Callable[..., Any]) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(3, 8), nn.Linear(8, 2)
        self.cache: list[Any] = []
        self.by_name: dict[str, Any] = {"kept": 1}
        self.nested = {"ordered": OrderedDict(a=[1]), "tuple": ([], 2)}
        self.queue: Any = deque([1], maxlen=3)
        self.names = {"a"}
        self.latest: Any = None
        self.calls = 0
        self.state = State()
        self.plain = torch.zeros(2)
        self.generator = torch.Generator()
        self.randoms = random.Random(0), np.random.default_rng(0), np.random.RandomState(0)
        self.register_buffer("steps", torch.zeros(1))
        self.act = act

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        self.act(self, x)
        return self.last(x.relu())


def append(net: Any, x: Tensor) -> None:
    net.cache.append(x)
    net.cache += [x]


def fill(net: Any, x: Tensor) -> None:
    net.by_name["x"] = x
    net.by_name.update(y=x)
    del net.by_name["kept"]


def fill_deep(net: Any, x: Tensor) -> None:
    net.nested["ordered"]["b"] = x
    net.nested["ordered"]["a"].append(x)
    net.nested["tuple"][0].append(x)


def queue(net: Any, x: Tensor) -> None:
    net.queue.append(x)
    net.names.add("b")


def assign(net: Any, x: Tensor) -> None:
    net.latest = x
    net.calls += 1
    net.new = x


def of_an_object(net: Any, x: Tensor) -> None:
    net.state.count += 1
    net.state.seen.append(x)


def of_a_child(net: Any, x: Tensor) -> None:
    net.first.latest = x
    net.last.in_features = 5


def in_place(net: Any, x: Tensor) -> None:
    net.plain += 1


def draw(net: Any, x: Tensor) -> None:
    torch.rand(1, generator=net.generator)
    net.randoms[0].random(), net.randoms[1].random(), net.randoms[2].rand()


SEEN: dict[str, Any] = {}


def to_a_global(net: Any, x: Tensor) -> None:
    SEEN["x"] = x


class ToGlobals(Net):
    def forward(self, x: Tensor) -> Tensor:
        to_a_global(self, x)
        return super().forward(x)


def fail(net: Any, x: Tensor) -> None:
    append(net, x)
    fill(net, x)
    assign(net, x)
    raise ValueError("on purpose")


def contents(value: Any, seen: dict[int, Any] | None = None) -> Any:
    """All that can be told of a value, down to its last item."""
    seen = {} if seen is None else seen
    if id(value) in seen:
        return "again"
    if isinstance(value, nn.Module | State):
        seen[id(value)] = value
        own = {name: contents(item, seen) for name, item in vars(value).items()}
        return type(value), id(value), own
    if isinstance(value, dict):
        return type(value), [(key, contents(item, seen)) for key, item in value.items()]
    if isinstance(value, list | tuple | set | deque):
        return type(value), [contents(item, seen) for item in value]
    if isinstance(value, torch.Generator):
        return value.get_state().tolist()
    if isinstance(value, Tensor):
        return id(value), value.dtype, value.tolist()
    if isinstance(value, random.Random):
        return value.getstate()
    if isinstance(value, np.random.Generator):
        return str(value.bit_generator.state)
    return str(value.get_state()) if isinstance(value, np.random.RandomState) else value


ACTS = [append, fill, fill_deep, queue, assign, of_an_object, of_a_child, in_place, draw, fail]


@pytest.mark.parametrize("verify", [True, False])
@pytest.mark.parametrize("act", ACTS)
def test_what_a_forward_does_changes_nothing_of_the_network(
    act: Callable[..., Any], verify: bool
) -> None:
    net = Net(act)
    before = contents(net)
    if act is fail:
        with pytest.raises(prunecore.UnsupportedError, match="on purpose"):
            prunecore.prune(net, level=30, input_shape=(3,), verify=verify)
    else:
        small = prunecore.prune(net, level=30, input_shape=(3,), verify=verify)
        assert "self.cache" not in small.source
    assert contents(net) == before


@pytest.mark.parametrize("net", [Net(to_a_global), ToGlobals(append)])
@pytest.mark.parametrize("verify", [True, False])
def test_what_a_forward_does_changes_no_globals(net: nn.Module, verify: bool) -> None:
    prunecore.prune(net, level=30, input_shape=(3,), verify=verify)
    assert SEEN == {}


@functools.cache
def grid(width: int) -> Tensor:
    return torch.linspace(0, 1, width)


class Cached(Net):
    """Keeps what it computes from one call to the next."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x + grid(3) + self.zeros(3))

    @functools.lru_cache(maxsize=None)  # noqa: B019, UP033
    def zeros(self, width: int) -> Tensor:
        return torch.zeros(width)


def test_what_is_cached_is_of_the_user_s_types_and_copies() -> None:
    prunecore.prune(Cached(append), level=30, input_shape=(3,))
    assert grid.cache_info().currsize == Cached.zeros.cache_info().currsize == 0
    assert grid(3).dtype is torch.float32


def closing_over(net: Any) -> Callable[..., Any]:
    seen: list[Any] = []

    def forward(x: Tensor, default: dict[str, Any] = {}) -> Any:  # noqa: B006
        seen.append(x)
        default["x"] = x
        net.latest = x
        return net, seen

    return forward


@pytest.mark.parametrize("wrap", [lambda f: f, functools.partial, lambda f: lambda x: f(x)])
def test_a_function_that_a_module_holds_sees_the_copy(wrap: Callable[..., Any]) -> None:
    net: Any = Net(append)
    function = closing_over(net)
    net.forward = wrap(function)
    copied: Any = Isolation(net).of(net)
    seen_net, seen = copied.forward(1)
    assert seen_net is copied is not net
    assert (copied.latest, net.latest) == (1, None)
    assert seen == [1]
    assert net.forward(2)[1] == [2]
    assert function.__defaults__ == ({"x": 2},)


def test_a_bound_method_is_the_copy_s() -> None:
    net: Any = Net(append)
    net.other = net.extra_repr
    net.parent = weakref.ref(net)
    copied: Any = Isolation(net).of(net)
    assert copied.other.__self__ is copied.parent() is copied


def test_what_is_no_data_is_the_same_object() -> None:
    class Logger:
        def __init__(self) -> None:
            self.lock = threading.Lock()

    net: Any = Net(append)
    net.logger, net.act = Logger(), torch.relu
    copied: Any = Isolation(net).of(net)
    assert copied.logger is net.logger
    assert copied.act is torch.relu
    assert copied.first.weight is net.first.weight
    assert copied.plain is not net.plain
    assert copied.steps is net.steps


class Helper:
    """Knows its network, and calls a part of it."""

    def __init__(self, net: Any) -> None:
        self.net, self.seen = net, []

    def __call__(self, _net: Any, x: Tensor) -> None:
        self.seen.append((self.net.first.in_features, x))


def test_an_object_that_knows_the_network_knows_the_copy() -> None:
    net: Any = Net(append)
    net.act = Helper(net)
    copied: Any = Isolation(net).of(net)
    assert copied.act.net is copied
    assert net.act.net is net
    assert prunecore.prune(net, level=30, input_shape=(3,)).report["verified"]
    assert net.act.seen == []


def test_copies_hold_other_tensors_and_hooks_where_they_are_to() -> None:
    net: Any = Net(append)
    net.weights = (net.first.weight,)
    net.first.register_forward_hook(lambda *_: None)
    doubles = {id(x): x.detach().double() for x in (*net.parameters(), *net.buffers())}
    copied: Any = Isolation(net, with_hooks=True, stored=doubles).of(net)
    assert copied.weights[0] is copied.first.weight is doubles[id(net.first.weight)]
    assert copied.steps is doubles[id(net.steps)]
    assert len(copied.first._forward_hooks) == 1
    assert not Isolation(net).of(net).first._forward_hooks


def test_only_some_modules_are_copied() -> None:
    net: Any = Net(append)
    copied: Any = Isolation(net, only=[net, net.last]).of(net)
    assert copied.first is net.first
    assert copied.last is not net.last
