"""Speed of making shards from FLAC files, with one and two processes, compared with only decoding them.

python -m benchmarks.shard [--folder DIR] [--json FILE]
"""

import contextlib
import hashlib
import io
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import soundfile
from joblib.externals.loky import get_reusable_executor

from benchmarks.corpus import recordings, repeated
from benchmarks.timing import load_before, medians_in_alternation, processor, report
from zfaudio.command import run_command
from zfaudio.data.shard import shard

BLOCK = 1 << 20  # bytes


def shard_folder(folder: str = "", json: str = "", hours: float = 16.0, turns: int = 3) -> None:
    """Time `zfaudio shard` on a folder of recordings, and soundfile decoding the same files.

    Args:
        folder: folder of FLAC files; by default, speech-like files are synthesized.
        json: file to write the results to as well.
        hours: total length of the recordings. Each file is linked under several names to reach it.
        turns: how often each task is timed; the medians are reported.
    """
    load = load_before()
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        paths = sorted(Path(folder).rglob("*.flac")) if folder else recordings(work / "recordings")
        links = repeated(paths, work / "folder", hours)
        lengths = [soundfile.info(path) for path in paths]
        times = len(links) // len(paths)
        size = 2 * times * sum(info.frames for info in lengths)
        tasks: dict[str, Callable[[], Any]] = {
            "decoding": lambda: decode(links),
            "hashing": lambda: hash_bytes(size),
            "writing": lambda: write_bytes(work / "samples", size),
            "one process": lambda: make_shards(work / "folder", work / "shards", 1),
            "two processes": lambda: make_shards(work / "folder", work / "shards", 2),
            "two, started before": lambda: make_shards(work / "folder", work / "shards", 2),
            "stopping them": lambda: get_reusable_executor().shutdown(),
        }
        seconds = medians_in_alternation(tasks, turns, lambda: remove(work / "samples", work / "shards"))

    one, two, decoding = seconds["one process"], seconds["two processes"], seconds["decoding"]
    speech_seconds = times * sum(info.duration for info in lengths)
    seconds.pop("stopping them")
    results = {
        "load_before": load,
        "processor": processor(),
        "recordings": len(links),
        "hours": round(speech_seconds / 3600, 2),
        "megabytes_of_samples": round(size / 1e6),
        "seconds": {name: round(value, 3) for name, value in seconds.items()},
        "of_the_speed_of_decoding": round(decoding / one, 3),
        "speedup_of_two_processes": round(one / two, 3),
        "speedup_of_two_once_started": round(one / seconds["two, started before"], 3),
        # Finished shards are written to the disk while the next ones are made.
        "fraction_of_bound": round(max(decoding + seconds["hashing"], seconds["writing"]) / one, 3),
    }
    rows = [(name, value, round(speech_seconds / value), f"{decoding / value:.2f}") for name, value in seconds.items()]
    report(results, [("", "s", "times real time", "of decoding's speed"), *rows], json)


def decode(paths: list[Path]) -> None:
    """Decode every file, one after another, without keeping the samples."""
    for path in paths:
        soundfile.read(path, dtype="int16")


def make_shards(folder: Path, out: Path, processes: int) -> None:
    """Do what `zfaudio shard FOLDER OUT --nj PROCESSES` does."""
    with contextlib.redirect_stdout(io.StringIO()):
        shard(folder, out, nj=processes)


def hash_bytes(size: int) -> None:
    """Compute the SHA-256 of so many bytes, as `zfaudio shard` does for its manifest."""
    digest, block = hashlib.sha256(), bytes(BLOCK)
    for _ in range(size // BLOCK):
        digest.update(block)


def write_bytes(path: Path, size: int) -> None:
    """Write so many bytes to a file, and wait until they are on the disk."""
    block = os.urandom(BLOCK)
    with path.open("wb") as file:
        for _ in range(size // BLOCK):
            file.write(block)
        file.flush()
        os.fsync(file.fileno())


def remove(file: Path, folder: Path) -> None:
    """Delete a file and a folder, if they exist."""
    file.unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    run_command(shard_folder, sys.argv[1:], "python -m benchmarks.shard")
