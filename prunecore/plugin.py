"""All that authors of plugins need; every other name of prunecore may change.

Most plugins own classes of blocks. What they are handed has all that they use: `channels.through`,
`channels.couple`, `channels.apply`, `channels.trace` and `channels.refuse` to follow channels, and
`writer.width`, `writer.child` and `writer.trace` to write a block, which is a `BlockSource` whose
constructor is a `Call`, of a class that `writer.source` takes from the plugin. Decorators of one's
own are `DecoratedBlocks`; other libraries' classes are found by their paths in `LazyClasses`, and
`is_like` tells whether a block has the layers that its class usually makes.

Owners of layers hand out and bind channels themselves (`channels.fresh`, `channels.bind`,
`channels.width`, and so on), lay ids `along` an axis of a `Signal`, and run `over_kept` places what
zeros would disturb. `bind_units` is for filters several of which make a channel, `count_product`
counts what tensors multiply with one another. Rules for functions are `FunctionRule`s, which
calculate from an `Operation`; `elementwise` and `spatial` are such calculations; one that
understands weights that a forward computes says so with `Computed`. A `Criterion` gets one
`ScoringContext`, with the user's `Scoring`, and gives one score a channel. What is refitted is a
`LinearMap`, or has `RunningStatistics`. What times networks is a `LatencyBackend`.
"""

from __future__ import annotations

from prunecore.channels.channels import Channels
from prunecore.channels.ids import along
from prunecore.channels.keep import Keep
from prunecore.channels.layers.linear_map import LinearMap, RunningStatistics
from prunecore.channels.layers.over_kept import over_kept
from prunecore.channels.layers.products import count_product
from prunecore.channels.layers.units import bind_units
from prunecore.channels.signal import Computed, Signal
from prunecore.criteria.criterion import Criterion, ScoringContext
from prunecore.criteria.scoring import Scoring
from prunecore.decorators import DecoratedBlocks
from prunecore.errors import PluginError, UnsupportedError, UsageError
from prunecore.functions.rule import FunctionRule, Operation, elementwise, spatial
from prunecore.hookspecs import hookimpl
from prunecore.latency.backends import LatencyBackend
from prunecore.registry import LazyClasses, is_like
from prunecore.writing.text import BlockSource, Call, Name
from prunecore.writing.writer import Writer

__all__ = [
    "BlockSource",
    "Call",
    "Channels",
    "Computed",
    "Criterion",
    "DecoratedBlocks",
    "FunctionRule",
    "Keep",
    "LatencyBackend",
    "LazyClasses",
    "LinearMap",
    "Name",
    "Operation",
    "PluginError",
    "RunningStatistics",
    "Scoring",
    "ScoringContext",
    "Signal",
    "UnsupportedError",
    "UsageError",
    "Writer",
    "along",
    "bind_units",
    "count_product",
    "elementwise",
    "hookimpl",
    "is_like",
    "over_kept",
    "spatial",
]
