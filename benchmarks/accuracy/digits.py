"""Images of two handwritten digits side by side, those of prunecore-train's `digit-pairs`."""

from __future__ import annotations

from pathlib import Path

from task import IMAGES, Task

from prunecore_train.images.digit_pairs import SHAPE, pairs

_EPOCH = 12_000
TRAINING, TEST = slice(0, 1200), slice(1200, None)  # digits that pairs are made of


def digits() -> Task:
    """Pairs of digits; a network takes about 80 s of training on one core."""
    return Task(
        name="pairs of handwritten digits",
        shape=SHAPE,
        classes=100,
        epochs=9,
        epoch_length=_EPOCH,
        training=lambda seed, epoch: pairs(_EPOCH, TRAINING, 1000 * seed + epoch),
        calibration=pairs(IMAGES, TRAINING, 99)[0],
        test=pairs(3000, TEST, 7),
        folder=Path("build/quality"),
    )
