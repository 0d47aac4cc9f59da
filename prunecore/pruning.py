"""The main job: load, walk, score, plan, write, transfer, verify."""

from __future__ import annotations

import functools
import keyword
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from prunecore.channels.keep import Keep
from prunecore.errors import UsageError, unknown_name
from prunecore.files.report import build_report
from prunecore.files.storage import save_set
from prunecore.inputs import InputShape
from prunecore.planning.plan import TARGETS, Plan, Request, Target, make_plan
from prunecore.planning.residual_blocks import ResidualBlock, find_blocks
from prunecore.plugins import loading as plugin_registry
from prunecore.verifying.comparison import verify as verify_network
from prunecore.walking.network import walk
from prunecore.writing.building import build, check_kinds, naming_the_writer, transfer_weights
from prunecore.writing.source_file import write_network
from prunecore.writing.text import RESERVED


@dataclass(frozen=True)
class PrunedModel:
    """A smaller network.

    Attributes:
        model: built from the written source, with its weights.
        source: the text of the written file.
        weights: its state dict, with the original's keys.
        report: what was asked, what came of it, and the proof; contract keys, schema 1.
    """

    model: nn.Module
    source: str
    weights: dict[str, Tensor]
    report: dict[str, Any]

    def save(self, path: str | Path, force: bool = False) -> tuple[Path, Path, Path]:
        """Write the three files that belong together; all or none appear.

        Args:
            path: of the .py file; the weights and the report lie beside it.
            force: whether to replace a set that is there.

        Returns:
            The paths of the .py, .safetensors and .json file.
        """
        return save_set(Path(path), self.source, self.weights, self.report, force)


def prune(
    model: nn.Module,
    level: float = 50,
    input_shape: InputShape = (3, 224, 224),
    mode: str = "l1-norm",
    target: Target = "params",
    seed: int = 0,
    verify: bool = True,
    *,
    name: str | None = None,
    remove_blocks: bool = False,
    drop: Sequence[str] = (),
    module: str | None = None,
) -> PrunedModel:
    """Remove whole channels from a network and write the smaller one as source.

    Args:
        model: the network; it is left exactly as it is.
        level: percentage of the target to remove, within (0, 100).
        input_shape: the shape of one input, without the batch; of several inputs, the shape of
            each: `[(3, 32, 32), (8,)]`.
        mode: how channels are scored: `l1-norm`, `random`, `random-weighted`, or a plugin's.
        target: what the level is a percentage of: `params`, `macs` or `channels`.
        seed: of modes that draw.
        verify: whether to prove the written network right; see `prunecore.verify`.
        name: of the factory in the written file; made from the class's name where not given.
        remove_blocks: whether a residual block goes as a whole when its inner width has come down
            to the minimum and its shortcut is the identity.
        drop: paths of modules that only training reaches and that are to be left out, such as an
            auxiliary head; `training` for all that only training does.
        module: path of a module that is pruned in place of the whole network. What it returns is
            as wide as before, so that the smaller one can be put in its place.

    Raises:
        PrunecoreError: with what is wrong, where, and what to do.
    """
    _check(model, level, input_shape, target)
    if isinstance(drop, str):
        raise UsageError(f"drop is a list of modules, not {drop!r}.\nGive [{drop!r}].")
    origin = None
    if module is not None:
        origin = f"{full_name(model)}, {module}"
        model = module_of(model, module)
    request = Request(level, mode, target, seed, verify, remove_blocks, tuple(drop), name, origin)
    return Walked(model, input_shape, drop).prune(request)


class Walked:
    """A network whose channels have been followed: to be pruned at any number of levels.

    Args:
        model: the network; it is left exactly as it is.
        input_shape: the shape of one input, without the batch; or of each.
        drop: paths of modules that training is to do without; `training` for all of them.
    """

    def __init__(self, model: nn.Module, input_shape: InputShape, drop: Sequence[str] = ()) -> None:
        self.model = model
        self.input_shape = input_shape
        self.plugins = plugin_registry.load()
        self.dependencies = walk(model, input_shape, self.plugins, drop)

    @functools.cached_property
    def _blocks(self) -> list[ResidualBlock]:
        return find_blocks(self.model, self.dependencies, self.input_shape)

    def scores(self, mode: str, seed: int) -> NDArray[np.float64]:
        """One score a channel, low goes first."""
        criterion = self.plugins.criterion(mode)
        return criterion(self.dependencies, self.dependencies.tensors, seed)

    def prune(self, request: Request) -> PrunedModel:
        """Score, plan, write, transfer, verify.

        Raises:
            PrunecoreError: with what is wrong, where, and what to do.
        """
        model, dependencies = self.model, self.dependencies
        name = _checked_name(request.name or _snake(type(model).__name__))
        plan = make_plan(
            dependencies,
            self.scores(request.mode, request.seed),
            request.level,
            request.target,
            blocks=self._blocks if request.remove_blocks else (),
        )
        keep = Keep(model, dependencies, plan.kept, plan.removed_blocks)
        docstring = _docstring(model, request, plan)
        weights = transfer_weights(model, keep, self.plugins)
        with naming_the_writer(model, keep, self.plugins, weights):
            source = write_network(model, keep, self.plugins, name, docstring)
            small = build(source, name, weights)
            check_kinds(model, small)
        small.train(model.training)
        _freeze_like(model, small)
        report = build_report(
            name=name,
            mode=request.mode,
            seed=request.seed,
            plan=plan,
            keep=keep,
            dependencies=dependencies,
            verified=verify_network(model, keep, small, self.input_shape)
            if request.verify
            else None,
            plugins=self.plugins.versions(),
            fingerprint=request.fingerprint,
        )
        return PrunedModel(small, source, weights, report)


def _freeze_like(model: nn.Module, small: nn.Module) -> None:
    originals = dict(model.named_parameters())
    for name, parameter in small.named_parameters():
        parameter.requires_grad_(originals[name].requires_grad)


def module_of(model: nn.Module, path: str) -> nn.Module:
    """The module at a path of a network.

    Raises:
        UsageError: there is none.
    """
    modules: dict[str, nn.Module] = dict(model.named_modules(remove_duplicate=False))
    if path not in modules:
        raise unknown_name("module", path, (name for name in modules if name))
    return modules[path]


def full_name(model: nn.Module) -> str:
    """The full name of a network's class."""
    return f"{type(model).__module__}.{type(model).__qualname__}"


def _check(model: nn.Module, level: float, input_shape: InputShape, target: str) -> None:
    if not isinstance(model, nn.Module):
        raise UsageError(
            f"The model is a {type(model).__name__}, not a torch.nn.Module.\n"
            "Give the network itself."
        )
    is_number = isinstance(level, int | float) and not isinstance(level, bool)
    if not is_number or not 0 < level < 100:
        raise UsageError(
            f"Level {level!r} is not a percentage between 0 and 100.\n"
            "Give the share of the target to remove, such as 50."
        )
    is_one = isinstance(input_shape, list | tuple) and all(
        isinstance(size, int) for size in input_shape
    )
    for shape in [input_shape] if is_one else input_shape:
        if (
            not isinstance(shape, list | tuple)
            or not shape
            or any(not isinstance(size, int) or size < 1 for size in shape)
        ):
            raise UsageError(
                f"The input shape {shape!r} is not a row of positive whole numbers.\n"
                "Give the shape of one input without the batch, such as (3, 224, 224); of several "
                "inputs a list of such."
            )
    if target not in TARGETS:
        raise unknown_name("target", target, TARGETS)


def _checked_name(name: str) -> str:
    if not name.isidentifier() or keyword.iskeyword(name) or name in RESERVED:
        is_taken = name in RESERVED
        reason = "is one of the file's own" if is_taken else "cannot name a Python function"
        raise UsageError(f"The name {name!r} {reason}.\nGive one such as 'resnet18'.")
    return name


def _snake(name: str) -> str:
    """`MyNet` to `my_net`, `ResNet` to `resnet`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z][a-z])", "_", name).lower().replace("res_net", "resnet")


def _docstring(model: nn.Module, request: Request, plan: Plan) -> str:
    """What the written file says of itself; nothing that another run would not say."""
    before, after = plan.before, plan.after
    counted = {"params": "parameters", "macs": "MACs", "channels": "channels"}[plan.target]
    params = _amounts(before.params, after.params) + " parameters" * (plan.target != "params")
    figures = f"{params}, {_amounts(before.macs, after.macs)}MACs"
    origin = request.origin or full_name(model)
    return (
        f"{type(model).__name__} without {plan.achieved:.0f} % of its {counted}: {figures}.\n\n"
        f"Written by prunecore ({request.mode}, level {plan.asked:g}) from {origin}. "
        "Edit freely.\n"
    )


def _amounts(before: int, after: int) -> str:
    """`11689512, 5594000` to `11.69 -> 5.59 M`, in the unit that suits the first."""
    size, unit = next((s, u) for s, u in _UNITS if before >= s or s == 1)
    return f"{before / size:.2f} -> {after / size:.2f} {unit}"


_UNITS = ((1e9, "G"), (1e6, "M"), (1e3, "k"), (1, ""))
