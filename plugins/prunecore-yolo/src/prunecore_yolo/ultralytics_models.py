"""A pruned network back in the class of ultralytics that trains, validates and predicts."""

from __future__ import annotations

import copy
from typing import Any

from torch import nn

from prunecore import UsageError

_OF_LAYERS = ("i", "f", "type")  # a layer's place, where its inputs come from, and its class


def graft(model: nn.Module, small: nn.Module) -> Any:
    """Put the layers of a pruned network into the network of ultralytics that it was made of.

    Args:
        model: the original, a `DetectionModel` or another task's; it is left as it is.
        small: the pruned one: `small.model`, or what the factory of a written file returns. Its
            layers are those of the result, no copies.

    Returns:
        A network of the original's class. Its last layer, the head, is of the original's class as
        well, with the layers of the pruned head in it: it knows the classes, strides and losses.

    Raises:
        UsageError: the two are not the same layers.

    Example:
        >>> grafted = graft(yolo.model, small.model)
        >>> trainer = DetectionTrainer(overrides={"data": "coco8.yaml", "epochs": 10})
        >>> trainer.model = grafted
        >>> trainer.train()
    """
    original, cut = (getattr(network, "model", None) for network in (model, small))
    if not isinstance(original, nn.Sequential) or not isinstance(cut, nn.Sequential):
        raise UsageError(
            "graft takes a network of ultralytics, whose layers are in its attribute model, and "
            f"what was pruned of it, not {type(model).__name__} and {type(small).__name__}.\n"
            "Give yolo.model and small.model."
        )
    if len(original) != len(cut):
        raise UsageError(
            f"The pruned network has {len(cut)} layers, and the original has {len(original)}.\n"
            "Give the network that it was pruned from."
        )
    grafted: Any = copy.deepcopy(model)
    *layers, head = grafted.model
    for place, layer in enumerate(layers):
        own: Any = cut[place]
        for name in _OF_LAYERS:
            setattr(own, name, getattr(layer, name))
        own.np = sum(parameter.numel() for parameter in own.parameters())
        grafted.model[place] = own
    for name, child in cut[-1].named_children():
        setattr(head, name, child)
    grafted.criterion = None  # made anew for what it is to train
    return grafted
