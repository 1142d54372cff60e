"""Write a shard: a tar file with `<utterance>.json` and `<utterance>.npy` for each of its utterances."""

import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import IO

import numpy as np
from numpy.lib import format as npy

from zfaudio.data.frames import Frames


@dataclass(frozen=True)
class FramedUtterance:
    """An utterance as it is stored in a shard."""

    id: str
    speaker: str
    start: float  # where it starts in its recording, in seconds
    samples: int  # length of the utterance, including the samples after its last whole frame
    frames: Frames  # int16 [frames, frame_size]


def write_shard(stream: IO[bytes], utterances: Iterable[FramedUtterance]) -> str:
    """Write utterances as a tar file in WebDataset's layout. The same utterances always give the same bytes.

    webdataset's own writer is not used because importing it also imports torch, which takes seconds and 400 MB in each
    process. tarfile and np.save would give the same bytes, but they copy everything five times.

    Returns:
        SHA-256 of the file, in hexadecimal.
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
        header = io.BytesIO()
        npy.write_array_header_1_0(header, npy.header_data_from_array_1_0(frames))
        write_member(write, f"{utterance.id}.json", [json.dumps(description, ensure_ascii=False).encode()])
        write_member(write, f"{utterance.id}.npy", [header.getvalue(), frames.reshape(-1).view(np.uint8).data])
    write(bytes(2 * tarfile.BLOCKSIZE))
    write(bytes(-written % tarfile.RECORDSIZE))
    return digest.hexdigest()


def write_member(write: Callable[[bytes | memoryview], None], name: str, pieces: Sequence[bytes | memoryview]) -> None:
    """Write one file of a tar file from its pieces, without owner and time."""
    entry = tarfile.TarInfo(name)
    entry.size = sum(map(len, pieces))
    write(entry.tobuf(tarfile.PAX_FORMAT))
    for piece in pieces:
        write(piece)
    write(bytes(-entry.size % tarfile.BLOCKSIZE))
