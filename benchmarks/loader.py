"""Speed of loading training batches from shards, compared with reading the same bytes with tarfile and NumPy.

python -m benchmarks.loader [--folder DIR] [--json FILE]
"""

import contextlib
import io
import json as json_format
import sys
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.corpus import recordings, repeated
from benchmarks.timing import load_before, medians_in_alternation, processor, report
from zfaudio.command import run_command
from zfaudio.config import DataConfig
from zfaudio.corpus.folder import FolderConfig
from zfaudio.data.frames import dequantize
from zfaudio.data.loader import TrainingStream
from zfaudio.data.manifest import Manifest, read_manifest
from zfaudio.data.shard import shard

BATCH = 32
SEGMENT = 40  # frames
LENGTHS = {"whole recordings": 15.0, "half a second": 0.5}  # longest utterance, in seconds


def loader(folder: str = "", json: str = "", hours: float = 3.0, turns: int = 5) -> None:
    """Time one epoch of training batches, from whole recordings and from half-second utterances as in Blizzard 2013.

    Args:
        folder: folder of FLAC files; by default, speech-like files are synthesized.
        json: file to write the results to as well.
        hours: total length of the corpus. Each recording is linked under several names to reach it.
        turns: how often each implementation is timed; the medians are reported.
    """
    load = load_before()
    results: dict[str, Any] = {"load_before": load, "processor": processor(), "batch": BATCH, "segment_frames": SEGMENT}
    rows: list[tuple[object, ...]] = [("frames/s", "tarfile and NumPy", "zfaudio", "of its speed", "of the bound")]
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        paths = sorted(Path(folder).rglob("*.flac")) if folder else recordings(work / "recordings")
        repeated(paths, work / "folder", hours)
        for name, seconds in LENGTHS.items():
            results[name] = measure(work / "folder", work / f"{seconds}", seconds, turns)
            speeds = [round(results[name][way]) for way in ("baseline_frames_per_second", "frames_per_second")]
            rows.append((name, *speeds, results[name]["of_the_baselines_speed"], results[name]["fraction_of_bound"]))
    report(results, rows, json)


def measure(folder: Path, shards: Path, longest: float, turns: int) -> dict[str, float]:
    """Measure speeds in frames per second, with utterances of at most `longest` seconds."""
    everything = FolderConfig(cut="fixed", max_seconds=longest, valid_fraction=0, test_fraction=0)
    with contextlib.redirect_stdout(io.StringIO()):
        shard(folder, shards, folder=everything)
    manifest = read_manifest(str(shards))
    total, utterances = manifest.split("train").frames, manifest.split("train").utterances
    # All turns read from one stream. It never ends, so a turn takes as many batches as one epoch has.
    stream = TrainingStream(str(shards), manifest, DataConfig(str(shards)), BATCH, SEGMENT, seed=0)
    scored = total - utterances
    frames = np.concatenate(plain_arrays(shards, manifest))
    out = np.empty(frames.shape, np.float32)
    tasks: dict[str, Callable[[], Any]] = {
        "baseline": lambda: sum(len(array) for array in plain_arrays(shards, manifest)),
        "reading": lambda: [(shards / file.name).read_bytes() for file in manifest.split("train").shards],
        "dequantizing": lambda: dequantize(frames, manifest.mean, manifest.deviation, 0, 0, out),
        "zfaudio": lambda: deliver(stream, scored),
    }
    seconds = medians_in_alternation(tasks, turns)
    # One thread both reads and dequantizes.
    bound = seconds["reading"] + seconds["dequantizing"]
    return {
        "utterances": utterances,
        "frames": total,
        "frames_per_second": round(scored / seconds["zfaudio"]),
        "baseline_frames_per_second": round(total / seconds["baseline"]),
        "read_frames_per_second": round(total / seconds["reading"]),
        "dequantized_frames_per_second": round(total / seconds["dequantizing"]),
        "of_the_baselines_speed": round(scored / total * seconds["baseline"] / seconds["zfaudio"], 3),
        "fraction_of_bound": round(scored / total * bound / seconds["zfaudio"], 3),
    }


def plain_arrays(shards: Path, manifest: Manifest) -> list[np.ndarray]:
    """The frames of every utterance, int16 [frames, frame_size], read with tarfile, json and NumPy."""
    arrays = []
    for file in manifest.split("train").shards:
        with tarfile.open(shards / file.name) as tar:
            for entry in tar:
                content = tar.extractfile(entry)
                assert content is not None
                if entry.name.endswith(".npy"):
                    arrays.append(np.load(io.BytesIO(content.read()), allow_pickle=False))
                else:
                    json_format.loads(content.read())
    return arrays


def deliver(stream: TrainingStream, frames: int) -> None:
    """Take batches from the stream until they score so many frames."""
    while frames > 0:
        frames -= int((next(stream).lengths - 1).sum())


if __name__ == "__main__":
    run_command(loader, sys.argv[1:], "python -m benchmarks.loader")
