"""Data directories that lhotse itself exports."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from speech import load_utterance, speech

from zfaudio.corpus.kaldi import read_data_dir
from zfaudio.data.manifest import read_manifest
from zfaudio.data.shard import shard
from zfaudio.errors import UserError

lhotse = pytest.importorskip("lhotse", reason="lhotse is an extra of developers: pip install 'zfaudio[dev]'")

RATE = 16000

# In place of ffmpeg: decodes the file behind -i, and writes the channel behind -map_channel as WAV to standard output.
FFMPEG = """
import io, sys
import soundfile
words = sys.argv[1:]
samples, rate = soundfile.read(words[words.index("-i") + 1], dtype="int16", always_2d=True)
assert rate == int(words[words.index("-ar") + 1])
channel = int(words[words.index("-map_channel") + 1].split(".")[-1])
wav = io.BytesIO()
soundfile.write(wav, samples[:, channel], rate, format="WAV")
content = bytearray(wav.getvalue())
content[4:8] = content[40:44] = bytes([255]) * 4  # it does not know the length when it begins to write
sys.stdout.buffer.write(content)
"""


@pytest.fixture(autouse=True)
def ffmpeg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "ffmpeg").write_text(f"#!{sys.executable}\n{FFMPEG}")
    (tmp_path / "bin" / "ffmpeg").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")


def export(out: Path, paths: list[Path], segments: list[tuple[str, str, float, float, int, str]]) -> Path:
    """Have lhotse write a data directory.

    Args:
        out: the directory.
        paths: of the recordings, whose ids are their names.
        segments: id, recording, start, duration, channel and speaker of each utterance.
    """
    from lhotse.kaldi import export_to_kaldi

    recordings = lhotse.RecordingSet.from_recordings(
        lhotse.Recording.from_file(path, recording_id=path.stem) for path in paths
    )
    supervisions = lhotse.SupervisionSet.from_segments(
        lhotse.SupervisionSegment(
            id=id, recording_id=recording, start=start, duration=duration, channel=channel, speaker=speaker, text=id
        )
        for id, recording, start, duration, channel, speaker in segments
    )
    export_to_kaldi(recordings, supervisions, out)
    return out


def record(path: Path, channels: int = 1, seed: int = 0) -> np.ndarray:
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = np.stack([speech(RATE, seed + channel) for channel in range(channels)], axis=1)
    soundfile.write(path, samples, RATE, subtype="PCM_16")
    return samples


def test_segments_of_wav_and_of_flac_behind_pipes_are_read(tmp_path: Path) -> None:
    wav, flac = record(tmp_path / "rec1.wav"), record(tmp_path / "rec2.flac", seed=5)
    data = export(
        tmp_path / "data",
        [tmp_path / "rec1.wav", tmp_path / "rec2.flac"],
        [("u1", "rec1", 0.0, 0.5, 0, "zoe"), ("u2", "rec1", 0.5, 0.5, 0, "ann"), ("u3", "rec2", 0.25, 0.5, 0, "bob")],
    )
    assert not (data / "spk2utt").exists()
    with pytest.raises(UserError, match="rec2 is a command; --allow-pipes"):
        read_data_dir(data)
    first, second, third = read_data_dir(data, allow_pipes=True)
    assert [utterance.speaker for utterance in (first, second, third)] == ["zoe", "ann", "bob"]
    np.testing.assert_array_equal(load_utterance(first), wav[: RATE // 2, 0])
    np.testing.assert_array_equal(load_utterance(second), wav[RATE // 2 :, 0])
    np.testing.assert_array_equal(load_utterance(third, allow_pipes=True), flac[RATE // 4 : 3 * RATE // 4, 0])


def test_channels_become_recordings(tmp_path: Path) -> None:
    samples = record(tmp_path / "call.flac", channels=2)
    data = export(
        tmp_path / "data",
        [tmp_path / "call.flac"],
        [("a", "call", 0.0, 1.0, 0, "ann"), ("b", "call", 0.5, 0.5, 1, "bob")],
    )
    first, second = read_data_dir(data, allow_pipes=True)
    np.testing.assert_array_equal(load_utterance(first, allow_pipes=True), samples[:, 0])
    np.testing.assert_array_equal(load_utterance(second, allow_pipes=True), samples[RATE // 2 :, 1])


def test_its_parts_become_shards(tmp_path: Path) -> None:
    for number, part in enumerate(("train", "dev", "test")):
        paths = [tmp_path / part / f"{part}{i}.{suffix}" for i, suffix in enumerate(("wav", "flac"))]
        for i, path in enumerate(paths):
            record(path, seed=10 * number + i)
        segments = [(f"{path.stem}-{i}", path.stem, 0.4 * i, 0.4, 0, f"spk{i}") for path in paths for i in range(2)]
        export(tmp_path / "data" / part, paths, segments)
    shard(tmp_path / "data", tmp_path / "shards", allow_pipes=True)
    splits = read_manifest(tmp_path / "shards").splits
    assert {name: split.utterances for name, split in splits.items()} == {"train": 4, "valid": 4, "test": 4}


def test_its_pipes_pass_the_recipe(tmp_path: Path) -> None:
    record(tmp_path / "a.flac")
    export(tmp_path / "data" / "train_x", [tmp_path / "a.flac"], [("u1", "a", 0.0, 0.5, 0, "ann")])
    recipe = Path(__file__).parents[1] / "recipes" / "custom" / "run.sh"
    options = f"--data data --exp exp --stage 1 --stop-stage 1 --nj 1 --train train_x --channel 0 --sample-rate {RATE}"
    path = f"{tmp_path / 'bin'}:{Path(sys.executable).parent}:/usr/bin:/bin"
    command = [recipe, *options.split()]
    refused = subprocess.run(command, cwd=tmp_path, env={"PATH": path}, capture_output=True, text=True, check=False)
    assert "a is a command; --allow-pipes" in refused.stderr
    finished = subprocess.run(
        [*command, "--allow-pipes"], cwd=tmp_path, env={"PATH": path}, capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, finished.stderr
    assert read_manifest(tmp_path / "data" / "shards").splits["train"].utterances == 1
