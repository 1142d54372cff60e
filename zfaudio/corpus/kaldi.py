"""Read and write Kaldi data directories, and load the waveforms of their utterances."""

import io
import subprocess
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from zfaudio.corpus.audio import (
    AudioFile,
    RejectedRecording,
    mix_is_weak,
    open_audio,
    read_samples,
    resample,
    to_mono,
)
from zfaudio.corpus.converters import last_line
from zfaudio.corpus.kaldi_tables import (
    MAX_OVERSHOOT,
    is_pipe,
    parse_duration,
    parse_segment,
    read_table,
    split_offset,
    validate_data_dir,
)
from zfaudio.errors import UserError
from zfaudio.files import whole_file, write_text
from zfaudio.text import printable


@dataclass(frozen=True)
class Utterance:
    """An utterance: a whole recording, or a segment of one.

    Attributes:
        id: unique in its corpus. It begins with the speaker's id, so that Kaldi's sorting orders agree.
        speaker: id of the speaker.
        recording: path of the recording, or path:offset of one inside an archive, or a command ending in `|` that
            writes it.
        start: where the segment starts, in seconds. None for a whole recording.
        end: where the segment ends, in seconds. None for the end of the recording.
        text: transcript, if there is one.
        recording_id: key of the recording in wav.scp if the utterance is a segment. A whole recording has the
            utterance's id as its key.
        duration: length in seconds, None if it is not known.
        channel: channel of the recording, counted from 0. None if none is chosen.
        side: channel of the recording, counted from 0, if it has several. None if none is chosen.
        problem: why the utterance cannot be used, None if nothing is known against it.
    """

    id: str
    speaker: str
    recording: str
    start: float | None = None
    end: float | None = None
    text: str | None = None
    recording_id: str | None = None
    duration: float | None = None
    channel: int | None = None
    side: int | None = None
    problem: str | None = None


@dataclass(frozen=True)
class Reject:
    """An utterance or recording that was left out, and the reason."""

    id: str
    file: str
    reason: str


def write_rejects(path: Path, rejects: Iterable[Reject]) -> None:
    """Write one sorted line per reject: id, reason and file, separated by tabs. The file may be empty.

    Control characters and bytes that are not UTF-8 are written as escapes such as \\xe9.
    """
    rows = ((printable(reject.id), printable(reject.reason), printable(reject.file)) for reject in rejects)
    lines = sorted("\t".join(row) + "\n" for row in rows)
    write_text(path, "".join(lines))


# Reading


def read_data_dir(path: str | Path, allow_pipes: bool = False) -> list[Utterance]:
    """Read the utterances of a Kaldi data directory, sorted by id.

    spk2utt may be missing. An utterance whose line in segments is wrong has a `problem`. In ids, bytes that are not
    UTF-8 are written as escapes such as \\xe9.

    Raises:
        UserError: the directory is missing or not valid, or wav.scp contains a command and `allow_pipes` is not set.
    """
    path = Path(path)
    problems = validate_data_dir(path, to_read=True)
    if problems:
        more = f" (and {len(problems) - 1} more problems)" if len(problems) > 1 else ""
        raise UserError(f"{path}: {problems[0]}{more}")
    recordings = dict(read_table(path / "wav.scp"))
    if not allow_pipes:
        for recording_id, recording in recordings.items():
            if is_pipe(recording):
                raise UserError(f"{path / 'wav.scp'}: {recording_id} is a command; --allow-pipes permits running it")
    tables = {
        name: dict(read_table(path / name)) if (path / name).is_file() else {}
        for name in ("text", "utt2dur", "reco2dur", "segments", "reco2file_and_channel")
    }
    sides = {recording_id: side_of(rest) for recording_id, rest in tables["reco2file_and_channel"].items()}
    utterances = []
    for id, speaker in read_table(path / "utt2spk"):
        utterance = Utterance(readable(id), readable(speaker), "", text=tables["text"].get(id))
        if id in tables["utt2dur"]:
            utterance = replace(utterance, duration=float(tables["utt2dur"][id]))
        if tables["segments"]:
            line = tables["segments"][id]
            utterance = as_segment(utterance, line, recordings, tables["reco2dur"])
            utterance = replace(utterance, side=sides.get(line.split(maxsplit=1)[0]) if line else None)
        else:
            utterance = replace(utterance, recording=recordings[id], side=sides.get(id))
        if utterance.problem is None and (not utterance.recording or utterance.recording.startswith("~")):
            utterance = replace(utterance, problem="wav.scp gives no usable file name")
        utterances.append(utterance)
    return utterances


def as_segment(
    utterance: Utterance, rest: str, recordings: dict[str, str], recording_durations: dict[str, str]
) -> Utterance:
    """Return the utterance as the segment of a recording that its line in `segments` describes, or with its problem."""
    try:
        recording_id, start, end, channel = parse_segment(rest)
    except ValueError as error:
        return replace(utterance, problem=f"segments: {error}")
    if recording_id not in recordings:
        return replace(utterance, problem=f"segments: {recording_id}, which is not in wav.scp")
    stop = end if end is not None else parse_duration(recording_durations.get(recording_id, ""))
    return replace(
        utterance,
        recording=recordings[recording_id],
        recording_id=readable(recording_id),
        start=start,
        end=end,
        channel=channel,
        duration=utterance.duration or (stop - start if stop > start else None),
    )


def side_of(rest: str) -> int | None:
    """Return the channel, counted from 0, of a line of reco2file_and_channel, which names it A, B, 1 or 2."""
    fields = rest.split()
    return {"A": 0, "B": 1, "1": 0, "2": 1}.get(fields[1].upper()) if len(fields) > 1 else None


def readable(id: str) -> str:
    """Return an id with bytes that are not UTF-8 written as escapes."""
    return id.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


# Writing


def write_data_dir(path: Path, utterances: Iterable[Utterance]) -> None:
    """Write wav.scp, utt2spk and spk2utt, and utt2dur, segments and text where they apply.

    If any utterance is a segment, all get a line in `segments`, for which whole recordings need a duration. utt2dur is
    left out if a duration is not known.

    Raises:
        UserError: there are no utterances, or the directory is not valid (an id is blank or appears twice, or the ids
            do not sort as their speakers do).
    """
    path = Path(path)
    path.mkdir(parents=True, exist_ok=True)
    ordered = sorted(utterances, key=lambda utterance: utterance.id)
    if not ordered:
        raise UserError(f"{path}: no utterance to write")
    tables = {"utt2spk": [(utterance.id, utterance.speaker) for utterance in ordered]}
    by_speaker: dict[str, list[str]] = {}
    for utterance in ordered:
        by_speaker.setdefault(utterance.speaker, []).append(utterance.id)
    tables["spk2utt"] = [(speaker, " ".join(ids)) for speaker, ids in by_speaker.items()]
    if any(utterance.start is not None for utterance in ordered):
        tables["segments"] = [segment_row(utterance) for utterance in ordered]
        tables["wav.scp"] = [(utterance.recording_id or utterance.id, utterance.recording) for utterance in ordered]
    else:
        tables["wav.scp"] = [(utterance.id, utterance.recording) for utterance in ordered]
    durations = [(utterance.id, utterance_seconds(utterance)) for utterance in ordered]
    if all(seconds is not None for _, seconds in durations):
        tables["utt2dur"] = [(id, format_seconds(seconds)) for id, seconds in durations if seconds is not None]
    if any(utterance.text is not None for utterance in ordered):
        tables["text"] = [(utterance.id, " ".join((utterance.text or "").split())) for utterance in ordered]
    for name in ("segments", "text", "utt2dur"):
        if name not in tables:
            (path / name).unlink(missing_ok=True)  # an earlier run may have written it
    for name, table in tables.items():
        rows = table if name == "utt2spk" else sorted(set(table))
        content = "".join(f"{key} {rest}".rstrip() + "\n" for key, rest in rows)
        with whole_file(path / name) as part:  # names of files may be any bytes
            part.write_bytes(content.encode("utf-8", "surrogateescape"))
    problems = validate_data_dir(path)
    if problems:
        raise UserError(f"{path}: {problems[0]}")


def utterance_seconds(utterance: Utterance) -> float | None:
    """Return the length of an utterance in seconds, None if it is not known."""
    if utterance.start is not None and utterance.end is not None:
        return utterance.end - utterance.start
    return utterance.duration


def segment_row(utterance: Utterance) -> tuple[str, str]:
    """Return the key and the rest of an utterance's line in `segments`."""
    start, end = utterance.start or 0.0, utterance.end
    if end is None:
        if utterance.duration is None:
            raise UserError(f"{utterance.id}: its length is not known, so it cannot be listed in segments")
        end = start + utterance.duration
    return utterance.id, f"{utterance.recording_id or utterance.id} {format_seconds(start)} {format_seconds(end)}"


def format_seconds(seconds: float) -> str:
    """Format seconds to the microsecond, which is less than half a sample at any common rate."""
    return f"{seconds:.6f}"


# Waveforms


def load_utterances(
    utterances: Iterable[Utterance],
    sample_rate: int,
    allow_pipes: bool = False,
    channel: int | None = None,
    note_weak_mix: Callable[[Utterance], None] = lambda utterance: None,
) -> Iterator[tuple[Utterance, NDArray[np.int16] | RejectedRecording]]:
    """Load the waveforms of utterances, in their order.

    A recording is opened (or its command run) once for all the utterances that follow each other in it.

    Args:
        utterances: what to load.
        sample_rate: in Hz, to which recordings are resampled.
        allow_pipes: run recordings that are commands.
        channel: channel to use of recordings that do not choose one themselves, counted from 0. None for the mean.
        note_weak_mix: called with each utterance whose channels cancel each other out in their mean.

    Returns:
        Each utterance with its waveform, int16 [samples], of one channel or the mean of all channels, or with the
        reason why it cannot be used.

    Raises:
        UserError: a recording is a command and `allow_pipes` is not set.
    """
    opened, sound = None, None
    try:
        for utterance in utterances:
            try:
                if utterance.problem is not None:
                    raise RejectedRecording(utterance.problem)
                if utterance.recording != opened or sound is None:
                    if sound is not None:
                        sound.close()
                    opened, sound = utterance.recording, None
                    sound = open_recording(utterance.recording, allow_pipes)
                samples = read_utterance(sound, utterance)
                mono = choose_channel(samples, utterance, channel)
                if mono is None:
                    mono = to_mono(samples)
                    if mix_is_weak(samples, mono):
                        note_weak_mix(utterance)
                yield utterance, resample(mono, sound.samplerate, sample_rate)
            except RejectedRecording as rejection:
                yield utterance, rejection
    finally:
        if sound is not None:
            sound.close()


def read_utterance(sound: AudioFile, utterance: Utterance) -> NDArray[np.int16]:
    """Read the samples of an utterance from its open recording, int16 [samples, channels] at its own rate."""
    rate = sound.samplerate
    seconds = sound.frames / rate
    start = utterance.start or 0.0
    if start > seconds:
        raise RejectedRecording(f"starts at {start} s, but its recording ends at {seconds:.3f} s")
    if utterance.end is not None and utterance.end > seconds + MAX_OVERSHOOT:
        raise RejectedRecording(f"ends at {utterance.end} s, but its recording ends at {seconds:.3f} s")
    first = round(start * rate)
    stop = sound.frames if utterance.end is None else min(round(utterance.end * rate), sound.frames)
    if first >= stop:
        raise RejectedRecording("no samples")
    return read_samples(sound, first, stop)


def choose_channel(samples: NDArray[np.int16], utterance: Utterance, channel: int | None) -> NDArray[np.int16] | None:
    """Return the chosen channel of samples [samples, channels]. None if none is chosen.

    Raises:
        RejectedRecording: the recording does not have that channel.
    """
    channels = samples.shape[1]
    if utterance.channel is not None:
        channel = utterance.channel
    elif utterance.side is not None:
        channel = utterance.side if channels > 1 else 0
    if channel is None:
        return None
    if channel >= channels:
        raise RejectedRecording(f"no channel {channel} (counted from 0): it has {channels}")
    return np.ascontiguousarray(samples[:, channel])


def open_recording(recording: str, allow_pipes: bool = False) -> AudioFile:
    """Open a recording of wav.scp: a file, a part of an archive, or what a command writes if `allow_pipes` is set."""
    if not is_pipe(recording):
        return open_audio(*split_offset(recording))
    if not allow_pipes:
        raise UserError(f"{recording!r} is a command; --allow-pipes permits running it")
    finished = subprocess.run(
        recording.rstrip().rstrip("|"), shell=True, stdin=subprocess.DEVNULL, capture_output=True, check=False
    )
    if finished.returncode:
        said = f": {last_line(finished.stderr, finished.returncode)}" if finished.stderr.strip() else ""
        raise RejectedRecording(f"its command exited with status {finished.returncode}{said}")
    return open_audio(io.BytesIO(finished.stdout))
