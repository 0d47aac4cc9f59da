"""MODEL names: torchvision's, a module's and a file's; user code that fails."""

from __future__ import annotations

import inspect
import os
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn
from torchvision import models as torchvision_models

from prunecore.channels.state_dicts import put_state
from prunecore.errors import PrunecoreError, UsageError
from prunecore.files.models import (
    _torchvision_builder,
    factory_name,
    file_of,
    input_shape_of,
    is_filled,
    load_model,
    load_structure,
    load_unfilled,
)

Write = Callable[..., str]

NET = """
from torch import nn

def net(width=3, *, bias=True):
    return nn.Linear(4, width, bias=bias)

def needs(width):
    return nn.Linear(4, width)

def passes(**arguments):
    return net(**arguments)

def number():
    return 3

def boom():
    raise ValueError("no such stage\\nmore")

def leaves():
    raise SystemExit(2)

class Net(nn.Module):
    def __init__(self, width: int = 2) -> None:
        super().__init__()
        self.fc = nn.Linear(4, width)

made = net()
"""


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Write a module into the current folder, and forget it in the end."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "modules", sys.modules.copy())
    monkeypatch.setattr(sys, "path", sys.path.copy())
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def write(text: str = NET, name: str = "own_nets.py") -> str:
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(textwrap.dedent(text), encoding="utf-8")
        return name

    return write


def test_a_torchvision_name() -> None:
    loaded = load_model("squeezenet1_1", {"num_classes": 7}, seed=0)
    assert type(loaded.model).__name__ == "SqueezeNet"
    assert loaded.model.classifier[1].out_channels == 7
    assert loaded.origin == "torchvision.models.squeezenet1_1"
    assert loaded.input_shape == (3, 224, 224)
    assert loaded.model.training


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("inception_v3", (3, 299, 299)),
        ("efficientnet_b1", (3, 240, 240)),
        ("fcn_resnet50", (3, 520, 520)),
        ("r3d_18", (3, 16, 112, 112)),
        ("s3d", (3, 16, 224, 224)),
        ("raft_small", (3, 224, 224)),
    ],
)
def test_the_input_shape_is_what_the_default_weights_were_evaluated_on(
    name: str, shape: tuple[int, ...]
) -> None:
    assert input_shape_of(name) == shape


@pytest.mark.parametrize("name", torchvision_models.list_models())
def test_every_torchvision_model_has_a_builder_and_an_input_shape(name: str) -> None:
    assert inspect.isfunction(_torchvision_builder(name))
    assert len(input_shape_of(name)) in (3, 4)


def test_a_backbone_is_not_downloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object, **__: object) -> None:
        raise AssertionError("nothing is to be downloaded")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", offline)
    with torch.device("meta"):
        loaded = load_model("lraspp_mobilenet_v3_large", {}, seed=0)
    assert loaded.origin == "torchvision.models.segmentation.lraspp_mobilenet_v3_large"


def test_a_file_s_factory(write: Write) -> None:
    loaded = load_model(f"{write()}:net", {"width": 5, "bias": False}, seed=0)
    assert loaded.model.weight.shape == (5, 4)
    assert loaded.model.bias is None
    assert loaded.origin == "own_nets.py:net"


def test_a_file_written_again_within_the_second(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    for bias in (True, False):  # which is of the same length
        text = f"from torch import nn\ndef net():\n    return nn.Linear(4, 3, bias={bias!s:5})\n"
        os.utime(write(text), (1, 1))
        assert (load_model("own_nets.py:net", {}, seed=0).model.bias is not None) == bias


def test_a_class_is_a_factory(write: Write) -> None:
    assert load_model(f"{write()}:Net", {}, seed=0).model.fc.out_features == 2


def test_a_file_elsewhere_may_import_what_lies_beside_it(write: Write) -> None:
    write("WIDTH = 9", "deep/beside_it.py")
    write("from beside_it import WIDTH\nfrom torch import nn", "deep/net-v2.py")
    with (Path.cwd() / "deep/net-v2.py").open("a") as file:
        file.write("\ndef net(): return nn.Linear(WIDTH, 1)")
    before = list(sys.path)
    loaded = load_model("deep/net-v2.py:net", {}, seed=0)
    assert loaded.model.in_features == 9
    assert loaded.origin == "net-v2.py:net"
    assert sys.path == before


def test_a_file_may_have_the_name_of_a_package(write: Write) -> None:
    loaded = load_model(f"{write(name='json.py')}:net", {}, seed=0)
    assert loaded.model.out_features == 3
    assert hasattr(sys.modules["json"], "loads")


def test_a_module_of_the_current_folder(write: Write) -> None:
    write("", "own_package/__init__.py")
    write(name="own_package/nets.py")
    loaded = load_model("own_package.nets:net", {}, seed=0)
    assert loaded.origin == "own_package.nets.net"


def test_the_file_of_a_function_is_found_without_running_it(write: Write) -> None:
    write("raise ValueError", "own_package/__init__.py")
    write("raise ValueError", "unread.py")
    assert file_of("unread.py:net") == Path("unread.py")
    assert file_of("unread:net") == Path("unread.py").absolute()
    for spec in ("gone.py:net", "gone:net", "own_package.nets:net", "sys:exit", "2:3", "resnet18"):
        assert file_of(spec) is None


def test_the_same_seed_gives_the_same_weights_and_touches_no_other_randomness(
    write: Write,
) -> None:
    spec = f"{write()}:net"
    state = torch.random.get_rng_state()
    first, second, other = (load_model(spec, {}, seed).model.weight for seed in (1, 1, 2))
    assert first.equal(second)
    assert not first.equal(other)
    assert torch.random.get_rng_state().equal(state)


@pytest.mark.parametrize("spec", ["own_nets.py", "own_nets.py:", "dir/own_nets.py"])
def test_a_file_alone_is_not_enough(spec: str) -> None:
    with pytest.raises(UsageError, match=r"Which factory of .*own_nets\.py\? Give .*:FACTORY"):
        factory_name(spec)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("resnet81", r"Unknown model 'resnet81'. Did you mean 'resnet18'\?\nKnown: alexnet, "),
        ("none.py:net", r"There is no file none.py"),
        ("own_none:net", r"There is no module own_none"),
        ("own_none.nets:net", r"There is no module own_none"),
        ("json.none:net", r"There is no module json.none"),
        ("a b:net", r"neither a Python module nor a file"),
        ("..x:net", r"neither a Python module nor a file"),
        ("own_nets.py:nett", r"Unknown factory of own_nets.py 'nett'. Did you mean 'net'\?"),
        ("own_nets.py:made", r"is a Linear, not a factory"),
        ("own_nets:__name__", r"is a str, not a factory"),
        ("own_nets.py:needs", r"takes width, which is not given.\n.*--model-arg"),
    ],
)
def test_a_model_that_is_not_there(write: Write, spec: str, message: str) -> None:
    write()
    with pytest.raises(UsageError, match=message):
        load_model(spec, {}, seed=0)


@pytest.mark.parametrize(
    ("spec", "argument", "message"),
    [
        ("own_nets.py:net", "widht", r"'widht'. Did you mean 'width'\?\nKnown: bias, width"),
        ("own_nets.py:passes", "widht", r"Unknown argument of own_nets.py:passes 'widht'"),
        ("resnet18", "num_clases", r"'num_clases'. Did you mean 'num_classes'\?"),
    ],
)
def test_an_argument_that_a_factory_does_not_take(
    write: Write, spec: str, argument: str, message: str
) -> None:
    write()
    with pytest.raises(UsageError, match=message):
        load_model(spec, {argument: 3}, seed=0)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            "own_nets.py:boom",
            r"cannot be made: ValueError: no such stage more\n.*own_nets\.py:17\.",
        ),
        ("own_nets:boom", r"cannot be made: ValueError: no such stage more\n.*own_nets\.py:17\."),
        ("own_nets.py:leaves", r"cannot be made: SystemExit: 2"),
        ("own_nets.py:number", r"returned an int, not a torch.nn.Module"),
    ],
)
def test_a_factory_that_fails(write: Write, spec: str, message: str) -> None:
    write()
    with pytest.raises(PrunecoreError, match=message) as caught:
        load_model(spec, {}, seed=0)
    assert caught.value.exit_code == 1
    assert str(caught.value).count("\n") == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("\n\nraise RuntimeError('no GPU')", r"RuntimeError: no GPU\n.*broken\.py:3\."),
        ("def f(:", r"SyntaxError: .*\n.*broken\.py:1\."),
        ("import own_none", r"ModuleNotFoundError: No module named 'own_none'\n.*broken\.py:1\."),
        ("import json\njson.loads('{')", r"JSONDecodeError: .*\n.*broken\.py:2\."),
        ("raise KeyError()", r"KeyError: no message\n.*broken\.py:1\."),
        ("import sys\nsys.exit()", r"SystemExit: .*\n.*broken\.py:2\."),
        ("raise GeneratorExit('no')", r"GeneratorExit: no\n.*broken\.py:1\."),
        ("class Own(BaseException): pass\nraise Own", r"Own: no message\n.*broken\.py:2\."),
        ("class Own(Exception):\n def __str__(self): raise self\nraise Own", "Own: no message\n"),
        ("raise SyntaxError(5)", r"SyntaxError: 5\n.*broken\.py:1\."),
        ("raise ModuleNotFoundError(name=3)", r"ModuleNotFoundError: no message\n"),
        ("raise ValueError('\\x1b[31m\\nred')", r"ValueError: \\x1b\[31m red\n"),
        ("raise ValueError('much ' * 10**5)", r"ValueError: much much.*\.\.\..* much\n"),
        ("x = 1\0", r"(SyntaxError|ValueError): .*null bytes.*\n"),
        ("import sys\nsys.path.clear()\nraise ValueError", r"ValueError: no message\n"),
    ],
)
@pytest.mark.parametrize("place", ["broken.py", "broken"])
def test_code_that_raises_on_import(write: Write, text: str, message: str, place: str) -> None:
    write(text, "broken.py")
    with pytest.raises(PrunecoreError, match=f"{place} cannot be imported: {message}") as caught:
        load_model(f"{place}:net", {}, seed=0)
    assert caught.value.exit_code == 1
    assert str(caught.value).count("\n") == 1
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("text", ["raise KeyboardInterrupt", "def net(): raise KeyboardInterrupt"])
def test_an_interrupt_stops_the_program(write: Write, text: str) -> None:
    write(text, "broken.py")
    with pytest.raises(KeyboardInterrupt):
        load_model("broken.py:net", {}, seed=0)


def test_a_module_that_cannot_be_asked_for_its_factory(write: Write) -> None:
    write("def __getattr__(name): raise ValueError('not here')", "broken.py")
    with pytest.raises(PrunecoreError, match=r"broken.py cannot be asked for net: ValueError: not"):
        load_model("broken.py:net", {}, seed=0)


def test_a_factory_that_has_no_signature_is_called(write: Write) -> None:
    write(
        "from torch import nn\n"
        "class Refusing(type):\n"
        "    __signature__ = property(lambda cls: 1 / 0)\n"
        "class Net(metaclass=Refusing): pass\n",
        "unsigned.py",
    )
    with pytest.raises(PrunecoreError, match=r"builtins:dict returned a dict, not a torch"):
        load_model("builtins:dict", {"width": 3}, seed=0)
    with pytest.raises(PrunecoreError, match=r"asked for its arguments: ZeroDivisionError"):
        load_model("unsigned.py:Net", {}, seed=0)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("own_nets.py:a b", "'a b' cannot be the name of a factory"),
        ("own_nets.py:net\0", r"'net\\x00' cannot be the name of a factory"),
        ("own_nets.py:\ud800", r"'\\ud800' cannot be the name of a factory"),
        ("own\0nets.py:net", r"own\\x00nets.py cannot be a path"),
        ("a" * 999 + ".py:net", r"^Cannot reach a+\.\.\.a+\.py: File name too long"),
        (f"{'a' * 99_999}:net", r"^There is no module a+\.\.\.a+\."),
        ("a" * 99_999, r"^Unknown model 'a+\.\.\.a+'\."),
        ("folder.py:net", "There is no file folder.py"),
        ("pipe.py:net", "There is no file pipe.py"),
    ],
)
def test_a_model_that_cannot_be_one(write: Write, spec: str, message: str) -> None:
    write()
    Path("folder.py").mkdir()
    os.mkfifo("pipe.py")
    with pytest.raises(UsageError, match=message) as caught:
        load_model(spec, {}, seed=0)
    assert len(str(caught.value)) < 600


def test_a_structure_has_no_storage() -> None:
    loaded = load_structure("resnet18", {"num_classes": 3})
    assert {parameter.device.type for parameter in loaded.model.parameters()} == {"meta"}
    assert load_model("resnet18", {}, 0).model.get_parameter("fc.weight").device.type == "cpu"


def test_a_parameter_of_two_names_is_one_without_storage(write: Write) -> None:
    write(
        "from torch import nn\n"
        "def net():\n"
        "    net = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))\n"
        "    net[1].weight = net[0].weight\n"
        "    return net",
        "tied.py",
    )
    assert len(list(load_structure("tied.py:net", {}).model.parameters())) == 3


def test_a_factory_that_computes_with_values_is_called_with_values(tmp_path: Path) -> None:
    file = tmp_path / "nets.py"
    file.write_text(
        "import torch\n"
        "def net():\n"
        "    net = torch.nn.Linear(3, 2)\n"
        "    net.scale = float(net.weight.sum())\n"
        "    return net\n"
    )
    loaded = load_structure(f"{file}:net", {})
    assert loaded.model.get_parameter("weight").device.type == "cpu"


DRAWING = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, seeded=False):
        super().__init__()
        if seeded:
            torch.manual_seed(3)
        self.fc = nn.Linear(3, 4)
        self.token = nn.Parameter(torch.randn(4))
        self.order = torch.randperm(50).tolist()
        self.register_buffer("phases", torch.rand(4), persistent=False)

def plain():
    return nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.Linear(3, 3))

def forked():
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return Net()

def doubled():
    net = plain()
    net[0].twice = [2 * net[0].weight.detach()]
    return net

def given():
    weight = nn.Parameter(torch.ones(3, 3))
    net = plain()
    net[2].weight = weight
    net[2].again = weight
    return net
"""


def test_what_a_file_gives_is_not_made(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = write(DRAWING)
    called: list[object] = []
    monkeypatch.setattr(nn.init, "kaiming_uniform_", lambda *_, **__: called.append(_[0].device))
    model = load_unfilled(f"{spec}:plain", {}, seed=0).model
    assert {parameter.is_meta for parameter in model.parameters()} == {True}
    assert {buffer.is_meta for buffer in model.buffers()} == {False}
    assert [str(device) for device in called] == ["meta", "meta"]
    assert not is_filled(model)


@pytest.mark.parametrize("factory", ["Net", "forked"])
@pytest.mark.parametrize("arguments", [{}, {"seeded": True}])
def test_what_no_file_gives_is_drawn_as_beside_weights(
    write: Write, factory: str, arguments: dict[str, bool]
) -> None:
    spec, given = f"{write(DRAWING)}:{factory}", arguments if factory == "Net" else {}
    ours, theirs = load_unfilled(spec, given, 7).model, load_model(spec, given, 7).model
    assert ours.order == theirs.order
    assert torch.equal(ours.get_buffer("phases"), theirs.get_buffer("phases"))


def test_what_is_computed_of_parameters_is_not_filled(write: Write) -> None:
    spec = write(DRAWING)
    model = load_unfilled(f"{spec}:doubled", {}, 0).model
    put_state(model, load_model(f"{spec}:doubled", {}, 0).model.state_dict())
    assert not is_filled(model)


def test_a_parameter_that_was_made_before_stays_one(write: Write) -> None:
    model = load_unfilled(f"{write(DRAWING)}:given", {}, 0).model
    assert model[2].weight is model[2].again


def test_examples_beside_a_factory(write: Write) -> None:
    text = NET + "\nimport torch\ndef example_inputs():\n    return {'x': torch.rand(2, 4)}\n"
    examples = load_model(write(text) + ":net", {}, seed=0).examples
    assert examples is not None
    assert examples().shapes == ((4,),)
    first, second = examples().examples, examples().examples
    assert first is not None
    assert second is not None
    assert torch.equal(first[0], second[0])
    assert load_model(write() + ":net", {}, seed=0).examples is None


@pytest.mark.parametrize(
    ("returned", "error", "message"),
    [
        ("3", UsageError, "own_nets.py:example_inputs: example_inputs is an int"),
        ("torch.rand(0, 4)", UsageError, "own_nets.py:example_inputs: Example input 0 has the"),
        ("boom()", PrunecoreError, "own_nets.py:example_inputs: ValueError: no such stage"),
    ],
)
def test_what_are_no_examples(
    write: Write, returned: str, error: type[PrunecoreError], message: str
) -> None:
    text = f"{NET}\nimport torch\ndef example_inputs():\n    return {returned}\n"
    examples = load_model(write(text) + ":net", {}, seed=0).examples
    assert examples is not None
    with pytest.raises(error, match=message):
        examples()
