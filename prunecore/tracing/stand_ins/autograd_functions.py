"""Functions with a gradient of their own, as traced forwards call them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch.autograd.function import Function


@dataclass(frozen=True)
class Applied:
    """What a traced forward calls for `Square.apply(x)`.

    Attributes:
        function: the class of the function.
    """

    function: type[Function]

    @property
    def __name__(self) -> str:
        """How the call is written."""
        return f"{self.function.__name__}.apply"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call it."""
        return self.function.apply(*args, **kwargs)
