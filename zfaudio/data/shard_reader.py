"""Utterances out of shards, on disk or at a URL."""

import json
import re
import tarfile
from collections.abc import Iterable, Iterator

import numpy as np
from webdataset.tariterators import group_by_keys, tar_file_iterator

from zfaudio.data.frames import Frames
from zfaudio.data.manifest import Manifest, Shard, open_file, read_manifest
from zfaudio.data.shard_format import FramedUtterance
from zfaudio.errors import UserError

# What np.save puts before int16 frames. np.load would parse it with `ast`, which in Python 3.11 now and then fails
# (python/cpython issue 106905) when two threads are at it: shards are read in threads.
NPY_HEADER = re.compile(
    rb"\x93NUMPY\x01\x00..\{'descr': '<i2', 'fortran_order': False, 'shape': \((\d+), (\d+)\), \} *\n", re.DOTALL
)


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
        # skip_meta: webdataset would pass over ids that begin with two underscores.
        files = ({**file, "__url__": where} for file in tar_file_iterator(stream, skip_meta=None))
        try:
            for sample in group_by_keys(files, keys=_split_name):
                utterance = _decode(sample)
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


def _split_name(name: str) -> tuple[str, str]:
    """`<utterance>.<suffix>`; unlike webdataset's own rule, an utterance's id may hold dots."""
    key, _, suffix = name.rpartition(".")
    return key, suffix


def _decode(sample: dict) -> FramedUtterance:
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
