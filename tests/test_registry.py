"""Classes that are known by their paths, and found once they are imported."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest
from torch import nn

from prunecore.plugin import LazyClasses


class Block(nn.Module):
    pass


class Derived(Block):
    pass


KNOWN = LazyClasses({"library.blocks.Block": "a block", "library.blocks.Older": "an older one"})


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A library that has been imported, and lacks one of the classes."""
    module = ModuleType("library.blocks")
    module.Block = Block
    monkeypatch.setitem(sys.modules, "library.blocks", module)
    return module


def test_nothing_is_found_while_nothing_is_imported():
    assert list(KNOWN) == []
    assert KNOWN.get(Block()) is None
    assert "library" not in sys.modules


@pytest.mark.usefixtures("library")
def test_a_class_and_what_derives_from_it_are_known_once_it_is_imported():
    assert list(KNOWN) == [Block]
    assert KNOWN.found() == {Block: "a block"}
    assert KNOWN[Block()] == KNOWN.get(Derived()) == "a block"


@pytest.mark.usefixtures("library")
def test_of_other_classes_nothing_is_known():
    assert KNOWN.get(nn.Identity()) is None
    with pytest.raises(KeyError, match="Identity"):
        KNOWN[nn.Identity()]
