"""MP3 and MP2 files that were joined, have a wrong length tag, or other bytes in front."""

import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from speech import assert_rejected, record, speech

from zfaudio.corpus.audio import open_audio, read_audio, read_samples
from zfaudio.corpus.mp3 import parse_frame

RATE = 16000


@pytest.fixture
def whole(tmp_path: Path) -> bytes:
    """An MP3 file with a length tag."""
    record(tmp_path / "whole.mp3")
    return (tmp_path / "whole.mp3").read_bytes()


def decoded(tmp_path: Path, content: bytes, name: str = "a.mp3") -> np.ndarray:
    (tmp_path / name).write_bytes(content)
    return read_audio(tmp_path / name)[0]


def with_tag_count(mp3: bytes, change: int) -> bytes:
    place = max(mp3.find(b"Xing"), mp3.find(b"Info")) + 8
    frames = int.from_bytes(mp3[place : place + 4], "big") + change
    return mp3[:place] + frames.to_bytes(4, "big") + mp3[place + 4 :]


def id3(size: int) -> bytes:
    return b"ID3\x04\0\0" + bytes(size >> shift & 0x7F for shift in (21, 14, 7, 0)) + b"\xff\xfb\x90" * (size // 3)


def test_joined_mp3_files_are_read_one_after_another(tmp_path: Path, whole: bytes) -> None:
    part = decoded(tmp_path, whole)
    assert len(part) == RATE
    np.testing.assert_array_equal(decoded(tmp_path, whole + whole), np.concatenate([part, part]))
    apart = whole + b"TAG" + bytes(125) + id3(3000) + whole + b"TAG" + bytes(125) + whole
    np.testing.assert_array_equal(decoded(tmp_path, apart), np.concatenate([part] * 3))


def test_excerpts_of_joined_mp3_files_are_what_the_whole_has_there(tmp_path: Path, whole: bytes) -> None:
    everything = decoded(tmp_path, whole + whole)
    with open_audio(tmp_path / "a.mp3") as sound:
        for start, stop in ((100, 9000), (RATE - 3000, RATE + 3000), (RATE + 500, 2 * RATE), (0, 2 * RATE)):
            part = read_samples(sound, start, stop)
            assert np.abs(part.astype(int) - everything[start:stop]).max() <= 1


@pytest.mark.parametrize("change", [-14, -2, -1, 1])
def test_mp3_whose_tag_counts_other_frames_is_read_whole(tmp_path: Path, whole: bytes, change: int) -> None:
    np.testing.assert_array_equal(decoded(tmp_path, with_tag_count(whole, change)), decoded(tmp_path, whole))


def test_mp3_whose_tag_counts_too_many_frames_is_truncated(tmp_path: Path, whole: bytes) -> None:
    (tmp_path / "a.mp3").write_bytes(with_tag_count(whole, 5))
    assert_rejected(tmp_path / "a.mp3", "truncated", "its header declares")


@pytest.mark.parametrize(
    "junk", [bytes(7000), b"HTTP/1.1 200 OK\r\n\r\n", b"\xff" * 70001, b"\xff\xfb\x90\x00" * 50, id3(600) + bytes(900)]
)
def test_mp3_behind_other_bytes_is_read_whole(tmp_path: Path, whole: bytes, junk: bytes) -> None:
    np.testing.assert_array_equal(decoded(tmp_path, junk + whole), decoded(tmp_path, whole))
    untagged = whole[parse_frame(whole, 0).size :]
    assert abs(len(decoded(tmp_path, junk + untagged)) - RATE) < 4 * 1152


def test_mp3_that_changes_its_rate_is_rejected(tmp_path: Path, whole: bytes) -> None:
    soundfile.write(tmp_path / "b.mp3", speech(44100), 44100)
    (tmp_path / "a.mp3").write_bytes(whole + (tmp_path / "b.mp3").read_bytes())
    assert_rejected(tmp_path / "a.mp3", "its encoding changes", "16000 Hz", "44100 Hz")


def test_bytes_that_look_like_frames_without_end_are_given_up(tmp_path: Path, whole: bytes) -> None:
    started = time.monotonic()
    (tmp_path / "a.mp3").write_bytes(whole + b"\xff\xfb\x90\x00" * 3_000_000)
    assert_rejected(tmp_path / "a.mp3", "damaged")
    assert time.monotonic() - started < 10


def layer_2_frame(rate_index: int = 2) -> bytes:
    """A frame of silence: MPEG 2 layer II, 16 kHz, mono, 64 kbit/s."""
    header = bytes([0xFF, 0xF5, 0x80 | rate_index << 2, 0xC0])
    return header.ljust(parse_frame(header, 0).size, b"\0")


def test_mp2_behind_other_bytes_is_read_whole(tmp_path: Path) -> None:
    assert len(layer_2_frame()) == 576
    for junk in (b"", bytes(5000)):
        assert len(decoded(tmp_path, junk + 20 * layer_2_frame(), "a.mp2")) == 20 * 1152
