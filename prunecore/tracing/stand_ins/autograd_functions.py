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


def applying(method: Any) -> type[Function] | None:
    """The function whose `apply` this is; `None` for anything else."""
    of_class = getattr(method, "__self__", None)
    if isinstance(of_class, type) and issubclass(of_class, Function) and method.__name__ == "apply":
        return of_class
    return None
