"""The functions and classes that written blocks share, each under a name of its own."""

from __future__ import annotations

import itertools

from torch import nn

from prunecore.plugin import Call, Name, Writer

_LINE = 88  # columns, as ruff formats by default


class Definitions:
    """What the constructor call of one block needs, in order.

    Args:
        writer: knows what the file defines already.
    """

    def __init__(self, writer: Writer) -> None:
        self.texts: dict[str, str] = {}
        self._defined = writer.definitions

    def add(self, name: str, template: str, **names: str) -> str:
        """Define something, under a number where its name means something else in the file.

        Args:
            name: what it is called.
            template: its text, with `{name}` for the name that it gets.
            names: further names and expressions in the template.

        Returns:
            The name that it got.
        """
        for number in itertools.count(1):
            free = name if number == 1 else f"{name}{number}"
            text = template.format(name=free, **names)
            if {**self._defined, **self.texts}.get(free, text) == text:
                break
        self.texts[free] = text
        return free

    def batch_norm(self, layer: nn.BatchNorm2d) -> str:
        """What makes batch norms like this one of a number of channels."""
        channels = Name("channels")
        norm = Call.of(
            nn.BatchNorm2d, num_features=channels, eps=layer.eps, momentum=layer.momentum
        )
        line = f"    return {norm}"
        if line == "    return nn.BatchNorm2d(channels)":
            return norm.function
        if len(line) > _LINE:
            line = line.replace("(", "(\n        ").replace(")", "\n    )")
        return self.add("batch_norm", _BATCH_NORM, line=line)

    def conv_norm(self, layer: nn.BatchNorm2d) -> str:
        """What puts a batch norm like this one behind a convolution."""
        return self.add("conv_norm", _CONV_NORM, norm=self.batch_norm(layer))


_BATCH_NORM = """def {name}(channels: int) -> nn.BatchNorm2d:
{line}
"""
_CONV_NORM = """def {name}(conv: nn.Conv2d, *activation: nn.Module) -> nn.Sequential:
    return nn.Sequential(conv, {norm}(conv.out_channels), *activation)
"""
