"""torchvision's blocks of GoogLeNet and Inception v3, and how the usual ones are written.

After Szegedy et al., "Going Deeper with Convolutions", 2015, arXiv 1409.4842, and "Rethinking the
Inception Architecture for Computer Vision", 2016, arXiv 1512.00567, and torchvision's
`googlenet.py` and `inception.py`.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

from prunecore.plugin import BlockSource, Call, Channels, LazyClasses, Signal, Writer, is_like
from prunecore_googlenet import dependencies, written

# A module and the name of a constructor argument to its value, the original or the kept one.
Read = Callable[[nn.Module, str], Any]

_MOST_BY_PLACE = 8  # widths, beside the input's, that can be told apart without their names
_OPTIONS = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1, "padding_mode": "zeros"}


@dataclass(frozen=True)
class Kind:
    """One of torchvision's blocks.

    Attributes:
        written: the class as it is written.
        calculate: follows the channels through it.
        branches: the paths of its `BasicConv2d`, for each argument of the written class but the
            first; several where an argument lists the widths of a branch.
    """

    written: type[nn.Module]
    calculate: Callable[[Any, Signal, Channels], Signal]
    branches: tuple[str | tuple[str, ...], ...] = ()


def is_usual(kind: Kind, block: Any) -> bool:
    """True if a block has the layers that the written class makes of its widths."""
    layers = dict(block.named_modules(remove_duplicate=False))
    if not all(type(layers.get(path)) is nn.Conv2d for path in _convolutions(kind)):
        return False
    call = _call(kind, block, getattr)
    alike = {cls: known.written for cls, known in KINDS.found().items()}
    positional = map(_frozen, call.positional)
    keywords = {key: _frozen(value) for key, value in call.keywords.items()}
    return is_like(block, functools.partial(kind.written, *positional, **keywords), alike)


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def write(kind: Kind, block: Any, writer: Writer) -> BlockSource:
    """Write a usual block as torchvision does."""
    return writer.source(_call(kind, block, writer.argument), kind.written)


def _convolutions(kind: Kind) -> list[str]:
    """The paths of a block's convolutions; the first one reads the block's input."""
    branches = ([branch] if isinstance(branch, str) else branch for branch in kind.branches)
    return [f"{path}.conv" for branch in branches for path in branch] or ["conv"]


def _call(kind: Kind, block: nn.Module, read: Read) -> Call:
    """The constructor call with the widths that `read` gives."""
    name, names = kind.written.__name__, tuple(inspect.signature(kind.written).parameters)
    first, *others = (block.get_submodule(path) for path in _convolutions(kind))
    in_channels = read(first, "in_channels")
    if kind is BASIC_CONV:
        widths = (in_channels, read(first, "out_channels"))
        options = {option: _once(read(first, option)) for option in ("kernel_size", *_OPTIONS)}
        return Call(name, widths, options, _OPTIONS, names[:2])
    made = iter([read(conv, "out_channels") for conv in (first, *others)])
    branches = [
        next(made) if isinstance(branch, str) else [next(made) for _ in branch]
        for branch in kind.branches
    ]
    if len(others) < _MOST_BY_PLACE:
        return Call(name, (in_channels, *branches), names=names)
    return Call(name, (in_channels,), dict(zip(names[1:], branches, strict=True)), names=names[:1])


def _once(value: Any) -> Any:
    """One number for both axes where they are equal."""
    return value[0] if isinstance(value, tuple) and value[0] == value[1] else value


BASIC_CONV = Kind(written.BasicConv2d, dependencies.basic_conv)
INCEPTION = Kind(
    written.Inception,
    dependencies.inception,
    ("branch1", "branch2.0", "branch2.1", "branch3.0", "branch3.1", "branch4.1"),
)
INCEPTION_A = Kind(
    written.InceptionA,
    dependencies.inception_a,
    (
        "branch1x1",
        ("branch5x5_1", "branch5x5_2"),
        ("branch3x3dbl_1", "branch3x3dbl_2", "branch3x3dbl_3"),
        "branch_pool",
    ),
)
INCEPTION_B = Kind(
    written.InceptionB,
    dependencies.inception_b,
    ("branch3x3", ("branch3x3dbl_1", "branch3x3dbl_2", "branch3x3dbl_3")),
)
INCEPTION_C = Kind(
    written.InceptionC,
    dependencies.inception_c,
    (
        "branch1x1",
        ("branch7x7_1", "branch7x7_2", "branch7x7_3"),
        tuple(f"branch7x7dbl_{number}" for number in range(1, 6)),
        "branch_pool",
    ),
)
INCEPTION_D = Kind(
    written.InceptionD,
    dependencies.inception_d,
    (
        ("branch3x3_1", "branch3x3_2"),
        ("branch7x7x3_1", "branch7x7x3_2", "branch7x7x3_3", "branch7x7x3_4"),
    ),
)
INCEPTION_E = Kind(
    written.InceptionE,
    dependencies.inception_e,
    (
        "branch1x1",
        ("branch3x3_1", "branch3x3_2a", "branch3x3_2b"),
        ("branch3x3dbl_1", "branch3x3dbl_2", "branch3x3dbl_3a", "branch3x3dbl_3b"),
        "branch_pool",
    ),
)

KINDS = LazyClasses(
    {
        "torchvision.models.googlenet.BasicConv2d": BASIC_CONV,
        "torchvision.models.googlenet.Inception": INCEPTION,
        "torchvision.models.inception.BasicConv2d": BASIC_CONV,
        "torchvision.models.inception.InceptionA": INCEPTION_A,
        "torchvision.models.inception.InceptionB": INCEPTION_B,
        "torchvision.models.inception.InceptionC": INCEPTION_C,
        "torchvision.models.inception.InceptionD": INCEPTION_D,
        "torchvision.models.inception.InceptionE": INCEPTION_E,
    }
)
