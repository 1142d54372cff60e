"""Read the manifests of lhotse: recordings and supervisions, or cuts, as JSON lines, plain or gzipped.

lhotse itself is not imported: it brings torch along, and does not check the fields of what it reads.
"""

import gzip
import json
import math
import os
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from zfaudio.corpus.kaldi import Utterance
from zfaudio.corpus.kaldi_tables import is_pipe
from zfaudio.errors import UserError
from zfaudio.text import printable
from zfaudio.typed_json import ForeignRecord, parse_dataclass

# What tells lhotse's files apart: librispeech_recordings_dev-clean.jsonl.gz, cuts.jsonl.
NAME = re.compile(r"(.*(?<![a-z]))(recordings|supervisions|cuts)((?![a-z]).*)\.jsonl(\.gz)?")

# Cuts that are a part of one recording. "Cut" is the name of "MonoCut" in manifests of 2021.
SINGLE_CUTS = ("MonoCut", "MultiCut", "Cut")


@dataclass(frozen=True)
class AudioSource(ForeignRecord):
    """A file, or something else, that holds some channels of a recording."""

    type: str
    channels: list[int]
    source: str


@dataclass(frozen=True)
class AudioTransform(ForeignRecord):
    """What lhotse would do with the samples of a recording."""

    name: str


@dataclass(frozen=True)
class Line(ForeignRecord):
    """A line of a manifest."""

    id: str


@dataclass(frozen=True)
class Recording(Line):
    """A line of recordings.jsonl. The duration is in seconds."""

    sources: list[AudioSource]
    sampling_rate: int
    duration: float
    transforms: list[AudioTransform] | None = None


@dataclass(frozen=True)
class Supervision(Line):
    """A line of supervisions.jsonl: what is said in a part of a recording. Times are in seconds."""

    recording_id: str
    start: float
    duration: float
    channel: int | list[int] = 0
    text: str | None = None
    speaker: str | None = None


@dataclass(frozen=True)
class Cut(Line):
    """A line of cuts.jsonl: a part of a recording, with all that is said in it."""

    type: str = "MonoCut"
    start: float = 0.0
    duration: float = 0.0
    channel: int | list[int] = 0
    supervisions: list[Supervision] = field(default_factory=list)
    recording: Recording | None = None


LineKind = TypeVar("LineKind", bound=Line)


def is_manifest(path: Path) -> bool:
    """Return whether a path is a manifest of lhotse by its name, or a folder that holds one."""
    if path.is_dir():
        return bool(manifests_in(path))
    return NAME.fullmatch(path.name) is not None and path.is_file()


def manifests_in(folder: Path) -> dict[str, dict[str, Path]]:
    """Find the manifests in a folder: for each set, which is what is common to their names, the files by their kind."""
    found: dict[str, dict[str, Path]] = {}
    for path in sorted(folder.glob("*.jsonl*"), reverse=True):  # so that x.jsonl has priority over x.jsonl.gz
        match = NAME.fullmatch(path.name)
        if match is not None and path.is_file():
            found.setdefault(f"{match[1]}*{match[3]}", {})[match[2]] = path
    return found


def read_manifests(path: Path, allow_pipes: bool = False) -> list[Utterance]:
    """Read the utterances of lhotse's manifests, sorted by id: one for each supervision, or for each cut.

    An utterance that does not say its speaker has its recording as one. What is wrong with a single utterance is its
    `problem`. Paths of recordings are relative to the working folder, as lhotse reads them.

    Args:
        path: cuts, or recordings or supervisions (the other is found by its name), or a folder that holds them. If it
            holds both forms, recordings and supervisions are read.
        allow_pipes: accept recordings that are commands.

    Raises:
        UserError: a manifest is missing, damaged or empty, an id is there twice, none of the recordings is there, or a
            recording is a command and `allow_pipes` is not set, or is at an address.
    """
    kinds = find_kinds(path)
    if "cuts" in kinds:
        named = kinds["cuts"]
        cuts = read_lines(named, Cut, "cut")
        check_sources(named, [cut.recording for cut in cuts.values() if cut.recording is not None], allow_pipes)
        utterances = [utterance_of_cut(cut, named) for cut in cuts.values()]
    else:
        named = kinds["recordings"]
        recordings = read_lines(named, Recording, "recording")
        check_sources(named, list(recordings.values()), allow_pipes)
        supervisions = read_lines(kinds["supervisions"], Supervision, "supervision")
        utterances = [utterance_of(one, recordings.get(one.recording_id), named) for one in supervisions.values()]
        unused = len(recordings.keys() - {one.recording_id for one in supervisions.values()})
        if unused:
            print(f"{named}: {unused} recordings without supervision are not used")
    return sorted(utterances, key=lambda utterance: utterance.id.encode())


def find_kinds(path: Path) -> dict[str, Path]:
    """Find the manifests to read: cuts, or recordings and supervisions. Raises UserError if there are none."""
    if path.is_dir():
        sets = manifests_in(path)
        if len(sets) > 1:
            first = min(min(kinds.values()) for kinds in sets.values())
            raise UserError(f"{path}: holds {len(sets)} sets of lhotse's manifests; name a file, such as {first.name}")
        kinds = next(iter(sets.values()), {})
    else:
        match = NAME.fullmatch(path.name)
        sets = manifests_in(path.parent) if path.is_file() else {}
        kinds = sets.get(f"{match[1]}*{match[3]}", {}) if match is not None else {}
        if match is not None and kinds:
            kinds = {kind: file for kind, file in kinds.items() if (kind == "cuts") == (match[2] == "cuts")}
            kinds[match[2]] = path
    if not kinds:
        raise UserError(f"{path}: no manifest of lhotse (recordings.jsonl and supervisions.jsonl, or cuts.jsonl)")
    if {"recordings", "supervisions"} <= kinds.keys():
        return {kind: kinds[kind] for kind in ("recordings", "supervisions")}
    if "cuts" in kinds:
        return {"cuts": kinds["cuts"]}
    ((kind, file),) = kinds.items()
    other = "supervisions" if kind == "recordings" else "recordings"
    other_name = NAME.sub(rf"\g<1>{other}\g<3>", file.name)
    raise UserError(f"{file}: {other_name}.jsonl (or .jsonl.gz) is missing beside it")


def read_lines(path: Path, kind: type[LineKind], what: str) -> dict[str, LineKind]:
    """Read the lines of a manifest, by id.

    Args:
        path: the manifest.
        kind: what of a line is read.
        what: what a line is called in error messages.

    Raises:
        UserError: the file cannot be read or is empty, a line is not JSON, a field in it is missing or of another type,
            or an id is there twice.
    """
    lines: dict[str, LineKind] = {}
    for number, text in read_texts(path):
        try:
            fields = json.loads(text)
            if not isinstance(fields, dict):
                raise ValueError("not a JSON object")
            line: LineKind = parse_dataclass(kind, fields)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{path}:{number}: not a {what} of lhotse ({printable(str(error))})") from None
        if line.id in lines:
            raise UserError(f"{path}:{number}: {line.id} is listed twice")
        lines[line.id] = line
    if not lines:
        raise UserError(f"{path}: holds no {what}s")
    return lines


def read_texts(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the number and the text of each line that is not blank. Raises UserError if the file cannot be read."""
    open_text: Callable[..., Any] = gzip.open if path.suffix == ".gz" else open
    number = 0
    try:
        with open_text(path, "rt", encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield number, line
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read after line {number} ({error})") from None


def check_sources(path: Path, recordings: Sequence[Recording], allow_pipes: bool) -> None:
    """Check that recordings are files that may be opened, and that not all of them are gone.

    Raises:
        UserError: that is not so.
    """
    files: dict[str, None] = {}  # cuts of one recording name the same file
    for recording in recordings:
        for source in recording.sources:
            if source.type == "command" and not allow_pipes:
                raise UserError(f"{path}: {recording.id} is a command; --allow-pipes permits running it")
            if source.type not in ("file", "command"):
                raise UserError(f"{path}: {recording.id} is no file but of type {source.type}; save its audio as files")
            if source.type == "file":
                files[source.source] = None
    if files and not any(map(os.path.exists, files)):
        raise UserError(
            f"{path}: none of its {len(files)} recordings is there, such as {next(iter(files))}; if they have moved, "
            "make the manifest again (relative paths start at the working folder)"
        )


def utterance_of(supervision: Supervision, recording: Recording | None, path: Path) -> Utterance:
    """The utterance that is a supervision, or with the problem that keeps it from being used."""
    speaker = printable(supervision.speaker or supervision.recording_id)
    utterance = Utterance(printable(supervision.id), speaker, str(path), text=supervision.text)
    if recording is None:
        return replace(utterance, problem=f"its recording {supervision.recording_id} is not listed")
    return in_recording(utterance, recording, supervision.start, supervision.duration, supervision.channel)


def utterance_of_cut(cut: Cut, path: Path) -> Utterance:
    """The utterance that is a cut, or with the problem that keeps it from being used.

    Its speaker is that of its supervisions if they agree.
    """
    id, recording = printable(cut.id), cut.recording
    if cut.type not in SINGLE_CUTS:
        return Utterance(id, id, str(path), problem=f"a {cut.type} is no part of one recording")
    if recording is None:
        return Utterance(id, id, str(path), problem="a cut without a recording")
    speakers = {one.speaker for one in cut.supervisions}
    speaker = speakers.pop() if len(speakers) == 1 else None
    spoken = sorted((one for one in cut.supervisions if one.text is not None), key=lambda one: one.start)
    text = " ".join(one.text or "" for one in spoken) if spoken else None
    utterance = Utterance(id, printable(speaker or recording.id), str(path), text=text)
    return in_recording(utterance, recording, cut.start, cut.duration, cut.channel)


def in_recording(
    utterance: Utterance, recording: Recording, start: float, duration: float, channel: int | list[int]
) -> Utterance:
    """Return the utterance as a part of a recording, or with the problem that keeps it from being used.

    Args:
        utterance: the utterance.
        recording: the recording that it is in.
        start, duration: where, in seconds. What ends within a sample of the recording's end ends there.
        channel: the channel or channels that it is in.
    """
    try:
        if not 0 <= start < math.inf or not 0 < duration < math.inf:
            raise ValueError(f"starts at {start} s and lasts {duration} s")
        if recording.sampling_rate < 1:
            raise ValueError(f"its recording has {recording.sampling_rate} samples a second")
        path, index = find_channel(recording, {channel} if isinstance(channel, int) else set(channel))
    except ValueError as error:
        return replace(utterance, problem=str(error))
    end = start + duration
    to_end = abs(end - recording.duration) * recording.sampling_rate < 1
    whole = start == 0 and to_end
    return replace(
        utterance,
        recording=path,
        recording_id=None if whole else printable(recording.id),
        start=None if whole else start,
        end=None if to_end else end,
        duration=duration,
        channel=index,
        problem=None,
    )


def find_channel(recording: Recording, channels: set[int]) -> tuple[str, int | None]:
    """Find the file that holds some channels of a recording, or the command that writes it.

    Returns:
        The file or command as in wav.scp, and the channel to choose of it, counted from 0. None if all are meant.

    Raises:
        ValueError: there is no such file, or lhotse would not use its samples as they are.
    """
    changes = [change.name for change in recording.transforms or [] if change.name != "Resample"]
    if changes:
        raise ValueError(f"lhotse would change its recording by {changes[0]}, which is not done here")
    source = next((source for source in recording.sources if channels and channels <= set(source.channels)), None)
    if source is None:
        raise ValueError(f"channels {sorted(channels)} are not in one file of its recording")
    if source.type == "file" and is_pipe(source.source):
        raise ValueError("the name of its file ends like a command")
    if 1 < len(channels) < len(source.channels):
        raise ValueError(f"channels {sorted(channels)} are neither one nor all of its file")
    path = f"{source.source} |" if source.type == "command" else source.source
    return path, source.channels.index(*channels) if len(source.channels) > 1 == len(channels) else None
