"""Open the files of a folder of shards, on disk or at a URL."""

import contextlib
import io
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from zfaudio.errors import UserError

BUFFER = 1 << 20  # bytes

# Seconds for which a request over HTTP is repeated before the file counts as unreadable.
RETRY = 60.0


@contextlib.contextmanager
def open_file(location: str | Path, name: str, retry: float | None = None) -> Iterator[IO[bytes]]:
    """Open a file of a folder of shards for reading from start to end.

    Args:
        location: path of the folder, or an address that fsspec knows (http://, s3://, ...).
        name: name of the file inside it.
        retry: over HTTP, the number of seconds for which a failed request is repeated, by default RETRY. Other file
            systems of fsspec have settings of their own.

    Raises:
        UserError: the file does not exist, is not a regular file, or cannot be opened. Reading raises it too if a
            server fails.
    """
    url = join_location(location, name)
    try:
        stream = _open(url, RETRY if retry is None else retry)
    except UserError:
        raise
    except FileNotFoundError:
        raise UserError(f"{url}: no such file; `zfaudio shard` makes shards") from None
    except Exception as error:
        # The errors of file systems (unknown protocol, host or bucket, no permission) have no common class.
        raise UserError(f"{url}: cannot be opened ({error})") from None
    with stream:
        yield stream


def _open(url: str, retry: float) -> IO[bytes]:
    import fsspec  # here, because making shards does not need it
    from fsspec.implementations.local import LocalFileSystem

    filesystem, path = fsspec.url_to_fs(url)
    if isinstance(filesystem, LocalFileSystem):
        # To open a FIFO waits for a writer, and a device may have no end.
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise UserError(f"{url}: not a regular file")
        # Through fsspec's wrapper of a local file, tarfile's many short reads take 1.5 times as long.
        return open(path, "rb", buffering=BUFFER)
    if "http" in filesystem.protocol:
        from zfaudio.data.http_stream import HTTPStream

        return io.BufferedReader(HTTPStream(filesystem, path, retry), BUFFER)
    stream: IO[bytes] = filesystem.open(path, "rb")
    return stream


def join_location(location: str | Path, name: str) -> str:
    """Return the path or address of a file in a folder of shards."""
    return f"{str(location).rstrip('/')}/{name}"
