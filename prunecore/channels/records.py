"""Records of a walk, filled while it goes: bindings, couplings, traces, calls of modules."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

from prunecore.channels.ids import Ids
from prunecore.channels.signal import Computed, Picked, Signal
from prunecore.errors import Provider, UnsupportedError

# The forward that stands for a module's own in the masked original:
# (module, the kept places, *inputs) -> output
MaskedForward = Callable[..., Any]


# The function that stands for another in the masked original: (the kept places, *arguments)
MaskedFunction = Callable[..., Any]


@dataclass(frozen=True)
class Trace:
    """One module's forward, followed.

    Attributes:
        module: the module.
        graph: its forward, every child a leaf.
        values: of every node, `Signal` for tensor.
        output: what it returns.
        orders: lists of places that the written forward reads, by attribute, as they are written.
    """

    module: nn.Module
    graph: fx.Graph
    values: Mapping[fx.Node, Any]
    output: Any
    orders: Mapping[str, list[Any]] = field(default_factory=dict)

    @property
    def takes_places(self) -> bool:
        """True if some of its calls may take places of a tensor by their number."""
        leaves = pytree.tree_leaves(list(self.values.values()))
        return any(
            isinstance(x, Signal) and isinstance(x.origin, Picked | Computed) for x in leaves
        )

    @property
    def computes_numbers(self) -> bool:
        """True if it computes numbers, such as sizes."""
        leaves = pytree.tree_leaves(list(self.values.values()))
        return any(isinstance(leaf, int | float) for leaf in leaves)

    def copied(self) -> tuple[Trace, dict[fx.Node, fx.Node]]:
        """One whose graph can be edited, and its nodes by those of this one."""
        graph = fx.Graph()
        copies: dict[fx.Node, fx.Node] = {}
        for node in self.graph.nodes:  # training and eval mode may return different things
            copies[node] = graph.node_copy(node, copies.__getitem__)
        values = {copies[node]: value for node, value in self.values.items() if node in copies}
        return replace(self, graph=graph, values=values), copies


@dataclass(frozen=True)
class Visit:
    """One call of a module: what it was called with, what it returned, and which plugin said so."""

    inputs: tuple[Any, ...]
    output: Any
    owner: Provider | None = None


@dataclass(frozen=True)
class Use:
    """Multiply-accumulates by a weight that a forward computes.

    Attributes:
        weight: the weight.
        parameter: that it is computed of, the first of these.
        times: how often each element is used for one input.
        along: the channels, if any, among the places that it is used at.
    """

    weight: Signal
    parameter: Tensor
    times: int
    along: Ids | None


@dataclass(frozen=True)
class Product:
    """Multiply-accumulates of tensors that meet in a product, such as attention's.

    Attributes:
        path: of the module that multiplies them.
        macs: their number for one input, in the original.
        along: the channels along each axis that has some.
    """

    path: str
    macs: int
    along: tuple[Ids, ...]


@dataclass
class Forwards:
    """What the forwards of a network do; a walk fills it while it goes.

    Attributes:
        ways: the forwards that were followed, by path and by the arguments that are `None`.
        other_sizes: the same as they go for inputs of other sizes: by what they do at their
            branches on these.
        visits_elsewhere: the calls of modules that only these ways come to, by path.
        traces: all of them as one for each path, when the walk has ended.
        visits: the calls of each module that eval mode or else training reaches, by path and in
            order.
        training_visits: those of training, where that does something else than eval mode.
        visits_without: those in eval mode and in training where the network is called without some
            of its optional inputs, by their names.
        only_without: paths of the modules that are called only there, or for other sizes.
        needed: the names of the optional inputs that it is not followed without.
        only_in_training: paths of the modules that eval mode does not reach.
        as_in_eval: paths of the modules that are to train as they run in eval mode.
        absent: paths of the modules that training is to do without, where others call them.
        constants: what traced forwards are called with that is no tensor or number, by path.
        opened: paths of the modules that were followed through their own forward in any case: it is
            another one than their class's, or hooks of what they call are a part of it.
        hooks: the forward hooks and pre-hooks that were followed, by the path of their module.
        without_hooks: whose hooks are left out, as they are named.
        constants_held: the names of the tensors that forwards read and that are neither parameters
            nor buffers.
        barriers: the errors that following a module ended with which is left as it stands, by path.
    """

    ways: dict[str, dict[frozenset[str], Trace]] = field(default_factory=dict)
    other_sizes: dict[tuple[str, frozenset[str]], dict[Any, Trace]] = field(default_factory=dict)
    visits_elsewhere: dict[str, list[Visit]] = field(default_factory=dict)
    traces: dict[str, Trace] = field(default_factory=dict)
    visits: dict[str, list[Visit]] = field(default_factory=dict)
    training_visits: dict[str, list[Visit]] = field(default_factory=dict)
    visits_without: dict[frozenset[str], tuple[dict[str, list[Visit]], dict[str, list[Visit]]]] = (
        field(default_factory=dict)
    )
    only_without: Set[str] = frozenset()
    needed: Sequence[str] = ()
    only_in_training: Set[str] = frozenset()
    as_in_eval: Set[str] = frozenset()
    absent: Set[str] = frozenset()
    constants: dict[str, dict[str, Any]] = field(default_factory=dict)
    opened: Collection[str] = ()
    hooks: Mapping[str, Collection[Callable[..., Any]]] = field(default_factory=dict)
    without_hooks: tuple[str, ...] = ()
    constants_held: set[str] = field(default_factory=set)
    barriers: Mapping[str, UnsupportedError] = field(default_factory=dict)

    def for_other_sizes(self, path: str, absent: frozenset[str]) -> list[Trace]:
        """A forward as it goes for inputs of other sizes than those that it was traced for."""
        natural = self.ways[path][absent]
        followed = self.other_sizes.get((path, absent), {}).values()
        return [trace for trace in followed if trace is not natural]

    def each_way(self) -> Iterator[tuple[str, Trace]]:
        """The forwards that were followed, with their paths, each way of one by itself."""
        for path, ways in self.ways.items():
            yield from ((path, trace) for trace in ways.values())


@dataclass
class Records:
    """What a walk has found so far; `merge` makes `Dependencies` of it."""

    forwards: Forwards = field(default_factory=Forwards)

    count: int = 0  # ids handed out
    is_trial: bool = False  # whether what is found is forgotten
    of_stored: list[Ids] = field(default_factory=list)  # handed out to parameters and buffers
    bindings: dict[tuple[int, int], Ids] = field(default_factory=dict)  # (id of tensor, axis)
    # likewise, where a forward asks for the size of a tensor that it computes of parameters
    sized: dict[tuple[int, int], Ids] = field(default_factory=dict)
    filters: dict[tuple[int, int], str] = field(default_factory=dict)  # ... to the layer's path
    units: dict[tuple[int, int], Ids] = field(default_factory=dict)  # what such filters make, once
    widths: dict[tuple[str, str], Ids] = field(default_factory=dict)  # (module path, attribute)
    # what a call has met that is not cut: keys of bindings, widths and what is masked
    met_whole: set[Hashable] = field(default_factory=set)
    couplings: list[tuple[Ids, Ids]] = field(default_factory=list)
    pins: list[tuple[Ids, str]] = field(default_factory=list)
    parts: list[Ids] = field(default_factory=list)  # of each of these a place has to stay
    macs: dict[int, int] = field(default_factory=dict)  # id of tensor to uses of each element
    used_along: dict[int, Ids | None] = field(default_factory=dict)  # ... for each of these places
    uses: list[Use] = field(default_factory=list)
    products: list[Product] = field(default_factory=list)
    # tensors that forwards compute of parameters and others meet, with the paths of the modules
    computed: list[tuple[str, Signal]] = field(default_factory=list)
    open: list[tuple[str, Visit]] = field(default_factory=list)  # calls that have not returned
    lacks_training: bool = False  # whether something that only training does is left out
    touched: set[str] = field(default_factory=set)  # paths whose tensors a forward uses directly
    left_whole: dict[str, str] = field(default_factory=dict)  # path of a layer to the reason
    protected: list[str] = field(default_factory=list)  # paths of layers that are not to be cut
    masked_forwards: dict[str, tuple[Ids, MaskedForward]] = field(default_factory=dict)
    # (path of the module, name of the call in its trace)
    masked_functions: dict[tuple[str, str], tuple[Ids, MaskedFunction]] = field(
        default_factory=dict
    )

    def are_of_stored(self, ids: Ids) -> bool:
        """True if ids, of any shape, were handed out to parameters and buffers, not to layers."""
        return bool(self.of_stored) and bool(np.isin(ids, np.concatenate(self.of_stored)).all())


TRAINING = "training"  # stands for all that only training does, where modules are named
