"""Read utterances from shards, on disk or at a URL."""

import json
import re
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from webdataset.tariterators import group_by_keys, tar_file_iterator

from zfaudio.data.frames import Frames
from zfaudio.data.manifest import Manifest, Shard, join_location, open_file, read_manifest
from zfaudio.data.shard_format import FramedUtterance
from zfaudio.errors import UserError

# The header that np.save writes before int16 frames. np.load would parse it with `ast`, which sometimes fails in Python
# 3.11 if two threads do so at once (python/cpython issue 106905). Shards are read in threads.
NPY_HEADER = re.compile(
    rb"\x93NUMPY\x01\x00..\{'descr': '<i2', 'fortran_order': False, 'shape': \((\d+), (\d+)\), \} *\n", re.DOTALL
)


def read_shard(location: str | Path, shard: Shard) -> Iterator[FramedUtterance]:
    """Read the utterances of one shard in order, as a stream.

    Args:
        location: path of the folder of shards, or an address that fsspec knows.
        shard: the shard's entry in the manifest.

    Raises:
        UserError: the shard is missing, damaged or truncated, or does not hold what the manifest says.
    """
    url = join_location(location, shard.name)
    utterances = frames = 0
    with open_file(location, shard.name) as stream:
        # Without skip_meta=None, webdataset ignores ids that begin with two underscores.
        files = ({**file, "__url__": url} for file in tar_file_iterator(stream, skip_meta=None))
        try:
            for sample in group_by_keys(files, keys=_split_name):
                utterance = _decode(sample)
                utterances += 1
                frames += len(utterance.frames)
                yield utterance
        except (tarfile.TarError, OSError, EOFError, ValueError, KeyError, TypeError) as error:
            raise _damaged(url, error.args[0] if error.args else error) from None
        except Exception as error:
            # The errors of network file systems for a broken connection have no common class.
            raise UserError(f"{url}: reading broke off ({error!r})") from None
    # A tar file that was truncated between two of its files raises no error above.
    if (utterances, frames) != (shard.utterances, shard.frames):
        raise _damaged(url, f"{utterances} utterances of {frames} frames, not {shard.utterances} of {shard.frames}")


def read_shards(location: str | Path, shards: Iterable[Shard]) -> Iterator[FramedUtterance]:
    """Read the utterances of several shards, one shard after another. Raises what `read_shard` raises."""
    for shard in shards:
        yield from read_shard(location, shard)


def read_utterances(location: str | Path, split: str, manifest: Manifest | None = None) -> Iterator[FramedUtterance]:
    """Read the utterances of a split, in the order of its shards.

    Args:
        location: path of the folder of shards, or an address that fsspec knows.
        split: train, valid or test.
        manifest: the manifest of the shards. By default, it is read from the folder.

    Raises:
        UserError: there is no such split, or a shard is missing or damaged.
    """
    manifest = read_manifest(location) if manifest is None else manifest
    yield from read_shards(location, manifest.split(split).shards)


def _split_name(name: str) -> tuple[str, str]:
    """Split `<utterance>.<suffix>` at its last dot: unlike with webdataset's own rule, ids may contain dots."""
    key, _, suffix = name.rpartition(".")
    return key, suffix


def _decode(sample: dict[str, Any]) -> FramedUtterance:
    description = json.loads(sample["json"])
    return FramedUtterance(
        id=description["utterance"],
        speaker=description["speaker"],
        start=description["start"],
        samples=description["samples"],
        frames=_decode_frames(sample["npy"]),
    )


def _decode_frames(content: bytes) -> Frames:
    """Return the array of an .npy file, which must be int16 [frames, frame_size]."""
    header = NPY_HEADER.match(content)
    if header is None:
        raise ValueError("an .npy file does not hold int16 frames")
    frames = np.frombuffer(content, "<i2", offset=header.end())
    return frames.reshape(int(header[1]), int(header[2])).astype(np.int16)


def _damaged(url: str, problem: object) -> UserError:
    return UserError(f"{url}: damaged ({problem}); copy it again or make the shards again with `zfaudio shard`")
