"""Open a recording with libsndfile as it is, or with parts of it left out or replaced in memory."""

import io
import os
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import BinaryIO, NamedTuple

import soundfile

# A part of a spliced file: new bytes, or the first byte and the end of a range of the original.
Piece = bytes | tuple[int, int]


class FileKey(NamedTuple):
    """What tells one state of a file from another, to remember what was found out about it."""

    path: str
    size: int
    modified: int  # in nanoseconds


class Sound(soundfile.SoundFile):  # type: ignore[misc]
    """A file of libsndfile that can be read without seeking, which soundfile otherwise does after each read.

    Not every encoding can be sought in, and a seek loses what the decoder knows of the samples before.
    """

    in_sequence = False

    def seekable(self) -> bool:
        """Return whether soundfile may seek."""
        return not self.in_sequence and bool(super().seekable())


class SplicedFile(io.RawIOBase):
    """A read-only file that consists of ranges of another file and of new bytes. Nothing is copied."""

    def __init__(self, file: BinaryIO, pieces: Sequence[Piece]) -> None:
        super().__init__()
        self._file = file
        lengths = [len(piece) if isinstance(piece, bytes) else piece[1] - piece[0] for piece in pieces]
        self._pieces = [piece for piece, length in zip(pieces, lengths, strict=True) if length > 0]
        self._starts = list(accumulate((length for length in lengths if length > 0), initial=0))
        self._position = 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return the position."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to a position and return it."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._starts[-1]}[whence]
        self._position = max(0, base + offset)
        return self._position

    def readinto(self, buffer: "memoryview") -> int:  # type: ignore[override]
        """Fill a buffer as far as the file goes. (libsndfile takes a short read for the end of the file.)"""
        view = memoryview(buffer).cast("B")
        filled = 0
        while filled < len(view) and self._position < self._starts[-1]:
            index = bisect_right(self._starts, self._position) - 1
            piece, offset = self._pieces[index], self._position - self._starts[index]
            count = min(len(view) - filled, self._starts[index + 1] - self._position)
            if isinstance(piece, bytes):
                content = piece[offset : offset + count]
            else:
                self._file.seek(piece[0] + offset)
                content = self._file.read(count)
            view[filled : filled + len(content)] = content
            filled += len(content)
            self._position += len(content)
            if len(content) < count:  # the file has become shorter
                break
        return filled


@dataclass(frozen=True)
class Source:
    """Where the bytes of a recording are.

    Attributes:
        file: the bytes, which can be sought in.
        path: path of the file if libsndfile can open it by itself, which is faster.
        opened: the file that `close` closes.
    """

    file: BinaryIO
    path: str | None = None
    opened: BinaryIO | None = None

    @property
    def key(self) -> FileKey | None:
        """What the file is known by, if it is one that others can open."""
        if self.path is None:
            return None
        status = os.fstat(self.file.fileno())
        return FileKey(self.path, status.st_size, status.st_mtime_ns)

    @property
    def size(self) -> int:
        """Number of bytes."""
        return self.file.seek(0, io.SEEK_END)

    def close(self) -> None:
        """Close the file unless the caller opened it."""
        if self.opened is not None:
            self.opened.close()

    def read_at(self, offset: int, count: int) -> bytes:
        """Read up to `count` bytes from an offset."""
        self.file.seek(offset)
        return self.file.read(count)

    def open(self, pieces: Sequence[Piece] | None = None) -> Sound:
        """Open it, or what is put together from pieces of it, with libsndfile.

        Raises:
            soundfile.LibsndfileError, OSError, TypeError or ValueError: it cannot be opened.
        """
        if pieces is not None:
            return Sound(SplicedFile(self.file, pieces))
        if self.path is not None:
            return Sound(os.fsencode(self.path))
        self.file.seek(0)
        return Sound(self.file)
