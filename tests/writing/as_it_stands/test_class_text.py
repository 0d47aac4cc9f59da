"""A plugin's own classes in a written file: their text, what comes with it, and what cannot."""

from __future__ import annotations

import inspect
import operator as F
from collections.abc import Callable
from typing import Any

import pytest
from torch import Tensor, nn

from prunecore.plugin import Call, Name
from prunecore.writing.as_it_stands.class_text import Definitions

from ...strangers import message, prune_with, writing
from . import parts
from .parts import Layers, earlier


class Block(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return earlier(self.linear(x)) / 3.141592653589793


class Double(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.mul(x, 2)


def defined(part: Any, known: dict[str, str] | None = None, **options: Any) -> dict[str, str]:
    definitions = Definitions(known or {}, options.get("replaced", {}))
    definitions.add(part, options.get("name", part.__name__))
    return definitions.texts()


def test_a_class_stands_there_as_it_stands_in_the_plugin() -> None:
    assert defined(parts.earlier) == {"earlier": inspect.getsource(parts.earlier)}


def test_what_it_uses_comes_with_it_in_the_order_of_its_module() -> None:
    texts = defined(Layers)
    names = ["later", "earlier", "norm", "Ümlaut", "Layers"]
    assert list(texts) == names
    assert texts == {name: inspect.getsource(getattr(parts, name)) for name in names}


def test_what_is_of_another_module_comes_first() -> None:
    assert list(defined(Block)) == ["earlier", "Block"]


def test_imports_come_with_it_but_for_those_of_every_file() -> None:
    definitions = Definitions({}, {})
    definitions.add(Layers, "Layers")
    assert definitions.imports == {
        "from collections.abc import Sequence",
        "from fractions import Fraction",
    }


def test_another_name() -> None:
    text = inspect.getsource(parts.Ümlaut)
    assert defined(parts.Ümlaut, name="Plain")["Plain"] == text.replace("Ümlaut", "Plain")


def test_a_name_that_means_something_else_in_the_file_gets_a_number() -> None:
    known = {"earlier": "", "earlier2": "", "Ümlaut": "", "norm": inspect.getsource(parts.norm)}
    texts = defined(Layers, known)
    assert list(texts) == ["later", "earlier3", "norm", "Ümlaut2", "Layers"]
    text = inspect.getsource(Layers)
    assert texts["Layers"] == text.replace("Ümlaut", "Ümlaut2")
    assert texts["earlier3"].startswith("def earlier3(x")
    assert "return earlier3(x)\n" in texts["later"]
    assert "return earlier3(x) + later(x)" in texts["Ümlaut2"]


def test_the_same_again_keeps_its_numbers() -> None:
    known = {"earlier": ""}
    first = defined(Layers, known)
    assert defined(Layers, known | first) == first


def test_expressions_are_replaced_in_all_texts() -> None:
    replaced = {
        "norm": Name("nn.Identity"),
        "nn.ReLU()": Call("nn.LeakyReLU", (0.1,), {"inplace": True}),
        "earlier(x)": Call("torch.relu", (Name("x"),)),
    }
    texts = defined(Layers, replaced=replaced)
    assert list(texts) == ["later", "Ümlaut", "Layers"]  # what is used no more does not come
    assert "[nn.Identity(width) for" in texts["Layers"]
    assert "nn.LeakyReLU(0.1, inplace=True), Ümlaut())" in texts["Layers"]
    assert "return torch.relu(x) + later(x)" in texts["Ümlaut"]
    assert "return torch.relu(x)\n" in texts["later"]


def test_what_is_too_long_for_a_line_takes_several() -> None:
    options = dict.fromkeys(("eps", "momentum", "another", "a_fourth", "fifth"), 0.125)
    made = Call("nn.BatchNorm2d", (Name("channels"),), options)
    assert defined(parts.norm, replaced={"nn.BatchNorm2d(channels)": made})["norm"] == (
        "def norm(channels: int) -> nn.BatchNorm2d:\n"
        "    return nn.BatchNorm2d(\n"
        "        channels, eps=0.125, momentum=0.125, another=0.125, a_fourth=0.125, fifth=0.125\n"
        "    )\n"
    )


@pytest.mark.parametrize(
    ("part", "told"),
    [
        (
            parts.Sized,
            f"Sized uses SIZE of {parts.__name__}, which a written file does not have",
        ),
        (parts.Counted, "Counted uses np of tests.writing.as_it_stands.parts"),
        (parts.Cached, "Cached uses cached of tests.writing.as_it_stands.parts"),
        (parts.Lost, "Lost uses nowhere of tests.writing.as_it_stands.parts"),
        (
            Double,
            "Double uses F of tests.writing.as_it_stands.test_class_text",
        ),  # another module there
        (parts.Holder.Inner, "Holder.Inner does not stand at the top of a module"),
    ],
)
def test_what_a_written_file_cannot_have(part: Any, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        defined(part)


def test_a_class_whose_text_is_not_there() -> None:
    scope: dict[str, Any] = {"__name__": __name__, "nn": nn}
    exec("class Made(nn.Module): pass", scope)
    with pytest.raises(ValueError, match="the text of Made is not there"):
        defined(scope["Made"])


def test_what_is_to_be_replaced_must_be_there() -> None:
    with pytest.raises(ValueError, match=r"nn\.ReLU\(True\) is to be replaced and is in no text"):
        defined(Layers, replaced={"nn.ReLU(True)": Name("nn.Identity()")})


@pytest.mark.parametrize(
    ("part", "known"),
    [(parts.Said, {"earlier": ""}), (parts.Named, {"norm": ""})],
    ids=["in a text", "a variable"],
)
def test_a_name_that_cannot_be_changed(part: Any, known: dict[str, str]) -> None:
    if part is parts.Named:
        assert defined(part, known) == {"Named": inspect.getsource(part)}  # its own, not the global
    else:
        with pytest.raises(ValueError, match="earlier in Said cannot be called earlier2"):
            defined(part, known)


def test_a_writer_gives_the_call_the_name_and_all_that_it_needs(
    install: Callable[..., None],
) -> None:
    value = "writer.source(source(writer, block).call, cls)"
    small = prune_with(install, verify=True, **writing(value, cls=Block))()
    assert small.source.index("def earlier(") < small.source.index("class Block(")
    assert "import math\n" in small.source


def test_what_it_cannot_have_is_told_with_the_plugin_and_the_block(
    install: Callable[..., None],
) -> None:
    said = message(prune_with(install, **writing('writer.source(Call("S"), cls)', cls=parts.Sized)))
    assert said.startswith("prunecore-mine 0.1: prunecore_write_block for blocks.0 raised ")
    assert "Sized uses SIZE of tests.writing.as_it_stands.parts" in said
