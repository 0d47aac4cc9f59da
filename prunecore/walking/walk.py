"""`Walk`, which follows channels through modules, their traced forwards and function calls."""

from __future__ import annotations

import copy
import functools
import inspect
import operator
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, NoReturn

import numpy as np
from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

from prunecore.channels.channels import Channels
from prunecore.channels.computed import are_of_weights, is_open, open_parts
from prunecore.channels.ids import FIXED, Ids, along, without_channels
from prunecore.channels.names import is_of_torch, is_within, join
from prunecore.channels.records import Trace, Visit
from prunecore.channels.signal import (
    Computed,
    Followed,
    Origin,
    Signal,
    Stored,
    kind_of,
    leaves_of,
    map_signals,
    shaped,
)
from prunecore.channels.sizes import counted, depending, recounted
from prunecore.decorators import protected_layers
from prunecore.errors import InputShapeError, UnsupportedError
from prunecore.functions.rule import FunctionRule, Operation
from prunecore.isolation.random_states import OwnDraws
from prunecore.registry import Plugins
from prunecore.tracing.arguments import absent_from, constants, given_to
from prunecore.tracing.modules.attributes import TrainingFlag
from prunecore.tracing.modules.scopes import NO_SCOPES, Scopes
from prunecore.tracing.source_lines import LINE
from prunecore.tracing.trace_cache import TraceCache
from prunecore.tracing.ways.pairing import in_both, in_prefix, inputs_of, parting
from prunecore.tracing.ways.size_branches import sized_for, taken_in
from prunecore.walking.barriers import past_function, past_module
from prunecore.walking.calls import agree, couple_stated, signals_in
from prunecore.walking.computed import (
    bind_computed,
    follow_rest,
    join_sized,
    meeting,
    sized,
    trial,
    whole,
    with_channels,
)
from prunecore.walking.interpreter import Interpreter, interpret

NONE: Mapping[str, UnsupportedError] = {}


LAYERS = "sequential"  # the plugin that nearly every network needs


class Walk(Interpreter):
    """Follows channels through a network.

    Args:
        model: the network. It is read, never changed.
        plugins: the loaded plugins.
        scopes: where what modules do beside their class's forward is followed.
        drop: paths of modules that training is to do without.
        strict: whether what is not understood is refused, rather than its neighbourhood left whole.
        barriers: the errors of an earlier walk, by the paths of the modules that are left as they
            stand.
    """

    def __init__(
        self,
        model: nn.Module,
        plugins: Plugins,
        scopes: Scopes = NO_SCOPES,
        drop: Collection[str] = (),
        strict: bool = True,
        barriers: Mapping[str, UnsupportedError] = NONE,
    ) -> None:
        super().__init__(model)
        self._strict = strict
        self.records.forwards.barriers = barriers
        self.records.forwards.opened = scopes.opened
        self.records.forwards.hooks = {
            path: [hook.function for hook in hooks] for path, hooks in scopes.hooks.items()
        }
        self.records.forwards.without_hooks = scopes.without
        self.records.protected = [self._paths[id(layer)] for layer in protected_layers(model)]
        self._plugins = plugins
        self._draws = OwnDraws()
        self.traced = TraceCache(model, scopes, drop, plugins.functions)
        self._in_eval: Walk | None = None  # the walk of eval mode, where this one is training's

    def in_training(self) -> Walk:
        """The walk of the network as training takes it: what both follow is coupled.

        A tensor that both reach has one binding for each axis, which makes the channels of both
        walks the same. What is counted and visited is the walk's own.
        """
        walk = copy.copy(self)
        walk.records = replace(
            self.records,
            macs={},
            used_along={},
            uses=[],
            products=[],
            open=[],
            forwards=replace(self.records.forwards, ways={}, other_sizes={}, visits={}),
        )
        walk._in_eval = self
        return walk

    def beside(self) -> Walk:
        """The walk of the same network on other inputs, which is coupled with this one likewise."""
        walk = copy.copy(self)
        walk.records = replace(self.records, macs={}, used_along={}, uses=[], products=[], open=[])
        walk.records.forwards = replace(self.records.forwards, visits={})
        return walk

    def through(self, module: nn.Module, *inputs: Any, **keywords: Any) -> Any:
        """Follow the channels through a module: its owner's hook answers, or its own forward.

        Args:
            module: a module of the network.
            inputs: what its forward is called with, a `Signal` for each tensor.
            keywords: likewise, by name.

        Returns:
            What its forward returns, a `Signal` for each tensor.

        Raises:
            ValueError: the module is not the network's.
            TypeError: an input is a tensor or an array, not a `Signal`.
        """
        if id(module) not in self._paths:
            raise ValueError(f"{type(module).__name__} is not a module of the network")
        path = self._paths[id(module)]
        self.traced.check(path, in_training=self._in_eval is not None)
        why = self.records.forwards.barriers.get(path)
        is_own = why is not None or path in self.records.forwards.opened
        owner = None if is_own else self._plugins.owner(type(module))
        inputs, keywords = map_signals(self._given, (inputs, keywords))
        for given in inputs:
            if isinstance(given, Tensor | nn.Module | np.ndarray):
                raise TypeError(f"{path} is called with {type(given).__name__}, not a Signal")
        depth = len(self.records.open)
        self.records.open.append((path, Visit(inputs, None, owner)))
        with self._inside(path):
            if why is not None:
                in_training = self._in_eval is not None
                output = past_module(self, module, (inputs, keywords), why, in_training)
            elif owner is None:
                output = self.trace(module, *inputs, **keywords)
            else:
                if keywords or not path:  # the network is called as the user asked
                    call = self._bound(module, inputs, keywords)
                if keywords:
                    call.apply_defaults()  # else what stands behind a default would be lost
                    inputs = call.args
                output = owner.call(
                    "prunecore_calculate_dependencies",
                    path,
                    block=module,
                    inputs=inputs,
                    channels=self,
                )
        # what a forward computes of parameters has the channels that it meets where it is called
        output = self._plain(output, () if owner or why or not path else (Computed,))
        del self.records.open[depth:]
        self.records.forwards.visits.setdefault(path, []).append(Visit(inputs, output, owner))
        if is_within(path, self.records.protected):
            for leaf in leaves_of(output):
                if isinstance(leaf, Signal):
                    self.pin(leaf.ids, f"skip protects {path}")
        return output

    def trace(self, module: nn.Module, *inputs: Any, **keywords: Any) -> Any:
        """Follow the channels through a module's own forward, whoever owns its class."""
        path = self._paths[id(module)]
        signature = self._bound(module, inputs, keywords).signature  # which it fits
        supplied = given_to(signature, inputs, keywords)
        absent = absent_from(signature, supplied)
        in_training = self._in_eval is not None
        chosen = constants(supplied)
        first_chosen = self.records.forwards.constants.setdefault(path, chosen)
        if first_chosen != chosen:
            self.refuse(
                f"it is called with {chosen} in one place, and with {first_chosen} in another, "
                "which makes it do different things",
                "Call two modules, or give it the same arguments.",
            )
        try:
            graph = self.traced.graph(module, path, supplied, absent, in_training)
        except UnsupportedError as error:
            error.line = error.line or self._line()  # torch's own forward: what calls it
            raise
        trace = interpret(self, module, graph, supplied)
        ways = self.records.forwards.ways.setdefault(path, {})
        self._agree(path, ways, absent, trace)
        if not self.records.is_trial:
            self._follow_other_sizes(module, supplied, trace, absent)
        if self._in_eval is not None:
            in_eval = self._in_eval.records.forwards.ways.setdefault(path, {})
            if absent not in in_eval:
                # only training calls it, and it might be told to run in eval mode all the same
                graph = self.traced.graph(module, path, supplied, absent, in_training=False)
                same = graph is trace.graph
                other = trace if same else interpret(self, module, graph, supplied)
                self._agree(path, in_eval, absent, other)
        return trace.output

    def _follow_other_sizes(
        self, module: nn.Module, supplied: Mapping[str, Any], natural: Trace, absent: frozenset[str]
    ) -> None:
        """Follow a forward as it goes for inputs of other sizes, as far as that can be done.

        What it returns there has the channels that it returns for these sizes.
        """
        path = self._paths[id(module)]
        taken = taken_in(natural.graph)
        followed: dict[Any, Trace] = {taken: natural}
        others: Mapping[Any, fx.Graph] = {}
        if taken:
            in_training = self._in_eval is not None
            others = self.traced.other_sizes(
                module, path, supplied, absent, natural.graph, in_training
            )
        for other, graph in others.items():
            given: Mapping[str, Any] | None = supplied
            if not (probe := self._tried(module, graph, supplied)):
                given = sized_for(module, in_training, graph, supplied, [True] * len(other))
                probe = self._tried(module, graph, given) if given else None
            if not given or not probe:
                continue
            guards = parting(natural.graph, graph)
            is_whole = taken_in(graph) == other and guards and in_prefix(*guards) is not None
            if not is_whole or not _are_of_one_width(natural.output, probe.output):
                continue
            beside = self.beside()
            trace = interpret(beside, module, graph, given)
            self.records.count = beside.records.count
            for place, visits in beside.records.forwards.visits.items():
                self.records.forwards.visits_elsewhere.setdefault(place, visits)
            for one, same in zip(*map(signals_in, (natural.output, trace.output)), strict=True):
                self.join(*np.broadcast_arrays(one.ids, same.ids))
            for one in followed.values():
                pairs = in_both(one.graph, trace.graph, by_sizes=True)
                couple_stated(self, one, trace, pairs, self._plugins.functions)
            followed[other] = trace
        known = self.records.forwards.other_sizes.setdefault((path, absent), followed)
        for other, trace in followed.items() if known is not followed else ():
            if other in known:
                agree(self, known[other], trace, self._plugins.functions)

    def _tried(
        self, module: nn.Module, graph: fx.Graph, supplied: Mapping[str, Any]
    ) -> Trace | None:
        """A trace followed from here, of which nothing is kept; `None` where it cannot be."""
        walk = trial(self)
        walk.records.forwards = replace(
            self.records.forwards,
            ways={},
            visits={},
            constants=dict(self.records.forwards.constants),
            constants_held=set(self.records.forwards.constants_held),
        )
        try:
            return interpret(walk, module, graph, supplied)
        except (UnsupportedError, InputShapeError):
            return None

    def _agree(
        self,
        path: str,
        ways: dict[frozenset[str], Trace],
        absent: frozenset[str],
        trace: Trace,
    ) -> None:
        """Couple a call of a forward with those before it."""
        functions = self._plugins.functions
        if absent in ways:
            followed = self.records.forwards.other_sizes.get((path, absent), {})
            known = followed.get(taken_in(trace.graph), ways[absent])
            agree(self, known, trace, functions)
        for others, way in ways.items():
            if absent in ways:
                break
            if others | inputs_of(way.graph).keys() != absent | inputs_of(trace.graph).keys():
                agree(self, way, trace, functions)  # which complains
            couple_stated(self, way, trace, in_both(way.graph, trace.graph), functions)
        ways.setdefault(absent, trace)

    def apply(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Follow the channels through a function call; without a tensor in it, just call it."""
        leaves = leaves_of((args, kwargs))
        rule = self._plugins.functions.get(function)
        makes = rule is not None and rule.makes
        if not makes and not any(isinstance(leaf, Signal) for leaf in leaves):
            with self._draws:
                made = self.run(function, *args, **kwargs)
            return of_sizes(self, function, (args, kwargs), made)
        operation = Operation(function, args, kwargs)
        if rule is None:
            if self._strict or self.lacks_layers(self.module):
                self.refuse(
                    f"its forward calls {operation.name}, and there is no rule for what that does "
                    "to channels",
                    "Write the call in terms of known functions, or give a rule for it in a plugin "
                    "(hook prunecore_functions).",
                )
            return self._past(operation)
        try:
            return self._with_rule(rule, operation)
        except UnsupportedError as error:
            if self._strict:
                raise
            try:
                return self._past(operation)
            except InputShapeError:
                raise error from None

    def _past(self, operation: Operation) -> Any:
        """What a function that is not understood returns; what it is given is left whole."""
        args, kwargs = self._plain((operation.args, operation.kwargs))
        return past_function(self, replace(operation, args=args, kwargs=kwargs))

    def _with_rule(self, rule: FunctionRule, operation: Operation) -> Any:
        """What a function returns, by its rule; of parameters alone, with how it is computed."""
        leaves = leaves_of((operation.args, dict(operation.kwargs)))
        signals = [leaf for leaf in leaves if isinstance(leaf, Signal)]
        of_weights = all(signal.origin for signal in signals) and are_of_weights(signals)
        function, args, kwargs = operation.function, operation.args, dict(operation.kwargs)
        of_weights &= function is not operator.setitem  # which makes no tensor of them
        own = Computed(function, args, kwargs, self.path, self._call, rule.reorders)
        if of_weights and any(is_open(signal) or not signal.channel_axes for signal in signals):
            result = trial(self)._by_rule(rule, operation)
            found = [leaf for leaf in leaves_of(result) if isinstance(leaf, Signal)]
            if found:
                passed_on = all(any(leaf is one for one in signals) for leaf in found)
                return result if passed_on else open_parts(result, own)
            operation = replace(operation, args=self._sized(args), kwargs=self._sized(kwargs))
        result = self._by_rule(rule, operation)
        if of_weights and isinstance(result, Signal):
            before = result.origin
            own = replace(own, before=before.before if isinstance(before, Computed) else before)
            result = replace(result, origin=own)
            own.parts.append(result)
            own.followed.append(Followed(result, None))
        return result

    def _sized(self, values: Any) -> Any:
        return map_signals(functools.partial(sized, self), values)

    def follow_computed(self, own: Computed, args: Any, kwargs: Any) -> Signal:
        """Follow what computes a tensor of parameters alone, now that these have channels."""
        before = self._call, self.follows_weights, self.states_numbers
        self._call, self.follows_weights, self.states_numbers = own.call, True, bool(own.call)
        try:
            rule = self._plugins.functions[own.function]
            with self._inside(own.path):
                result: Signal = self._by_rule(rule, Operation(own.function, args, kwargs))
        finally:
            self._call, self.follows_weights, self.states_numbers = before
        return result

    def follow_rest(self) -> None:
        """Follow what forwards compute of parameters from the axes that others cut, too."""
        for path, signal in list(self.records.computed):
            with self._inside(path):
                follow_rest(self, signal)
        join_sized(self)

    def _by_rule(self, rule: FunctionRule, operation: Operation) -> Any:
        if operation.kwargs.get("out") is not None:
            return self._into(operation.kwargs["out"], rule, operation)
        args, kwargs = self._plain((operation.args, operation.kwargs), rule.understands)
        operation = Operation(operation.function, args, kwargs)
        try:
            return rule.calculate(self, operation)
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            self.refuse(
                f"its forward calls {operation.name} in a form that its rule cannot read: {error}",
                "Call it in the form that torch documents first, or give a rule for it in a "
                "plugin (hook prunecore_functions).",
            )

    def _into(self, out: Any, rule: FunctionRule, operation: Operation) -> Signal:
        """Follow a call that writes its result into a tensor that there is."""
        rest = {name: value for name, value in operation.kwargs.items() if name != "out"}
        made = self._by_rule(rule, replace(operation, kwargs=rest))
        fits = isinstance(out, Signal) and isinstance(made, Signal) and out.shape == made.shape
        if not fits:
            self.refuse(
                f"its forward lets {operation.name} write into what is no tensor of that shape",
                "Use what the function returns.",
            )
        return Signal(out.meta, self.couple(*self.meeting([out, made])).ids)

    def comes_to(self, node: fx.Node) -> None:
        """Note the line of a traced forward that the walk has come to."""
        self._lines[-1] = node.meta.get(LINE)

    def follow(self, call: str, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Follow a function call of the traced forward that the walk is in, by the call's name."""
        self._call = None if self.path in self.traced.differing else call
        self.states_numbers = True
        result = self.apply(function, *args, **kwargs)
        self._call, self.states_numbers = None, False
        return result

    def _bind_computed(self, tensor: Signal, axis: int, ids: Ids | None, filters: bool) -> None:
        bind_computed(self, tensor, axis, ids, filters)

    def meeting(self, signals: Sequence[Signal]) -> list[Signal]:
        """Tensors that meet place by place: what is computed has the channels of the others."""
        if not any(signal.computed for signal in signals):
            return list(signals)
        return meeting(self, signals)

    def whole(self, signal: Signal) -> Signal:
        """A tensor as functions meet it that do not ask where it comes from."""
        return whole(self, signal)

    def stored(self, module: nn.Module, name: str) -> Signal:
        """A parameter or buffer that a forward uses directly; it has ids of its own.

        Along its only axis of more than one place it has them from the start. With several such
        axes it takes them from what it meets. A tensor that is neither is followed as a buffer.

        Args:
            module: the module that holds it.
            name: its attribute.
        """
        tensor = getattr(module, name, None)
        self.records.touched.add(self._paths[id(module)])
        if tensor is None or id(tensor) not in self._stored:
            self.refuse(
                "its forward uses a tensor that is neither a parameter nor a buffer",
                "Register it in __init__ with register_buffer.",
            )
        if name in vars(module):
            self.records.forwards.constants_held.add(join(self._paths[id(module)], name))
        ids = without_channels(tensor.ndim)
        wide = [axis for axis, size in enumerate(tensor.shape) if size > 1]
        if len(wide) == 1:
            own = self.records.bindings.get((id(tensor), wide[0]))
            if own is None:
                own = self.fresh_of_stored(tensor.shape[wide[0]])
            self.bind(tensor, wide[0], own)
            ids = along(wide[0], tensor.ndim, own)
        return Signal(shaped(tensor.shape, kind_of(tensor)), ids, Stored(tensor))

    def refuse(self, reason: str, remedy: str) -> NoReturn:
        """Stop: the module that the walk is in is not understood.

        Raises:
            UnsupportedError: always.
        """
        if self.lacks_layers(self.module):
            remedy = f"Install the plugin of torch.nn's layers: pip install prunecore-{LAYERS}"
        super().refuse(reason, remedy)

    def lacks_layers(self, module: nn.Module) -> bool:
        """True if a module is torch's, and the plugin of these is missing."""
        has_layers = any(plugin.name == LAYERS for plugin in self._plugins.all)
        return not has_layers and is_of_torch(type(module))

    def _for_torch(self, argument: Any) -> Any:
        return (
            bool(argument) if isinstance(argument, TrainingFlag) else super()._for_torch(argument)
        )

    def _given(self, signal: Signal) -> Signal:
        """A tensor as a module is given it; what is computed of parameters has channels, if it may.

        They lie along the last axis, as the width of tokens does, or along the second one of maps.
        """
        axis = 1 if signal.ndim > 3 else signal.ndim - 1
        found = with_channels(self, signal, axis) if is_open(signal) and axis > 0 else None
        plain = self.plain(found.signal if found else signal)
        is_given = signal.is_of_weights
        return plain if plain.is_given == is_given else replace(plain, is_given=is_given)

    def _plain(self, values: Any, understood: Collection[type[Origin]] = ()) -> Any:
        plain = functools.partial(self.plain, understood=understood)
        return map_signals(plain, values)

    def _bound(
        self, module: nn.Module, inputs: tuple[Any, ...], keywords: dict[str, Any]
    ) -> inspect.BoundArguments:
        """What a module's forward is called with, by the names of its parameters."""
        try:
            return inspect.signature(module.forward).bind(*inputs, **keywords)
        except TypeError as error:
            raise InputShapeError(
                f"{self._paths[id(module)] or 'The network'} ({type(module).__name__}) cannot be "
                f"called with {len(inputs) + len(keywords)} input(s): {error}.\nGive each of the "
                "network's inputs (--input-shape or --input, once for each)."
            ) from error

    @contextmanager
    def _inside(self, path: str) -> Iterator[None]:
        self._at.append(path)
        self._lines.append(None)
        try:
            yield
        finally:
            self._at.pop()
            self._lines.pop()


def of_sizes(channels: Channels, function: Callable[..., Any], arguments: Any, result: Any) -> Any:
    """What a forward computes without a tensor of the network, such as from sizes.

    Args:
        channels: the walk.
        function: what has been called.
        arguments: what with, by place and by name.
        result: what it returned.
    """
    only_moves = function is operator.getitem or isinstance(result, tuple)
    ids = [] if only_moves else counted(leaves_of(arguments))
    if ids and isinstance(result, bool | int | float):
        return depending(result, ids, functools.partial(_for_count, function, arguments))
    for each in ids:
        channels.pin(each, f"{function.__name__} depends on how many there are")
    if isinstance(result, Tensor):
        return Signal(result.to("meta"), without_channels(result.ndim))
    return result


def _for_count(function: Callable[..., Any], arguments: Any, count: int) -> Any:
    """What a function returns of numbers of channels, for so many of them."""
    args, kwargs = recounted(arguments, count)
    return function(*args, **kwargs)


def _are_of_one_width(first: Any, second: Any) -> bool:
    """True if two outputs hold tensors with as many channels, or none, along the same axes."""
    if pytree.tree_structure(first) != pytree.tree_structure(second):
        return False
    ours, theirs = map(signals_in, (first, second))
    return len(ours) == len(theirs) and all(
        one.ids.shape == other.ids.shape
        or (one.ndim == other.ndim and any((x.ids == FIXED).all() for x in (one, other)))
        for one, other in zip(ours, theirs, strict=True)
    )
