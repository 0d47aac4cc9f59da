"""nn.LSTM, nn.GRU and nn.RNN: hidden units, projections and features go, in every form."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import prunecore
from prunecore.testing import check_plugin

LAYERS = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}


class Net(nn.Module):
    """Steps of three features, embedded; a recurrent layer, called as `call` does; and a head."""

    def __init__(self, kind: str, call: Callable[..., Tensor], width: int, **options: Any) -> None:
        super().__init__()
        self.embed = nn.Linear(3, 7)
        self.recurrent = LAYERS[kind](7, 6, **options)
        self.head = nn.Linear(width, 4)
        self.call = call

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.call(self, self.embed(x)))


def prune(network: nn.Module, level: float = 40, **options: Any) -> prunecore.PrunedModel:
    options = {"mode": "random", "name": "small", "input_shape": (5, 3), **options}
    return prunecore.prune(network, level=level, **options)


def check(network: nn.Module, **options: Any) -> prunecore.PrunedModel:
    """The written network is the masked original, is cut, and trains."""
    small = prune(network, **options)
    assert small.report["verified"]
    assert list(small.model.state_dict()) == list(network.state_dict())
    assert small.model.recurrent.hidden_size < network.recurrent.hidden_size
    small.model.train()(torch.randn(2, 5, 3)).sum().backward()
    return small


FORMS: dict[str, dict[str, Any]] = {
    "plain": {},
    "two layers": {"num_layers": 2, "dropout": 0.25},
    "both ways": {"bidirectional": True},
    "two layers, both ways, without bias": {
        "num_layers": 2,
        "bidirectional": True,
        "bias": False,
    },
}


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("options", FORMS.values(), ids=list(FORMS))
def test_outputs_of_every_form_are_exact(kind: str, options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    width = 12 if options.get("bidirectional") else 6
    check(Net(kind, lambda net, x: net.recurrent(x)[0], width, batch_first=True, **options))


@pytest.mark.filterwarnings("ignore:LSTM with projections")  # of torch, which runs others faster
@pytest.mark.parametrize("options", FORMS.values(), ids=list(FORMS))
def test_projections_are_exact(options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    width = 10 if options.get("bidirectional") else 5
    network = Net(
        "lstm",
        lambda net, x: net.recurrent(x)[0],
        width,
        batch_first=True,
        proj_size=5,
        **options,
    )
    small = check(network)
    assert small.model.recurrent.proj_size < 5


def test_a_nonlinearity_is_written() -> None:
    network = Net("rnn", lambda net, x: net.recurrent(x)[0], 6, nonlinearity="relu")
    assert ', nonlinearity="relu")' in check(network).source


CALLS: dict[str, tuple[Callable[..., Tensor], int]] = {
    "the last output": (lambda net, x: net.recurrent(x)[0][:, -1], 12),
    "the last states": (
        lambda net, x: torch.cat([*net.recurrent(x)[1][0][2:].unbind(0)], 1),
        12,
    ),
    "the last cells": (lambda net, x: net.recurrent(x)[1][1][-1], 6),
    "both directions added": (
        lambda net, x: net.recurrent(x)[0][..., :6] + net.recurrent(x)[0][..., 6:],
        6,
    ),
    "directions apart": (lambda net, x: net.recurrent(x)[0].view(-1, 5, 2, 6).sum(2), 6),
    "states side by side": (
        lambda net, x: net.recurrent(x)[1][0].permute(1, 0, 2).reshape(-1, 24),
        24,
    ),
    "a shortcut": (lambda net, x: torch.cat([net.recurrent(x)[0], x], 2), 19),
    "a mean over steps": (lambda net, x: net.recurrent(x)[0].mean(1), 12),
    "given states": (
        lambda net, x: net.recurrent(x, [s + 1 for s in net.recurrent(x * 2)[1]])[0],
        12,
    ),
    "flattened parameters": (
        lambda net, x: (net.recurrent.flatten_parameters(), net.recurrent(x)[0])[1],
        12,
    ),
}


@pytest.mark.parametrize(("call", "width"), CALLS.values(), ids=list(CALLS))
def test_every_use_is_exact(call: Callable[..., Tensor], width: int) -> None:
    torch.manual_seed(0)
    check(Net("lstm", call, width, num_layers=2, bidirectional=True, batch_first=True))


def test_the_steps_may_come_first() -> None:
    torch.manual_seed(0)
    network = Net("gru", lambda net, x: net.recurrent(x.transpose(0, 1))[0].transpose(0, 1), 6)
    small = check(network)
    assert ")\n" in small.source.partition("self.recurrent = nn.GRU(")[2]
    print(small.source)


def test_a_unit_goes_with_its_gates_in_all_layers_and_directions() -> None:
    torch.manual_seed(0)
    network = Net("gru", lambda net, x: net.recurrent(x)[0], 12, num_layers=2, bidirectional=True)
    small = prune(network, 50)
    kept = small.report["kept"]
    units = kept["recurrent.weight_hh_l0"][1]
    gates = [gate * 6 + unit for gate in range(3) for unit in units]
    both = [*units, *[6 + unit for unit in units]]
    features = kept["embed.weight"][0]
    for suffix in ("l0", "l0_reverse", "l1", "l1_reverse"):
        read = features if suffix.startswith("l0") else both
        assert kept[f"recurrent.weight_ih_{suffix}"] == [gates, read]
        assert kept[f"recurrent.weight_hh_{suffix}"] == [gates, units]
        assert kept[f"recurrent.bias_ih_{suffix}"] == [gates]
        assert kept[f"recurrent.bias_hh_{suffix}"] == [gates]
    assert kept["head.weight"] == [None, both]
    (group,) = [one for one in small.report["groups"] if one["layers"] == ["recurrent"]]
    assert group["channels"] == [6, len(units)]


def test_limits_count_units() -> None:
    network = Net("gru", lambda net, x: net.recurrent(x)[0], 6)
    limits = prunecore.Limits(layers={"recurrent": {"min_channels": 4}})
    with pytest.raises(prunecore.LevelError) as caught:
        prune(network, 90, limits=limits)
    highest = float(str(caught.value).rpartition("a level of ")[2].split()[0])
    assert prune(network, highest, limits=limits).model.recurrent.hidden_size == 4


@pytest.mark.filterwarnings("ignore:LSTM with projections")
@pytest.mark.parametrize("seed", range(4))
def test_there_are_more_units_than_projections(seed: int) -> None:
    network = Net("lstm", lambda net, x: net.recurrent(x)[0], 5, proj_size=5)
    layer = prune(network, 60, seed=seed).model.recurrent
    assert layer.proj_size < layer.hidden_size


def test_multiply_accumulates_are_those_of_all_steps() -> None:
    network = Net("lstm", lambda net, x: net.recurrent(x)[0], 6, num_layers=2, batch_first=True)
    found = prunecore.inspect(network, input_shape=(5, 3))
    weights = [p for name, p in network.named_parameters() if "weight" in name]
    assert found.macs == 5 * sum(weight.numel() for weight in weights)
    small = prune(network)
    weights = [p for name, p in small.model.named_parameters() if "weight" in name]
    assert small.report["after"]["macs"] == 5 * sum(weight.numel() for weight in weights)


def test_all_of_a_single_unit_stays() -> None:
    class Single(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Linear(3, 8)
            self.recurrent = nn.RNN(8, 1, batch_first=True)
            self.head = nn.Linear(1, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.recurrent(self.embed(x))[0])

    report = prune(Single()).report
    assert {"layer": "recurrent", "reason": "it is the only hidden unit"} in report["left_whole"]


def test_channels_along_the_steps_are_left_whole() -> None:
    class Lengthwise(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv1d(5, 8, 1)
            self.recurrent = nn.GRU(3, 6, batch_first=True)
            self.head = nn.Linear(6, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.recurrent(self.conv(x))[0])

    report = prune(Lengthwise()).report
    assert {"layer": "conv", "reason": "GRU mixes it"} in report["left_whole"]


def test_another_width_than_the_layer_s_is_an_error_of_the_input() -> None:
    network = nn.Sequential(nn.Linear(3, 8), nn.GRU(7, 6))
    with pytest.raises(prunecore.PrunecoreError, match="the last of 7 features"):
        prune(network)


def test_the_plugin_s_hooks_answer_and_its_errors_name_it() -> None:
    check_plugin("recurrent")


def test_packed_sequences_are_refused() -> None:
    def call(net: Net, x: Tensor) -> Tensor:
        lengths = torch.tensor([5, 4])
        packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True)
        return net.recurrent(packed)[1][0][-1]

    with pytest.raises(prunecore.UnsupportedError, match="it packs sequences of several lengths"):
        prune(Net("lstm", call, 6, batch_first=True))
