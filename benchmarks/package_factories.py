"""Factories for networks of packages that take what a command line has no spelling for."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from torch import nn


def configured(name: str, **configuration: Any) -> nn.Module:
    """The network of a class of transformers, such as `BertModel`, from its configuration."""
    made = getattr(import_module("transformers"), name)
    network: nn.Module = made(made.config_class(**configuration))
    return network


def with_tuples(factory: str, **arguments: Any) -> nn.Module:
    """What `package.module:factory` returns, which takes no lists where it means tuples."""
    module, _, name = factory.partition(":")
    given = {key: tuple(v) if isinstance(v, list) else v for key, v in arguments.items()}
    network: nn.Module = getattr(import_module(module), name)(**given)
    return network
