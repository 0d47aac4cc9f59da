"""The writer that plugins hold: kept widths, children and traces of the block to be written."""

from __future__ import annotations

import re
from collections.abc import Collection, Hashable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn
from torch.utils import _pytree as pytree

from prunecore.channels.keep import Keep
from prunecore.channels.names import is_of_torch, is_within, join, module_paths
from prunecore.channels.records import Visit
from prunecore.channels.signal import Signal
from prunecore.errors import UnsupportedError, UnwritableError
from prunecore.escaping import is_name
from prunecore.registry import Plugin, Plugins
from prunecore.tracing.modules.attributes import held_numbers
from prunecore.tracing.source_lines import LINE
from prunecore.tracing.stand_ins.autograd_functions import Applied
from prunecore.walking.barriers import advised
from prunecore.writing.as_it_stands.class_text import Definitions
from prunecore.writing.as_it_stands.own_text import OwnTexts
from prunecore.writing.as_it_stands.standing import (
    initialised,
    standing_methods,
    stated,
    torch_call,
)
from prunecore.writing.containers import (
    CONTAINERS,
    container_of,
    in_places,
    initialise,
    is_named_list,
)
from prunecore.writing.definitions import check_imports, defined_names
from prunecore.writing.expressions import literal
from prunecore.writing.forwards.branch_writer import write_forward
from prunecore.writing.forwards.forward import Forward
from prunecore.writing.instances import Instance, derived
from prunecore.writing.passes.selections import with_kept_selections
from prunecore.writing.passes.sizes import with_kept_sizes
from prunecore.writing.passes.variants import Variant, unify, without_residual_blocks
from prunecore.writing.statements import Statement, write_statements
from prunecore.writing.tensors.constants import constant, unsaved_constants
from prunecore.writing.tensors.initial_values import Bounded, Start, like, start_of
from prunecore.writing.text import BlockSource, Call, Name, Value, one_line


@dataclass(frozen=True)
class Written:
    """A module as it is written.

    Attributes:
        path: its path in the network.
        owner: the plugin that wrote it; `None` where the core did.
        source: its text.
    """

    path: str
    owner: Plugin | None
    source: BlockSource


class Writer:
    """Writes modules; what plugins write blocks with.

    Args:
        model: the original network.
        keep: what stays of it.
        plugins: the loaded plugins.
    """

    def __init__(self, model: nn.Module, keep: Keep, plugins: Plugins) -> None:
        self.keep = keep
        self.written: list[Written] = []  # in order, inner blocks first
        self.definitions: dict[str, str] = {}
        self.tuples: dict[str, Mapping[str, str]] = {}  # fields and annotations by name
        self.definers: dict[str, tuple[Plugin, str]] = {}  # of each name: who, for which block
        self.imports: set[str] = set()
        self.ties: list[tuple[str, str]] = []  # (path, path of the module or tensor that it is)
        self.named_again: list[str] = []  # paths of modules that what holds them has twice
        self._starts: dict[tuple[type, str], Start] = {}
        self._forwards: dict[Hashable, Forward] = {}  # by what equal blocks have alike
        self.own = OwnTexts(self.definers)  # what is taken from the user's modules
        self._plugins = plugins
        self._paths = module_paths(model)
        traces = without_residual_blocks(keep.dependencies.forwards.traces, keep.removed_blocks)
        if any(trace.takes_places for trace in traces.values()):
            traces = with_kept_selections(traces, keep, plugins.functions)
        if any(trace.computes_numbers for trace in traces.values()):
            traces = with_kept_sizes(traces, keep, plugins.functions)
        self._variants = unify(traces)

    def width(self, tensor: Tensor, axis: int) -> int:
        """The kept width, in places, of one axis of a parameter or buffer of the original."""
        return self.keep.width(tensor, axis)

    def argument(self, module: nn.Module, name: str) -> Any:
        """The kept value of one of a module's constructor arguments, by its attribute's name."""
        return self.keep.argument(module, name)

    def first_call(self, name: str) -> Visit:
        """What the module at a path was first called with and returned, `Signal` for tensor."""
        return self.keep.dependencies.forwards.visits[name][0]

    def is_called(self, name: str) -> bool:
        """True if the forward calls the module at a path, rather than its children one by one."""
        return name in self.keep.dependencies.forwards.visits

    def child(self, module: nn.Module, name: str) -> Value | None:
        """Write the module at a path.

        Args:
            module: a child of a block.
            name: its path in the network.

        Returns:
            Its constructor call; `None` where the forward never reaches it or where it goes as a
            whole, so that the written network does without.

        Raises:
            PluginError: the plugin that owns it answers with something that cannot be used.
            ValueError: the module is not the network's, or not at this path.
        """
        if id(module) not in self._paths:
            raise ValueError(f"{type(module).__name__} is not a module of the network")
        path, name = self._paths[id(module)], name.removeprefix(".")  # of the network's own block
        if is_within(path, self.keep.left_out):
            return None
        if path != name:
            if self.keep.model.get_submodule(name) is not module:
                raise ValueError(f"{path} is written as {name}, which is another module")
            self.ties.append((name, path))
        why = self._barrier(path)
        is_own = why is not None or path in self.keep.dependencies.forwards.opened
        owner = None if is_own else self._plugins.owner(type(module))
        try:
            if why is not None:
                source = self._as_it_stands(module, path)
            elif owner is None:
                source = self.trace(module, path)
            else:
                source = owner.call(
                    "prunecore_write_block", path, block=module, name=path, writer=self
                )
                self._define(source, owner, path)
        except UnwritableError as error:
            if why is not None:
                reason = f"{why.reason}, and it cannot be written as it stands: {error.reason}"
                told = UnsupportedError(why.path, why.class_name, reason, why.remedy, why.line)
                raise advised(self.keep.model, told) from error
            kind = type(module).__name__
            raise UnsupportedError(path, kind, error.reason, error.remedy) from error
        self.written.append(Written(path, owner, source))
        return self._named(module, path, source.call)

    def _named(self, module: nn.Module, path: str, call: Value) -> Value:
        """A container under the name of the class that makes it, if that is not torch's own."""
        if not isinstance(call, Call) or is_of_torch(type(module)) or not module._modules:
            return call
        base = getattr(nn, call.function.removeprefix("nn."), None)
        if not (isinstance(base, type) and isinstance(module, base)):
            return call
        return derived(call, type(module).__name__, *self._ends(path))

    def _ends(self, path: str) -> tuple[Hashable, Hashable]:
        """What names the channels that a module is given and returns."""
        visits = self.keep.dependencies.forwards.visits.get(path, [Visit((), None)])
        return self._channels(visits[0].inputs), self._channels(visits[0].output)

    def trace(self, module: nn.Module, name: str) -> BlockSource:
        """Write a module as a class of its own, its forward as it was traced.

        Args:
            module: a block.
            name: its path in the network.

        Raises:
            UnsupportedError: its forward does what cannot be written.
        """
        path = self._paths[id(module)]
        variant = self._variants.get(path)
        self._define_applied(module, path, variant)
        forward = None
        if variant is not None:
            functions = self._plugins.functions
            forward = write_forward(variant, self.keep, functions, self._forwards)
            for kind, members in forward.tuples.items():
                self._define_tuple(kind, members, module, path)
        own = [*_numbers(module, forward), *self._tensors(module, path)]
        children = self._children(module, path, variant)
        name, ends, base = type(module).__name__, self._ends(path), container_of(module)
        is_named = base is not None and is_named_list(base, children)
        if base is not None and not is_named and None not in children.values():
            held = in_places(base, children)
            return BlockSource(
                Instance(name, (*own, *_orders(variant)), forward, *ends, base, held=held)
            )
        fields = [_field(key, child) for key, child in children.items()]
        parts = (*own, *fields, *_orders(variant))
        if is_named:
            return BlockSource(Instance(name, (_EMPTY, *parts), forward, *ends, "nn.ModuleList"))
        return BlockSource(Instance(name, parts, forward, *ends))

    def _barrier(self, path: str) -> UnsupportedError | None:
        """Why a module is written as it stands; `None` where it has been followed."""
        barriers = self.keep.dependencies.forwards.barriers
        return next((why for at, why in barriers.items() if is_within(path, [at])), None)

    def _as_it_stands(self, module: nn.Module, path: str) -> BlockSource:
        """Write a module of which nothing is known, all of it kept.

        Raises:
            UnwritableError: it uses what a file does not have.
        """
        if type(module) in CONTAINERS:
            base, children = CONTAINERS[type(module)], self._all_children(module, path)
            if is_named_list(base, children):
                return BlockSource(Call("NamedLayers", (children,)))
            held = in_places(base, children)
            return BlockSource(replace(initialise(base, held), function=base))
        if type(module) is nn.ParameterList:
            values = [field.value.positional[1] for field in self._tensors(module, path)]
            return BlockSource(Call("nn.ParameterList", (values,)))
        if is_of_torch(type(module)):
            return BlockSource(torch_call(module, type(module)))
        methods = standing_methods(module, self.own)
        base, call, made = initialised(module)
        of_base = {*made._modules, *made._parameters, *made._buffers}
        own = [
            stated(name, value, self.own)
            for name, value in methods.attributes().items()
            if not isinstance(value, Tensor) and getattr(made, name, self) != value
        ]
        own += [field for field in self._tensors(module, path) if not _is_of(field, of_base)]
        children = {
            key: child
            for key, child in self._all_children(module, path).items()
            if key not in of_base
        }
        name, ends = type(module).__name__, self._ends(path)
        is_named = is_named_list(base, children)
        if call is None and base != "nn.Module" and not is_named:
            held = in_places(base, children)
            return BlockSource(
                Instance(name, tuple(own), None, *ends, base, held=held, methods=methods.text)
            )
        fields = [_field(key, child) for key, child in children.items()]
        first = [_EMPTY] if is_named else [] if call is None else [Statement("", call)]
        return BlockSource(
            Instance(name, (*first, *own, *fields), None, *ends, base, methods=methods.text)
        )

    def _all_children(self, module: nn.Module, path: str) -> dict[str, Value | None]:
        return {
            key: None if child is None else self.child(child, join(path, key))
            for key, child in module._modules.items()
        }

    def _define_applied(self, module: nn.Module, path: str, variant: Variant | None) -> None:
        """Define the functions with gradients of their own that a forward calls.

        Raises:
            UnsupportedError: a file cannot have one.
        """
        for node in [] if variant is None else variant.trace.graph.nodes:
            if not isinstance(node.target, Applied):
                continue
            try:
                self.own.define(node.target.function)
            except UnwritableError as error:
                raise UnsupportedError(
                    path,
                    type(module).__name__,
                    f"its forward calls {node.target.__name__}, and the text of that cannot be "
                    f"written as it stands: {error.reason}",
                    "Let it use functions of torch and of the standard library alone.",
                    node.meta.get(LINE),
                ) from error

    def source(
        self, call: Call, cls: type[nn.Module], replaced: Mapping[str, Value] | None = None
    ) -> BlockSource:
        """Write a block as a call of a class that stands in the file as it stands in the plugin.

        The functions and classes of the plugin's that it uses come with it, and the imports of what
        it uses of torch and the standard library.

        Args:
            call: of the class, under the name that it is to have; where that means something else
                in the file, it gets a number.
            cls: the class, at the top of a module.
            replaced: expressions in these texts, `"nn.ReLU()"`, to what is written in their places.

        Raises:
            ValueError: a text is not there, or uses what a written file does not have.
        """
        definitions = Definitions(self.definitions, replaced or {})
        name = definitions.add(cls, call.function)
        imports = frozenset(definitions.imports)
        return BlockSource(replace(call, function=name), definitions.texts(), imports)

    def _children(
        self, module: nn.Module, path: str, variant: Variant | None
    ) -> dict[str, Value | None]:
        """The children that the forward reaches, and `None` for those that other instances have."""
        keys = tuple(module._modules) if variant is None else variant.children
        children: dict[str, Value | None] = {}
        first: dict[int, str] = {}  # the key of each child, where those have names of their own
        for key in keys:
            child = module._modules.get(key)
            place = join(path, key)
            value: Value | None = None
            if id(child) in first:
                value = Name(f"self.{first[id(child)]}")
                self.named_again.append(place)
            elif child is not None:
                value = self.child(child, place)
                is_first = value is not None and self._paths[id(child)] == place
                if is_first and container_of(module) is None and is_name(key):
                    first[id(child)] = key
            if value is not None or (variant is not None and key in variant.optional):
                children[key] = value
        return children

    def _tensors(self, module: nn.Module, path: str) -> list[Statement]:
        """The module's own parameters and buffers."""
        fields = []
        for key, parameter in module._parameters.items():
            if parameter is not None:
                start = self._start(module, key, parameter)
                if isinstance(start, Bounded):
                    fields.append(Statement("bound = ", Name(start.bound)))
                value = self._parameter(parameter, start)
                register = Statement("", Call("self.register_parameter", (key, value)))
                fields.append(Statement(f"self.{key} = ", value) if is_name(key) else register)
        unsaved = unsaved_constants(module, path, self.keep)
        for key, buffer in {**module._buffers, **unsaved}.items():
            if buffer is None:
                continue
            text = constant(buffer, self.keep) if key in unsaved else None
            if text is not None:
                call = Call("self.register_buffer", (key, text), {"persistent": False})
            else:
                made = self._zeros(buffer)
                if buffer.is_floating_point() and (said := start_of(module, key)):
                    made = said.call(self._sizes(buffer))
                call = Call("self.register_buffer", (key, made))
            fields.append(Statement("", call))
        return fields

    def _parameter(self, parameter: Tensor, start: Start | None) -> Call:
        if start is None:  # it holds whole numbers, of which there are no gradients
            return Call("nn.Parameter", (self._zeros(parameter),), {"requires_grad": False})
        return Call("nn.Parameter", (start.call(self._sizes(parameter)),))

    def _start(self, module: nn.Module, key: str, parameter: Tensor) -> Start | None:
        """What a parameter starts with; where no text tells, one for all modules of a class."""
        if not parameter.is_floating_point():
            return None
        if known := start_of(module, key):
            return known
        if (type(module), key) not in self._starts:
            self._starts[type(module), key] = like(parameter)
        return self._starts[type(module), key]

    def _sizes(self, tensor: Tensor) -> tuple[int, ...]:
        return tuple(self.keep.width(tensor, axis) for axis in range(tensor.ndim))

    def _zeros(self, tensor: Tensor) -> Call:
        keywords = {} if tensor.is_floating_point() else {"dtype": Name(str(tensor.dtype))}
        return Call("torch.zeros", self._sizes(tensor) or ((),), keywords)

    def _define_tuple(
        self, name: str, fields: Mapping[str, str], module: nn.Module, path: str
    ) -> None:
        """Define the class of a named tuple that a forward returns."""
        known = self.tuples.setdefault(name, fields)
        if list(known) != list(fields):
            raise UnsupportedError(
                path,
                type(module).__name__,
                f"it returns a named tuple {name} of other fields than another module",
                "Give one of the two classes another name.",
            )
        rows = [f"    {field}: {annotation}" for field, annotation in known.items()]
        self.definitions[name] = "\n".join([f"class {name}(NamedTuple):", *rows]) + "\n"

    def _define(self, source: BlockSource, owner: Plugin, path: str) -> None:
        what = f"prunecore_write_block for {path or 'the network'}"
        check_imports(source.imports - self.imports, owner, what)
        self.imports |= source.imports
        for name, text in source.definitions.items():
            if self.definitions.get(name) == text:
                continue
            for defined in sorted(defined_names(name, text, owner, what)):
                if defined in self.own.names:
                    raise UnwritableError(f"two different things in it are called {defined}")
                if defined in self.definers:
                    other, elsewhere = self.definers[defined]
                    what = f"{what} defines {defined} in another text than {other.label} for"
                    raise owner.disagrees(other, f"{what} {elsewhere}")
                self.definers[defined] = (owner, path or "the network")
            self.definitions[name] = text

    def _channels(self, value: Any) -> Hashable:
        """What names the channels that a block's first input or output carries."""
        leaf = next((x for x in pytree.tree_iter(value) if isinstance(x, Signal)), None)
        if leaf is None or leaf.ndim < 2:
            return None
        if not leaf.channel_axes:
            return one_line(leaf.shape[1])
        return self.keep.count(leaf.ids.ravel()).channels


_EMPTY = Statement("", Call("super().__init__"))  # as a list begins that gets children by names


def _is_of(field: Statement, keys: Collection[str]) -> bool:
    """True if a statement sets or registers a tensor of one of these names."""
    name = field.target.removeprefix("self.").removesuffix(" = ") or field.value.positional[0]
    return name in keys


def _field(key: str, child: Value | None) -> Statement:
    if is_name(key):
        return Statement(f"self.{key} = ", child)
    return Statement("", Call("self.add_module", (key, child)))


def _numbers(module: nn.Module, forward: Forward | None) -> list[Statement]:
    """The numbers that a forward reads off its module."""
    held = held_numbers(module)
    if forward is None or not held:
        return []
    text = write_statements(forward.statements, 0)
    return [
        Statement(f"self.{name} = ", literal(vars(module)[name]))
        for name in held
        if re.search(rf"\bself\.{name}\b", text)
    ]


def _orders(variant: Variant | None) -> list[Statement]:
    """The lists of places that a forward reads."""
    orders = {} if variant is None else variant.trace.orders
    return [Statement(f"self.{name} = ", places) for name, places in orders.items()]
