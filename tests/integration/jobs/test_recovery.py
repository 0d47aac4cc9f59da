"""Networks that are pruned with images agree with their originals, and stay proven."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import prunecore
from prunecore.cli.main import main
from prunecore.cli.tables import few_lines, undone_lines
from prunecore.errors import UsageError, WeightsError
from prunecore.recovery import steps
from prunecore.recovery.agreement import Agreement

from ...strangers import message

SHAPE = (3, 8, 8)


class Net(nn.Module):
    """A stem, a residual block, a depthwise layer and a head, with norms or without."""

    def __init__(self, norms: bool = True) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 12, 3, padding=1, bias=not norms)
        self.bn1 = nn.BatchNorm2d(12) if norms else nn.Identity()
        self.conv1 = nn.Conv2d(12, 16, 3, padding=1, bias=not norms)
        self.bn2 = nn.BatchNorm2d(16) if norms else nn.Identity()
        self.depthwise = nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.conv2 = nn.Conv2d(16, 12, 1, bias=not norms)
        self.bn3 = nn.BatchNorm2d(12) if norms else nn.Identity()
        self.fc = nn.Linear(12 * 16, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.bn1(self.stem(x)))
        y = torch.relu(self.bn2(self.conv1(x)))
        y = self.bn3(self.conv2(torch.relu(self.depthwise(y))))
        x = nn.functional.avg_pool2d(torch.relu(x + y), 2)
        return self.fc(x.flatten(1))


@pytest.fixture(params=[True, False], ids=["norms", "biases"])
def model(request: pytest.FixtureRequest) -> nn.Module:
    """A network that has seen some data."""
    torch.manual_seed(0)
    network = Net(request.param).train()
    with torch.no_grad():
        for _ in range(20):
            network(images(64, seed=5))
    return network.eval()


def images(number: int, seed: int = 0) -> Tensor:
    """Images of few degrees of freedom, as natural ones are."""
    random = torch.Generator().manual_seed(seed)
    small = torch.randn(number, 3, 3, 3, generator=random)
    return nn.functional.interpolate(small, size=8, mode="bilinear")


def error(model: nn.Module, small: nn.Module) -> float:
    """On images that nothing was fitted on, relative."""
    x = images(200, seed=9)
    with torch.no_grad():
        expected, actual = model(x), small.eval()(x)
    return float((actual - expected).norm() / expected.norm())


def test_a_refit_makes_up_for_most(model: nn.Module) -> None:
    x = images(160)
    before = copy.deepcopy(model.state_dict())
    traced = prunecore.trace(model, input_shape=SHAPE, calibration=x)
    cut = traced.prune(40, recover=())
    refitted = traced.prune(40)
    assert cut.source == refitted.source
    assert cut.weights.keys() == refitted.weights.keys()
    assert error(model, refitted.model) < 0.7 * error(model, cut.model)
    (step,) = refitted.report["recovered"]
    assert step["step"] == "refit"
    assert (step["images"], step["held_back"], step["undone"]) == (140, 20, False)
    assert step["error"][1] < step["error"][0]
    assert "fc.weight" in step["changed"]
    assert refitted.report["verified"] == cut.report["verified"]
    assert all(before[name].equal(tensor) for name, tensor in model.state_dict().items())
    for name, tensor in refitted.model.state_dict().items():
        assert tensor.equal(refitted.weights[name])


class Same(nn.Conv2d):
    """Pads what it reads by itself, as TensorFlow's layers do."""

    def forward(self, x: Tensor) -> Tensor:
        sides = [side for width in self.kernel_size[::-1] for side in [width // 2] * 2]
        x = nn.functional.pad(x, sides)
        return nn.functional.conv2d(x, self.weight, self.bias, groups=self.groups)


@pytest.mark.parametrize("mode", ["surgeon", "reconstruction"])
def test_convolutions_of_ones_own_are_scored_and_refitted_as_those_of_torch(
    model: nn.Module, mode: str
) -> None:
    other = copy.deepcopy(model)
    for path, layer in model.named_children():
        if isinstance(layer, nn.Conv2d):
            same = Same(
                layer.in_channels,
                layer.out_channels,
                layer.kernel_size,  # type: ignore[arg-type] # of two axes
                groups=layer.groups,
                bias=layer.bias is not None,
            )
            same.load_state_dict(layer.state_dict())
            setattr(other, path, same)
    smalls = []
    for network in (model, other):
        traced = prunecore.trace(network, input_shape=SHAPE, calibration=images(160))
        smalls.append(traced.prune(40, mode=mode))
    first, second = (small.report["recovered"][0]["changed"] for small in smalls)
    assert first == second
    assert "depthwise.weight" in first
    assert (smalls[0].plan.kept == smalls[1].plan.kept).all()
    for name, tensor in smalls[0].weights.items():
        torch.testing.assert_close(tensor, smalls[1].weights[name], rtol=1e-3, atol=1e-4)


def test_the_same_images_and_seed_give_the_same_bytes(model: nn.Module, tmp_path: Path) -> None:
    texts = []
    for number in range(2):
        small = prunecore.prune(
            model, level=40, input_shape=SHAPE, calibration=images(64), name="net"
        )
        files = small.save(tmp_path / str(number) / "net.py")
        texts.append([file.read_bytes() for file in files])
    assert texts[0] == texts[1]


def test_a_refitted_set_is_still_proven(model: nn.Module, tmp_path: Path) -> None:
    small = prunecore.prune(model, level=40, input_shape=SHAPE, calibration=images(160), name="net")
    file = tmp_path / "net_40.py"
    small.save(file)
    found = prunecore.verify(file, model)
    assert found.max_relative_difference <= 1e-9
    assert set(found.recovered) == set(small.report["recovered"][0]["changed"])
    other = copy.deepcopy(model)
    with torch.no_grad():
        other.get_parameter("depthwise.weight").mul_(2)
    assert prunecore.verify(file, other).recovered  # what is compared is what is cut of it


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_refitted_tensors_that_are_not_finite_are_named(tmp_path: Path, value: float) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    small = prunecore.prune(
        network, level=40, input_shape=(6,), calibration=torch.randn(64, 6), name="net"
    )
    assert "2.weight" in small.report["recovered"][0]["changed"]
    small.weights["2.weight"][1, 0] = value
    small.save(tmp_path / "net_40.py")
    told = message(lambda: prunecore.verify(tmp_path / "net_40.py", network), WeightsError)
    assert "net_40.safetensors, 2.weight holds values that are no finite numbers" in told


def test_a_step_that_harms_is_undone(model: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    def harm(networks: steps.Networks, _images: Tensor, _seed: int) -> list[str]:
        with torch.no_grad():
            networks.small.get_parameter("fc.weight").zero_()
        return ["fc.weight"]

    monkeypatch.setitem(steps.STEPS, "batch-norm", harm)  # type: ignore[arg-type]
    traced = prunecore.trace(model, input_shape=SHAPE, calibration=images(160))
    small = traced.prune(40, recover=["refit", "batch-norm"])
    first, second = small.report["recovered"]
    assert (first["undone"], second["undone"]) == (False, True)
    assert second["error"][0] == first["error"][1] < second["error"][1]
    assert small.weights["fc.weight"].any()
    assert small.weights["fc.weight"].equal(traced.prune(40).weights["fc.weight"])
    assert (second["changed"], len(first["changed"]) > 1) == ([], True)
    (line,) = undone_lines(small.report)
    assert line.startswith("Undone: batch-norm. On 20 images held back, net then agreed with its ")
    assert line.endswith(" before). More calibration images tell more surely.")
    assert few_lines(small.report) == []


def test_a_step_stays_that_one_of_few_images_speaks_against(
    model: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = iter([Agreement(1.0, 0.4964), Agreement(5 / 6, 0.02751)])
    monkeypatch.setattr(steps, "agreement", lambda *_: next(found))
    small = prunecore.prune(model, level=40, input_shape=SHAPE, calibration=images(48), name="net")
    (step,) = small.report["recovered"]
    assert (step["held_back"], step["undone"]) == (6, False)
    assert step["standard_error"] == pytest.approx(0.2257, abs=1e-3)
    assert few_lines(small.report) == [
        "Note: net is compared with its original on 6 images held back: the agreement may be off "
        "by 23 points. More calibration images tell more surely."
    ]


def test_a_layer_that_is_called_twice_stays_as_it_is_cut() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Linear(6, 8)
            self.again = nn.Linear(8, 8)
            self.last = nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(self.again(torch.relu(self.again(torch.relu(self.first(x))))))

    torch.manual_seed(0)
    small = prunecore.prune(Twice(), level=40, input_shape=(6,), calibration=torch.randn(64, 6))
    changed = small.report["recovered"][0]["changed"]
    assert "again.weight" not in changed
    assert "last.weight" in changed


def test_half_precision_is_refitted_in_its_own_type(model: nn.Module) -> None:
    half = copy.deepcopy(model).to(torch.bfloat16)
    small = prunecore.prune(half, level=40, input_shape=SHAPE, calibration=images(64))
    assert {tensor.dtype for tensor in small.model.parameters()} == {torch.bfloat16}


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"recover": ["refit"]}, "The step refit reads images, and none are given"),
        ({"recover": ["refitt"]}, "Unknown step of recovery 'refitt'"),
        ({"mode": "surgeon"}, "Mode 'surgeon' reads images, and none are given"),
        ({"calibration": torch.rand(4, 3, 9, 8)}, "of shape (3, 9, 8)"),
    ],
)
def test_what_is_refused(options: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError) as raised:
        prunecore.prune(Net(), level=40, input_shape=SHAPE, **options)
    assert told in str(raised.value)


def test_images_in_a_folder_on_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    random = np.random.default_rng(0)
    (tmp_path / "images").mkdir()
    for number in range(24):
        values = random.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(values).save(tmp_path / "images" / f"{number}.png")
    (tmp_path / "images/broken.png").write_text("none")
    (tmp_path / "nets.py").write_text(
        "import torch\nfrom torch import nn\n\n\ndef net():\n"
        "    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(288, 4))\n"
        "\n\ndef images():\n    return torch.rand(20, 3, 8, 8)\n"
    )
    monkeypatch.chdir(tmp_path)
    asked = ["nets.py:net", "--input-shape", "3,8,8", "--level", "40", "--force"]
    main(["prune", *asked, "--calibrate", "images"], standalone_mode=False)
    shown = capsys.readouterr()
    assert "Warning: 1 calibration images cannot be read: left out." in shown.err
    assert "agreement" in shown.out
    report = json.loads((tmp_path / "net_40.json").read_text())
    assert report["mode"] == "surgeon"
    assert report["recovered"][0]["images"] == 21
    main(["verify", "net_40.py", "nets.py:net"], standalone_mode=False)
    assert (
        "That proves the file with the weights of nets.py:net as they were cut. "
        f"{len(report['recovered'][0]['changed'])} tensors were refitted, estimated anew or "
        "trained afterwards: they are finite, and not compared.\n"
    ) in capsys.readouterr().out

    (tmp_path / "job.yaml").write_text(
        "model: {name: nets.py:net, input_shape: [3, 8, 8]}\n"
        "calibration: {images: 'nets.py:images', number: 16, seed: 1}\n"
        "pruner: {pruning_perc: [30], recover: [refit]}\n"
    )
    main(["prune", "--config", "job.yaml", "--force"], standalone_mode=False)
    report = json.loads((tmp_path / "net_30.json").read_text())
    assert [(step["step"], step["images"]) for step in report["recovered"]] == [("refit", 14)]


def test_a_calibration_section_without_images(tmp_path: Path) -> None:
    from prunecore.files.config import read_config

    (tmp_path / "job.yaml").write_text("calibration: {number: 16}\n")
    told = message(lambda: read_config(tmp_path / "job.yaml"), UsageError)
    assert "images are missing" in told


@pytest.fixture
def normed() -> nn.Module:
    """A network with batch norms that has seen some data."""
    torch.manual_seed(0)
    network = Net().train()
    with torch.no_grad():
        for _ in range(60):
            network(images(64, seed=5))
    return network.eval()


def test_without_images_statistics_make_up_for_some(normed: nn.Module) -> None:
    before = copy.deepcopy(normed.state_dict())
    traced = prunecore.trace(normed, input_shape=SHAPE)
    cut, free = traced.prune(30), traced.prune(30, recover=["data-free"])
    assert error(normed, free.model) < 0.7 * error(normed, cut.model)
    (step,) = free.report["recovered"]
    assert (step["step"], step["undone"]) == ("data-free", False)
    assert "conv1.weight" in step["changed"]
    for name, tensor in cut.weights.items():
        if name.endswith(("running_var", "bn1.weight", "bn1.bias")):
            assert tensor.equal(free.weights[name])
    assert all(before[name].equal(tensor) for name, tensor in normed.state_dict().items())
    again = traced.prune(30, recover="data-free")  # nothing of the first is left in the original
    assert all(tensor.equal(free.weights[name]) for name, tensor in again.weights.items())


def test_a_step_without_images_that_harms_leaves_the_cut_weights(
    normed: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    def harm(
        networks: steps.Networks, _images: Tensor, _seed: int, ridges: tuple[float]
    ) -> list[str]:
        with torch.no_grad():
            networks.small.get_parameter("fc.weight").fill_(ridges[0])
            networks.small.get_buffer("bn1.running_mean").fill_(100)
        return ["fc.weight", "bn1.running_mean"]

    monkeypatch.setattr("prunecore.recovery.data_free.refit", harm)
    traced = prunecore.trace(normed, input_shape=SHAPE)
    cut, free = traced.prune(30), traced.prune(30, recover="data-free")
    assert free.report["recovered"][0]["undone"]
    assert all(tensor.equal(free.weights[name]) for name, tensor in cut.weights.items())


def test_without_batch_norms_images_are_asked_for() -> None:
    said = message(
        lambda: prunecore.prune(Net(norms=False), level=30, input_shape=SHAPE, recover="data-free"),
        UsageError,
    )
    assert said == (
        "The step data-free reads the statistics of batch norms, and the network has none.\n"
        "Give images: --calibrate FOLDER, or calibration= in Python."
    )


def test_without_batch_norms_their_statistics_are_not_estimated() -> None:
    said = message(
        lambda: prunecore.prune(
            Net(norms=False),
            level=30,
            input_shape=SHAPE,
            calibration=images(16),
            recover="batch-norm",
        ),
        UsageError,
    )
    assert said == (
        "The step batch-norm estimates statistics of batch norms, and the network has none.\n"
        "Leave it out."
    )


def test_a_step_without_images_goes_with_no_other(normed: nn.Module) -> None:
    with pytest.raises(UsageError, match="goes with no other"):
        prunecore.prune(
            normed,
            level=30,
            input_shape=SHAPE,
            calibration=images(16),
            recover=["data-free", "refit"],
        )


def test_a_step_without_images_is_for_one_input() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(4, 8), nn.Linear(4, 8)
            self.norm, self.last = nn.BatchNorm1d(8), nn.Linear(8, 3)

        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return self.last(self.norm(self.first(x) + self.second(y)))

    with pytest.raises(UsageError, match="take one tensor of floating point numbers"):
        prunecore.prune(
            Two().eval(), level=30, input_shape=[(4,), (4,)], recover="data-free", verify=False
        )
