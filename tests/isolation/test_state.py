"""What user code does to the objects that it runs on is undone."""

from __future__ import annotations

import functools
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from prunecore.isolation.state import kept_state

from .test_copies import ACTS, Net, append, contents, fail

SEEN: list[Any] = [1]
BY_NAME: dict[str, Any] = {"a": [2]}


def helper() -> None:
    SEEN.append(2)
    vars(helper)["calls"] = 1


def to_globals() -> None:
    helper()
    BY_NAME["a"].append(3)
    BY_NAME["b"] = 4


def test_containers_that_functions_name_are_put_back() -> None:
    with kept_state(to_globals):
        to_globals()
        assert (SEEN, BY_NAME) == ([1, 2], {"a": [2, 3], "b": 4})
    assert vars(helper) == {}
    assert (SEEN, BY_NAME) == ([1], {"a": [2]})


def closing() -> tuple[Callable[[], None], Callable[[], Any]]:
    count, seen = 0, [1]
    late: Any

    def function(*, default: list[Any] = [0]) -> None:  # noqa: B006
        nonlocal count, late
        count, late = count + 1, 5
        seen.append(count)
        default.append(count)

    def told() -> Any:
        cells = function.__closure__ or ()
        return count, seen, len(cells), (function.__kwdefaults__ or {})["default"]

    return function, told


@pytest.mark.parametrize("wrap", [lambda f: f, functools.partial])
def test_variables_that_functions_close_over_are_put_back(wrap: Callable[..., Any]) -> None:
    function, told = closing()
    called = wrap(function)
    with kept_state(called):
        called()
        assert told() == (1, [1, 1], 3, [0, 1])
    assert told() == (0, [1], 3, [0])
    late = dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=True))["late"]
    with pytest.raises(ValueError, match="empty"):
        late.cell_contents  # noqa: B018


class Recorder:
    """What hooks belong to: an object of a class of the user's."""

    def __init__(self, net: nn.Module) -> None:
        self.net, self.calls = net, 0
        self.features: list[Any] = []
        self.inner = type("Inner", (), {})()
        self.inner.seen = deque([1])

    def hook(self, *given: Any) -> None:
        self.calls += 1
        self.latest = given
        self.features.append(given)
        self.inner.seen.append(2)
        self.net.latest = given

    __call__ = hook


@pytest.mark.parametrize("bound", [lambda recorder: recorder.hook, lambda recorder: recorder])
def test_what_owns_a_function_is_put_back(bound: Callable[..., Any]) -> None:
    recorder = Recorder(Net(append))
    with kept_state(bound(recorder)):
        bound(recorder)(1)
        assert recorder.calls == 1
    assert (recorder.calls, recorder.features, recorder.inner.seen) == (0, [], deque([1]))
    assert not hasattr(recorder, "latest")
    assert recorder.net.latest is None


@pytest.mark.parametrize("act", ACTS)
def test_what_a_forward_does_to_its_own_module_is_put_back(act: Callable[..., Any]) -> None:
    net = Net(act)
    before = contents(net)
    with kept_state(net):
        if act is fail:
            with pytest.raises(ValueError, match="on purpose"):
                net(torch.rand(1, 3))
        else:
            net(torch.rand(1, 3))
        assert contents(net) != before
    assert contents(net) == before


CONTAINERS: list[tuple[Any, Callable[[Any], Any]]] = [
    (OrderedDict(a=1, b=2), lambda d: d.move_to_end("a")),
    (OrderedDict(a=1), lambda d: d.popitem()),
    (defaultdict(list, a=1), lambda d: d["b"]),
    ([1, 2], lambda v: v.reverse()),
    ({1, 2}, lambda v: v.pop()),
    (deque([1, 2], maxlen=2), lambda v: v.append(3)),
    ({"a": [1]}, lambda d: d["a"].clear()),
]


@pytest.mark.parametrize(("container", "change"), CONTAINERS)
def test_every_kind_of_container_is_put_back(container: Any, change: Callable[[Any], Any]) -> None:
    text = repr(container)
    with kept_state(container):
        change(container)
        assert repr(container) != text
    assert repr(container) == text


def test_parameters_that_are_written_to_are_put_back() -> None:
    net = nn.Sequential(nn.Embedding(4, 3, max_norm=0.1), nn.Linear(3, 2))
    before = contents(net)
    with kept_state(net), torch.no_grad():
        net(torch.tensor([1, 2]))
        net[1].bias.view(-1)[0] = 7
        torch.add(net[1].weight, 1, out=net[1].weight)
        assert contents(net) != before
    assert contents(net) == before


def test_a_tensor_of_another_size_is_put_back() -> None:
    def resized(tensor: Tensor) -> None:
        tensor.resize_(5)

    net = Net(append)
    with kept_state(net):
        resized(net.plain)
    assert net.plain.tolist() == [0, 0]


def test_what_has_not_changed_is_not_touched() -> None:
    net = nn.BatchNorm1d(3)
    versions = [tensor._version for tensor in (*net.parameters(), *net.buffers())]
    with kept_state(net), torch.no_grad():
        net.eval()(torch.rand(2, 3))
    assert net.training
    assert versions == [tensor._version for tensor in (*net.parameters(), *net.buffers())]
