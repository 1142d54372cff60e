"""Read the files of MNIST: images and labels in the IDX format, and binarized images as text."""

import gzip
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from zfaudio.errors import UserError

ROWS = COLUMNS = 28
PIXELS = ROWS * COLUMNS

# The first four bytes: unsigned bytes (8) in three dimensions or in one.
IMAGES = 0x00000803
LABELS = 0x00000801

REMEDY = "copy or download it again"


def read_images(path: Path) -> NDArray[np.uint8]:
    """Read a file of images.

    Returns:
        Gray values from 0 to 255, uint8 [images, 784], rows one after another.

    Raises:
        UserError: the file is damaged, is another kind of file, or its images have another size.
    """
    content = read_bytes(path)
    images, rows, columns = read_header(path, content, IMAGES, "images")
    if (rows, columns) != (ROWS, COLUMNS):
        raise UserError(f"{path}: images of {rows} x {columns} pixels; those of MNIST have {ROWS} x {COLUMNS}")
    return read_values(path, content, 16, images * PIXELS).reshape(images, PIXELS)


def read_labels(path: Path) -> NDArray[np.uint8]:
    """Read a file of labels, uint8 [images], from 0 to 9.

    Raises:
        UserError: the file is damaged, or is another kind of file.
    """
    content = read_bytes(path)
    (labels,) = read_header(path, content, LABELS, "labels")
    values = read_values(path, content, 8, labels)
    if values.max(initial=0) > 9:
        raise UserError(f"{path}: label {values.max()}; labels of MNIST are 0 to 9")
    return values


def find_file(folder: Path, name: str) -> Path:
    """Find a file such as train-images-idx3-ubyte, also packed, or as it is named by programs that unpack it.

    Raises:
        UserError: there is no such folder or file.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder")
    names = (name, f"{name}.gz", name.replace("-idx", ".idx"))
    for found in names:
        if (folder / found).is_file():
            return folder / found
    raise UserError(f"{folder}: no file {name} or {name}.gz; give the folder with the four files of MNIST")


def read_bytes(path: Path) -> bytes:
    """Read a file, and unpack it if its name ends with .gz. Raises UserError if that is not possible."""
    try:
        if path.suffix != ".gz":
            return path.read_bytes()
        with gzip.open(path) as stream:
            return stream.read()
    except EOFError:
        raise UserError(f"{path}: cut short; {REMEDY}") from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise UserError(f"{path}: cannot be unpacked ({error}); {REMEDY}") from None


def read_header(path: Path, content: bytes, magic: int, what: str) -> list[int]:
    """Read the sizes of an IDX file, of which the last byte of its magic number says how many there are."""
    dimensions = magic & 0xFF
    header = np.frombuffer(content[: 4 + 4 * dimensions], ">u4") if len(content) >= 4 + 4 * dimensions else None
    if header is None:
        raise UserError(f"{path}: cut short; {REMEDY}")
    if header[0] != magic:
        raise UserError(f"{path}: no IDX file of {what} (it starts with {header[0]:#010x}, not {magic:#010x})")
    return [int(size) for size in header[1:]]


def read_values(path: Path, content: bytes, start: int, count: int) -> NDArray[np.uint8]:
    """The values behind the header, which must be as many as it says."""
    if len(content) - start != count:
        problem = "cut short" if len(content) - start < count else "longer than its header says"
        raise UserError(f"{path}: {problem} ({len(content) - start} bytes of {count}); {REMEDY}")
    return np.frombuffer(content, np.uint8, count, start)


def read_amat(path: Path) -> NDArray[np.uint8]:
    """Read binarized images as text, a line of 784 zeros and ones for each, into uint8 [images, 784].

    Raises:
        UserError: there is no such file, it is empty, or a line is something else.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file; --fixed is the folder with binarized_mnist_{{train,valid,test}}.amat")
    images = []
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            pixels = np.frombuffer(b"".join(line.split()), np.uint8) - ord("0")
            if len(pixels) != PIXELS or pixels.max() > 1:
                raise UserError(f"{path}: line {number} is not {PIXELS} zeros and ones; {REMEDY}")
            images.append(pixels)
    if not images:
        raise UserError(f"{path}: empty; {REMEDY}")
    return np.stack(images)
