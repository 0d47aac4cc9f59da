"""The whole job through the Python API: what it leaves alone, what it gives, what it refuses."""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors.torch import save
from torch import Tensor, nn

import prunecore
import prunecore.plugin
from prunecore import LevelError, PrunecoreError, UnsupportedError, UsageError
from prunecore.errors import InputShapeError, WeightsError
from prunecore.files.reports.report import report_text
from prunecore.inputs import of_shape
from prunecore.planning.request import Request
from prunecore.plugin import hookimpl
from prunecore.traced_model import TracedModel

pytestmark = pytest.mark.usefixtures("toys_installed")

SHAPE = (3, 6, 6)


class Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)
        self.bn = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.bn(self.conv(x)) + x)


class Net(nn.Module):
    def __init__(self, width: int = 12) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, padding=1)
        self.body = nn.Sequential(Residual(width), Residual(width))
        self.drop = nn.Dropout(0.2)
        self.fc = nn.Linear(width, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.body(self.stem(x))
        return self.fc(self.drop(x.mean([2, 3])))


@pytest.fixture
def model() -> Net:
    torch.manual_seed(0)
    return Net()


def test_a_network_becomes_smaller_by_the_level(model: Net) -> None:
    small = prunecore.prune(model, level=40, input_shape=SHAPE)
    level = small.report["level"]
    assert level["asked"] == 40
    assert abs(level["achieved"] - 40) <= 5  # one of twelve coupled channels is coarse
    params = sum(parameter.numel() for parameter in small.model.parameters())
    assert params == small.report["after"]["params"]
    assert small.report["verified"]["max_relative_difference"] <= 1e-9
    assert small.model(torch.rand(2, *SHAPE)).shape == (2, 5)
    assert small.model.state_dict().keys() == model.state_dict().keys() == small.weights.keys()


@pytest.mark.parametrize("training", [True, False])
def test_the_users_network_is_left_exactly_as_it_was(model: Net, training: bool) -> None:
    model.train(training)
    model.body[0].bn.eval()
    model.stem.weight.requires_grad_(False)
    model.fc.bias.grad = torch.ones(5)
    handle = model.stem.register_forward_hook(lambda *_: calls.append(1))
    calls: list[int] = []
    before = copy.deepcopy(model.state_dict())
    flags = {name: module.training for name, module in model.named_modules()}
    attributes = {name: sorted(vars(module)) for name, module in model.named_modules()}
    ids = {name: id(tensor) for name, tensor in model.state_dict(keep_vars=True).items()}
    random = torch.get_rng_state()

    small = prunecore.prune(model, level=30, input_shape=SHAPE, mode="random")

    assert torch.equal(random, torch.get_rng_state())
    assert {name: module.training for name, module in model.named_modules()} == flags
    assert attributes == {name: sorted(vars(module)) for name, module in model.named_modules()}
    assert ids == {name: id(t) for name, t in model.state_dict(keep_vars=True).items()}
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name])
    assert not model.stem.weight.requires_grad
    assert torch.equal(model.fc.bias.grad, torch.ones(5))
    assert calls == []
    assert list(model.stem._forward_hooks) == [handle.id]
    assert small.model.training is training


def test_the_small_network_is_trained_as_the_original_is(model: Net) -> None:
    model.stem.requires_grad_(False)
    small = prunecore.prune(model, level=30, input_shape=SHAPE).model
    assert not small.stem.weight.requires_grad
    assert small.fc.weight.requires_grad
    small.train()(torch.rand(2, *SHAPE)).sum().backward()
    assert small.stem.weight.grad is None
    assert small.fc.weight.grad is not None


def test_nothing_that_is_written_shares_memory_with_the_original(model: Net) -> None:
    small = prunecore.prune(model, level=30, input_shape=SHAPE)
    before = copy.deepcopy(model.state_dict())
    with torch.no_grad():
        for tensor in [*small.model.parameters(), *small.model.buffers(), *small.weights.values()]:
            tensor.fill_(7)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_weights_keep_their_type(model: Net, dtype: torch.dtype) -> None:
    small = prunecore.prune(model.to(dtype), level=40, input_shape=SHAPE)
    assert small.report["verified"]["max_relative_difference"] <= 1e-9
    assert {t.dtype for t in small.weights.values() if t.is_floating_point()} == {dtype}
    assert {parameter.dtype for parameter in small.model.parameters()} == {dtype}


@pytest.mark.parametrize("mode", ["l1-norm", "random"])
def test_the_same_job_gives_the_same_bytes(model: Net, mode: str) -> None:
    def job(threads: int) -> tuple[str, bytes, str]:
        torch.set_num_threads(threads)
        torch.rand(threads)  # another state of the generator
        small = prunecore.prune(copy.deepcopy(model), level=35, input_shape=SHAPE, mode=mode)
        report = {**small.report, "verified": None}
        return small.source, save(small.weights), report_text(report)

    try:
        first, second = job(1), job(2)
    finally:
        torch.set_num_threads(1)
    assert first == second


def test_another_seed_is_another_choice_of_mode_random_alone(model: Net) -> None:
    kept = [
        prunecore.prune(
            model, level=35, input_shape=SHAPE, mode=mode, seed=seed, verify=False
        ).report["kept"]
        for mode in ("random", "l1-norm")
        for seed in (0, 1)
    ]
    assert kept[0] != kept[1]
    assert kept[2] == kept[3]


@pytest.mark.parametrize("target", ["params", "macs", "bytes", "channels"])
def test_every_target_is_reached(model: Net, target: Any) -> None:
    small = prunecore.prune(model, level=50, input_shape=SHAPE, target=target)
    assert small.report["target"] == target
    assert abs(small.report["level"]["achieved"] - 50) < 5
    before, after = small.report["before"], small.report["after"]
    if target != "channels":
        gone = 100 * (1 - after[target] / before[target])
        assert small.report["level"]["achieved"] == pytest.approx(gone, abs=1e-3)


def test_verification_may_be_left_out(model: Net) -> None:
    assert (
        prunecore.prune(model, level=30, input_shape=SHAPE, verify=False).report["verified"] is None
    )


def test_a_mode_may_be_written_with_an_underscore(model: Net) -> None:
    assert (
        prunecore.prune(model, level=30, input_shape=SHAPE, mode="l1_norm").report["mode"]
        == "l1-norm"
    )


def test_the_set_is_saved_and_read_again(model: Net, tmp_path: Path) -> None:
    small = prunecore.prune(model, level=30, input_shape=SHAPE, name="my_net")
    paths = small.save(tmp_path / "my_net_30.py")
    assert [path.name for path in paths] == ["my_net_30.py", "my_net_30.safetensors",
                                             "my_net_30.json"]  # fmt: skip
    assert paths[0].read_text(encoding="utf-8") == small.source
    scope: dict[str, Any] = {"__name__": "my_net_30"}
    exec(compile(small.source, "my_net_30.py", "exec"), scope)
    again = scope["my_net"](weights=str(paths[1])).eval()
    x = torch.rand(2, *SHAPE)
    assert torch.equal(again(x), small.model.eval()(x))


def test_the_file_says_what_it_is(model: Net) -> None:
    request = Request(30, name="my_net", origin="somewhere:net", fingerprint="abc")
    small = TracedModel(model, of_shape(SHAPE)).carry_out(request)
    assert small.report["fingerprint"] == "abc"
    docstring = small.source.split('"""')[1]
    assert docstring.startswith(f"Net without {small.report['level']['achieved']:.0f} % of its ")
    assert "Written by prunecore (magnitude, level 30) from somewhere:net." in docstring
    assert "def my_net(weights: str | None = None, **arguments: int) -> Net:" in small.source


def test_counts_below_a_thousand_are_whole() -> None:
    model = nn.Sequential(nn.Linear(3, 8), nn.Linear(8, 2))
    small = prunecore.prune(model, torch.rand(1, 3), 46)
    assert ": 50 -> 26, 40 -> 20 MACs." in small.source.splitlines()[0]


def test_an_underscore_in_a_mode_makes_no_other_file(model: Net) -> None:
    small, other = (
        prunecore.prune(model, level=30, input_shape=SHAPE, mode=m) for m in ("l1-norm", "l1_norm")
    )
    assert small.source == other.source
    assert small.report == other.report


@pytest.mark.parametrize(
    ("name", "factory"),
    [("Net", "net"), ("MyNet", "my_net"), ("ResNet", "resnet"), ("VGG", "vgg"), ("Net2", "net2")],
)
def test_the_factory_is_named_after_the_class(model: Net, name: str, factory: str) -> None:
    named = type(name, (Net,), {})()
    assert (
        prunecore.prune(named, level=30, input_shape=SHAPE, verify=False).report["model"] == factory
    )


def test_the_written_set_is_formatted(
    model: Net, check_style: Callable[..., None], tmp_path: Path
) -> None:
    check_style(
        prunecore.prune(model, level=level, input_shape=SHAPE).source for level in (12.5, 60)
    )


# What is refused


def message(job: Callable[[], Any], error: type[PrunecoreError]) -> str:
    with pytest.raises(error) as caught:
        job()
    text = str(caught.value)
    assert type(caught.value) is error
    assert len(text.splitlines()) == 2  # what and where; what to do
    return text


@pytest.mark.parametrize("level", [0, 100, -5, 100.5, math.nan, math.inf, "50", True])
def test_a_level_that_is_no_percentage(model: Net, level: Any) -> None:
    text = message(lambda: prunecore.prune(model, level=level, input_shape=SHAPE), UsageError)
    assert text.startswith(f"Level {level!r} is not a percentage between 0 and 100.")


def test_a_goal_is_asked_for_in_the_place_of_a_level(model: Net) -> None:
    image = torch.rand(1, 3, 6, 6)
    traced = prunecore.trace(model, image)
    goal = f"{traced.plan(50).before.params // 2}-params"
    small = prunecore.prune(model, image, to=goal, target="macs")
    assert small.report["goal"] == goal
    assert small.report["target"] == "params"
    assert small.report["level"]["asked"] == pytest.approx(50, abs=0.1)
    assert small.report["level"]["achieved"] == pytest.approx(50, abs=3)  # it is tiny
    assert f"Written by prunecore (magnitude, to {goal}) from" in small.source
    again = traced.prune(traced.plan(to=goal))
    assert again.source == small.source
    assert traced.prune(to=goal).report == again.report == small.report
    assert prunecore.prune(model, image, 50).report["goal"] is None


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({}, "Neither a level nor a goal are given"),
        ({"level": 50, "to": "1k-params"}, "Both a level and a goal are given"),
        ({"to": "1k"}, "Unknown unit 'k' of the goal '1k'"),
        ({"to": 1000}, "1000 is no goal"),
        ({"to": "9G-params"}, "Nothing has to go for the goal 9G-params"),
    ],
)
def test_what_is_asked_is_a_level_or_a_goal(
    model: Net, asked: dict[str, Any], message: str
) -> None:
    image = torch.rand(1, 3, 6, 6)
    traced = prunecore.trace(model, image)
    for job in (functools.partial(prunecore.prune, model, image), traced.plan, traced.prune):
        with pytest.raises(PrunecoreError, match=message):
            job(**asked)


def test_a_plan_is_given_without_a_goal(model: Net) -> None:
    traced = prunecore.trace(model, torch.rand(1, 3, 6, 6))
    with pytest.raises(UsageError, match="Both a level and a goal are given"):
        traced.prune(traced.plan(50), to="1k-params")


def test_the_scope_is_in_the_report(model: Net) -> None:
    limits = prunecore.Limits(scope="group", round_to=2)
    small = prunecore.prune(model, torch.rand(1, 3, 6, 6), 40, limits=limits)
    assert small.report["scope"] == "group"


@pytest.mark.parametrize("shape", [(), (3, 0, 6), (3, -6, 6), (3, 6.0, 6), "3,6,6"])
def test_a_shape_that_is_none(model: Net, shape: Any) -> None:
    text = message(lambda: prunecore.prune(model, level=50, input_shape=shape), UsageError)
    assert "is not a row of positive whole numbers" in text


@pytest.mark.parametrize("shape", [(3,), (4, 6, 6), (3, 6)])
def test_a_shape_that_the_network_cannot_take(model: Net, shape: Any) -> None:
    text = message(lambda: prunecore.prune(model, level=50, input_shape=shape), InputShapeError)
    assert text.startswith("stem (Conv2d) cannot take a tensor of shape (")


def test_an_unknown_mode_and_target(model: Net) -> None:
    text = message(
        lambda: prunecore.prune(model, level=50, input_shape=SHAPE, mode="l1-nrom"), UsageError
    )
    known = (
        "Known: activation, best, bn-scale, fisher, fpgm, l1-norm, l2-norm, lamp, magnitude, "
        "random, random-weighted, reconstruction, surgeon, taylor."
    )
    assert text == f"Unknown mode 'l1-nrom'. Did you mean 'l1-norm'?\n{known}"
    text = message(
        lambda: prunecore.prune(model, level=50, input_shape=SHAPE, mode="bset"), UsageError
    )
    assert text.startswith("Unknown mode 'bset'. Did you mean 'best'?")
    target: Any = "parms"
    text = message(
        lambda: prunecore.prune(model, level=50, input_shape=SHAPE, target=target), UsageError
    )
    assert text.startswith("Unknown target 'parms'. Did you mean 'params'?\nKnown: ")


def test_what_is_no_network() -> None:
    net: Any = Net
    text = message(lambda: prunecore.prune(net, level=50, input_shape=SHAPE), UsageError)
    assert text.startswith("The model is a type, not a torch.nn.Module.")


@pytest.mark.parametrize("name", ["my-net", "class", "1net", "a b", "net.py"])
def test_a_name_that_python_does_not_take(model: Net, name: str) -> None:
    text = message(
        lambda: prunecore.prune(model, level=50, input_shape=SHAPE, name=name), UsageError
    )
    assert text.startswith(f"The name {name!r} cannot name a Python function: it is ")


def test_a_network_without_a_layer_that_can_be_pruned() -> None:
    text = message(
        lambda: prunecore.prune(nn.Sequential(nn.ReLU()), level=50, input_shape=SHAPE),
        PrunecoreError,
    )
    assert "has no prunable layer: nothing in it makes channels" in text
    text = message(
        lambda: prunecore.prune(nn.Linear(3, 4), level=50, input_shape=(3,)), PrunecoreError
    )
    assert "no channel that may go: its layers make its outputs." in text


def test_a_network_of_which_all_is_left_whole() -> None:
    class Mixing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Linear(3, 4)
            self.b = nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.b(torch.softmax(self.a(x), 1))

    text = message(lambda: prunecore.prune(Mixing(), level=50, input_shape=(3,)), PrunecoreError)
    assert "or are left whole (a because softmax mixes it)" in text


def test_a_level_that_cannot_be_reached(model: Net) -> None:
    text = message(lambda: prunecore.prune(model, level=99, input_shape=SHAPE), LevelError)
    first, second = text.splitlines()
    assert first.startswith("Level 99 cannot be reached: at most 9")
    assert "It is held there by the minimum of 2 channels a layer." in second
    highest = float(second.rpartition("Ask for a level of ")[2].removesuffix(" or less."))
    assert (
        prunecore.prune(model, level=highest, input_shape=SHAPE).report["level"]["achieved"]
        >= highest
    )


def test_a_network_that_cannot_be_traced() -> None:
    class Branching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Linear(3, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.a(x) if x.sum() > 0 else self.a(-x)

    text = message(
        lambda: prunecore.prune(Branching(), level=50, input_shape=(3,)), UnsupportedError
    )
    assert "the network (Branching)" in text
    assert "if x.sum() > 0" in text


@pytest.mark.parametrize("verify", [True, False])
def test_weights_that_are_not_finite_are_named(model: Net, verify: bool) -> None:
    with torch.no_grad():
        model.fc.weight[0, 0] = math.nan
    text = message(
        lambda: prunecore.prune(model, level=50, input_shape=SHAPE, verify=verify), WeightsError
    )
    assert text.startswith("fc.weight of the network holds values that are no finite numbers")


def test_an_empty_set_of_plugins_says_what_to_install(install: Callable[..., None]) -> None:
    install()
    text = message(lambda: prunecore.prune(Net(), level=50, input_shape=SHAPE), UnsupportedError)
    assert "(Conv2d)" in text or "(Sequential)" in text


def test_an_owner_that_writes_something_wrong_is_caught(
    install: Callable[..., None], toy: ModuleType, model: Net
) -> None:
    """A plugin that writes another stride: shapes agree, values do not."""
    wrong = ModuleType("wrong")
    vars(wrong).update({k: v for k, v in vars(toy).items() if k.startswith("prunecore_")})

    @hookimpl
    def prunecore_write_block(block: Any, name: str, writer: Any) -> Any:
        source = toy.prunecore_write_block(block=block, name=name, writer=writer)
        if isinstance(block, nn.ReLU):
            return prunecore.plugin.BlockSource(prunecore.plugin.Call("nn.LeakyReLU", (0.001,)))
        return source

    wrong.prunecore_write_block = prunecore_write_block  # type: ignore[attr-defined]
    install(wrong=wrong)
    text = message(
        lambda: prunecore.prune(model, level=50, input_shape=SHAPE), prunecore.VerificationError
    )
    assert "differs from the masked original by" in text
    assert "relative, first at body." in text


@pytest.mark.parametrize("name", ["nn", "torch", "Tensor", "F", "interleaved"])
def test_a_name_of_the_file_s_own_cannot_be_the_factory_s(name: str) -> None:
    with pytest.raises(UsageError, match="is one of the file's own"):
        prunecore.prune(nn.ReLU(), level=50, input_shape=(3,), name=name)
