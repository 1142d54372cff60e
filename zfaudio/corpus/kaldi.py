"""Kaldi data directories in and out, and the waveforms of their utterances."""

import io
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import soundfile

from zfaudio.corpus.audio import RejectedRecording, open_audio, read_samples, resample, to_mono
from zfaudio.corpus.kaldi_tables import ROUNDING, is_pipe, read_table, validate_data_dir
from zfaudio.errors import UserError


@dataclass(frozen=True)
class Utterance:
    """One utterance: a whole recording, or the part start..end (seconds) of one.

    `recording` is a path, or a command ending in `|` that writes WAV. `recording_id` is its key in wav.scp
    when the utterance is a part; a whole recording goes by the utterance's id. `duration` is in seconds,
    None: not known.
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
    """An utterance or recording left out, and why."""

    id: str
    file: str
    reason: str


def write_rejects(path: Path, rejects: Iterable[Reject]) -> None:
    """One line a reject, sorted: id, reason, file, separated by tabs. Written even when there is none."""
    lines = sorted(f"{reject.id}\t{reject.reason}\t{reject.file}\n" for reject in rejects)
    path.write_text("".join(lines), encoding="utf-8")


# Reading


def read_data_dir(path: Path, allow_pipes: bool = False) -> list[Utterance]:
    """Utterances of a Kaldi data directory, sorted by id.

    Raises:
        UserError: it is missing or does not validate, or wav.scp holds a command without `allow_pipes`.
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
                raise UserError(f"{path / 'wav.scp'}: {recording_id} is a command; --allow-pipes lets it run")
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
    return [place_segment(utterance, segments[utterance.id], recordings) for utterance in utterances]


def place_segment(utterance: Utterance, segment: list[str], recordings: dict[str, str]) -> Utterance:
    """The utterance as the part of a recording that its line in `segments` says."""
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
    """Write wav.scp, utt2spk, spk2utt, utt2dur and, where there are any, segments and text.

    A directory with one part of a recording in it gets `segments` for all; whole recordings then need their
    duration. utt2dur is left out when a duration is not known.

    Raises:
        UserError: what was written does not validate (ids twice, blank, or not sorting as their speakers do).
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
        tables["segments"] = [segment_line(utterance) for utterance in ordered]
        tables["wav.scp"] = [(utterance.recording_id or utterance.id, utterance.recording) for utterance in ordered]
    else:
        tables["wav.scp"] = [(utterance.id, utterance.recording) for utterance in ordered]
    durations = [(utterance.id, utterance_seconds(utterance)) for utterance in ordered]
    if all(seconds is not None for _, seconds in durations):
        tables["utt2dur"] = [(id, seconds_text(seconds)) for id, seconds in durations if seconds is not None]
    if any(utterance.text is not None for utterance in ordered):
        tables["text"] = [(utterance.id, " ".join((utterance.text or "").split())) for utterance in ordered]
    for name in ("segments", "text", "utt2dur"):
        if name not in tables:
            (path / name).unlink(missing_ok=True)  # of an earlier run
    for name, table in tables.items():
        rows = table if name == "utt2spk" else sorted(set(table))
        (path / name).write_text("".join(f"{key} {rest}".rstrip() + "\n" for key, rest in rows), encoding="utf-8")
    problems = validate_data_dir(path)
    if problems:
        raise UserError(f"{path}: {problems[0]}")


def utterance_seconds(utterance: Utterance) -> float | None:
    """Length of an utterance in seconds, None where it is not known."""
    if utterance.start is not None and utterance.end is not None:
        return utterance.end - utterance.start
    return utterance.duration


def segment_line(utterance: Utterance) -> tuple[str, str]:
    """Key and rest of an utterance's line in `segments`."""
    start = utterance.start or 0.0
    end = utterance.end if utterance.end is not None else utterance.duration
    if end is None:
        raise UserError(f"{utterance.id}: its length is not known, so it cannot stand in segments")
    return utterance.id, f"{utterance.recording_id or utterance.id} {seconds_text(start)} {seconds_text(end)}"


def seconds_text(seconds: float) -> str:
    """Seconds to the microsecond: finer than half a sample at any rate in use."""
    return f"{seconds:.6f}"


# Waveforms


def load_utterance(utterance: Utterance, sample_rate: int, allow_pipes: bool = False) -> np.ndarray:
    """The waveform of an utterance: int16 [n], mono (the mean of its channels), at `sample_rate`.

    Raises:
        RejectedRecording: its recording cannot be read, or ends before the utterance does.
        UserError: its recording is a command and `allow_pipes` is not set.
    """
    with open_recording(utterance.recording, allow_pipes) as sound:
        return read_utterance(sound, utterance, sample_rate)


def load_utterances(
    utterances: Iterable[Utterance], sample_rate: int, allow_pipes: bool = False
) -> Iterator[tuple[Utterance, np.ndarray | RejectedRecording]]:
    """Each utterance with its waveform, or with why it has none; the order is kept.

    While one utterance after another comes from the same recording, that is opened (or its command run) once.
    """
    current, sound = None, None
    try:
        for utterance in utterances:
            try:
                if utterance.recording != current or sound is None:
                    if sound is not None:
                        sound.close()
                    current, sound = utterance.recording, None
                    sound = open_recording(utterance.recording, allow_pipes)
                yield utterance, read_utterance(sound, utterance, sample_rate)
            except RejectedRecording as rejection:
                yield utterance, rejection
    finally:
        if sound is not None:
            sound.close()


def read_utterance(sound: soundfile.SoundFile, utterance: Utterance, sample_rate: int) -> np.ndarray:
    """The waveform of an utterance of an open recording, int16 [n] at `sample_rate`."""
    rate = sound.samplerate
    start = round((utterance.start or 0.0) * rate)
    stop = sound.frames if utterance.end is None else round(utterance.end * rate)
    if stop > sound.frames + round(ROUNDING * rate):
        raise RejectedRecording(f"ends at {utterance.end} s, its recording after {sound.frames / rate:.3f} s")
    stop = min(stop, sound.frames)
    if start >= stop:
        raise RejectedRecording("no samples")
    return resample(to_mono(read_samples(sound, start, stop)), rate, sample_rate)


def open_recording(recording: str, allow_pipes: bool = False) -> soundfile.SoundFile:
    """Open a recording of wav.scp: a file, or where the user allows it the WAV output of a command."""
    if not is_pipe(recording):
        return open_audio(recording)
    if not allow_pipes:
        raise UserError(f"{recording!r} is a command; --allow-pipes lets it run")
    finished = subprocess.run(recording.rstrip().rstrip("|"), shell=True, stdout=subprocess.PIPE, check=False)
    if finished.returncode:
        raise RejectedRecording(f"its command left with status {finished.returncode}")
    return open_audio(io.BytesIO(finished.stdout))
