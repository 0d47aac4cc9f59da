"""In whose care a module is, and in which one a network raises."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from prunecore import VerificationError
from prunecore.inputs import of_shape
from prunecore.plugins.loading import load
from prunecore.verifying.running import InFloat64, Recorder, Run, cared_for, telling_where
from prunecore.walking.network import walk

from ..strangers import TEXT, Net, message, prune_with, writing


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("first", "first (Linear, in the care of prunecore-toy 0.1)"),
        (
            "blocks.1.linear",
            "blocks.1.linear (Linear, in the care of prunecore-toy 0.1) within blocks.1 (Block, in "
            "the care of prunecore-mine 0.1)",
        ),
        (
            "blocks.1",
            "blocks.1 (Block, in the care of prunecore-mine 0.1) within blocks (Sequential, in the "
            "care of prunecore-toy 0.1)",
        ),
        ("", "its output (Net)"),
    ],
)
def test_a_module_and_who_takes_care_of_it(
    install: Callable[..., None], path: str, told: str
) -> None:
    prune_with(install)
    model = Net()
    assert cared_for(path, model, walk(model, of_shape((3,)), load()).forwards.visits) == told


WRONG = TEXT.replace("return self.linear(x)", "return self.linear({})")


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (
            "x.flip(1)",
            "first at blocks.0.linear (Linear, in the care of prunecore-toy 0.1) with",
        ),
        ("x) * 1.5 + (0", "first at blocks.0 (Block, in the care of prunecore-mine 0.1) within "),
    ],
)
def test_a_block_that_is_written_wrongly(
    install: Callable[..., None], value: str, told: str
) -> None:
    hooks = writing("source(writer, block, text)", text=WRONG.format(value))
    text = message(prune_with(install, verify=True, **hooks), VerificationError)
    assert told in text
    assert "blocks.0 (Block, in the care of prunecore-mine 0.1)" in text


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("x.missing", "AttributeError: 'Tensor' object has no attribute 'missing', in blocks.0 ("),
        (
            "missing",
            "NameError: name 'missing' is not defined, in blocks.0 (Block, in the",
        ),
        ("x / (1 // 0)", "ZeroDivisionError: "),
        (
            "x[:, :1]",
            " in blocks.0.linear (Linear, in the care of prunecore-toy 0.1) within b",
        ),
    ],
)
def test_a_block_whose_written_forward_raises(
    install: Callable[..., None], value: str, told: str
) -> None:
    hooks = writing("source(writer, block, text)", text=WRONG.format(value))
    text = message(prune_with(install, verify=True, **hooks), VerificationError)
    assert text.startswith(
        "As it is written, Net cannot be run in float64 on inputs of shape (8, 3): "
    )
    assert told in text
    assert "blocks.0 (Block, in the care of prunecore-mine 0.1)" in text


def test_what_the_network_itself_raises_has_no_module() -> None:
    class Raising(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise OSError("gone")

    def run(network: nn.Module) -> Any:
        with telling_where(network, {}, [torch.zeros(1, 3)]):
            network(torch.zeros(1, 3))

    with pytest.raises(VerificationError, match=r"of shape \(1, 3\): OSError: gone\.\nTake what"):
        run(Raising())
    with pytest.raises(VerificationError, match=r"OSError: gone, in 0 \(Raising\)\.\n"):
        run(nn.Sequential(Raising()))


def test_a_difference_in_what_follows_a_block(install: Callable[..., None]) -> None:
    """The layer after it is the first that mixes channels, but not the one at fault."""

    text = TEXT.replace("return self.linear(x)", "return self.linear(x).roll(1, 1)")
    hooks = writing("source(writer, block, text)", text=text)
    said = message(prune_with(install, verify=True, **hooks), VerificationError)
    assert "first at blocks.0 (Block, in the care of prunecore-mine 0.1)" in said


def test_what_a_network_returns_is_compared_in_whatever_layout_it_lies() -> None:
    x = torch.rand(2, 3, dtype=torch.float64)
    how = Run(([x], {}), {})
    recorded = [
        Recorder({}, how).run(network, network, {"": ""})["", 0]
        for network in (nn.Identity(), Sparse())
    ]
    assert recorded[0] == recorded[1]


def test_what_has_no_values_is_like_nothing() -> None:
    class Meta(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.to("meta")

    network = Meta()
    how = Run(([torch.rand(2, 3)], {}), {})
    found = Recorder({}, how).run(network, network, {"": ""})["", 0]
    assert found.value != found.value
    assert found.size != found.size


class Sparse(nn.Module):
    """Returns its input in another layout."""

    def forward(self, x: Tensor) -> Tensor:
        return x.to_sparse()


@pytest.mark.parametrize(
    "convert",
    [
        lambda x: x.float(),
        lambda x: x.half(),
        lambda x: x.bfloat16(),
        lambda x: x.to(torch.float32),
        lambda x: x.to("cpu", torch.float32, non_blocking=True),
        lambda x: x.to(dtype=torch.float16, copy=True),
        lambda x: x.to(torch.zeros(1, dtype=torch.float32)),
        lambda x: x.type(torch.float32),
        lambda x: x.type("torch.FloatTensor"),
        lambda x: x.type(torch.FloatTensor),
    ],
)
def test_what_is_in_float64_stays_so(convert: Callable[[Tensor], Tensor]) -> None:
    x = torch.tensor([0.1], dtype=torch.float64)
    with InFloat64():
        assert convert(x).dtype is torch.float64
        assert convert(x).equal(x)
        assert convert(torch.arange(3)).equal(torch.arange(3.0, dtype=torch.float64))
        assert convert(x.detach()[:0]).shape == (0,)


@pytest.mark.parametrize(
    "make",
    [
        lambda: torch.zeros(3, dtype=torch.float32),
        lambda: torch.tensor([0.1], dtype=torch.float16),
        lambda: torch.arange(3).new_ones(3, dtype=torch.bfloat16),
        lambda: torch.arange(3).sum(dtype=torch.float32),
        lambda: torch.arange(3).softmax(0, torch.float32),
        lambda: torch.tensor(np.ones(3, dtype=np.float32)),
    ],
)
def test_what_is_made_of_a_shorter_type_is_in_float64(make: Callable[[], Tensor]) -> None:
    with InFloat64():
        assert make().dtype is torch.float64
    assert make().dtype is not torch.float64


def test_bits_are_those_of_the_type_that_is_asked_for() -> None:
    with InFloat64():
        assert torch.arange(4, dtype=torch.int32).view(torch.float32).shape == (4,)


def test_whole_numbers_that_a_network_does_not_know() -> None:
    table, tokens = nn.Embedding(3, 2), torch.tensor([5])
    with (
        pytest.raises(VerificationError, match=r"IndexError: .*\nGive whole numbers that it knows"),
        telling_where(table, {}, [tokens]),
    ):
        table(tokens)
