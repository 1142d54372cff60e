"""Let one process at a time write into a folder."""

import contextlib
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

from zfaudio.errors import UserError
from zfaudio.files import explain_write_error, write_text

LOCK, HOLDER = ".lock", ".lock-holder"


@contextlib.contextmanager
def locked_folder(folder: Path, what: str) -> Iterator[None]:
    """Hold the lock of a folder, which is made if it does not exist, during a `with` block.

    The operating system releases the lock when the process ends, however it ends.

    Args:
        folder: the folder.
        what: what this process does there, for the message that others get, such as "a training run".

    Raises:
        UserError: another process holds the lock; the message says which one, on which machine.
    """
    from filelock import FileLock, Timeout  # here, because most commands do not need it

    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / LOCK).acquire(timeout=0)
    except Timeout:
        raise UserError(f"{folder}: in use by {holder(folder)}; wait until it ends, or choose another folder") from None
    except (FileExistsError, NotADirectoryError, PermissionError) as error:
        raise explain_write_error(folder / LOCK, error) from None
    except (OSError, NotImplementedError) as error:
        print(f"warning: {folder}: cannot be locked ({error}); start nothing else in it", file=sys.stderr)
        yield
        return
    with lock:
        try:
            write_text(folder / HOLDER, f"{what}, process {os.getpid()} on {socket.gethostname()}\n")
            yield
        finally:
            (folder / HOLDER).unlink(missing_ok=True)


def holder(folder: Path) -> str:
    """What holds the lock of a folder, as far as it has said so."""
    with contextlib.suppress(OSError, UnicodeDecodeError):
        return (folder / HOLDER).read_text(encoding="utf-8").strip() or "another process"
    return "another process"
