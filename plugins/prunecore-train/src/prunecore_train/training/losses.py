"""What a network is trained for, and judged by: losses and metrics by name."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch.nn.functional as F
import torchmetrics.classification
from torch import Tensor
from torchmetrics import Metric, MetricCollection

from prunecore.errors import PrunecoreError, UsageError, reason_of, told, unknown_name
from prunecore.escaping import shown, shown_value
from prunecore.files import models
from prunecore_train.config import Named

Loss = Callable[[Any, Any], Tensor]

_LOSSES = sorted(
    name for name in vars(F) if name.endswith(("_loss", "_entropy")) and not name.startswith("_")
)
_METRICS = sorted(
    name.removeprefix("Multiclass")
    for name in torchmetrics.classification.__all__
    if name.startswith("Multiclass")
)
_PREFIX = "top-"


def loss_of(named: Named) -> Loss:
    """A function of a network's outputs and labels.

    Raises:
        UsageError: there is none of that name, or it has no such option.
    """
    if ":" in named.name:
        function, _ = models.load_function(named.name)
    elif named.name in _LOSSES:
        function = getattr(F, named.name)
    else:
        error = str(unknown_name("loss", named.name, _LOSSES)).removesuffix(".")
        raise UsageError(f"{error}; or give package.module:function.")
    parameters = inspect.signature(function).parameters
    if not any(one.kind is one.VAR_KEYWORD for one in parameters.values()):
        for option in named.options:
            if option not in parameters:
                raise unknown_name(f"option of {named.name}", option, [*parameters][2:])
    loss = functools.partial(function, **named.options)
    return _telling(named.name, loss) if ":" in named.name else loss


def _telling(name: str, loss: Loss) -> Loss:
    """A loss of the user's, whose errors name it."""

    def told_loss(outputs: Any, labels: Any) -> Tensor:
        try:
            value = loss(outputs, labels)
        except Exception as error:  # whatever the user's code raises
            raise PrunecoreError(f"The loss {shown(name)} raised {told(error)}.") from error
        if not isinstance(value, Tensor) or value.ndim:
            raise PrunecoreError(
                f"The loss {shown(name)} returned {shown_value(value)}, not one number.\n"
                "Return a tensor without axes, such as a mean."
            )
        return value

    return told_loss


def metrics_of(names: Sequence[str], classes: int) -> MetricCollection:
    """Metrics by their names, of so many classes; a `top-5` of fewer than six is left out.

    Raises:
        UsageError: there is none of a name.
    """
    found: dict[str, Metric] = {}
    for name in names:
        number = name.removeprefix(_PREFIX)
        if name.startswith(_PREFIX) and number.isdecimal() and int(number):
            if int(number) < classes:
                found[name] = torchmetrics.classification.MulticlassAccuracy(
                    classes, top_k=int(number), average="micro", validate_args=False
                )
        elif name in _METRICS:
            make = getattr(torchmetrics.classification, f"Multiclass{name}")
            try:
                found[name] = make(num_classes=classes)
            except (TypeError, ValueError) as error:
                raise UsageError(
                    f"The metric {name} cannot be had by its name alone: {reason_of(error)}.\n"
                    "Give others."
                ) from error
        else:
            raise unknown_name("metric", name, ["top-1", "top-5", *_METRICS])
    return MetricCollection(found)  # type: ignore[arg-type]
