"""What the core's tests share: a toy plugin, and random cuts against the masked original."""

from __future__ import annotations

import copy
import functools
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import EntryPoint, version
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import settings
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from prunecore import errors
from prunecore.channels.dependencies import Dependencies
from prunecore.channels.keep import Keep
from prunecore.channels.names import named_plain_tensors
from prunecore.inputs import of_shape
from prunecore.planning.cost import Counter
from prunecore.plugins import builtin, loading
from prunecore.plugins.loading import register
from prunecore.registry import Plugins
from prunecore.verifying.comparison import verify
from prunecore.verifying.masking import replaying
from prunecore.walking.network import find_dependencies
from prunecore.writing.building import build, transfer_weights
from prunecore.writing.source_file import write_network

from . import toy as toy_plugin

# On a busy machine the first example, which imports much, takes longer than a deadline grants.
settings.register_profile("same everywhere", deadline=None, derandomize=True, database=None)
settings.load_profile("same everywhere")


@dataclass
class Cut:
    """A network with some channels gone, as it is written."""

    text: str
    model: nn.Module  # the original, in float64
    small: nn.Module
    keep: Keep
    dependencies: Dependencies

    @property
    def forward(self) -> str:
        """The lines of the last forward of the file, without their indent."""
        *_, last = self.text.split("    def forward")
        body = last.partition("\n\n\n")[0].partition(":\n")[2]
        return "\n".join(line.removeprefix(" " * 8) for line in body.splitlines())

    @property
    def init(self) -> str:
        """The lines of the last class's constructor, without their indent."""
        *_, last = self.text.split("        super().__init__()\n")
        body = last.partition("\n\n")[0]
        return "\n".join(line.removeprefix(" " * 8) for line in body.splitlines())


Find = Callable[..., Dependencies]
CutAtRandom = Callable[..., Cut]


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def toy() -> ModuleType:
    """The toy plugin's module, which has the layer classes that it owns."""
    return toy_plugin


@pytest.fixture(scope="session")
def toys() -> Plugins:
    """The core's own rules and the toy plugin."""
    label = f"prunecore {version('prunecore')}"
    return Plugins(
        [
            register(builtin, "builtin", label),
            register(toy_plugin, "toy", "prunecore-toy 0.1"),
        ]
    )


class _Distribution:
    def __init__(self, name: str, version: str) -> None:
        self.name = name
        self.metadata = {"Name": name, "Version": version}
        self.version = version
        self.requires: list[str] = []


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Make these modules, by the plugins' names, all that is installed."""

    def install(**modules: ModuleType | None) -> None:
        points = []
        for name, module in modules.items():
            point = EntryPoint(name, f"installed_{name}", errors.GROUP)
            vars(point).update(dist=_Distribution(f"prunecore-{name}", "0.1"))
            points.append(point)
            if module is not None:
                monkeypatch.setitem(sys.modules, f"installed_{name}", module)
        monkeypatch.setattr(
            loading, "entry_points", lambda group: [one for one in points if one.group == group]
        )
        loading._load_installed.cache_clear()

    monkeypatch.delenv(errors.BLOCK_VARIABLE, raising=False)
    yield install
    loading._load_installed.cache_clear()


@pytest.fixture
def toys_installed(install: Callable[..., None]) -> None:
    """Make the toy plugin the only one that is installed."""
    install(toy=toy_plugin)


@pytest.fixture(scope="session")
def find(toys: Plugins) -> Find:
    """Walk a network: `find(model, shape, ...)`, the batch among the shapes."""

    def walk(model: nn.Module, *shapes: tuple[int, ...], strict: bool = True) -> Dependencies:
        inputs = [torch.empty(shape, device="meta") for shape in shapes]
        return find_dependencies(model, inputs, toys, strict=strict)

    return walk


@pytest.fixture(scope="session")
def cut(find: Find, toys: Plugins) -> CutAtRandom:
    """Remove channels at random, and check the written network against the masked original.

    The masking is the tests' own, so that it does not share a mistake with the core's.
    """

    def check(
        model: nn.Module, *shape: int, seed: int = 0, share: float = 0.5, strict: bool = True
    ) -> Cut:
        model = randomised(model)
        dependencies = find(model, (2, *shape), strict=strict)
        kept = random_choice(dependencies, seed, share)
        return checked(model, dependencies, kept, toys, shape)

    return check


@pytest.fixture(scope="session")
def cut_to(find: Find, toys: Plugins) -> CutAtRandom:
    """Keep only some of the channels of some layers, and check as `cut` does."""

    def check(model: nn.Module, kept: dict[str, list[int]], *shape: int) -> Cut:
        model = randomised(model)
        dependencies = find(model, (2, *shape))
        stays = np.ones(dependencies.count, dtype=bool)
        for layer, numbers in kept.items():
            made = dependencies.axes[dependencies.layers[layer]]
            stays[np.delete(made, numbers)] = False
        return checked(model, dependencies, stays, toys, shape)

    return check


def checked(
    model: nn.Module,
    dependencies: Dependencies,
    kept: NDArray[np.bool_],
    toys: Plugins,
    shape: tuple[int, ...],
) -> Cut:
    """Write a network with these channels, and check it against the masked original."""
    keep = Keep(model, dependencies, kept)
    text = write_network(model, keep, toys, "net", "A network.")
    small = build(text, "net", transfer_weights(model, keep, toys)).eval()
    check_outputs(masked(model, keep), small, (2, *shape))
    check_outputs(masked(model, keep), small, (3, *shape))  # no batch size is baked
    cost = Counter(dependencies).cost(keep.kept)
    assert cost.params == sum(parameter.numel() for parameter in small.parameters())
    verify(model, keep, small, of_shape(shape))
    return Cut(text, model, small, keep, dependencies)


@pytest.fixture
def check_style(tmp_path: Path) -> Callable[..., None]:
    """Check that ruff, with its own defaults, has nothing to say of files of these texts."""

    def check(texts: Iterable[str]) -> None:
        for number, text in enumerate(texts):
            (tmp_path / f"file{number}.py").write_text(text, encoding="utf-8")
        for command in (["check", "-q"], ["format", "--diff", "-q"]):
            ruff = [sys.executable, "-m", "ruff", *command, "--isolated", "--no-cache", "."]
            done = subprocess.run(ruff, cwd=tmp_path, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stdout + done.stderr

    return check


def randomised(model: nn.Module) -> nn.Module:
    """The model in float64, with no weight or statistic that a mistake could hide behind."""
    model = copy.deepcopy(model).double().eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for tensor in [*model.parameters(), *model.buffers()]:
            if tensor.is_floating_point() and tensor.isfinite().all():
                tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.1)
                tensor.mul_(torch.rand(tensor.shape, generator=generator).sub(0.3).sign())
        for name, tensor in model.named_buffers():
            if name.endswith("running_var"):
                tensor.abs_()
    return model


def random_choice(dependencies: Dependencies, seed: int, share: float) -> NDArray[np.bool_]:
    """Removable channels, each gone with a probability, but none of the axes empty."""
    random = np.random.default_rng(seed)
    kept = ~dependencies.removable | (random.random(dependencies.count) >= share)
    for axis in dependencies.axes:
        if not np.append(kept, True)[axis].any():
            kept[axis[0]] = True
    return kept


def masked(model: nn.Module, keep: Keep) -> nn.Module:
    """The original with zeros wherever the small network has nothing."""
    model = copy.deepcopy(model)
    tensors = dict([*named_plain_tensors(model), *model.named_parameters(), *model.named_buffers()])
    with torch.no_grad():
        for name, bound in keep.dependencies.bound.items():
            for axis, index in bound.items():
                gone = np.setdiff1d(np.arange(tensors[name].shape[axis]), keep.place(index))
                tensors[name].index_fill_(axis, torch.from_numpy(gone), 0)
    for path, (index, forward) in keep.dependencies.masked_forwards.items():
        module: Any = model.get_submodule(path)
        module.forward = functools.partial(forward, module, torch.from_numpy(keep.place(index)))
    for path, calls in keep.dependencies.masked_functions.items():
        module = model.get_submodule(path)
        ways = keep.dependencies.forwards.ways[path]
        graphs = {absent: [trace.graph] for absent, trace in ways.items()}
        replaced = {
            call: functools.partial(function, torch.from_numpy(keep.place(index)))
            for call, (index, function) in calls.items()
        }
        module.forward = replaying(module, graphs, replaced)
    return model


def check_outputs(reference: nn.Module, small: nn.Module, shape: tuple[int, ...]) -> None:
    x = torch.rand(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2)) - 0.4
    with torch.no_grad():
        expected, actual = reference(x.clone()), small(x.clone())
    expected, structure = pytree.tree_flatten(_with_named(expected))
    actual, same_structure = pytree.tree_flatten(_with_named(actual))
    assert structure == same_structure
    for ours, theirs in zip(expected, actual, strict=True):
        check_tensor(ours, theirs)


def _with_named(value: Any) -> Any:
    """What a network returns, a named tuple as its class's name and a dictionary of its fields."""
    fields = getattr(value, "_fields", None)
    return value if fields is None else {type(value).__name__: value._asdict()}


def check_tensor(expected: Tensor, actual: Tensor) -> None:
    assert actual.shape == expected.shape
    assert torch.isfinite(expected).all()
    assert expected.abs().max() > 1e-6
    torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-9 * float(expected.abs().max()))
