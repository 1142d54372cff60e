"""How small lossless coders make recordings."""

import io
import os
import shutil
import subprocess
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import soundfile

WAVPACK = ("-hh", "-x6")  # WavPack's strongest lossless compression
AT_ONCE = 4 * (os.cpu_count() or 1)  # waveforms that wait for a coder, which bounds the memory


def flac_size(waveform: np.ndarray, sample_rate: int) -> int:
    """Size in bytes of int16 samples [n] as a FLAC file at libsndfile's strongest compression, with the header."""
    file = _Size()
    soundfile.write(file, waveform, sample_rate, format="FLAC", subtype="PCM_16", compression_level=1.0)
    return file.size


class WavPack:
    """Codes waveforms with the program wavpack, on all cores, and adds up their sizes. Use it in a `with` statement.

    Args:
        sample_rate: of the waveforms, in Hz.
    """

    def __init__(self, sample_rate: int) -> None:
        self._program, self._rate = shutil.which("wavpack"), sample_rate
        self._total: int | None = 0 if self._program else None
        self._waiting: deque[Future[int | None]] = deque()
        self._pool = ThreadPoolExecutor(os.cpu_count())

    def __enter__(self) -> "WavPack":
        return self

    def __exit__(self, *error: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def add(self, waveform: np.ndarray) -> None:
        """Code a waveform, int16 [samples]."""
        if self._program is None or self._total is None:
            return
        self._waiting.append(self._pool.submit(wavpack_size, self._program, waveform, self._rate))
        if len(self._waiting) > AT_ONCE:
            self._count()

    def size(self) -> int | None:
        """Size in bytes of all waveforms, each as a WavPack file with its header; None without a program that can."""
        while self._waiting:
            self._count()
        return self._total

    def _count(self) -> None:
        size = self._waiting.popleft().result()
        self._total = None if size is None or self._total is None else self._total + size


def wavpack_size(program: str, waveform: np.ndarray, sample_rate: int) -> int | None:
    """Size in bytes of int16 samples [n] as a WavPack file, with the header; None if the program cannot make one."""
    command = [program, *WAVPACK, "-q", "-y", f"--raw-pcm={sample_rate},16,1", "-", "-o", "-"]
    try:
        finished = subprocess.run(command, input=waveform.astype("<i2").tobytes(), capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):  # such as a version before 5
        return None
    return len(finished.stdout)


class _Size(io.RawIOBase):
    """A file of which only the size is kept."""

    def __init__(self) -> None:
        self.size = self.position = 0

    def write(self, data: Any) -> int:
        self.position += len(data)
        self.size = max(self.size, self.position)
        return len(data)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self.position = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self.position, io.SEEK_END: self.size}[whence]
        return self.position

    def tell(self) -> int:
        return self.position
