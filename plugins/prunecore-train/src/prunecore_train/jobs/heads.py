"""Classifiers of a subset: the outputs of other classes dropped, and the kept ones named."""

from __future__ import annotations

import json

from torch import nn

import prunecore
from prunecore.strategies.outputs import with_outputs
from prunecore_train.images.data import Data

_TEXT = """

# What each output stands for: the number of the class in {name}, and what it is called.
CLASSES = {{
{rows}
}}
"""


def shrunk(network: nn.Module, data: Data, name: str) -> tuple[str, nn.Module]:
    """A network with the outputs of the kept classes alone; labels then count these.

    Returns:
        The text of its file, and the network.

    Raises:
        PrunecoreError: its outputs cannot be parted.
    """
    traced = prunecore.trace(network, data.images(1))
    data.renumbered = True
    source, smaller = with_outputs(traced, data.kept, len(data.source.classes), name)
    return with_classes(source, data), smaller


def with_classes(source: str, data: Data) -> str:
    """The text of a written file, and where its outputs are the kept classes, what these are."""
    if not data.renumbered:
        return source
    rows = [f"    {number}: {json.dumps(data.source.classes[number])}," for number in data.kept]
    return source + _TEXT.format(name=json.dumps(data.source.name), rows="\n".join(rows))
