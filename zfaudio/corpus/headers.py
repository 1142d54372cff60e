"""Read the headers of recordings: is there all the data that they declare, and which of them declare no length?"""

import os
import re
import stat
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

import soundfile

from zfaudio.corpus.rejection import RejectedRecording
from zfaudio.corpus.splice import FileKey, Piece, Sound, Source

# A program that writes to a pipe does not know the length yet, and declares 2^31 or 2^32 bytes less a header.
UNKNOWN_SIZE = 0x7FFF0000

# Sample rates in Hz that a recording of speech can have. Resampling from a few Hz would make hours out of seconds.
RATES = range(1000, 768001)

# No encoding packs more samples of a channel than this into a byte. (FLAC packs 5,000 of digital silence.)
SAMPLES_PER_BYTE = 8192

# Bytes of one sample, for the encodings in which all samples take the same.
SAMPLE_BYTES = {
    "PCM_S8": 1,
    "PCM_U8": 1,
    "PCM_16": 2,
    "PCM_24": 3,
    "PCM_32": 4,
    "FLOAT": 4,
    "DOUBLE": 8,
    "ULAW": 1,
    "ALAW": 1,
}

MOST_CHUNKS = 10_000


@dataclass(frozen=True)
class ChunkLayout:
    """How a container stores its chunks."""

    first: int  # offset of the first chunk
    id_bytes: int
    size: str  # format of a chunk's size, as in struct
    alignment: int = 1
    size_includes_header: bool = False


# By the first four bytes of the file.
LAYOUTS = {
    b"RIFF": ChunkLayout(12, 4, "<I", 2),
    b"RIFX": ChunkLayout(12, 4, ">I", 2),
    b"RF64": ChunkLayout(12, 4, "<I", 2),
    b"BW64": ChunkLayout(12, 4, "<I", 2),
    b"FORM": ChunkLayout(12, 4, ">I", 2),
    b"riff": ChunkLayout(40, 16, "<q", 8, size_includes_header=True),
    b"caff": ChunkLayout(8, 4, ">q"),
}

# Bytes between the header of the chunk with the samples and the samples, by the first four bytes of its id.
DATA_CHUNKS = {b"data": 0, b"SSND": 8, b"BODY": 0}
CAF_EDIT_COUNT = 4


@dataclass(frozen=True)
class SampleData:
    """Where the samples of a file are, by its header.

    Attributes:
        start: offset of the first byte.
        declared: number of bytes, None if the header does not say.
        available: number of bytes up to the end of the file.
        size_field: offset, format and value of the declared size that is correct for all available bytes.
    """

    start: int
    declared: int | None
    available: int
    size_field: tuple[int, str, int]

    @property
    def truncation(self) -> str | None:
        """The reason for a rejection if bytes are missing."""
        if self.declared is None or self.declared <= self.available:
            return None
        return f"truncated: {self.available} bytes, its header declares {self.declared}"

    def with_size(self, source: Source) -> Sequence[Piece]:
        """Return the pieces of a file whose header declares all bytes up to the end."""
        offset, size, value = self.size_field
        field = struct.pack(size, value)
        return [(0, offset), field, (offset + len(field), source.size)]


def find_sample_data(source: Source) -> SampleData | None:
    """Find the samples in WAV (also RIFX, RF64 and BW64), W64, AIFF, SVX, CAF, AU and VOC. None for any other file."""
    head, end = source.read_at(0, 40), source.size
    if head[:4] in (b".snd", b"dns.") and len(head) >= 12:
        order = ">" if head[:4] == b".snd" else "<"
        start, size = struct.unpack(order + "II", head[4:12])
        return _sample_data(source, start, size, end, (8, order + "I", min(end - start, UNKNOWN_SIZE)))
    if head.startswith(b"Creative Voice File") and len(head) >= 26:
        return _find_voc_data(source, int.from_bytes(head[20:22], "little"), end)
    layout = LAYOUTS.get(head[:4])
    if layout is None:
        return None
    offset, long_size = layout.first, None
    header = layout.id_bytes + struct.calcsize(layout.size)
    for _ in range(MOST_CHUNKS):
        content = source.read_at(offset, header) if offset < end else b""
        if len(content) < header:
            return None
        (size,) = struct.unpack(layout.size, content[layout.id_bytes :])
        size_field = offset + layout.id_bytes
        if layout.size_includes_header:
            size -= header
        if content[:4] == b"ds64":  # of RF64, whose own sizes are 0xFFFFFFFF
            long_size = struct.unpack("<Q", source.read_at(offset + header + 8, 8).ljust(8, b"\0"))[0], offset + header
        elif content[:4] in DATA_CHUNKS:
            skipped = CAF_EDIT_COUNT if head[:4] == b"caff" else DATA_CHUNKS[content[:4]]
            start = offset + header + skipped
            if long_size is not None and size == 0xFFFFFFFF:
                size, size_field, form = long_size[0], long_size[1] + 8, "<Q"
            else:
                form = layout.size
            whole = end - start + skipped + (header if layout.size_includes_header else 0)
            if form == "<I" or form == ">I":
                whole = min(whole, 0xFFFFFFFE)
            return _sample_data(source, start, size - skipped, end, (size_field, form, whole))
        if size < 0:
            return None
        offset += header + size + -size % layout.alignment
    return None


def _find_voc_data(source: Source, offset: int, end: int) -> SampleData | None:
    """Find the first block of samples of a VOC file: of type 1, perhaps behind one of type 8, or of type 9."""
    block = source.read_at(offset, 4)
    if block[:1] == b"\x08":
        offset += 4 + int.from_bytes(block[1:], "little")
        block = source.read_at(offset, 4)
    skipped = {1: 2, 9: 12}.get(block[0]) if len(block) == 4 else None
    if skipped is None:
        return None
    start, size = offset + 4 + skipped, int.from_bytes(block[1:], "little") - skipped
    return SampleData(start, size, max(0, end - start), (offset + 1, "<I", 0))


def _sample_data(
    source: Source, start: int, declared: int, end: int, size_field: tuple[int, str, int]
) -> SampleData | None:
    available = end - start
    if available < 0:
        return None
    unknown = declared < 0 or UNKNOWN_SIZE <= declared > available
    # A program that was killed leaves the size that it began with. The samples that follow do not look like a chunk.
    if declared == 0 and available > 0 and not _looks_like_chunk(source.read_at(start, 24), available):
        unknown = True
    return SampleData(start, None if unknown else declared, available, size_field)


def _looks_like_chunk(header: bytes, available: int) -> bool:
    if len(header) < 8 or not re.fullmatch(rb"[ -~]{4}", header[:4]):
        return False
    return any(struct.unpack(order, header[4:8])[0] <= available - 8 for order in ("<I", ">I"))


def file_problem(path: str | Path) -> str | None:
    """Return the reason why a file cannot be opened, None if it can. Waits for no pipe and no device."""
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return "a link to a file that does not exist" if os.path.islink(path) else "no such file"
    except NotADirectoryError:
        return "no such file"
    except (OSError, ValueError) as error:  # such as a name too long, a loop of links, or a null byte
        return f"cannot be opened: {getattr(error, 'strerror', None) or error}"
    if stat.S_ISDIR(mode):
        return "a folder, not a file"
    return None if stat.S_ISREG(mode) else "not a file but a pipe, a socket or a device"


def read_sphere_header(source: Source) -> dict[str, str]:
    """Return the fields of a NIST SPHERE header, by name. Empty for any other file."""
    head = source.read_at(0, 16)
    if not head.startswith(b"NIST_1A"):
        return {}
    size = head[8:].strip()
    text = source.read_at(0, min(int(size), 1 << 16) if size.isdigit() else 1024).decode("latin-1")
    fields = re.findall(r"^(\w+) -[irs]\d* (.*)$", text.split("end_head")[0], flags=re.MULTILINE)
    return {name: value.strip() for name, value in fields}


def ogg_is_truncated(source: Source) -> bool:
    """Return whether the last page of an Ogg file is cut off or does not say that it is the last."""
    if source.read_at(0, 4) != b"OggS":
        return False
    end = source.read_at(max(0, source.size - (1 << 17)), 1 << 17)
    page = end[end.rfind(b"OggS") :]
    if len(page) < 27 or not page[5] & 4:
        return True
    segments = page[27 : 27 + page[26]]
    return len(page) < 27 + page[26] + sum(segments)


def declared_frames(source: Source, sound: Sound) -> int:
    """Return the number of samples of each channel.

    libsndfile counts the bytes behind the samples of some formats as samples too.

    Raises:
        RejectedRecording: the file holds less than its header declares, or declares what cannot be.
    """
    frames: int = sound.frames
    if sound.samplerate not in RATES:
        raise RejectedRecording(f"a sample rate of {sound.samplerate} Hz")
    if frames > SAMPLES_PER_BYTE * source.size:
        raise RejectedRecording(f"its header declares {frames} samples, more than {source.size} bytes can hold")
    sphere = read_sphere_header(source) if sound.format == "NIST" else {}
    count = sphere.get("sample_count", "")
    if re.fullmatch(r"[0-9]{1,18}", count) and int(count) > 0:
        if int(count) > frames:
            raise RejectedRecording(f"truncated: {frames} samples, its header declares {int(count)}")
        return int(count)
    if "without an End-Of-Stream flag" in sound.extra_info:  # of Ogg
        raise RejectedRecording("truncated: its last page is missing")
    data = find_sample_data(source)
    if data is None:
        return frames
    if data.truncation is not None:
        raise RejectedRecording(data.truncation)
    aiff = re.search(r"Frame count read from 'COMM' chunk \((\d+)\)", sound.extra_info)
    if aiff and int(aiff[1]) > frames:
        raise RejectedRecording(f"truncated: {frames} samples, its header declares {aiff[1]}")
    if data.declared and sound.subtype in SAMPLE_BYTES:
        frames = min(frames, data.declared // (SAMPLE_BYTES[sound.subtype] * sound.channels))
    return frames


# FLAC


def with_flac_length(source: Source) -> Sequence[Piece]:
    """Return the pieces of a FLAC file whose header has the number of samples, which are counted by decoding it.

    Raises:
        RejectedRecording: it cannot be decoded.
    """
    start = source.read_at(0, 1 << 16).find(b"fLaC")
    if start < 0:  # behind a long tag
        raise RejectedRecording("its header declares no length")
    count = _count_file(source.key) if source.key else count_in_sequence(source.open())
    # STREAMINFO comes first. Bytes 10 to 17 hold the rate, the channels, the bits and, in 36 bits, the samples.
    field = start + 8 + 10
    bits = int.from_bytes(source.read_at(field, 8), "big")
    bits = bits & ~((1 << 36) - 1) | min(count, (1 << 36) - 1)
    return [(0, field), bits.to_bytes(8, "big"), (field + 8, source.size)]


@lru_cache(maxsize=1024)
def _count_file(key: FileKey) -> int:
    return count_in_sequence(Sound(os.fsencode(key.path)))


def count_in_sequence(sound: Sound) -> int:
    """Count the samples of each channel by decoding to the end, and close the file.

    Raises:
        RejectedRecording: it cannot be decoded.
    """
    block = 1 << 16
    count = 0
    sound.in_sequence = True
    try:
        with sound:
            while True:
                decoded = len(sound.read(block, dtype="int16", always_2d=True))
                count += decoded
                if decoded < block:
                    return count
    except (soundfile.LibsndfileError, RuntimeError) as error:
        raise RejectedRecording(f"cannot be decoded: {libsndfile_words(error)}") from None


def libsndfile_words(error: Exception) -> str:
    """Return what libsndfile says of an error, in one line without the file's name."""
    return " ".join(str(getattr(error, "error_string", error)).split()).rstrip(".")


def text_instead_of_audio(file: BinaryIO) -> str | None:
    """Say what a small text file stands for under the name of a recording, None if it stands for nothing known."""
    file.seek(0)
    head = file.read(1024)
    if head.startswith(b"version https://git-lfs"):
        return "not the recording but a pointer of Git LFS; `git lfs pull` fetches it"
    if b"annex/objects/" in head:
        return "not the recording but a pointer of git-annex; `git annex get` fetches it"
    if len(head) < 1024 and re.fullmatch(rb"(\.{0,2}/)?[ -~]*/[ -~]+\n?", head):
        return "not the recording but the path of one, a link that was copied as text"
    return None
