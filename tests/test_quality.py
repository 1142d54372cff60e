"""The comparison of samples with real speech, and the choice of the speech that is compared."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from experiment import make_experiment
from speech import make_shards, speech

from zfaudio.command import run_command
from zfaudio.data.manifest import read_manifest
from zfaudio.data.shard_reader import read_utterances
from zfaudio.errors import UserError
from zfaudio.evaluation.quality import cut_to_length, measure_quality, quality, read_quality, real_pieces, total_samples
from zfaudio.generation.samples import Sample, write_sample_list

RATE = 16000


@pytest.fixture(autouse=True)
def little_speech_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zfaudio.evaluation.quality.LEAST_SECONDS", 3.0)


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> str:
    counts = {"train": 6, "valid": 1, "test": 6}
    return make_shards(tmp_path_factory.mktemp("shards"), counts, frames=[100, 70, 60], frame_size=200)


def write_samples(folder: Path, waveforms: list[np.ndarray], rate: int = RATE, **fields: object) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    samples = {}
    for number, waveform in enumerate(waveforms):
        name = f"sample-{number:03d}.wav"
        soundfile.write(folder / name, waveform, rate)
        made = {"checkpoint_step": 500, "latent_temperature": 1.0, "observation_temperature": 1.0, **fields}
        samples[name] = Sample("sample", name, index=number, seed=0, **made)
    write_sample_list(folder, samples)
    return folder


def speeches(count: int, seconds: float = 1.0) -> list[np.ndarray]:
    return [speech(int(seconds * RATE), seed=500 + number) for number in range(count)]


def hisses(count: int) -> list[np.ndarray]:
    draws = np.random.default_rng(0)
    return [np.round(300 * draws.standard_normal(RATE)).astype(np.int16) for _ in range(count)]


def test_speech_like_the_real_comes_near_the_floor_and_noise_does_not(shards, tmp_path):
    alike = measure_quality(write_samples(tmp_path / "a", speeches(4)), shards, "test", seed=0)
    noisy = measure_quality(write_samples(tmp_path / "b", hisses(4)), shards, "test", seed=0)
    assert noisy.floor == alike.floor
    assert noisy.real == alike.real
    assert alike.generated.frechet_distance < 2 * alike.floor.frechet_distance
    assert noisy.generated.frechet_distance > 5 * noisy.floor.frechet_distance
    assert noisy.generated.ltas_distance_db > 2 * noisy.floor.ltas_distance_db
    assert alike.generated.voice.voiced_fraction > 0.2 > noisy.generated.voice.voiced_fraction
    assert alike.real.frechet_distance == pytest.approx(0, abs=1e-6)
    assert alike.real.ltas_distance_db == 0
    assert alike.real.level_ratio == 1
    assert noisy.generated.level_ratio < 0.8 * alike.generated.level_ratio


def test_the_three_sets_are_equally_long(shards, tmp_path):
    result = measure_quality(write_samples(tmp_path, speeches(5)), shards, "test", seed=0)
    assert result.seconds == pytest.approx(5)
    assert (result.samples, result.piece_seconds) == (5, 1.0)
    # Less real speech than generated sets the length, and samples beyond it are not counted.
    result = measure_quality(write_samples(tmp_path, speeches(9)), shards, "test", seed=0)
    available = read_manifest(shards).split("test").frames * 200 / RATE
    assert result.seconds == pytest.approx(available)
    assert result.samples == int(np.ceil(available))


def test_real_speech_is_each_piece_of_the_split_once_in_an_order_that_depends_on_the_seed(shards):
    manifest = read_manifest(shards)
    pieces = real_pieces(shards, manifest, "test", 5000, wanted=10**9, seed=0)
    whole = [one.frames.reshape(-1) for one in read_utterances(shards, "test")]
    expected = [waveform[start : start + 5000] for waveform in whole for start in range(0, len(waveform), 5000)]
    assert sorted(piece.tobytes() for piece in pieces) == sorted(piece.tobytes() for piece in expected)
    other = real_pieces(shards, manifest, "test", 5000, wanted=10**9, seed=1)
    assert [len(piece) for piece in pieces] != [len(piece) for piece in other]
    again = real_pieces(shards, manifest, "test", 5000, wanted=10**9, seed=0)
    assert all(np.array_equal(one, two) for one, two in zip(pieces, again, strict=True))


def test_only_some_shards_of_a_large_split_are_read(tmp_path):
    shards = make_shards(tmp_path, {"train": 30, "test": 1}, frames=40, frame_size=200)
    pieces = real_pieces(shards, read_manifest(shards), "train", 4000, wanted=2000, seed=0)
    assert 20_000 <= total_samples(pieces) < 20_000 + 3 * 40 * 200


def test_pieces_are_cut_to_an_exact_number_of_samples():
    pieces = [np.arange(5), np.arange(3), np.arange(4)]
    assert [len(piece) for piece in cut_to_length(pieces, 7)] == [5, 2]
    assert [len(piece) for piece in cut_to_length(pieces, 5)] == [5]
    assert [len(piece) for piece in cut_to_length(pieces, 99)] == [5, 3, 4]


def test_the_command_writes_its_result_and_a_table(shards, tmp_path, capsys):
    exp = make_experiment(tmp_path, shards=shards)
    write_samples(exp / "samples", speeches(4))
    returned = quality(str(exp))
    assert read_quality(exp / "quality.json") == returned
    result = json.loads((exp / "quality.json").read_text())
    assert (result["split"], result["floor_split"], result["checkpoint_steps"]) == ("test", "train", [500])
    printed = capsys.readouterr().out
    assert f"{result['generated']['frechet_distance']:.2f}" in printed
    assert f"{100 * result['floor']['voice']['voiced_fraction']:.1f}" in printed
    assert "note:" not in printed


def test_only_what_was_generated_freely_counts(shards, tmp_path):
    folder = write_samples(tmp_path, speeches(4))
    before = measure_quality(folder, shards, "test", seed=0)
    listed = json.loads((folder / "samples.json").read_text())
    soundfile.write(folder / "continuation-000.wav", hisses(1)[0], RATE)
    listed["samples"].append(listed["samples"][0] | {"kind": "continuation", "file": "continuation-000.wav"})
    (folder / "samples.json").write_text(json.dumps(listed))
    assert measure_quality(folder, shards, "test", seed=0).generated == before.generated


def test_samples_of_several_checkpoints_are_noted(shards, tmp_path, capsys):
    exp = make_experiment(tmp_path, shards=shards)
    folder = write_samples(exp / "samples", speeches(4))
    listed = json.loads((folder / "samples.json").read_text())
    listed["samples"][0]["checkpoint_step"] = 900
    (folder / "samples.json").write_text(json.dumps(listed))
    quality(exp)
    assert "checkpoints [500, 900]" in capsys.readouterr().out


def test_too_little_speech_says_what_to_do(shards, tmp_path, capsys):
    exp = make_experiment(tmp_path, shards=shards)
    for waveforms, said in (([], "0.0 s"), (speeches(2), "2.0 s")):
        write_samples(exp / "samples", waveforms)
        with pytest.raises(SystemExit):
            run_command(quality, [str(exp)], prog="zfaudio quality")
        (line,) = capsys.readouterr().err.splitlines()
        assert said in line
        assert f"zfaudio generate EXP --out {exp / 'samples'} --num 16 --seconds 4" in line
    write_samples(exp / "samples", speeches(4))
    with pytest.raises(UserError, match="in split 'valid'; give --shards with more"):
        quality(exp, split="valid")


def test_other_mistakes_name_what_is_wrong(shards, tmp_path):
    with pytest.raises(UserError, match="--split train"):
        quality(tmp_path, split="train")
    with pytest.raises(UserError, match=r"config\.yaml: no such file"):
        quality(tmp_path)
    folder = write_samples(tmp_path / "s", speeches(4))
    with pytest.raises(UserError, match="no split 'nope'"):
        quality(tmp_path, samples=folder, shards=shards, split="nope")
    (folder / "sample-001.wav").write_bytes(b"words")
    with pytest.raises(UserError, match=r"sample-001\.wav"):
        quality(tmp_path, samples=folder, shards=shards)
