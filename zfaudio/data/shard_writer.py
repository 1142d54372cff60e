"""Make one shard, whole or not at all, and keep a record of it until the manifest is written.

Everything unfinished lives in a hidden folder inside OUT: files being written, and of each shard a record of
what it holds, written before the shard gets its final name. A run that was stopped therefore finds every shard
that is done, with all that the manifest needs to know of it, and makes the others again to the same bytes.
"""

import errno
import io
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from zfaudio.corpus.audio import RejectedRecording
from zfaudio.corpus.kaldi import Reject, Utterance, load_utterances
from zfaudio.data.frames import Moments, moments, to_frames
from zfaudio.data.manifest import sha256
from zfaudio.data.shard_format import FramedUtterance, write_shard
from zfaudio.errors import UserError

STRETCH = 16 << 20  # bytes of a shard that are sent to the disk at once


@dataclass(frozen=True)
class Cutting:
    """How the utterances of every shard are cut."""

    sample_rate: int  # Hz
    frame_size: int  # samples
    allow_pipes: bool
    strict: bool


@dataclass(frozen=True)
class ShardPlan:
    """A shard to be made: its split, its file name and the utterances meant for it."""

    split: str
    name: str
    utterances: Sequence[Utterance]


@dataclass
class ShardRecord:
    """What a shard holds and what was left out of it."""

    split: str
    name: str
    sha256: str = ""  # empty: no utterance was usable, so there is no such shard
    utterances: int = 0
    frames: int = 0
    dropped_samples: int = 0
    speakers: list[str] = field(default_factory=list)
    moments: Moments = field(default_factory=Moments)
    rejects: list[Reject] = field(default_factory=list)

    def to_json(self) -> str:
        """Text that `from_json` reads; numbers keep every bit."""
        return json.dumps(asdict(self), ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> "ShardRecord":
        """Read what `to_json` wrote."""
        fields = json.loads(text)
        fields["moments"] = Moments(**fields["moments"])
        fields["rejects"] = [Reject(**reject) for reject in fields["rejects"]]
        return cls(**fields)


class WrittenBack(io.FileIO):
    """A file that is on its way to the disk while more of it is made, which leaves fsync little to wait for."""

    written = 0  # bytes
    sent = 0  # of them, those on their way

    def write(self, content: Any) -> int:
        """As of any file."""
        count = super().write(content)
        self.written += count
        if self.written - self.sent >= STRETCH and hasattr(os, "posix_fadvise"):
            # Linux starts to write what is dirty, and lets go only of what is not.
            os.posix_fadvise(self.fileno(), self.sent, self.written - self.sent, os.POSIX_FADV_DONTNEED)
            self.sent = self.written
        return count


def make_shard(plan: ShardPlan, out: Path, unfinished: Path, cutting: Cutting) -> ShardRecord:
    """Write OUT/NAME unless it is there already, and return its record.

    Raises:
        UserError: the disk is full; with `cutting.strict`, a recording cannot be used.
    """
    record_path = unfinished / f"{plan.name}.json"
    done = finished_record(record_path, out / plan.name)
    if done is not None:
        return done
    record = ShardRecord(plan.split, plan.name)
    # A process that outlived a killed run may still be at the same shard: each writes to a file of its own.
    part = unfinished / f"{plan.name}.{os.getpid()}.part"
    try:
        with io.BufferedWriter(WrittenBack(part, "w")) as stream:
            digest = write_shard(stream, framed_utterances(plan.utterances, cutting, record))
            stream.flush()
            os.fsync(stream.fileno())
        record.sha256 = digest if record.utterances else ""
        write_whole(record_path, record.to_json())
        if record.utterances:
            part.replace(out / plan.name)
    except OSError as error:
        raise full_disk(out, error) from None
    finally:
        part.unlink(missing_ok=True)
    return record


def framed_utterances(
    utterances: Sequence[Utterance], cutting: Cutting, record: ShardRecord
) -> Iterator[FramedUtterance]:
    """The usable ones of some utterances as frames; all of them are entered in the record.

    Raises:
        UserError: with `cutting.strict`, for the first that cannot be used.
    """
    speakers = set()
    for utterance, waveform in load_utterances(utterances, cutting.sample_rate, cutting.allow_pipes):
        if not isinstance(waveform, RejectedRecording) and len(waveform) < cutting.frame_size:
            waveform = RejectedRecording(f"{len(waveform)} samples, shorter than one frame")
        if isinstance(waveform, RejectedRecording):
            if cutting.strict:
                raise UserError(f"{utterance.recording}: {utterance.id}: {waveform.reason} (--strict)")
            record.rejects.append(Reject(utterance.id, utterance.recording, waveform.reason))
            continue
        frames = to_frames(waveform, cutting.frame_size)
        record.utterances += 1
        record.frames += len(frames)
        record.dropped_samples += len(waveform) - frames.size
        record.moments = record.moments.merge(moments(frames))
        speakers.add(utterance.speaker)
        yield FramedUtterance(utterance.id, utterance.speaker, utterance.start or 0.0, len(waveform), frames)
    record.speakers = sorted(speakers)


def finished_record(record_path: Path, shard: Path) -> ShardRecord | None:
    """The record of a shard that a stopped run finished, None where it has to be made."""
    if not record_path.exists():
        return None
    record = ShardRecord.from_json(record_path.read_text(encoding="utf-8"))
    if record.utterances:
        # The record is there before its shard is: what stands under the shard's name may be older than it.
        if not shard.exists():
            return None
        with shard.open("rb") as stream:
            if sha256(stream) != record.sha256:
                return None
    return record


def write_whole(path: Path, text: str) -> None:
    """Write a file that appears under its name only when all of it is on the disk."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with part.open("w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def full_disk(out: Path, error: OSError) -> Exception:
    """What to tell the user where the disk is full; any other error as it is."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return UserError(
            f"{out}: {error.strerror}; make room and run the same command again, it goes on where it stopped"
        )
    return error
