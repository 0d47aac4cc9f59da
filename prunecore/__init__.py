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
    from prunecore.channels import Channels
    from prunecore.decorators import DecoratedBlocks, skip
    from prunecore.functions import FunctionRule, Operation, elementwise, spatial
    from prunecore.keep import Keep
    from prunecore.pipeline import PrunedModel, prune
    from prunecore.plan import Plan
    from prunecore.signal import Signal, along
    from prunecore.source import BlockSource, Call, Name, call
    from prunecore.writer import Writer

_HOMES = {
    "Channels": "channels",
    "DecoratedBlocks": "decorators",
    "skip": "decorators",
    "FunctionRule": "functions",
    "Operation": "functions",
    "elementwise": "functions",
    "spatial": "functions",
    "Keep": "keep",
    "PrunedModel": "pipeline",
    "prune": "pipeline",
    "Plan": "plan",
    "Signal": "signal",
    "along": "signal",
    "BlockSource": "source",
    "Call": "source",
    "Name": "source",
    "call": "source",
    "Writer": "writer",
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
