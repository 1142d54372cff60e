"""Prepare MNIST: binarize the images of handwritten digits, and write them as shards.

A binarized image is what binary models are scored on. Each pixel is 1 with the probability of its gray value, drawn
once by a fixed seed; or it is read from the files that most papers score on (Larochelle and Murray, 2011, after
Salakhutdinov and Murray, 2008). Scores on both are close but not the same, so a result says which images it is of.

The last 10,000 of the 60,000 training images are for validation, by custom.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from data_prep.idx import COLUMNS, PIXELS, ROWS, find_file, read_amat, read_images, read_labels
from zfaudio.command import run_command
from zfaudio.data.frame_shards import write_frame_shards
from zfaudio.data.shard_format import FramedUtterance
from zfaudio.errors import UserError
from zfaudio.seeds import derive_seed

UNKNOWN = "unknown"  # the label of an image that has none


@dataclass(frozen=True)
class Digits:
    """Images of a split with their labels."""

    pixels: NDArray[np.uint8]  # [images, 784]
    labels: list[str]  # of each image


def mnist(
    corpus: str | Path,
    out: str | Path,
    *,
    layout: Literal["pixels", "rows"] = "pixels",
    fixed: str | Path = "",
    valid: int = 10_000,
    seed: int = 0,
) -> None:
    """Write shards of binarized MNIST to a folder: train, valid and test.

    Each image is an utterance, and its label is the speaker.

    Args:
        corpus: folder with train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte and
            t10k-labels-idx1-ubyte, as published or unpacked.
        out: folder for the shards.
        layout: pixels, 784 frames of one pixel, as published; or rows, 28 frames of a row.
        fixed: folder with binarized_mnist_train.amat, binarized_mnist_valid.amat and binarized_mnist_test.amat, which
            are used instead of drawing. Labels are taken from CORPUS where its images are the same ones.
        valid: number of training images, the last ones, that are for validation.
        seed: seed of the draws.
    """
    if valid < 0:
        raise UserError(f"--valid {valid}: must be 0 or more")
    gray = read_gray(Path(corpus), valid)
    binarized = read_fixed(Path(fixed), gray) if str(fixed) else binarize_all(gray, seed)
    frame_size = 1 if layout == "pixels" else COLUMNS
    write_frame_shards(
        out,
        {split: frame_digits(split, digits, frame_size) for split, digits in binarized.items()},
        kind="binary",
        frame_size=frame_size,
        image_size=(ROWS, COLUMNS),
    )
    for split, digits in binarized.items():
        print(f"{split}: {len(digits.pixels)} images, {digits.pixels.mean():.1%} of the pixels are 1")


def read_gray(corpus: Path, valid: int) -> dict[str, Digits]:
    """Read the gray images of each split; a split without images is left out.

    Raises:
        UserError: a file is missing or damaged, or there are not enough training images.
    """
    train, test = read_part(corpus, "train"), read_part(corpus, "t10k")
    first = len(train.pixels) - valid
    if first < 1:
        raise UserError(f"--valid {valid}: {corpus} has only {len(train.pixels)} training images")
    splits = {
        "train": Digits(train.pixels[:first], train.labels[:first]),
        "valid": Digits(train.pixels[first:], train.labels[first:]),
        "test": test,
    }
    return {split: digits for split, digits in splits.items() if digits.labels}


def read_part(corpus: Path, part: str) -> Digits:
    """Read the images of a part, train or t10k, with their labels."""
    images, labels = find_file(corpus, f"{part}-images-idx3-ubyte"), find_file(corpus, f"{part}-labels-idx1-ubyte")
    pixels, digits = read_images(images), read_labels(labels)
    if len(pixels) != len(digits):
        raise UserError(f"{labels}: {len(digits)} labels, but {images.name} has {len(pixels)} images")
    return Digits(pixels, [str(digit) for digit in digits])


def binarize_all(gray: dict[str, Digits], seed: int) -> dict[str, Digits]:
    """Draw the pixels of all splits."""
    return {split: Digits(binarize(digits.pixels, split, seed), digits.labels) for split, digits in gray.items()}


def binarize(gray: NDArray[np.uint8], split: str, seed: int) -> NDArray[np.uint8]:
    """Draw pixels that are 1 with the probability gray / 255, from uint8 [images, 784] to the same shape.

    The raw bits of NumPy's PCG64 are the same in every version, which its distributions need not be.
    """
    stream = np.random.PCG64(derive_seed("binarized images", split, seed))
    pixels = np.empty_like(gray)
    for image, drawn in zip(gray, pixels, strict=True):
        uniform = (stream.random_raw(PIXELS) >> np.uint64(11)) * 2.0**-53  # in [0, 1): 255 is always 1, 0 never
        drawn[:] = uniform * 255 < image
    return pixels


def read_fixed(folder: Path, gray: dict[str, Digits]) -> dict[str, Digits]:
    """Read the published binarization of each split, with the labels of the gray images if those are the same ones."""
    splits = {}
    for split in ("train", "valid", "test"):
        pixels = read_amat(folder / f"binarized_mnist_{split}.amat")
        labels = [UNKNOWN] * len(pixels)
        if split in gray and could_be_drawn_from(pixels, gray[split].pixels):
            labels = gray[split].labels
        else:
            print(f"{split}: not the images of the labels in CORPUS; the label of each is {UNKNOWN}")
        splits[split] = Digits(pixels, labels)
    return splits


def could_be_drawn_from(pixels: NDArray[np.uint8], gray: NDArray[np.uint8]) -> bool:
    """Whether every 1 has a gray value above 0, and every 0 one below 255, both uint8 [images, 784]."""
    return pixels.shape == gray.shape and bool(np.all(np.where(pixels, gray > 0, gray < 255)))


def frame_digits(split: str, digits: Digits, frame_size: int) -> Iterator[FramedUtterance]:
    """Yield each image as an utterance of 784 / frame_size frames."""
    for index, (pixels, label) in enumerate(zip(digits.pixels, digits.labels, strict=True)):
        frames = pixels.astype(np.int16).reshape(-1, frame_size)
        yield FramedUtterance(f"{split}-{index:05d}", label, 0.0, PIXELS, frames)


if __name__ == "__main__":
    run_command(mnist, sys.argv[1:], prog="python -m data_prep.mnist")
