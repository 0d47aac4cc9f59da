"""What is told of a pruned or inspected network: reports, and a written file's docstring."""

from __future__ import annotations

import inspect
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from prunecore.channels.dependencies import Dependencies, groups_of
from prunecore.channels.ids import FIXED, counted
from prunecore.channels.keep import Keep
from prunecore.channels.names import is_within, named_modules, named_plain_tensors, named_tensors
from prunecore.escaping import nearest_name, visible
from prunecore.files.reports.schema import SCHEMA
from prunecore.inputs import Inputs
from prunecore.planning.cost import Counter
from prunecore.planning.plan import Plan
from prunecore.planning.request import Request
from prunecore.tracing.arguments import given_to, is_constant


def docstring_of(
    model: nn.Module, request: Request, plan: Plan, inputs: Inputs, needed: Sequence[str] = ()
) -> str:
    """What the written file says of itself; what another run would say, too.

    How much of a latency is gone is measured, and may differ.

    Args:
        model: the original.
        request: what was asked.
        plan: the level and the costs.
        inputs: what the network is called with.
        needed: the arguments that the original's forward may lack, and the written one may not.
    """
    before, after = plan.before, plan.after
    counted = {"params": "parameters", "macs": "MACs"}.get(plan.target, plan.target)
    params = _amounts(before.params, after.params) + " parameters" * (plan.target != "params")
    figures = f"{params}, {_amounts(before.macs, after.macs, 'MACs')}"
    asked = f"to {plan.goal.text}" if plan.goal else f"level {plan.asked:g}"
    origin = visible(request.origin or f"{type(model).__module__}.{type(model).__qualname__}")
    name = nearest_name(type(model).__name__, "Module")
    fixed = ", ".join(fixed_arguments(model, inputs))
    lacks = f"\nWithout arguments that the original's forward may be given: {fixed}.\n"
    always = f"\nNever without arguments that the original's may lack: {', '.join(needed)}.\n"
    return (
        f"{name} without {plan.achieved:.0f} % of its {counted}: {figures}.\n\n"
        f"Written by prunecore ({request.mode}, {asked}) from {origin}. "
        f"Edit freely.\n{lacks if fixed else ''}{always if needed else ''}"
    )


def fixed_arguments(model: nn.Module, inputs: Inputs) -> list[str]:
    """The arguments of a network's forward that the written one does without.

    They were not given, and have their default. Or they choose what the forward does, as `None`, a
    flag or a word do, and are a part of what was followed.
    """
    signature = inspect.signature(model.forward)
    given = given_to(signature, inputs.args, inputs.kwargs)
    free = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [
        name
        for name, parameter in signature.parameters.items()
        if parameter.kind not in free and (name not in given or is_constant(given[name]))
    ]


def _amounts(before: int, after: int, what: str = "") -> str:
    """`11689512, 5594000` to `11.69 -> 5.59 M`, in the unit that suits the first."""
    size, unit = next((s, u) for s, u in _UNITS if before >= s or s == 1)
    digits = 2 if unit else 0
    return f"{before / size:.{digits}f} -> {after / size:.{digits}f} {unit}{what}".rstrip()


_UNITS = ((1e9, "G"), (1e6, "M"), (1e3, "k"), (1, ""))


def build_report(
    *,
    name: str,
    model: nn.Module,
    request: Request,
    plan: Plan,
    keep: Keep,
    dependencies: Dependencies,
    verified: Mapping[str, Any] | None,
    recovered: Sequence[Mapping[str, Any]],
    plugins: Mapping[str, str],
    inputs: Inputs,
) -> dict[str, Any]:
    """What was asked, what came out, and what was kept.

    Args:
        name: the network's name.
        model: the original.
        request: what was asked.
        plan: the level, the limits and the costs.
        keep: the kept indices.
        dependencies: the network's channels.
        verified: what the check found, `None` where it was not asked for.
        recovered: the steps that were taken after it, and what each has done.
        plugins: distribution name to version.
        inputs: what the network is called with.

    Returns:
        Plain values, ready for JSON.
    """
    return {
        "schema": SCHEMA,
        "model": name,
        "mode": request.mode,
        "scoring": asdict(request.scoring),
        "target": plan.target,
        "scope": plan.limits.scope,
        "limits": {key: value for key, value in asdict(plan.limits).items() if key != "scope"},
        "seed": request.seed,
        "fingerprint": request.fingerprint,
        "inputs": inputs.as_dict(),
        "goal": plan.goal and plan.goal.text,
        "level": {"asked": plan.asked, "achieved": round(plan.achieved, 4)},
        "latency": plan.latency and plan.latency.as_dict(),
        "before": plan.before.as_dict(),
        "after": plan.after.as_dict(),
        "kept": _kept(keep, dependencies),
        "groups": _groups(dependencies, plan.kept),
        "verified": None if verified is None else dict(verified),
        "recovered": [dict(step) for step in recovered],
        "steps": 1,
        "tried": [],
        "fixed_arguments": fixed_arguments(model, inputs),
        "needed_arguments": list(dependencies.forwards.needed),
        "left_out": list(keep.left_out),
        "left_whole": _left_whole(dependencies, keep.removed_blocks),
        "plugins": dict(plugins),
    }


def build_inspection(
    *,
    name: str,
    model: nn.Module,
    inputs: Inputs,
    dependencies: Dependencies,
    plugins: Mapping[str, str],
) -> dict[str, Any]:
    """What a network is made of, before anything is done to it.

    Args:
        name: the network's name.
        model: the network.
        inputs: what the network is called with.
        dependencies: its channels.
        plugins: distribution name to version.

    Returns:
        Plain values, ready for JSON. A group's `removable` counts the channels that may go.
    """
    told = inputs.as_dict()
    shapes = [*told["shapes"], *told["named"].values()]
    may_go = np.append(dependencies.removable, False)
    groups = [(layers, *_places(dependencies, layers)) for layers in _coupled(dependencies)]
    number_of = {layer: i for i, (layers, *_) in enumerate(groups) for layer in layers}
    modules, costs = dict(named_modules(model)), _layer_costs(dependencies)
    everything = np.ones(dependencies.count, dtype=bool)
    return {
        "schema": SCHEMA,
        "model": name,
        "input_shape": shapes[0] if len(shapes) == 1 and isinstance(shapes[0], list) else shapes,
        **Counter(dependencies).cost(everything).as_dict(),
        "layers": [
            {
                "layer": path,
                "class": _class_of(path, modules),
                "channels": len(dependencies.axes[index]),
                **costs[path],
                "group": number_of[path],
            }
            for path, index in dependencies.layers.items()
        ],
        "groups": [
            {
                "layers": layers,
                "channels": int(places.sum()),
                "removable": int(places[may_go[channels]].sum()),
            }
            for layers, channels, places in groups
        ],
        "fixed_arguments": fixed_arguments(model, inputs),
        "needed_arguments": list(dependencies.forwards.needed),
        "left_out": list(dependencies.left_out),
        "left_whole": _left_whole(dependencies, removed_blocks=()),
        "plugins": dict(plugins),
    }


def report_text(report: Mapping[str, Any]) -> str:
    """A report as JSON with sorted keys, one entry a line, so that two of them can be compared."""
    rows = [f"{json.dumps(key)}: {_entries(report[key])}" for key in sorted(report)]
    return "{\n  " + ",\n  ".join(rows) + "\n}\n"


def report_line(report: Mapping[str, Any]) -> str:
    """A report as JSON in a single line, with sorted keys."""
    return json.dumps(report, sort_keys=True)


def _entries(value: Any) -> str:
    if isinstance(value, list) and value:
        rows, brackets = [json.dumps(item, sort_keys=True) for item in value], "[]"
    elif isinstance(value, dict) and value:
        rows = [f"{json.dumps(key)}: {json.dumps(value[key])}" for key in sorted(value)]
        brackets = "{}"
    else:
        return json.dumps(value)
    return f"{brackets[0]}\n    " + ",\n    ".join(rows) + f"\n  {brackets[1]}"


def _left_whole(dependencies: Dependencies, removed_blocks: Sequence[str]) -> list[dict[str, str]]:
    return [
        {"layer": path, "reason": why}
        for path, why in dependencies.left_whole.items()
        if not is_within(path, removed_blocks)
    ]


def _kept(keep: Keep, dependencies: Dependencies) -> dict[str, list[list[int] | None]]:
    """Kept indices by axis of each tensor that was cut, under all of its names."""
    left_out = tuple(f"{path}." for path in keep.left_out)
    named = [
        *named_tensors(keep.model, remove_duplicate=False),
        *named_plain_tensors(keep.model),
    ]
    kept: dict[str, list[list[int] | None]] = {}
    lists: dict[int, list[int]] = {}  # by the array's id: many tensors have the same axes
    for name, tensor in named:
        cut_axes = keep.cut_axes(tensor)
        if cut_axes and not name.startswith(left_out):
            axes: list[list[int] | None] = [None] * tensor.ndim
            for axis in cut_axes:
                places = keep.indices(tensor, axis)
                assert places is not None
                if id(places) not in lists:
                    lists[id(places)] = places.tolist()
                axes[axis] = lists[id(places)].copy()
            kept[name] = axes
    return kept


def _groups(dependencies: Dependencies, kept: NDArray[np.bool_]) -> list[dict[str, Any]]:
    """The layers that share channels, with how many places these have before and after."""
    stays = np.append(kept, True)
    groups = [(layers, *_places(dependencies, layers)) for layers in _coupled(dependencies)]
    return [
        {"layers": layers, "channels": [int(places.sum()), int(places[stays[channels]].sum())]}
        for layers, channels, places in groups
    ]


def _coupled(dependencies: Dependencies) -> list[list[str]]:
    """The paths of layers that share channels, group by group."""
    groups = groups_of(dependencies)
    members: dict[int | str, list[str]] = {}
    for path, index in dependencies.layers.items():
        array = dependencies.axes[index]
        channels = array[array != FIXED]
        # a layer of which everything always stays shares nothing
        members.setdefault(int(groups[channels[0]]) if len(channels) else path, []).append(path)
    return list(members.values())


def _places(
    dependencies: Dependencies, layers: Sequence[str]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The channels of some layers, FIXED among them, and at how many places of a layer each lies.

    Where a layer makes only a part of what another one makes, as before a concatenation, the
    larger number counts, so that the sum is the places of both together.
    """
    arrays = [dependencies.axes[index] for index in {dependencies.layers[it] for it in layers}]
    if len(arrays) == 1:
        return counted(arrays[0])
    channels = np.unique(np.concatenate(arrays))
    places = np.zeros(len(channels), dtype=np.int64)
    for array in arrays:
        own = np.bincount(np.searchsorted(channels, array), minlength=len(channels))
        np.maximum(places, own, out=places)
    return channels, places


def _class_of(path: str, modules: Mapping[str, nn.Module]) -> str:
    """The class of a layer, or of the module that holds a weight which counts as one."""
    return type(modules[path if path in modules else path.rpartition(".")[0]]).__name__


def _layer_costs(dependencies: Dependencies) -> dict[str, dict[str, int]]:
    """What each module takes without its children, and each weight that counts as a layer."""
    costs: dict[str, dict[str, int]] = defaultdict(lambda: {"params": 0, "macs": 0})
    for name, tensor in dependencies.tensors.items():
        macs = dependencies.macs.get(name, 0) * tensor.numel()
        for path in (name, name.rpartition(".")[0]):
            costs[path]["params"] += tensor.numel() * isinstance(tensor, nn.Parameter)
            costs[path]["macs"] += macs
    for weight in dependencies.computed:
        if weight.of in dependencies.tensors:
            for path in (weight.of, weight.of.rpartition(".")[0]):
                costs[path]["macs"] += weight.macs * weight.size
    for product in dependencies.products:
        costs[product.of]["macs"] += product.macs
    return costs
