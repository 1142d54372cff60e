"""Recordings whose headers say too little, too much or nothing, and what is no recording at all."""

import io
import os
import resource
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile
from speech import assert_rejected, record, speech

from zfaudio.corpus.audio import RejectedRecording, check_audio, open_audio, read_audio, read_samples
from zfaudio.corpus.splice import Sound, SplicedFile
from zfaudio.generation.recordings import read_recording

RATE = 16000


# Headers


def test_flac_without_a_length_is_read_whole(tmp_path: Path) -> None:
    samples = record(tmp_path / "a.flac", subtype="PCM_16")
    content = bytearray((tmp_path / "a.flac").read_bytes())
    content[21:26] = bytes([content[21] & 0xF0, 0, 0, 0, 0])
    (tmp_path / "a.flac").write_bytes(content)
    np.testing.assert_array_equal(read_audio(tmp_path / "a.flac")[0][:, 0], samples)
    with open_audio(tmp_path / "a.flac") as sound:
        assert sound.frames == RATE
        np.testing.assert_array_equal(read_samples(sound, 5000, 7000)[:, 0], samples[5000:7000])
    (tmp_path / "a.flac").write_bytes(content[:9000])
    assert_rejected(tmp_path / "a.flac", "cannot be decoded")


def put(content: bytearray, mark: bytes, offset: int, new: bytes) -> None:
    place = content.index(mark) + offset
    content[place : place + len(new)] = new


@pytest.mark.parametrize(
    ("name", "marks"),
    [
        ("WAV", [(b"RIFF", 4, bytes(4)), (b"data", 4, bytes(4))]),
        ("WAV", [(b"RIFF", 4, b"\xff" * 4), (b"data", 4, b"\xff" * 4)]),
        ("WAV", [(b"data", 4, b"\x00\xf0\xff\x7f")]),
        ("RF64", [(b"ds64", 8, bytes(24))]),
        ("AIFF", [(b"FORM", 4, bytes(4)), (b"COMM", 10, bytes(4)), (b"SSND", 4, bytes(4))]),
        ("AIFF", [(b"FORM", 4, b"\xff" * 4), (b"COMM", 10, bytes(4)), (b"SSND", 4, b"\xff" * 4)]),
        ("AU", [(b".snd", 8, bytes(4))]),
        ("AU", [(b".snd", 8, b"\xff" * 4)]),
        ("AU", [(b".snd", 8, b"\x7f\xff\xff\xff")]),
        ("CAF", [(b"data", 4, bytes(8))]),
        ("CAF", [(b"data", 4, b"\xff" * 8)]),
        ("W64", [(b"riff", 16, bytes(8)), (b"data\xf3\xac", 16, bytes(8))]),
    ],
)
def test_sizes_that_were_never_written_are_those_of_the_file(
    tmp_path: Path, name: str, marks: list[tuple[bytes, int, bytes]]
) -> None:
    samples = record(tmp_path / "a.wav", format=name, subtype="PCM_16")
    content = bytearray((tmp_path / "a.wav").read_bytes())
    for mark, offset, new in marks:
        put(content, mark, offset, new)
    (tmp_path / "a.wav").write_bytes(content)
    read, _ = read_audio(tmp_path / "a.wav")
    np.testing.assert_array_equal(read[:, 0], samples)
    with open_audio(io.BytesIO(bytes(content))) as sound:
        np.testing.assert_array_equal(read_samples(sound, 700, 900)[:, 0], samples[700:900])


def test_no_samples_are_no_samples_whatever_follows(tmp_path: Path) -> None:
    record(tmp_path / "a.wav", np.zeros(0, np.int16))
    assert_rejected(tmp_path / "a.wav", "no samples")
    content = (tmp_path / "a.wav").read_bytes() + b"LIST" + struct.pack("<I", 26) + b"INFOISFT" + bytes(18)
    (tmp_path / "a.wav").write_bytes(content)
    assert_rejected(tmp_path / "a.wav", "no samples")


@pytest.mark.parametrize(
    "tail", [b"\x4f\x24\x6f\x0e" * 50, b"a-1 RIFF\xff\xff\xff\x0f", bytes(1001), b"TAG" + bytes(125)]
)
@pytest.mark.parametrize("name", ["WAV", "WAVEX", "RF64", "W64", "AIFF", "AU", "CAF", "NIST", "SVX", "VOC", "FLAC"])
def test_bytes_behind_the_samples_are_left_aside(tmp_path: Path, name: str, tail: bytes) -> None:
    samples = record(tmp_path / "a.bin", format=name, subtype="PCM_16")
    with (tmp_path / "a.bin").open("ab") as file:
        file.write(tail)
    np.testing.assert_array_equal(read_audio(tmp_path / "a.bin")[0][:, 0], samples)


@pytest.mark.parametrize("name", ["RF64", "CAF", "SVX", "VOC", "WAVEX"])
@pytest.mark.parametrize("kept", [0.5, 0.999])
def test_missing_bytes_are_the_reason(tmp_path: Path, name: str, kept: float) -> None:
    record(tmp_path / "a.bin", format=name, subtype="PCM_16")
    content = (tmp_path / "a.bin").read_bytes()
    (tmp_path / "a.bin").write_bytes(content[: int(kept * len(content))])
    assert_rejected(tmp_path / "a.bin", "truncated", "its header declares")


@pytest.mark.parametrize("name", ["VORBIS", "OPUS"])
def test_ogg_without_its_last_page_is_truncated(tmp_path: Path, name: str) -> None:
    record(tmp_path / "a.ogg", format="OGG", subtype=name)
    content = (tmp_path / "a.ogg").read_bytes()
    (tmp_path / "a.ogg").write_bytes(content[: len(content) // 2])
    assert_rejected(tmp_path / "a.ogg", "truncated: its last page is missing")


@pytest.mark.parametrize(
    ("name", "subtype"),
    [
        ("WAV", "GSM610"),
        ("WAV", "G721_32"),
        ("AU", "G723_24"),
        ("WAV", "NMS_ADPCM_16"),
        ("AIFF", "DWVW_16"),
        ("W64", "GSM610"),
    ],
)
def test_encodings_that_cannot_be_sought_in_are_decoded_in_sequence(tmp_path: Path, name: str, subtype: str) -> None:
    record(tmp_path / "a.bin", format=name, subtype=subtype)
    with Sound(str(tmp_path / "a.bin")) as sound:
        sound.in_sequence = True
        expected = np.rint(sound.read(sound.frames) * 32768).clip(-32768, 32767)
    read, rate = read_audio(tmp_path / "a.bin")
    assert rate == RATE
    np.testing.assert_array_equal(read[:, 0], expected)
    assert check_audio(tmp_path / "a.bin") >= 1.0
    with open_audio(tmp_path / "a.bin") as sound:
        for start, stop in ((9000, 9100), (300, 5000)):
            np.testing.assert_array_equal(read_samples(sound, start, stop)[:, 0], expected[start:stop])


def test_ima_adpcm_in_aiff_is_read(tmp_path: Path) -> None:
    record(tmp_path / "a.aiff", subtype="IMA_ADPCM")
    assert len(read_audio(tmp_path / "a.aiff")[0]) >= RATE


@pytest.mark.parametrize("rate", [1, 3, 999, 1_000_000])
def test_rates_that_no_speech_has_are_rejected(tmp_path: Path, rate: int) -> None:
    soundfile.write(tmp_path / "a.wav", speech(2000), rate)
    assert_rejected(tmp_path / "a.wav", f"a sample rate of {rate} Hz")


def declare(path: Path, samples: int) -> None:
    """Change the number of samples in the header of a FLAC file."""
    content = bytearray(path.read_bytes())
    bits = int.from_bytes(content[18:26], "big") & ~((1 << 36) - 1) | samples
    content[18:26] = bits.to_bytes(8, "big")
    path.write_bytes(content)


def test_flac_that_declares_what_it_cannot_hold_is_rejected_before_anything_is_allocated(tmp_path: Path) -> None:
    record(tmp_path / "a.flac")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for samples in ((1 << 36) - 1, 1 << 31):
        declare(tmp_path / "a.flac", samples)
        assert_rejected(tmp_path / "a.flac", f"declares {samples} samples, more than")
    declare(tmp_path / "a.flac", 1 << 26)
    assert_rejected(tmp_path / "a.flac", "")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak < 50_000  # kB


# Files that are no files, and files of something else


def test_what_is_no_file_is_rejected_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.wav")
    (tmp_path / "folder.wav").mkdir()
    (tmp_path / "dangling.wav").symlink_to(tmp_path / "gone.wav")
    (tmp_path / "loop.wav").symlink_to(tmp_path / "loop.wav")
    for name, reason in (
        ("pipe.wav", "not a file but a pipe"),
        ("folder.wav", "a folder"),
        ("dangling.wav", "a link to a file that does not exist"),
        ("loop.wav", "Too many levels of symbolic links"),
        ("gone.wav", "no such file"),
        ("folder.wav/a.wav", "no such file"),
        ("x" * 300 + ".wav", "File name too long"),
        ("/".join(["x" * 200] * 30), "File name too long"),
        ("a\0b.wav", "null"),
    ):
        assert_rejected(tmp_path / name, reason)
    assert_rejected(Path("/dev/zero"), "not a file")


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.wav", b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n", "git lfs pull"),
        ("a.wav", b"/annex/objects/SHA256E-s32044--abc.wav\n", "git annex get"),
        ("a.wav", b"../.git/annex/objects/xx/yy/SHA256E-s32044--abc.wav", "git annex get"),
        ("a.wav", b".kept/k0.wav", "a link that was copied as text"),
        ("a.au", bytes(range(256)) * 20, "without a header"),
        ("a.snd", b"words " * 500, "without a header"),
        ("a.raw", bytes(5000), "without a header"),
        ("a.gsm", (b"\xd1" + bytes(32)) * 50, "without a header"),
    ],
)
def test_what_stands_under_the_name_of_a_recording_is_named(
    tmp_path: Path, name: str, content: bytes, reason: str
) -> None:
    (tmp_path / name).write_bytes(content)
    assert_rejected(tmp_path / name, reason)


def test_recording_whose_name_is_not_utf_8_is_read(tmp_path: Path) -> None:
    samples = record(tmp_path / "a.flac", subtype="PCM_16")
    path = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.flac")
    (tmp_path / "a.flac").rename(path)
    np.testing.assert_array_equal(read_audio(path)[0][:, 0], samples)


# Floating point


@pytest.mark.parametrize("subtype", ["FLOAT", "DOUBLE"])
def test_floats_that_hold_integers_are_rejected(tmp_path: Path, subtype: str) -> None:
    loud = np.concatenate([np.zeros(40 * RATE), speech(RATE).astype(float)])
    record(tmp_path / "a.wav", loud, subtype=subtype)
    assert_rejected(tmp_path / "a.wav", "where full scale is 1")
    quiet = np.random.default_rng(0).integers(-3, 4, RATE).astype(float)
    record(tmp_path / "a.wav", quiet, subtype=subtype)
    assert_rejected(tmp_path / "a.wav", "samples up to 3, where full scale is 1")
    with (
        pytest.raises(RejectedRecording, match="full scale"),
        open_audio(io.BytesIO((tmp_path / "a.wav").read_bytes())),
    ):
        pass


def test_floats_that_are_too_loud_are_still_clipped(tmp_path: Path) -> None:
    record(tmp_path / "a.wav", speech(RATE) / 5000, subtype="FLOAT")
    read, _ = read_audio(tmp_path / "a.wav")
    np.testing.assert_array_equal(read[:, 0], np.rint(speech(RATE) / 5000 * 32768).clip(-32768, 32767))


def test_prompt_whose_channels_cancel_each_other_out_is_warned_of(tmp_path: Path) -> None:
    record(tmp_path / "a.wav", np.stack([speech(RATE), -speech(RATE)], axis=1))
    with pytest.warns(UserWarning, match=r"a\.wav: its channels cancel each other out"):
        read_recording(tmp_path / "a.wav", RATE, 200)


# The file that is put together


def test_spliced_file_reads_like_a_file() -> None:
    spliced = SplicedFile(io.BytesIO(b"0123456789"), [b"ab", (2, 5), b"", (7, 7), (9, 10), b"c"])
    whole = b"ab2349c"
    assert spliced.read() == whole
    for start in range(len(whole) + 2):
        for count in range(len(whole) + 2):
            spliced.seek(start)
            assert spliced.read(count) == whole[start : start + count]
            assert spliced.tell() == max(start, min(start + count, len(whole)))
    assert spliced.seek(-2, io.SEEK_END) == 5
    assert spliced.seek(1, io.SEEK_CUR) == 6
    assert spliced.read() == b"c"
