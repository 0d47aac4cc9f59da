"""CPU seconds to prune half of the channels, beside Torch-Pruning, one thread.

    python benchmarks/speed.py [NAME ...] [--device cuda] [--write]

prunecore and Torch-Pruning run alternately in one process, one warm-up each; the medians of three
runs count. What is timed starts at the user's model and ends at a smaller model with its weights:
for prunecore that includes the written source, for Torch-Pruning the building of its graph. The
limit is what any tool has to do: read every weight once, and copy what is kept. On an accelerator
seconds are by the clock, once it has done all that it was given. With `--write` the tables go into
docs/speed.md, and their head into the README.
"""

from __future__ import annotations

import argparse
import copy
import gc
import statistics
import time
from collections.abc import Callable

import torch
import torch_pruning
import torchvision
from page import HEAD, parser_of, show, table, write_part
from torch import Tensor, nn

import prunecore

NETWORKS = [
    "resnet18",
    "resnet50",
    "resnet152",
    "mobilenet_v2",
    "googlenet",
    "vgg16_bn",
    "densenet121",
    "efficientnet_v2_s",
    "regnet_y_3_2gf",
    "convnext_base",
    "vit_b_16",
    "squeezenet1_1",
    "mnasnet1_0",
    "shufflenet_v2_x1_0",
    "densenet201",
]
VERIFIED = ("resnet18", "resnet50", "vgg16_bn")
HEADLINES = (
    "resnet50",
    "mobilenet_v2",
    "vgg16_bn",
    "densenet121",
    "convnext_base",
    "vit_b_16",
)
INPUT_SHAPE = (3, 224, 224)
REPEATS = 3


def made(name: str, device: str) -> nn.Module:
    """A network of torchvision's with random weights, which takes one tensor and returns one."""
    arguments = {"init_weights": True, "aux_logits": False} if name == "googlenet" else {}
    model: nn.Module = torchvision.models.get_model(name, **arguments).eval().to(device)
    return model


def with_prunecore(model: nn.Module, verify: bool = False) -> nn.Module:
    """Half of the channels, ranked over the whole network."""
    return prunecore.prune(
        model, level=50, input_shape=INPUT_SHAPE, mode="l1-norm", target="channels", verify=verify
    ).model


def with_torch_pruning(model: nn.Module) -> nn.Module:
    """Half of the channels of every layer, in place."""
    layers = [layer for layer in model.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    pruner = torch_pruning.pruner.MagnitudePruner(
        model,
        torch.randn(1, *INPUT_SHAPE, device=layers[0].weight.device),
        importance=torch_pruning.importance.MagnitudeImportance(p=1),
        pruning_ratio=0.5,
        global_pruning=False,
        ignored_layers=layers[-1:],
    )
    pruner.step()
    return model


def clock(device: str) -> float:
    """CPU seconds; on an accelerator seconds by the clock, once it has done what it was given."""
    if device == "cpu":
        return time.process_time()
    torch.accelerator.synchronize(device)
    return time.perf_counter()


def seconds(work: Callable[[], object], device: str) -> float:
    """The seconds that one call takes."""
    gc.collect()  # what the one has left behind costs the other nothing
    start = clock(device)
    work()
    return clock(device) - start


def medians(device: str, *works: Callable[[], Callable[[], object]]) -> list[float]:
    """The median seconds of each, run alternately after one warm-up.

    Args:
        device: where the networks are.
        works: each makes, outside of the timing, what is to be called.
    """
    rounds = [[seconds(make(), device) for make in works] for _ in range(REPEATS + 1)]
    return [statistics.median(times) for times in zip(*rounds[1:], strict=True)]


def copy_kept(weights: dict[str, Tensor], kept: dict[str, Tensor]) -> None:
    """Read every weight once, and copy as much of each as is kept."""
    for name, weight in weights.items():
        weight.sum()
        if name in kept:
            weight[tuple(map(slice, kept[name].shape))].clone()


def pruning_row(name: str, device: str) -> list[str]:
    """Both libraries on one network, and the limit, in seconds."""
    model = made(name, device)
    weights, kept = model.state_dict(), with_prunecore(model).state_dict()

    def on_copy() -> Callable[[], object]:
        duplicate = copy.deepcopy(model)
        return lambda: with_torch_pruning(duplicate)

    def ours() -> Callable[[], object]:
        return lambda: with_prunecore(model)

    def limit() -> Callable[[], object]:
        return lambda: copy_kept(weights, kept)

    try:
        with_torch_pruning(copy.deepcopy(model))
    except Exception as error:  # whatever it raises on a network that it cannot prune
        own, least = medians(device, ours, limit)
        theirs, times = f"fails: {type(error).__name__}", ""
    else:
        own, other, least = medians(device, ours, on_copy, limit)
        theirs, times = f"{other:.3f}", f"{other / own:.1f}"
    part = own / (3 * least + 0.1)
    return [name, f"{own:.3f}", theirs, times, f"{least:.3f}", f"{part:.2f}"]


def verification_row(name: str, device: str) -> list[str]:
    """What verification adds, in forward passes of the original in float64."""
    model = made(name, device)
    exact = copy.deepcopy(model).double()
    image = torch.randn(1, *INPUT_SHAPE, dtype=torch.float64, device=device)

    def forward() -> Tensor:
        with torch.no_grad():
            return exact(image)  # type: ignore[no-any-return]

    off, on, one_pass = medians(
        device,
        lambda: lambda: with_prunecore(model),
        lambda: lambda: with_prunecore(model, verify=True),
        lambda: forward,
    )
    passes = (on - off) / one_pass
    return [name, f"{off:.3f}", f"{on:.3f}", f"{one_pass:.3f}", f"{passes:.1f}"]


def asked_for(description: str | None) -> argparse.Namespace:
    """What the command line asks: names, a device, and whether to write."""
    parser = parser_of(description)
    parser.add_argument("names", nargs="*", default=NETWORKS, metavar="NAME")
    parser.add_argument("--device", default="cpu")
    return parser.parse_args()


def main() -> None:
    """Print both tables, or write them."""
    given = asked_for(__doc__)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    heads = ["network", "prunecore", "Torch-Pruning", "times faster"]
    rows = [pruning_row(name, given.device) for name in given.names]
    verification = table(
        ["network", "without", "with verification", "a pass in float64", "passes that it takes"],
        [verification_row(name, given.device) for name in given.names if name in VERIFIED],
    )
    show("pruning", table([*heads, "limit", "of 3 limits + 0.1 s"], rows), given.write)
    show("verification", verification, given.write)
    if given.write:
        head = [row[: len(heads)] for row in rows if row[0] in HEADLINES]
        write_part("speed", table(heads, head), HEAD)


if __name__ == "__main__":
    main()
