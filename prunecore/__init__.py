"""Make trained neural networks smaller by removing whole channels.

The names below are what users rely on; `prunecore.plugin` has those of plugin authors. They are
imported when they are first used, so that the command line answers `--help` without importing
torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from prunecore.errors import (
    LevelError,
    PrunecoreError,
    UnsupportedError,
    UsageError,
    VerificationError,
)

if TYPE_CHECKING:
    from prunecore.calibration import Calibration
    from prunecore.criteria.scoring import Scoring
    from prunecore.decorators import skip
    from prunecore.inspection import inspect
    from prunecore.planning.request import Limits
    from prunecore.pruned_model import PrunedModel
    from prunecore.pruning import prune, trace
    from prunecore.training.regularizer import regularizer
    from prunecore.verification import verify

_HOMES = {
    "Calibration": "calibration",
    "Limits": "planning.request",
    "PrunedModel": "pruned_model",
    "Scoring": "criteria.scoring",
    "inspect": "inspection",
    "prune": "pruning",
    "regularizer": "training.regularizer",
    "skip": "decorators",
    "trace": "pruning",
    "verify": "verification",
}

__all__ = [
    "Calibration",
    "LevelError",
    "Limits",
    "PrunecoreError",
    "PrunedModel",
    "Scoring",
    "UnsupportedError",
    "UsageError",
    "VerificationError",
    "inspect",
    "prune",
    "regularizer",
    "skip",
    "trace",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'prunecore' has no attribute {name!r}")
    globals()[name] = value = getattr(import_module(f"prunecore.{_HOMES[name]}"), name)
    return value


def __dir__() -> list[str]:
    return list(__all__)
