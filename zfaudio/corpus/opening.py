"""Open recordings of any format that libsndfile, sph2pipe or ffmpeg decodes, and check what their headers say."""

import io
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import accumulate
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import soundfile
from numpy.typing import NDArray

from zfaudio.corpus import converters, headers, mp3
from zfaudio.corpus.rejection import RejectedRecording
from zfaudio.corpus.search import FOREIGN_SUFFIXES, HEADERLESS_SUFFIXES, looks_foreign, suffix_of
from zfaudio.corpus.splice import FileKey, Sound, Source, SplicedFile

# Encodings that libsndfile decodes to integers. Samples of all other encodings are scaled and rounded here.
INTEGER_SUBTYPES = frozenset(
    {"PCM_S8", "PCM_U8", "PCM_16", "PCM_24", "PCM_32", "ULAW", "ALAW", "IMA_ADPCM", "MS_ADPCM", "ALAC_16"}
)

# Encodings of which libsndfile says that they can be sought in, although they cannot.
SEQUENTIAL_SUBTYPES = frozenset({"DWVW_12", "DWVW_16", "DWVW_24", "DWVW_N"})

BLOCK_SECONDS = 30

# Samples of all channels that are decoded at once.
BLOCK_SAMPLES = 1 << 19

# Samples to decode and discard before an excerpt of an MP3 file: 16 MP3 frames.
MP3_PREROLL = 16 * 1152

MPEG_SUFFIXES = (".mp1", ".mp2", ".mp3", ".mpa", ".mpga")

# What libsndfile gives as the length of a FLAC file that declares none.
UNKNOWN_FRAMES = (1 << 63) - 1

# Reasons for a rejection.
HEADERLESS = "samples without a header: nothing says their rate and encoding"
SHORTENED = "SPHERE compressed by shorten"

# Samples in floating point go from -1 to 1, and a little further where a recording was too loud.
LOUDEST_FLOAT = 16.0

OPEN_ERRORS = (soundfile.LibsndfileError, OSError, TypeError, ValueError, RuntimeError)


@dataclass
class Part:
    """A part of a recording that is decoded by itself."""

    open: Callable[[], Sound]
    frames: int


class AudioFile:
    """An open recording, of one part or of several that follow each other.

    Attributes:
        samplerate: in Hz.
        channels: number of channels.
        frames: number of samples of each channel.
        format, subtype: libsndfile's names of the container and the encoding.
    """

    def __init__(self, source: Source, sound: Sound, parts: Sequence[Part]) -> None:
        self.samplerate: int = sound.samplerate
        self.channels: int = sound.channels
        self.format: str = sound.format
        self.subtype: str = sound.subtype
        self._source = source
        self._parts = parts
        self._starts = list(accumulate((part.frames for part in parts), initial=0))
        self._open: tuple[int, Sound] | None = (0, sound)
        self.frames: int = self._starts[-1]

    def read(self, start: int, stop: int) -> NDArray[np.int16]:
        """Read samples start..stop of every channel, int16 [samples, channels]. Raises RejectedRecording."""
        blocks = []
        for index, part in enumerate(self._parts):
            first = self._starts[index]
            if first < stop and start < first + part.frames:
                blocks.append(decode(self._sound(index), max(start - first, 0), min(stop - first, part.frames)))
        return blocks[0] if len(blocks) == 1 else np.concatenate([np.empty((0, self.channels), np.int16), *blocks])

    def _sound(self, index: int) -> soundfile.SoundFile:
        if self._open is None or self._open[0] != index:
            if self._open is not None:
                self._open[1].close()
                self._open = None
            self._open = index, self._parts[index].open()
        return self._open[1]

    def close(self) -> None:
        """Close the files."""
        if self._open is not None:
            self._open[1].close()
            self._open = None
        self._source.close()

    def __enter__(self) -> "AudioFile":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


# Opening


def open_audio(source: str | Path | BinaryIO, offset: int = 0) -> AudioFile:
    """Open a recording and check that it is as long as its header declares.

    Args:
        source: path of a file, or the bytes of one.
        offset: where the recording begins in the file, in bytes.

    Raises:
        RejectedRecording: the recording is missing, not audio, empty, shorter than its header declares, or not scaled
            as audio is.
    """
    if not isinstance(source, (str, Path)):
        return open_source(Source(source))
    problem = headers.file_problem(source)
    if problem is not None:
        raise RejectedRecording(problem)
    try:
        file = open(source, "rb")  # noqa: SIM115
    except OSError as error:
        raise RejectedRecording(f"cannot be opened: {error.strerror}") from None
    if offset:
        size = os.fstat(file.fileno()).st_size
        opened = Source(cast(BinaryIO, SplicedFile(file, [(offset, size)])), opened=file)
    else:
        opened = Source(file, os.fspath(source), opened=file)
    try:
        return open_source(opened)
    except BaseException:
        opened.close()
        raise


def open_source(source: Source) -> AudioFile:
    """Open a recording of any format, and check its length. For the rest see `open_audio`."""
    if source.size == 0:
        raise RejectedRecording("empty file")
    suffix = suffix_of(source.path or "")
    try:
        sound = source.open()
    except OPEN_ERRORS as error:
        return open_unreadable(source, suffix, headers.libsndfile_words(error))
    try:
        return check_opened(source, sound)
    except BaseException:
        sound.close()
        raise


def check_opened(source: Source, sound: Sound) -> AudioFile:
    """Check what libsndfile has opened, and open it in another way if its length or its encoding asks for that."""
    if sound.format == "RAW":  # guessed from the suffix alone
        raise RejectedRecording(HEADERLESS)
    if sound.format == "MP3":
        stream = mp3.read_stream(source)
        if stream is not None:
            return open_mpeg(source, stream, sound)
    pieces = None
    if sound.format == "FLAC" and sound.frames == UNKNOWN_FRAMES:
        pieces = headers.with_flac_length(source)
    elif sound.frames == 0:
        data = headers.find_sample_data(source)
        if data is not None and data.declared is None:
            pieces = data.with_size(source)
    if pieces is not None:
        sound.close()
        sound = source.open(pieces)
    frames = headers.declared_frames(source, sound)
    if frames == 0:
        raise RejectedRecording("no samples")
    if not sound.seekable() or sound.subtype in SEQUENTIAL_SUBTYPES:
        sound.close()
        source = decoded_in_memory(source, frames)
        sound, pieces = source.open(), None
    if sound.subtype in ("FLOAT", "DOUBLE"):
        key = source.key if pieces is None else None
        problem = scale_of_file(key) if key else scale_problem(source.open(pieces))
        if problem is not None:
            sound.close()
            raise RejectedRecording(problem)
    return AudioFile(source, sound, [Part(partial(source.open, pieces), frames)])


def open_mpeg(source: Source, stream: mp3.Mp3Stream, sound: Sound | None) -> AudioFile:
    """Open a recording in MP3 or MP2. If `sound` is given, libsndfile has opened it as it is."""
    if sound is not None and stream.as_it_is:
        openers: list[Callable[[], Sound]] = [source.open]
    else:
        if sound is not None:
            sound.close()
        openers = [partial(source.open, part.pieces(stream.layer)) for part in stream.parts]
        sound = open_part(openers[0])
    parts = [Part(openers[0], headers.declared_frames(source, sound))]
    for opener in openers[1:]:
        with open_part(opener) as following:
            if following.channels != sound.channels:
                raise RejectedRecording("its number of channels changes within the file")
            parts.append(Part(opener, headers.declared_frames(source, following)))
    counted = sum(part.frames for part in stream.parts) * {1: 384, 2: 1152, 3: 0}[stream.layer]
    if sum(part.frames for part in parts) < counted - MP3_PREROLL:
        raise RejectedRecording("its length cannot be told (variable bit rate in a format without tags)")
    if not any(part.frames for part in parts):
        raise RejectedRecording("no samples")
    return AudioFile(source, sound, parts)


def open_part(opener: Callable[[], Sound]) -> Sound:
    """Open a part of a recording. Raises RejectedRecording."""
    try:
        return opener()
    except OPEN_ERRORS as error:
        raise RejectedRecording(f"not readable as audio: {headers.libsndfile_words(error)}") from None


def decoded_in_memory(source: Source, frames: int) -> Source:
    """Decode what cannot be sought in from start to end, and return it as a WAV file in memory."""
    with source.open() as sound:
        wav = io.BytesIO()
        soundfile.write(wav, decode(sound, 0, frames), sound.samplerate, subtype="PCM_16", format="WAV")
    return Source(wav, opened=source.opened)


def open_unreadable(source: Source, suffix: str, error: str) -> AudioFile:
    """Open what libsndfile cannot open as it is: with another header, or by another program that is installed.

    Raises:
        RejectedRecording: no way is left; the text says why libsndfile cannot read it.
    """
    data = headers.find_sample_data(source)
    if data is not None and data.declared is None:
        try:
            sound = source.open(data.with_size(source))
        except OPEN_ERRORS:
            pass
        else:
            return AudioFile(source, sound, [Part(partial(source.open, data.with_size(source)), sound.frames)])
    if suffix in MPEG_SUFFIXES:
        stream = mp3.read_stream(source)
        if stream is not None:
            return open_mpeg(source, stream, None)
    if "shorten" in headers.read_sphere_header(source).get("sample_coding", ""):
        return open_converted(source, converters.sph2pipe_command, SHORTENED)
    if suffix in FOREIGN_SUFFIXES or looks_foreign(source.read_at(0, 64)):
        named = suffix if suffix in FOREIGN_SUFFIXES else "its format"
        return open_converted(source, converters.ffmpeg_command, f"libsndfile cannot read {named}")
    raise RejectedRecording(unreadable_reason(source, suffix, error))


def open_converted(source: Source, command: Callable[[str], list[str] | None], problem: str) -> AudioFile:
    """Open a recording that another program decodes. The problem is the reason if that cannot be done."""
    key = source.key
    words = command(key.path) if key is not None else None
    if key is None or words is None:
        tool = "sph2pipe" if command is converters.sph2pipe_command else "ffmpeg"
        raise RejectedRecording(f"{problem}; install {tool}, or convert it to FLAC")
    try:
        return open_source(Source(converters.convert(words, key), opened=source.opened))
    except RejectedRecording as rejection:
        raise RejectedRecording(f"{problem}; {rejection.reason}") from None


def unreadable_reason(source: Source, suffix: str, error: str) -> str:
    """Say in one line why a recording cannot be read, of which libsndfile says `error`."""
    data = headers.find_sample_data(source)
    if data is not None and data.truncation is not None:
        return data.truncation
    if headers.ogg_is_truncated(source):
        return "truncated: its last page is missing"
    if suffix in HEADERLESS_SUFFIXES:
        return HEADERLESS
    return headers.text_instead_of_audio(source.file) or f"not readable as audio: {error}"


@lru_cache(maxsize=1024)
def scale_of_file(key: FileKey) -> str | None:
    """Return what `scale_problem` says of a file."""
    return scale_problem(Sound(os.fsencode(key.path)))


def scale_problem(sound: Sound) -> str | None:
    """Return the reason for a rejection if floating-point samples hold integers instead of values from -1 to 1.

    All of the file is read, because a quiet part of it does not show what full scale is. The file is closed.
    """
    loudest, whole_numbers = 0.0, True
    sound.in_sequence = True
    with sound:
        while True:
            block = sound.read(BLOCK_SAMPLES // sound.channels + 1, dtype="float32", always_2d=True)
            if not len(block):
                break
            finite = block[np.isfinite(block)]
            loudest = max(loudest, float(np.abs(finite).max(initial=0.0)))
            whole_numbers = whole_numbers and bool((finite == np.rint(finite)).all())
    if loudest > LOUDEST_FLOAT or (loudest > 1.0 and whole_numbers):
        return f"floating-point samples up to {loudest:g}, where full scale is 1; divide them by their full scale"
    return None


def decode(sound: Sound, start: int, stop: int) -> NDArray[np.int16]:
    """Decode samples start..stop of an open file. For the rest see `read_samples`."""
    # An MP3 frame needs data of the frames before it. After a seek these are missing, so the first samples are wrong
    # and have to be discarded.
    preroll = min(start, MP3_PREROLL) if sound.format == "MP3" else 0
    blocks = []
    position = start - preroll
    try:
        sound.in_sequence = False
        if sound.seekable() and (preroll or sound.tell() != start):
            sound.seek(position)
        sound.in_sequence = True
        # A damaged header may declare far more samples than there are, so no memory is taken for all of them at once.
        while position < stop:
            count = min(BLOCK_SAMPLES // sound.channels + 1, stop - position)
            block = decode_block(sound, count)[max(0, start - position) :]
            position += count
            blocks.append(block)
            if sum(map(len, blocks)) < position - start:
                found = start + sum(map(len, blocks))
                raise RejectedRecording(f"truncated: {found} samples, its header declares {sound.frames}")
    except (soundfile.LibsndfileError, RuntimeError) as error:
        raise RejectedRecording(f"cannot be decoded: {headers.libsndfile_words(error)}") from None
    return blocks[0] if len(blocks) == 1 else np.concatenate([np.empty((0, sound.channels), np.int16), *blocks])


def decode_block(sound: Sound, count: int) -> NDArray[np.int16]:
    """Decode the next samples of an open file, fewer than `count` only at its end."""
    integer = sound.subtype in INTEGER_SUBTYPES
    samples: NDArray[Any] = sound.read(count, dtype="int16" if integer else "float32", always_2d=True)
    if integer:
        return samples
    if not np.isfinite(samples).all():
        raise RejectedRecording("holds NaN or infinite samples")
    return to_int16(samples)


def to_int16(samples: NDArray[np.floating[Any]]) -> NDArray[np.int16]:
    """Convert floating-point samples in [-1, 1) to int16, rounded and clipped."""
    rounded: NDArray[np.floating[Any]] = np.rint(samples * 32768.0)
    return rounded.clip(-32768, 32767).astype(np.int16)
