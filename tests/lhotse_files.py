"""Manifests that lhotse writes of small recordings."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from speech import speech

from zfaudio.data.manifest import read_manifest

lhotse = pytest.importorskip("lhotse", reason="lhotse is an extra: pip install 'zfaudio[lhotse]'")

RATE = 16000


def manifests(paths: list[Path], **fields: Any) -> tuple[Any, Any]:
    """lhotse's recordings, and a supervision of the whole of each, whose speaker is the name of its folder."""
    recordings = [lhotse.Recording.from_file(path) for path in paths]
    supervisions = [
        lhotse.SupervisionSegment(
            one.id, one.id, 0.0, one.duration, **{"speaker": path.parent.name, "text": f"Text of {one.id}", **fields}
        )
        for one, path in zip(recordings, paths, strict=True)
    ]
    return (
        lhotse.RecordingSet.from_recordings(recordings),
        lhotse.SupervisionSet.from_segments(supervisions),
    )


def write_manifests(folder: Path, paths: list[Path], suffix: str = "jsonl", **fields: Any) -> Path:
    """Have lhotse write recordings and supervisions."""
    recordings, supervisions = manifests(paths, **fields)
    folder.mkdir(parents=True, exist_ok=True)
    recordings.to_file(folder / f"recordings.{suffix}")
    supervisions.to_file(folder / f"supervisions.{suffix}")
    return folder


def write_segments(folder: Path, path: Path, segments: list[tuple[float, float, int | list[int]]]) -> Path:
    """Have lhotse write one recording, and supervisions u0, u1, ... of it with start, duration and channels."""
    folder.mkdir(parents=True, exist_ok=True)
    recording = lhotse.Recording.from_file(path)
    supervisions = [
        lhotse.SupervisionSegment(f"u{i}", recording.id, start, duration, channel=channel, speaker=f"s{i}")
        for i, (start, duration, channel) in enumerate(segments)
    ]
    lhotse.RecordingSet.from_recordings([recording]).to_file(folder / "recordings.jsonl")
    lhotse.SupervisionSet.from_segments(supervisions).to_file(folder / "supervisions.jsonl")
    return folder


def record(path: Path, channels: int = 1, rate: int = RATE) -> np.ndarray:
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = np.stack([speech(rate, channel, rate) for channel in range(channels)], axis=1)
    soundfile.write(path, samples, rate, subtype="PCM_16")
    return samples


def edit(path: Path, change: Callable[[dict[str, Any]], Any], line: int = 0) -> None:
    """Change the fields of a line of a manifest."""
    lines = path.read_text().splitlines()
    fields = json.loads(lines[line])
    change(fields)
    lines[line] = json.dumps(fields)
    path.write_text("".join(f"{text}\n" for text in lines))


def counts(folder: Path) -> dict[str, int]:
    return {name: split.utterances for name, split in read_manifest(folder).splits.items()}
