"""Modes of torch that are in force for one thread, and that nothing else notices."""

from __future__ import annotations

from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode, _pop_mode, _push_mode


class ThreadMode(TorchDispatchMode):
    """A mode that sees what is computed in this thread while it is active.

    torch's own notes for the whole process that there is one, and compiles nothing meanwhile; two
    of two threads may leave that note behind. It also imports torch's compiler, in seconds.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # no network that is compiled comes this far

    def __enter__(self) -> Any:
        _push_mode(self)
        return self

    def __exit__(self, *_: object) -> None:
        _pop_mode()
