"""What a run shows while it trains: samples and a reconstruction, what to expect, and the time that is left."""

import io
import os
import re
import subprocess
import sys
import wave

import numpy as np
import pytest
from frame_sources import WORDS, bit_shards, sentence_shards
from PIL import Image
from small_runs import assert_same_weights, run_here, small_run, small_shards
from tensorboard.backend.event_processing.event_accumulator import AUDIO, IMAGES, TENSORS, EventAccumulator

from zfaudio.config import DataConfig
from zfaudio.data.manifest import read_manifest
from zfaudio.data.shard_reader import read_utterances
from zfaudio.errors import UserError
from zfaudio.evaluation.lossless_coders import flac_size
from zfaudio.training.expectation import first_seconds, what_to_expect
from zfaudio.training.log import in_words
from zfaudio.training.run import Training

SHORT = {"train__max_steps": 4, "train__validate_every": 2, "train__samples": 2}
PIXELS = {"model__likelihood": "bernoulli", "data__score_first_frame": True}
TOKENS = {"model__likelihood": "categorical", "model__encoder": "lookup", "data__score_first_frame": True}


@pytest.fixture(scope="module")
def shards(tmp_path_factory) -> str:
    return small_shards(tmp_path_factory.mktemp("shards"))


def events_of(exp) -> EventAccumulator:
    events = EventAccumulator(str(exp / "tensorboard"), {AUDIO: 0, IMAGES: 0, TENSORS: 0})
    events.Reload()
    return events


def sound(encoded: bytes) -> np.ndarray:
    with wave.open(io.BytesIO(encoded)) as file:
        return np.frombuffer(file.readframes(file.getnframes()), np.int16)


def test_each_validation_shows_samples_the_beginning_of_a_recording_and_its_reconstruction(shards, tmp_path):
    run_here(small_run(shards, **SHORT), tmp_path / "exp")
    events = events_of(tmp_path / "exp")
    names = ["original", "reconstruction", "sample 0", "sample 1"]
    assert sorted(events.Tags()["audio"]) == [f"{name}/sound" for name in names]
    assert sorted(events.Tags()["images"]) == [f"{name}/spectrogram" for name in names]
    first = next(iter(read_utterances(shards, "valid"))).frames.ravel()
    for name in names:
        heard = events.Audio(f"{name}/sound")
        assert [one.step for one in heard] == [2, 4]
        assert all(one.sample_rate == 16000 for one in heard)
        seen = events.Images(f"{name}/spectrogram")
        assert np.ptp(np.asarray(Image.open(io.BytesIO(seen[1].encoded_image_string)))) > 100
    original = sound(events.Audio("original/sound")[0].encoded_audio_string)
    assert np.abs(original.astype(int) - first).max() <= 1  # TensorBoard's scale is 32767
    assert len(sound(events.Audio("reconstruction/sound")[0].encoded_audio_string)) == len(first)
    samples = [sound(one.encoded_audio_string) for one in events.Audio("sample 0/sound")]
    assert [len(one) for one in samples] == [32000, 32000]
    assert np.ptp(samples[0]) > 0
    assert (samples[0] != samples[1]).any()


def test_a_model_without_latents_shows_samples_alone(shards, tmp_path):
    run_here(small_run(shards, "rnn", **SHORT | {"train__samples": 1}), tmp_path / "exp")
    assert sorted(events_of(tmp_path / "exp").Tags()["audio"]) == ["sample 0/sound"]


def test_samples_leave_the_training_as_it_is(shards, tmp_path):
    for name, samples in (("with", 2), ("without", 0)):
        run_here(small_run(shards, **SHORT | {"train__samples": samples}), tmp_path / name)
    assert_same_weights(tmp_path / "with", tmp_path / "without")
    assert not events_of(tmp_path / "without").Tags()["audio"]


def test_pictures_are_shown_as_pictures(tmp_path):
    run_here(small_run(bit_shards(tmp_path / "shards"), **PIXELS, **SHORT), tmp_path / "exp")
    events = events_of(tmp_path / "exp")
    assert sorted(events.Tags()["images"]) == ["original", "reconstruction", "sample 0", "sample 1"]
    picture = np.asarray(Image.open(io.BytesIO(events.Images("sample 0")[0].encoded_image_string)))
    assert picture.shape == (6, 4, 3)
    assert set(np.unique(picture)) <= {0, 255}


def test_sentences_are_shown_as_text(tmp_path):
    run_here(small_run(sentence_shards(tmp_path / "shards"), **TOKENS, **SHORT), tmp_path / "exp")
    events = events_of(tmp_path / "exp")
    texts = sorted(tag for tag in events.Tags()["tensors"] if tag.startswith(("original", "sample")))
    assert texts == ["original/text_summary", "sample 0/text_summary", "sample 1/text_summary"]
    (shown,) = events.Tensors(texts[0])[0].tensor_proto.string_val
    assert set(shown.decode().split()) <= set(WORDS)


def test_a_run_begins_with_what_needs_no_model_and_tells_how_long_it_will_take(shards, tmp_path, capsys):
    run_here(small_run(shards, **SHORT), tmp_path / "exp")
    first, *lines = capsys.readouterr().out.splitlines()
    assert re.match(r"validation part without a model: -\d+\.\d nats/frame by an i\.i\.d\. Gaussian, ", first)
    assert re.search(r"step 2: .*; \d+ s left$", "\n".join(lines), re.MULTILINE)
    assert not re.search(r"step 4: .* left", "\n".join(lines))


def test_a_resumed_run_does_not_say_again_what_to_expect(shards, tmp_path, capsys):
    run_here(small_run(shards, **SHORT), tmp_path / "exp")
    capsys.readouterr()
    run_here(small_run(shards, **SHORT | {"train__max_steps": 6}), tmp_path / "exp", resume=True)
    assert "without a model" not in capsys.readouterr().out


def test_what_to_expect_from_flac_is_the_size_of_its_files_in_nats(shards):
    manifest = read_manifest(shards)
    line = what_to_expect(manifest, DataConfig(shards=shards, score_first_frame=True))
    waveforms = [utterance.frames.ravel() for utterance in read_utterances(shards, "valid")]
    bits = 8 * sum(flac_size(waveform, 16000) for waveform in waveforms) / sum(map(len, waveforms))
    nats = manifest.frame_size * (np.log(manifest.waveform.deviation) - bits * np.log(2))
    assert f"{nats:.1f} by FLAC ({bits:.3f} bits a sample)" in line


def test_without_dequantization_there_is_nothing_to_expect_from_coders(shards):
    line = what_to_expect(read_manifest(shards), DataConfig(shards=shards, dequantize=False))
    assert "Gaussian" in line
    assert "FLAC" not in line


def test_only_the_first_seconds_are_measured():
    utterances = [np.full((5, 2), value) for value in range(4)]
    parts = list(first_seconds(iter(utterances), 12))
    assert [len(part) for part in parts] == [5, 5, 2]
    assert [part[0, 0] for part in parts] == [0, 1, 2]


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.2, "0 s"), (99, "99 s"), (100, "2 min"), (5000, "83 min"), (7260, "2 h 1 min")]
)
def test_a_duration_in_words(seconds, words):
    assert in_words(seconds) == words


def test_weights_and_biases_takes_numbers_sounds_and_pictures_and_a_resumed_run_goes_on_there(shards, tmp_path):
    pytest.importorskip("wandb")
    exp = tmp_path / "exp"
    options = ["--train.tracker", "wandb", "--train.samples", "1", "--train.device", "cpu", "--train.batch_size", "3"]
    sizes = [f"--model.{name}_size=8" for name in ("hidden", "latent", "embedding", "mlp")]
    names = []
    for steps, resume in ((2, []), (4, ["--resume"])):
        command = [sys.executable, "-m", "zfaudio", "train", "--data.shards", shards, "--exp", str(exp), *options]
        command += [*sizes, "--train.max_steps", str(steps), "--train.validate_every", "2", *resume]
        environment = os.environ | {"WANDB_MODE": "offline", "WANDB_SILENT": "true"}
        run = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert run.returncode == 0, run.stderr
        names.append((exp / "wandb-run.txt").read_text())
    assert names[0] == names[1]
    runs = sorted((exp / "wandb").glob("offline-run-*"))
    assert len(runs) == 2
    assert all(run.name.endswith(names[0]) for run in runs)
    media = [path for run in runs for path in (run / "files" / "media").rglob("*") if path.is_file()]
    assert sorted({path.suffix for path in media}) == [".png", ".wav"]
    assert (exp / "metrics.csv").is_file()


def test_a_tracker_that_is_not_installed_is_one_line(shards, tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"wandb is not installed; install it with: pip install 'zfaudio\[wandb\]'"):
        Training(small_run(shards, train__tracker="wandb"), tmp_path / "exp", resume=False)
