"""`prunecore plugins new`: what it refuses, and the text of the projects that it writes."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from prunecore.cli.main import main
from prunecore.plugins import loading

from .. import toy

BLOCKS = """\
import torch
import torch.nn.functional as F
from torch import nn


class Inner(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.dense = nn.Linear(width, width)

    def forward(self, x):
        return self.dense(x) * 2


class Block(nn.Module):
    def __init__(self, width, hidden=5, p=0.1):
        super().__init__()
        self.up = nn.Sequential(nn.Linear(width, hidden), nn.ReLU())
        self.inner = Inner(hidden)
        self.side = nn.Linear(width, 3)
        self.down = nn.Linear(hidden + 3, width)
        self.scale = nn.Parameter(torch.ones(width))
        self.p = p

    def forward(self, x):
        out = torch.cat([self.inner(self.up(x)), self.side(x)], dim=1)
        out = F.dropout(self.down(out), self.p, self.training)
        return F.relu(x + self.scale * out)


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.dense = nn.Linear(4, 6)

    def forward(self, x, by):
        return self.dense(x * by), x


class Branches(Two):
    def forward(self, x):
        return self.dense(x) if x.any() else x


class Counts(Two):
    def forward(self, x):
        return torch.cat([self.dense(x), self.dense(x)], 1).view(-1, 12)


class Halves(Two):
    def forward(self, x):
        return self.dense(x).chunk(2, 1)[1]


class Joined(Two):
    def forward(self, x):
        return torch.cat([self.dense(x), x], 1) * 2


class Checked(Two):
    def forward(self, x):
        torch._assert(x.shape[0] > 0, "no input")
        return self.dense(x)


class Silent(nn.Module):
    def forward(self, x):
        return x


def factory():
    return Two()
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, toys_installed: None) -> Iterator[Path]:
    """The current folder, in which a module of blocks lies."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own_blocks.py").write_text(BLOCKS)
    sys.modules.pop("own_blocks", None)
    yield tmp_path
    sys.modules.pop("own_blocks", None)


def new(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["plugins", "new", *arguments])


def written(result: Result, file: Path) -> str:
    assert result.exit_code == 0, result.output
    return file.read_text()


def body(text: str, function: str) -> str:
    """The lines of a function after its docstring, without their indent."""
    _, _, rest = text.partition(f"def {function}(")
    lines = rest.partition("\n\n\n")[0].partition('."""\n')[2]
    return textwrap.dedent(lines).strip()


# Refusals


@pytest.mark.parametrize("name", ["", "1st", "two words", "a_b", "a--b", "a-", "ä", "../up"])
def test_a_name_is_letters_digits_and_hyphens(folder: Path, name: str) -> None:
    result = new("--", name)
    assert result.exit_code == 2
    assert "cannot name a plugin" in result.stderr
    assert sorted(path.name for path in folder.iterdir()) == ["own_blocks.py"]


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["prunecore-mine"], 2, "Every plugin's name begins so; give mine."),
        (["Toy"], 2, "There is a plugin toy (prunecore-toy 0.1) already.\n"),
        (["mine", "--output", "nowhere"], 2, "There is no folder nowhere."),
        (["mine", "--model-arg", "a=1"], 2, "are for the class of --block"),
        (["mine", "--input-shape", "3"], 2, "are for the class of --block"),
        (["mine", "--block", "Block"], 2, "--block Block does not name a class"),
        (["mine", "--block", "own_blocks.py:Block"], 2, "Give package.module:Class"),
        (["mine", "--block", "no_such_module:Block"], 2, "There is no module no_such_module."),
        (["mine", "--block", "own_blocks:Blck"], 2, "Did you mean 'Block'?"),
        (["mine", "--block", "own_blocks:factory"], 2, "Give own_blocks:Two."),
        (["mine", "--block", "own_blocks:Block"], 2, "takes width, which is not given."),
        (["mine", "--block", "torch.nn:ReLU"], 2, "prunecore-toy 0.1 owns ReLU"),
        (["mine", "--block", "own_blocks:Silent"], 2, "Silent has no layer that says what input"),
        (["mine", "--block", "own_blocks:Two"], 2, "Two cannot take (4,): block (Two) cannot be"),
        (["mine", "--block", "own_blocks:Two"], 2, "without the batch: --input-shape C,H,W."),
        (
            ["mine", "--block", "own_blocks:Branches"],
            1,
            "Cannot prune through block (Branches): its forward cannot be traced: ",
        ),
        (
            ["mine", "--block", "own_blocks:Branches"],
            1,
            "To write that by hand, leave --block out, and start from the example",
        ),
        (["mine", "--block", "own_blocks:Halves"], 1, "chunk takes channels by their places"),
        (["mine", "--block", "own_blocks:Counts"], 1, "holds the number 12, which counts channels"),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(
    folder: Path, arguments: list[str], code: int, says: str
) -> None:
    result = new(*arguments)
    assert says in result.stderr
    assert (result.exit_code, result.stdout) == (code, "")
    assert result.stderr.startswith("Error: ")
    assert sorted(path.name for path in folder.glob("[!_]*")) == ["own_blocks.py"]


def test_a_folder_that_exists_is_not_touched(folder: Path) -> None:
    (folder / "prunecore-mine").mkdir()
    result = new("mine")
    assert result.exit_code == 2
    assert "prunecore-mine exists." in result.stderr
    assert not any((folder / "prunecore-mine").iterdir())


def test_a_folder_that_cannot_be_written_leaves_nothing_behind(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def rename(path: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "rename", rename)
    result = new("mine")
    assert result.exit_code == 1
    assert result.stderr == (
        "Error: Cannot write prunecore-mine: No space left on device.\nNothing was left behind.\n"
    )
    assert sorted(path.name for path in folder.iterdir()) == ["own_blocks.py"]


# The example


def test_the_example_is_written_without_torch(tmp_path: Path) -> None:
    code = (
        "import sys; from prunecore.cli.main import main\n"
        "try: main(['plugins', 'new', 'my-blocks'])\n"
        "except SystemExit as end: assert end.code == 0\n"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "Wrote prunecore-my-blocks.\n"
    assert "pip install -e prunecore-my-blocks && pytest prunecore-my-blocks" in done.stderr
    files = sorted(
        path.relative_to(tmp_path / "prunecore-my-blocks").as_posix()
        for path in tmp_path.rglob("*")
        if path.is_file()
    )
    assert files == [
        "README.md",
        "pyproject.toml",
        "src/prunecore_my_blocks/__init__.py",
        "tests/test_my_blocks.py",
    ]


def test_the_example_s_pyproject_names_and_pins(folder: Path) -> None:
    text = written(new("mine"), folder / "prunecore-mine/pyproject.toml")
    major, minor = loading.version("prunecore").split(".")[:2]
    assert f'"prunecore>={major}.{minor},<{int(major) + 1}"' in text
    assert '[project.entry-points.prunecore]\nmine = "prunecore_mine"\n' in text
    assert 'requires = ["hatchling"]' in text


def test_the_example_s_hooks_are_right(
    folder: Path, install: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    new("mine")
    monkeypatch.syspath_prepend(folder / "prunecore-mine/src")
    run_test(folder / "prunecore-mine", install)


def run_test(project: Path, install: Callable[..., None]) -> None:
    """Install a project's plugin beside the toy plugin, and run its own test of the block."""
    name = project.name.removeprefix("prunecore-")
    module_name = project.name.replace("-", "_")
    monkey = types.ModuleType(module_name)
    source = project / f"src/{module_name}/__init__.py"
    monkey.__file__ = str(source)
    sys.modules[module_name] = monkey
    exec(compile(source.read_text(), str(source), "exec"), vars(monkey))
    install(toy=toy, **{name.replace("-", "_"): monkey})
    names: dict[str, Any] = {}
    (test,) = (project / "tests").glob("test_*.py")
    exec(compile(test.read_text(), str(test), "exec"), names)
    names["test_what_is_written_of_a_block_is_exact"]()
    del sys.modules[module_name]


# Hooks from a traced block


@pytest.fixture
def block(folder: Path) -> Path:
    """The project that is written for `Block`."""
    result = new("own", "--block", "own_blocks:Block", "--model-arg", "width=4")
    assert (result.exit_code, result.stdout) == (0, "Wrote prunecore-own.\n"), result.output
    return folder / "prunecore-own"


def test_the_calculator_has_a_line_for_each_operation(block: Path) -> None:
    text = (block / "src/prunecore_own/__init__.py").read_text()
    assert body(text, "prunecore_calculate_dependencies").splitlines() == [
        "(x,) = inputs",
        "out = channels.through(block.up, x)",
        "inner = channels.through(block.inner, out)",
        "side = channels.through(block.side, x)",
        "out = channels.apply(torch.cat, [inner, side], dim=1)",
        "out = channels.through(block.down, out)",
        "out = channels.apply(F.dropout, out, p=block.p, training=False)",
        'out = channels.couple(channels.stored(block, "scale"), out)',
        "x = channels.couple(x, out)",
        "return channels.apply(F.relu, x)",
    ]


def test_the_class_has_every_width_as_an_argument(block: Path) -> None:
    text = (block / "src/prunecore_own/__init__.py").read_text()
    assert body(text, "prunecore_write_block").splitlines() == [
        "channels = writer.width(block.up[0].weight, 1)",
        "up_width = writer.width(block.up[0].weight, 0)",
        "side_width = writer.width(block.side.weight, 0)",
        "down_width = writer.width(block.down.weight, 1)",
        "call = Call(",
        '    "Block",',
        "    (channels, up_width, side_width, down_width),",
        '    {"inner": writer.child(block.inner, f"{name}.inner")},',
        ")",
        'return BlockSource(call, {"Block": SOURCE})',
    ]
    names: dict[str, Any] = {}
    exec(text, names)
    assert "self.down = nn.Linear(down_width, channels)" in names["SOURCE"]
    assert "self.inner = inner" in names["SOURCE"]
    assert names["prunecore_block_types"]() == [sys.modules["own_blocks"].Block]


def test_the_project_s_own_test_passes(block: Path, install: Callable[..., None]) -> None:
    test = (block / "tests/test_own.py").read_text()
    assert "block = Block(width=4)\n    check_block(block, (4,))" in test
    run_test(block, install)


def test_the_plugin_owns_nothing_where_the_block_is_not_imported(block: Path) -> None:
    del sys.modules["own_blocks"]
    names: dict[str, Any] = {}
    exec((block / "src/prunecore_own/__init__.py").read_text(), names)
    assert names["prunecore_block_types"]() == []
    assert "own_blocks" not in sys.modules


def test_the_project_pins_what_owns_the_block_s_layers(block: Path) -> None:
    text = (block / "pyproject.toml").read_text()
    assert '"prunecore-toy>=0.1,<1"]' in text
    assert 'pythonpath = [".."]  # where own_blocks is' in text


def test_several_inputs_have_a_shape_each(folder: Path, install: Callable[..., None]) -> None:
    shapes = ["--input-shape", "4", "--input-shape", "1"]
    text = written(
        new("two", "--block", "own_blocks:Two", *shapes, "--output", "."),
        folder / "prunecore-two/src/prunecore_two/__init__.py",
    )
    assert body(text, "prunecore_calculate_dependencies").splitlines() == [
        "x, by = inputs",
        "by = channels.couple(x, by)",
        "return channels.through(block.dense, by), x",
    ]
    assert (
        "check_block(block, (4,), (1,))" in (folder / "prunecore-two/tests/test_two.py").read_text()
    )


def test_what_is_put_together_has_a_name_of_its_own(folder: Path) -> None:
    text = written(
        new("joined", "--block", "own_blocks:Joined"),
        folder / "prunecore-joined/src/prunecore_joined/__init__.py",
    )
    assert body(text, "prunecore_calculate_dependencies").splitlines() == [
        "(x,) = inputs",
        "dense = channels.through(block.dense, x)",
        "x = channels.apply(torch.cat, [dense, x], 1)",
        "return channels.apply(operator.mul, x, 2)",
    ]


def test_functions_of_python_s_own_are_called_by_their_names(folder: Path) -> None:
    text = written(
        new("checked", "--block", "own_blocks:Checked"),
        folder / "prunecore-checked/src/prunecore_checked/__init__.py",
    )
    assert 'shape = channels.apply(getattr, x, "shape")' in text


def test_projects_are_as_ruff_has_them(folder: Path, block: Path) -> None:
    new("mine")
    new("two", "--block", "own_blocks:Two", "--input-shape", "4", "--input-shape", "4")
    for command in (["check", "--select", "E,F,I,W"], ["format", "--diff"]):
        ruff = [sys.executable, "-m", "ruff", *command, "-q", "--no-cache"]
        projects = sorted(path.name for path in folder.glob("prunecore-*"))
        assert projects == ["prunecore-mine", "prunecore-own", "prunecore-two"]
        done = subprocess.run(
            [*ruff, *projects], cwd=folder, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
