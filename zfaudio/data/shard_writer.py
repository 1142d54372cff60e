"""Make one shard, and keep a record of it until the manifest is written.

Unfinished files are kept in a hidden folder inside OUT. There, a record of what a shard holds is written before the
shard is moved to its final name. So a run that continues a stopped one finds all that the manifest needs to know about
each finished shard, and makes the other shards again with the same bytes.
"""

import errno
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from zfaudio.corpus.audio import RejectedRecording
from zfaudio.corpus.kaldi import Reject, Utterance, load_utterances
from zfaudio.data.frames import Moments, moments, to_frames
from zfaudio.data.manifest import sha256
from zfaudio.data.shard_format import FramedUtterance, write_shard
from zfaudio.errors import UserError
from zfaudio.files import write_text
from zfaudio.mulaw import to_levels
from zfaudio.observations import Encoding
from zfaudio.typed_json import parse_dataclass


@dataclass(frozen=True)
class FrameSettings:
    """How recordings are read and cut into frames."""

    sample_rate: int  # Hz
    frame_size: int  # samples
    allow_pipes: bool
    strict: bool
    channel: int | None = None  # counted from 0; None for the mean of all
    encoding: Encoding = "linear"


@dataclass(frozen=True)
class ShardPlan:
    """A shard to be made from some utterances."""

    split: str
    name: str  # of the file
    utterances: Sequence[Utterance]


@dataclass
class ShardRecord:
    """What a shard holds and which utterances were left out of it.

    Attributes:
        clipped_samples: number of samples at full scale.
        weak_mixes: ids of the utterances whose channels cancel each other out in their mean.
        digests: hash of the samples of each utterance, by id, but not of digital silence.
    """

    split: str
    name: str
    sha256: str = ""  # empty if no utterance was usable: then there is no such shard
    utterances: int = 0
    frames: int = 0
    dropped_samples: int = 0
    speakers: list[str] = field(default_factory=list)
    moments: Moments = field(default_factory=Moments)
    rejects: list[Reject] = field(default_factory=list)
    clipped_samples: int = 0
    weak_mixes: list[str] = field(default_factory=list)
    digests: dict[str, str] = field(default_factory=dict)

    def to_json(self) -> str:
        """Return a text that `from_json` reads without any loss, in ASCII, because names of files may be any bytes."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "ShardRecord":
        """Read what `to_json` returned. Raises ValueError if it is something else."""
        fields = json.loads(text)
        if not isinstance(fields, dict):
            raise ValueError("not a JSON object")
        record: ShardRecord = parse_dataclass(cls, fields)
        return record


def make_shard(plan: ShardPlan, out: Path, unfinished: Path, settings: FrameSettings) -> ShardRecord:
    """Write OUT/NAME unless an earlier run finished it, and return its record.

    Args:
        plan: the shard to make.
        out: folder of the shards.
        unfinished: folder for unfinished files, on the same file system.
        settings: how to read and cut recordings.

    Raises:
        UserError: the disk is full; with `settings.strict`, a recording cannot be used.
    """
    record_path = unfinished / f"{plan.name}.json"
    finished = read_finished_record(record_path, out / plan.name)
    if finished is not None:
        return finished
    record = ShardRecord(plan.split, plan.name)
    # The process id is part of the name because a worker that survived a killed run may still write the same shard.
    part = unfinished / f"{plan.name}.{os.getpid()}.part"
    try:
        with part.open("wb") as stream:
            digest = write_shard(stream, frame_utterances(plan.utterances, settings, record))
            stream.flush()
            os.fsync(stream.fileno())
        record.sha256 = digest if record.utterances else ""
        write_text(record_path, record.to_json())
        if record.utterances:
            part.replace(out / plan.name)
    except OSError as error:
        raise explain_full_disk(out, error) from None
    finally:
        part.unlink(missing_ok=True)
    return record


def frame_utterances(
    utterances: Sequence[Utterance], settings: FrameSettings, record: ShardRecord
) -> Iterator[FramedUtterance]:
    """Load utterances, cut the usable ones into frames, and enter all of them in the record.

    Raises:
        UserError: with `settings.strict`, for the first utterance that cannot be used.
    """
    speakers = set()
    loaded = load_utterances(
        utterances,
        settings.sample_rate,
        settings.allow_pipes,
        settings.channel,
        note_weak_mix=lambda utterance: record.weak_mixes.append(utterance.id),
    )
    for utterance, waveform in loaded:
        if not isinstance(waveform, RejectedRecording) and len(waveform) < settings.frame_size:
            waveform = RejectedRecording(f"{len(waveform)} samples, shorter than one frame")
        if isinstance(waveform, RejectedRecording):
            if settings.strict:
                raise UserError(f"{utterance.recording}: {utterance.id}: {waveform.reason} (--strict)")
            record.rejects.append(Reject(utterance.id, utterance.recording, waveform.reason))
            continue
        if settings.encoding == "mulaw":
            waveform = to_levels(waveform)
        frames = to_frames(waveform, settings.frame_size)
        record.utterances += 1
        record.frames += len(frames)
        record.dropped_samples += len(waveform) - frames.size
        record.moments = record.moments.merge(moments(frames))
        record.clipped_samples += int(np.count_nonzero((frames == 32767) | (frames == -32768)))
        if waveform.min() < waveform.max():
            digest = hashlib.blake2b(np.ascontiguousarray(waveform).data, digest_size=16)
            record.digests[utterance.id] = digest.hexdigest()
        speakers.add(utterance.speaker)
        yield FramedUtterance(utterance.id, utterance.speaker, utterance.start or 0.0, len(waveform), frames)
    record.speakers = sorted(speakers)


def read_finished_record(record_path: Path, shard: Path) -> ShardRecord | None:
    """Read the record of a shard that an earlier run finished. None if the shard has to be made."""
    if not record_path.exists():
        return None
    try:
        record = ShardRecord.from_json(record_path.read_text(encoding="utf-8"))
    except ValueError:  # damaged, or of another version
        return None
    if record.utterances:
        # The record is written before the shard gets its name, so a file of that name may be an older one.
        if not shard.exists():
            return None
        with shard.open("rb") as stream:
            if sha256(stream) != record.sha256:
                return None
    return record


def explain_full_disk(out: Path, error: OSError) -> Exception:
    """Return a UserError if the disk is full, and any other error as it is."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return UserError(
            f"{out}: {error.strerror}; make room and run the same command again, it continues where it stopped"
        )
    return error
