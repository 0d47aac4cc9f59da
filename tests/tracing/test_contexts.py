"""What a forward computes under: gradients and autocast, written back as they stand."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from prunecore import UnsupportedError


class Net(nn.Module):
    """Layers, a list of layers among them, and a forward that is given."""

    def __init__(self, run: Callable[[Any, Tensor], Tensor]) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 6, 1), nn.Conv2d(6, 2, 1)
        self.steps = nn.ModuleList(nn.Conv2d(6, 6, 1) for _ in range(3))
        self.under = torch.autocast("cpu", enabled=False)
        self.run = run

    def forward(self, x: Tensor) -> Tensor:
        return self.run(self, x)


def around_a_layer(net: Net, x: Tensor) -> Tensor:
    with torch.no_grad():
        x = net.first(x)
    return net.last(x)


def one_after_the_other(net: Net, x: Tensor) -> Tensor:
    with torch.no_grad():
        x = net.first(x)
    with torch.no_grad():
        y = x * 2
    return net.last(x + y)


def one_in_the_other(net: Net, x: Tensor) -> Tensor:
    with torch.no_grad():
        x = net.first(x)
        with torch.enable_grad():
            y = x * 2
        x = x * y
    return net.last(x)


def at_the_end(net: Net, x: Tensor) -> Tensor:
    x = net.first(x)
    with torch.inference_mode():
        return net.last(x)


def around_a_loop(net: Net, x: Tensor) -> Tensor:
    x = net.first(x)
    with torch.no_grad():
        for step in net.steps:
            x = torch.relu(step(x))
    return net.last(x)


def in_a_loop(net: Net, x: Tensor) -> Tensor:
    x = net.first(x)
    for step in net.steps:
        with torch.no_grad():
            y = step(x)
        x = x + y
    return net.last(x)


def in_part_of_a_loop(net: Net, x: Tensor) -> Tensor:
    x = net.first(x)
    with torch.no_grad():
        x = net.steps[0](x)
        x = net.steps[1](x)
    return net.last(net.steps[2](x))


def for_training(net: Net, x: Tensor) -> Tensor:
    with torch.set_grad_enabled(net.training):
        x = net.first(x)
    return net.last(x)


def in_eval_alone(net: Net, x: Tensor) -> Tensor:
    with contextlib.nullcontext() if net.training else torch.no_grad():
        x = net.first(x)
    return net.last(x)


def within_a_branch(net: Net, x: Tensor) -> Tensor:
    with torch.no_grad():
        x = net.first(x)
        if net.training:
            x = x * 2
    return net.last(x)


def with_autocast(net: Net, x: Tensor) -> Tensor:
    with torch.autocast("cuda"):
        x = net.first(x)
    with torch.autocast(device_type="cuda", dtype=torch.bfloat16, cache_enabled=False):
        x = x * 2
    with torch.amp.autocast("cpu", torch.float16, enabled=False):
        x = x * 3
    with net.under:
        x = x * 4
    return net.last(x)


FIRST, LAST = "x = self.first(x)\n", "return self.last(x)"
NO = "with torch.no_grad():\n"
WRITTEN = [
    (around_a_layer, f"{NO}    {FIRST}{LAST}"),
    (one_after_the_other, f"{NO}    {FIRST}{NO}    y = x * 2\nreturn self.last(x + y)"),
    (
        one_in_the_other,
        f"{NO}    {FIRST}    with torch.enable_grad():\n        y = x * 2\n    x = x * y\n{LAST}",
    ),
    (at_the_end, f"{FIRST}with torch.inference_mode():\n    x = self.last(x)\nreturn x"),
    (
        around_a_loop,
        f"{FIRST}{NO}    for step in self.steps:\n        x = torch.relu(step(x))\n{LAST}",
    ),
    (
        in_a_loop,
        f"{FIRST}for step in self.steps:\n    {NO}        y = step(x)\n    x = x + y\n{LAST}",
    ),
    (
        in_part_of_a_loop,
        f"{FIRST}{NO}    x = self.steps[0](x)\n    x = self.steps[1](x)\n"
        f"x = self.steps[2](x)\n{LAST}",
    ),
    (for_training, f"with torch.set_grad_enabled(self.training):\n    {FIRST}{LAST}"),
    (
        in_eval_alone,
        "if self.training:\n    out = self.first(x)\n"
        f"else:\n    {NO}        {FIRST}    out = x\nreturn self.last(out)",
    ),
    (
        within_a_branch,
        f"{NO}    {FIRST}    if self.training:\n        x = x * 2\n{LAST}",
    ),
    (
        with_autocast,
        f'with torch.autocast("cuda"):\n    {FIRST}'
        'with torch.autocast("cuda", dtype=torch.bfloat16, cache_enabled=False):\n    x = x * 2\n'
        'with torch.autocast("cpu", dtype=torch.float16, enabled=False):\n    x = x * 3\n'
        f'with torch.autocast("cpu", enabled=False):\n    x = x * 4\n{LAST}',
    ),
]


@pytest.mark.filterwarnings("ignore:.*CUDA is not available")
@pytest.mark.parametrize(("run", "text"), WRITTEN, ids=[run.__name__ for run, _ in WRITTEN])
def test_what_is_computed_under_something_is_written_so(
    cut: Callable[..., Any], run: Callable[[Any, Tensor], Tensor], text: str
) -> None:
    assert cut(Net(run), 3, 4, 4).forward == text


def test_a_decorated_forward(cut: Callable[..., Any]) -> None:
    class Decorated(Net):
        @torch.no_grad()
        def forward(self, x: Tensor) -> Tensor:
            return self.last(self.first(x))

    result = cut(Decorated(around_a_layer), 3, 4, 4)
    assert result.forward == f"{NO}    {FIRST}    x = self.last(x)\nreturn x"


@torch.autocast("cuda", enabled=False)
def doubled(x: Tensor) -> Tensor:
    return x * 2


def test_a_function_that_an_autocast_decorates(cut: Callable[..., Any]) -> None:
    def run(net: Net, x: Tensor) -> Tensor:
        return net.last(doubled(net.first(x)))

    result = cut(Net(run), 3, 4, 4)
    under = 'with torch.autocast("cuda", enabled=False):\n    x = x * 2\n'
    assert result.forward == f"{FIRST}{under}{LAST}"


def test_instances_under_different_things_are_classes_of_their_own(cut: Callable[..., Any]) -> None:
    class Step(nn.Module):
        def __init__(self, frozen: bool) -> None:
            super().__init__()
            self.conv, self.frozen = nn.Conv2d(6, 6, 1), frozen

        def forward(self, x: Tensor) -> Tensor:
            with torch.set_grad_enabled(not self.frozen):
                return self.conv(x)

    net = Net(lambda net, x: net.last(net.b(net.a(net.first(x)))))
    net.a, net.b = Step(True), Step(False)
    text = cut(net, 3, 4, 4).text
    assert text.count("set_grad_enabled(False)") == text.count("set_grad_enabled(True)") == 1


def switched_for_good(net: Net, x: Tensor) -> Tensor:
    torch.set_grad_enabled(False)
    x = net.first(x)
    torch.set_grad_enabled(True)
    return net.last(x)


def test_what_is_switched_without_a_block_is_refused(find: Callable[..., Any]) -> None:
    with pytest.raises(UnsupportedError, match="switches gradients or autocast without a `with`"):
        find(Net(switched_for_good), (2, 3, 4, 4))


@pytest.mark.skipif(torch.cuda.is_available(), reason="which knows what is enabled")
@pytest.mark.filterwarnings("ignore:.*CUDA is not available")
def test_what_torch_has_forgotten_is_refused(find: Callable[..., Any]) -> None:
    net = Net(around_a_layer)
    net.under = torch.autocast("cuda")

    def run(net: Net, x: Tensor) -> Tensor:
        with net.under:
            x = net.first(x)
        return net.last(x)

    net.run = run
    with pytest.raises(UnsupportedError, match="torch forgets whether that is enabled"):
        find(net, (2, 3, 4, 4))
