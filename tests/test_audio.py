import io
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from zfaudio.corpus.audio import (
    RejectedRecording,
    check_audio,
    open_audio,
    read_audio,
    read_samples,
    resample,
    to_mono,
    write_wav,
)
from zfaudio.corpus.mp3 import parse_frame

RATE = 16000

# Format of each extension. All of them keep 16-bit samples exactly.
LOSSLESS = {".wav": "WAV", ".WAV": "NIST", ".flac": "FLAC", ".aiff": "AIFF", ".au": "AU", ".w64": "W64", ".caf": "CAF"}


def noise(samples: int, channels: int = 1, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(-20000, 20000, size=(samples, channels)).astype(np.int16)


def halve(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


@pytest.mark.parametrize("suffix", LOSSLESS)
def test_16_bit_samples_are_read_bit_for_bit(tmp_path: Path, suffix: str) -> None:
    samples = noise(3000, channels=2)
    path = tmp_path / f"a{suffix}"
    soundfile.write(path, samples, RATE, format=LOSSLESS[suffix], subtype="PCM_16")
    read, rate = read_audio(path)
    assert rate == RATE
    assert read.dtype == np.int16
    np.testing.assert_array_equal(read, samples)


@given(st_numpy.arrays(np.int16, st.tuples(st.integers(1, 300), st.integers(1, 3))))
def test_wav_of_any_samples_round_trips(samples: np.ndarray) -> None:
    file = io.BytesIO()
    soundfile.write(file, samples, RATE, format="WAV", subtype="PCM_16")
    file.seek(0)
    with open_audio(file) as sound:
        np.testing.assert_array_equal(read_samples(sound), samples)


def test_float_samples_are_scaled_rounded_and_clipped(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.array([0.0, 0.5, -1.0, 1.0, 3.0, -3.0]), RATE, subtype="FLOAT")
    samples, _ = read_audio(tmp_path / "a.wav")
    np.testing.assert_array_equal(samples[:, 0], [0, 16384, -32768, 32767, 32767, -32768])


@pytest.mark.parametrize("suffix", [".mp3", ".ogg"])
def test_lossy_formats_come_back_at_the_same_length_and_level(tmp_path: Path, suffix: str) -> None:
    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(RATE) / RATE)
    soundfile.write(tmp_path / f"a{suffix}", tone, RATE)
    samples, _ = read_audio(tmp_path / f"a{suffix}")
    assert len(samples) == RATE
    assert np.std(samples) == pytest.approx(0.5 / np.sqrt(2) * 32768, rel=0.05)


def test_stereo_sphere_at_8_khz_is_read(tmp_path: Path) -> None:
    samples = noise(8000, channels=2)
    soundfile.write(tmp_path / "a.sph", samples, 8000, format="NIST", subtype="PCM_16")
    read, rate = read_audio(tmp_path / "a.sph")
    assert rate == 8000
    np.testing.assert_array_equal(read, samples)
    assert resample(to_mono(read), rate, RATE).shape == (16000,)


@pytest.mark.parametrize("suffix", [*LOSSLESS, ".mp3", ".ogg"])
def test_truncated_file_is_rejected(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    if suffix in LOSSLESS:
        soundfile.write(path, noise(RATE), RATE, format=LOSSLESS[suffix], subtype="PCM_16")
    else:
        soundfile.write(path, noise(RATE), RATE)
    halve(path)
    with pytest.raises(RejectedRecording, match=r"truncated|cannot be decoded|not readable"):
        read_audio(path)


def test_flac_with_a_corrupt_middle_is_rejected(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    soundfile.write(path, noise(RATE), RATE, subtype="PCM_16")
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 2000] = bytes(2000)
    path.write_bytes(data)
    with pytest.raises(RejectedRecording, match=r"truncated|cannot be decoded"):
        check_audio(path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"", "empty file"), (b"these are words\n" * 50, "not readable as audio"), (b"RIFF", "not readable as audio")],
)
def test_what_is_no_audio_is_rejected(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "a.wav").write_bytes(content)
    with pytest.raises(RejectedRecording, match=reason):
        read_audio(tmp_path / "a.wav")


def test_missing_file_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(RejectedRecording, match="no such file"):
        read_audio(tmp_path / "a.wav")


@pytest.mark.parametrize("suffix", [".wav", ".WAV"])
def test_recording_without_samples_is_rejected(tmp_path: Path, suffix: str) -> None:
    soundfile.write(tmp_path / f"a{suffix}", noise(0), RATE, format=LOSSLESS[suffix], subtype="PCM_16")
    with pytest.raises(RejectedRecording, match="no samples"):
        read_audio(tmp_path / f"a{suffix}")


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nan_and_infinity_are_rejected(tmp_path: Path, bad: float) -> None:
    samples = np.zeros(1000)
    samples[500] = bad
    soundfile.write(tmp_path / "a.wav", samples, RATE, subtype="FLOAT")
    with pytest.raises(RejectedRecording, match="NaN or infinite"):
        check_audio(tmp_path / "a.wav")


def test_recording_shorter_than_one_frame_is_rejected(tmp_path: Path) -> None:
    write_wav(tmp_path / "a.wav", noise(199)[:, 0], RATE)
    with pytest.raises(RejectedRecording, match="too short"):
        check_audio(tmp_path / "a.wav", shortest_seconds=200 / RATE)
    write_wav(tmp_path / "a.wav", noise(200)[:, 0], RATE)
    assert check_audio(tmp_path / "a.wav", shortest_seconds=200 / RATE) == 200 / RATE


def test_shortened_sphere_is_rejected_with_the_tool_that_mends_it(tmp_path: Path) -> None:
    header = "NIST_1A\n   1024\nsample_count -i 100\nsample_coding -s26 pcm,embedded-shorten-v2.00\nend_head\n"
    (tmp_path / "a.sph").write_bytes(header.encode().ljust(1024) + b"ajkg" + bytes(500))
    with pytest.raises(RejectedRecording, match="sph2pipe"):
        read_audio(tmp_path / "a.sph")


def test_wav_from_a_pipe_that_did_not_know_its_length_is_read(tmp_path: Path) -> None:
    write_wav(tmp_path / "a.wav", noise(1000)[:, 0], RATE)
    data = bytearray((tmp_path / "a.wav").read_bytes())
    data[4:8] = data[40:44] = b"\xff\xff\xff\xff"
    with open_audio(io.BytesIO(bytes(data))) as sound:
        assert len(read_samples(sound)) == 1000


def test_mono_is_the_rounded_mean_of_the_channels() -> None:
    samples = np.array([[32767, 32767], [-32768, -32768], [1, 2], [10, -10]], dtype=np.int16)
    np.testing.assert_array_equal(to_mono(samples), [32767, -32768, 2, 0])


@given(st.integers(100, 5000), st.sampled_from([8000, 11025, 22050, 44100, 48000]))
def test_resampling_keeps_the_duration_and_a_constant(samples: int, rate: int) -> None:
    resampled = resample(np.full(samples, 1000, dtype=np.int16), rate, RATE)
    assert resampled.dtype == np.int16
    assert abs(len(resampled) - samples * RATE / rate) <= 1
    middle = resampled[len(resampled) // 3 : -len(resampled) // 3]
    assert np.abs(middle.astype(int) - 1000).max(initial=0) <= 150


def test_resampled_tone_is_the_tone_at_the_other_rate() -> None:
    def tone(rate: int) -> np.ndarray:
        return (10000 * np.sin(2 * np.pi * 440 * np.arange(rate) / rate)).astype(np.int16)

    difference = resample(tone(22050), 22050, RATE)[500:-500].astype(int) - tone(RATE)[500:-500]
    assert np.abs(difference).max() <= 3


def test_same_rate_is_left_alone() -> None:
    samples = noise(100)[:, 0]
    assert resample(samples, RATE, RATE) is samples


def test_written_floats_clip_at_full_scale(tmp_path: Path) -> None:
    write_wav(tmp_path / "a.wav", np.array([0.25, 1.5, -1.5]), RATE)
    samples, _ = read_audio(tmp_path / "a.wav")
    np.testing.assert_array_equal(samples[:, 0], [8192, 32767, -32768])


def untagged(path: Path) -> None:
    """Remove the frame with the length tag from an MP3 file."""
    data = path.read_bytes()
    frame = parse_frame(data, 0)
    assert frame is not None
    assert b"Xing" in data[: frame.size] or b"Info" in data[: frame.size]
    path.write_bytes(data[frame.size :])


@pytest.mark.parametrize("rate", [16000, 44100])
def test_mp3_that_does_not_state_its_length_is_read_whole(tmp_path: Path, rate: int) -> None:
    # Silence, then a tone: the first frames are small, so the length that is guessed from them is wrong.
    tone = np.concatenate([np.zeros(rate), 0.5 * np.sin(np.arange(3 * rate) / 9)])
    soundfile.write(tmp_path / "a.mp3", tone, rate)
    untagged(tmp_path / "a.mp3")
    samples, _ = read_audio(tmp_path / "a.mp3")
    assert 4 * rate <= len(samples) <= 4 * rate + 4 * 1152
    assert np.std(samples[-rate:]) > 1000


def test_part_of_an_mp3_is_what_the_whole_has_there(tmp_path: Path) -> None:
    rate = 44100
    sweep = 0.3 * np.sin(2 * np.pi * np.cumsum(np.linspace(100, 2000, 5 * rate)) / rate)
    soundfile.write(tmp_path / "a.mp3", sweep, rate)
    with open_audio(tmp_path / "a.mp3") as sound:
        whole = read_samples(sound)
        for start in (154350, 3 * rate, 1000):
            part = read_samples(sound, start, start + 22050)
            assert np.abs(part.astype(int) - whole[start : start + 22050]).max() <= 1
