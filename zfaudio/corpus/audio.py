"""Decode, resample and write recordings: int16 samples in, int16 samples out."""

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import soundfile
import soxr

from zfaudio.corpus.mp3 import with_length_tag
from zfaudio.errors import UserError

# File extensions looked for in a folder; libsndfile decodes them all.
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

# Encodings libsndfile decodes to whole numbers; the others are scaled and rounded here.
INTEGER_SUBTYPES = frozenset(
    {"PCM_S8", "PCM_U8", "PCM_16", "PCM_24", "PCM_32", "ULAW", "ALAW", "IMA_ADPCM", "MS_ADPCM", "ALAC_16"}
)

# Sizes that programs writing to a pipe put into a WAV header for "not known": 2^31 or 2^32, less a header.
UNKNOWN_SIZE = 0x7FFF0000

BLOCK_SECONDS = 30

# Samples decoded and thrown away before a part of an MP3 file: 16 of its frames.
MP3_PREROLL = 16 * 1152


class RejectedRecording(Exception):
    """A recording that cannot be used; its text is the reason, one line without the file's name."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True)
class AudioInfo:
    """What a recording holds: samples a second, channels, samples a channel."""

    rate: int
    channels: int
    samples: int

    @property
    def seconds(self) -> float:
        """Length in seconds."""
        return self.samples / self.rate


def open_audio(source: str | Path | BinaryIO) -> soundfile.SoundFile:
    """Open a recording, a file or WAV data in memory, and see that its header tells the truth.

    Raises:
        RejectedRecording: missing, not audio, empty, or shorter than its header declares.
    """
    name = source if isinstance(source, (str, Path)) else None
    try:
        sound = soundfile.SoundFile(source)
    except (soundfile.LibsndfileError, OSError, TypeError) as error:
        raise RejectedRecording(unreadable_reason(name, error)) from None
    sphere = read_sphere_header(Path(name)) if name is not None and sound.format == "NIST" else {}
    if name is not None and sound.format == "MP3":
        tagged = with_length_tag(Path(name))
        if tagged is not None:
            sound.close()
            sound = soundfile.SoundFile(io.BytesIO(tagged))
    reason = header_lie(sound, sphere)
    if reason is None and sound.frames == 0:
        reason = "no samples"
    if reason is not None:
        sound.close()
        raise RejectedRecording(reason)
    return sound


def unreadable_reason(name: str | Path | None, error: Exception) -> str:
    """Why a file could not be opened, in one line."""
    if name is not None and not Path(name).is_file():
        return "no such file"
    if name is not None and Path(name).stat().st_size == 0:
        return "empty file"
    if name is not None and "shorten" in read_sphere_header(Path(name)).get("sample_coding", ""):
        return "SPHERE compressed by shorten; decompress it first: sph2pipe -f wav IN OUT"
    return f"not readable as audio: {getattr(error, 'error_string', str(error)).strip()}"


def read_sphere_header(path: Path) -> dict[str, str]:
    """Fields of a NIST SPHERE header by name; empty for any other file."""
    try:
        with path.open("rb") as file:
            head = file.read(1024)
    except OSError:
        return {}
    if not head.startswith(b"NIST_1A"):
        return {}
    fields = re.findall(r"^(\w+) -[irs]\d* (.*)$", head.decode("latin-1").split("end_head")[0], flags=re.MULTILINE)
    return {name: value.strip() for name, value in fields}


def header_lie(sound: soundfile.SoundFile, sphere: dict[str, str]) -> str | None:
    """The reason when a header promises more than the file holds, else None.

    libsndfile reads what is there of a truncated file without complaint; the difference stands in its log
    only, and for SPHERE not even there.
    """
    declared = sphere.get("sample_count", "")
    if declared.isdigit() and int(declared) > sound.frames:
        return f"truncated: {sound.frames} samples, its header declares {declared}"
    log = sound.extra_info
    sizes = re.search(r"^\s*(?:data|Data Size|riff)\s*: (\d+) \(should be (\d+)\)", log, flags=re.MULTILINE)
    if sizes and int(sizes[2]) < int(sizes[1]) < UNKNOWN_SIZE:
        return f"truncated: {sizes[2]} bytes, its header declares {sizes[1]}"
    counted = re.search(r"^\*\*\* (?:Chunk size|Frame count|Calculated frame count).*", log, flags=re.MULTILINE)
    if counted:
        return "truncated: " + counted[0].lstrip("* ").rstrip(". ")
    if "without an End-Of-Stream flag" in log:
        return "truncated: its last page is missing"
    return None


def read_samples(sound: soundfile.SoundFile, start: int = 0, stop: int | None = None) -> np.ndarray:
    """Samples start..stop of every channel, int16 [n, channels]; 16-bit PCM comes out bit for bit.

    Floating-point and lossy formats are scaled by 2^15, rounded and clipped.

    Raises:
        RejectedRecording: it cannot be decoded to `stop`, or holds NaN or infinity.
    """
    stop = sound.frames if stop is None else stop
    integer = sound.subtype in INTEGER_SUBTYPES
    # An MP3 frame needs data of those before it, which a seek passes over (and soundfile seeks after every read):
    # what comes first is wrong, and thrown away.
    before = min(start, MP3_PREROLL) if sound.format == "MP3" else 0
    try:
        if before or sound.tell() != start:
            sound.seek(start - before)
        samples = sound.read(before + stop - start, dtype="int16" if integer else "float32", always_2d=True)[before:]
    except (soundfile.LibsndfileError, RuntimeError) as error:
        raise RejectedRecording(f"cannot be decoded: {getattr(error, 'error_string', str(error)).strip()}") from None
    if len(samples) < stop - start:
        raise RejectedRecording(f"truncated: {start + len(samples)} samples, its header declares {sound.frames}")
    if integer:
        return samples
    if not np.isfinite(samples).all():
        raise RejectedRecording("holds NaN or infinite samples")
    return to_int16(samples)


def read_audio(path: str | Path) -> tuple[np.ndarray, int]:
    """The whole recording, int16 [n, channels], and its rate.

    Raises:
        RejectedRecording: unreadable, empty, truncated, or with NaN.
    """
    with open_audio(path) as sound:
        return read_samples(sound), sound.samplerate


def read_blocks(sound: soundfile.SoundFile) -> Iterator[np.ndarray]:
    """The whole recording in half-minute blocks, int16 [n, channels]: hours of it need not fit in memory."""
    length = BLOCK_SECONDS * sound.samplerate
    for start in range(0, sound.frames, length):
        yield read_samples(sound, start, min(start + length, sound.frames))


def check_audio(path: str | Path, shortest_seconds: float = 0.0) -> AudioInfo:
    """Decode the whole recording and say what it holds.

    Raises:
        RejectedRecording: unreadable, empty, truncated, with NaN, or shorter than `shortest_seconds`.
    """
    with open_audio(path) as sound:
        for _ in read_blocks(sound):
            pass
        info = AudioInfo(sound.samplerate, sound.channels, sound.frames)
    if info.seconds < shortest_seconds:
        raise RejectedRecording(too_short(info.seconds, shortest_seconds))
    return info


def too_short(seconds: float, shortest: float) -> str:
    """The reason for which a recording of that length is rejected."""
    return f"too short: {seconds:.4f} s, at least {shortest:.4f} s are needed"


def to_int16(samples: np.ndarray) -> np.ndarray:
    """Floating-point samples in [-1, 1) -> int16, rounded and clipped."""
    return np.clip(np.rint(samples * 32768.0), -32768, 32767).astype(np.int16)


def to_mono(samples: np.ndarray) -> np.ndarray:
    """int16 [n, channels] -> int16 [n]: the mean of the channels, rounded."""
    if samples.shape[1] == 1:
        return samples[:, 0]
    return np.rint(samples.mean(axis=1)).astype(np.int16)


def resample(waveform: np.ndarray, rate: int, target: int) -> np.ndarray:
    """int16 [n] at `rate` -> int16 [m] at `target`, m = n * target / rate rounded, clipped at full scale."""
    if rate == target:
        return waveform
    resampled: np.ndarray[Any, Any] = soxr.resample(waveform.astype(np.float32) / 32768.0, rate, target, quality="HQ")
    return to_int16(resampled)


def write_wav(path: str | Path, waveform: np.ndarray, rate: int) -> None:
    """Write int16 [n], or floating-point samples in [-1, 1), as 16-bit PCM WAV.

    Raises:
        UserError: the file cannot be written.
    """
    samples = waveform if waveform.dtype == np.int16 else to_int16(waveform)
    try:
        soundfile.write(path, samples, rate, subtype="PCM_16", format="WAV")
    except soundfile.LibsndfileError as error:
        raise UserError(f"{path}: cannot be written ({error}); is the disk full?") from None
