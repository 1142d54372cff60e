"""Recordings that sph2pipe or ffmpeg decode. Programs on PATH stand in for them."""

import sys
from pathlib import Path

import numpy as np
import pytest
from speech import assert_rejected, record

from zfaudio.corpus import converters
from zfaudio.corpus.audio import open_audio, read_audio, read_samples

RATE = 16000


def install(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, body: str) -> Path:
    """Put a program on PATH, and nothing else there. It writes its arguments to NAME.log."""
    folder.mkdir(exist_ok=True)
    program = folder / name
    log = folder / f"{name}.log"
    program.write_text(
        f"#!{sys.executable}\nimport sys\nopen({str(log)!r}, 'a').write(repr(sys.argv[1:]) + '\\n')\n{body}"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))
    converters._last.key = None
    return log


def writing(path: Path) -> str:
    return f"sys.stdout.buffer.write(open({str(path)!r}, 'rb').read())\n"


def shortened(path: Path) -> Path:
    header = "NIST_1A\n   1024\nsample_count -i 16000\nsample_coding -s26 pcm,embedded-shorten-v2.00\nend_head\n"
    path.write_bytes(header.encode().ljust(1024) + b"ajkg" + bytes(500))
    return path


def test_shortened_sphere_is_decompressed_by_sph2pipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    samples = record(tmp_path / "decoded.wav", subtype="PCM_16")
    odd = shortened(tmp_path / "it's; odd $(touch x) .wv1")
    log = install(tmp_path / "bin", monkeypatch, "sph2pipe", writing(tmp_path / "decoded.wav"))
    np.testing.assert_array_equal(read_audio(odd)[0][:, 0], samples)
    assert log.read_text() == repr(["-p", "-f", "wav", str(odd)]) + "\n"
    monkeypatch.setenv("PATH", str(tmp_path / "nowhere"))
    converters._last.key = None
    assert_rejected(odd, "compressed by shorten; install sph2pipe")


@pytest.mark.parametrize(
    ("name", "head"), [("a.m4a", b"\0\0\0\x20ftypM4A "), ("a.webm", b"\x1a\x45\xdf\xa3"), ("a.wav", b"#!AMR\n")]
)
def test_foreign_formats_are_decoded_by_ffmpeg(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, head: bytes
) -> None:
    samples = record(tmp_path / "decoded.wav", subtype="PCM_16")
    content = bytearray((tmp_path / "decoded.wav").read_bytes())
    place = content.index(b"data") + 4
    content[place : place + 4] = b"\xff" * 4  # ffmpeg does not know the length when it begins to write
    (tmp_path / "decoded.wav").write_bytes(content)
    (tmp_path / name).write_bytes(head + bytes(900))
    log = install(tmp_path / "bin", monkeypatch, "ffmpeg", writing(tmp_path / "decoded.wav"))
    np.testing.assert_array_equal(read_audio(tmp_path / name)[0][:, 0], samples)
    arguments = log.read_text()
    assert repr(f"file:{tmp_path / name}") in arguments
    assert "'-protocol_whitelist', 'file'" in arguments
    with open_audio(tmp_path / name) as sound:
        np.testing.assert_array_equal(read_samples(sound, 5000, 6000)[:, 0], samples[5000:6000])
    assert log.read_text().count("\n") == 1  # the last recording is not decoded again
    (tmp_path / name).write_bytes(head + bytes(901))
    read_audio(tmp_path / name)
    assert log.read_text().count("\n") == 2
    monkeypatch.setenv("PATH", str(tmp_path / "nowhere"))
    converters._last.key = None
    assert_rejected(tmp_path / name, "libsndfile cannot read", "install ffmpeg")


def test_a_program_that_fails_or_hangs_rejects_the_recording(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.m4a").write_bytes(b"\0\0\0\x20ftypM4A ")
    install(tmp_path / "bin", monkeypatch, "ffmpeg", "sys.exit('moov atom not found')\n")
    assert_rejected(tmp_path / "a.m4a", "libsndfile cannot read .m4a", "ffmpeg cannot read it: moov atom not found")
    install(tmp_path / "bin", monkeypatch, "ffmpeg", "")
    assert_rejected(tmp_path / "a.m4a", "libsndfile cannot read .m4a; empty file")
    install(tmp_path / "bin", monkeypatch, "ffmpeg", "import time\ntime.sleep(60)\n")
    monkeypatch.setattr(converters, "TIMEOUT", 0.5)
    assert_rejected(tmp_path / "a.m4a", "ffmpeg took longer than")
