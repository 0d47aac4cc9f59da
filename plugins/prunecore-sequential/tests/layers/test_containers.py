"""nn.Sequential and its like: followed, written by number or by name."""

from __future__ import annotations

from collections import OrderedDict

import pytest
import torch
from torch import nn

import prunecore
from prunecore import UnsupportedError
from prunecore_sequential import prunecore_block_types


def written(model, shape, level=40):
    """The written source, its weights loaded and checked against the masked original."""
    return prunecore.prune(model, level=level, input_shape=shape)


def test_sequential_is_written_in_order(cut):
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(inplace=True), nn.Conv2d(8, 2, 1))
    small = cut(model, (2, 3, 5, 5))
    width = small.model[0].out_channels
    assert small.text == (
        f"nn.Sequential(nn.Conv2d(3, {width}, 3), nn.ReLU(inplace=True), nn.Conv2d({width}, 2, 1))"
    )


def test_sequential_with_names_is_written_with_them(cut):
    model = nn.Sequential(OrderedDict([("conv0", nn.Conv2d(3, 8, 3)), ("out", nn.Conv2d(8, 2, 1))]))
    small = cut(model, (2, 3, 5, 5))
    assert small.text.startswith("nn.Sequential(OrderedDict(conv0=nn.Conv2d(")
    assert list(dict(small.model.named_children())) == ["conv0", "out"]


def test_nested_and_empty_sequentials(cut):
    model = nn.Sequential(
        nn.Sequential(nn.Conv2d(3, 8, 3), nn.Sequential()), nn.Sequential(nn.Conv2d(8, 2, 1))
    )
    small = cut(model, (2, 3, 5, 5))
    assert len(small.model[0][1]) == 0


def test_a_network_that_is_a_sequential():
    model = nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16 * 36, 5))
    small = written(model, (3, 8, 8))
    assert small.report["verified"]["max_relative_difference"] <= 1e-9
    assert list(small.weights) == list(model.state_dict())


class Lists(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv2d(n, 8, 1) for n in (3, 8, 8))
        self.heads = nn.ModuleDict({"a": nn.Conv2d(8, 4, 1), "unused": nn.Conv2d(8, 4, 1)})
        self.branch = nn.Sequential(nn.Conv2d(8, 4, 1), nn.Conv2d(8, 8, 1), nn.ReLU())

    def forward(self, x):
        x = self.layers[2](self.layers[0](x))
        x = self.branch[1](x)
        return self.heads["a"](x)


def test_children_that_are_left_out_leave_the_others_in_their_places():
    small = written(Lists(), (3, 5, 5))
    assert isinstance(small.model.layers[1], nn.Identity)
    assert len(small.model.layers) == 3
    assert isinstance(small.model.branch[0], nn.Identity)
    assert len(small.model.branch) == 2
    assert list(small.model.heads) == ["a"]
    assert set(small.report["left_out"]) == {"branch.0", "branch.2", "heads.unused", "layers.1"}


class Scaled(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 1)
        self.conv2 = nn.Conv2d(8, 4, 1)
        self.scales = nn.ParameterList([torch.rand(8, 1, 1), torch.rand(1)])
        self.named = nn.ParameterDict({"shift": torch.rand(1, 8, 1, 1)})

    def forward(self, x):
        x = self.conv1(x) * self.scales[0] + self.named["shift"]
        return self.conv2(x * self.scales[1])


def test_parameter_lists_are_written_in_the_kept_sizes():
    small = written(Scaled(), (3, 5, 5))
    width = small.model.conv1.out_channels
    assert width < 8
    assert small.model.scales[0].shape == (width, 1, 1)
    assert small.model.named["shift"].shape == (1, width, 1, 1)


class Called(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([nn.Conv2d(3, 8, 1)])

    def forward(self, x):
        return self.layers(x)


def test_a_list_that_is_called_is_refused(find):
    with pytest.raises(UnsupportedError, match=r"layers \(ModuleList\): it has no forward"):
        find(Called(), (1, 3, 5, 5))


class ScaledByNumber(nn.Module):
    def __init__(self):
        super().__init__()
        self.before, self.after = nn.Conv2d(3, 6, 1), nn.Conv2d(6, 4, 1)
        self.scales = nn.ParameterList([torch.rand(6, 1, 1), 3])

    def forward(self, x):
        return self.after(self.before(x) * self.scales[0] * self.scales[1])


def test_a_list_of_parameters_that_holds_a_number_is_refused():
    reason = r"scales \(ParameterList\): it holds 3, which is not a tensor\.\nKeep what is not"
    with pytest.raises(UnsupportedError, match=reason):
        prunecore.prune(ScaledByNumber(), level=30, input_shape=(3, 5, 5))


class ConvNormRelu(nn.Sequential):
    def __init__(self, width, out):
        super().__init__(Pointwise(width, out), nn.BatchNorm2d(out), nn.ReLU())


class Pointwise(nn.Conv2d):
    def __init__(self, width, out):
        super().__init__(width, out, 1, bias=False)


def test_a_class_that_only_constructs_is_written_as_what_it_constructs(cut):
    model = nn.Sequential(ConvNormRelu(3, 8), nn.Conv2d(8, 2, 1))
    small = cut(model, (2, 3, 5, 5))
    assert type(small.model[0]) is nn.Sequential
    assert type(small.model[0][0]) is nn.Conv2d


class Doubled(nn.Linear):
    def forward(self, x):
        return 2 * super().forward(x)


def test_a_class_that_overrides_a_method_is_not_owned(plugins):
    assert plugins.owner(Doubled) is None


def test_layers_that_are_not_understood_are_not_owned():
    for cls in (nn.MultiheadAttention, nn.LSTM, nn.EmbeddingBag, nn.Bilinear, nn.CrossEntropyLoss):
        assert cls not in prunecore_block_types()


class Twofold(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.conv = nn.Conv2d(width, width, 1)

    def forward(self, x):
        return 2 * self.conv(x)


class Branches(nn.Module):
    def __init__(self, *names):
        super().__init__()
        self.branches = nn.ModuleDict({name: Twofold(8) for name in names})

    def forward(self, x):
        return sum(branch(x) for branch in self.branches.values())


@pytest.mark.parametrize("names", [("left", "right"), ("left", "middle", "right")])
def test_dictionaries_of_the_users_own_blocks(names):
    first, second = Branches("left", "right"), Branches(*names)
    written(nn.Sequential(nn.Conv2d(3, 8, 1), first, second, nn.Conv2d(8, 4, 1)), (3, 5, 5))


class Held(nn.Module):
    def __init__(self, *names):
        super().__init__()
        self.branches = nn.ModuleDict({name: Twofold(8) for name in names})

    def forward(self, x):
        first, second = self.branches.values()
        return first(x) + second(x)


def test_dictionaries_of_other_keys_are_an_argument():
    chain = nn.Sequential(nn.Conv2d(3, 8, 1), Held("a", "b"), Held("c", "d"), nn.Conv2d(8, 4, 1))
    written(chain, (3, 5, 5))


class Looped(nn.Sequential):
    def __init__(self, *names):
        super().__init__(OrderedDict((name, nn.Conv2d(8, 8, 1)) for name in names))

    def forward(self, x):
        y = x
        for layer in self:
            y = layer(y)
        return x + y


def test_sequentials_of_other_names_with_a_forward_of_their_own():
    first, second = Looped("a", "b", "c"), Looped("a", "b", "d")
    small = written(nn.Sequential(nn.Conv2d(3, 8, 1), first, second, nn.Conv2d(8, 4, 1)), (3, 5, 5))
    assert "super().__init__(OrderedDict(layers))" in small.source
    assert list(dict(small.model[2].named_children())) == ["a", "b", "d"]


class ScaledByItsList(nn.Module):
    def __init__(self, convs):
        super().__init__()
        self.convs = convs
        self.convs.register_buffer("scale", torch.rand(1))
        self.convs.shift = nn.Parameter(torch.rand(8, 1, 1))

    def forward(self, x):
        first, second = self.convs.children()
        return second(first(x) * self.convs.scale + self.convs.shift)


CONTAINERS = {
    "sequential": nn.Sequential,
    "list": lambda *convs: nn.ModuleList(convs),
    "dict": lambda first, second: nn.ModuleDict({"first": first, "second": second}),
}


@pytest.mark.parametrize("container", CONTAINERS.values(), ids=CONTAINERS)
def test_containers_with_tensors_of_their_own(container):
    written(ScaledByItsList(container(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 4, 1))), (3, 5, 5))


def test_a_network_of_a_sequential_with_a_buffer_of_its_own():
    model = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 4, 1))
    model.register_buffer("mean", torch.rand(3))
    small = written(model, (3, 5, 5))
    assert small.weights["mean"].equal(model.mean)
