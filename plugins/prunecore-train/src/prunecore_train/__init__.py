"""Training for prunecore: networks as Lightning modules, data sets by name, and commands.

The names below are imported when they are first used: Lightning takes seconds.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prunecore_train.config import DataConfig, TrainConfig
    from prunecore_train.images.data import Data
    from prunecore_train.training.network import Network

_HOMES = {
    "Data": "images.data",
    "DataConfig": "config",
    "Network": "training.network",
    "TrainConfig": "config",
}

__all__ = ["Data", "DataConfig", "Network", "TrainConfig"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'prunecore_train' has no attribute {name!r}")
    globals()[name] = value = getattr(import_module(f"prunecore_train.{_HOMES[name]}"), name)
    return value
