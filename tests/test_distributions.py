"""The core and its plugins are distributions of their own, which are released together."""

from __future__ import annotations

import email
import os
import re
import tarfile
from collections.abc import Iterator
from configparser import ConfigParser
from pathlib import Path
from zipfile import ZipFile

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
PROJECTS = [ROOT, *sorted(path.parent for path in (ROOT / "plugins").glob("*/pyproject.toml"))]


def stated(project: Path, key: str) -> str:
    found = re.search(rf'^{key} = "(.+)"$', (project / "pyproject.toml").read_text(), re.MULTILINE)
    assert found is not None
    return found[1]


VERSION = stated(ROOT, "version")

each_project = pytest.mark.parametrize("project", PROJECTS, ids=lambda path: stated(path, "name"))


@each_project
def test_all_have_the_core_s_version_python_and_licence(project: Path) -> None:
    for key in ("version", "requires-python", "license"):
        assert stated(project, key) == stated(ROOT, key)
    assert (project / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()


@each_project
def test_what_they_need_of_each_other_is_of_that_version(project: Path) -> None:
    text = (project / "pyproject.toml").read_text()
    for needed in map(Requirement, re.findall(r'"(prunecore[\w-]*>\S+)"', text)):
        assert needed.specifier.contains(VERSION), needed


def named(project: Path) -> Iterator[tuple[str, str, str]]:
    """The group, name and object of each entry point that a project states."""
    sections = re.findall(
        r'^\[project\.(?:entry-points\.)?"?([\w.]+)"?\]\n((?:\w+ = ".+"\n)+)',
        (project / "pyproject.toml").read_text(),
        re.MULTILINE,
    )
    for section, lines in sections:
        group = "console_scripts" if section == "scripts" else section
        for name, value in re.findall(r'^(\w+) = "(.+)"$', lines, re.MULTILINE):
            yield group, name, value


@pytest.fixture
def built() -> Path:
    """The folder of all that was built."""
    return Path(os.environ["DISTRIBUTIONS"])


def package(project: Path) -> dict[str, bytes]:
    """The files of a project's package, by their paths in a wheel."""
    above = ROOT if project == ROOT else project / "src"
    (folder,) = (path for path in above.glob("prunecore*") if (path / "py.typed").is_file())
    files = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc")
    return {path.relative_to(above).as_posix(): path.read_bytes() for path in files}


@pytest.mark.wheels
@each_project
def test_a_wheel_has_the_package_its_licence_and_its_entry_points(
    project: Path, built: Path
) -> None:
    name = stated(project, "name")
    stem = f"{name.replace('-', '_')}-{VERSION}"
    (wheel,) = built.glob(f"{stem}-*.whl")
    with ZipFile(wheel) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    about = f"{stem}.dist-info"
    metadata = email.message_from_string(files.pop(f"{about}/METADATA").decode())
    assert metadata["License-Expression"] == stated(project, "license")
    assert metadata["License-File"] == "LICENSE"
    assert metadata.get_payload() == (project / "README.md").read_text()
    assert files.pop(f"{about}/licenses/LICENSE") == (ROOT / "LICENSE").read_bytes()
    groups = ConfigParser()
    groups.read_string(files.pop(f"{about}/entry_points.txt").decode())
    found = {(group, *item) for group in groups.sections() for item in groups.items(group)}
    assert found == set(named(project))
    del files[f"{about}/WHEEL"], files[f"{about}/RECORD"]
    assert files == package(project)


@pytest.mark.wheels
@each_project
def test_a_source_distribution_has_what_its_wheel_is_built_of(project: Path, built: Path) -> None:
    stem = f"{stated(project, 'name').replace('-', '_')}-{VERSION}"
    with tarfile.open(built / f"{stem}.tar.gz") as archive:
        names = {name.removeprefix(f"{stem}/") for name in archive.getnames()}
    source = "" if project == ROOT else "src/"
    beside = {"LICENSE", "README.md", "pyproject.toml", "PKG-INFO", ".gitignore"}
    assert names == beside | {f"{source}{name}" for name in package(project)}
