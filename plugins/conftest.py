"""What the plugins' tests share: networks whose every tensor counts, and what holds of a file."""

from __future__ import annotations

import ast
import copy
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import prunecore

Shape = Sequence[int]


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Whatever runs before, a test's networks have the same weights."""
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def varied() -> Callable[[nn.Module], nn.Module]:
    """Give a network biases and statistics that a mistake cannot hide behind."""

    def vary(model: nn.Module) -> nn.Module:
        for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
            if tensor.ndim == 1 and tensor.is_floating_point():
                low = 0.5 if name.endswith(("weight", "var")) else -0.5
                nn.init.uniform_(tensor, low, low + 1)
        return model.eval()

    return vary


@pytest.fixture(scope="session")
def check() -> Callable[..., None]:
    """Check a pruned network against its original, with nothing but its report's kept indices."""

    def check_pruned(original: nn.Module, small: prunecore.PrunedModel, shape: Shape) -> None:
        check_outputs(original, small, shape)
        check_keys(original, small)
        outputs = small.model.float().train()(torch.randn(2, *shape))
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        sum(output.sum() for output in outputs).backward()
        assert [n for n, p in small.model.named_parameters() if p.grad is None] == []

    return check_pruned


def check_outputs(original: nn.Module, small: prunecore.PrunedModel, shape: Shape) -> None:
    x = torch.randn(3, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = masked(original, small.report["kept"])(x)
        actual = copy.deepcopy(small.model).double().eval()(x)
    assert expected.abs().max() > 0
    torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-9 * float(expected.abs().max()))


def masked(original: nn.Module, kept: Mapping[str, Any]) -> nn.Module:
    """The original with zeros at every place that is not kept."""
    model = copy.deepcopy(original).double().eval()
    tensors = dict([*model.named_parameters(), *model.named_buffers()])
    with torch.no_grad():
        for name, axes in kept.items():
            for axis, indices in enumerate(axes):
                if indices is not None:
                    assert indices == sorted(set(indices))
                    gone = sorted(set(range(tensors[name].shape[axis])) - set(indices))
                    tensors[name].index_fill_(axis, torch.tensor(gone), 0)
    return model


def check_keys(original: nn.Module, small: prunecore.PrunedModel) -> None:
    left_out = tuple(f"{path}." for path in small.report["left_out"])
    keys = [key for key in original.state_dict() if not key.startswith(left_out)]
    assert list(small.model.state_dict()) == keys


@pytest.fixture
def check_style(tmp_path: Path) -> Callable[[str], None]:
    """Check that a written file passes ruff with its own defaults."""

    def check_text(source: str) -> None:
        file = tmp_path / "written.py"
        file.write_text(source, encoding="utf-8")
        for command in (["check"], ["format", "--check"]):
            line = [sys.executable, "-m", "ruff", *command, "--isolated", "--no-cache", str(file)]
            done = subprocess.run(line, capture_output=True, text=True)
            assert done.returncode == 0, done.stdout + done.stderr

    return check_text


@pytest.fixture
def check_alone(
    tmp_path: Path, check_style: Callable[[str], None]
) -> Callable[[prunecore.PrunedModel, Shape], None]:
    """Check that a written file is in style, and trains and runs with torch alone."""

    def check_file(small: prunecore.PrunedModel, shape: Shape) -> None:
        check_style(small.source)
        small.save(tmp_path / "small_50.py")
        use = (
            "import sys, torch; sys.modules['prunecore'] = sys.modules['torchvision'] = None;"
            "import small_50; make = getattr(small_50, sys.argv[1]);"
            "net = make(weights='small_50.safetensors');"
            f"x = torch.randn(4, *{tuple(shape)});"
            "[net.train(way)(x).sum().backward() for way in (True, False)];"
            "assert all(p.grad is not None for p in net.parameters())"
        )
        line = [sys.executable, "-c", use, small.report["model"]]
        done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

    return check_file


@pytest.fixture(scope="session")
def is_reached() -> Callable[[prunecore.PrunedModel], bool]:
    """True if a level is achieved within a percentage point."""

    def reached(small: prunecore.PrunedModel) -> bool:
        level = small.report["level"]
        return abs(level["achieved"] - level["asked"]) <= 1

    return reached


@pytest.fixture(scope="session")
def classes() -> Callable[[str], list[str]]:
    """The classes that a file defines, in order."""

    def defined(source: str) -> list[str]:
        return [node.name for node in ast.parse(source).body if isinstance(node, ast.ClassDef)]

    return defined
