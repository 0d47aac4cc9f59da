"""How every command shows errors, and that asking for help takes no time."""

from __future__ import annotations

import os
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner, Result

from prunecore.cli import options
from prunecore.errors import LevelError, PluginError, PrunecoreError, UsageError


def invoke(error: BaseException | None, *arguments: str) -> Result:
    """Run a command line of one command, `job`, that raises."""

    @click.group("tool", cls=options.Commands)
    @options.debug
    def tool() -> None:
        pass

    @tool.command()
    @options.debug
    def job() -> None:
        if error:
            raise error

    return CliRunner().invoke(tool, arguments or ["job"])


def imported_by(command: str, **environment: str) -> tuple[list[str], set[str]]:
    """What a command prints in a process of its own, and what of the slow is imported there."""
    code = (
        "import sys; from prunecore.cli.main import main\n"
        f"try: main({command.split()}, prog_name='prunecore')\n"
        "except SystemExit: pass\n"
        "slow = {'torch', 'torchvision', 'numpy', 'rich', 'yaml'} & set(sys.modules)\n"
        "print(*slow)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, **environment},
    )
    *printed, slow = done.stdout.splitlines()
    return printed, set(slow.split())


@pytest.mark.parametrize("command", ["--help", "prune --help", "plugins", "--version"])
def test_what_needs_no_torch_does_not_import_it(command: str) -> None:
    assert not imported_by(command)[1]


@pytest.mark.parametrize(
    ("typed", "offered"), [("prunecore ", "plugins"), ("prunecore prune --lev", "--level")]
)
def test_completion_does_not_import_torch(typed: str, offered: str) -> None:
    printed, slow = imported_by(
        "",
        _PRUNECORE_COMPLETE="bash_complete",
        COMP_WORDS=typed,
        COMP_CWORD=str(len(typed.split(" ")) - 1),
    )
    assert f"plain,{offered}" in printed
    assert not slow


@pytest.mark.parametrize(
    ("error", "exit_code"),
    [(PrunecoreError, 1), (LevelError, 1), (PluginError, 1), (UsageError, 2)],
)
def test_an_error_is_its_message_and_its_exit_code(
    error: type[PrunecoreError], exit_code: int
) -> None:
    result = invoke(error("What is wrong.\nWhat to do."))
    assert result.exit_code == exit_code
    assert result.stderr == "Error: What is wrong.\nWhat to do.\n"
    assert result.stdout == ""


def test_no_error() -> None:
    result = invoke(None)
    assert (result.exit_code, result.output) == (0, "")


@pytest.mark.parametrize("arguments", [("--debug", "job"), ("job", "--debug")])
def test_debug_shows_the_traceback_too(arguments: tuple[str, ...]) -> None:
    result = invoke(UsageError("What is wrong."), *arguments)
    assert result.exit_code == 2
    assert result.stderr.startswith("Traceback (most recent call last)")
    assert result.stderr.endswith("Error: What is wrong.\n")


def test_wrong_usage_says_where_help_is() -> None:
    result = invoke(None, "job", "--debgu")
    assert result.exit_code == 2
    first, second = result.stderr.splitlines()
    assert first.startswith("Error: No such option")
    assert second == "See `tool job --help` for what it takes."


def test_an_interrupt_is_no_traceback() -> None:
    result = invoke(KeyboardInterrupt())
    assert result.exit_code == 1
    assert result.stderr.strip() == "Aborted!"


def test_a_fault_of_ours_is_not_hidden() -> None:
    assert isinstance(invoke(ZeroDivisionError()).exception, ZeroDivisionError)


def test_an_option_says_its_name_with_what_is_wrong() -> None:
    def refuse(value: object) -> None:
        raise UsageError(f"not {value!r}.")

    @click.command()
    @click.option("--size", callback=options.checked(refuse))
    def job(size: None) -> None:
        pass

    assert CliRunner().invoke(job, []).exit_code == 0
    with pytest.raises(UsageError, match=r"^--size: not '3'\.$"):
        CliRunner().invoke(job, ["--size", "3"], catch_exceptions=False)
