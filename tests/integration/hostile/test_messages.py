"""What is told of names that a terminal or a table would take for something else than a name."""

from __future__ import annotations

import builtins
import html
import json
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import prunecore
from prunecore.cli.jobs import module_of
from prunecore.cli.main import main
from prunecore.errors import PrunecoreError
from prunecore.escaping import is_name, visible
from prunecore.files.weights import load_weights

from ..oracle import check_style
from .attributes import child, dictionary
from .names import CANARY, FEW, MARKUP, RUNS, described
from .nets import SHAPE, Net
from .texts import class_name

NAMES = [pytest.param(name, id=described(name)) for name in (*FEW, "[bold]", ":fire:", "${block}")]
FOLDED = ("\ufb01", "\u017felf")  # which ruff takes for names that an attribute can have
WRITABLE = [name for name in FEW if name.isprintable() and len(name) < 100 and name not in FOLDED]


@pytest.fixture(autouse=True)
def ran(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """What code in a name has run: nothing."""
    calls: list[Any] = []
    monkeypatch.setattr(builtins, CANARY, lambda *given: calls.append(given), raising=False)
    yield calls
    assert calls == []


def sortings(name: str) -> nn.Module:
    """A network that cannot be followed, in a module of this name."""

    class Inner(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.msort(x)

    return _within(name, Inner())


def _within(name: str, inner: nn.Module) -> nn.Module:
    class Net2(Net):
        def between(self, x: Tensor) -> Tensor:
            return self._modules[name](x)  # type: ignore[misc]

    net = Net2()
    net._modules[name] = inner
    return net


def whole(name: str) -> nn.Module:
    """A network that is left whole, because of a module of this name."""

    class Inner(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.softmax(1)

    return _within(name, nn.Sequential(nn.Linear(8, 8), Inner()))


def narrow(name: str) -> nn.Module:
    """A network that cannot take its input, because of a module of this name."""
    return _within(name, nn.Linear(7, 8))


def skipped(name: str) -> nn.Module:
    """A network that protects what it does not have."""

    @prunecore.skip(layers=[name])
    class Net2(Net):
        pass

    return Net2()


def branching(name: str) -> nn.Module:
    """A network of a class of this name that branches on what a tensor holds."""

    class Inner(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x if x.sum() > 0 else -x

    try:
        Inner.__name__ = Inner.__qualname__ = name
    except (UnicodeEncodeError, ValueError):
        pytest.skip("Python takes no such name for a class")
    return _within("inner", Inner())


def raising(name: str) -> nn.Module:
    """A network whose forward says this when it raises."""

    class Inner(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise ValueError(name)

    return _within("inner", Inner())


REFUSED: dict[str, Callable[[str], Any]] = {
    "rule": lambda name: prunecore.prune(sortings(name), level=30, input_shape=SHAPE, strict=True),
    "whole": lambda name: prunecore.prune(whole(name), level=99, input_shape=SHAPE),
    "shape": lambda name: prunecore.prune(narrow(name), level=30, input_shape=SHAPE),
    "skip": lambda name: prunecore.prune(skipped(name), level=30, input_shape=SHAPE),
    "branch": lambda name: prunecore.prune(
        branching(name), level=30, input_shape=SHAPE, strict=True
    ),
    "raise": lambda name: prunecore.prune(raising(name), level=30, input_shape=SHAPE),
    "drop": lambda name: prunecore.prune(Net(), level=30, input_shape=SHAPE, drop=[f"{name}."]),
    "module": lambda name: module_of(Net(), f"{name}."),
    "mode": lambda name: prunecore.prune(Net(), level=30, input_shape=SHAPE, mode=name),
    "target": lambda name: prunecore.prune(Net(), level=30, input_shape=SHAPE, target=name),  # type: ignore[arg-type]
    "level": lambda name: prunecore.prune(Net(), level=name, input_shape=SHAPE),  # type: ignore[arg-type]
    "save": lambda name: prunecore.prune(Net(), level=30, input_shape=SHAPE).save(
        f"/dev/null/{name.strip()}-.py"
    ),
}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("job", REFUSED)
def test_an_error_is_a_line_or_two_that_a_terminal_can_show(job: str, name: str) -> None:
    with pytest.raises(PrunecoreError) as caught:
        REFUSED[job](name)
    check_message(str(caught.value), name)


def check_message(text: str, name: str) -> None:
    """Two lines of what can be seen, the name or the begin of it among it."""
    assert text.count("\n") <= 1
    assert text.replace("\n", "").isprintable()
    assert len(text) < 2500
    begin = name.strip()[:16].replace("_", "-")  # as a mode's name is read
    text = text.replace("_", "-")
    assert begin in text or repr(begin)[1:-1] in text or ascii(begin)[1:-1] in text


@pytest.mark.parametrize("name", NAMES)
def test_a_factory_of_any_name_that_can_be_one(name: str) -> None:
    try:
        small = prunecore.prune(Net(), level=30, input_shape=SHAPE, name=name)
    except PrunecoreError as error:
        check_message(str(error), name)
        assert not is_name(name) or name.startswith("__") or name in ("torch", "super", "list")
        return
    assert f"def {name}(" in small.source


@pytest.mark.parametrize("name", NAMES)
def test_what_results_show_of_themselves(name: str) -> None:
    net = _of_layers(name)
    if net is None or "\ud800" in name:
        return
    with suppress(UnicodeEncodeError, ValueError):  # Python takes no such name for a class
        type(net).__name__ = name
    found = prunecore.inspect(net, input_shape=SHAPE)
    begin = visible(name[:16])
    for text in (repr(found), html.unescape(found._repr_html_())):
        assert text.replace("\n", "").isprintable()
        assert begin in text
        assert len(text) < 3000
    assert "<b>" not in prunecore.inspect(net, input_shape=SHAPE, name="<b>")._repr_html_()
    assert repr(prunecore.trace(net, input_shape=SHAPE)).isprintable()
    assert repr(prunecore.prune(net, level=30, input_shape=SHAPE, verify=False)).isprintable()


@pytest.mark.parametrize("name", [name for name in FEW if name != "\ud800"], ids=described)
def test_a_file_of_weights_with_keys_of_any_name(name: str, tmp_path: Path) -> None:
    file = tmp_path / "weights.safetensors"
    save_file({name: torch.zeros(1), f"{name}2": torch.zeros(1)}, file)
    with pytest.raises(PrunecoreError) as caught:
        load_weights(Net(), file)
    check_message(str(caught.value), name)


@pytest.mark.parametrize("name", [name for name in FEW if name not in ("\ud800", "a.b")])
def test_a_set_is_saved_and_found_again(name: str, tmp_path: Path) -> None:
    net = _of_layers(name)
    if net is None:
        return
    small = prunecore.prune(net, level=30, input_shape=SHAPE, name="net")
    source, weights, report = small.save(tmp_path / "net.py")
    assert source.read_text(encoding="utf-8") == small.source
    assert load_file(weights).keys() == net.state_dict().keys()
    assert json.loads(report.read_text())["kept"].keys() == small.report["kept"].keys()
    found = prunecore.verify(source, net, input_shape=SHAPE)
    assert found.max_relative_difference <= 1e-9


def _of_layers(name: str) -> nn.Module | None:
    try:
        return child(name)
    except KeyError:  # torch takes no child of that name
        return None


def test_files_with_any_names_pass_ruff(tmp_path: Path) -> None:
    for number, name in enumerate((*WRITABLE, *MARKUP, 'a"b', 'a\'b"c"', "\n", "\u202e")):
        for place in (child, dictionary, class_name):
            try:
                net = place(name)
            except KeyError:
                continue
            source = prunecore.prune(
                net, level=30, input_shape=SHAPE, name="net", verify=False
            ).source
            (tmp_path / f"{place.__name__}{number}.py").write_text(source, encoding="utf-8")
    assert len(list(tmp_path.iterdir())) > 60
    check_style(tmp_path)


# --- on the command line

NETS = """
import builtins

import torch
from torch import nn

NAME = {name!r}

class Inner(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(8, 8)

    def forward(self, x):
        return torch.relu(self.layer(x)) + x.softmax(1).sum()

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(6, 8)
        self.inner = nn.ModuleDict({{"inner": Inner()}})
        self.inner[NAME] = Inner()
        self.last = nn.Linear(8, 4)
        self.unused = nn.ModuleDict({{NAME: nn.Linear(8, 4)}})

    def forward(self, x):
        return self.last(torch.relu(self.inner[NAME](self.first(x))))

for cls in (Net, Inner):
    try:
        cls.__name__ = NAME
    except ValueError:
        pass

def net(**others):
    return Net()

if NAME not in [*globals(), *dir(builtins)]:  # which the file itself needs
    globals()[NAME] = net
"""

Invoke = Callable[..., Result]


@pytest.fixture
def invoke(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Invoke:
    """Run the command line in a folder with a file of networks."""
    monkeypatch.chdir(tmp_path)

    def run(name: str, *arguments: str) -> Result:
        (tmp_path / "nets.py").write_text(NETS.format(name=name), encoding="utf-8")
        sys.modules.pop("loaded_nets", None)
        return CliRunner().invoke(main, list(arguments))

    return run


_USUAL = (
    "if",
    "list",
    f"{{{RUNS}}}0",
    f"\n{RUNS}\n",
    "a\0b",
    "\x1b[31mred\x1b[0m",
    "[bold]",
    "a b",
)
ON_THE_LINE = [
    pytest.param(name, id=described(name), marks=[] if name in _USUAL else [pytest.mark.slow])
    for name in (*FEW, "[bold]", ":fire:")
    if name not in ("\ud800", "forward", "training", "a.b")
]


def check_output(result: Result, *codes: int) -> None:
    """The job ended as it says, without a traceback, and a terminal can show what it says."""
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code in codes, result.output
    assert result.output.replace("\n", "").isprintable()


@pytest.mark.parametrize("name", ON_THE_LINE)
def test_what_commands_print(name: str, invoke: Invoke) -> None:
    shape = "--input-shape=6"
    result = invoke(name, "inspect", "nets.py:net", shape)
    check_output(result, 0)
    seen = name[:16] if name.isprintable() else repr(name[:16])[1:-1]
    assert f"inner.{seen}" in result.output
    check_output(invoke(name, "inspect", "nets.py:net", shape, "--json"), 0)
    check_output(invoke(name, "prune", "nets.py:net", shape, "--level=30"), 0)
    check_output(invoke(name, "verify", "net_30.py", "nets.py:net", shape), 0)
    for file in Path().glob("net_30.*"):
        assert re.fullmatch(r"net_30\.(py|safetensors|json)", file.name)


@pytest.mark.parametrize("name", ON_THE_LINE)
def test_what_commands_say_of_their_arguments(name: str, invoke: Invoke) -> None:
    if "\0" in name or len(name) > 200:  # no argument of a process, or no file's name
        return
    job = ("prune", "nets.py:net", "--input-shape=6", "--level=30", "--force")
    for flag in ("--name", "--mode", "--target", "--module", "--drop", "--level", "--weights"):
        check_output(invoke(name, *job, f"{flag}={name}"), 0, 1, 2)
    check_output(invoke(name, *job, f"--model-arg={name}=1"), 0, 2)
    check_output(invoke(name, *job, f"--model-arg=a={name}"), 0, 2)
    check_output(invoke(name, *job, f"--{name}"), 2)
    for spec in (name, f"{name}:net", f"nets:{name}", f"nets.py:{name}", f"{name}.py:net"):
        check_output(invoke(name, "inspect", spec, "--input-shape=6"), 0, 1, 2)
    check_output(invoke(name, "verify", name, "nets.py:net"), 2)
    check_output(invoke(name, "plugins", "new", name), 0, 2)


@pytest.mark.parametrize("name", ON_THE_LINE)
def test_a_file_of_any_name(name: str, invoke: Invoke, tmp_path: Path) -> None:
    if "\0" in name or "/" in name or len(name) > 200:
        return
    folder = tmp_path / f'{name}\'"""\\'
    folder.mkdir()
    (folder / f"{name}.py").write_text(NETS.format(name="inside"), encoding="utf-8")
    job = ("prune", f"{folder}/{name}.py:net", "--input-shape=6", "--level=30", "--name=small")
    result = invoke(name, *job, f"--output={folder}")
    check_output(result, 0)
    source = (folder / "small_30.py").read_text(encoding="utf-8")
    assert source.replace("\n", "").isprintable()
    compile(source, "small", "exec")


BLOCK = """
import torch
from torch import nn

class Block(nn.Module):
    def __init__(self, name={name!r}):
        super().__init__()
        self.given = name
        self.first = nn.Linear(8, 6)
        inner = nn.Sequential(nn.Linear(6, 6), nn.ReLU())
        self.add_module(name, Inner())
        self.heads = nn.ModuleDict({{name: nn.Linear(6, 8)}})
        self.register_buffer(f"{{name}}_", torch.rand(8) + 0.5)

    def forward(self, x):
        y = getattr(self, self.given)(self.first(x))
        torch._assert(x.shape[0] > 0, self.given)
        return self.heads[self.given](y) * getattr(self, f"{{self.given}}_") + x

class Inner(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(6, 6)

    def forward(self, x):
        return torch.relu(self.layer(x)) + x
"""


@pytest.mark.parametrize("name", ON_THE_LINE)
def test_a_plugin_for_a_block_with_names(name: str, invoke: Invoke, tmp_path: Path) -> None:
    (tmp_path / "blocks.py").write_text(BLOCK.format(name=name), encoding="utf-8")
    sys.modules.pop("blocks", None)
    sys.path.insert(0, str(tmp_path))
    try:
        result = invoke(name, "plugins", "new", "own", "--block=blocks:Block", "--input-shape=8")
    finally:
        sys.path.remove(str(tmp_path))
        sys.modules.pop("blocks", None)
    check_output(result, 0)
    for file in (tmp_path / "prunecore-own").rglob("*.py"):
        text = file.read_text(encoding="utf-8")
        assert text.replace("\n", "").isprintable()
        compile(text, file.name, "exec")


def test_blocks_whose_names_cannot_be_imported(invoke: Invoke, tmp_path: Path) -> None:
    text = BLOCK.format(name="inner") + "\nBlock.__name__ = Block.__qualname__ = 'a b'\n"
    text += "globals()['a b'] = Block\n"
    (tmp_path / "blocks.py").write_text(text, encoding="utf-8")
    sys.modules.pop("blocks", None)
    sys.path.insert(0, str(tmp_path))
    try:
        result = invoke("a", "plugins", "new", "own", "--block=blocks:a b", "--input-shape=8")
    finally:
        sys.path.remove(str(tmp_path))
        sys.modules.pop("blocks", None)
    check_output(result, 2)
    assert "'a b' cannot be the name of a factory" in result.output
