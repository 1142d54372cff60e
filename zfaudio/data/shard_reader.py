"""Read utterances from shards, on disk or at a URL. What a shard holds is checked before it is used."""

import json
import re
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any, Literal, TypeGuard

import numpy as np
from webdataset.tariterators import group_by_keys

from zfaudio.data.frames import Frames
from zfaudio.data.manifest import Manifest, Shard, read_manifest
from zfaudio.data.shard_format import FramedUtterance
from zfaudio.data.storage import join_location, open_file
from zfaudio.errors import UserError
from zfaudio.observations import Observation, Quantizer, value_fault
from zfaudio.text import printable

# The header that np.save writes before int16 frames. np.load would parse it with `ast`, which sometimes fails in Python
# 3.11 if two threads do so at once (python/cpython issue 106905). Shards are read in threads.
NPY_HEADER = re.compile(
    rb"\x93NUMPY\x01\x00..\{'descr': '<i2', 'fortran_order': False, 'shape': \((\d+), (\d+)\), \} *\n", re.DOTALL
)

# Bytes of a tar header with a long name, of an .npy header, and of the description of an utterance. More is damage.
LARGEST_TAR_HEADER = 1 << 13
LARGEST_NPY_HEADER = 1 << 10
LARGEST_DESCRIPTION = 1 << 20

READ_AT_ONCE = 1 << 20  # bytes

LONGEST_RECORDING = 1e9  # seconds

ANY_SAMPLES = Quantizer()  # frames that may hold any 16-bit integers

# What tarfile, json and the checks below raise for a shard that is no shard.
DAMAGE = (tarfile.TarError, OSError, EOFError, ValueError, TypeError, OverflowError, RecursionError)

# Types of tar headers that describe the next one.
TAR_HEADERS = frozenset(
    (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)
)


class ShardMember(tarfile.TarInfo):
    """A file in a shard. It refuses what `write_shard` never writes, and what makes tarfile slow or greedy."""

    def _proc_member(self, tar: tarfile.TarFile) -> tarfile.TarInfo:
        # tarfile calls this for every header, and names it as the method for subclasses to override.
        if self.size < 0 or self.type == tarfile.GNUTYPE_SPARSE:
            raise tarfile.ReadError("a sparse file or a size below 0")
        if self.type in TAR_HEADERS and self.size > LARGEST_TAR_HEADER:
            raise tarfile.ReadError(f"a header of {self.size} bytes")
        member: tarfile.TarInfo = super()._proc_member(tar)  # type: ignore[misc]
        if member.size < 0 or member.sparse is not None:  # according to a header before it
            raise tarfile.ReadError("a sparse file or a size below 0")
        return member


def read_shard(
    location: str | Path, shard: Shard, frame_size: int, observation: Observation = ANY_SAMPLES
) -> Iterator[FramedUtterance]:
    """Read the utterances of one shard in order, as a stream.

    Args:
        location: path of the folder of shards, or an address that fsspec knows.
        shard: the shard's entry in the manifest.
        frame_size: number of samples per frame, according to the manifest.
        observation: what a frame holds, according to the manifest.

    Raises:
        UserError: the shard is missing, damaged or truncated, or does not hold what the manifest says.
    """
    url = join_location(location, shard.name)
    utterances = frames = 0
    with open_file(location, shard.name) as stream:
        try:
            for sample in group_by_keys(_read_files(stream, url, shard, frame_size), keys=_split_name):
                utterance = _decode(sample, frame_size)
                utterances += 1
                frames += len(utterance.frames)
                if utterances > shard.utterances or frames > shard.frames:
                    raise ValueError(f"more than {shard.utterances} utterances of {shard.frames} frames")
                if fault := value_fault(utterance.frames, observation):
                    raise UserError(
                        f"{url}: {printable(utterance.id)}: {fault}; copy it again or make the shards again"
                    )
                yield utterance
        except UserError:
            raise
        except DAMAGE as error:
            # webdataset appends to the arguments of its ValueErrors.
            raise _damaged(url, error.args[0] if type(error) is ValueError else error) from None
        except Exception as error:
            # The errors of network file systems for a broken connection have no common class.
            raise UserError(f"{url}: reading broke off ({error!r})") from None
    # A tar file that was truncated between two of its files raises no error above.
    if (utterances, frames) != (shard.utterances, shard.frames):
        raise _damaged(url, f"{utterances} utterances of {frames} frames, not {shard.utterances} of {shard.frames}")


def read_shards(location: str | Path, shards: Iterable[Shard], manifest: Manifest) -> Iterator[FramedUtterance]:
    """Read the utterances of several shards, one shard after another. Raises what `read_shard` raises."""
    for shard in shards:
        yield from read_shard(location, shard, manifest.frame_size, manifest.observation)


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
    yield from read_shards(location, manifest.split(split).shards, manifest)


def _split_name(name: str) -> tuple[str, str]:
    """Split `<utterance>.<suffix>` at its last dot: unlike with webdataset's own rule, ids may contain dots."""
    key, _, suffix = name.rpartition(".")
    return key, suffix


def _read_files(stream: IO[bytes], url: str, shard: Shard, frame_size: int) -> Iterator[dict[str, Any]]:
    """Yield the .json and .npy files of a shard as webdataset's tar_file_iterator does, which would also decompress."""
    largest = {
        ".json": LARGEST_DESCRIPTION,
        ".npy": LARGEST_NPY_HEADER + shard.frames * frame_size * np.dtype(np.int16).itemsize,
    }
    mode: Literal["r:", "r|"] = "r:" if stream.seekable() else "r|"  # the former is 1.1 times as fast
    with tarfile.open(fileobj=stream, mode=mode, tarinfo=ShardMember) as tar:
        while (member := tar.next()) is not None:
            tar.members = []  # type: ignore[attr-defined]  # tarfile would keep every member
            suffix = member.name[member.name.rfind(".") :].lower()
            if not member.isreg() or suffix not in largest:
                continue
            if member.size > largest[suffix]:
                raise ValueError(f"{member.name} has {member.size} bytes, more than the manifest allows")
            # By extractfile, a shard of short utterances would take 1.2 times as long.
            tar.fileobj.seek(member.offset_data)
            yield {"fname": member.name, "data": _read(tar.fileobj, member.size), "__url__": url}


def _read(content: Any, size: int) -> bytearray:
    """Read a file of a shard piece by piece, so that memory is taken for what arrives, not for what is declared.

    By extractfile, it would be held twice at the end, which matters for a recording of hours.
    """
    data = bytearray(content.read(min(size, READ_AT_ONCE)))
    while len(data) < size:
        piece = content.read(min(size - len(data), READ_AT_ONCE))
        if not piece:
            raise EOFError(f"a file of {size} bytes ends after {len(data)}")
        data += piece
    return data


def _decode(sample: dict[str, Any], frame_size: int) -> FramedUtterance:
    key = sample["__key__"]
    for suffix in ("json", "npy"):
        if suffix not in sample:
            raise ValueError(f"{key} has no .{suffix} file")
    frames = _decode_frames(sample["npy"], frame_size)
    description: Any = json.loads(sample["json"])
    if not isinstance(description, dict):
        raise ValueError(f"the description of {key} is not a JSON object")
    utterance, speaker = description.get("utterance"), description.get("speaker")
    start, samples = description.get("start"), description.get("samples")
    if not (_is_text(utterance) and _is_text(speaker)):
        raise ValueError(f"the utterance or speaker of {key} is not text")
    if not isinstance(start, int | float) or not 0 <= start < LONGEST_RECORDING:
        raise ValueError(f"the start of {key} is not a time")
    if not isinstance(samples, int) or isinstance(samples, bool) or not 0 <= samples - frames.size < frame_size:
        raise ValueError(f"the samples of {key} do not make {len(frames)} frames of {frame_size}")
    return FramedUtterance(utterance, speaker, float(start), samples, frames)


def _is_text(value: object) -> TypeGuard[str]:
    """Whether a value is a string that a file in UTF-8 can hold. JSON can escape characters that are none."""
    return isinstance(value, str) and value.encode(errors="ignore").decode() == value


def _decode_frames(content: bytearray, frame_size: int) -> Frames:
    """Return the array of an .npy file, which must be int16 [frames, frame_size]."""
    header = NPY_HEADER.match(content)
    if header is None:
        raise ValueError("an .npy file does not hold int16 frames")
    frames, width = int(header[1]), int(header[2])
    if width != frame_size:
        raise ValueError(f"an .npy file holds frames of {width} samples, not {frame_size}")
    samples = np.frombuffer(content, "<i2", offset=header.end())
    if samples.size != frames * width:
        raise ValueError(f"an .npy file holds {samples.size} samples, not {frames} frames of {width}")
    return np.require(samples.reshape(frames, frame_size), np.int16, "A")  # copies nothing that is aligned


def _damaged(url: str, problem: object) -> UserError:
    return UserError(
        f"{url}: damaged ({printable(str(problem))}); copy it again or make the shards again with `zfaudio shard`"
    )
