"""What a written file is called, and what it says of itself."""

from __future__ import annotations

import re

from torch import nn

from prunecore.errors import UsageError, check_kind
from prunecore.escaping import nearest_name, shown_value, visible, why_no_name
from prunecore.planning.plan import Plan
from prunecore.planning.request import Request
from prunecore.writing.text import is_taken


def full_name(model: nn.Module) -> str:
    """The full name of a network's class."""
    return f"{type(model).__module__}.{type(model).__qualname__}"


def checked_name(name: str) -> str:
    """The name of a written file's factory.

    Raises:
        UsageError: it cannot be that.
    """
    check_kind("name", name, str, "Give one such as name='resnet18'.")
    if reason := why_no_name(name):
        wrong = f"cannot name a Python function: {reason}"
    elif is_taken(name):
        wrong = "is one of the file's own"
    else:
        return name
    raise UsageError(
        f"The name {shown_value(name)} {wrong}.\nGive one such as 'resnet18' (--name)."
    )


def default_name(model: nn.Module) -> str:
    """A factory's name after a network's class: `my_net` for `MyNet`, `resnet` for `ResNet`."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z][a-z])", "_", type(model).__name__)
    name = nearest_name(words.lower().replace("res_net", "resnet"), "net")
    return f"{name}_net" if is_taken(name) else name


def docstring_of(model: nn.Module, request: Request, plan: Plan) -> str:
    """What the written file says of itself; nothing that another run would not say."""
    before, after = plan.before, plan.after
    counted = {"params": "parameters", "macs": "MACs"}.get(plan.target, plan.target)
    params = _amounts(before.params, after.params) + " parameters" * (plan.target != "params")
    figures = f"{params}, {_amounts(before.macs, after.macs)}MACs"
    asked = f"to {plan.goal.text}" if plan.goal else f"level {plan.asked:g}"
    origin = visible(request.origin or full_name(model))
    name = nearest_name(type(model).__name__, "Module")
    return (
        f"{name} without {plan.achieved:.0f} % of its {counted}: {figures}.\n\n"
        f"Written by prunecore ({request.mode}, {asked}) from {origin}. "
        "Edit freely.\n"
    )


def _amounts(before: int, after: int) -> str:
    """`11689512, 5594000` to `11.69 -> 5.59 M`, in the unit that suits the first."""
    size, unit = next((s, u) for s, u in _UNITS if before >= s or s == 1)
    return f"{before / size:.2f} -> {after / size:.2f} {unit}"


_UNITS = ((1e9, "G"), (1e6, "M"), (1e3, "k"), (1, ""))
