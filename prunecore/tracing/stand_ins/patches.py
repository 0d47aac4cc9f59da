"""What Python and torch are while a forward is traced, in the thread that traces alone.

A trace of `torch.fx` replaces the call of `nn.Module` and more for the whole process, and puts back
what it found. Two traces at once leave one another's replacements behind, and other threads run
into them. Here traces take turns, those that others make with `torch.fx` among them, and what is
replaced does what it always did in every thread but the one that traces.
"""

from __future__ import annotations

import functools
import inspect
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from types import FrameType
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.autograd import Variable
from torch.autograd.function import Function
from torch.fx import _symbolic_trace
from torch.nn.modules import transformer
from torch.utils import _pytree as pytree
from torch.utils import checkpoint
from torch.utils._device import _device_constructors
from torch.utils.checkpoint import CheckpointFunction

from prunecore.errors import PrunecoreError
from prunecore.isolation.random_states import OwnGenerators, drawing_functions
from prunecore.tracing.nodes import FACTORIES
from prunecore.tracing.stand_ins.asked import answering
from prunecore.tracing.stand_ins.autograd_functions import Applied
from prunecore.tracing.stand_ins.numbers import SIZES
from prunecore.tracing.stand_ins.proxies import Known

_TURN = threading.RLock()  # of the thread that traces


_PATIENCE = 60  # seconds for a trace to end that was under way already


_trace = fx.Tracer.trace


# what a trace calls to have things replaced; before 2.6 torch made a patcher itself
_PATCHER = "_new_patcher" if hasattr(_symbolic_trace, "_new_patcher") else "_Patcher"


def in_this_thread(new: Callable[..., Any], old: Callable[..., Any]) -> Callable[..., Any]:
    """A function that is `new` in the thread that asks for it, and `old` in all others."""
    thread = threading.get_ident()

    @functools.wraps(old)
    def either(*args: Any, **kwargs: Any) -> Any:
        return (new if threading.get_ident() == thread else old)(*args, **kwargs)

    return either


@contextmanager
def replaced(replacements: Mapping[tuple[Any, str], Any]) -> Iterator[None]:
    """Attributes of modules and classes that are something else for a while."""
    before = [(holder, name, vars(holder).get(name)) for holder, name in replacements]
    try:
        for (holder, name), new in replacements.items():
            setattr(holder, name, new)
        yield
    finally:
        for holder, name, old in before:
            if old is None:  # it had that of a class that it derives from
                delattr(holder, name)
            else:
                setattr(holder, name, old)


class _Patcher(_symbolic_trace._Patcher):
    """What `torch.fx` replaces, in this thread alone.

    What it replaces in the variables of modules minds nobody: the functions that it puts there do
    what those before them did, unless they are given a stand-in.

    Args:
        known: the functions of Python that are called as they are where `torch.fx.wrap` marks them;
            a trace goes through all others. `None` for a trace that is not prunecore's.
    """

    def __init__(self, known: Collection[Callable[..., Any]] | None = None) -> None:
        super().__init__()
        self._known = known

    def patch(
        self, frame_dict: dict[str, Any], name: str, new_fn: Any, deduplicate: bool = True
    ) -> None:
        """Replace a function among a module's variables."""
        function = new_fn.__wrapped__
        if self._known is None or not inspect.isfunction(function) or function in self._known:
            super().patch(frame_dict, name, new_fn, deduplicate)

    def patch_method(self, cls: type, name: str, new_fn: Any, deduplicate: bool = True) -> None:
        """Replace a method of a class: of modules, that which the class has during a job."""
        if cls is nn.Module and name in _METHODS and _replaceables:
            replacement = _Replacement(_METHODS[name], new_fn)
            self.patches_made.append(replacement)  # type: ignore[arg-type]
            replacement.patch()
        else:
            either = in_this_thread(new_fn, getattr(cls, name))
            super().patch_method(cls, name, either, deduplicate)


# of `nn.Module`, which a trace replaces, and what is in their places: to set what a class is called
# by takes as long as it has subclasses, and it calls the other, which is set at once
_METHODS = {"__call__": "_call_impl", "__getattr__": "__getattr__"}


# by name and thread, what traces have in the place of these methods, the innermost one last
_replacements: dict[str, dict[int, list[Callable[..., Any]]]]
_replacements = {name: {} for name in _METHODS.values()}


class _Replacement:
    """What stands for a method of modules in this thread.

    Args:
        name: of the method.
        new: what stands for it.
    """

    def __init__(self, name: str, new: Callable[..., Any]) -> None:
        self._new = new
        self._by_thread = _replacements[name]
        self._thread = threading.get_ident()

    def patch(self) -> None:
        """Let it stand for the method."""
        self._by_thread.setdefault(self._thread, []).append(self._new)

    def revert(self) -> None:
        """Let what was there before do so again."""
        stack = self._by_thread[self._thread]
        stack.pop()
        if not stack:
            del self._by_thread[self._thread]


def _replaceable(name: str) -> Callable[..., Any]:
    """A method of modules that is, in a thread that traces, what the trace has in its place."""
    plain, by_thread = getattr(nn.Module, name), _replacements[name]

    @functools.wraps(plain)
    def method(*args: Any, **kwargs: Any) -> Any:
        stack = by_thread.get(threading.get_ident()) if by_thread else None
        return (stack[-1] if stack else plain)(*args, **kwargs)

    return method


def _in_turn(*args: Any, **kwargs: Any) -> fx.Graph:
    with _TURN:
        return _trace(*args, **kwargs)


_sharing = threading.Lock()  # guards what follows


_jobs: dict[int, OwnGenerators] = {}  # by the threads that do one


_shared = ExitStack()  # undoes what is replaced while there are jobs


_replaceables: list[str] = []  # which methods of modules are replaceable


def _wrap_functions(patcher: Any, variables: dict[str, Any], functions: set[int]) -> None:
    """As torch's own does, which looks at names first: few of a module's variables are such.

    Args:
        patcher: of the trace.
        variables: of a module of Python.
        functions: those that a trace does not go through, by identity.
    """
    if patcher.visit_once(variables):
        found = [name for name, value in variables.items() if id(value) in functions]
        for name in found:
            if not name.startswith("_"):
                wrapped = _symbolic_trace._create_wrapped_func(variables[name])
                patcher.patch(variables, name, wrapped)


_SHARED: Mapping[tuple[Any, str], Any] = {
    (fx.Tracer, "trace"): _in_turn,
    (_symbolic_trace, "_autowrap_check"): _wrap_functions,
    (_symbolic_trace, "_Patcher"): _Patcher,
    **drawing_functions(lambda: _jobs.get(threading.get_ident())),
}


@contextmanager
def beside_others() -> Iterator[None]:
    """Do a job: threads that trace with `torch.fx` take turns, and all others are left alone.

    This thread draws from generators of its own, and may ask for gradients: what is made meanwhile
    is not for inference alone, even if that is all that the caller is about.

    Raises:
        PrunecoreError: a trace that began before does not end.
    """
    thread = threading.get_ident()
    if thread in _jobs:  # within another one
        yield
        return
    with _sharing:
        if not _jobs:
            # each trace asks for the same functions, all of `math` among them
            wrapped = functools.cache(_symbolic_trace._create_wrapped_func)
            replacements = {**_SHARED, (_symbolic_trace, "_create_wrapped_func"): wrapped}
            _shared.enter_context(replaced(replacements))
        _jobs[thread] = OwnGenerators()
    try:
        _wait_for_others()
        with torch.inference_mode(mode=False):
            yield
    finally:
        with _TURN, _sharing:  # no trace is under way, which may have replaced a method
            del _jobs[thread]
            if not _jobs:
                _shared.close()


def _make_replaceable() -> None:
    """Let traces replace methods of modules until no job is left; in this thread's turn alone.

    It takes as long as `nn.Module` has subclasses, and jobs that trace nothing do without.
    """
    with _sharing:
        if not _replaceables:
            names = _METHODS.values()
            methods = {(nn.Module, name): _replaceable(name) for name in names}
            call = {(_symbolic_trace, "_orig_module_call"): nn.Module._call_impl}
            _shared.enter_context(replaced({**methods, **call}))
            _replaceables.extend(_METHODS)
            _shared.callback(_replaceables.clear)


def _wait_for_others() -> None:
    """Wait for the traces of other threads that were under way before they were to take turns."""
    end = time.monotonic() + _PATIENCE
    while any(
        thread != threading.get_ident() and _traces_unasked(frame)
        for thread, frame in sys._current_frames().items()
    ):
        if time.monotonic() > end:
            raise PrunecoreError(
                f"Another thread has traced a network with torch.fx for {_PATIENCE} seconds, "
                "which changes torch.nn.Module for all threads.\n"
                "Prune when it has come to its end, or in another process."
            )
        time.sleep(0.001)


def _traces_unasked(frame: FrameType | None) -> bool:
    """True if a thread that has come to this frame traces without having waited for its turn."""
    while frame is not None:
        caller = frame.f_back
        if frame.f_code is _trace.__code__ and (
            caller is None or caller.f_code is not _in_turn.__code__
        ):
            return True
        frame = caller
    return False


@contextmanager
def trace_alone(known: Collection[Callable[..., Any]]) -> Iterator[None]:
    """Trace, when no other thread does.

    Transformers call the layers within them, as in training, rather than their fused form: those
    are what is cut. They look at no mask to find out whether a faster way may stand for it.

    Args:
        known: the functions that there are rules for. Where `torch.fx.wrap` marks a function of
            Python, a trace calls it if it is one of these, and else goes through it.
    """
    fused, causal = torch.backends.mha.get_fastpath_enabled, transformer._detect_is_causal_mask
    replacements = {
        (_symbolic_trace, _PATCHER): functools.partial(_Patcher, known),
        (torch.backends.mha, fused.__name__): in_this_thread(lambda: False, fused),
        (transformer, causal.__name__): in_this_thread(_is_said_to_be_causal, causal),
    }
    with beside_others(), _TURN:
        _make_replaceable()
        with replaced(replacements):
            yield


def _is_said_to_be_causal(_: Any, is_causal: bool | None = None, *__: Any) -> bool:
    return is_causal is True


@contextmanager
def standing_in(asking: Sequence[tuple[dict[str, Any], str]]) -> Iterator[None]:
    """Let stand-ins pass for what they stand for, for a forward that asks what they are.

    The modules of Python that ask have an `isinstance` of their own meanwhile, which says so of a
    stand-in, or a `len` or `range`. Not torch's own, in C, which would look for a tensor in memory
    and crash. A tensor is made of what a forward reads, `torch.zeros(x.size(0), 3)`, and so is
    `torch.finfo(x.dtype)` or a `Variable`. A function with a gradient of its own and what is
    checkpointed are called as they are. `torch.Size` of sizes that are read is a tuple of them.

    Args:
        asking: the variables of the modules that ask, with the function of Python that they call.
    """
    apply = vars(Function)["apply"]

    def plain_apply(function: type[Function], *args: Any, **kwargs: Any) -> Any:
        return apply.__get__(None, function)(*args, **kwargs)

    replacements: dict[tuple[Any, str], Any]
    made = (*FACTORIES, "finfo", "iinfo", *_TOLD)
    replacements = {(torch, name): _traced(getattr(torch, name)) for name in made}
    replacements[torch, "Size"] = SIZES
    traced_apply = functools.partial(_apply, plain_apply)
    replacements[Function, "apply"] = classmethod(in_this_thread(traced_apply, plain_apply))
    for name in _CHECKS:
        plain = vars(torch)[name]
        replacements[torch, name] = in_this_thread(functools.partial(_check, plain), plain)
    replacements[torch, "as_tensor"] = in_this_thread(_as_tensor, torch.as_tensor)
    replacements[type(Variable), "__call__"] = in_this_thread(_variable, type.__call__)
    for name in _CHECKPOINTS & vars(checkpoint).keys():
        before = vars(checkpoint)[name]
        replacements[checkpoint, name] = in_this_thread(_around_nothing, before)
    _device_constructors()  # torch keeps for good what these names are when it first looks
    with answering(asking), replaced(replacements):
        yield


# what `checkpoint(..., use_reentrant=False)` does around the call, as versions of torch name it
_CHECKPOINTS = {
    "_checkpoint_without_reentrant_generator",
    "_checkpoint_without_reentrant_generator_impl",
}


# what `torch._check` and its like call
_CHECKS = ("_check_tensor_all_with", "_check_with")


# functions in C that take the training flag by place
_TOLD = ("alpha_dropout", "dropout", "feature_alpha_dropout", "feature_dropout", "rrelu")


_as_tensor_of = torch.as_tensor


def _as_tensor(data: Any, *args: Any, **options: Any) -> Any:
    """What makes a tensor of a list of numbers leaves one as it is, but for its type."""
    if not isinstance(data, Known) or not isinstance(data.tracer.known(data), Tensor):
        return _as_tensor_of(data, *args, **options)
    return data.to(*args, **options) if args or options else data


def _check(plain: Any, error_type: type[Exception], condition: Any, *message: Any) -> None:
    """A check of torch's for exported networks is `if ...: raise`.

    A tensor without storage cannot be checked; that is what children are run on meanwhile.
    """
    if isinstance(condition, Known):
        if not condition:
            raise error_type
    elif not (isinstance(condition, Tensor) and condition.is_meta):
        plain(error_type, condition, *message)


def _variable(kind: type[Variable], *args: Any, **options: Any) -> Any:
    """What torch makes of a tensor that is to be a `Variable`, as all have been since 0.4."""
    if args and isinstance(args[0], Known):
        return args[0].detach()
    return type.__call__(kind, *args, **options)


def _around_nothing(*_: Any, **__: Any) -> Iterator[None]:
    yield


def _traced(factory: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(factory)
    def make(*sizes: Any, **options: Any) -> Any:
        # torch takes the first of several sizes for a tensor, and no stand-in for a device
        for given in (*sizes, *options.values()):
            if isinstance(given, Known):
                return given.tracer.create_proxy("call_function", factory, sizes, options)
        return factory(*sizes, **options)

    return make


def _apply(plain: Callable[..., Any], function: type[Function], *args: Any, **kwargs: Any) -> Any:
    if issubclass(function, CheckpointFunction):
        run, _, *given = args
        return run(*given)
    for given in pytree.tree_leaves((args, kwargs)):
        if isinstance(given, Known):
            return given.tracer.create_proxy("call_function", Applied(function), args, kwargs)
    return plain(function, *args, **kwargs)
