"""What a forward leaves behind: other numbers for its next call, and attributes of its children."""

from __future__ import annotations

from torch import nn

from prunecore.channels.names import named_modules
from prunecore.isolation.state import Contents, is_same
from prunecore.tracing.modules.attributes import options_of
from prunecore.tracing.modules.scopes import mentioned


class NextCallError(TypeError):
    """A forward does something else when it is called again."""


class SetElsewhereError(TypeError):
    """A forward sets what another module reads."""


class Left:
    """What a module, its containers and its children hold before its forward runs.

    Args:
        module: the module.
    """

    def __init__(self, module: nn.Module) -> None:
        self._own = Contents()
        for thing in (vars(module), module._buffers, *(value for _, value in options_of(module))):
            self._own.add(thing)
        self._children = [
            (path, child, dict(vars(child))) for path, child in named_modules(module)[1:]
        ]

    def put_back(self) -> list[str]:
        """Let the children hold again what they did.

        Returns:
            What they were given instead and their forwards may read, by path and name.
        """
        found = []
        for path, child, before in self._children:
            held = vars(child)
            if [*map(id, held.values())] == [*map(id, before.values())]:
                continue
            new = [name for name, x in held.items() if not is_same(x, before.get(name, held))]
            held.clear()
            held.update(before)
            found += [f"{path}.{x}" for x in new if x in mentioned(type(child), ())]
        return found

    def has_numbers(self, shared: Contents) -> bool:
        """True if the next call finds other numbers or words; all else is as it was afterwards.

        Args:
            shared: what others can reach, too.
        """
        leave = [contents.leaves_numbers() for contents in (self._own, shared)]
        return any(leave)
