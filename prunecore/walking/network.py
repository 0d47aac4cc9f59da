"""The walk through a whole network: in eval mode, then in training where that differs."""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from torch import Tensor, nn
from torch.utils import _pytree as pytree

from prunecore.channels.dependencies import (
    OUTPUT,
    Dependencies,
    merge,
)
from prunecore.channels.ids import Ids, without_channels
from prunecore.channels.names import is_within, named_modules, tied_to
from prunecore.channels.records import TRAINING, Forwards, Records, Visit
from prunecore.channels.signal import Signal
from prunecore.channels.stored import check_names
from prunecore.errors import (
    InputShapeError,
    PrunecoreError,
    UnsupportedError,
    unknown_name,
)
from prunecore.inputs import BATCH, Arguments, Inputs
from prunecore.isolation.random_states import kept_random_states
from prunecore.registry import Plugins
from prunecore.tracing.conditions import IN_TRAINING
from prunecore.tracing.modules.scopes import Scopes, find_scopes, hooks_to_drop, leave_out
from prunecore.tracing.stand_ins.patches import beside_others
from prunecore.tracing.ways.merging import merged
from prunecore.walking.aliases import pin_aliases
from prunecore.walking.barriers import advised, can_be_barrier
from prunecore.walking.calls import couple_stated
from prunecore.walking.diagnosis import check_runs, find_wrong_answer
from prunecore.walking.walk import Walk
from prunecore.walking.ways import (
    MOST_OPTIONAL,
    all_without,
    as_one,
    of_all_sizes,
    optional_inputs,
    without,
)

_LEAVE_OUT = f"Or leave out what only training does (--drop {TRAINING})."


def walk_train_eval(
    model: nn.Module,
    inputs: Arguments,
    plugins: Plugins,
    drop: Collection[str] = (),
    strict: bool = True,
) -> Records:
    """Follow a network in eval mode and, where that is another way, in training.

    Args:
        model: the network; it is read, never changed.
        inputs: tensors on the meta device, by place and by name.
        plugins: the loaded plugins.
        drop: paths of modules that training is to do without, `training` for all of them; `hooks`
            for the hooks of all modules, `a.b.hooks` for those of one.
        strict: whether what is not understood is refused, rather than its neighbourhood left whole.

    Returns:
        What both walks found; counted is what eval mode does.

    Raises:
        UnsupportedError: the walk meets what it does not understand.
        InputShapeError: the network cannot take inputs of these shapes.
        PluginError: a plugin answers wrongly.
        UsageError: a module cannot be dropped.
    """
    check_names(model)
    modules = [path for path, _ in named_modules(model) if path] if drop else []
    _check_dropped(model, drop, modules)
    with kept_random_states():
        scopes = find_scopes(model, inputs, [name for name in drop if name not in modules])
        dropped = [name for name in drop if name in (TRAINING, *modules)]
        barriers: dict[str, UnsupportedError] = {}
        while True:
            walk = Walk(model, plugins, scopes, dropped, strict, barriers)
            try:
                records = _followed(walk, model, plugins, inputs)
                break
            except UnsupportedError as error:
                lacks = walk.lacks_layers(model.get_submodule(error.path))
                known = strict or lacks or error.path in barriers
                if known or not can_be_barrier(model, error):
                    raise advised(model, error) from error.__cause__
                barriers[error.path] = error
        another = functools.partial(Walk, model, plugins, scopes, dropped, strict, barriers)
        records = _with_ways(records, another, model, plugins, inputs)
    _check_hooks(model, scopes, walk)
    _pin_lenders(model, plugins, records)
    _pin_met_whole(records)
    return records


def _check_dropped(model: nn.Module, drop: Collection[str], modules: Sequence[str]) -> None:
    """Check that what is to be left out is there.

    Raises:
        UsageError: it is not.
    """
    hooked = hooks_to_drop(model) if drop else []
    for name in drop:
        if name not in (TRAINING, *modules, *hooked):
            raise unknown_name("module to drop", name, [*modules, *hooked[1:]])


def _followed(
    walk: Walk,
    model: nn.Module,
    plugins: Plugins,
    inputs: Arguments,
    ways: Collection[frozenset[str]] = (),
) -> Records:
    """What one walk has found, with the inputs that are given and without some."""
    records = _both(walk, model, plugins, inputs, ways)
    walk.follow_rest()
    return records


def _with_ways(
    records: Records,
    another: Callable[[], Walk],
    model: nn.Module,
    plugins: Plugins,
    inputs: Arguments,
) -> Records:
    """What is found where a network is followed without its optional inputs as well.

    Args:
        records: what is found with all that it is given.
        another: makes a new walk.
        model: the network.
        plugins: the loaded plugins.
        inputs: tensors on the meta device, by place and by name.
    """
    lacking: list[str] = []
    optional = optional_inputs(model, inputs)
    for name in optional:
        if len(lacking) < MOST_OPTIONAL:
            ways = all_without([*lacking, name])
            with contextlib.suppress(UnsupportedError, InputShapeError):
                records = _followed(another(), model, plugins, inputs, ways)
                lacking.append(name)
    records.forwards.needed = [name for name in optional if name not in lacking]
    return records


def _check_hooks(model: nn.Module, scopes: Scopes, walk: Walk) -> None:
    """Check that the walk has come to all hooks that change something.

    Raises:
        UnsupportedError: what calls the module of one is followed by a plugin.
    """
    for path, hooks in scopes.hooks.items():
        if path not in walk.traced.followed:
            raise UnsupportedError(
                path,
                type(model.get_submodule(path)).__name__,
                f"its {hooks[0]} changes something, and a plugin follows what calls it",
                f"Remove it with the handle that registering it has returned, or "
                f"{leave_out(path)}.",
            )


def _both(
    walk: Walk,
    model: nn.Module,
    plugins: Plugins,
    inputs: Arguments,
    ways: Collection[frozenset[str]] = (),
) -> Records:
    """Both walks, the one of training where that is another one, with and without some inputs."""
    last, of_ways = _follow_ways(walk, model, inputs, ways, in_training=False)
    without_some = walk.records.forwards.visits_without
    without_some |= {absent: (visits, {}) for absent, visits in of_ways.items()}
    records = walk.records
    records.count = last.records.count
    records.lacks_training = bool(walk.traced.lacking)
    training = _train(last, walk, model, inputs, ways) if walk.traced.differing else None
    join_ways(walk, training, plugins)
    forwards = records.forwards
    for visits, in_training in forwards.visits_without.values():
        forwards.only_without |= (visits.keys() | in_training.keys()) - forwards.visits.keys()
        forwards.visits = {**in_training, **visits, **forwards.visits}
    forwards.only_without |= forwards.visits_elsewhere.keys() - forwards.visits.keys()
    forwards.visits = {**forwards.visits_elsewhere, **forwards.visits}
    return records


def _train(
    last: Walk,
    walk: Walk,
    model: nn.Module,
    inputs: Arguments,
    ways: Collection[frozenset[str]],
) -> Walk | None:
    """The walk of training; `None` if it does what eval mode does.

    Args:
        last: the last walk of eval mode.
        walk: the first one; it is told what training does.
        model: the network.
        inputs: tensors on the meta device, by place and by name.
        ways: the sets of inputs that it is followed without, too.
    """
    training = last.in_training()
    try:
        now, of_ways = _follow_ways(training, model, inputs, ways, in_training=True)
    except UnsupportedError as error:
        raise UnsupportedError(
            error.path, error.class_name, error.reason, f"{error.remedy} {_LEAVE_OUT}", error.line
        ) from error
    except InputShapeError as error:
        raise InputShapeError(f"In training: {error} {_LEAVE_OUT}") from error
    records = walk.records
    records.count = now.records.count
    if walk.traced.differing == walk.traced.as_in_eval:
        return None
    forwards, visits = records.forwards, training.records.forwards.visits
    forwards.as_in_eval, forwards.absent = walk.traced.as_in_eval, walk.traced.absent
    forwards.only_in_training = visits.keys() - forwards.visits.keys()
    forwards.training_visits = visits
    forwards.visits = {**visits, **forwards.visits}
    for absent, of_way in of_ways.items():
        forwards.visits_without[absent] = forwards.visits_without[absent][0], of_way
    return training


def join_ways(walk: Walk, training: Walk | None, plugins: Plugins) -> None:
    """Make one of all ways that each forward goes.

    Args:
        walk: of eval mode; its records have the joined forwards afterwards.
        training: the same as training takes the network; `None` where that is no other way.
        plugins: the loaded plugins.
    """
    forwards = walk.records.forwards
    trained = Forwards() if training is None else training.records.forwards
    couple = functools.partial(couple_stated, walk, functions=plugins.functions)
    for path, ways in forwards.ways.items():
        both = {}
        for absent, natural in ways.items():
            sizes = forwards.other_sizes.get((path, absent), {(): natural})
            both[absent] = of_all_sizes(sizes, couple)
        for absent, natural in trained.ways.get(path, {}).items():
            in_training = trained.other_sizes.get((path, absent), {(): natural})
            in_eval = forwards.other_sizes.get((path, absent), {(): ways[absent]})
            by_graph = {one.graph: one for one in in_eval.values()}
            if {other.graph for other in in_training.values()} != by_graph.keys():
                of_modes = {True: of_all_sizes(in_training, couple), False: both[absent]}
                both[absent] = merged(of_modes, IN_TRAINING, False, couple)
                continue
            for other in in_training.values():
                pairs = [(node, node) for node in other.graph.nodes]
                couple(by_graph[other.graph], other, pairs)
        forwards.traces[path] = as_one(both, couple)
        never = frozenset.intersection(*ways)
        forwards.constants[path] = {**forwards.constants[path], **dict.fromkeys(never)}


def _follow_ways(
    first: Walk,
    model: nn.Module,
    inputs: Arguments,
    ways: Collection[frozenset[str]],
    in_training: bool,
) -> tuple[Walk, dict[frozenset[str], dict[str, list[Visit]]]]:
    """The last of one mode's walks, with and without some inputs, and the visits of the latter.

    Args:
        first: the walk with all inputs.
        model: the network.
        inputs: tensors on the meta device, by place and by name.
        ways: the sets of inputs that it is followed without, too.
        in_training: whether these are walks of training.
    """
    walk, given, of_ways = first, inputs, {}
    try:
        _follow(walk, model, given, in_training)
        for absent in ways:
            walk, given = walk.beside(), without(model, inputs, absent)
            _follow(walk, model, given, in_training)
            of_ways[absent] = walk.records.forwards.visits
    except PrunecoreError as error:
        if not (
            isinstance(error, UnsupportedError) and error.__context__ is None
        ):  # not on purpose
            find_wrong_answer(model, walk.records, given, error, in_training)
        raise
    return walk, of_ways


def _follow(walk: Walk, model: nn.Module, inputs: Arguments, in_training: bool) -> None:
    """Follow the network on these inputs; what it returns stays."""
    signals = pytree.tree_map_only(Tensor, lambda x: Signal(x, without_channels(x.ndim)), inputs)
    args, kwargs = signals
    output: Any = walk.through(model, *args, **kwargs)
    for leaf in pytree.tree_leaves(output):
        if isinstance(leaf, Signal):
            walk.pin(leaf.ids, OUTPUT)
    pin_aliases(walk, model, inputs, in_training)


# each of whose tensors is by itself
_CONTAINERS = (nn.ParameterList, nn.ParameterDict, nn.Sequential, nn.ModuleList, nn.ModuleDict)


def _pin_lenders(model: nn.Module, plugins: Plugins, records: Records) -> None:
    """Keep layers whole that lend their weight to a function, but not all that the layer has."""
    bound = {key for key, _ in records.bindings}
    as_called = {path for path, _ in records.widths}
    visits = records.forwards.visits
    for path, layer in named_modules(model):
        if path in visits:
            continue
        tensors = [*layer.parameters(recurse=False), *layer.buffers(recurse=False)]
        stored = {id(tensor) for tensor in tensors if tensor.ndim}
        is_owned = path not in records.forwards.opened and plugins.owner(type(layer)) is not None
        if not stored & bound or not is_owned or isinstance(layer, _CONTAINERS):
            continue
        is_called = path in as_called or tied_to(model, path, as_called) is not None
        if stored <= bound and (is_called or _declare_widths(path, layer, records)):
            continue
        for (key, _), ids in records.bindings.items():
            if key in stored:
                records.pins.append((ids.ravel(), f"only the weight of {path} is used"))


def _declare_widths(path: str, layer: nn.Module, records: Records) -> bool:
    """Declare which arguments of a layer that is never called count the channels of its weights.

    Args:
        path: of the layer.
        layer: the layer, all of whose weights are bound.
        records: of the walk.

    Returns:
        False where it may be one or another. Where it is none, the layer asks its weights.
    """
    tensors = layer.parameters(recurse=False)
    axes = [(id(x), axis, size) for x in tensors for axis, size in enumerate(x.shape)]
    found: dict[tuple[str, str], Ids] = {}
    for key, axis, size in axes:
        named = [n for n, value in vars(layer).items() if type(value) is int and value == size]
        if (key, axis) not in records.bindings or not named:
            continue
        if len(named) != 1 or sum(other == size for *_, other in axes) != 1:
            return False
        found[path, named[0]] = records.bindings[key, axis]
    records.widths |= found
    return True


def _pin_met_whole(records: Records) -> None:
    """Keep whole what a layer is given where another call of it is given what is not cut."""
    masked: dict[Any, Any] = {**records.masked_forwards, **records.masked_functions}
    met: dict[Any, Ids] = {**records.bindings, **records.widths}
    met |= {key: ids for key, (ids, _) in masked.items()}
    for key, ids in met.items():
        place = key if isinstance(key, str) else key[0]
        stands = isinstance(place, str) and is_within(place, records.forwards.barriers)
        if key in records.met_whole or stands:
            records.pins.append((ids.ravel(), "a layer that is given it is given what stays, too"))


@beside_others()
def walk(
    model: nn.Module,
    inputs: Inputs,
    plugins: Plugins,
    drop: Collection[str] = (),
    strict: bool = True,
) -> Dependencies:
    """Follow the channels of a network.

    Args:
        model: the network.
        inputs: what it is called with.
        plugins: the loaded plugins.
        drop: paths of modules that training is to do without; `training` for all of them.
        strict: whether what is not understood is refused, rather than its neighbourhood left whole.

    Raises:
        PrunecoreError: as `find_dependencies`; or the forward has no input of a name.
    """
    _check_input_names(model, inputs)
    args, kwargs = inputs.on_meta(BATCH)
    try:
        return find_dependencies(model, args, plugins, drop, kwargs, strict)
    except UnsupportedError as error:
        check_runs(model, inputs, error)
        raise
    except InputShapeError as error:
        if inputs.examples is None:
            raise
        shapes = " and ".join(str(tuple(tensor.shape)) for tensor in inputs.examples)
        raise InputShapeError(
            f"{str(error).splitlines()[0]}\nGive examples as the network is called with them: "
            f"these are of shape {shapes}, and axis 0 is the batch."
        ) from error


def _check_input_names(model: nn.Module, inputs: Inputs) -> None:
    """Check that a network's forward has the inputs that are given by name.

    Raises:
        UsageError: it has not.
    """
    if not inputs.kwargs:
        return
    parameters = inspect.signature(model.forward).parameters
    kinds = {parameter.kind for parameter in parameters.values()}
    for name in inputs.kwargs:
        if name not in parameters and inspect.Parameter.VAR_KEYWORD not in kinds:
            raise unknown_name(f"input of {type(model).__name__}.forward", name, parameters)


def find_dependencies(
    model: nn.Module,
    inputs: Sequence[Tensor],
    plugins: Plugins,
    drop: Collection[str] = (),
    named: Mapping[str, Tensor] | None = None,
    strict: bool = True,
) -> Dependencies:
    """Walk the network and merge what the walk found.

    Args:
        model: the network; it is read, never changed.
        inputs: tensors on the meta device, in the order of its forward's arguments.
        plugins: the loaded plugins.
        drop: paths of modules that training is to do without; `training` for all of them.
        named: tensors on the meta device that the forward is given by name.
        strict: whether what is not understood is refused, rather than its neighbourhood left whole.

    Raises:
        UnsupportedError: the walk meets what it does not understand.
        InputShapeError: the network cannot take inputs of these shapes.
        PluginError: a plugin answers wrongly.
        UsageError: a module cannot be dropped.
    """
    given = list(inputs), dict(named or {})
    return merge(model, walk_train_eval(model, given, plugins, drop, strict))
