"""What stands for tensors and sizes in a forward that is traced; its length is often known."""

from __future__ import annotations

from typing import Any

from torch import fx

from prunecore.deciding import Undecided


class _Counted(fx.Proxy):
    def __len__(self) -> int:
        tracer: Any = self.tracer
        try:
            return int(tracer.decider.count(self))
        except Undecided:
            return super().__len__()

    def __getattr__(self, k: str) -> CountedAttribute:
        return CountedAttribute(self, k)


class CountedProxy(_Counted):
    """Stands for a value, as `fx.Proxy` does."""


class CountedAttribute(_Counted, fx.proxy.Attribute):
    """Stands for an attribute or a method, as `fx.proxy.Attribute` does."""
