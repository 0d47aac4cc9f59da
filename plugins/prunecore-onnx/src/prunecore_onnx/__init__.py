"""Latencies in onnxruntime, for prunecore: the backend `onnxruntime`.

Networks are exported by torch's exporter of before 2.9, which traces: it takes a second where the
new one takes several and needs a further library, and a network that prunecore has written is
straight enough for it. onnx and onnxruntime are imported when a latency is measured, not before.
"""

from __future__ import annotations

import io
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from prunecore.plugin import hookimpl

if TYPE_CHECKING:
    from prunecore.plugin import LatencyBackend


@hookimpl
def prunecore_latency_backends() -> Mapping[str, LatencyBackend]:
    """Times networks in onnxruntime, on the CPU."""
    return {"onnxruntime": onnxruntime}


def onnxruntime(
    network: nn.Module, args: Sequence[Tensor], kwargs: Mapping[str, Tensor]
) -> Callable[[], Any]:
    """Export a network, and run it in onnxruntime on the CPU, on as many threads as torch has.

    Args:
        network: in eval mode.
        args: what it is given by place.
        kwargs: what it is given by name.
    """
    from onnxruntime import InferenceSession, SessionOptions

    options = SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.inter_op_num_threads = 1
    # threads that spin after a run would take the turn of the network that is timed beside
    options.add_session_config_entry("session.force_spinning_stop", "1")
    tensors = {f"input_{place}": tensor for place, tensor in enumerate((*args, *kwargs.values()))}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "network.onnx")
        _export(_ByPlace(network, len(args), tuple(kwargs)), tensors, file)
        session = InferenceSession(file, options, providers=["CPUExecutionProvider"])
    feed = {one.name: tensors[one.name].cpu().numpy() for one in session.get_inputs()}
    return lambda: session.run(None, feed)


def _export(network: nn.Module, tensors: Mapping[str, Tensor], file: Path) -> None:
    """Write a network as ONNX, in which the weights are."""
    # where it fails, it prints the graph
    with warnings.catch_warnings(), torch.no_grad(), redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")  # that there is a new exporter, and what a trace fixes
        torch.onnx.export(
            network, tuple(tensors.values()), file, input_names=list(tensors), dynamo=False
        )


class _ByPlace(nn.Module):
    """Calls a network with tensors that are all given by place.

    Args:
        network: the network.
        count: of the tensors that it is given by place, too.
        names: of the others.
    """

    def __init__(self, network: nn.Module, count: int, names: Sequence[str]) -> None:
        super().__init__()
        self.network, self.count, self.names = network, count, names
        self.train(network.training)

    def forward(self, *tensors: Tensor) -> Any:
        """What the network returns."""
        named = dict(zip(self.names, tensors[self.count :], strict=True))
        return self.network(*tensors[: self.count], **named)
