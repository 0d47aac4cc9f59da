"""Small networks in the manner of those that users report on, written as they wrote them.

Each stands in a module of its own in `brought/`: what it is about, the `SHAPE` of one example, or
those of several inputs, and `build()`.
"""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest
import torch

import prunecore

BROUGHT = sorted(Path(__file__).with_name("brought").glob("*.py"))

# The layers that are not cut, of the networks that have some.
LEFT_WHOLE = {
    "deform_conv": "dcn.offset_mask",  # which says where it reads
    "input_injection": "stages.[0-9].c",  # each adds to the network's input
    "mixed_ops": "alphas",  # the shares of the operations
    "nafnet": "intro|ending|ups.*|downs.*|.*conv[35]",  # a torch.autograd.Function
    "spatial_transformer": "fc_loc.2|fc2",  # affine_grid, and the log_softmax at the end
}


def loaded(file: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("file", BROUGHT, ids=lambda file: file.stem)
def test_a_network_is_exact(file: Path) -> None:
    case = loaded(file)
    torch.manual_seed(0)
    shapes = case.SHAPE if isinstance(case.SHAPE, list) else [case.SHAPE]
    examples = tuple(torch.rand(2, *shape) for shape in shapes)
    small = prunecore.prune(case.build(), examples, 40, mode="random")
    left_whole = [each["layer"] for each in small.report["left_whole"]]
    expected = re.compile(LEFT_WHOLE.get(file.stem, ""))
    assert [layer for layer in left_whole if not expected.fullmatch(layer)] == []
    assert bool(left_whole) is (file.stem in LEFT_WHOLE)
