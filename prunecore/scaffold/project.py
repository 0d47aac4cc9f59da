"""A new plugin's project folder: its name checked, its files filled in, all of them or none."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from string import Template

from prunecore.errors import PrunecoreError, UsageError, reason_of
from prunecore.escaping import shown, shown_value
from prunecore.files.paths import is_folder, is_there
from prunecore.plugins import loading as plugin_registry

EXAMPLE = "ExampleBlock"
_FOR_EXAMPLE = ("prunecore", "prunecore-sequential")


@dataclass(frozen=True)
class Project:
    """A plugin project that is to be.

    Attributes:
        name: of the plugin, as its entry point has it.
        folder: of the project.
    """

    name: str
    folder: Path

    @property
    def distribution(self) -> str:
        """What is installed."""
        return f"prunecore-{self.name}"

    @property
    def module(self) -> str:
        """What is imported."""
        return self.distribution.replace("-", "_")


def plan_project(name: str, parent: Path) -> Project:
    """See whether a project can be made.

    Args:
        name: of the plugin.
        parent: the folder that the project's is to be in.

    Raises:
        UsageError: the name is not one, or is taken; the folder exists or has no place.
    """
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9]*(-[A-Za-z0-9]+)*", name):
        raise UsageError(
            f"{shown_value(name)} cannot name a plugin.\n"
            "Give letters and digits, words joined by hyphens, a letter first, such as my-blocks."
        )
    if name.lower().startswith("prunecore-"):
        raise UsageError(f"Every plugin's name begins so; give {shown(name[len('prunecore-') :])}.")
    for plugin in plugin_registry.installed():
        if name.lower() in (plugin.name.lower(), plugin.distribution.lower()):
            raise UsageError(
                f"There is a plugin {plugin.name} ({plugin}) already.\nGive another name."
            )
    project = Project(name, parent / f"prunecore-{name}")
    if not is_folder(parent):
        raise UsageError(f"There is no folder {shown(parent)}.")
    is_there(_beside(project.folder))  # which the system refuses where the name is too long for it
    if is_there(project.folder):
        raise UsageError(f"{shown(project.folder)} exists.\nMove it, or give another name.")
    return project


def pin(distribution: str, number: str) -> str:
    """The requirement of a distribution in a version, or a newer one of the same major."""
    major, minor = number.split(".")[:2]
    return f"{distribution}>={major}.{minor},<{int(major) + 1}"


def write_example(project: Project) -> None:
    """Write a project whose block is an example, to be replaced."""
    write_project(
        project,
        "example",
        block=EXAMPLE,
        summary="An example block",
        requirements=[pin(each, version("prunecore")) for each in _FOR_EXAMPLE],
        further={"instances": "", "sources": '"src"', "pytest": ""},
    )


def write_project(
    project: Project,
    kind: str,
    *,
    block: str,
    summary: str,
    requirements: Iterable[str],
    further: Mapping[str, str],
) -> None:
    """Fill in a project's files and write them: all, or none.

    Args:
        project: where, and by which name.
        kind: which templates: `example` or `block`.
        block: the class that the plugin owns.
        summary: what the plugin is for.
        requirements: what it needs.
        further: what else the templates ask for.

    Raises:
        PrunecoreError: the system refuses to write.
    """
    values = {
        "name": project.name,
        "distribution": project.distribution,
        "module": project.module,
        "block": block,
        "summary": summary,
        "dependencies": ", ".join(f'"{requirement}"' for requirement in requirements),
        **further,
    }
    texts = {
        "pyproject.toml": fill("pyproject.toml", values),
        "README.md": fill("README.md", values),
        f"src/{project.module}/__init__.py": fill(f"{kind}_plugin.py", values),
        f"tests/test_{project.module.partition('_')[2]}.py": fill(f"{kind}_test.py", values),
    }
    beside = _beside(project.folder)
    try:
        for name, text in texts.items():
            file = beside / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8", newline="\n")
        beside.rename(project.folder)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or reason_of(error)
        raise PrunecoreError(
            f"Cannot write {shown(project.folder)}: {reason}.\nNothing was left behind."
        ) from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _beside(folder: Path) -> Path:
    """Where a project is written before it is renamed."""
    return folder.with_name(f".{folder.name}.{os.getpid()}")


def fill(template: str, values: Mapping[str, str]) -> str:
    """The text of a template, with its placeholders filled in."""
    text = (files(__package__) / "templates" / f"{template}.txt").read_text(encoding="utf-8")
    filled = Template(text).substitute(values)
    return re.sub(r" +$", "", filled, flags=re.MULTILINE).rstrip() + "\n"
