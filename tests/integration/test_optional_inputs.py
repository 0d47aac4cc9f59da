"""Inputs that a network may lack: both ways through its forward, in one written file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import prunecore
from prunecore import VerificationError


class ArcFace(nn.Module):
    """A head with a margin in training, which is where labels are given."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(6, 16), nn.ReLU())
        self.weight = nn.Parameter(torch.randn(5, 16))

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        cosine = F.linear(F.normalize(self.body(x)), F.normalize(self.weight))
        if labels is None:
            return 30.0 * cosine
        margin = torch.cos(torch.acos(cosine.clamp(-0.99, 0.99)) + 0.5)
        return 30.0 * torch.where(F.one_hot(labels, 5) == 1, margin, cosine)


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(16, 48)
        self.out = nn.Linear(16, 16)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        b, t, d = x.shape
        q, k, v = self.qkv(x).reshape(b, t, 3, 4, d // 4).permute(2, 0, 3, 1, 4).unbind(0)
        scores = q @ k.transpose(-1, -2) * 0.5
        if mask is not None:
            scores = scores.masked_fill(mask == 0, -1e9)
        return self.out((scores.softmax(-1) @ v).transpose(1, 2).reshape(b, t, -1))


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(16)
        self.attention = Attention()
        self.feed = nn.Sequential(nn.Linear(16, 24), nn.GELU(), nn.Linear(24, 16))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        x = x + self.attention(self.norm(x), mask)
        return x + self.feed(x)


class Decoder(nn.Module):
    """Tokens to logits, with a mask or without, and to a loss where the targets are given."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(20, 16)
        self.blocks = nn.ModuleList([Block() for _ in range(3)])
        self.head = nn.Linear(16, 20, bias=False)

    def forward(
        self, tokens: Tensor, mask: Tensor | None = None, targets: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        x = self.embedding(tokens)
        if mask is not None:
            mask = mask[:, None, None, :]
        for block in self.blocks:
            x = block(x, mask)
        logits = self.head(x)
        loss = None
        if targets is not None:
            loss = F.cross_entropy(logits.view(-1, logits.size(-1)), targets.view(-1))
        return logits, loss


class Given(nn.Module):
    """A function of layers of one width, the input and one that may be lacking."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.first = nn.Linear(6, 12)
        self.second = nn.Linear(12, 12)
        self.skip = nn.Linear(6, 12)
        self.last = nn.Linear(12, 4)
        self.function = function

    def forward(self, x: Tensor, other: Tensor | None = None) -> Any:
        return self.function(self, x, other)


def adds(net: Any, x: Tensor, other: Tensor | None) -> Tensor:
    y = torch.relu(net.first(x))
    if other is not None:
        y = y + net.skip(other)
    return net.last(net.second(y))


def replaces(net: Any, x: Tensor, other: Tensor | None) -> Tensor:
    if other is None:
        other = torch.ones_like(x) * 2
    return net.last(torch.relu(net.first(x)) * net.skip(other).sigmoid())


def asks_twice(net: Any, x: Tensor, other: Tensor | None) -> Tensor:
    if other is not None:
        other = other * 2
        x = x + other
    x = net.first(x)
    if other is not None:
        x = x - net.skip(other)
    return net.last(x.relu())


def two_outputs(net: Any, x: Tensor, other: Tensor | None) -> Any:
    y = torch.relu(net.first(x))
    return net.last(y) if other is None else (net.last(y), net.second(y + net.skip(other)))


def halves(net: Any, x: Tensor, other: Tensor | None) -> Tensor:
    y = net.first(x) if other is None else net.skip(other)
    one, another = y.chunk(2, 1)
    return net.last(torch.cat([another.relu(), one], 1))


def norms(net: Any, x: Tensor, other: Tensor | None) -> Tensor:
    y = net.first(x)
    if other is not None:
        y = F.layer_norm(y, (12,)) + net.skip(other)
    return net.last(y / y.norm(dim=1, keepdim=True))


def in_training_too(net: Any, x: Tensor, other: Tensor | None) -> Any:
    y = torch.relu(net.first(x))
    if other is not None:
        y = y * net.skip(other)
    return (net.last(y), net.second(y)) if net.training else net.last(y)


def adds_in_training(net: Any, x: Tensor, other: Tensor | None) -> Tensor:
    y = torch.relu(net.first(x))
    if other is not None:
        y = y * net.skip(other)
        if net.training:
            y = y + net.second(y)
    elif net.training:
        y = y * 2
    return net.last(y)


def swaps_in_training(net: Any, x: Tensor, other: Tensor | None) -> Tensor:
    y, z = net.first(x), net.skip(x)
    if other is not None and net.training:
        y, z = z, y
    return net.last(torch.sigmoid(y) - z * 0.5)


def swaps_halves_of_many(net: Any, x: Tensor, other: Tensor | None) -> Tensor:
    one, another = net.first(x).chunk(2, 1)
    if other is None and x.shape[0] % 2:
        one, another = another, one
    return net.last(torch.cat([one.relu(), another], 1))


def looks_at_one_of_two(net: Any, x: Tensor, other: Tensor | None) -> Tensor:
    y = net.first(x)
    if net.training:
        if other is None:
            net.second(y)
        else:
            net.skip(other)
    return net.last(y)


@pytest.mark.parametrize(
    "function",
    [
        adds,
        replaces,
        asks_twice,
        two_outputs,
        halves,
        norms,
        in_training_too,
        adds_in_training,
        swaps_in_training,
        looks_at_one_of_two,
        swaps_halves_of_many,
    ],
)
@pytest.mark.parametrize("level", [20, 50])
def test_both_ways_are_written(function: Any, level: int) -> None:
    torch.manual_seed(0)
    model = Given(function)
    small = prunecore.prune(model, (torch.rand(3, 6), torch.rand(3, 6)), level)
    assert "other: Tensor | None = None" in small.source
    assert small.report["fixed_arguments"] == small.report["needed_arguments"] == []
    assert small.report["verified"]["max_relative_difference"] <= 1e-9
    small.model(torch.rand(2, 6))
    small.model(torch.rand(2, 6), torch.rand(2, 6))


def test_a_branch_reads_as_a_person_would_write_it() -> None:
    small = prunecore.prune(ArcFace(), (torch.rand(3, 6), torch.tensor([0, 4, 2])), 40)
    body = small.source.partition("def forward")[2]
    assert "if labels is None:\n            return 30.0 * cosine\n" in body
    assert "else" not in body


def test_inputs_by_name_and_every_set_of_them() -> None:
    mask, tokens = torch.ones(2, 7, dtype=torch.bool), torch.tensor([range(7), range(13, 20)])
    given = {"targets": tokens, "mask": mask}
    small = prunecore.prune(Decoder(), tokens, 40, example_kwargs=given)
    assert small.report["left_whole"] == []
    assert "if mask is not None:\n            mask = mask[:, None, None, :]\n" in small.source
    assert "for block in self.blocks:\n            x = block(x, mask)\n" in small.source
    logits, loss = small.model(tokens)
    assert loss is None
    torch.testing.assert_close(small.model(tokens, mask)[0], logits)
    logits, loss = small.model(tokens, targets=tokens)
    torch.testing.assert_close(loss, F.cross_entropy(logits.view(-1, 20), tokens.view(-1)))


class Recurrent(nn.Module):
    """One cell that begins without a state and goes on with one."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = Cell()
        self.out = nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        state = self.cell(x)
        for _ in range(2):
            state = self.cell(x, state)
        return self.out(state)


class Cell(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.enter = nn.Linear(6, 12)
        self.again = nn.Linear(12, 12)

    def forward(self, x: Tensor, state: Tensor | None = None) -> Tensor:
        x = self.enter(x)
        if state is not None:
            x = x + self.again(state)
        return torch.tanh(x)


def test_a_module_that_is_called_with_and_without() -> None:
    small = prunecore.prune(Recurrent(), torch.rand(2, 6), 50)
    assert small.report["left_whole"] == []
    assert "def forward(self, x: Tensor, state: Tensor | None = None) -> Tensor:" in small.source
    assert "if state is None:\n            return torch.tanh(x)\n" in small.source
    assert "return torch.tanh(x + self.again(state))" in small.source


def test_what_goes_wrong_without_an_input_is_found(tmp_path: Path) -> None:
    model, examples = ArcFace(), (torch.rand(3, 6), torch.tensor([0, 4, 2]))
    file, *_ = prunecore.prune(model, examples, 40).save(tmp_path / "face.py")
    assert prunecore.verify(file, model)
    file.write_text(file.read_text().replace("return 30.0 * cosine", "return 31.0 * cosine"))
    with pytest.raises(VerificationError, match=r"first at its output .*, without labels; at most"):
        prunecore.verify(file, model)


def needs_it(net: Any, x: Tensor, other: Tensor | None) -> Tensor:
    if other is None:
        raise ValueError("give another one")
    return net.last(torch.relu(net.first(x) + net.skip(other)))


def test_an_input_that_is_needed_all_the_same_is_told() -> None:
    small = prunecore.prune(Given(needs_it), (torch.rand(3, 6), torch.rand(3, 6)), 40)
    assert small.report["needed_arguments"] == ["other"]
    assert "def forward(self, x: Tensor, other: Tensor) -> Tensor:" in small.source
    assert "Never without arguments that the original's may lack: other." in small.source


def layer_needs_it(net: Any, x: Tensor, other: Tensor | None) -> Tensor:
    x = torch.relu(net.first(x))
    return net.last(x if other is None else x + net.skip(other)) + net.last(net.skip(other))


def layer_needs_it_in_training(net: Any, x: Tensor, other: Tensor | None) -> Tensor:
    x = torch.relu(net.first(x))
    if other is not None:
        x = x + net.skip(other)
    return net.last(x + net.skip(other)) if net.training else net.last(x)


def number_needs_it(net: Any, x: Tensor, other: Tensor | None) -> Tensor:
    x = torch.relu(net.first(x))
    _unused: Any = other + x.size(1)  # type: ignore[operator]
    return net.last(x if other is None else x + net.skip(other))


@pytest.mark.parametrize("forward", [layer_needs_it, layer_needs_it_in_training, number_needs_it])
def test_a_layer_that_is_called_without_what_it_needs(forward: Any) -> None:
    small = prunecore.prune(Given(forward), (torch.rand(3, 6), torch.rand(3, 6)), 40)
    assert small.report["needed_arguments"] == ["other"]


def one_of_two(net: Any, x: Tensor, other: Tensor | None) -> Tensor:
    return net.last(torch.relu(net.first(x) if other is None else net.skip(other)))


def test_a_layer_that_is_called_only_without_an_input() -> None:
    model = Given(one_of_two)
    small = prunecore.prune(model, (torch.rand(3, 6), torch.rand(3, 6)), 40)
    assert small.model.first.out_features == small.model.skip.out_features < 12
    assert small.model.last.in_features == small.model.skip.out_features


class Several(nn.Module):
    """Adds what it is given, one thing after the other."""

    def __init__(self) -> None:
        super().__init__()
        self.word, self.kind = nn.Embedding(9, 12), nn.Embedding(3, 12)
        self.last = nn.Linear(12, 4)

    def forward(self, x: Tensor, mask: Tensor | None = None, kinds: Tensor | None = None) -> Tensor:
        y = self.word(x) + self.kind(x % 3)
        if mask is not None:
            y = y * mask[..., None]
        if kinds is not None:
            y = y + self.kind(kinds)
        return self.last(y)


def test_several_that_are_used_one_after_the_other() -> None:
    inputs = torch.randint(9, (2, 5)), torch.rand(2, 5), torch.randint(3, (2, 5))
    small = prunecore.prune(Several(), inputs, 30)
    assert small.source.count(" is not None:") == 3  # one of them is the factory's
    assert "            y = y * mask[..., None]\n" in small.source
    assert "            y = y + self.kind(kinds)\n        return self.last(y)" in small.source


class EitherOf(nn.Module):
    """Takes numbers of words or what these stand for; never neither."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.inner = nn.Embedding(9, 12), Checking()
        self.wide, self.last = nn.Linear(12, 16), nn.Linear(16, 4)

    def forward(self, ids: Tensor | None = None, embedded: Tensor | None = None) -> Tensor:
        x = self.inner(self.words(ids) if embedded is None else embedded, ids)
        return self.last(torch.relu(self.wide(x)))


class Checking(nn.Module):
    """Cannot be followed, and raises without numbers of words."""

    def forward(self, x: Tensor, ids: Tensor | None) -> Tensor:
        if ids is None:
            raise ValueError("give ids")
        return x * 2 if x.sum() > 0 else x


def test_a_network_that_is_left_without_any_input() -> None:
    small = prunecore.prune(EitherOf(), [torch.randint(9, (2, 5))], 30, verify=False)
    assert small.report["needed_arguments"] == ["ids"]


class Defaulting(nn.Module):
    """Makes what it is not given, of the sizes of what it is."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(6, 12), nn.Linear(12, 4)

    def forward(self, x: Tensor, p: Tensor | None = None, q: Tensor | None = None) -> Tensor:
        length = x.shape[1]
        if p is None:
            p = torch.arange(length, dtype=x.dtype)
        if q is None:
            q = torch.arange(length, dtype=x.dtype)
        return self.last(torch.relu(self.first(x)) * p[:, None] + q.sum())


def test_two_defaults_of_one_size() -> None:
    inputs = torch.rand(2, 5, 6), torch.rand(5), torch.rand(5)
    small = prunecore.prune(Defaulting(), inputs, 40)
    for given in ((), inputs[1:2], (None, inputs[2]), inputs[1:]):
        small.model(inputs[0], *given)
    assert (
        "        if p is None:\n            p = torch.arange(length, dtype=x.dtype)\n"
        "        if q is None:\n            q = torch.arange(length, dtype=x.dtype)\n"
    ) in small.source


class Fitted(nn.Module):
    """Pads, masks and adds a table or what is interpolated of it."""

    def __init__(self) -> None:
        super().__init__()
        self.patch, self.last = nn.Conv2d(3, 16, 4, 4), nn.Conv2d(16, 4, 1)
        self.table = nn.Parameter(torch.randn(1, 16, 4, 4))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        height = x.shape[2]
        if height % 4:
            x = F.pad(x, (0, 0, 0, 4 - height % 4))
        x = self.patch(x)
        h, w = x.shape[2:]
        if mask is not None:
            x = x * mask
        table = self.table if h == 4 else F.interpolate(self.table, size=(h, w))
        return self.last(x + table)


def test_branches_on_sizes_beside_an_optional_input() -> None:
    small = prunecore.prune(Fitted(), (torch.rand(2, 3, 16, 16), torch.rand(2, 1, 4, 4)), 40)
    assert small.model(torch.rand(1, 3, 12, 16)).shape == (1, 4, 3, 4)


class Rolled(nn.Module):
    """Takes places in ways alone that inputs of the example's size do not go."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(4, 8, 1), nn.Conv2d(4, 8, 1)
        self.last = nn.Conv2d(4, 2, 1)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        y = self.first(x)
        if mask is not None:
            y = self.second(x)
        y = y.roll(2, 1)
        if x.shape[2] > 2:
            x = x * y.mean(1, keepdim=True)
        return self.last(x)


@pytest.mark.parametrize("seed", range(3))
def test_places_that_are_taken_at_another_size_alone(seed: int) -> None:
    examples = torch.rand(2, 4, 2, 2), torch.rand(2, 1, 2, 2)
    small = prunecore.prune(Rolled(), examples, 40, mode="random", seed=seed)
    assert small.model.first.out_channels == small.model.second.out_channels
    small.model(torch.rand(1, 4, 3, 3))
