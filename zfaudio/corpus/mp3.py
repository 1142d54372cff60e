"""Find the frames of an MPEG audio file (MP3, MP2), and give libsndfile what it needs to decode all of them.

libsndfile takes the length from a tag in the first frame (Xing, Info or VBRI), or guesses it from the size of that
frame if there is no tag, and stops reading there. Of joined files, of files whose tag counts too few frames, and of
files with other bytes in front, a large part can be lost. Here the frames are counted, and each of the joined files
becomes a part of the recording, with a tag that has the right count.
"""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import BinaryIO

from zfaudio.corpus.rejection import RejectedRecording
from zfaudio.corpus.splice import FileKey, Piece, Source

# Kilobits per second by the index in the header: of MPEG 1 by the layer, and of MPEG 2 and 2.5 by the layer.
KILOBITS_MPEG1 = {
    1: (0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    2: (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    3: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
}
KILOBITS_MPEG2 = {
    1: (0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    2: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    3: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
RATES = (44100, 48000, 32000)

# What may be the header of a frame (11 set bits, and a bit rate that is neither free nor invalid) or of an ID3v2 tag.
HEADER = re.compile(rb"\xff(?=[\xe2-\xe7\xf2-\xff][\x10-\xef])|ID3(?=[\x02-\x04])")

# Bytes at the start of a frame that are enough to find a length tag.
FRAME_HEAD = 56

WINDOW = 1 << 16

# Frames in a row that tell a stream from bytes that look like a header.
ROW = 4

# What may follow the last frame.
END_TAGS = (b"TAG", b"APETAGEX", b"LYRICSBEGIN", b"ID3")

# After this many places that look like a header but are none, a file is given up.
MOST_FALSE_HEADERS = 100_000

# A tag may also count the frame that it is in, or a last frame that is not whole.
TAG_TOLERANCE = 1


@dataclass(frozen=True)
class Mp3Frame:
    """What follows from the header of a frame."""

    size: int  # of the whole frame, in bytes
    preamble: int  # bytes of the header and side information, which come before the frame's data
    kind: tuple[int, int, int]  # MPEG version, layer and sample rate, which are the same in all frames of a recording


@dataclass
class Mp3Part:
    """Frames that a single encoder wrote, behind the frame with the length tag if there is one.

    Attributes:
        header: header of the first frame.
        tag: the frame with the length tag, empty if there is none.
        declared: number of frames that the tag declares, None if it does not.
        frames: number of frames that are there.
        ranges: first byte and end of these, without what does not belong to a frame.
    """

    header: bytes
    tag: bytes = b""
    declared: int | None = None
    frames: int = 0
    ranges: list[tuple[int, int]] = field(default_factory=list)

    def add(self, offset: int, size: int) -> None:
        """Add a frame."""
        if self.ranges and self.ranges[-1][1] == offset:
            self.ranges[-1] = self.ranges[-1][0], offset + size
        else:
            self.ranges.append((offset, offset + size))
        self.frames += 1

    @property
    def tag_is_right(self) -> bool:
        """Whether the tag declares the frames that are there."""
        return self.declared == self.frames

    def pieces(self, layer: int) -> Sequence[Piece]:
        """Return the pieces of a file with these frames alone, and a tag that counts them (in layer III)."""
        if layer != 3:
            return self.ranges
        if self.tag_is_right:
            return [self.tag, *self.ranges]
        place = max(self.tag.find(b"Xing"), self.tag.find(b"Info"))
        if self.declared is None or place < 0:
            return [self.new_tag(), *self.ranges]
        # Only the count is replaced: behind it, the tag says how many samples the encoder added at both ends.
        return [self.tag[: place + 8], self.frames.to_bytes(4, "big"), self.tag[place + 12 :], *self.ranges]

    def new_tag(self) -> bytes:
        """Return a frame with a length tag."""
        # It gets the highest bit rate, because quiet frames of a variable bit rate are too small.
        header = self.header[:2] + bytes([self.header[2] & 0x0D | 0xE0]) + self.header[3:4]
        frame = parse_frame(header, 0)
        assert frame is not None
        tag = header.ljust(frame.preamble, b"\0") + b"Xing" + (1).to_bytes(4, "big") + self.frames.to_bytes(4, "big")
        return tag.ljust(frame.size, b"\0")


@dataclass(frozen=True)
class Mp3Stream:
    """The parts of a file.

    Attributes:
        layer: 1, 2 or 3.
        parts: what is to be decoded separately.
        as_it_is: whether libsndfile reads all of the file as it is.
    """

    layer: int
    parts: list[Mp3Part]
    as_it_is: bool


def parse_frame(data: bytes, offset: int) -> Mp3Frame | None:
    """Parse the frame header at an offset. None if there is none."""
    header = data[offset : offset + 4]
    if len(header) < 4 or header[0] != 0xFF or header[1] & 0xE0 != 0xE0:
        return None
    version, layer = header[1] >> 3 & 3, 4 - (header[1] >> 1 & 3)
    bitrate, rate = header[2] >> 4, header[2] >> 2 & 3
    if version == 1 or layer == 4 or bitrate in (0, 15) or rate == 3:
        return None
    mpeg1, mono = version == 3, header[3] >> 6 == 3
    hertz = RATES[rate] >> (0 if mpeg1 else 1 if version == 2 else 2)
    kilobits = (KILOBITS_MPEG1 if mpeg1 else KILOBITS_MPEG2)[layer][bitrate]
    padding = header[2] >> 1 & 1
    if layer == 1:
        size = (12 * kilobits * 1000 // hertz + padding) * 4
    else:
        size = (144 if mpeg1 or layer == 2 else 72) * kilobits * 1000 // hertz + padding
    side_information = (17 if mono else 32) if mpeg1 else (9 if mono else 17)
    return Mp3Frame(size, 4 + side_information, (version, layer, hertz))


def read_stream(source: Source) -> Mp3Stream | None:
    """Find the frames of an MPEG audio file. None if there are none.

    Raises:
        RejectedRecording: the file is truncated, or changes its sample rate.
    """
    return _read_file(source.key) if source.key else Scanner(source.file).stream()


@lru_cache(maxsize=256)
def _read_file(key: FileKey) -> Mp3Stream | None:
    with open(key.path, "rb", buffering=WINDOW) as file:
        return Scanner(file).stream()


class Scanner:
    """Finds the frames of a file one after another."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.end = file.seek(0, os.SEEK_END)
        self.kind: tuple[int, int, int] | None = None  # that of the first frame
        self.false_headers = 0

    def stream(self) -> Mp3Stream | None:
        """Find all frames. For the rest see `read_stream`."""
        parts: list[Mp3Part] = []
        start = self.behind_id3(0)
        first = offset = self.next_frame(start)
        while offset < self.end:
            head = self.read_at(offset, FRAME_HEAD)
            frame = parse_frame(head, 0)
            if frame is None or frame.kind != self.kind:
                offset = self.next_frame(offset)
                continue
            if offset + frame.size > self.end:  # the last frame is not whole
                break
            tag = find_length_tag(head, frame)
            if tag is not None:
                parts.append(Mp3Part(head[:4], self.read_at(offset, frame.size), declared_frames(head, tag)))
            else:
                if not parts:
                    parts.append(Mp3Part(head[:4]))
                parts[-1].add(offset, frame.size)
            offset += frame.size
        parts = [part for part in parts if part.frames]
        if self.kind is None or not parts:
            return None
        for part in parts:
            if part.declared is not None and part.declared > part.frames + TAG_TOLERANCE:
                raise RejectedRecording(f"truncated: {part.frames} frames, its header declares {part.declared}")
        layer = self.kind[1]
        whole = first == start and len(parts) == 1 and len(parts[0].ranges) == 1
        return Mp3Stream(layer, parts, whole and (layer != 3 or parts[0].tag_is_right))

    def read_at(self, offset: int, count: int) -> bytes:
        """Read up to `count` bytes from an offset."""
        self.file.seek(offset)
        return self.file.read(count)

    def behind_id3(self, offset: int) -> int:
        """Return the offset behind an ID3v2 tag, or the same offset if there is none."""
        head = self.read_at(offset, 10)
        if head[:3] != b"ID3" or len(head) < 10:
            return offset
        behind = offset + 10 + sum((byte & 0x7F) << 7 * (3 - place) for place, byte in enumerate(head[6:10]))
        return behind if behind <= self.end else offset

    def next_frame(self, offset: int) -> int:
        """Return the offset of the next frame, or the end of the file.

        Raises:
            RejectedRecording: a stream of another kind begins, or too many places look like a header but are none.
        """
        while offset < self.end:
            window = self.read_at(offset, WINDOW)
            following = offset + WINDOW - 2  # a header may lie across the border
            for match in HEADER.finditer(window):
                place = offset + match.start()
                if match[0] == b"ID3":
                    behind = self.behind_id3(place)
                    if behind > place:
                        following = behind
                        break
                    continue
                kind = self.row_of_frames(place)
                if kind is not None and self.kind in (None, kind):
                    self.kind = kind
                    return place
                if kind is not None:
                    raise RejectedRecording(
                        f"its encoding changes within the file, from {describe(self.kind)} to {describe(kind)}"
                    )
                self.false_headers += 1
                if self.false_headers > MOST_FALSE_HEADERS:
                    raise RejectedRecording("damaged: too many bytes that are not MPEG frames")
            offset = following
        return self.end

    def row_of_frames(self, offset: int) -> tuple[int, int, int] | None:
        """Return the kind of the frames if several follow each other, or all up to the end of the file."""
        kind = None
        for _ in range(ROW):
            head = self.read_at(offset, 16)
            frame = parse_frame(head, 0)
            if frame is None or (kind is not None and frame.kind != kind):
                at_end = offset >= self.end - 3 or head.startswith(END_TAGS)
                return kind if kind is not None and at_end else None
            kind = frame.kind
            offset += frame.size
        return kind


def describe(kind: tuple[int, int, int] | None) -> str:
    """Describe what is the same in all frames of a recording."""
    assert kind is not None
    version, layer, rate = kind
    return f"MPEG {({3: '1', 2: '2', 0: '2.5'})[version]} layer {layer} at {rate} Hz"


def find_length_tag(head: bytes, frame: Mp3Frame) -> int | None:
    """Return the offset of a length tag in the first bytes of a frame, None if there is none."""
    if frame.kind[1] != 3:
        return None
    for place in (frame.preamble, frame.preamble + 2):  # two bytes of a checksum may follow the header
        if head[place : place + 4] in (b"Xing", b"Info"):
            return place
    return 36 if head[36:40] == b"VBRI" else None


def declared_frames(head: bytes, tag: int) -> int | None:
    """Return the number of frames that a length tag declares, None if it declares none."""
    if head[tag : tag + 4] == b"VBRI":
        return int.from_bytes(head[tag + 14 : tag + 18], "big") if len(head) >= tag + 18 else None
    if len(head) < tag + 12 or not int.from_bytes(head[tag + 4 : tag + 8], "big") & 1:
        return None
    return int.from_bytes(head[tag + 8 : tag + 12], "big")
