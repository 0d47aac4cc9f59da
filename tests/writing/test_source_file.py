"""The whole file: docstring, imports, classes, factory, and nothing that it does not need."""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from prunecore.writing.source_file import import_lines


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 6)
        self.last = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.first(x))


class Functional(Net):
    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.sin(F.relu(self.first(x))))


def imports(text: str) -> list[str]:
    """The import lines at the top of a file, and the empty ones between them."""
    return text.split('"""')[2].strip().split("\n\n\n")[0].splitlines()


def test_a_file_has_its_parts_in_order(cut: Callable[..., Any]) -> None:
    width = (result := cut(Net(), 3)).small.first.out_features
    assert (
        result.text
        == f'''"""A network."""

from torch import Tensor, nn


class Net(nn.Module):
    def __init__(self, num_classes: int = 5) -> None:
        super().__init__()
        self.first = nn.Linear(3, {width})
        self.last = nn.Linear({width}, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        return self.last(x)


def net(weights: str | None = None, **arguments: int) -> Net:
    """Build the network; `weights` is the path of its .safetensors file."""
    model = Net(**arguments)
    if weights is not None:
        from safetensors.torch import load_file

        model.load_state_dict(load_file(weights))
    return model
'''
    )


def test_only_what_is_needed_is_imported(cut: Callable[..., Any]) -> None:
    assert imports(cut(Net(), 3).text) == ["from torch import Tensor, nn"]
    assert imports(cut(Functional(), 3).text) == [
        "import torch",
        "from torch import Tensor, nn",
        "from torch.nn import functional as F",
    ]


def test_a_network_that_is_all_a_plugins_derives_from_its_class(cut: Callable[..., Any]) -> None:
    text = cut(nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)), 3, share=0).text
    assert imports(text) == ["from torch import nn"]
    assert "class Net(nn.Sequential):" in text
    assert "super().__init__(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, num_classes))" in text


def test_a_file_imports_only_torch_and_the_standard_library(
    cut: Callable[..., Any], toy: Any
) -> None:
    text = cut(nn.Sequential(toy.Dense(3, 4), toy.Scale(4), nn.Linear(4, 2)), 3).text
    names = {
        name
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in (
            [node.module] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names]
        )
    }
    assert {name.split(".")[0] for name in names} - sys.stdlib_module_names == {
        "torch",
        "safetensors",
    }


@pytest.mark.parametrize(
    ("model", "shape", "is_argument"),
    [
        (Net, (3,), True),
        (lambda: nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 5, 1)), (3, 2, 2), False),
        (Net, (7, 3), False),
    ],
)
def test_the_length_of_a_vector_is_an_argument(
    cut: Callable[..., Any], model: Any, shape: tuple[int, ...], is_argument: bool
) -> None:
    result = cut(model(), *shape)
    assert ("num_classes: int = 5" in result.text) is is_argument
    if is_argument:
        scope: dict[str, Any] = {}
        exec(result.text, scope)
        other = scope["net"](num_classes=7)
        assert other(torch.rand(2, *shape)).shape == (2, 7)


def test_a_width_that_only_looks_like_the_output_is_not_the_argument(
    cut: Callable[..., Any],
) -> None:
    class Equal(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Linear(3, 5), nn.Linear(5, 5), nn.Linear(5, 5)

        def forward(self, x: Tensor) -> Tensor:
            return self.c(self.b(self.a(x)))

    text = cut(Equal(), 3, share=0).text
    assert text.count("num_classes") == 2
    assert "self.c = nn.Linear(5, num_classes)" in text


def test_two_outputs_have_no_one_length(cut: Callable[..., Any]) -> None:
    class Two(Net):
        def forward(self, x: Tensor) -> Any:
            return self.last(self.first(x)), x

    assert "num_classes" not in cut(Two(), 3).text


def test_the_output_may_be_made_in_two_places(cut: Callable[..., Any]) -> None:
    class Sum(Net):
        def __init__(self) -> None:
            super().__init__()
            self.other = nn.Linear(6, 5)

        def forward(self, x: Tensor) -> Tensor:
            x = self.first(x)
            return self.last(x) + self.other(x)

    text = cut(Sum(), 3).text
    assert text.count(", num_classes)") == 2


def test_imports_that_a_block_needs_are_sorted_among_the_others() -> None:
    body = "x = torch.nn(F.relu, math.pi, OrderedDict, Tensor, operator, nn, join)"
    imports = {"import copy", "from os.path import join, split", "from os import path"}
    assert import_lines(body, imports).splitlines() == [
        "import copy",
        "import math",
        "import operator",
        "from collections import OrderedDict",
        "from os.path import join",
        "",
        "import torch",
        "from torch import Tensor, nn",
        "from torch.nn import functional as F",
    ]


def test_files_are_as_ruff_formats_them(
    cut: Callable[..., Any], check_style: Callable[..., None]
) -> None:
    models = [Net(), Functional(), nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))]
    check_style(cut(model, 3).text for model in models)


@pytest.mark.parametrize("length", [11, 12, 30])
def test_long_paths_to_what_is_shared_are_written_as_formatters_do(
    cut: Callable[..., Any], check_style: Callable[..., None], length: int
) -> None:
    name = "branch" + "a" * length

    class Sharing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            shared = nn.Linear(3, 3)
            pairs = (nn.Sequential(shared, nn.Linear(3, 3)) for _ in range(2))
            self.branches = nn.ModuleDict(zip((f"{name}0", f"{name}1"), pairs, strict=True))

        def forward(self, x: Tensor) -> Tensor:
            return sum(branch(x) for branch in self.branches.values())  # type: ignore[return-value]

    text = cut(Sharing(), 3).text
    assert ("= tied\n" in text) is (length > 11)
    check_style([text])


class Tied(Net):
    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(6))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.last(x)) @ self.last.weight + self.bias


class Residual(Net):
    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.first(x)) + x


@pytest.mark.parametrize(("model", "width"), [(Tied(), 6), (Residual(), 3)])
def test_a_width_that_is_not_free_is_no_argument(
    cut: Callable[..., Any], model: nn.Module, width: int
) -> None:
    assert "num_classes" not in cut(model, width).text
