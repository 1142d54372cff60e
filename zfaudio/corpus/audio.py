"""Decode, check, resample and write recordings. Samples are int16 everywhere."""

import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from zfaudio.config import SHORTEST_SECONDS
from zfaudio.corpus.mp3 import with_length_tag
from zfaudio.errors import UserError
from zfaudio.files import whole_file

# File extensions that are looked for in a folder of audio. libsndfile decodes all of them.
AUDIO_SUFFIXES = frozenset(
    {
        ".aif",
        ".aiff",
        ".au",
        ".caf",
        ".flac",
        ".mp3",
        ".nist",
        ".oga",
        ".ogg",
        ".opus",
        ".sph",
        ".w64",
        ".wav",
    }
)

# Encodings that libsndfile decodes to integers. Samples of all other encodings are scaled and rounded here.
INTEGER_SUBTYPES = frozenset(
    {"PCM_S8", "PCM_U8", "PCM_16", "PCM_24", "PCM_32", "ULAW", "ALAW", "IMA_ADPCM", "MS_ADPCM", "ALAC_16"}
)

# A program that writes WAV to a pipe does not know the length yet, and declares 2^31 or 2^32 bytes less a header.
UNKNOWN_SIZE = 0x7FFF0000

BLOCK_SECONDS = 30

# Samples to decode and discard before an excerpt of an MP3 file: 16 MP3 frames.
MP3_PREROLL = 16 * 1152


class RejectedRecording(Exception):
    """Raised for a recording that cannot be used. Its text is the reason, in one line without the file's name."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def open_audio(source: str | Path | BinaryIO) -> soundfile.SoundFile:
    """Open a recording and check that it is as long as its header declares.

    Args:
        source: path of a file, or WAV data in memory.

    Raises:
        RejectedRecording: the recording is missing, not audio, empty, or shorter than its header declares.
    """
    path = Path(source) if isinstance(source, (str, Path)) else None
    try:
        sound = soundfile.SoundFile(source)
    except (soundfile.LibsndfileError, OSError, TypeError) as error:
        raise RejectedRecording(unreadable_reason(path, error)) from None
    sphere_header = read_sphere_header(path) if path is not None and sound.format == "NIST" else {}
    if path is not None and sound.format == "MP3":
        tagged = with_length_tag(path)
        if tagged is not None:
            sound.close()
            sound = soundfile.SoundFile(io.BytesIO(tagged))
    reason = truncation_reason(sound, sphere_header)
    if reason is None and sound.frames == 0:
        reason = "no samples"
    if reason is not None:
        sound.close()
        raise RejectedRecording(reason)
    return sound


def unreadable_reason(path: Path | None, error: Exception) -> str:
    """Say in one line why a recording could not be opened."""
    if path is not None and not path.is_file():
        return "no such file"
    if path is not None and path.stat().st_size == 0:
        return "empty file"
    if path is not None and "shorten" in read_sphere_header(path).get("sample_coding", ""):
        return "SPHERE compressed by shorten; decompress it first: sph2pipe -f wav IN OUT"
    return f"not readable as audio: {getattr(error, 'error_string', str(error)).strip()}"


def read_sphere_header(path: Path) -> dict[str, str]:
    """Return the fields of a NIST SPHERE header, by name. Empty for any other file."""
    try:
        with path.open("rb") as file:
            head = file.read(1024)
    except OSError:
        return {}
    if not head.startswith(b"NIST_1A"):
        return {}
    fields = re.findall(r"^(\w+) -[irs]\d* (.*)$", head.decode("latin-1").split("end_head")[0], flags=re.MULTILINE)
    return {name: value.strip() for name, value in fields}


def truncation_reason(sound: soundfile.SoundFile, sphere_header: dict[str, str]) -> str | None:
    """Return the reason if the file holds less than its header declares, else None.

    libsndfile reads truncated files without an error. It only writes a line to its log, and for SPHERE not even that.
    """
    declared = sphere_header.get("sample_count", "")
    if declared.isdigit() and int(declared) > sound.frames:
        return f"truncated: {sound.frames} samples, its header declares {declared}"
    log = sound.extra_info
    sizes = re.search(r"^\s*(?:data|Data Size|riff)\s*: (\d+) \(should be (\d+)\)", log, flags=re.MULTILINE)
    if sizes and int(sizes[2]) < int(sizes[1]) < UNKNOWN_SIZE:
        return f"truncated: {sizes[2]} bytes, its header declares {sizes[1]}"
    warning = re.search(r"^\*\*\* (?:Chunk size|Frame count|Calculated frame count).*", log, flags=re.MULTILINE)
    if warning:
        return "truncated: " + warning[0].lstrip("* ").rstrip(". ")
    if "without an End-Of-Stream flag" in log:
        return "truncated: its last page is missing"
    return None


def read_samples(sound: soundfile.SoundFile, start: int = 0, stop: int | None = None) -> NDArray[np.int16]:
    """Read samples start..stop of every channel, int16 [samples, channels].

    16-bit PCM is returned bit for bit. Floating-point and lossy formats are scaled by 2^15, rounded and clipped.

    Raises:
        RejectedRecording: the recording cannot be decoded up to `stop`, or holds NaN or infinity.
    """
    stop = sound.frames if stop is None else stop
    integer = sound.subtype in INTEGER_SUBTYPES
    # An MP3 frame needs data of the frames before it. After a seek these are missing, so the first samples are wrong
    # and have to be discarded. (soundfile seeks after every read.)
    preroll = min(start, MP3_PREROLL) if sound.format == "MP3" else 0
    try:
        if preroll or sound.tell() != start:
            sound.seek(start - preroll)
        samples: NDArray[Any] = sound.read(
            preroll + stop - start, dtype="int16" if integer else "float32", always_2d=True
        )
    except (soundfile.LibsndfileError, RuntimeError) as error:
        raise RejectedRecording(f"cannot be decoded: {getattr(error, 'error_string', str(error)).strip()}") from None
    samples = samples[preroll:]
    if len(samples) < stop - start:
        raise RejectedRecording(f"truncated: {start + len(samples)} samples, its header declares {sound.frames}")
    if integer:
        return samples
    if not np.isfinite(samples).all():
        raise RejectedRecording("holds NaN or infinite samples")
    return to_int16(samples)


def read_audio(path: str | Path) -> tuple[NDArray[np.int16], int]:
    """Read a whole recording.

    Returns:
        Samples, int16 [samples, channels], and the sample rate in Hz.

    Raises:
        RejectedRecording: the recording is unreadable, empty or truncated, or holds NaN.
    """
    with open_audio(path) as sound:
        return read_samples(sound), sound.samplerate


def read_blocks(sound: soundfile.SoundFile) -> Iterator[NDArray[np.int16]]:
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


def duration(sound: soundfile.SoundFile, shortest_seconds: float = SHORTEST_SECONDS) -> float:
    """Return the duration of an open recording in seconds.

    Raises:
        RejectedRecording: it is shorter than `shortest_seconds`.
    """
    seconds: float = sound.frames / sound.samplerate
    if seconds < shortest_seconds:
        raise RejectedRecording(f"too short: {seconds:.4f} s, at least {shortest_seconds:.4f} s are needed")
    return seconds


def to_int16(samples: NDArray[np.floating[Any]]) -> NDArray[np.int16]:
    """Convert floating-point samples in [-1, 1) to int16, rounded and clipped."""
    rounded: NDArray[np.floating[Any]] = np.rint(samples * 32768.0)
    return rounded.clip(-32768, 32767).astype(np.int16)


def to_mono(samples: NDArray[np.int16]) -> NDArray[np.int16]:
    """Mix int16 [samples, channels] down to int16 [samples]: the rounded mean of the channels."""
    if samples.shape[1] == 1:
        return samples[:, 0]
    mixed: NDArray[np.float64] = samples.mean(axis=1)
    return np.rint(mixed).astype(np.int16)


def resample(waveform: NDArray[np.int16], rate: int, target: int) -> NDArray[np.int16]:
    """Resample int16 [n] from `rate` to `target` Hz: int16 [n * target / rate, rounded], clipped at full scale."""
    if rate == target:
        return waveform
    resampled: NDArray[np.float32] = soxr.resample(waveform.astype(np.float32) / 32768.0, rate, target, quality="HQ")
    return to_int16(resampled)


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
