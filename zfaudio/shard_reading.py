"""Utterances out of shards, on disk or at a URL."""

import io
import json
import re
import tarfile
from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import IO

import numpy as np

from zfaudio.errors import UserError
from zfaudio.frames import Frames
from zfaudio.manifest import Manifest, Shard, open_file, read_manifest
from zfaudio.shard_files import FramedUtterance

# What np.save puts before int16 frames. np.load would parse it with `ast`, which in Python 3.11 now and then fails
# (python/cpython issue 106905) when two threads are at it: shards are read in threads.
NPY_HEADER = re.compile(
    rb"\x93NUMPY\x01\x00..\{'descr': '<i2', 'fortran_order': False, 'shape': \((\d+), (\d+)\), \} *\n", re.DOTALL
)

# What tar files put before the header of a file whose name is long or not ASCII (pax, GNU).
EXTENSIONS = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)


def read_shard(location: str, shard: Shard) -> Iterator[FramedUtterance]:
    """Utterances of one shard, in its order, read as a stream.

    Args:
        location: folder of the shards, local or at an fsspec address.
        shard: the shard's entry in the manifest.

    Raises:
        UserError: the shard is missing, damaged or cut short, or is not the one of the manifest.
    """
    where = f"{location.rstrip('/')}/{shard.name}"
    utterances = frames = 0
    with open_file(location, shard.name) as stream:
        try:
            for _, files in groupby(read_files(stream), key=lambda file: file[0].rpartition(".")[0]):
                utterance = _decode({name.rpartition(".")[2]: content for name, content in files})
                utterances += 1
                frames += len(utterance.frames)
                yield utterance
        except (tarfile.TarError, OSError, EOFError, ValueError, KeyError, TypeError) as error:
            raise _damaged(where, error.args[0] if error.args else error) from None
        except Exception as error:
            # What a network file system raises when the connection breaks is of no common class.
            raise UserError(f"{where}: reading broke off ({error!r})") from None
    # A tar file that ends early, between two of its files, looks whole.
    if (utterances, frames) != (shard.utterances, shard.frames):
        raise _damaged(where, f"{utterances} utterances of {frames} frames, not {shard.utterances} of {shard.frames}")


def read_shards(location: str, shards: Iterable[Shard]) -> Iterator[FramedUtterance]:
    """Utterances of several shards, one after another; raises what `read_shard` raises."""
    for shard in shards:
        yield from read_shard(location, shard)


def read_utterances(location: str, split: str, manifest: Manifest | None = None) -> Iterator[FramedUtterance]:
    """Utterances of a split in shard order.

    Args:
        location: folder of the shards, local or at an fsspec address.
        split: train, valid or test.
        manifest: the shards' manifest; read from the folder when left out.

    Raises:
        UserError: no such split, or a shard that is missing or damaged.
    """
    manifest = read_manifest(location) if manifest is None else manifest
    yield from read_shards(location, manifest.split(split).shards)


def read_files(stream: IO[bytes]) -> Iterator[tuple[str, bytes]]:
    """Name and content of each file of a tar file, in order, read as a stream: several times as fast as tarfile does.

    Raises:
        tarfile.TarError: it is no tar file, or is cut short.
    """
    extensions = b""  # what comes before the header of a file whose name does not fit there
    while (header := _read(stream, tarfile.BLOCKSIZE)).strip(b"\0"):
        entry = tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape")
        if entry.type in EXTENSIONS:
            extensions += header + _read_blocks(stream, entry.size)
            continue
        if extensions:
            entry = tarfile.TarFile(fileobj=io.BytesIO(extensions + header)).next() or entry
            extensions = b""
        content = _read_blocks(stream, entry.size)
        if entry.isfile():
            yield entry.name, content[: entry.size]


def _read_blocks(stream: IO[bytes], size: int) -> bytes:
    """The blocks that hold so many bytes."""
    whole = size + -size % tarfile.BLOCKSIZE
    content = _read(stream, whole)
    if len(content) < whole:
        raise tarfile.ReadError("unexpected end of data")
    return content


def _read(stream: IO[bytes], size: int) -> bytes:
    """So many bytes, fewer at the end only: over a network one read may give less."""
    content = stream.read(size)
    while len(content) < size and (more := stream.read(size - len(content))):
        content += more
    return content


def _decode(sample: dict[str, bytes]) -> FramedUtterance:
    description = json.loads(sample["json"])
    return FramedUtterance(
        id=description["utterance"],
        speaker=description["speaker"],
        start=description["start"],
        samples=description["samples"],
        frames=_decode_frames(sample["npy"]),
    )


def _decode_frames(content: bytes) -> Frames:
    """The array of an .npy file, which must be int16 [frames, frame_size]."""
    header = NPY_HEADER.match(content)
    if header is None:
        raise ValueError("an .npy that does not hold int16 frames")
    frames = np.frombuffer(content, "<i2", offset=header.end())
    return frames.reshape(int(header[1]), int(header[2])).astype(np.int16)


def _damaged(where: str, problem: object) -> UserError:
    return UserError(f"{where}: damaged ({problem}); copy it again or make the shards again with `zfaudio shard`")
