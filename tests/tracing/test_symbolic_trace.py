"""One level of a forward: what is seen of it, and what is said where it cannot be followed."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.nn.utils import parametrize

from prunecore import UnsupportedError
from prunecore.tracing.modules.attributes import TrainingFlag
from prunecore.tracing.symbolic_trace import trace_level


def nodes(module: nn.Module, **supplied: Any) -> list[tuple[str, str]]:
    graph = trace_level(module, "", supplied).eval
    return [(node.op, str(node.target)) for node in graph.nodes]


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(3, 3), nn.ReLU())
        self.scale = nn.Parameter(torch.rand(3))
        self.register_buffer("shift", torch.rand(3))

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x) * self.scale + self.shift


def test_children_are_leaves_and_tensors_are_attributes() -> None:
    assert nodes(Block(), x=0) == [
        ("placeholder", "x"),
        ("call_module", "inner"),
        ("get_attr", "scale"),
        ("call_function", "<built-in function mul>"),
        ("get_attr", "shift"),
        ("call_function", "<built-in function add>"),
        ("output", "output"),
    ]


def test_what_a_forward_computes_of_a_buffer_is_followed() -> None:
    class Net(Block):
        def forward(self, x: Tensor) -> Tensor:
            return x + self.shift.abs()

    assert ("call_method", "abs") in nodes(Net(), x=0)


@pytest.mark.parametrize("training", [True, False])
def test_the_training_flag_is_seen_as_off_and_known_to_be_it(training: bool) -> None:
    class Net(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            if self.training:
                x = x * 2
            return F.dropout(x, 0.5, self.training)

    net = Net().train(training)
    graph = trace_level(net, "", {"x": 0}).eval
    (dropout,) = (node for node in graph.nodes if node.op == "call_function")
    flags = [*dropout.args, *dropout.kwargs.values()]
    assert [flag for flag in flags if isinstance(flag, TrainingFlag)] == [0]
    assert net.training is training


class Many(nn.Module):
    def forward(
        self,
        x: Tensor,
        *others: Tensor,
        scale: float = 2.0,
        bias: Tensor | None = None,
        **more: Any,
    ) -> Tensor:
        for other in others:
            x = x + other
        return x * scale if bias is None else x * scale + bias


@pytest.mark.parametrize(
    ("supplied", "placeholders"),
    [
        ({"x": 0}, [("x", ())]),
        ({"x": 0, "others": (1, 2)}, [("x", ()), ("others_0", ()), ("others_1", ())]),
        ({"x": 0, "scale": 3.0}, [("x", ()), ("scale", (2.0,))]),
        ({"x": 0, "bias": 1}, [("x", ()), ("bias", (None,))]),
    ],
)
def test_only_the_arguments_that_are_given_are_inputs(
    supplied: dict[str, Any], placeholders: list[Any]
) -> None:
    graph = trace_level(Many(), "", supplied).eval
    found = [(node.target, node.args) for node in graph.nodes if node.op == "placeholder"]
    assert found == placeholders


def test_an_optional_argument_that_is_not_given_takes_its_branch() -> None:
    assert [op for op, _ in nodes(Many(), x=0)].count("call_function") == 1
    assert [op for op, _ in nodes(Many(), x=0, bias=1)].count("call_function") == 2


def test_the_module_is_not_touched() -> None:
    class Counting(Block):
        def forward(self, x: Tensor) -> Tensor:
            self.calls = getattr(self, "calls", 0) + 1
            return super().forward(x)

    block = Counting()
    before = {key: id(value) for key, value in vars(block).items()}
    trace_level(block, "", {"x": 0})
    assert {key: id(value) for key, value in vars(block).items()} == before
    assert not isinstance(block.training, TrainingFlag)


def test_a_graph_runs_as_the_forward_does() -> None:
    block = Block()
    x = torch.rand(2, 3)
    assert torch.equal(fx.GraphModule(block, trace_level(block, "", {"x": x}).eval)(x), block(x))


class Branch(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        if x.sum() > 0:
            x = x * 2
        return x


class Loop(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return sum(row for row in x)  # type: ignore[return-value]


class Convert(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * float(x.max())


class Raises(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        raise KeyError("no such thing")


class Silent(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        raise AssertionError


@pytest.mark.parametrize(
    ("cls", "line", "reason"),
    [
        (Branch, "if x.sum() > 0:", "symbolically traced variables cannot be used as inputs to"),
        (
            Loop,
            "return sum(row for row in x)  # type: ignore[return-value]",
            "it goes through the first axis of a tensor",
        ),
        (Convert, "return x * float(x.max())", "it makes a number of the batch, or of"),
        (Raises, 'raise KeyError("no such thing")', "'no such thing'"),
        (Silent, "raise AssertionError", "AssertionError"),
    ],
)
def test_what_cannot_be_followed_is_reported_with_the_line_of_the_users_file(
    cls: type[nn.Module], line: str, reason: str
) -> None:
    with pytest.raises(UnsupportedError) as caught:
        trace_level(cls(), "layer1.0", {"x": torch.empty(2, 3, device="meta")})
    lines, first = inspect.getsourcelines(cls.forward)
    number = first + next(i for i, text in enumerate(lines) if line in text)
    what, remedy = str(caught.value).split("\n")
    assert what.startswith(
        f"Cannot prune through layer1.0 ({cls.__name__}): its forward cannot be traced: {reason}"
    )
    assert what.endswith(f" ({__file__}:{number}, `{line}`).")
    assert what.count("..") == 0
    assert f"a plugin that owns {cls.__name__} (hook prunecore_calculate_dependencies)" in remedy


def test_a_recurrent_layer_without_its_plugin_says_which_to_install() -> None:
    with pytest.raises(UnsupportedError, match="pip install prunecore-recurrent"):
        trace_level(nn.GRU(3, 4), "gru", {"input": None})


def test_a_module_without_a_forward_is_said_to_have_none() -> None:
    with pytest.raises(UnsupportedError, match=r"through a \(Module\): it has no forward\."):
        trace_level(nn.Module(), "a", {"x": 0})


def test_a_computed_weight_is_refused(find: Callable[..., Any]) -> None:
    class Twice(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return 2 * x

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.rand(3))

        def forward(self, x: Tensor) -> Tensor:
            return x * self.weight

    net = Net()
    parametrize.register_parametrization(net, "weight", Twice())
    with pytest.raises(
        UnsupportedError, match=r"computed each time, not stored\.\nMake it a plain"
    ):
        find(net, (2, 3))


class InPassing(nn.Module):
    """Calls parts of a child, and layers that it makes on the way."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(3, 6), nn.Tanh(), nn.Linear(6, 6), nn.Linear(6, 2))

    def forward(self, x: Tensor) -> Tensor:
        x = nn.ReLU()(self.layers[:2](x))
        return nn.Softmax(dim=1)(self.layers[2:](x))


def test_what_a_forward_makes_in_passing_is_its_own(cut: Callable[..., Any]) -> None:
    result = cut(InPassing(), 3)
    assert "F.relu(" in result.forward
    assert "F.softmax(self.layers[3](x), dim=1)" in result.forward
    assert result.keep.dependencies.left_out == ()
    assert result.keep.dependencies.removable.any()


def test_a_layer_with_weights_that_is_made_in_passing_is_refused(find: Callable[..., Any]) -> None:
    class Fresh(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return nn.Sequential(nn.Linear(3, 3))(x)

    with pytest.raises(UnsupportedError, match="it calls a Linear that it does not hold"):
        find(Fresh(), (2, 3))


class Handing(nn.Module):
    """Gives a child the layer that it is to call."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.head = nn.Identity(), nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.inner(x, self.head)
        return y


def test_a_layer_that_is_handed_on_is_said_to_be() -> None:
    expected = r"it hands a Linear on as an argument .*\nLet the module that calls it hold it, too"
    with pytest.raises(UnsupportedError, match=expected):
        trace_level(Handing(), "", {"x": torch.empty(2, 3, device="meta")})


class Cache:
    """Keeps something for later calls."""


class Caching(Handing):
    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.inner(x, Cache())
        return y


def test_an_object_that_is_handed_on_is_said_to_be() -> None:
    expected = r"it hands a Cache on as an argument .*\nHand on tensors, .* turned off"
    with pytest.raises(UnsupportedError, match=expected):
        trace_level(Caching(), "", {"x": torch.empty(2, 3, device="meta")})
