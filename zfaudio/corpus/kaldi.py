"""Read and write Kaldi data directories, and load the waveforms of their utterances."""

import io
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from zfaudio.corpus.audio import RejectedRecording, open_audio, read_samples, resample, to_mono
from zfaudio.corpus.kaldi_tables import ROUNDING, is_pipe, read_table, validate_data_dir
from zfaudio.errors import UserError
from zfaudio.files import write_text


@dataclass(frozen=True)
class Utterance:
    """An utterance: a whole recording, or a segment of one.

    Attributes:
        id: unique in its corpus. It begins with the speaker's id, so that Kaldi's sorting orders agree.
        speaker: id of the speaker.
        recording: path of the recording, or a command ending in `|` that writes WAV.
        start: where the segment starts, in seconds. None for a whole recording.
        end: where the segment ends, in seconds. None for a whole recording.
        text: transcript, if there is one.
        recording_id: key of the recording in wav.scp if the utterance is a segment. A whole recording has the
            utterance's id as its key.
        duration: length in seconds, None if it is not known.
    """

    id: str
    speaker: str
    recording: str
    start: float | None = None
    end: float | None = None
    text: str | None = None
    recording_id: str | None = None
    duration: float | None = None


@dataclass(frozen=True)
class Reject:
    """An utterance or recording that was left out, and the reason."""

    id: str
    file: str
    reason: str


def write_rejects(path: Path, rejects: Iterable[Reject]) -> None:
    """Write one sorted line per reject: id, reason and file, separated by tabs. The file may be empty."""
    lines = sorted(f"{reject.id}\t{reject.reason}\t{reject.file}\n" for reject in rejects)
    write_text(path, "".join(lines))


# Reading


def read_data_dir(path: str | Path, allow_pipes: bool = False) -> list[Utterance]:
    """Read the utterances of a Kaldi data directory, sorted by id.

    Raises:
        UserError: the directory is missing or not valid, or wav.scp contains a command and `allow_pipes` is not set.
    """
    path = Path(path)
    problems = validate_data_dir(path)
    if problems:
        more = f" (and {len(problems) - 1} more problems)" if len(problems) > 1 else ""
        raise UserError(f"{path}: {problems[0]}{more}")
    recordings = dict(read_table(path / "wav.scp"))
    if not allow_pipes:
        for recording_id, recording in recordings.items():
            if is_pipe(recording):
                raise UserError(f"{path / 'wav.scp'}: {recording_id} is a command; --allow-pipes permits running it")
    speakers = dict(read_table(path / "utt2spk"))
    texts = dict(read_table(path / "text")) if (path / "text").exists() else {}
    durations = dict(read_table(path / "utt2dur")) if (path / "utt2dur").exists() else {}
    utterances = [
        Utterance(
            id,
            speaker,
            recordings.get(id, ""),
            text=texts.get(id),
            duration=float(durations[id]) if id in durations else None,
        )
        for id, speaker in speakers.items()
    ]
    if not (path / "segments").exists():
        return utterances
    segments = {id: rest.split() for id, rest in read_table(path / "segments")}
    return [as_segment(utterance, segments[utterance.id], recordings) for utterance in utterances]


def as_segment(utterance: Utterance, segment: list[str], recordings: dict[str, str]) -> Utterance:
    """Return the utterance as the segment of a recording that its line in `segments` describes."""
    recording_id, start, end = segment
    return replace(
        utterance,
        recording=recordings[recording_id],
        recording_id=recording_id,
        start=float(start),
        end=float(end),
        duration=utterance.duration or float(end) - float(start),
    )


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
        write_text(path / name, "".join(f"{key} {rest}".rstrip() + "\n" for key, rest in rows))
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
    start = utterance.start or 0.0
    end = utterance.end if utterance.end is not None else utterance.duration
    if end is None:
        raise UserError(f"{utterance.id}: its length is not known, so it cannot be listed in segments")
    return utterance.id, f"{utterance.recording_id or utterance.id} {format_seconds(start)} {format_seconds(end)}"


def format_seconds(seconds: float) -> str:
    """Format seconds to the microsecond, which is less than half a sample at any common rate."""
    return f"{seconds:.6f}"


# Waveforms


def load_utterances(
    utterances: Iterable[Utterance], sample_rate: int, allow_pipes: bool = False
) -> Iterator[tuple[Utterance, NDArray[np.int16] | RejectedRecording]]:
    """Load the waveforms of utterances, in their order.

    A recording is opened (or its command run) once for all the utterances that follow each other in it.

    Args:
        utterances: what to load.
        sample_rate: in Hz, to which recordings are resampled.
        allow_pipes: run recordings that are commands.

    Returns:
        Each utterance with its waveform, int16 [samples], which is the mean of its channels, or with the reason why it
        cannot be used.

    Raises:
        UserError: a recording is a command and `allow_pipes` is not set.
    """
    opened, sound = None, None
    try:
        for utterance in utterances:
            try:
                if utterance.recording != opened or sound is None:
                    if sound is not None:
                        sound.close()
                    opened, sound = utterance.recording, None
                    sound = open_recording(utterance.recording, allow_pipes)
                yield utterance, read_utterance(sound, utterance, sample_rate)
            except RejectedRecording as rejection:
                yield utterance, rejection
    finally:
        if sound is not None:
            sound.close()


def read_utterance(sound: soundfile.SoundFile, utterance: Utterance, sample_rate: int) -> NDArray[np.int16]:
    """Read the waveform of an utterance from its open recording, int16 [samples] at `sample_rate`."""
    rate = sound.samplerate
    start = round((utterance.start or 0.0) * rate)
    stop = sound.frames if utterance.end is None else round(utterance.end * rate)
    if stop > sound.frames + round(ROUNDING * rate):
        raise RejectedRecording(f"ends at {utterance.end} s, but its recording ends at {sound.frames / rate:.3f} s")
    stop = min(stop, sound.frames)
    if start >= stop:
        raise RejectedRecording("no samples")
    return resample(to_mono(read_samples(sound, start, stop)), rate, sample_rate)


def open_recording(recording: str, allow_pipes: bool = False) -> soundfile.SoundFile:
    """Open a recording of wav.scp: a file, or the WAV output of a command if `allow_pipes` is set."""
    if not is_pipe(recording):
        return open_audio(recording)
    if not allow_pipes:
        raise UserError(f"{recording!r} is a command; --allow-pipes permits running it")
    finished = subprocess.run(recording.rstrip().rstrip("|"), shell=True, stdout=subprocess.PIPE, check=False)
    if finished.returncode:
        raise RejectedRecording(f"its command exited with status {finished.returncode}")
    return open_audio(io.BytesIO(finished.stdout))
