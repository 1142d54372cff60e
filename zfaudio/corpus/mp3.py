"""Find the length of MP3 files that do not state it.

If an MP3 file has no length tag in its first frame, libsndfile guesses the length from the size of that frame and stops
reading there. With a variable bit rate, most of the recording can be lost. For such a file the frames are counted here,
and a length tag is added to the data in memory.
"""

from dataclasses import dataclass
from pathlib import Path

# Kilobits per second by the index in the header, layer III: for MPEG 1, and for MPEG 2 and 2.5.
KILOBITS_MPEG1 = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
KILOBITS_MPEG2 = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
RATES = (44100, 48000, 32000)

LENGTH_TAGS = (b"Xing", b"Info", b"VBRI")


@dataclass(frozen=True)
class Mp3Frame:
    """Sizes in bytes that follow from the header of an MP3 frame."""

    size: int  # of the whole frame
    preamble: int  # of the header and side information, which come before the frame's data


def parse_frame(data: bytes, offset: int) -> Mp3Frame | None:
    """Parse the frame header at an offset. None if there is no layer III header."""
    header = data[offset : offset + 4]
    if len(header) < 4 or header[0] != 0xFF or header[1] & 0xE6 != 0xE2:
        return None
    version, bitrate, rate = header[1] >> 3 & 3, header[2] >> 4, header[2] >> 2 & 3
    if version == 1 or bitrate in (0, 15) or rate == 3:
        return None
    mpeg1, mono = version == 3, header[3] >> 6 == 3
    hertz = RATES[rate] >> (0 if mpeg1 else 1 if version == 2 else 2)
    kilobits = (KILOBITS_MPEG1 if mpeg1 else KILOBITS_MPEG2)[bitrate]
    size = (144 if mpeg1 else 72) * kilobits * 1000 // hertz + (header[2] >> 1 & 1)
    side_information = (17 if mono else 32) if mpeg1 else (9 if mono else 17)
    return Mp3Frame(size, 4 + side_information)


def audio_offset(data: bytes) -> int:
    """Return the offset of the first frame, which comes after an ID3v2 tag if there is one."""
    if data[:3] != b"ID3" or len(data) < 10:
        return 0
    size = sum((byte & 0x7F) << 7 * (3 - place) for place, byte in enumerate(data[6:10]))
    return 10 + size


def with_length_tag(path: Path) -> bytes | None:
    """Return the file's bytes with a length tag in front. None if it has one already or is not a layer III stream."""
    with path.open("rb") as file:
        start = audio_offset(file.read(10))
        file.seek(start)
        head = file.read(4096)
        frame = parse_frame(head, 0)
        if frame is None or any(tag in head[: frame.size] for tag in LENGTH_TAGS):
            return None
        data = head + file.read()
    # The frame that holds the tag gets the highest bit rate, because quiet frames of a variable bit rate are too small.
    header = data[:2] + bytes([data[2] & 0x0D | 0xE0]) + data[3:4]
    frame = parse_frame(header, 0)
    assert frame is not None
    tag = header.ljust(frame.preamble, b"\0") + b"Xing" + (1).to_bytes(4, "big") + count_frames(data).to_bytes(4, "big")
    return tag.ljust(frame.size, b"\0") + data


def count_frames(data: bytes) -> int:
    """Count the frames of a stream. Bytes that do not belong to a frame are skipped."""
    count = offset = 0
    while offset < len(data):
        frame = parse_frame(data, offset)
        if frame is None:
            offset = data.find(b"\xff", offset + 1)
            if offset < 0:
                break
        elif offset + frame.size > len(data):
            break
        else:
            count += 1
            offset += frame.size
    return count
