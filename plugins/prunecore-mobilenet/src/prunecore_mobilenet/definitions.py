"""The functions and classes that written blocks share, each under a name of its own."""

from __future__ import annotations

import itertools

from prunecore import Writer


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
