"""Calibration images of every source, and what is wrong with some."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, TensorDataset

from prunecore.calibration import Calibration
from prunecore.errors import UsageError
from prunecore.files.images import calibration_images
from prunecore.inputs import of_shape

from ..strangers import message

INPUTS = of_shape((3, 4, 6))


def read(images: Any, shape: tuple[int, ...] = (3, 4, 6), **options: Any) -> Any:
    return calibration_images(Calibration(images, **options), of_shape(shape))


def refused(images: Any, shape: tuple[int, ...] = (3, 4, 6), **options: Any) -> str:
    return message(lambda: read(images, shape, **options), UsageError)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Five images of several sizes and kinds, in folders."""
    random = np.random.default_rng(0)
    (tmp_path / "cats").mkdir()
    for number, size in enumerate([(4, 6), (8, 12), (10, 6), (4, 9)]):
        values = random.integers(0, 256, (*size, 3), dtype=np.uint8)
        Image.fromarray(values).save(tmp_path / "cats" / f"{number}.png")
    Image.fromarray(random.integers(0, 256, (5, 7), dtype=np.uint8)).save(tmp_path / "grey.JPG")
    (tmp_path / "notes.txt").write_text("no image")
    return tmp_path


def test_a_tensor_s_images_are_drawn_by_the_seed() -> None:
    images = torch.rand(20, 3, 4, 6)
    first, again = read(images, number=5), read(images, number=5)
    assert first.tensor.equal(again.tensor)
    assert first.tensor.shape == (5, 3, 4, 6)
    assert not first.tensor.equal(read(images, number=5, seed=1).tensor)
    assert first.digest == again.digest != read(images, number=6).digest


def test_all_are_taken_where_there_are_no_more() -> None:
    images = torch.rand(4, 3, 4, 6)
    assert read(images).tensor.equal(images)


def test_batches_without_their_labels() -> None:
    images, labels = torch.rand(10, 3, 4, 6), torch.zeros(10)
    loader = DataLoader(TensorDataset(images, labels), batch_size=4)
    assert read(loader, number=6).tensor.equal(images[:6])
    assert read([images[:2], [images[2:3], "label"]]).tensor.equal(images[:3])


@pytest.mark.parametrize("kind", [list, tuple])
def test_a_single_batch_with_its_labels(kind: type) -> None:
    images = torch.rand(10, 3, 4, 6)
    assert read(kind([images, torch.zeros(10)])).tensor.equal(images)
    assert read(kind([images, torch.zeros(10, 4, 6)])).tensor.equal(images)
    assert len(read(kind([images, images])).tensor) == 20


def test_a_square_size_is_one_number(folder: Path) -> None:
    assert read(folder, (3, 5, 5), size=5).tensor.equal(read(folder, (3, 5, 5)).tensor)


def test_a_folder_is_resized_cut_and_normalised(folder: Path) -> None:
    found = read(folder, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    assert found.tensor.shape == (5, 3, 4, 6)
    assert found.skipped == 0
    assert 0 <= found.tensor.min() <= found.tensor.max() <= 1
    exact = np.asarray(Image.open(folder / "cats/0.png"), dtype=np.float32) / 255
    rows = [row for row in found.tensor if row.permute(1, 2, 0).numpy().shape == exact.shape]
    assert any(np.allclose(row.permute(1, 2, 0).numpy(), exact) for row in rows)
    usual = read(folder)
    mean = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
    std = torch.tensor([0.229, 0.224, 0.225])[:, None, None]
    torch.testing.assert_close(usual.tensor, (found.tensor - mean) / std)
    assert read(folder, number=2).tensor.shape[0] == 2


def test_grey_images_for_one_channel(folder: Path) -> None:
    assert read(folder, (1, 4, 6)).tensor.shape == (5, 1, 4, 6)


def test_a_file_that_is_no_image_is_left_out_and_counted(folder: Path) -> None:
    (folder / "broken.png").write_bytes(b"\x89PNG but no more")
    assert read(folder).skipped == 1


@pytest.mark.parametrize(
    ("images", "options", "told"),
    [
        (
            torch.rand(3, 3, 5, 6),
            {},
            "of shape (3, 5, 6), and the network is given inputs of shape",
        ),
        (torch.rand(0, 3, 4, 6), {}, "There are no calibration images"),
        (torch.zeros(3, 3, 4, 6, dtype=torch.uint8), {}, "torch.uint8, not of floating point"),
        (torch.full((3, 3, 4, 6), float("nan")), {}, "Calibration image 0 holds values"),
        ([], {}, "There are no calibration images"),
        (["a"], {}, "is 'a', not a tensor"),
        (3, {}, "a folder, a tensor or batches, not 3"),
        ({"image": torch.rand(3, 3, 4, 6)}, {}, "a folder, a tensor or batches, not {'image'"),
        (
            torch.rand(3, 4, 6),
            {},
            "of shape (3, 4, 6), without the axis of the batch.\nGive images",
        ),
        ([torch.rand(3, 4, 6)] * 2, {}, "of shape (n, 3, 4, 6): torch.stack(images) makes them of"),
        (torch.tensor(1.0), {}, "of shape (), and the network is given inputs of shape (3, 4, 6)."),
        (
            torch.rand(9, 4, 6),
            {},
            "(9, 4, 6), and the network is given inputs of shape (3, 4, 6).\n",
        ),
        (
            torch.rand(3, 3, 4, 6).numpy(),
            {},
            "images are a NumPy array, not a tensor.\nGive torch.",
        ),
        (
            [torch.rand(3, 3, 4, 6).numpy()],
            {},
            "A batch of the calibration images is a NumPy array",
        ),
        ([torch.rand(2, 3, 4, 6), torch.rand(2, 3, 5, 6)], {}, "of shape (3, 5, 6), and"),
        (torch.rand(3, 3, 4, 6), {"mean": (0.5, 0.5, 0.5)}, "mean of the calibration says how a"),
        ([torch.rand(3, 3, 4, 6)], {"size": 8}, "size of the calibration says how a folder's"),
        (torch.rand(3, 3, 4, 6), {"size": -3}, "size of the calibration is -3"),
        (torch.rand(3, 3, 4, 6), {"size": (4, 0)}, "size of the calibration is (4, 0)"),
        (torch.rand(3, 3, 4, 6), {"size": True}, "size of the calibration is True"),
        (torch.rand(3, 3, 4, 6), {"number": 1}, "is 1, not a whole number of at least 2"),
        (torch.rand(3, 3, 4, 6), {"number": True}, "is True, not a whole number"),
        ("nowhere", {}, "There is no folder nowhere"),
    ],
)
def test_what_is_refused(images: Any, options: dict[str, Any], told: str) -> None:
    assert told in refused(images, **options)


def test_a_folder_that_does_not_do(folder: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "holds no images" in refused(empty)
    assert refused(folder / "grey.JPG") == (
        f"{folder / 'grey.JPG'} is a file, and calibration images lie in a folder.\n"
        "Give the folder that it lies in."
    )
    assert "not grey or coloured images" in refused(folder, (5, 4, 6))
    assert "Images of size 5 x 5 do not fit" in refused(folder, size=(5, 5))
    assert "mean is (0.5,), and images have 3 channel(s)" in refused(folder, mean=(0.5,))
    assert "one positive number for each channel" in refused(folder, std=(1.0, 0.0, 1.0))
    for number in range(2):
        (empty / f"{number}.png").write_text("none")
    assert "2 of 2 images in" in refused(empty)


def test_a_network_of_several_inputs_is_not_calibrated() -> None:
    told = message(
        lambda: calibration_images(Calibration(torch.rand(3, 3)), of_shape([(3,), (4,)])),
        UsageError,
    )
    assert "The network takes more than one tensor of" in told
