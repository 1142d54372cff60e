"""The Python API: what `import zfaudio` offers, and a trained model that speaks and scores."""

import base64
import io
import re
import subprocess
import sys

import numpy as np
import pytest
import soundfile
from experiment import FRAME_SIZE, RATE, make_experiment
from speech import speech, write_corpus

import zfaudio
from zfaudio.experiment.results import read_result


@pytest.fixture(scope="module")
def exp(tmp_path_factory):
    return make_experiment(tmp_path_factory.mktemp("experiment"))


@pytest.fixture(scope="module")
def model(exp) -> zfaudio.TrainedModel:
    return zfaudio.load(str(exp), device="cpu")


def test_importing_the_package_brings_no_torch_and_names_what_it_offers():
    program = (
        "import sys, zfaudio; assert 'torch' not in sys.modules and 'numpy' not in sys.modules; print(dir(zfaudio))"
    )
    names = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    for name in ("load", "shard", "train", "evaluate", "latents", "generate", "quality", "compare", "report"):
        assert repr(name) in names


@pytest.mark.parametrize("name", zfaudio.__all__)
def test_every_name_that_the_package_offers_is_there(name):
    assert getattr(zfaudio, name).__doc__


@pytest.mark.parametrize(
    "package", ["corpus", "data", "models", "experiment", "generation", "evaluation", "training", "reporting"]
)
def test_every_name_that_a_package_offers_is_there(package):
    module = __import__(f"zfaudio.{package}", fromlist=["x"])
    assert module.__doc__.count("\n") <= 1
    assert module.__all__
    assert all(hasattr(module, name) for name in module.__all__)


def test_samples_are_those_of_the_command(exp, model, tmp_path):
    waveforms, rate = model.sample(num=2, seconds=0.05, seed=3)
    assert (waveforms.shape, waveforms.dtype, rate) == ((2, 0.05 * RATE), np.int16, RATE)
    made = zfaudio.generate(exp, out=tmp_path, num=2, seconds=0.05, seed=3)
    for sample, waveform in zip(made, waveforms, strict=True):
        assert np.array_equal(soundfile.read(tmp_path / sample.file, dtype="int16")[0], waveform)


def test_temperatures_are_those_of_the_command(exp, model, tmp_path):
    options = {"num": 1, "seconds": 0.05, "temperature": 0.5, "observation_temperature": 0.0}
    (sample,) = zfaudio.generate(exp, out=tmp_path, **options)
    assert np.array_equal(
        soundfile.read(tmp_path / sample.file, dtype="int16")[0], model.sample(**options).waveforms[0]
    )


def test_a_recording_is_a_path_or_a_waveform_of_any_rate_and_channels(model, tmp_path):
    waveform = speech(4000)
    soundfile.write(tmp_path / "speech.wav", waveform, RATE)
    given = [tmp_path / "speech.wav", str(tmp_path / "speech.wav"), (waveform, RATE)]
    given += [(np.stack([waveform, waveform], 1), RATE), (waveform / 32768, RATE)]
    scores = [model.score(recording).nats_per_frame for recording in given]
    assert scores == pytest.approx([scores[0]] * len(given))
    for method in (model.continue_from, model.reconstruct):
        speeches = [method(recording, seed=1).waveforms for recording in given]
        assert all(np.array_equal(one, speeches[0]) for one in speeches)
    assert model.continue_from((waveform, RATE), seconds=0.1, num=3).waveforms.shape == (3, 0.1 * RATE)
    assert model.reconstruct((waveform, RATE), num=2).waveforms.shape == (2, len(waveform))
    assert model.continue_from((waveform[::2], RATE // 2), seconds=0.1).waveforms.shape == (1, 0.1 * RATE)


def test_what_is_no_recording_is_a_users_mistake(model, tmp_path):
    with pytest.raises(zfaudio.UserError, match="no such file"):
        model.score(tmp_path / "nothing.wav")
    with pytest.raises(zfaudio.UserError, match="shorter than one frame"):
        model.continue_from((np.zeros(FRAME_SIZE - 1, np.int16), RATE))
    with pytest.raises(zfaudio.UserError, match="hold no frame to score"):
        model.score((np.zeros(2 * FRAME_SIZE - 1, np.int16), RATE))
    with pytest.raises(zfaudio.UserError, match="no checkpoint there"):
        zfaudio.load(tmp_path)


def test_a_recordings_score_agrees_with_itself_and_with_the_units(model):
    score = model.score((speech(3000), RATE))
    assert score.bound == "elbo"
    assert score.frame_nats.shape == (3000 // FRAME_SIZE - 1,)
    assert score.frame_nats.mean() == pytest.approx(score.nats_per_frame)
    assert score.kl_per_frame > 0
    deviation = model.checkpoint.manifest.deviation
    expected = -(score.nats_per_frame / FRAME_SIZE - np.log(deviation)) / np.log(2)
    assert score.bits_per_sample == pytest.approx(expected)


def test_speech_is_saved_and_played(model, tmp_path):
    spoken = model.sample(num=2, seconds=0.05)
    paths = spoken.save(tmp_path / "folder")
    assert [path.name for path in paths] == ["speech-000.wav", "speech-001.wav"]
    for path, waveform in zip(paths, spoken.waveforms, strict=True):
        samples, rate = soundfile.read(path, dtype="int16")
        assert np.array_equal(samples, waveform)
        assert rate == RATE


def test_a_notebook_shows_a_player_for_each_waveform(model):
    spoken = model.sample(num=2, seconds=0.05)
    players = re.findall(r'<audio controls src="data:audio/wav;base64,([^"]+)"', spoken._repr_html_())
    for player, waveform in zip(players, spoken.waveforms, strict=True):
        samples, rate = soundfile.read(io.BytesIO(base64.b64decode(player)), dtype="int16")
        assert np.array_equal(samples, waveform)
        assert rate == RATE


def test_a_model_says_what_it_is(model):
    assert repr(model).startswith("TrainedModel(zforcing, 0.00 M parameters, frames of 20 samples at 16000 Hz")


def test_from_a_folder_of_audio_to_a_report_in_python(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_corpus(tmp_path / "recordings", speakers=5, recordings=2)
    manifest = zfaudio.shard("recordings", "shards", frame_size=FRAME_SIZE)
    assert manifest.splits["train"].utterances > 0
    trained = zfaudio.train(
        data=zfaudio.DataConfig(shards="shards"),
        model=zfaudio.RNNConfig(hidden_size=8, embedding_size=8),
        objective=zfaudio.ObjectiveConfig(),
        train=zfaudio.TrainConfig(max_steps=4, batch_size=2, device="cpu"),
        exp="exp",
    )
    assert (trained.steps, trained.checkpoint.name) == (4, "step-00000004")
    result = zfaudio.evaluate("exp", json="exp/results/test.json")
    assert result == read_result(tmp_path / "exp/results/test.json")
    assert result.bound == "exact"
    assert zfaudio.latents("exp").usage is None
    assert len(zfaudio.generate("exp", out="exp/samples", num=2, seconds=0.1)) == 2
    (row,) = zfaudio.compare(["exp"]).rows
    assert row.nats_per_frame == pytest.approx(result.nats_per_frame)
    assert zfaudio.report("exp").is_file()
