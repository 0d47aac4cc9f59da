"""Commands of plugins: listed without an import, run like the core's own, named if they fail."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from prunecore import cli, errors
from prunecore.cli.main import main
from prunecore.plugins import loading

Distribute = Callable[..., None]

HELLO = """\
import json

import click

from prunecore import PrunecoreError, UsageError
from prunecore.cli import as_json, checked, debug


def read_times(text):
    if text != "2":
        raise UsageError(f"{text!r} is not 2.")
    return 2


@click.command()
@click.option("--times", callback=checked(read_times))
@click.option("--raises")
@as_json
@debug
def hello(times, raises, as_json):
    \"\"\"Say hello.\"\"\"
    if raises:
        raise eval(raises)
    click.echo(json.dumps({"times": times}) if as_json else "hello " * (times or 1))
"""


@pytest.fixture
def distribute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Distribute]:
    """Lay distributions on the path as pip does; nothing else brings plugins.

    `distribute("prunecore-foo", module, plugins={...}, commands={...})`: names to what they are.
    """
    modules = set()

    def distribute(
        name: str,
        text: str = HELLO,
        commands: dict[str, str] | None = None,
        plugins: dict[str, str] | None = None,
        requires: str = "prunecore",
        metadata: str | None = None,
    ) -> None:
        modules.add(name.replace("-", "_"))
        folder = tmp_path / f"{name.replace('-', '_')}-1.2.dist-info"
        folder.mkdir()
        whole = f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\nRequires-Dist: {requires}\n"
        (folder / "METADATA").write_text(whole if metadata is None else metadata)
        groups = {loading.COMMANDS: commands or {}, errors.GROUP: plugins or {}}
        points = "".join(
            f"[{group}]\n" + "".join(f"{key} = {value}\n" for key, value in of.items())
            for group, of in groups.items()
        )
        (folder / "entry_points.txt").write_text(points)
        (tmp_path / f"{name.replace('-', '_')}.py").write_text(text)

    found = loading.entry_points
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(
        loading,
        "entry_points",
        lambda group: [
            one
            for one in found(group=group)
            if one.dist and Path(str(one.dist.locate_file(""))) == tmp_path
        ],
    )
    monkeypatch.delenv(errors.BLOCK_VARIABLE, raising=False)
    loading._load_installed.cache_clear()
    yield distribute
    loading._load_installed.cache_clear()
    for module in modules:
        sys.modules.pop(module, None)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments, env={"COLUMNS": "100"})


def hello(distribute: Distribute) -> None:
    distribute("prunecore-hello", commands={"hello": "prunecore_hello:hello"})


def test_the_help_lists_a_command_by_its_distribution(distribute: Distribute) -> None:
    hello(distribute)
    text = run("--help").stdout
    commands = [line.split()[0] for line in text.partition("Commands:\n")[2].splitlines()]
    assert commands == ["hello", "inspect", "latency", "plugins", "prune", "verify"]
    assert "\n  hello    From prunecore-hello 1.2.\n" in text
    assert "prunecore_hello" not in sys.modules


@pytest.mark.parametrize("command", ["--help", "plugins", "prune --help", "helo"])
def test_what_runs_no_command_imports_none(
    distribute: Distribute, tmp_path: Path, command: str
) -> None:
    """In a process of its own, in which the distribution is found as any other is."""
    distribute(
        "prunecore-heavy",
        "import torch\nraise SystemExit('imported')",
        commands={"heavy": "prunecore_heavy:heavy"},
    )
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "from prunecore.cli.main import main\n"
        f"sys.argv = ['prunecore', *{command.split()}]\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "slow = {'torch', 'numpy', 'rich', 'prunecore_heavy'} & set(sys.modules)\n"
        "sys.exit(f'imported: {slow}' if slow else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    if command in ("--help", "plugins"):
        assert "prunecore-heavy 1.2" in done.stdout


def test_a_command_reads_its_own_arguments(distribute: Distribute) -> None:
    hello(distribute)
    assert run("hello").stdout == "hello \n"
    assert json.loads(run("hello", "--times", "2", "--json").stdout) == {"times": 2}
    text = run("hello", "--help").stdout
    assert text.startswith("Usage: prunecore hello [OPTIONS]\n\n  Say hello.\n")
    assert "Print JSON alone." in text


@pytest.mark.parametrize(
    ("raises", "exit_code", "says"),
    [
        ("PrunecoreError('What is wrong.\\nWhat to do.')", 1, "What is wrong.\nWhat to do."),
        ("UsageError('What is wrong.')", 2, "What is wrong."),
        ("click.UsageError('Which?')", 2, "Which?\nSee `prunecore hello --help` for what it takes"),
        (
            "KeyError('third')",
            1,
            "prunecore-hello 1.2: the command hello raised KeyError: 'third'.\n"
            "Report it to the plugin's author, or block it: PRUNECORE_BLOCK=hello.",
        ),
        ("SystemExit(3)", 3, ""),
        ("click.exceptions.Exit(4)", 4, ""),
    ],
)
def test_errors_are_shown_as_those_of_our_own_commands(
    distribute: Distribute, raises: str, exit_code: int, says: str
) -> None:
    hello(distribute)
    result = run("hello", "--raises", raises)
    assert result.exit_code == exit_code
    assert result.stdout == ""
    assert result.stderr.startswith(f"Error: {says}" if says else "")
    assert "Traceback" not in result.stderr
    for arguments in (["--debug", "hello"], ["hello", "--debug"]):
        result = run(*arguments, "--raises", raises)
        assert ("in hello\n" in result.stderr) == says.startswith(("What", "prunecore-hello"))


def test_a_command_that_hides_itself_is_named_all_the_same(
    distribute: Distribute, tmp_path: Path
) -> None:
    """What is installed may look otherwise once the command has run."""
    text = f"""\
import sys

import click


@click.command()
def hello():
    sys.path.remove({str(tmp_path)!r})
    raise KeyError("third")
"""
    distribute("prunecore-hello", text, commands={"hello": "prunecore_hello:hello"})
    result = run("hello")
    assert result.exit_code == 1
    assert result.stderr.startswith(
        "Error: prunecore-hello 1.2: the command hello raised KeyError: 'third'.\n"
    )


GROUP = """\
import click


@click.group()
def many():
    pass


@many.command()
def one():
    raise KeyError("third")
"""


def test_a_group_is_a_command_as_any_other(distribute: Distribute) -> None:
    distribute("prunecore-many", GROUP, commands={"many": "prunecore_many:many"})
    assert run("many").output.startswith("Usage: prunecore many [OPTIONS] COMMAND [ARGS]...\n")
    assert run("many", "one").stderr.startswith(
        "Error: prunecore-many 1.2: the command many raised KeyError: 'third'.\n"
    )


def completed(words: str) -> list[str]:
    """What the shell offers for the last of the words."""
    line = words.split(" ")
    told = {
        "_PRUNECORE_COMPLETE": "bash_complete",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(line) - 1),
    }
    result = CliRunner().invoke(main, prog_name="prunecore", env=told)
    assert (result.exit_code, result.stderr) == (0, "")
    return [found.partition(",")[2] for found in result.stdout.splitlines() if found]


def test_the_shell_completes_commands_and_their_options(distribute: Distribute) -> None:
    hello(distribute)
    distribute("prunecore-bad", "import no_such_module", commands={"bad": "prunecore_bad:job"})
    for name in ("one", "two"):
        distribute(f"prunecore-{name}", commands={"both": f"prunecore_{name}:hello"})
    core = ["inspect", "latency", "plugins", "prune", "verify"]
    assert completed("prunecore ") == ["bad", "both", "hello", *core]
    assert "prunecore_hello" not in sys.modules
    assert completed("prunecore hello --t") == ["--times"]
    assert completed("prunecore bad --t") == []
    assert completed("prunecore both --t") == []


def test_an_option_is_read_as_our_own_are(distribute: Distribute) -> None:
    hello(distribute)
    result = run("hello", "--times", "3")
    assert (result.exit_code, result.stderr) == (2, "Error: --times: '3' is not 2.\n")


@pytest.mark.parametrize("command", ["helo", "hello2"])
def test_an_unknown_command_has_the_nearest(distribute: Distribute, command: str) -> None:
    hello(distribute)
    result = run(command)
    assert (result.exit_code, result.stderr) == (
        2,
        f"Error: Unknown command {command!r}. Did you mean 'hello'?\n"
        "Known: hello, inspect, latency, plugins, prune, verify.\n",
    )


@pytest.mark.parametrize(
    ("command", "distribution"), [("train", "prunecore-train"), ("sweep", "prunecore-sweep")]
)
@pytest.mark.parametrize("arguments", [(), ("job.yaml", "--force")])
def test_a_command_that_is_not_installed_says_what_brings_it(
    distribute: Distribute, command: str, distribution: str, arguments: tuple[str, ...]
) -> None:
    distribute("prunecore-foo", commands={"hello": "hello"})
    result = run(command, *arguments)
    assert result.exit_code == 2
    assert result.stderr == (
        f"Error: The command {command} comes with {distribution}, which is not installed.\n"
        f"Install it: pip install {distribution}\n"
    )
    assert command not in completed("")


def test_an_unknown_command_of_a_group_has_the_nearest(distribute: Distribute) -> None:
    assert (
        run("plugins", "nwe").stderr
        == "Error: Unknown command 'nwe'. Did you mean 'new'?\nKnown: new.\n"
    )


# What is wrong with a command


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("raise SystemExit('done')", "SystemExit: done"),
        ("", "AttributeError: module 'prunecore_bad' has no attribute 'job'"),
    ],
)
def test_a_command_that_does_not_import(distribute: Distribute, text: str, what: str) -> None:
    distribute("prunecore-bad", text, commands={"bad": "prunecore_bad:job"})
    result = run("bad", "--help")
    assert result.exit_code == 1
    assert result.stderr == (
        f"Error: Failed to load command bad (prunecore-bad 1.2): {what}\n"
        f"Reinstall it in a version that fits prunecore {version('prunecore')}, or block it: "
        "PRUNECORE_BLOCK=bad.\n"
    )


def test_a_command_made_for_another_version_is_not_imported(distribute: Distribute) -> None:
    distribute("prunecore-late", commands={"late": "prunecore_late:hello"}, requires="prunecore>=9")
    result = run("late")
    assert result.exit_code == 1
    assert "Failed to load command late (prunecore-late 1.2): it requires prunecore>=9, and" in (
        result.stderr
    )
    assert "prunecore_late" not in sys.modules


def test_what_is_no_command(distribute: Distribute) -> None:
    distribute("prunecore-odd", "def job(): pass", commands={"odd": "prunecore_odd:job"})
    result = run("odd")
    assert result.exit_code == 1
    assert result.stderr.startswith(
        "Error: prunecore-odd 1.2: the command odd is an object of function, not a click.Command.\n"
    )


def test_a_command_of_two_distributions_is_not_run(distribute: Distribute) -> None:
    for name in ("one", "two"):
        distribute(f"prunecore-{name}", commands={"hello": f"prunecore_{name}:hello"})
    assert "  hello    From prunecore-one 1.2 and prunecore-two 1.2.\n" in run("--help").stdout
    result = run("hello")
    assert result.exit_code == 1
    assert result.stderr == (
        "Error: prunecore-one 1.2 and prunecore-two 1.2 each bring a command hello.\n"
        "Keep one of them, such as the first: pip uninstall prunecore-two.\n"
    )
    assert not {"prunecore_one", "prunecore_two"} & set(sys.modules)
    check = run("plugins", "--check")
    assert check.exit_code == 1
    assert check.stdout.count("prunecore-one 1.2 and prunecore-two 1.2 each bring") == 2


def test_a_command_of_three_distributions_names_all(distribute: Distribute) -> None:
    for name in ("two", "three", "one"):
        distribute(f"prunecore-{name}", commands={"hello": f"prunecore_{name}:hello"})
    listed = "prunecore-one 1.2 and prunecore-three 1.2 and prunecore-two 1.2"
    assert f"  hello    From {listed}.\n" in run("--help").stdout
    assert run("hello").stderr == (
        f"Error: {listed} each bring a command hello.\n"
        "Keep one of them, such as the first: pip uninstall prunecore-three prunecore-two.\n"
    )


def test_a_command_that_a_distribution_names_twice(distribute: Distribute) -> None:
    twice = {"hello": "prunecore_hello:hello\nhello = prunecore_hello:other"}
    distribute("prunecore-hello", commands=twice)
    assert "  hello    From prunecore-hello 1.2.\n" in run("--help").stdout
    result = run("hello")
    assert result.exit_code == 1
    assert result.stderr == (
        "Error: prunecore-hello 1.2: the command hello is named twice.\n"
        "Report it to the plugin's author, or block it: PRUNECORE_BLOCK=hello.\n"
    )


@pytest.mark.parametrize("metadata", ["", "Summary: nameless\n"])
def test_a_distribution_without_a_name_goes_by_its_module(
    distribute: Distribute, monkeypatch: pytest.MonkeyPatch, metadata: str
) -> None:
    """Two of them are two: what blocks one leaves the other."""
    distribute(
        "one",
        commands={"hello": "one:hello"},
        plugins={"family": "one"},
        metadata=metadata,
    )
    distribute("two", commands={"other": "two:hello"}, metadata=metadata)
    text = run("--help").stdout
    assert "  hello    From one unknown.\n" in text
    assert "  other    From two unknown.\n" in text
    monkeypatch.setenv(errors.BLOCK_VARIABLE, "family")
    assert run("hello").exit_code == 2
    assert run("other").stdout == "hello \n"


def test_a_command_of_our_own_hides_that_of_a_plugin(distribute: Distribute) -> None:
    distribute("prunecore-mine", commands={"verify": "prunecore_mine:hello"})
    text = run("--help").stdout
    assert "  verify   Check the written FILE" in text
    assert text.endswith("\nThe command verify of prunecore-mine 1.2 is hidden by prunecore's.\n")
    assert "FILE MODEL" in run("verify", "--help").stdout
    check = run("plugins", "--check")
    assert check.exit_code == 1
    assert check.stdout.startswith(
        "verify           prunecore-mine 1.2  command, failed: prunecore-mine 1.2: the command "
        "verify is hidden by prunecore's own of that name.\n"
    )
    assert "prunecore_mine" not in sys.modules


# Blocked ones


@pytest.mark.parametrize("blocked", ["hello", "family"])
def test_a_blocked_command_is_not_listed_and_not_imported(
    distribute: Distribute, monkeypatch: pytest.MonkeyPatch, blocked: str
) -> None:
    """By its own name, or by that of a plugin of its distribution."""
    distribute(
        "prunecore-hello",
        commands={"hello": "prunecore_hello:hello"},
        plugins={"family": "prunecore_hello"},
    )
    monkeypatch.setenv(errors.BLOCK_VARIABLE, blocked)
    assert "hello" not in run("--help").stdout
    assert "Known: inspect, latency, plugins, prune, verify." in run("helo").stderr
    result = run("hello")
    assert result.exit_code == 2
    assert result.stderr == (
        "Error: The command hello of prunecore-hello 1.2 is blocked.\n"
        "Take hello, or the plugin of that distribution, out of PRUNECORE_BLOCK.\n"
    )
    assert "prunecore_hello" not in sys.modules
    assert run("plugins").stdout.splitlines()[-1].endswith("prunecore-hello 1.2  command, blocked")
    assert run("plugins", "--check").exit_code == 0


def test_a_command_blocked_for_good_leaves_the_name_to_another(
    distribute: Distribute, monkeypatch: pytest.MonkeyPatch
) -> None:
    distribute(
        "prunecore-one",
        commands={"hello": "prunecore_one:hello"},
        plugins={"one": "prunecore_one"},
    )
    distribute("prunecore-two", commands={"hello": "prunecore_two:hello"})
    monkeypatch.setenv(errors.BLOCK_VARIABLE, "one")
    assert run("hello").stdout == "hello \n"
    assert run("plugins", "--check").exit_code == 0


def test_a_wrong_blocked_name_knows_the_commands_too(
    distribute: Distribute, monkeypatch: pytest.MonkeyPatch
) -> None:
    hello(distribute)
    monkeypatch.setenv(errors.BLOCK_VARIABLE, "helo")
    assert "'helo'. Did you mean 'hello'?\nKnown: hello." in run("plugins").stderr
    assert run("--help").exit_code == 0


# The list


def test_the_list_of_plugins_has_the_commands(distribute: Distribute) -> None:
    hello(distribute)
    result = run("plugins")
    assert result.stdout == "hello            prunecore-hello 1.2  command\n"
    assert "prunecore[all]" in result.stderr  # it is no family
    assert json.loads(run("plugins", "--json").stdout) == {
        "blocked": False,
        "distribution": "prunecore-hello",
        "kind": "command",
        "name": "hello",
        "version": "1.2",
    }
    assert "prunecore_hello" not in sys.modules


def test_a_check_loads_the_commands(distribute: Distribute) -> None:
    hello(distribute)
    distribute("prunecore-bad", "import no_such_module", commands={"bad": "prunecore_bad:job"})
    result = run("plugins", "--check")
    assert result.exit_code == 1
    assert result.stdout == textwrap.dedent(
        f"""\
        bad              prunecore-bad 1.2  command, failed: Failed to load command bad \
(prunecore-bad 1.2): ModuleNotFoundError: No module named 'no_such_module'
        Reinstall it in a version that fits prunecore {version("prunecore")}, or block it: \
PRUNECORE_BLOCK=bad.
        hello            prunecore-hello 1.2  command, ok
        """
    )


# What authors of commands import


def test_what_authors_of_commands_need_is_in_one_place() -> None:
    for name in cli.__all__:
        assert callable(getattr(cli, name))
    with pytest.raises(AttributeError, match=r"'prunecore\.cli' has no attribute 'tables2'"):
        cli.tables2  # noqa: B018
