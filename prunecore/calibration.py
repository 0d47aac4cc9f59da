"""Images without labels, for criteria that read some and for getting the accuracy back."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from torch import Tensor

# A folder of images, images of shape (n, ...), or batches of such: a list, or a DataLoader, whose
# labels are ignored.
Images: TypeAlias = "str | Path | Tensor | Iterable[Any]"


@dataclass(frozen=True)
class Calibration:
    """Images that the network is tried on; labels are not asked for.

    Attributes:
        images: a folder of images with all of its sub-folders, a tensor of shape `(n, ...)`, or
            batches of such, as a `DataLoader` gives them; of a batch with labels, or several of
            them, the first is taken.
        number: how many images are taken.
        size: height and width that images of a folder are resized to, of a square one number; those
            of the network's input where not given.
        mean: of each channel of a folder's images, taken off once values are scaled to 0 to 1;
            ImageNet's for three channels where not given, else 0.
        std: of each channel, that the rest is divided by; likewise, else 1.
        seed: of the choice of images from a folder or a tensor; of batches the first are taken.
    """

    images: Images
    number: int = 256
    size: int | tuple[int, int] | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    seed: int = 0
