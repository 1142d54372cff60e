"""Decode what libsndfile cannot read with sph2pipe or ffmpeg, where these are installed."""

import atexit
import os
import shutil
import subprocess
import tempfile
import threading
from typing import BinaryIO

from zfaudio.corpus.rejection import RejectedRecording
from zfaudio.corpus.splice import FileKey

# After this many seconds a conversion is given up.
TIMEOUT = 600.0


class _LastConversion(threading.local):
    """The recording that was converted last, because the pieces of a long recording are often read one by one."""

    key: FileKey | None = None
    wav: BinaryIO | None = None


_last = _LastConversion()


@atexit.register
def _close_last() -> None:
    if _last.wav is not None:
        _last.wav.close()


def sph2pipe_command(path: str) -> list[str] | None:
    """Return the command that decompresses a SPHERE file to standard output. None if sph2pipe is not installed."""
    program = shutil.which("sph2pipe")
    return None if program is None else [program, "-p", "-f", "wav", os.path.abspath(path)]


def ffmpeg_command(path: str) -> list[str] | None:
    """Return the command that decodes a recording to standard output. None if ffmpeg is not installed."""
    program = shutil.which("ffmpeg")
    if program is None:
        return None
    # A playlist under the name of a recording must not make ffmpeg open addresses: it may open files only.
    opened = ["-protocol_whitelist", "file", "-i", f"file:{os.path.abspath(path)}"]
    decoded = ["-map", "0:a:0", "-vn", "-c:a", "pcm_s16le", "-f", "wav", "pipe:1"]
    return [program, "-nostdin", "-hide_banner", "-v", "error", *opened, *decoded]


def convert(command: list[str], key: FileKey) -> BinaryIO:
    """Run a command that writes WAV to standard output, and return its output as an open file.

    Raises:
        RejectedRecording: the command fails or takes too long.
    """
    if _last.key == key and _last.wav is not None:
        return _last.wav
    name = os.path.basename(command[0])
    wav = tempfile.TemporaryFile()  # noqa: SIM115
    try:
        finished = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=wav, stderr=subprocess.PIPE, check=False, timeout=TIMEOUT
        )
        if finished.returncode:
            raise RejectedRecording(f"{name} cannot read it: {last_line(finished.stderr, finished.returncode)}")
    except subprocess.TimeoutExpired:
        wav.close()
        raise RejectedRecording(f"{name} took longer than {TIMEOUT:.0f} s") from None
    except (RejectedRecording, OSError):
        wav.close()
        raise
    if _last.wav is not None:
        _last.wav.close()
    _last.key, _last.wav = key, wav
    return wav


def last_line(stderr: bytes, status: int) -> str:
    """Return the last line that a program wrote to standard error, or its exit status if it wrote none."""
    lines = stderr.decode("utf-8", "replace").strip().splitlines()
    return lines[-1].strip()[:200] if lines else f"exit status {status}"
