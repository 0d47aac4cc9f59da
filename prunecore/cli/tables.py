"""The tables that the command line prints."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from prunecore.escaping import shown, visible
from prunecore.latency.timing import WIDE
from prunecore.planning.plan import TOLERANCE
from prunecore.planning.request import DATA_FREE

_FEW = 10  # images: of fewer, one more or less is a share that says little

_MORE = "More calibration images tell more surely."


def prune_table(reports: Sequence[Mapping[str, Any]]) -> Table:
    """One row a level: asked and achieved, costs before and after, and what the check found."""
    first = reports[0]
    targets = dict.fromkeys(report["target"] for report in reports)
    table = _table(
        f"{first['model']}, {first['mode']}, level in percent of the {' or '.join(targets)}"
    )
    headings = ["asked", "achieved", "parameters", "MACs", "difference"]
    extra: list[tuple[str, Callable[[Mapping[str, Any]], str]]] = []
    if any(report["latency"] for report in reports):
        extra.append(("latency", lambda report: _latency(report["latency"])))
    if any(report["recovered"] for report in reports):
        extra.append(("agreement", lambda report: _agreement(report["recovered"])))
    headings += [heading for heading, _ in extra]
    for heading in headings:
        table.add_column(heading, justify="right")
    for report in reports:
        before, after, verified = report["before"], report["after"], report["verified"]
        table.add_row(
            report["goal"] or f"{report['level']['asked']:g}",
            f"{report['level']['achieved']:.2f}",
            f"{amount(before['params'])} -> {amount(after['params'])}",
            f"{amount(before['macs'])} -> {amount(after['macs'])}",
            f"<= {verified['max_relative_difference']:.0e}" if verified else "not verified",
            *(cell(report) for _, cell in extra),
        )
    return table


def _latency(latency: Mapping[str, Any] | None) -> str:
    """How long the network took before, and takes now."""
    if latency is None:
        return ""
    return f"{latency['before']['ms']:.3g} -> {latency['after']['ms']:.3g} ms"


def _agreement(steps: Sequence[Mapping[str, Any]]) -> str:
    """The share of the original's predictions on held-back images, before the steps and after.

    The steps that were undone are named.
    """
    steps = [step for step in steps if "agreement" in step]  # the user's own are not judged
    if not steps:
        return ""
    kept = [step["agreement"][1] for step in steps if not step["undone"]]
    shares = " -> ".join(map(_share, [steps[0]["agreement"][0], *kept[-1:]]))
    undone = [step["step"] for step in steps if step["undone"]]
    return f"{shares}, {' and '.join(undone)} undone" if undone else shares


def _share(share: float | None) -> str:
    return "-" if share is None else f"{share:.1%}"


def inspection_table(inspection: Mapping[str, Any]) -> Table:
    """One row a layer; layers of one group share their channels."""
    shape = inspection["input_shape"]
    several = any(isinstance(size, list | dict | str) for size in shape)
    shapes = list(map(_shown_input, shape if several else [shape]))
    table = _table(
        f"{inspection['model']}, input {' and '.join(shapes)}: "
        f"{amount(inspection['params'])} parameters, {amount(inspection['macs'])} MACs"
    )
    for heading in ("layer", "class"):
        table.add_column(heading)
    for heading in ("group", "channels", "removable", "parameters", "MACs"):
        table.add_column(heading, justify="right")
    for layer in inspection["layers"]:
        table.add_row(
            Text(shown(layer["layer"]) or "(the network)"),
            Text(shown(layer["class"])),
            str(layer["group"]),
            str(layer["channels"]),
            str(inspection["groups"][layer["group"]]["removable"]),
            amount(layer["params"]),
            amount(layer["macs"]),
        )
    return table


def _shown_input(given: Any) -> str:
    """An input of an inspection: its sizes, its type with its sizes, or its value."""
    if isinstance(given, dict):
        return shown(str(given["value"]))
    return given if isinstance(given, str) else ",".join(map(str, given))


def sensitivity_table(inspection: Mapping[str, Any]) -> Table:
    """One row a group: agreement and error with shares of its channels gone."""
    found = inspection["sensitivity"]
    table = _table(
        f"{inspection['model']}, each group pruned and refitted alone, by {found['mode']}: "
        f"agreement and error on {found['held_back']} images"
    )
    table.add_column("group", justify="right")
    table.add_column("layers")
    shares = sorted({level["asked"] for group in found["groups"] for level in group["levels"]})
    for heading in ("removable", *(f"{share:g} % gone" for share in shares)):
        table.add_column(heading, justify="right")
    for group in found["groups"]:
        cells = {level["asked"]: _trial(level) for level in group["levels"]}
        table.add_row(
            str(group["group"]),
            Text(layers_in_short(group["layers"])),
            str(inspection["groups"][group["group"]]["removable"]),
            *(cells.get(share, "-") for share in shares),
        )
    return table


def _trial(level: Mapping[str, Any]) -> str:
    agreement = level["agreement"]
    return f"{'-' if agreement is None else f'{agreement:.1%}'}  {level['error']:.3f}"


def layers_in_short(layers: Sequence[str]) -> str:
    """The first of some layers, and how many more there are."""
    first = shown(layers[0]) or "(the network)"
    return first if len(layers) == 1 else f"{first} and {len(layers) - 1} more"


def _table(title: str) -> Table:
    text = Text(visible(title), "bold")  # what looks like rich's markup in a name is none
    return Table(title=text, title_justify="left", box=box.SIMPLE_HEAD)


def amount(number: int) -> str:
    """A count as people say it: `25.56 M`."""
    for unit, name in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if number >= unit:
            return f"{number / unit:.2f} {name}"
    return str(number)


def undone_lines(report: Mapping[str, Any]) -> list[str]:
    """The steps of recovery that were undone, and what they had brought, a line each."""
    lines = []
    for step in report["recovered"]:
        if step["undone"]:
            before, after = map(_share, step["agreement"])
            agreed = (
                ""
                if after == "-"
                else f"agreed with its original in {after} ({before} before), and "
            )
            more = "" if step["step"] == DATA_FREE else f" {_MORE}"
            lines.append(
                f"Undone: {step['step']}. On {_count(step['held_back'], 'image')} held back, "
                f"{visible(report['model'])} then {agreed}had a relative error of "
                f"{step['error'][1]:.3g} ({step['error'][0]:.3g} before).{more}"
            )
    return lines


def level_lines(report: Mapping[str, Any]) -> list[str]:
    """What there is to say of a level that widths allow no nearer to what was asked."""
    asked, achieved = report["level"]["asked"], report["level"]["achieved"]
    if report["target"] == "latency" or abs(achieved - asked) <= TOLERANCE:
        return []
    multiple = report["limits"]["round_to"]
    widths = f"widths that are multiples of {multiple}" if multiple > 1 else "whole channels"
    return [
        f"Note: {achieved:.2f} % of the {report['target']} of {visible(report['model'])} are gone "
        f"in place of {asked:.4g} %: with {widths} no nearer level was found."
    ]


def few_lines(report: Mapping[str, Any]) -> list[str]:
    """What there is to say of an agreement that is told by very few images."""
    judged = [step for step in report["recovered"] if step.get("standard_error") is not None]
    return [
        f"Note: {visible(report['model'])} is compared with its original on "
        f"{_count(step['held_back'], 'image')} held back: the agreement may be off by "
        f"{100 * step['standard_error']:.0f} points. {_MORE}"
        for step in judged[-1:]
        if step["held_back"] < _FEW
    ]


def _count(number: int, what: str) -> str:
    return f"1 {what}" if number == 1 else f"{number} {what}s"


def spread_lines(report: Mapping[str, Any]) -> list[str]:
    """What there is to say of a latency that was measured while the machine did other things."""
    after = report["latency"] and report["latency"]["after"]
    if not after or after["spread"] <= WIDE:
        return []
    return [
        f"Warning: turns of {visible(report['model'])} at {after['ms']:.3g} ms spread by "
        f"{after['spread']:.0%}: on a quiet machine it may be faster."
    ]


def whole_lines(report: Mapping[str, Any]) -> list[str]:
    """What was left whole or out, and why, a line each reason."""
    by_reason: dict[str, list[str]] = {}
    for entry in report["left_whole"]:
        by_reason.setdefault(entry["reason"], []).append(shown(entry["layer"]))
    lines = [
        f"Left whole: {', '.join(paths)}, because {visible(why)}."
        for why, paths in by_reason.items()
    ]
    if report["fixed_arguments"]:
        lines.append(f"Without arguments of its forward: {', '.join(report['fixed_arguments'])}.")
    if report["needed_arguments"]:
        needed = ", ".join(report["needed_arguments"])
        lines.append(f"Never without arguments that the original's forward may lack: {needed}.")
    if report["left_out"]:
        lines.append(f"Left out: {', '.join(map(shown, report['left_out']))}.")
    return lines
