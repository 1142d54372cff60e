"""Write files so that each appears under its name whole or not at all."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from zfaudio.errors import UserError


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A path beside `path` to write to. After the block its file is flushed to the disk and renamed to `path`.

    If the block raises an exception, or the process is killed, what stood under `path` before is still there. Folders
    above it are made.

    Raises:
        UserError: the file cannot be written; the message names it.
    """
    part = path.with_name(f".part-{os.getpid()}-{path.name}")  # ends like `path`, for libraries that look at suffixes
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield part
        with part.open("rb") as file:
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        raise explain_write_error(path, error) from None
    finally:
        part.unlink(missing_ok=True)


def explain_write_error(path: Path, error: OSError) -> UserError:
    """What to tell the user if a file cannot be written."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return UserError(f"{path}: {error.strerror}; make room and run the same command again")
    return UserError(f"{path}: cannot be written: {error.strerror or error}")


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8, whole or not at all. Raises UserError if it cannot be written."""
    with whole_file(path) as part:
        part.write_text(text, encoding="utf-8")
