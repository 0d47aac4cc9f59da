"""Running a network, all of it in float64, and recording what its layers return."""

from __future__ import annotations

import functools
import math
import traceback
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from prunecore.channels.names import module_paths
from prunecore.channels.records import Visit
from prunecore.errors import VerificationError, told
from prunecore.inputs import Arguments, tensors
from prunecore.isolation.random_states import OwnDraws, kept_random_states
from prunecore.isolation.state import functions_of, kept_contents

_NOISE = 65537  # a prime


@dataclass(frozen=True)
class Run:
    """How networks are run to be compared.

    Attributes:
        inputs: of the forward, by place and by name, with the batch.
        visits: the calls of each module in the walk, by path.
        in_training: whether they train, with the mean of what is drawn in its place.
        as_in_eval: paths of the modules that train as they run in eval mode.
        absent: the names of the inputs that are `None`.
    """

    inputs: Arguments
    visits: Visits
    in_training: bool = False
    as_in_eval: Collection[str] = ()
    absent: Collection[str] = ()

    @property
    def told(self) -> str:
        """What is not as usual, as it stands behind what differs."""
        lacks = f", without {' and '.join(sorted(self.absent))}" if self.absent else ""
        return f"{lacks}{', in training' if self.in_training else ''}"

    def on(self, network: nn.Module, forward: Callable[..., Any]) -> Any:
        """Run a network on copies of the inputs, without gradients.

        Args:
            network: the network; it is left as it was.
            forward: runs it.

        Returns:
            What that returns.

        Raises:
            VerificationError: it cannot be run in float64 on inputs of this shape.
        """
        args, kwargs = pytree.tree_map_only(Tensor, torch.clone, self.inputs)
        was_training = network.training
        network.train(self.in_training)
        for path in self.as_in_eval:
            network.get_submodule(path).training = False
        drawing = Means() if self.in_training else OwnDraws()  # some layers draw in eval mode, too
        with (
            torch.no_grad(),
            kept_random_states(),
            kept_contents(*functions_of(list(network.modules()))),
            telling_where(network, self.visits, tensors(self.inputs)),
            drawing,
            InFloat64(),
        ):
            output = forward(*args, **kwargs)
        network.train(was_training)
        return output


@dataclass(frozen=True)
class Projection:
    """What stays of a tensor: its inner product with fixed noise, its norm and its shape."""

    value: float
    size: float
    shape: tuple[int, ...]


# by path, and number of the tensor that the module has returned
Projections = dict[tuple[str, int], Projection]


# The channel axis of a tensor and its kept places; `None` where all stay.
Places = tuple[int, Tensor] | None


class Recorder:
    """Records what the layers of a network return, and what the network does.

    A projection on noise differs when the tensor does, takes no memory, and is taken at once,
    before an in-place operation overwrites the tensor.

    Args:
        places: by path, for each tensor that a module returns, what of it is recorded; else all.
        how: on what, and whether in training.
    """

    def __init__(self, places: Mapping[str, Sequence[Places]], how: Run) -> None:
        self._places = places
        self._how = how
        generator = torch.Generator().manual_seed(1)
        # repeats, at a prime distance: a channel that moves as a whole meets other noise
        self._noise = torch.randn(_NOISE, dtype=torch.float64, generator=generator)

    def run(
        self,
        network: nn.Module,
        forward: Callable[..., Any],
        paths: Mapping[str, str],
    ) -> Projections:
        """Run a network.

        Args:
            network: the network; it is left as it was.
            forward: runs it.
            paths: the modules to record, and the path that each is recorded under.
        """
        projections: Projections = {}
        numbers: Counter[str] = Counter()  # of the tensors that a module returned so far

        def record(path: str, _module: nn.Module, _inputs: Any, output: Any) -> None:
            for tensor in (leaf for leaf in pytree.tree_leaves(output) if torch.is_tensor(leaf)):
                known = self._places.get(path, ())
                places = known[numbers[path]] if numbers[path] < len(known) else None
                kept = tensor if places is None else tensor.index_select(*places)
                projections[path, numbers[path]] = self._project(kept)
                numbers[path] += 1

        modules = {network.get_submodule(name): path for name, path in paths.items()}
        handles = [
            # what hooks make of it is written beside the module
            module.register_forward_hook(functools.partial(record, path), prepend=True)
            for module, path in modules.items()
            if path
        ]
        output = self._how.on(network, forward)
        if "" in modules.values():
            record("", network, None, output)
        for handle in handles:
            handle.remove()
        return projections

    def _project(self, tensor: Tensor) -> Projection:
        if tensor.is_meta or tensor.is_nested:  # there are no values, or none to put beside others
            return Projection(math.nan, math.nan, ())
        plain = tensor.detach()  # a forward may enable gradients
        dense = plain if plain.layout is torch.strided else plain.to_dense()
        parts = torch.view_as_real(dense) if dense.is_complex() else dense
        flat = parts.to(torch.float64).flatten()
        noise = self._noise.to(flat.device)
        whole = len(flat) - len(flat) % _NOISE
        value = (flat[:whole].view(-1, _NOISE) @ noise).sum()
        value += flat[whole:] @ noise[: len(flat) - whole]
        return Projection(float(value), math.sqrt(float(flat @ flat)), tuple(tensor.shape))


Visits = Mapping[str, Sequence[Visit]]


def cared_for(path: str, network: nn.Module, visits: Visits) -> str:
    """A module's path and class, with the plugins that take care of it and of what it lies in.

    Args:
        path: of the module.
        network: the network that it lies in.
        visits: the calls of each module in the walk, by path.
    """
    words: list[str] = []
    labels: set[str] = set()
    at = path
    while at or not words:
        calls = visits.get(at, ())
        label = calls[0].owner.label if calls and calls[0].owner else ""
        if not words or (label and label not in labels):
            name = type(network.get_submodule(at)).__name__
            care = f", in the care of {label}" if label else ""
            words.append(f"{at or 'its output'} ({name}{care})")
            labels.add(label)
        at = at.rpartition(".")[0]
    return " within ".join(words)


@contextmanager
def telling_where(network: nn.Module, visits: Visits, inputs: Sequence[Tensor]) -> Iterator[None]:
    """Say in which module a network raises that is run.

    Args:
        network: the network.
        visits: the calls of each module in the walk, by path.
        inputs: what it is run on, in float64.

    Raises:
        VerificationError: it raises something.
    """
    try:
        yield
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # whatever a forward raises
        paths = module_paths(network)
        frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
        holders = [id(frame.f_locals.get("self")) for frame in frames]
        innermost = [paths[holder] for holder in holders if holder in paths][-1:]
        shapes = " and ".join(str(tuple(tensor.shape)) for tensor in inputs)
        where = "".join(f", in {cared_for(path, network, visits)}" for path in innermost if path)
        raise VerificationError(
            f"{type(network).__name__} cannot be run in float64 on inputs of shape "
            f"{shapes}: {told(error)}{where}.\n{_remedy(error, inputs)}"
        ) from error


def _remedy(error: BaseException, inputs: Sequence[Tensor]) -> str:
    """What to do about what a network raises, which whole numbers that it does not know may be."""
    if isinstance(error, IndexError) and not all(tensor.is_floating_point() for tensor in inputs):
        return "Give whole numbers that it knows, such as --input 'tokens:int64[128]<30000'."
    return (
        "Take what ties its forward to another type or batch size out of it, or pass --no-verify."
    )


_aten = torch.ops.aten


class Means(OwnDraws):  # type: ignore[no-untyped-call]
    """While it is active, a draw is the mean of what is drawn from.

    A dropout then keeps everything as it is, as does a branch that training leaves out at random.
    """

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run an operation, or what stands for one that draws."""
        mean = _MEANS.get(func)
        return mean(*args) if mean else super().__torch_dispatch__(func, types, args, kwargs)


def _uniform(x: Tensor, low: float = 0.0, high: float = 1.0) -> Tensor:
    return x.fill_((low + high) / 2)


def _normal(x: Tensor, mean: float = 0.0, _deviation: float = 1.0) -> Tensor:
    return x.fill_(mean)


def _dropped(x: Tensor, _p: float, _training: bool | None) -> tuple[Tensor, Tensor]:
    return x.clone(), torch.ones_like(x, dtype=torch.bool)


def _leaky(x: Tensor, _noise: Tensor, low: float, high: float, *_: Any) -> Tensor:
    return F.leaky_relu(x, (float(low) + float(high)) / 2)


_MEANS: Mapping[Any, Callable[..., Any]] = {
    _aten.bernoulli.default: lambda x: x.clone(),
    _aten.bernoulli.p: torch.full_like,
    _aten.bernoulli_.float: lambda x, p=0.5: x.fill_(p),
    _aten.bernoulli_.Tensor: lambda x, p: x.copy_(p),
    _aten.native_dropout.default: _dropped,
    _aten.normal_.default: _normal,
    _aten.rand_like.default: lambda x: torch.full_like(x, 0.5),
    _aten.randn_like.default: torch.zeros_like,
    _aten.rrelu_with_noise.default: _leaky,
    _aten.uniform_.default: _uniform,
}


_WIDER = {torch.float32: torch.float64, torch.complex64: torch.complex128}


_CONVERSIONS = ("bfloat16", "cfloat", "float", "half", "to", "type")


_FLOATING = (torch.float16, torch.bfloat16, torch.float32)


class InFloat64(TorchFunctionMode):
    """While it is active, what torch makes in this thread of a shorter type is of float64.

    That is what is so by default, as it has no tensor of floating point to take its type from and
    is given none: `torch.zeros(3)`, `torch.tensor(0.1)`, a quotient of whole numbers. And it is
    what a forward asks for by a type, `x.float()` or `torch.zeros(3, dtype=torch.float16)`, as its
    layers are in float64, too. The process's default type, which other threads go by, stays as it
    is. As under any such mode, torch's transformer layers call the layers within them, and not
    their fused form.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Call a function, and once more in float64 where it took the default type."""
        name = getattr(func, "__name__", "")
        if name not in (*_CONVERSIONS, "view"):  # which takes the bits for another type's
            args, kwargs = pytree.tree_map_only(torch.dtype, _widened, (args, kwargs or {}))
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if name in _CONVERSIONS and isinstance(result, Tensor) and result.dtype in _FLOATING:
            return _converted(name, args, kwargs)
        if not isinstance(result, Tensor) or result.dtype not in _WIDER:
            return result
        leaves = pytree.tree_leaves((args, kwargs))
        if name in _CONVERSIONS or any(map(_says_a_type, leaves)):
            return result
        return _wider(func, args, kwargs, result)


def _widened(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype in _FLOATING else dtype


def _converted(name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor:
    """What a conversion makes of a tensor, in float64."""
    if name not in ("to", "type"):
        args, kwargs = (args[0], torch.float64), kwargs

    def wider(leaf: Any) -> Any:
        is_type = isinstance(leaf, torch.dtype) or (name == "type" and isinstance(leaf, str | type))
        return torch.float64 if is_type else leaf

    given = [wider(leaf) for leaf in args[1:]]
    tensor: Tensor = args[0]
    if any(isinstance(leaf, Tensor) for leaf in given):  # of another tensor's type and device
        return tensor.to(given[0].device, torch.float64)
    return tensor.to(*given, **{key: wider(value) for key, value in kwargs.items()})


def _says_a_type(value: Any) -> bool:
    """True if an argument is a type, or a tensor of one with fractions."""
    if isinstance(value, Tensor):
        return value.is_floating_point() or value.is_complex()
    return isinstance(value, torch.dtype)


def _wider(func: Any, args: Any, kwargs: Mapping[str, Any], result: Tensor) -> Tensor:
    """What a function makes where its default is float64.

    Args:
        func: the function.
        args: what it is called with.
        kwargs: likewise, by name.
        result: what it has made in float32.
    """
    dtype = _WIDER[result.dtype]
    whole = [leaf for leaf in pytree.tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    try:
        if not whole:
            made: Tensor = func(*args, **{**kwargs, "dtype": dtype})
        else:
            args, kwargs = pytree.tree_map_only(Tensor, _in_float64, (args, kwargs))
            made = func(*args, **kwargs)
    except (RuntimeError, TypeError):  # it takes no such type: a condition of `torch.where`
        return result.to(dtype)
    return made if made.dtype is dtype else result.to(dtype)


def _in_float64(tensor: Tensor) -> Tensor:
    return tensor if tensor.dtype is torch.bool else tensor.to(torch.float64)
