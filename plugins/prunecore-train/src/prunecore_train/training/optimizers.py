"""Optimisers and schedules of their rates by name, with the options that torch gives them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from math import inf
from typing import Any

from torch import nn
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR, LRScheduler, StepLR

from prunecore.errors import UsageError, reason_of, unknown_name
from prunecore.escaping import shown_value
from prunecore_train.config import Named

_OPTIMIZERS: dict[str, type[Optimizer]] = {"SGD": SGD, "AdamW": AdamW}
_PERIODS: dict[str, tuple[Callable[..., LRScheduler], str]] = {
    "cosine": (CosineAnnealingLR, "T_max"),
    "step": (StepLR, "step_size"),
}


def optimizer_of(named: Named, parameters: Iterable[nn.Parameter]) -> Optimizer:
    """An optimiser of these parameters.

    Raises:
        UsageError: it has no such option, or does not take its value.
    """
    make = _OPTIMIZERS[named.name]
    _check_options(named, make, "params")
    with_rate = {"lr": 1e-3, **named.options} if named.name == "AdamW" else named.options
    if "lr" not in with_rate:
        raise UsageError(
            f"The optimizer {named.name} has no rate.\n"
            f"Give train: optimizer: {{name: {named.name}, lr: 0.05}}."
        )
    return _made(named, lambda: make(parameters, **with_rate))  # type: ignore[no-any-return]


def schedule_of(named: Named, optimizer: Optimizer, epochs: int, steps: int) -> LRScheduler:
    """A schedule that is stepped with every batch; its options count epochs.

    Args:
        named: which; `cosine` falls over all epochs; `explicit` has `rates`, of each epoch from
            which on one holds.
        optimizer: whose rate it is.
        epochs: of the training.
        steps: of an epoch.

    Raises:
        UsageError: it has no such option, or does not take its value.
    """
    if named.name == "explicit":
        return _explicit(named, optimizer, steps)
    make, period = _PERIODS[named.name]
    _check_options(named, make, "optimizer", "last_epoch")
    options = {"T_max": epochs, **named.options} if named.name == "cosine" else {**named.options}
    if not isinstance(options.get(period), int) or options[period] < 1:
        raise UsageError(
            f"The schedule {named.name} has {period}, a number of epochs, not "
            f"{shown_value(options.get(period))}.\n"
            "Give train: schedule: {name: step, step_size: 10, gamma: 0.1}, for instance."
        )
    options[period] *= steps
    return _made(named, lambda: make(optimizer, **options))  # type: ignore[no-any-return]


def _explicit(named: Named, optimizer: Optimizer, steps: int) -> LRScheduler:
    rates = named.options.get("rates")
    if (
        set(named.options) != {"rates"}
        or not isinstance(rates, Mapping)
        or 0 not in rates
        or not all(isinstance(epoch, int) and epoch >= 0 for epoch in rates)
        or not all(isinstance(rate, int | float) and 0 <= rate < inf for rate in rates.values())
    ):
        raise UsageError(
            "The schedule explicit has a rate from each of some epochs on, the first 0, not "
            f"{shown_value(dict(named.options))}.\n"
            "Give train: schedule: {name: explicit, rates: {0: 0.1, 20: 0.01}}."
        )
    base = optimizer.param_groups[0]["lr"]
    if not base:
        raise UsageError("The optimizer's lr is 0, which no schedule changes.\nGive another.")
    starts = sorted(rates)
    return LambdaLR(
        optimizer, lambda step: rates[max(at for at in starts if at <= step // steps)] / base
    )


def _check_options(named: Named, make: Callable[..., Any], *own: str) -> None:
    known = [name for name in inspect.signature(make).parameters if name not in own]
    for option in named.options:
        if option not in known:
            raise unknown_name(f"option of {named.name}", option, known)


def _made(named: Named, make: Callable[[], Any]) -> Any:
    try:
        return make()
    except (TypeError, ValueError, RuntimeError) as error:
        raise UsageError(
            f"{named.name} does not take these options: {reason_of(error)}.\nGive others."
        ) from error
