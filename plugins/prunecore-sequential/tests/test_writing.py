"""Every owned layer's written constructor evaluates back to an equal layer."""

from __future__ import annotations

import warnings
from types import SimpleNamespace

import pytest
import torch
from torch import nn

import prunecore
from prunecore.writing.text import render
from prunecore_sequential import prunecore_block_types, prunecore_write_block

RANKS = {1: (8,), 2: (8, 6), 3: (8, 6, 7)}


def examples():
    """(layer, shape of an input) for every owned layer, with many of its arguments."""
    for rank, size in RANKS.items():
        yield from _convolutions(rank, size)
        yield from _pools(rank, size)
        yield from _pads(rank, size)
        yield from _norms(rank, size)
    yield from _others()


def _convolutions(rank, size):
    conv = getattr(nn, f"Conv{rank}d")
    transposed = getattr(nn, f"ConvTranspose{rank}d")
    shape = (2, 4, *size)
    yield conv(4, 6, 3), shape
    yield conv(4, 6, tuple(range(1, rank + 1)), stride=2, padding=1, dilation=2), shape
    yield conv(4, 8, 3, padding="same", groups=4, bias=False, padding_mode="circular"), shape
    yield conv(4, 8, 1, padding="valid", groups=2), shape
    yield transposed(4, 6, 3), shape
    yield transposed(4, 6, 3, 2, 1, 1, groups=2, bias=False, dilation=2), shape


def _pools(rank, size):
    shape = (2, 4, *size)
    maximum, average = getattr(nn, f"MaxPool{rank}d"), getattr(nn, f"AvgPool{rank}d")
    yield maximum(2), shape
    yield maximum(3, 2, 1, ceil_mode=True), shape
    yield maximum((2,) * rank, stride=(2,) * rank, return_indices=True), shape
    yield average(3, stride=1, padding=1, count_include_pad=False), shape
    yield average((2,) * rank), shape
    for name in ("AdaptiveAvgPool", "AdaptiveMaxPool"):
        pool = getattr(nn, f"{name}{rank}d")
        yield pool(1), shape
        yield pool(tuple(range(1, rank + 1))), shape
    if hasattr(nn, f"LPPool{rank}d"):
        yield getattr(nn, f"LPPool{rank}d")(2, 2), shape
        yield getattr(nn, f"LPPool{rank}d")(1.5, 3, stride=2, ceil_mode=True), shape
    yield getattr(nn, f"MaxUnpool{rank}d")(2), None
    yield getattr(nn, f"MaxUnpool{rank}d")(3, stride=2, padding=1), None


def _pads(rank, size):
    shape = (2, 4, *size)
    uneven = tuple(range(2 * rank))[::-1]
    for name in ("Reflection", "Replication", "Circular", "Zero"):
        pad = getattr(nn, f"{name}Pad{rank}d")
        yield pad(1), shape
        yield pad(uneven), shape
    yield getattr(nn, f"ConstantPad{rank}d")(1, 0.5), shape
    yield getattr(nn, f"ConstantPad{rank}d")(uneven, float("-inf")), shape


def _norms(rank, size):
    shape = (2, 4, *size)
    for name in ("BatchNorm", "InstanceNorm"):
        norm = getattr(nn, f"{name}{rank}d")
        yield norm(4), shape
        yield norm(4, eps=1e-3, momentum=0.01, affine=True, track_running_stats=True), shape
        yield norm(4, affine=False, track_running_stats=False), shape
    yield getattr(nn, f"BatchNorm{rank}d")(4, momentum=None), shape


def _others():
    maps = (2, 4, 8, 8)
    yield nn.Linear(8, 3), (2, 8)
    yield nn.Linear(8, 3, bias=False), (2, 5, 8)
    yield nn.GroupNorm(2, 4, eps=1e-6), maps
    yield nn.GroupNorm(1, 4, affine=False), maps
    yield nn.LocalResponseNorm(3, alpha=1e-3, k=2), maps
    for name in ("CELU", "ELU", "GELU", "Hardshrink", "Hardsigmoid", "Hardswish", "Hardtanh"):
        yield getattr(nn, name)(), maps
    for name in ("LeakyReLU", "LogSigmoid", "Mish", "RReLU", "ReLU", "ReLU6", "SELU", "SiLU"):
        yield getattr(nn, name)(), maps
    for name in ("Sigmoid", "Softplus", "Softshrink", "Softsign", "Tanh", "Tanhshrink", "GLU"):
        yield getattr(nn, name)(), maps
    for name in ("Dropout", "Dropout2d", "AlphaDropout", "FeatureAlphaDropout", "Identity"):
        yield getattr(nn, name)(), maps
    yield nn.Dropout1d(0.2), (2, 4, 8)
    yield nn.Dropout3d(0.3, inplace=True), (2, 4, 8, 8, 8)
    yield nn.Dropout(p=0.1, inplace=True), maps
    yield nn.Identity(54, unused=0.1), maps
    yield nn.ReLU(inplace=True), maps
    yield nn.CELU(0.7, inplace=True), maps
    yield nn.ELU(alpha=0.5), maps
    yield nn.GELU(approximate="tanh"), maps
    yield nn.GLU(dim=1), maps
    yield nn.Hardshrink(0.3), maps
    yield nn.Hardtanh(-2, 3.5, True), maps
    yield nn.LeakyReLU(0.2), maps
    yield nn.RReLU(0.2, 0.4), maps
    yield nn.Softplus(2, 10), maps
    yield nn.Softshrink(0.1), maps
    yield nn.Threshold(0.1, 20), maps
    yield nn.Threshold(0, float("inf")), maps
    yield nn.PReLU(), maps
    yield nn.PReLU(4, init=0.1), maps
    for name in ("Softmax", "Softmin", "LogSoftmax"):
        yield getattr(nn, name)(dim=1), maps
    yield nn.Softmax2d(), maps
    yield nn.FractionalMaxPool2d(3, output_size=(5, 4)), maps
    yield nn.FractionalMaxPool2d((2, 3), output_ratio=0.5, return_indices=True), maps
    yield nn.FractionalMaxPool3d(2, output_ratio=(0.5, 0.6, 0.5)), (2, 4, 8, 8, 8)
    yield nn.FractionalMaxPool3d(2, output_size=3), (2, 4, 8, 8, 8)
    yield nn.AdaptiveAvgPool2d((None, 3)), maps
    yield nn.AdaptiveMaxPool2d((2, None), return_indices=True), maps
    yield nn.AvgPool2d(2, divisor_override=3), maps
    yield nn.Upsample(scale_factor=2), maps
    yield nn.Upsample(scale_factor=(2, 1.5), mode="bilinear", align_corners=True), maps
    yield nn.Upsample(size=(3, 5), mode="bicubic"), maps
    yield nn.Upsample(size=7), maps
    yield nn.Upsample(scale_factor=1.7, recompute_scale_factor=True), maps
    yield nn.UpsamplingNearest2d(scale_factor=2), maps
    yield nn.UpsamplingBilinear2d(size=(3, 4)), maps
    yield nn.Flatten(), maps
    yield nn.Flatten(2, 3), maps
    yield nn.PixelShuffle(2), maps
    yield nn.PixelUnshuffle(4), maps
    yield nn.Unfold(2), maps
    yield nn.Unfold((3, 2), dilation=2, padding=1, stride=(2, 1)), maps
    yield nn.Fold((5, 6), 2), (2, 8, 20)
    yield nn.Fold(4, (2, 1), stride=2), (2, 8, 4)
    yield nn.Embedding(5, 8), None
    yield nn.Embedding(5, 8, padding_idx=1, scale_grad_by_freq=True, sparse=True), None


EXAMPLES = list(examples())


def write(layer):
    """The text of a layer of which nothing was cut."""
    writer = SimpleNamespace(argument=getattr)
    return render(prunecore_write_block(layer, "", writer).call)


@pytest.mark.parametrize(("layer", "shape"), EXAMPLES, ids=[str(one) for one, _ in EXAMPLES])
def test_the_text_evaluates_to_an_equal_layer(layer, shape):
    text = write(layer)
    again = eval(text, {"nn": nn})
    assert type(again) is type(layer)
    assert write(again) == text
    again.load_state_dict(layer.state_dict())
    if shape is not None:
        x = torch.rand(shape) - 0.5
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns of some arguments at every call
            torch.manual_seed(0)
            expected = layer.eval()(x.clone())
            torch.manual_seed(0)
            actual = again.eval()(x.clone())
        torch.testing.assert_close(actual, expected, rtol=0, atol=0, equal_nan=True)


def test_every_owned_layer_has_an_example():
    # these are tested with the networks that they need: test_normalization, _shapes, _containers
    elsewhere = {
        nn.Sequential,
        nn.ModuleList,
        nn.ModuleDict,
        nn.ParameterList,
        nn.ParameterDict,
        nn.LayerNorm,
        nn.Unflatten,
        getattr(nn, "RMSNorm", None),
    }
    assert set(prunecore_block_types()) - {type(layer) for layer, _ in EXAMPLES} <= elsewhere


@pytest.mark.parametrize(
    ("layer", "text"),
    [
        (nn.Conv2d(3, 48, (7, 7), 2, 3), "nn.Conv2d(3, 48, 7, stride=2, padding=3)"),
        (nn.Conv2d(3, 48, 3, bias=False), "nn.Conv2d(3, 48, 3, bias=False)"),
        (nn.Conv2d(3, 4, (1, 7), padding=(0, 3)), "nn.Conv2d(3, 4, (1, 7), padding=(0, 3))"),
        (nn.MaxPool2d(2, 2), "nn.MaxPool2d(2)"),
        (nn.MaxPool2d(3, stride=2, padding=1), "nn.MaxPool2d(3, stride=2, padding=1)"),
        (nn.AvgPool1d(2), "nn.AvgPool1d(2)"),
        (nn.AdaptiveAvgPool2d((1, 1)), "nn.AdaptiveAvgPool2d(1)"),
        (nn.AdaptiveAvgPool2d((6, None)), "nn.AdaptiveAvgPool2d((6, None))"),
        (nn.ZeroPad2d(1), "nn.ZeroPad2d(1)"),
        (nn.ReLU(True), "nn.ReLU(inplace=True)"),
        (nn.Dropout(), "nn.Dropout()"),
        (nn.Sigmoid(), "nn.Sigmoid()"),
        (nn.BatchNorm2d(8), "nn.BatchNorm2d(8)"),
        (nn.BatchNorm2d(8, affine=False), "nn.BatchNorm2d(8, affine=False)"),
        (nn.Linear(3, 4, bias=False), "nn.Linear(3, 4, bias=False)"),
        (nn.Upsample(scale_factor=(2, 2)), "nn.Upsample(scale_factor=2.0)"),
        (nn.ConstantPad1d(1, float("-inf")), 'nn.ConstantPad1d(1, float("-inf"))'),
        (nn.ConvTranspose2d(4, 2, 2, stride=2), "nn.ConvTranspose2d(4, 2, 2, stride=2)"),
    ],
    ids=str,
)  # fmt: skip
def test_the_text_is_as_a_person_would_write_it(layer, text):
    assert write(layer) == text


def test_a_padding_that_is_the_dilation_is_no_argument_of_its_own():
    class Dilated(nn.Module):
        def __init__(self, dilation):
            super().__init__()
            self.branch = nn.Sequential(Part(dilation), Part(1))

        def forward(self, x):
            return x + self.branch(x)

    class Part(nn.Module):
        def __init__(self, dilation):
            super().__init__()
            self.conv = nn.Conv2d(3, 8, 3, padding=dilation, dilation=dilation)
            self.last = nn.Conv2d(8, 3, 1)

        def forward(self, x):
            return torch.relu(self.last(self.conv(x)))

    model = nn.Sequential(Dilated(1), Dilated(2), nn.Conv2d(3, 2, 1))
    text = prunecore.prune(model, level=30, input_shape=(3, 8, 8), mode="random").source
    assert "padding=dilation, dilation=dilation" in text
    assert "branch_width2: int" in text
