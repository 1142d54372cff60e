"""One shard: a tar file that holds `<utterance>.json` and `<utterance>.npy` of each of its utterances."""

import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import IO

import numpy as np
from numpy.lib import format as npy

from zfaudio.data.frames import Frames


@dataclass(frozen=True)
class FramedUtterance:
    """An utterance as a shard holds it."""

    id: str
    speaker: str
    start: float  # seconds into its recording
    samples: int  # of the utterance, those after its last whole frame included
    frames: Frames  # int16 [frames, frame_size]


def write_shard(stream: IO[bytes], utterances: Iterable[FramedUtterance]) -> str:
    """Write utterances as a tar file in WebDataset's layout; the same utterances always give the same bytes.

    webdataset's own writer would do, but its import brings torch with it: seconds and 400 MB in every process. The
    bytes are those of tarfile and np.save, which copy everything five times on the way.

    Returns:
        SHA-256 of what was written, in hexadecimal.
    """
    digest = hashlib.sha256()
    written = 0

    def write(content: bytes | memoryview) -> None:
        nonlocal written
        stream.write(content)
        digest.update(content)
        written += len(content)

    for utterance in utterances:
        description = {
            "utterance": utterance.id,
            "speaker": utterance.speaker,
            "samples": utterance.samples,
            "start": utterance.start,
        }
        frames = np.ascontiguousarray(utterance.frames)
        head = io.BytesIO()
        npy.write_array_header_1_0(head, npy.header_data_from_array_1_0(frames))
        write_file(write, f"{utterance.id}.json", json.dumps(description, ensure_ascii=False).encode())
        write_file(write, f"{utterance.id}.npy", head.getvalue(), frames.reshape(-1).view(np.uint8).data)
    write(bytes(2 * tarfile.BLOCKSIZE))
    write(bytes(-written % tarfile.RECORDSIZE))
    return digest.hexdigest()


def write_file(write: Callable[[bytes | memoryview], None], name: str, *content: bytes | memoryview) -> None:
    """Write a file of a tar file, without owner or time, from one or more pieces."""
    entry = tarfile.TarInfo(name)
    entry.size = sum(map(len, content))
    write(entry.tobuf(tarfile.PAX_FORMAT))
    for piece in content:
        write(piece)
    write(bytes(-entry.size % tarfile.BLOCKSIZE))
