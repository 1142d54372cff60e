"""Decode, check, resample and write recordings. Samples are int16 everywhere."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from zfaudio.config import SHORTEST_SECONDS
from zfaudio.corpus.opening import BLOCK_SECONDS
from zfaudio.corpus.opening import AudioFile as AudioFile
from zfaudio.corpus.opening import open_audio as open_audio
from zfaudio.corpus.opening import to_int16 as to_int16
from zfaudio.corpus.rejection import RejectedRecording as RejectedRecording
from zfaudio.errors import UserError
from zfaudio.files import whole_file


def read_samples(sound: AudioFile, start: int = 0, stop: int | None = None) -> NDArray[np.int16]:
    """Read samples start..stop of every channel, int16 [samples, channels].

    16-bit PCM is returned bit for bit. Floating-point and lossy formats are scaled by 2^15, rounded and clipped.

    Raises:
        RejectedRecording: the recording cannot be decoded up to `stop`, or holds NaN or infinity.
    """
    return sound.read(start, sound.frames if stop is None else stop)


def read_audio(path: str | Path) -> tuple[NDArray[np.int16], int]:
    """Read a whole recording.

    Returns:
        Samples, int16 [samples, channels], and the sample rate in Hz.

    Raises:
        RejectedRecording: the recording is unreadable, empty or truncated, or holds NaN.
    """
    with open_audio(path) as sound:
        return read_samples(sound), sound.samplerate


def read_blocks(sound: AudioFile) -> Iterator[NDArray[np.int16]]:
    """Read a whole recording in blocks of 30 seconds, int16 [samples, channels], so that hours need little memory."""
    length = BLOCK_SECONDS * sound.samplerate
    for start in range(0, sound.frames, length):
        yield read_samples(sound, start, min(start + length, sound.frames))


def check_audio(path: str | Path, shortest_seconds: float = SHORTEST_SECONDS) -> float:
    """Decode a whole recording to check it, and return its duration in seconds.

    Raises:
        RejectedRecording: the recording is unreadable, empty, truncated or shorter than `shortest_seconds`, or holds
            NaN.
    """
    with open_audio(path) as sound:
        for _ in read_blocks(sound):
            pass
        return duration(sound, shortest_seconds)


def duration(sound: AudioFile, shortest_seconds: float = SHORTEST_SECONDS) -> float:
    """Return the duration of an open recording in seconds.

    Raises:
        RejectedRecording: it is shorter than `shortest_seconds`.
    """
    seconds: float = sound.frames / sound.samplerate
    if seconds < shortest_seconds:
        raise RejectedRecording(f"too short: {seconds:.4f} s, at least {shortest_seconds:.4f} s are needed")
    return seconds


def to_mono(samples: NDArray[np.int16]) -> NDArray[np.int16]:
    """Mix int16 [samples, channels] down to int16 [samples]: the rounded mean of the channels."""
    if samples.shape[1] == 1:
        return samples[:, 0]
    mixed: NDArray[np.float64] = samples.mean(axis=1)
    return np.rint(mixed).astype(np.int16)


def mix_is_weak(samples: NDArray[np.int16], mono: NDArray[np.int16]) -> bool:
    """Return whether the channels, int16 [samples, channels], cancel each other out in their mean, int16 [samples].

    The mean of channels that have nothing in common has the power of one of them, divided by their number. This is so
    if it has an eighth of that or less.
    """
    power = float(np.square(samples.astype(np.float64)).mean())
    return power > 1.0 and float(np.square(mono.astype(np.float64)).mean()) < power / (8 * samples.shape[1])


def resample(waveform: NDArray[np.int16], rate: int, target: int) -> NDArray[np.int16]:
    """Resample int16 [n] from `rate` to `target` Hz: int16 [n * target / rate, rounded], clipped at full scale."""
    if rate == target:
        return waveform
    resampled: NDArray[np.float32] = soxr.resample(waveform.astype(np.float32) / 32768.0, rate, target, quality="HQ")
    return to_int16(resampled)


def wav_bytes(waveform: NDArray[np.int16], rate: int) -> bytes:
    """A waveform, int16 [samples], as the bytes of a 16-bit PCM WAV file."""
    file = io.BytesIO()
    soundfile.write(file, waveform, rate, subtype="PCM_16", format="WAV")
    return file.getvalue()


def write_wav(path: str | Path, waveform: NDArray[Any], rate: int) -> None:
    """Write a waveform, int16 [samples] or floating-point samples in [-1, 1), as 16-bit PCM WAV.

    Raises:
        UserError: the file cannot be written.
    """
    samples = waveform if waveform.dtype == np.int16 else to_int16(waveform)
    try:
        with whole_file(Path(path)) as part:
            soundfile.write(part, samples, rate, subtype="PCM_16", format="WAV")
    except soundfile.LibsndfileError as error:
        raise UserError(f"{path}: cannot be written ({error}); is the disk full?") from None
