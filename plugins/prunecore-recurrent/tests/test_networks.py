"""Networks with recurrent layers as people write them, and what becomes of their first states."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import prunecore


class Keywords(nn.Module):
    """Convolutions over a spectrogram, a sequence of their maps, and the last step."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 6, (4, 5), stride=(2, 2))
        self.conv2 = nn.Conv2d(6, 8, 3, padding=1)
        self.gru = nn.GRU(8 * 4, 9, num_layers=2, batch_first=True)
        self.fc = nn.Linear(9, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.conv2(torch.relu(self.conv(x))))
        b, c, t, f = x.shape
        x = x.permute(0, 2, 1, 3).reshape(b, t, c * f)
        h0 = torch.zeros(2, b, 9).to(x.device).to(x.dtype)
        out, _ = self.gru(x, h0)
        return self.fc(out[:, -1])


class Front(nn.Module):
    """Convolutions over a series, and a recurrent layer over what they make of it."""

    def __init__(self) -> None:
        super().__init__()
        self.front = nn.Sequential(
            nn.Conv1d(4, 12, 5, padding=2), nn.BatchNorm1d(12), nn.ReLU(), nn.MaxPool1d(2)
        )
        self.lstm = nn.LSTM(12, 8, batch_first=True)
        self.fc = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.front(x).permute(0, 2, 1)
        out, (_h, _c) = self.lstm(x)
        return self.fc(out[:, -1, :])


class States(nn.Module):
    """An LSTM whose first states are made by the size that the network, or the layer, holds."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = 7
        self.lstm = nn.LSTM(4, self.hidden, batch_first=True)
        self.fc = nn.Linear(7, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.zeros(1, x.size(0), self.hidden, dtype=x.dtype)
        c = torch.ones((self.lstm.num_layers, x.shape[0], self.lstm.hidden_size), dtype=x.dtype)
        out, (h, c) = self.lstm(x, (h, c))
        return self.fc(torch.relu(out + c.transpose(0, 1)))


class Translator(nn.Module):
    """An encoder's last state is the decoder's first."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.GRU(4, 7, batch_first=True)
        self.decoder = nn.GRU(4, 7, batch_first=True)
        self.fc = nn.Linear(7, 3)

    def forward(self, x: Tensor) -> Tensor:
        _, state = self.encoder(x)
        return self.fc(self.decoder(x.flip(1), state)[0])


class Stepwise(nn.Module):
    """A cell whose state begins with zeros, over a number of steps that the network holds."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.GRUCell(4, 7)
        self.fc = nn.Linear(7, 3)

    def forward(self, x: Tensor) -> Tensor:
        state = x.new_zeros(x.size(0), 7)
        outputs = []
        for step in range(4):
            state = self.cell(x[:, step], state)
            outputs.append(state)
        return self.fc(torch.stack(outputs, 1))


NETWORKS: dict[str, tuple[type[nn.Module], tuple[int, ...]]] = {
    "keywords": (Keywords, (1, 20, 12)),
    "front": (Front, (4, 16)),
    "states": (States, (6, 4)),
    "translator": (Translator, (6, 4)),
    "stepwise": (Stepwise, (6, 4)),
}


@pytest.mark.parametrize(("cls", "shape"), NETWORKS.values(), ids=list(NETWORKS))
def test_networks_are_exact_and_nothing_is_left_whole(cls: Any, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    network = cls()
    small = prunecore.prune(network, level=40, input_shape=shape, mode="random", name="small")
    assert small.report["verified"]
    assert small.report["left_whole"] == []
    assert list(small.model.state_dict()) == list(network.state_dict())
    for batch in (1, 3):
        small.model.train()(torch.randn(batch, *shape)).sum().backward()


def test_first_states_are_written_as_wide_as_the_units() -> None:
    torch.manual_seed(0)
    source = prunecore.prune(States(), level=40, input_shape=(6, 4), name="small").source
    assert "h = torch.zeros(1, x.size(0), 5, dtype=x.dtype)" in source
    assert "torch.ones((1, x.shape[0], 5), dtype=x.dtype)" in source


def test_the_last_layer_s_width_is_an_argument_with_its_first_state() -> None:
    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Linear(4, 9)
            self.gru = nn.GRU(9, 5, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            return self.gru(self.embed(x), torch.zeros(1, x.size(0), 5))[1][-1]

    names: dict[str, Any] = {}
    exec(prunecore.prune(Last(), level=20, input_shape=(6, 4), name="small").source, names)
    assert names["small"](num_classes=8)(torch.randn(2, 6, 4)).shape == (2, 8)


def test_outputs_and_states_are_taken_apart_as_people_do() -> None:
    class Both(Front):
        def forward(self, x: Tensor) -> Tensor:
            out, (h, c) = self.lstm(self.front(x).permute(0, 2, 1))
            return self.fc(out[:, -1] + h[-1] * c[-1])

    source = prunecore.prune(Both(), level=40, input_shape=(4, 16), name="small").source
    assert "out, (h, c) = self.lstm(x)" in source


def test_the_units_of_a_learned_first_state_go_with_it() -> None:
    class Learned(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.start = nn.Parameter(torch.randn(2, 1, 7))
            self.embed = nn.Linear(4, 9)
            self.gru = nn.GRU(9, 7, batch_first=True, bidirectional=True)
            self.fc = nn.Linear(14, 3)

        def forward(self, x: Tensor) -> Tensor:
            out, _ = self.gru(self.embed(x), self.start.expand(-1, x.size(0), -1).contiguous())
            return self.fc(out)

    small = prunecore.prune(Learned(), level=40, input_shape=(6, 4), mode="random", name="small")
    assert small.report["verified"]
    assert small.report["left_whole"] == []
    assert small.model.start.shape == (2, 1, small.model.gru.hidden_size)
    assert small.model.gru.hidden_size < 7
