"""Models by name: torchvision's, or what a factory in a module or a file returns."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import inspect
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook
from torch.utils import _pytree as pytree

from prunecore.channels.stored import is_plain
from prunecore.errors import (
    PrunecoreError,
    UsageError,
    a_kind,
    one_line,
    reason_of,
    told,
    unknown_name,
)
from prunecore.escaping import shown, shown_value
from prunecore.files.paths import is_file
from prunecore.inputs import Inputs, of_examples
from prunecore.isolation.random_states import TorchsDraws
from prunecore.tracing.stand_ins.patches import in_this_thread

DEFAULT_INPUT_SHAPE = (3, 224, 224)


EXAMPLES = "example_inputs"  # a function beside a factory: what its network is called with


_FRAMES = 16  # of the clips that torchvision's video networks take


_STANDS_FOR = "_prunecore_stands_for"  # a parameter's attribute: the one without storage


_WHAT_MODEL_IS = "MODEL is a torchvision name, package.module:factory or file.py:factory."


@dataclass(frozen=True)
class Loaded:
    """A network, and where it came from.

    Attributes:
        model: the network.
        origin: the factory's full name, the same on every machine.
        input_shape: the shape of one input that it was made for, without the batch.
        examples: makes example inputs, where its file says what these are.
    """

    model: nn.Module
    origin: str
    input_shape: tuple[int, ...]
    examples: Callable[[], Inputs] | None = None


def factory_name(spec: str) -> str:
    """The name of the factory that a MODEL names; nothing is loaded for it.

    Raises:
        UsageError: it names a file or module alone, or its name is no identifier.
    """
    place, _, name = spec.rpartition(":")
    if not name or name.endswith(".py"):
        if not (file := shown(place or name)):
            raise UsageError(f"{shown_value(spec)} names no network.\n{_WHAT_MODEL_IS}")
        raise UsageError(f"Which factory of {file}? Give {file}:FACTORY.")
    if place and not name.isidentifier():
        raise UsageError(f"{shown_value(name)} cannot be the name of a factory.\n{_WHAT_MODEL_IS}")
    return name


def load_model(
    spec: str,
    arguments: Mapping[str, Any],
    seed: int,
    making: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> Loaded:
    """Make a network with random weights that depend on the seed alone.

    Args:
        spec: `resnet50` (torchvision), `package.module:factory` or `file.py:factory`.
        arguments: what the factory is called with.
        seed: for its initialisation.
        making: what the factory is called within.

    Raises:
        UsageError: there is no such model, or it does not take these arguments.
        PrunecoreError: its code raises, or makes something that is no `nn.Module`.
    """
    name = factory_name(spec)
    place = spec.removesuffix(name).removesuffix(":")
    if not place:
        builder = _torchvision_builder(spec)
        model = _make(builder, spec, _for_torchvision(builder, arguments), seed, None, making)
        package = builder.__module__.rpartition(".")[0]
        shape = input_shape_of(spec)
        side = getattr(model, "image_size", None)  # of networks that take one size alone
        if isinstance(side, int):
            shape = (3, side, side)
        return Loaded(model, f"{package}.{builder.__name__}", shape)
    file, folder = _code_of(place)
    with _importable(folder), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # a file may make its network while it is imported
        module = _run_file(file, folder) if file else _import(place)
        factory = _factory(module, name, place, folder)
        model = _make(factory, spec, arguments, seed, folder, making)
    origin = f"{file.name}:{name}" if file else f"{place}.{name}"
    given = vars(module).get(EXAMPLES) if name != EXAMPLES else None
    if not callable(given):
        return Loaded(model, origin, DEFAULT_INPUT_SHAPE)
    examples = functools.partial(_examples, given, f"{place}:{EXAMPLES}", folder)
    return Loaded(model, origin, DEFAULT_INPUT_SHAPE, examples)


def _examples(function: Callable[[], Any], spec: str, folder: Path) -> Inputs:
    """The inputs that a function of the user's gives: as `torch.export` takes them, or by name.

    Raises:
        UsageError: they cannot be used.
        PrunecoreError: its code raises.
    """
    spec = shown(spec)
    with _importable(folder), torch.random.fork_rng(devices=[]), _telling(spec, folder):
        torch.manual_seed(0)
        given = function()
    try:
        return of_examples(None, given) if isinstance(given, Mapping) else of_examples(given)
    except UsageError as error:
        raise UsageError(f"{spec}: {error}") from error


def load_images(spec: str, arguments: Mapping[str, Any] | None = None) -> Any:
    """Images that a function of the user's gives.

    Args:
        spec: `package.module:function` or `file.py:function`.
        arguments: what it is called with.

    Raises:
        UsageError: there is no such function.
        PrunecoreError: its code raises.
    """
    function, folder = load_function(spec)
    with _importable(folder), torch.random.fork_rng(devices=[]), _telling(shown(spec), folder):
        return function(**(arguments or {}))


def load_function(spec: str) -> tuple[Callable[..., Any], Path]:
    """A function of the user's, and the folder of its code.

    Args:
        spec: `package.module:function` or `file.py:function`.

    Raises:
        UsageError: there is no such function.
        PrunecoreError: its module raises.
    """
    name = factory_name(spec)
    place = spec.removesuffix(name).removesuffix(":")
    file, folder = _code_of(place)
    with _importable(folder), torch.random.fork_rng(devices=[]):
        module = _run_file(file, folder) if file else _import(place)
        return _factory(module, name, place, folder), folder


def file_of(spec: str) -> Path | None:
    """The file that a function of the user's is in; it is found, and not run.

    Args:
        spec: `package.module:function` or `file.py:function`.

    Returns:
        It; `None` where there is none, as whoever loads the function tells.
    """
    place = spec.rpartition(":")[0]
    if place.endswith(".py"):
        found = Path(place)
    else:
        try:  # what a module is in is imported
            with _importable(Path.cwd()), _telling(f"{shown(place)} cannot be found", Path.cwd()):
                origin = getattr(importlib.util.find_spec(place), "origin", None)
        except PrunecoreError:
            return None
        found = Path(origin or "")
    return found if is_file(found) else None


def _code_of(place: str) -> tuple[Path | None, Path]:
    """The file that a place is, `None` for a module, and the folder that its imports start from.

    Raises:
        UsageError: there is no such file.
    """
    file = Path(place) if place.endswith(".py") else None
    if file and not is_file(file):
        raise UsageError(f"There is no file {shown(file)}.")
    return file, file.parent.resolve() if file else Path.cwd()


def load_structure(spec: str, arguments: Mapping[str, Any]) -> Loaded:
    """Make a network whose weights do not matter: without storage, where its factory lets that be.

    Args:
        spec: as for `load_model`.
        arguments: what the factory is called with.

    Raises:
        UsageError: there is no such model, or it does not take these arguments.
        PrunecoreError: its code raises, or makes something that is no `nn.Module`.
    """
    try:
        return load_model(spec, arguments, seed=0, making=_without_storage)
    except UsageError:
        raise
    except PrunecoreError:  # it computes with its weights while it is made
        return load_model(spec, arguments, seed=0)


def load_unfilled(spec: str, arguments: Mapping[str, Any], seed: int) -> Loaded:
    """Make a network whose parameters a file will give: without storage, where that can be.

    It can not where the factory computes with their values, or draws numbers that the network may
    hold beside them: these would be other ones, as none are drawn for what has no storage.

    Args:
        spec: as for `load_model`.
        arguments: what the factory is called with.
        seed: for its initialisation.

    Raises:
        UsageError: there is no such model, or it does not take these arguments.
        PrunecoreError: its code raises, or makes something that is no `nn.Module`.
    """
    draws = TorchsDraws()

    @contextmanager
    def making() -> Iterator[None]:
        with _without_storage(), draws:
            yield

    try:
        loaded = load_model(spec, arguments, seed, making)
        if not draws.has_drawn:
            return loaded
    except UsageError:
        raise
    except PrunecoreError:
        pass  # it computes with its weights while it is made
    return load_model(spec, arguments, seed)


def is_filled(model: nn.Module) -> bool:
    """True if a network holds no tensor without storage, as what a factory computes of some is."""
    held = (vars(module) for module in model.modules())
    leaves = (leaf for values in held for leaf in pytree.tree_leaves(dict(values)))
    return not any(isinstance(leaf, Tensor) and leaf.is_meta for leaf in leaves)


@contextmanager
def _without_storage() -> Iterator[None]:
    """Make parameters without storage, in this thread."""
    hook = register_module_parameter_registration_hook(in_this_thread(_on_meta, lambda *_: None))
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*copying from a non-meta parameter", UserWarning)
            yield
    finally:
        hook.remove()


def _on_meta(_module: nn.Module, _name: str, parameter: nn.Parameter | None) -> nn.Parameter | None:
    """A parameter on the meta device; one that is registered twice stays one.

    What is none of torch's plain parameters stays as it is, and so does what is on a device, as
    its values are drawn there.
    """
    if type(parameter) is not nn.Parameter or not is_plain(parameter) or not parameter.is_cpu:
        return parameter
    if (before := getattr(parameter, _STANDS_FOR, None)) is None:
        before = nn.Parameter(parameter.detach().to("meta"), parameter.requires_grad)
        setattr(parameter, _STANDS_FOR, before)
    return before


def _torchvision_builder(name: str) -> Callable[..., nn.Module]:
    from torchvision import models as torchvision_models

    known = torchvision_models.list_models()
    if name not in known:
        error = str(unknown_name("model", name, known)).removesuffix(".")
        raise UsageError(f"{error}; or give package.module:factory, or file.py:factory.")
    return torchvision_models.get_model_builder(name)  # type: ignore[no-any-return]


def _for_torchvision(builder: Callable[..., nn.Module], given: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments with which nothing is downloaded unless it is asked for."""

    none: dict[str, Any] = {"weights": None}
    if "weights_backbone" in inspect.signature(builder).parameters:
        none["weights_backbone"] = None
    return {**none, **given}


def input_shape_of(name: str) -> tuple[int, ...]:
    """The input that the default weights were evaluated on, as their metadata has it."""
    from torchvision import models as torchvision_models

    default = torchvision_models.get_model_weights(name)["DEFAULT"]
    given = getattr(default.transforms, "keywords", {})
    size = given.get("crop_size", given.get("resize_size"))
    if size is None:
        return DEFAULT_INPUT_SHAPE
    sides = (size, size) if isinstance(size, int) else tuple(size)
    is_video = type(default).__module__.startswith("torchvision.models.video.")
    return (3, _FRAMES, *sides) if is_video else (3, *sides)


@contextmanager
def _importable(folder: Path) -> Iterator[None]:
    """Let the user's code import what lies beside it."""
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        if str(folder) in sys.path:  # which the user's code may change, too
            sys.path.remove(str(folder))


@contextmanager
def _telling(what: str, folder: Path | None) -> Iterator[None]:
    """Make an error of whatever the user's code raises, but for an interrupt.

    Args:
        what: cannot be done.
        folder: where the user's code lies.

    Raises:
        PrunecoreError: with the last line in that folder.
    """
    try:
        yield
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # whatever the user's code raises
        raise _raised(what, error, folder) from error


def _run_file(file: Path, folder: Path) -> ModuleType:
    # Not under its own name, which may be that of a package: `torch.py`, `models.py`.
    name = f"loaded_{file.stem}"
    path = file.resolve()
    specification = importlib.util.spec_from_file_location(name, path)
    assert specification is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules[name] = module
    with _telling(f"{shown(file)} cannot be imported", folder):
        # Not by its loader, whose bytecode is that of a text of the same second and length.
        exec(compile(path.read_bytes(), str(path), "exec", dont_inherit=True), vars(module))
    return module


def _import(name: str) -> ModuleType:
    if not all(part.isidentifier() for part in name.split(".")):
        raise UsageError(
            f"{shown_value(name)} names neither a Python module nor a file.\n{_WHAT_MODEL_IS}"
        )
    try:
        with _telling(f"{shown(name)} cannot be imported", Path.cwd()):
            return importlib.import_module(name)
    except PrunecoreError as error:
        cause = error.__cause__
        missing = cause.name if isinstance(cause, ModuleNotFoundError) else None
        if missing and f"{name}.".startswith(f"{missing}."):
            raise UsageError(
                f"There is no module {shown(missing)}.\n"
                "Install it, run prunecore in its folder, or give file.py:factory."
            ) from error
        raise


def _factory(module: ModuleType, name: str, place: str, folder: Path) -> Callable[..., Any]:
    place = shown(place)
    known = []
    with _telling(f"{place} cannot be asked for {shown(name)}", folder):
        factory = getattr(module, name, None)
        if factory is None:
            known = [
                key
                for key, value in vars(module).items()
                if callable(value)
                and not key.startswith("_")
                and getattr(value, "__module__", "").startswith(module.__name__)
            ]
    if factory is None:
        raise unknown_name(f"factory of {place}", name, known)
    if isinstance(factory, nn.Module) or not callable(factory):
        raise UsageError(
            f"{place}:{shown(name)} is {a_kind(factory)}, not a factory."
            "\nGive a function that returns the network."
        )
    return factory  # type: ignore[no-any-return]


def _make(
    factory: Callable[..., Any],
    spec: str,
    arguments: Mapping[str, Any],
    seed: int,
    folder: Path | None,
    making: Callable[[], AbstractContextManager[None]],
) -> nn.Module:
    spec = shown(spec)
    with _telling(f"{spec} cannot be asked for its arguments", folder):
        signature = _signature(factory)
    if signature:
        _check_arguments(signature, spec, arguments)
    try:
        with (
            _telling(f"{spec} cannot be made", folder),
            torch.random.fork_rng(devices=[]),
            warnings.catch_warnings(),
        ):
            # torchvision announces a change of GoogLeNet's and Inception's initialisation.
            warnings.filterwarnings("ignore", "The default weight init", FutureWarning)
            torch.manual_seed(seed)
            with making():
                model = factory(**arguments)
    except PrunecoreError as error:
        said = reason_of(error.__cause__) if isinstance(error.__cause__, TypeError) else ""
        for name in arguments:
            if f"unexpected keyword argument '{name}'" in said:
                raise unknown_name(f"argument of {spec}", name, _known(factory)) from error
        raise
    if not isinstance(model, nn.Module):
        raise PrunecoreError(
            f"{spec} returned {a_kind(model)}, not a torch.nn.Module.\n"
            "Give a factory that returns the network itself."
        )
    return model


def _signature(factory: Callable[..., Any]) -> inspect.Signature | None:
    """A factory's signature; `None` where it has none, as many of Python's own."""
    try:
        return inspect.signature(factory)
    except (TypeError, ValueError):
        return None


def _check_arguments(signature: inspect.Signature, spec: str, arguments: Mapping[str, Any]) -> None:
    parameters = signature.parameters.values()
    if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        for name in arguments:
            if name not in signature.parameters:
                raise unknown_name(f"argument of {spec}", name, signature.parameters)
    missing = [
        parameter.name
        for parameter in parameters
        if parameter.default is parameter.empty
        and parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
        and parameter.name not in arguments
    ]
    if missing:
        raise UsageError(
            f"{spec} takes {one_line(', '.join(missing))}, which "
            f"{'are' if len(missing) > 1 else 'is'} not given.\n"
            "Give each with --model-arg NAME=VALUE."
        )
    try:
        signature.bind(**arguments)
    except TypeError as error:
        raise UsageError(
            f"{spec} cannot be called: {reason_of(error)}.\nGive it with --model-arg NAME=VALUE."
        ) from error


def _known(factory: Callable[..., Any]) -> list[str]:
    """The arguments that a factory takes, or hands on to the class of torchvision's networks."""
    signature = _signature(factory)
    parameters = dict(signature.parameters) if signature else {}
    if str(getattr(factory, "__module__", "")).startswith("torchvision."):
        with torch.device("meta"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            parameters |= inspect.signature(type(factory())).parameters
    return [name for name, taken in parameters.items() if taken.kind is not taken.VAR_KEYWORD]


def _raised(what: str, error: BaseException, folder: Path | None) -> PrunecoreError:
    """The error for a user's code that raised, with the last line of what lies in `folder`."""
    said = told(error)
    if isinstance(error, SyntaxError) and error.filename:
        said = f"{type(error).__name__}: {one_line(str(error.msg))}"
        where, line = error.filename, error.lineno
    else:
        frames = traceback.extract_tb(error.__traceback__)
        own = [
            frame
            for frame in frames
            if folder in Path(frame.filename).parents and "site-packages" not in frame.filename
        ]
        last = (own or frames)[-1]
        where, line = last.filename, last.lineno
    return PrunecoreError(f"{what}: {said}\nIt was raised at {shown(where)}:{line}.")
