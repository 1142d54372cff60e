"""Lengths of MP3 files that do not state theirs.

Without a length tag in its first frame the length of an MP3 file is guessed from that frame's size, and libsndfile
then stops reading at the guess: of a file with a variable bit rate most may be lost. Such a file is given its tag
here, in memory, after its frames were counted.
"""

from dataclasses import dataclass
from pathlib import Path

# Kilobits a second by the header's index, for MPEG 1 and for MPEG 2 and 2.5, layer III.
KILOBITS_1 = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
KILOBITS_2 = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
RATES = (44100, 48000, 32000)

LENGTH_TAGS = (b"Xing", b"Info", b"VBRI")


@dataclass(frozen=True)
class Frame:
    """What a frame's header says: bytes of the frame, and bytes of header and side information before its data."""

    size: int
    preamble: int


def parse_frame(data: bytes, at: int) -> Frame | None:
    """The frame at a place, None where there is no layer III header."""
    header = data[at : at + 4]
    if len(header) < 4 or header[0] != 0xFF or header[1] & 0xE6 != 0xE2:
        return None
    version, bitrate, rate = header[1] >> 3 & 3, header[2] >> 4, header[2] >> 2 & 3
    if version == 1 or bitrate in (0, 15) or rate == 3:
        return None
    first, mono = version == 3, header[3] >> 6 == 3
    hertz = RATES[rate] >> (0 if first else 1 if version == 2 else 2)
    kilobits = (KILOBITS_1 if first else KILOBITS_2)[bitrate]
    size = (144 if first else 72) * kilobits * 1000 // hertz + (header[2] >> 1 & 1)
    side = (17 if mono else 32) if first else (9 if mono else 17)
    return Frame(size, 4 + side)


def first_frame(data: bytes) -> int:
    """Where the audio starts: after an ID3v2 tag."""
    if data[:3] != b"ID3" or len(data) < 10:
        return 0
    size = sum((byte & 0x7F) << 7 * (3 - place) for place, byte in enumerate(data[6:10]))
    return 10 + size


def with_length_tag(path: Path) -> bytes | None:
    """The file's bytes with a length tag in front; None where it has one, or is no layer III stream."""
    with path.open("rb") as file:
        start = first_frame(file.read(10))
        file.seek(start)
        head = file.read(4096)
        frame = parse_frame(head, 0)
        if frame is None or any(tag in head[: frame.size] for tag in LENGTH_TAGS):
            return None
        data = head + file.read()
    # Quiet frames of a variable bit rate are too small for a tag: the tag's frame gets the highest bit rate.
    header = data[:2] + bytes([data[2] & 0x0D | 0xE0]) + data[3:4]
    frame = parse_frame(header, 0)
    assert frame is not None
    tag = header.ljust(frame.preamble, b"\0") + b"Xing" + (1).to_bytes(4, "big") + count_frames(data).to_bytes(4, "big")
    return tag.ljust(frame.size, b"\0") + data


def count_frames(data: bytes) -> int:
    """Frames in a stream; what is no frame is passed over."""
    count = at = 0
    while at < len(data):
        frame = parse_frame(data, at)
        if frame is None:
            at = data.find(b"\xff", at + 1)
            if at < 0:
                break
        elif at + frame.size > len(data):
            break
        else:
            count += 1
            at += frame.size
    return count
