"""What must hold of every written network, whatever was cut and by whom."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils import _pytree as pytree
from torch.utils.flop_counter import FlopCounterMode

from prunecore.channels.dependencies import Dependencies
from prunecore.channels.keep import Keep
from prunecore.criteria.criterion import ScoringContext
from prunecore.inputs import of_shape
from prunecore.planning.cost import Counter
from prunecore.planning.goal import Target
from prunecore.planning.plan import Plan, make_plan
from prunecore.plugins.loading import load
from prunecore.registry import Plugins
from prunecore.verifying.comparison import verify
from prunecore.walking.network import walk
from prunecore.writing.building import build, transfer_weights
from prunecore.writing.source_file import write_network

FACTORY = "net"


@dataclass(frozen=True)
class Subject:
    """A network that is to be cut, walked once."""

    model: nn.Module
    shape: tuple[int, ...]
    dependencies: Dependencies
    plugins: Plugins

    @classmethod
    def of(cls, model: nn.Module, *shape: int) -> Subject:
        plugins = load()
        return cls(model, shape, walk(model, of_shape(shape), plugins), plugins)

    def _coarsest(self, target: Target) -> float:
        """The percentage that the largest single channel takes."""
        counter, count = Counter(self.dependencies), self.dependencies.count
        whole = getattr(counter.cost(np.ones(count, bool)), target)
        without = [getattr(counter.cost(np.arange(count) != one), target) for one in range(count)]
        return 100 * (1 - min(without) / whole)

    def plan(self, level: float, mode: str, target: Target = "params", seed: int = 0) -> Plan:
        """A plan for a level, which it must reach within a point, or within a single channel."""
        context = ScoringContext(self.dependencies, self.dependencies.tensors, seed)
        scores = self.plugins.criterion(mode)(context)
        plan = make_plan(self.dependencies, scores, level, target)
        off = abs(plan.achieved - level)
        assert off <= 1 or off <= self._coarsest(target)
        return plan

    def random_choice(self, seed: int, share: float = 0.5) -> NDArray[np.bool_]:
        """Channels that may go, each gone with a probability, but no axis left empty."""
        random = np.random.default_rng(seed)
        kept = ~self.dependencies.removable
        kept |= random.random(self.dependencies.count) >= share
        for axis in self.dependencies.axes:
            if not np.append(kept, True)[axis].any():
                kept[random.choice(axis)] = True
        return kept

    def write(
        self, kept: NDArray[np.bool_], removed_blocks: Sequence[str] = ()
    ) -> tuple[str, Keep]:
        """The text for a choice of channels and of blocks that go as a whole."""
        keep = Keep(self.model, self.dependencies, kept, removed_blocks)
        return write_network(self.model, keep, self.plugins, FACTORY, "A network."), keep


@dataclass(frozen=True)
class Written:
    """A network that was cut and passed every check but those of ruff."""

    source: str
    model: nn.Module
    keep: Keep


def check(subject: Subject, kept: NDArray[np.bool_], removed_blocks: Sequence[str] = ()) -> Written:
    """Write a network with these channels, and check all that can be checked without ruff."""
    source, keep = subject.write(kept, removed_blocks)
    check_imports(source)
    weights = transfer_weights(subject.model, keep, subject.plugins)
    small = build(source, FACTORY, weights)
    original = _keys(subject.model.state_dict(), keep.left_out)
    assert list(small.state_dict()) == original
    verify(subject.model, keep, small, of_shape(subject.shape))
    check_counts(subject, keep, small)
    check_training(small, subject.shape)
    return Written(source, small, keep)


def _keys(state: dict[str, Tensor], left_out: tuple[str, ...]) -> list[str]:
    prefixes = tuple(f"{path}." for path in left_out)
    return [key for key in state if not key.startswith(prefixes)]


def check_imports(source: str) -> None:
    """Only torch and the standard library at the top; safetensors where weights are read."""
    tree = ast.parse(source)
    assert not _imported(tree.body) - {"torch"} - sys.stdlib_module_names
    assert _imported(ast.walk(tree)) <= _imported(tree.body) | {"safetensors"}


def _imported(nodes: Any) -> set[str]:
    names = [
        alias.name if isinstance(node, ast.Import) else str(node.module)
        for node in nodes
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    ]
    return {name.partition(".")[0] for name in names}


def check_counts(subject: Subject, keep: Keep, small: nn.Module) -> None:
    """What is counted without a network is what the network has and does."""
    cost = Counter(subject.dependencies).cost(keep.kept, keep.removed_blocks)
    stored = [*small.parameters(), *small.buffers()]
    assert cost.params == sum(parameter.numel() for parameter in small.parameters())
    assert cost.bytes == sum(tensor.numel() * tensor.element_size() for tensor in stored)
    assert cost.macs == macs(small, subject.shape)


def macs(model: nn.Module, shape: tuple[int, ...]) -> int:
    """The multiply-accumulates of one input, counted while the network runs."""
    counted = []

    def count(module: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        # each place of a convolution's output takes a filter; of a transposed one's input, gives it
        places = inputs[0] if isinstance(module, nn.ConvTranspose2d) else output
        counted.append(places.numel() * module.weight[0].numel())

    for module in model.modules():
        if isinstance(module, nn.Conv1d | nn.Conv2d | nn.ConvTranspose2d):
            module.register_forward_hook(count)
    with torch.no_grad(), FlopCounterMode(display=False) as flops:
        model.eval()(torch.zeros(1, *shape))
    for module in model.modules():
        module._forward_hooks.clear()
    products = flops.get_flop_counts()["Global"]
    is_conv = re.compile("conv")
    return sum(counted) + sum(n // 2 for op, n in products.items() if not is_conv.search(str(op)))


def check_training(small: nn.Module, shape: tuple[int, ...]) -> None:
    """A step of training reaches every weight."""
    outputs = pytree.tree_leaves(small.train()(torch.rand(2, *shape)))
    torch.stack([output.sum() for output in outputs]).sum().backward()
    without = [name for name, weight in small.named_parameters() if weight.grad is None]
    assert without == []


def check_style(folder: Path) -> None:
    """Every file of a folder passes ruff with its own defaults."""
    for command in (["check"], ["format", "--check", "--diff"]):
        line = [sys.executable, "-m", "ruff", *command, "--isolated", "--no-cache", str(folder)]
        done = subprocess.run(line, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
