"""A plugin project for a block that can be traced, its hooks filled in from the trace."""

from __future__ import annotations

import inspect
import os
import sys
import types
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from prunecore.errors import (
    BLOCK_VARIABLE,
    InputShapeError,
    PrunecoreError,
    UnsupportedError,
    UsageError,
)
from prunecore.escaping import in_docstring, in_toml, is_name, shown
from prunecore.files import models
from prunecore.inputs import of_shape
from prunecore.plugins import loading as plugin_registry
from prunecore.registry import Plugins
from prunecore.scaffold.hooks import Hooks, hooks_of
from prunecore.scaffold.project import Project, fill, pin, write_project
from prunecore.testing.blocks import check
from prunecore.testing.walk import Followed, Network, follow
from prunecore.writing.source_file import import_lines
from prunecore.writing.text import Call, render

_SIZE = 16  # of the axes beside the channels, in an input that nobody gave the shape of

_BY_HAND = "leave --block out, and start from the example, which cannot be traced either."

_INSTANCES = """Every instance is written as the one in the
tests. What others have otherwise, such as a stride, make an argument of the class, and add such an
instance to the tests."""

_IN_TEST = ("block", "check_block", "check_plugin")  # names of a test's own
_KIT_IMPORT = "from prunecore.testing import check_block, check_plugin"
_IMPORTS = {
    "import sys",
    "from collections.abc import Sequence",
    "from typing import Any",
    "from prunecore.plugin import BlockSource, Call, Channels, Keep, Writer, hookimpl",
}


def write_for_block(
    project: Project, spec: str, arguments: Mapping[str, Any], shapes: Sequence[Sequence[int]]
) -> None:
    """Write a project that owns the class of a block.

    Args:
        project: where, and by which name.
        spec: the class, `package.module:Class`.
        arguments: what it is made with.
        shapes: of its inputs, without the batch; made from its first layer where there are none.

    Raises:
        UsageError: there is no such class, or it cannot be made so.
        UnsupportedError: the block cannot be traced, or its hooks not be written.
        PrunecoreError: it cannot be written as a class of its own.
    """
    plugins = plugin_registry.load()
    block = _made(spec, arguments, plugins)
    shapes = shapes or [_shape_for(block)]
    of_shape(shapes)  # refuses what is too large
    network = Network(block)
    try:
        followed = follow(network, shapes, plugins, traced=False)
        hooks = hooks_of(network, followed, plugins)
    except InputShapeError as error:
        given = " and ".join(str(tuple(shape)) for shape in shapes)
        raise UsageError(
            f"{type(block).__name__} cannot take {given}: {str(error).splitlines()[0]}\n"
            "Give the shape of each of its inputs, without the batch: --input-shape C,H,W."
        ) from error
    except UnsupportedError as error:
        remedy = f"{error.remedy.rstrip('.')}. To write that by hand, {_BY_HAND}"
        raise UnsupportedError(
            error.path, error.class_name, error.reason, remedy, error.line
        ) from error
    cls = type(block)
    values = _plugin_values(cls, hooks)
    _check(project, fill("block_plugin.py", values), block, shapes, plugins)
    write_project(
        project,
        "block",
        block=cls.__name__,
        summary=_summary(cls),
        requirements=_requirements(network, followed, plugins),
        further={
            **values,
            **_place_values(cls, project),
            "call": render(Call(cls.__name__, (), arguments), 4, len("block = ")),
            "shape": ", ".join(str(tuple(shape)) for shape in shapes),
            "instances": _INSTANCES,
        },
    )


def _made(spec: str, arguments: Mapping[str, Any], plugins: Plugins) -> nn.Module:
    """An instance of the class."""
    place, _, name = spec.rpartition(":")
    if not place or place.endswith(".py"):
        raise UsageError(
            f"--block {shown(spec)} does not name a class as it is imported.\n"
            "Give package.module:Class, in the folder where that can be imported."
        )
    block = models.load_model(spec, arguments, seed=0).model
    cls = type(block)
    importable = getattr(sys.modules.get(cls.__module__), cls.__qualname__, None) is cls
    if getattr(sys.modules[place], name) is not cls or not importable:
        raise UsageError(
            f"--block {shown(spec)} makes a {cls.__qualname__}, but is not its class.\n"
            f"Give {cls.__module__}:{cls.__qualname__}."
        )
    if not all(map(is_name, (*cls.__module__.split("."), cls.__name__))) or name in _IN_TEST:
        raise UsageError(
            f"A plugin's test cannot import {shown(repr(name))} of {shown(cls.__module__)} by that "
            "name.\nGive the class another one."
        )
    owner = plugins.owner(cls)
    if owner is not None:
        raise UsageError(
            f"{owner.label} owns {name}, and a class has one owner.\n"
            f"Give another class, or block that plugin: {BLOCK_VARIABLE}={owner.name}."
        )
    return block


def _shape_for(block: nn.Module) -> Sequence[int]:
    """The shape of an input that a block's first layer takes."""
    for module in block.modules():
        weight = getattr(module, "weight", None)
        axes = weight.ndim - 2 if isinstance(weight, Tensor) else 0
        for attribute, further in (("in_channels", axes), ("in_features", 0), ("num_features", 2)):
            count = getattr(module, attribute, None)
            if isinstance(count, int):
                return (count, *[_SIZE] * further)
    raise UsageError(
        f"{type(block).__name__} has no layer that says what input it takes.\nGive --input-shape."
    )


def _summary(cls: type) -> str:
    return f"{cls.__name__} of {cls.__module__}"


def _plugin_values(cls: type, hooks: Hooks) -> dict[str, str]:
    """What the plugin's module is filled in with."""
    values = {
        "block": cls.__name__,
        "block_module": cls.__module__,
        "source": in_docstring(hooks.source),
        "calculate": hooks.calculate,
        "write": hooks.write,
    }
    imports = import_lines(fill("block_plugin.py", {**values, "head": ""}), set(_IMPORTS))
    docstring = f'"""{_summary(cls)}, for prunecore."""'
    return {**values, "head": f"{docstring}\n\nfrom __future__ import annotations\n\n{imports}"}


def _check(
    project: Project,
    text: str,
    block: nn.Module,
    shapes: Sequence[Sequence[int]],
    plugins: Plugins,
) -> None:
    """Check the plugin that is to be written as its own test will.

    Raises:
        PrunecoreError: its test would fail.
    """
    module = types.ModuleType(project.module)
    try:
        exec(compile(text, project.module, "exec"), vars(module))
        plugin = plugin_registry.register(module, project.name, f"{project.distribution} 0.1.0")
        check(block, shapes, range(3), True, Plugins([*plugins.all, plugin]))
    except (AssertionError, PrunecoreError, SyntaxError, ImportError, NameError) as error:
        raise PrunecoreError(
            f"{type(block).__name__} cannot be written as one class whose widths are arguments: "
            f"{error}\nTo write its hooks by hand, {_BY_HAND}"
        ) from error


def _requirements(network: Network, followed: Followed, plugins: Plugins) -> list[str]:
    """The core, and the plugins that own what is within a block."""
    owners = (
        plugins.owner(type(network.get_submodule(path)))
        for path in followed.dependencies.forwards.visits
    )
    labels = {owner.label for owner in owners if owner is not None}
    core = f"prunecore {version('prunecore')}"
    return [pin(*label.split(" ")) for label in (core, *sorted(labels))]


def _place_values(cls: type, project: Project) -> dict[str, str]:
    """How the tests import the block: as what is installed, or from where its module lies."""
    own = f"from {cls.__module__} import {cls.__name__}"
    file = inspect.getsourcefile(cls)
    if file is None or "site-packages" in Path(file).parts:
        imports = "\n".join(sorted((own, _KIT_IMPORT)))
        return {"imports": imports, "sources": '"src"', "pytest": ""}
    levels = cls.__module__.count(".") + (Path(file).name == "__init__.py")
    root = Path(file).resolve().parents[levels]
    path = Path(os.path.relpath(root, project.folder.resolve())).as_posix()
    return {
        "imports": f"{_KIT_IMPORT}\n\n{own}",
        "sources": f'"src", {in_toml(path)}',
        "pytest": f"\n[tool.pytest.ini_options]\n"
        f"pythonpath = [{in_toml(path)}]  # where {cls.__module__} is\n",
    }
