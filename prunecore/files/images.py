"""Calibration images: from a folder, a tensor, or batches as a data loader gives them."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from prunecore.calibration import Calibration
from prunecore.errors import UsageError
from prunecore.escaping import shown, shown_value
from prunecore.files.paths import is_file, is_folder
from prunecore.inputs import Inputs
from prunecore.isolation.random_states import OwnDraws, kept_random_states

_SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"}
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # mean and deviation of each channel
_MOST_AT_ONCE = 64
_MOST_VALUES = 8 * 3 * 224 * 224  # of the images that run at a time
_ARRAY = "a NumPy array, not a tensor.\nGive torch.from_numpy(images)."
_MODES = {1: "L", 3: "RGB"}


@dataclass(frozen=True)
class CalibrationImages:
    """Images as the network takes them.

    Attributes:
        tensor: shape `(n, ...)`, float32.
        skipped: how many files of the folder could not be read.
    """

    tensor: Tensor
    skipped: int = 0

    def like(self, model: nn.Module) -> CalibrationImages:
        """The same where a network is, in the type of its weights; gradients may go through it."""
        weight = next((p for p in model.parameters() if p.is_floating_point()), None)
        tensor = self.tensor if weight is None else self.tensor.to(weight)
        with torch.inference_mode(mode=False):
            return replace(self, tensor=tensor.clone() if tensor.is_inference() else tensor)

    @property
    def batches(self) -> tuple[Tensor, ...]:
        """The images in parts that run at a time, with gradients too."""
        number = max(1, min(_MOST_AT_ONCE, _MOST_VALUES // max(1, self.tensor[0].numel())))
        return torch.split(self.tensor, number)

    @property
    def digest(self) -> str:
        """A hash of the images, for jobs that resume."""
        values = self.tensor.float().cpu().contiguous().numpy()
        return hashlib.sha256(values.tobytes()).hexdigest()


def calibration_images(calibration: Calibration, inputs: Inputs) -> CalibrationImages:
    """Read the images that a network is tried on: two at least, since some are held back.

    Args:
        calibration: what they are taken of, and how many.
        inputs: what the network is called with.

    Raises:
        UsageError: there are none, most cannot be read, or they are not as the network takes them.
    """
    number = calibration.number
    if not isinstance(number, int) or isinstance(number, bool) or number < 2:
        raise UsageError(
            f"The number of calibration images is {shown_value(number)}, not a whole number of at "
            "least 2.\nGive how many images to take, such as 256."
        )
    _check_reading(calibration)
    shape = inputs.image
    if shape is None:
        raise UsageError(
            "The network takes more than one tensor of floating point numbers, or another one, and "
            "calibration images are that.\nPrune without calibration."
        )
    found = _read_all(calibration, shape)
    if len(found.tensor) < 2:
        raise UsageError("There is but one calibration image.\nGive two at least.")
    return found


def _read_all(calibration: Calibration, shape: tuple[int, ...]) -> CalibrationImages:
    number, images = calibration.number, calibration.images
    if isinstance(images, str | Path):
        return _of_folder(Path(images), calibration, shape)
    for name in ("size", "mean", "std"):
        if getattr(calibration, name) is not None:
            raise UsageError(
                f"{name} of the calibration says how a folder's images are read, and these are not "
                "of a folder.\nLeave it out, and give images as the network takes them."
            )
    if isinstance(images, list | tuple) and _are_labelled(images, shape):
        images = images[0]
    if isinstance(images, Tensor):
        _check_shape(images, shape)
        chosen = _drawn(len(images), number, calibration.seed)
        return CalibrationImages(_checked(images[chosen], shape))
    if isinstance(images, np.ndarray):
        raise UsageError(f"Calibration images are {_ARRAY}")
    if not isinstance(images, Iterable) or isinstance(images, Mapping):
        raise UsageError(
            f"Calibration images are a folder, a tensor or batches, not {shown_value(images)}.\n"
            "Give a tensor of shape (n, ...), or a DataLoader."
        )
    with kept_random_states(), OwnDraws():  # a data loader draws, even in order
        return CalibrationImages(_of_batches(images, number, shape))


def _are_labelled(images: Sequence[Any], shape: tuple[int, ...]) -> bool:
    """True of a single batch with its labels, which have fewer axes than images of a shape."""
    return (
        len(images) > 1
        and all(isinstance(item, Tensor) for item in images[:2])
        and images[0].ndim == len(shape) + 1 > images[1].ndim
    )


def _check_reading(calibration: Calibration) -> None:
    """Refuse what says of no way to read images.

    Raises:
        UsageError: the size, mean, std or seed is of another kind.
    """
    for name, values, kinds, example in (
        ("size", _sides(calibration.size), int, "224, or (height, width) above 0: (224, 320)"),
        ("mean", calibration.mean, int | float, "one number for each channel: (0.5, 0.5, 0.5)"),
        ("std", calibration.std, int | float, "one number for each channel: (0.5, 0.5, 0.5)"),
    ):
        row = values if isinstance(values, list | tuple) else ()
        fits = bool(row) and all(isinstance(value, kinds) for value in row)
        if name == "size":
            fits = fits and len(row) == 2 and min(row) > 0
        if values is not None and not fits:
            given = getattr(calibration, name)
            raise UsageError(f"{name} of the calibration is {shown_value(given)}.\nGive {example}.")
    if not isinstance(calibration.seed, int) or isinstance(calibration.seed, bool):
        raise UsageError(
            f"seed of the calibration is {shown_value(calibration.seed)}, not a whole number.\n"
            "Give one, as seed=1."
        )


def _sides(size: Any) -> Any:
    """Height and width, of a square by one number."""
    return (size, size) if isinstance(size, int) and not isinstance(size, bool) else size


def _drawn(there: int, number: int, seed: int) -> Tensor:
    """Which of the images are taken, in ascending order."""
    order = torch.randperm(there, generator=torch.Generator().manual_seed(seed))
    return order[:number].sort().values


def _of_batches(batches: Iterable[Any], number: int, shape: tuple[int, ...]) -> Tensor:
    taken: list[Tensor] = []
    for batch in batches:
        first = batch
        while isinstance(first, list | tuple) and first:  # labels, if any, come after the images
            first = first[0]
        if isinstance(first, np.ndarray):
            raise UsageError(f"A batch of the calibration images is {_ARRAY}")
        if not isinstance(first, Tensor):
            raise UsageError(
                f"A batch of the calibration images is {shown_value(batch)}, not a tensor.\n"
                "Give batches of shape (n, ...), alone or as the first of a tuple."
            )
        taken.append(_checked(first, shape))
        if sum(map(len, taken)) >= number:
            break
    if not taken:
        raise UsageError("There are no calibration images.\nGive one batch at least.")
    return torch.cat(taken)[:number]


def _check_shape(images: Tensor, shape: tuple[int, ...]) -> None:
    """Refuse images that are not as large as the network's inputs.

    Raises:
        UsageError: they are of another shape; where that is of one alone, how to give several.
    """
    several = f"(n, {', '.join(map(str, shape))})"
    if tuple(images.shape) == shape:
        raise UsageError(
            f"A calibration image is of shape {shape}, without the axis of the batch.\nGive images "
            f"of shape {several}: torch.stack(images) makes them of a list of single ones."
        )
    if images.ndim != len(shape) + 1:
        raise UsageError(
            f"Calibration images are of shape {tuple(images.shape)}, and the network is given "
            f"inputs of shape {shape}.\nGive images of shape {several}."
        )
    if tuple(images.shape[1:]) != shape:
        raise UsageError(
            f"Calibration images are of shape {tuple(images.shape[1:])}, and the network is given "
            f"inputs of shape {shape}.\nResize them, or give that input shape."
        )


def _checked(images: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Images as the network takes them.

    Raises:
        UsageError: they are of another shape or type, or not finite.
    """
    _check_shape(images, shape)
    if len(images) == 0:
        raise UsageError("There are no calibration images.\nGive two at least.")
    if not images.is_floating_point():
        raise UsageError(
            f"Calibration images are of type {images.dtype}, not of floating point.\n"
            "Scale them as the network was trained on them."
        )
    finite = images.detach().flatten(1).isfinite().all(1)
    if not bool(finite.all()):
        first = int((~finite).nonzero()[0, 0])
        raise UsageError(
            f"Calibration image {first} holds values that are no finite numbers (NaN or "
            "infinity).\nLeave it out."
        )
    return images.detach().float()


def _of_folder(folder: Path, calibration: Calibration, shape: tuple[int, ...]) -> CalibrationImages:
    if is_file(folder):
        raise UsageError(
            f"{shown(folder)} is a file, and calibration images lie in a folder.\n"
            "Give the folder that it lies in."
        )
    if not is_folder(folder):
        raise UsageError(f"There is no folder {shown(folder)}.\nGive a folder of images.")
    if len(shape) != 3 or shape[0] not in _MODES:
        raise UsageError(
            f"The network takes inputs of shape {shape}, not grey or coloured images.\n"
            "Give calibration as a tensor of such inputs, in Python."
        )
    files = sorted(file for file in folder.rglob("*") if file.suffix.lower() in _SUFFIXES)
    if not files:
        raise UsageError(
            f"{shown(folder)} holds no images.\nImages end in {', '.join(sorted(_SUFFIXES))}."
        )
    order = torch.randperm(
        len(files), generator=torch.Generator().manual_seed(calibration.seed)
    ).tolist()
    size = _sides(calibration.size) or (shape[1], shape[2])
    if (shape[0], *size) != shape:
        raise UsageError(
            f"Images of size {size[0]} x {size[1]} do not fit the network's input of shape {shape}."
            "\nLeave the size out, or give the input shape that goes with it."
        )
    mean, std = _normalization(calibration, shape[0])
    read = ((_read(files[place], _MODES[shape[0]], size)) for place in order)
    rows: list[Tensor] = []
    skipped = 0
    for image in itertools.takewhile(lambda _: len(rows) < calibration.number, read):
        if image is None:
            skipped += 1
        else:
            rows.append((image - mean) / std)
    if not rows or skipped > len(rows):
        raise UsageError(
            f"{skipped} of {skipped + len(rows)} images in {shown(folder)} cannot be read.\n"
            "Give a folder of whole images."
        )
    return CalibrationImages(torch.stack(rows), skipped)


def _normalization(calibration: Calibration, channels: int) -> tuple[Tensor, Tensor]:
    """Mean and deviation of each channel, shape `(channels, 1, 1)`."""
    usual = _IMAGENET if channels == 3 else ((0.0,) * channels, (1.0,) * channels)
    rows = []
    for name, given, default in zip(
        ("mean", "std"), (calibration.mean, calibration.std), usual, strict=True
    ):
        values = default if given is None else tuple(given)
        if len(values) != channels or (name == "std" and min(values) <= 0):
            raise UsageError(
                f"{name} is {shown_value(values)}, and images have {channels} channel(s).\n"
                f"Give one {'positive ' * (name == 'std')}number for each channel."
            )
        rows.append(torch.tensor(values)[:, None, None])
    mean, std = rows
    return mean, std


def _read(file: Path, mode: str, size: tuple[int, int]) -> Tensor | None:
    """An image scaled to 0 to 1: its middle, as large as it can be; `None` for one that is none."""
    try:
        with Image.open(file) as opened:
            image = opened.convert(mode)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None  # what Pillow raises for files that are no images, or broken ones
    height, width = size
    scale = max(width / image.width, height / image.height)
    wide, high = max(width, round(image.width * scale)), max(height, round(image.height * scale))
    resized = image.resize((wide, high), Image.Resampling.BILINEAR)
    left, top = (wide - width) // 2, (high - height) // 2
    middle = resized.crop((left, top, left + width, top + height))
    values = np.asarray(middle, dtype=np.float32).reshape(height, width, -1) / 255
    return torch.from_numpy(values).permute(2, 0, 1)
