"""Make trained neural networks smaller by removing whole channels.

The names below are what users and plugin authors rely on. They are imported when they are first
used, so that the command line answers `--help` without importing torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from prunecore.errors import (
    InputShapeError,
    LevelError,
    PluginError,
    PrunecoreError,
    UnsupportedError,
    UsageError,
    VerificationError,
    WeightsError,
)
from prunecore.hookspecs import hookimpl

if TYPE_CHECKING:
    from prunecore.channels.channels import Channels
    from prunecore.channels.ids import along
    from prunecore.channels.keep import Keep
    from prunecore.channels.signal import Signal
    from prunecore.decorators import DecoratedBlocks, skip
    from prunecore.functions.rule import FunctionRule, Operation, elementwise, spatial
    from prunecore.planning.plan import Plan
    from prunecore.pruning import PrunedModel, prune
    from prunecore.writing.text import BlockSource, Call, Name, call
    from prunecore.writing.writer import Writer

_HOMES = {
    "Channels": "channels.channels",
    "DecoratedBlocks": "decorators",
    "skip": "decorators",
    "FunctionRule": "functions.rule",
    "Operation": "functions.rule",
    "elementwise": "functions.rule",
    "spatial": "functions.rule",
    "Keep": "channels.keep",
    "PrunedModel": "pruning",
    "prune": "pruning",
    "Plan": "planning.plan",
    "Signal": "channels.signal",
    "along": "channels.ids",
    "BlockSource": "writing.text",
    "Call": "writing.text",
    "Name": "writing.text",
    "call": "writing.text",
    "Writer": "writing.writer",
}

__all__ = [
    "BlockSource",
    "Call",
    "Channels",
    "DecoratedBlocks",
    "FunctionRule",
    "InputShapeError",
    "Keep",
    "LevelError",
    "Name",
    "Operation",
    "Plan",
    "PluginError",
    "PrunecoreError",
    "PrunedModel",
    "Signal",
    "UnsupportedError",
    "UsageError",
    "VerificationError",
    "WeightsError",
    "Writer",
    "along",
    "call",
    "elementwise",
    "hookimpl",
    "prune",
    "skip",
    "spatial",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'prunecore' has no attribute {name!r}")
    return getattr(import_module(f"prunecore.{_HOMES[name]}"), name)
