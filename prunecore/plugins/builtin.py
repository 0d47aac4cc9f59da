"""The built-in plugin: the core's own criteria, and its rules for functions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from prunecore.criteria.activations import activation, reconstruction
from prunecore.criteria.criterion import Criterion
from prunecore.criteria.gates import fisher, taylor
from prunecore.criteria.magnitude import bn_scale, fpgm, l1_norm, l2_norm, lamp, magnitude
from prunecore.criteria.random import random, random_weighted
from prunecore.criteria.surgeon import surgeon
from prunecore.functions.rule import FunctionRule
from prunecore.functions.table import RULES
from prunecore.hookspecs import hookimpl
from prunecore.latency.backends import LatencyBackend, eager


@hookimpl
def prunecore_functions() -> Mapping[Callable[..., Any], FunctionRule]:
    """The rules for the functions of torch that people call between layers."""
    return RULES


@hookimpl
def prunecore_criteria() -> Mapping[str, Criterion]:
    """The modes of prunecore's own."""
    return {
        "random": random,
        "random-weighted": random_weighted,
        "magnitude": magnitude,
        "l1-norm": l1_norm,
        "l2-norm": l2_norm,
        "bn-scale": bn_scale,
        "fpgm": fpgm,
        "lamp": lamp,
        "taylor": taylor,
        "fisher": fisher,
        "activation": activation,
        "reconstruction": reconstruction,
        "surgeon": surgeon,
    }


@hookimpl
def prunecore_latency_backends() -> Mapping[str, LatencyBackend]:
    """What times networks without a library but torch."""
    return {"eager": eager}
