"""What plugins define in the written file, and what is said where it is wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import prunecore
from prunecore.plugin import BlockSource, Call

from .. import toy
from ..strangers import (
    TEXT,
    Block,
    Net,
    answering,
    fails_to_write,
    message,
    module,
    owning,
    prune_with,
    source,
    trace,
    writing,
)

BY_HAND = "source(writer, block, text)"


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ("class Block(nn.Module):", "class Block(nn.Module)", ", line 1"),
        ("return self", "return return self", "invalid syntax, line 7"),
        ("        return", "return", "expected an indented block"),
        ("self.linear = ", "self.linear = \x00", "source code string cannot contain null bytes"),
    ],
)
def test_a_definition_that_does_not_compile(
    install: Callable[..., None], before: str, after: str, told: str
) -> None:
    assert before in TEXT
    said = fails_to_write(install, BY_HAND, text=TEXT.replace(before, after))
    assert said.startswith("blocks.0 defines Block in text that does not compile: ")
    assert told in said


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "nothing"),
        ("import math", "nothing"),
        (TEXT.replace("Block", "Blok"), "Blok"),
        ("def a(): pass\nb = 1\nc: int = 2\nasync def d(): pass\n", "a, b, c, d"),
        ("if True:\n    class Block: pass", "nothing"),
    ],
)
def test_a_definition_of_something_else(install: Callable[..., None], text: str, told: str) -> None:
    said = fails_to_write(install, BY_HAND, text=text)
    assert said == f"blocks.0 gives text for Block that defines {told} instead"


@pytest.mark.parametrize("name", ["nn", "torch", "F", "Tensor", "math", "interleaved"])
def test_a_definition_that_hides_a_name_of_the_file_s_own(
    install: Callable[..., None], name: str
) -> None:
    said = fails_to_write(install, BY_HAND, text=f"{TEXT}\n\n{name} = None\n")
    assert said == f"blocks.0 defines {name}, which is a name of the file's own"


@pytest.mark.parametrize(
    "line", ["numpy", "import", "import math\nimport sys", "x = 1", "", "\x00"]
)
def test_an_import_that_is_none(install: Callable[..., None], line: str) -> None:
    said = fails_to_write(
        install, "BlockSource(Call('A'), {}, {line})", line=line, BlockSource=BlockSource, Call=Call
    )
    assert said == f"blocks.0 gives {line!r}, which is not one import"


def test_what_a_definition_needs_may_stand_with_it(install: Callable[..., None]) -> None:
    text = f"WIDTH = 3\n\n\ndef helper() -> int:\n    return WIDTH\n\n\n{TEXT}"
    assert f"\n\n\n{text}" in prune_with(install, **writing(BY_HAND, text=text))().source


class Other(Block):
    pass


class Both(Net):
    def __init__(self) -> None:
        super().__init__()
        self.blocks[1] = Other()


@pytest.mark.parametrize(
    ("first", "second", "told"),
    [
        (TEXT, f"{TEXT}\n", "Block"),
        (
            f"def help(): ...\n\n\n{TEXT}",
            f"def help(): pass\n\n\n{TEXT.replace('Block', 'Other')}",
            "help",
        ),
    ],
)
def test_two_plugins_with_different_texts_for_a_name(
    install: Callable[..., None], first: str, second: str, told: str
) -> None:
    def writing_as(text: str) -> Callable[..., Any]:
        name = "Other" if "Other" in text else "Block"
        value = "source(writer, block, text, called)"
        return answering("prunecore_write_block", value, source=source, text=text, called=name)

    hooks = {"prunecore_calculate_dependencies": trace}
    one = {**hooks, "prunecore_write_block": writing_as(first)}
    two = {**hooks, "prunecore_write_block": writing_as(second)}
    install(
        toy=toy,
        one=module(prunecore_block_types=owning(Block), **one),
        two=module(prunecore_block_types=owning(Other), **two),
    )
    assert message(lambda: prunecore.prune(Both(), level=30, input_shape=(3,))) == (
        f"prunecore-two 0.1: prunecore_write_block for blocks.1 defines {told} in another text "
        "than prunecore-one 0.1 for blocks.0.\n"
        "Block one of them: PRUNECORE_BLOCK=one or PRUNECORE_BLOCK=two."
    )


def test_one_plugin_with_different_texts_for_a_name(install: Callable[..., None]) -> None:
    said = fails_to_write(install, "source(writer, block, TEXT + '#' * int(name[-1]))")
    assert said == "blocks.1 defines Block in another text than prunecore-mine 0.1 for blocks.0"


def test_a_name_that_the_factory_has(install: Callable[..., None]) -> None:
    job = prune_with(install, **writing(BY_HAND, text=f"{TEXT}\n\nnet = 1\n"))
    assert message(job, prunecore.UsageError) == (
        "The name 'net' is that of what prunecore-mine 0.1 defines for blocks.0.\n"
        "Give the network another (--name)."
    )


def test_the_core_takes_no_name_of_a_definition(install: Callable[..., None]) -> None:
    job = prune_with(install, **writing(BY_HAND, text=f"class Net: ...\n\n\n{TEXT}"))
    assert "class Net2(nn.Module)" in job().source
