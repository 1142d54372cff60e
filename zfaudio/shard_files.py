"""One shard: a tar file that holds `<utterance>.json` and `<utterance>.npy` of each of its utterances."""

import io
import json
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass
from typing import IO

import numpy as np

from zfaudio.frames import Frames


@dataclass(frozen=True)
class FramedUtterance:
    """An utterance as a shard holds it."""

    id: str
    speaker: str
    start: float  # seconds into its recording
    samples: int  # of the utterance, those after its last whole frame included
    frames: Frames  # int16 [frames, frame_size]


def write_shard(stream: IO[bytes], utterances: Iterable[FramedUtterance]) -> None:
    """Write utterances as a tar file in WebDataset's layout; the same utterances always give the same bytes.

    webdataset's own writer would do, but its import brings torch with it: seconds and 400 MB in every process.
    """
    with tarfile.open(fileobj=stream, mode="w|", format=tarfile.PAX_FORMAT) as tar:
        for utterance in utterances:
            description = {
                "utterance": utterance.id,
                "speaker": utterance.speaker,
                "samples": utterance.samples,
                "start": utterance.start,
            }
            array = io.BytesIO()
            np.save(array, utterance.frames, allow_pickle=False)
            add_file(tar, f"{utterance.id}.json", json.dumps(description, ensure_ascii=False).encode())
            add_file(tar, f"{utterance.id}.npy", array.getvalue())


def add_file(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    """Add a file without owner or time."""
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    tar.addfile(entry, io.BytesIO(content))
