"""Modules made for their shapes alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._device import DeviceContext, _device_constructors


class Uninitialised(DeviceContext):
    """Modules are made on the meta device, and what has no values is not initialised."""

    def __init__(self) -> None:
        super().__init__(torch.device("meta"))

    def __enter__(self) -> Uninitialised:
        # that of its base tells the device to all threads
        TorchFunctionMode.__enter__(self)  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *error: Any) -> None:
        TorchFunctionMode.__exit__(self, *error)  # type: ignore[no-untyped-call]

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if function in _INITIALISING:
            tensor = args[0] if args else kwargs["tensor"]
            if tensor.is_meta:
                return tensor
        elif function in _CONSTRUCTORS and kwargs.get("device") is None:
            kwargs["device"] = self.device
            if function in _FILLING and kwargs.keys() <= {"device", "dtype"}:
                function = torch.empty  # which takes a fifth of the time
        return function(*args, **kwargs)


_CONSTRUCTORS = _device_constructors()


_FILLING = (torch.zeros, torch.ones)


# what `torch.nn.init` asks of a mode, by these names
_INITIALISING = {
    *(getattr(nn.init, name) for name in ("constant_", "kaiming_uniform_", "normal_", "uniform_")),
    *(getattr(Tensor, name) for name in ("fill_", "normal_", "uniform_", "zero_")),
}
