"""Pictures: read from files, generated, and shown side by side."""

import io
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from zfaudio.data.manifest import Manifest
from zfaudio.errors import UserError
from zfaudio.experiment.checkpoint import Checkpoint
from zfaudio.files import whole_file
from zfaudio.generation.request import Request
from zfaudio.generation.samples import Sample, write_listed
from zfaudio.generation.sampling import FrameRecorder
from zfaudio.generation.sequences import Drawn, Given, draw_sequences

Pixels = NDArray[np.uint8]  # [rows, columns], 0 is black and 255 white

SCALE = 3  # screen pixels for one pixel
BORDER = 96  # gray level between pictures
GIVEN = 160  # gray level of white pixels that were given


def size_of(manifest: Manifest) -> tuple[int, int]:
    """Rows and columns of the pictures in shards. Raises UserError if they do not say."""
    if manifest.image_size is None:
        raise UserError("these shards do not say how large their pictures are; make them again with an image_size")
    rows, columns = manifest.image_size
    return rows, columns


def read_picture(path: Path, manifest: Manifest) -> Given:
    """Read a picture file of any format that Pillow knows; pixels lighter than half gray are 1.

    Raises:
        UserError: the file is no picture, or has another size than those the model was trained on.
    """
    from PIL import Image, UnidentifiedImageError

    rows, columns = size_of(manifest)
    try:
        with Image.open(path) as picture:
            if picture.size != (columns, rows):
                found = f"{picture.size[1]} x {picture.size[0]}"
                raise UserError(f"{path}: {found} pixels; the model knows pictures of {rows} x {columns}")
            gray = np.asarray(picture.convert("L"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such picture, and no split of this name (train, valid, test)") from None
    except (UnidentifiedImageError, OSError, Image.DecompressionBombError) as error:
        raise UserError(f"{path}: not a picture that can be read ({error})") from None
    return Given(path.name, (gray > 127).astype(np.int16).ravel())


def read_pixels(pixels: ArrayLike, manifest: Manifest) -> Given:
    """A picture as an array [rows, columns] of 0 and 1. Raises UserError if it is not one that the model knows."""
    values = np.asarray(pixels)
    size = size_of(manifest)
    if values.shape != size:
        raise UserError(f"the picture has the shape {list(values.shape)}; the model knows pictures of {list(size)}")
    if not np.isin(values, (0, 1)).all():
        raise UserError("the picture holds other values than 0 and 1")
    return Given("the picture", values.astype(np.int16).ravel())


def generate_pictures(
    trained: Checkpoint, folder: Path, request: Request, given: list[Given], record: FrameRecorder | None
) -> list[Sample]:
    """Generate pictures into one PNG file that shows all of them, and one NumPy file, uint8 [n, rows, columns].

    A picture that was given stands to the left of each that continues or reconstructs it.
    """
    rows, columns = size_of(trained.manifest)
    drawn = draw_sequences(trained, request, given, rows * columns, record)
    pictures = np.stack([one.values.reshape(rows, columns).astype(np.uint8) for one in drawn])
    name = f"{request.kind}s"
    sample = replace(request.sample(trained.step), file=f"{name}.png")
    write_listed(folder, sample, png(side_by_side(drawn, rows, columns)))
    with whole_file(folder / f"{name}.npy") as part, part.open("wb") as file:
        np.save(file, pictures)
    print(f"{folder / sample.file}: {len(drawn)} pictures of {rows} x {columns}, also as {name}.npy")
    return [sample]


def side_by_side(drawn: list[Drawn], rows: int, columns: int) -> Pixels:
    """Pictures in a grid, each after the one that it continues or reconstructs."""
    tiles = []
    for one in drawn:
        if one.given is not None:
            tiles.append(one.given.values.reshape(rows, columns) * 255)
        shown = one.values * 255
        shown[: one.known] = one.values[: one.known] * GIVEN
        tiles.append(shown.reshape(rows, columns))
    across = math.ceil(math.sqrt(len(tiles)))
    return grid([tile.astype(np.uint8) for tile in tiles], across + across % 2)


def grid(tiles: list[Pixels], across: int) -> Pixels:
    """Pictures of the same size in a grid with so many in each row."""
    rows, columns = tiles[0].shape
    down = -(-len(tiles) // across)
    board = np.full((down * (rows + 1) + 1, across * (columns + 1) + 1), BORDER, np.uint8)
    for index, tile in enumerate(tiles):
        top, left = index // across * (rows + 1) + 1, index % across * (columns + 1) + 1
        board[top : top + rows, left : left + columns] = tile
    enlarged: Pixels = board.repeat(SCALE, 0).repeat(SCALE, 1)
    return enlarged


def png(pixels: Pixels) -> bytes:
    """A gray picture as a PNG file."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels, "L").save(buffer, "PNG")
    return buffer.getvalue()


class Pictures(np.ndarray[Any, np.dtype[np.uint8]]):
    """Pictures as an array, uint8 [n, rows, columns] of 0 and 1. A notebook shows them side by side."""

    def save(self, path: str | Path) -> None:
        """Write all of them into one PNG file."""
        with whole_file(Path(path)) as part:
            part.write_bytes(self._png())

    def _png(self) -> bytes:
        tiles = [(np.asarray(picture) * 255).astype(np.uint8) for picture in self]
        return png(grid(tiles, math.ceil(math.sqrt(len(tiles)))))

    def _repr_png_(self) -> bytes | None:
        """For a notebook. What else is computed from pictures has no picture."""
        return self._png() if self.ndim == 3 and self.size and self.dtype == np.uint8 else None
