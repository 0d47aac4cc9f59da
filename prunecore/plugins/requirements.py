"""A plugin's requirements of prunecore and of other plugins, compared with what is installed."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

CORE = "prunecore"


def unmet(plugin: Distribution) -> tuple[str, str] | None:
    """The first requirement on prunecore or another plugin that is not met.

    What else a distribution requires, such as torch, is not looked at: there are many ways to
    install that under another name.

    Args:
        plugin: the distribution's metadata.

    Returns:
        The name of what is required, and how it is not met, as a clause; `None` if all is met.
    """
    for requirement in _applicable(plugin):
        wanted = f"{requirement.name}{requirement.specifier}"
        try:
            found = distribution(requirement.name)
        except PackageNotFoundError:
            if _is_prunecore(requirement.name):
                return requirement.name, f"it requires {wanted}, which is not installed"
            continue
        is_plugin = any(_is_prunecore(point.group) for point in found.entry_points)
        # a pre-release that is installed was chosen
        fits = requirement.specifier.contains(found.version, prereleases=True)
        if (is_plugin or _is_prunecore(requirement.name)) and not fits:
            there = f"{requirement.name} {found.version} is installed"
            return requirement.name, f"it requires {wanted}, and {there}"
    return None


def _applicable(plugin: Distribution) -> Iterator[Requirement]:
    """The requirements that hold in this environment, those of extras left out."""
    for text in plugin.requires or ():
        try:
            requirement = Requirement(text)
        except InvalidRequirement:  # of another tool; what installed it could read it
            continue
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            yield requirement


def _is_prunecore(name: str) -> bool:
    """True if a distribution is the core, or a plugin by its name; or a group of entry points."""
    return canonicalize_name(name).split("-")[0] == CORE
