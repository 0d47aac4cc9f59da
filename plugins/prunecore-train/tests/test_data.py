"""Images of every source come in parts that are apart, and some of their classes can be kept."""

from __future__ import annotations

import hashlib
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision.datasets
from PIL import Image

from prunecore.errors import UsageError
from prunecore_train import Data, DataConfig
from prunecore_train.images.data import Batches
from prunecore_train.images.subsets import _ADAPT, _SUPERCLASSES


def places(data: Data) -> dict[str, set[tuple[str, int]]]:
    return {
        name: {(own, place) for place in found.tolist()}
        for name, (own, found) in data.places.items()
    }


def test_parts_are_apart_and_of_each_class_a_share() -> None:
    data = Data(DataConfig(name="digits"))
    found = places(data)
    assert len(set.union(*found.values())) == sum(map(len, found.values())) == 1797
    assert [len(found[name]) for name in ("train", "val", "test")] == [1295, 143, 359]
    labels = data.source.labels["train"]
    counts = labels[data.places["test"][1]].bincount()
    assert all(abs(counts - 0.2 * labels.bincount()) <= 0.5)
    assert places(Data(DataConfig(name="digits"))) == found
    assert places(Data(DataConfig(name="digits", seed=1))) != found
    record = data.record()
    assert record["parts"]["test"]["images"] == 359
    assert record == Data(DataConfig(name="digits")).record()
    assert record["parts"] != Data(DataConfig(name="digits", seed=1)).record()["parts"]


def test_pairs_of_different_parts_are_of_other_digits() -> None:
    data = Data(DataConfig(name="digit-pairs", sub_classes=(7, 70, 77)))
    assert {name: own for name, (own, _) in data.places.items()} == {
        name: name for name in ("train", "val", "test")
    }
    assert data.kept == [7, 70, 77]
    images, labels = next(iter(data.train_dataloader()))
    assert images.shape == (64, 1, 10, 18)
    assert {*labels.tolist()} <= {7, 70, 77}


def test_each_epoch_has_an_order_of_its_own() -> None:
    batches = Batches(10, 4, seed=0, rank=0, ranks=1)
    first = [*batches]
    assert [*batches] == first
    assert [len(batch) for batch in first] == [4, 4]
    batches.set_epoch(1)
    assert [[place for _, place in batch] for batch in batches] != [
        [place for _, place in batch] for batch in first
    ]
    shared = [[*Batches(10, 4, seed=0, rank=rank, ranks=2)] for rank in range(2)]
    for whole, *parts in zip(first, *shared, strict=True):
        assert sorted(whole) == sorted([*parts[0], *parts[1]])
    assert [len(batch) for batch in Batches(10, 4, None, 0, 1)] == [4, 4, 2]


def test_labels_count_the_kept_classes_where_the_network_knows_no_others(job, run) -> None:
    model = {"arguments": {"num_classes": 3}}
    told = run("train", job(model=model, data={"sub_classes": [2, "5", 7]}), "--json").stdout
    record = json.loads(told)["data"]
    assert record["classes"] == ["2", "5", "7"]
    assert record["class_numbers"] == [2, 5, 7]
    run("train", job(data={"sub_classes": [2, 5, 7]}), "--output", "all")
    said = run("train", job(model={"arguments": {"num_classes": 4}}, data={"sub_classes": [2, 5]}),
               exit_code=2).stderr  # fmt: skip
    assert "tells 4 classes apart, and digits has 10, of which 2 are kept." in said


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """A folder of two classes, of images of several sizes."""
    random = np.random.default_rng(0)
    for name in ("cats", "dogs"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(8):
            pixels = random.integers(0, 256, (20 + number, 30, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{number}.png")
    return tmp_path / "photos"


def test_a_folder_is_parted(photographs: Path) -> None:
    data = Data(DataConfig(folder=photographs, size=(16, 12), batch_size=2))
    assert data.source.classes == ("cats", "dogs")
    images, labels = next(iter(data.train_dataloader()))
    assert images.shape == (2, 3, 16, 12)
    assert images.min() < 0
    assert labels.dtype == torch.int64


def test_a_folder_of_parts_is_taken_as_it_is(photographs: Path) -> None:
    for part in ("train", "test"):
        (photographs / part).mkdir()
    for name in ("cats", "dogs"):
        (photographs / name).rename(photographs / "train" / name)
        (photographs / "test" / name).mkdir()
        first = photographs / "train" / name / "0.png"
        first.rename(photographs / "test" / name / "0.png")
    data = Data(DataConfig(folder=photographs, size=(8, 8), batch_size=2))
    assert {name: (own, len(of)) for name, (own, of) in data.places.items()} == {
        "train": ("train", 12), "val": ("train", 2), "test": ("test", 2)
    }  # fmt: skip
    (photographs / "test/dogs").rename(photographs / "test/dog")
    with pytest.raises(UsageError, match="have not the same classes: dog is in one"):
        Data(DataConfig(folder=photographs))


def batches(folder: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A few images in the files of CIFAR, and their sums where torchvision looks for them."""
    made = getattr(torchvision.datasets, name)
    inside = folder / made.base_folder
    inside.mkdir(parents=True)
    many = name == "CIFAR100"
    random = np.random.default_rng(0)

    def write(file: str, content: dict[str, Any]) -> str:
        (inside / file).write_bytes(pickle.dumps(content))
        return hashlib.md5((inside / file).read_bytes()).hexdigest()

    def batch(file: str, count: int) -> list[str]:
        data = random.integers(0, 256, (count, 3072), dtype=np.uint8)
        labels = [number % (100 if many else 10) for number in range(count)]
        return [file, write(file, {"data": data, "fine_labels" if many else "labels": labels})]

    count = 300 if many else 60
    monkeypatch.setattr(made, "train_list", [batch("train", count)])
    monkeypatch.setattr(made, "test_list", [batch("test", count)])
    names = sorted(" ".join(_SUPERCLASSES.values()).split()) if many else [*"abcdefghij"]
    key = made.meta["key"]
    sums = {**made.meta, "md5": write(made.meta["filename"], {key: names})}
    monkeypatch.setattr(made, "meta", sums)


def test_torchvision_s_are_read_from_the_disk(tmp_path: Path, monkeypatch) -> None:
    batches(tmp_path, "CIFAR10", monkeypatch)
    data = Data(DataConfig(name="CIFAR10", root=tmp_path, batch_size=8))
    assert data.source.classes == tuple("abcdefghij")
    images, _ = next(iter(data.test_dataloader()))
    assert images.shape == (8, 3, 32, 32)
    assert {name: own for name, (own, _) in data.places.items()} == {
        "train": "train", "val": "train", "test": "test"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "count"),
    [("aquatic", 10), ("indoors", 15), ("natural", 40), ("random1", 65), ("subset1", 35),
     ("trees", 5)],
)  # fmt: skip
def test_subsets_of_cifar_100_are_known(
    name: str, count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches(tmp_path, "CIFAR100", monkeypatch)
    data = Data(DataConfig(name="CIFAR100", root=tmp_path, subset_name=name, batch_size=1))
    assert len(data.kept) == count
    assert data.record()["subset_name"] == name
    both = Data(
        DataConfig(name="CIFAR100", root=tmp_path, sub_classes=("trees", "lion", 0), batch_size=1)
    )
    with pytest.raises(UsageError, match=r"subset_name: Unknown subset .* 'trees'"):
        Data(DataConfig(name="CIFAR100", root=tmp_path, subset_name="tree"))
    with pytest.raises(UsageError, match=r"sub_classes: Unknown class .* 'lion'"):
        Data(DataConfig(name="CIFAR100", root=tmp_path, sub_classes=("lyon",)))
    assert [both.source.classes[number] for number in both.kept] == [
        "apple", "lion", "maple_tree", "oak_tree", "palm_tree", "pine_tree", "willow_tree"
    ]  # fmt: skip


def test_superclasses_have_five_classes_each() -> None:
    assert {len(members.split()) for members in _SUPERCLASSES.values()} == {5}
    assert len({*" ".join(_SUPERCLASSES.values()).split()}) == 100
    assert {*" ".join(_ADAPT.values()).split()} <= {*_SUPERCLASSES}


FACTORY = """\
import torch
from torch.utils.data import Dataset, TensorDataset


def blobs(count=60, classes=3):
    labels = torch.arange(count) % classes
    return TensorDataset(labels[:, None, None, None] + torch.rand(count, 1, 8, 8), labels)


def parts():
    return {"train": blobs(), "test": blobs(12)}


class Masks(Dataset):
    def __len__(self):
        return 40

    def __getitem__(self, place):
        image = torch.rand(1, 8, 8)  # another one each time
        return image, (image[0] > 0.5).long()


def network():
    return torch.nn.Conv2d(1, 2, 1)


def odd():
    return 3


def tests():
    return {"tests": blobs()}
"""


def test_a_factory_gives_one_data_set_or_several(job, run, folder: Path) -> None:
    (folder / "own.py").write_text(FACTORY)
    model, data = {"arguments": {"num_classes": 3}}, {"batch_size": 8}
    own = {**data, "name": "own.py:blobs", "arguments": {"count": 90}}
    record = json.loads(run("train", job(model=model, data=own), "--json").stdout)["data"]
    images = {name: part["images"] for name, part in record["parts"].items()}
    assert images == {"train": 66, "val": 6, "test": 18}
    several = job(model=model, data={**data, "name": "own.py:parts"})
    record = json.loads(run("train", several, "--output", "two", "--json").stdout)["data"]
    assert record["parts"]["test"]["of"] == "test"


def test_what_a_data_set_draws_is_drawn_again_by_a_run_that_goes_on(
    job, run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Masks are no classes: they are told apart by a loss."""
    from prunecore_train import Network

    (folder / "own.py").write_text(FACTORY)
    file = job(
        model={"name": "own.py:network"},
        data={"name": "own.py:Masks", "batch_size": 8},
        train={"epochs": 3},
    )
    whole = json.loads(run("train", file, "--output", "whole", "--json").stdout)
    assert whole["test"].keys() == {"loss"}
    begin = Network.on_train_epoch_start

    def killed(self: Network) -> None:
        if self.current_epoch == 1:
            raise KeyboardInterrupt
        begin(self)

    with monkeypatch.context() as patch:
        patch.setattr(Network, "on_train_epoch_start", killed)
        run("train", file, "--output", "part", exit_code=1)
    assert json.loads(run("train", file, "--output", "part", "--json").stdout) == whole


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ({"name": "digit"}, "Unknown data set 'digit'. Did you mean 'digits'?"),
        ({"name": "MNIST"}, "root: MNIST lies somewhere on the disk.\nGive data: root: FOLDER."),
        ({"name": "MNIST", "root": "none"}, "There is no MNIST at none.\nGive that which"),
        ({"name": "CIFAR100", "root": "none"}, "There is no CIFAR100 at none.\nGive that"),
        ({"name": "ImageNet", "root": "none"}, "There is no ImageNet at none.\nGive that"),
        ({"folder": "none"}, "There is no folder none.\nGive a folder of images."),
        ({"folder": "."}, ". has no images of each of its classes: "),
        ({"sub_classes": ["eleven"]}, "Unknown class 'eleven'."),
        ({"sub_classes": [11]}, "There is no class 11: classes are numbered from 0 to 9.\nGive"),
        ({"subset_name": "aquatic"}, "Unknown subset 'aquatic'.\nGive its classes beside it"),
        ({"name": "own.py:odd"}, "own.py:odd gives an int, not a data set.\nReturn one with __"),
        ({"name": "own.py:tests"}, "Unknown part of own.py:tests 'tests'. Did you mean 'test'?"),
        ({"name": "own.py:Masks", "sub_classes": [1]}, "own.py:Masks has no labels that are cl"),
        ({"name": "own.py:blobs", "arguments": {"count": 5}}, "part of own.py:blobs has no image"),
    ],
)
def test_what_is_wrong_is_said(data: dict[str, Any], says: str, folder: Path) -> None:
    (folder / "own.py").write_text(FACTORY)
    paths = {key: Path(value) for key, value in data.items() if key in ("root", "folder")}
    usual = {} if "folder" in data else {"name": "digits"}
    with pytest.raises(UsageError) as raised:
        Data(DataConfig(**{**usual, **data, **paths}))
    assert says in str(raised.value)
    assert str(raised.value).count("\n") <= 1
    assert sorted(path.name for path in folder.iterdir()) == ["net.py", "own.py"]


def test_the_parts_of_a_class_are_the_same_in_each_subset() -> None:
    whole, some = (
        Data(DataConfig(name="digits")),
        Data(DataConfig(name="digits", sub_classes=(3, 7))),
    )
    labels = whole.source.labels["train"]
    for part, (_, places) in some.places.items():
        of_all = whole.places[part][1]
        kept = of_all[torch.isin(labels[of_all], torch.tensor([3, 7]))]
        assert torch.equal(places, kept)
