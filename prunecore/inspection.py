"""What a network is made of: layers, coupled groups, parameters and MACs."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from prunecore.calibration import Calibration, Images
from prunecore.errors import UsageError
from prunecore.escaping import shown
from prunecore.files.reports.report import build_inspection
from prunecore.inputs import ExampleInputs, InputShape
from prunecore.pruning import trace
from prunecore.strategies.sensitivity import sensitivity as sensitivity_of
from prunecore.traced_model import TracedModel

_COLUMNS = ("layer", "class", "group", "channels", "removable", "params", "macs")


@dataclass(frozen=True, repr=False)
class Inspection:
    """What a network is made of, before anything is done to it.

    Attributes:
        report: the same as plain values, as `prunecore inspect --json` prints them.
    """

    report: Mapping[str, Any]

    @property
    def params(self) -> int:
        """The number of parameters that the network reaches."""
        return int(self.report["params"])

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one input."""
        return int(self.report["macs"])

    @property
    def layers(self) -> Sequence[Mapping[str, Any]]:
        """For each layer that makes channels its `layer` (path), `class`, `channels`, and so on."""
        rows: Sequence[Mapping[str, Any]] = self.report["layers"]
        return rows

    @property
    def groups(self) -> Sequence[Mapping[str, Any]]:
        """For each group of coupled layers its `layers`, `channels`, and the `removable` ones."""
        rows: Sequence[Mapping[str, Any]] = self.report["groups"]
        return rows

    def _rows(self) -> list[list[str]]:
        return [
            [
                shown(layer["layer"]) or "(the network)",
                shown(layer["class"]),
                str(layer["group"]),
                str(layer["channels"]),
                str(self.groups[layer["group"]]["removable"]),
                f"{layer['params']:,}",
                f"{layer['macs']:,}",
            ]
            for layer in self.layers
        ]

    def _heading(self) -> str:
        return f"{shown(self.report['model'])}: {self.params:,} parameters, {self.macs:,} MACs"

    def __repr__(self) -> str:
        rows = [list(_COLUMNS), *self._rows()]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            "  ".join(
                cell.ljust(width) if number < 2 else cell.rjust(width)  # names left, numbers right
                for number, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in rows
        ]
        return "\n".join([self._heading(), "", *lines])

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{column}</th>" for column in _COLUMNS)
        body = "".join(
            "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>"
            for row in self._rows()
        )
        return (
            f"<table><caption>{html.escape(self._heading())}</caption>"
            f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        )


def inspect(
    model: nn.Module,
    example_inputs: ExampleInputs | None = None,
    *,
    input_shape: InputShape | None = None,
    example_kwargs: Mapping[str, Tensor] | None = None,
    name: str | None = None,
    calibration: Calibration | Images | None = None,
    sensitivity: bool = False,
    strict: bool = False,
) -> Inspection:
    """Find a network's layers, which of them are coupled, parameters and MACs; nothing is changed.

    Args:
        model: the network.
        example_inputs: what it is called with, as for `prunecore.prune`.
        input_shape: in their place, the shape of one input without the batch; or of each.
        example_kwargs: example inputs that the network is given by name.
        name: what the network is called; its class's name where not given.
        calibration: images without labels for the sensitivity, as for `prunecore.prune`.
        sensitivity: whether each group of coupled layers is pruned and refitted alone, to tell how
            far the network then agrees with the original; that takes a refit for each.
        strict: whether what is not understood is refused, as for `prunecore.prune`.

    Raises:
        PrunecoreError: with what is wrong, where, and what to do.

    Example:
        >>> prunecore.inspect(model, torch.rand(1, 3, 224, 224))
    """
    if calibration is not None and not sensitivity:
        raise UsageError(
            "Calibration images are read for the sensitivity alone, and it is not asked for.\n"
            "Give sensitivity=True, or leave the images out."
        )
    traced = trace(
        model,
        example_inputs,
        input_shape=input_shape,
        example_kwargs=example_kwargs,
        calibration=calibration,
        strict=strict,
    )
    return inspect_traced(
        traced, name or type(model).__name__, sensitivity_of(traced) if sensitivity else None
    )


def inspect_traced(
    traced: TracedModel, name: str, sensitivity: Mapping[str, Any] | None = None
) -> Inspection:
    """What a network that has been followed is made of.

    Args:
        traced: the network.
        name: what it is called.
        sensitivity: of its groups, where that has been measured.
    """
    report = build_inspection(
        name=name,
        model=traced.model,
        inputs=traced.inputs,
        dependencies=traced.dependencies,
        plugins=traced.plugins.versions(),
    )
    if sensitivity is not None:
        number_of = {layer["layer"]: layer["group"] for layer in report["layers"]}
        groups = [
            {"group": number_of[group["layers"][0]], **group} for group in sensitivity["groups"]
        ]
        report["sensitivity"] = {**sensitivity, "groups": groups}
    return Inspection(report)
