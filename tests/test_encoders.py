"""What a model hears of a frame and of the samples before it."""

import dataclasses
import math

import librosa
import numpy as np
import pytest
import torch
from small_runs import FRAME_SIZE, assert_same_weights, run_here, small_run, small_shards
from tiny_models import QUANTIZER, build, sequences, tiny
from torch import Tensor

import zfaudio
from zfaudio.config import RNNConfig
from zfaudio.distributions import Quantizer
from zfaudio.errors import UserError
from zfaudio.evaluation.evaluate import evaluate
from zfaudio.experiment.config_file import read_config, write_config
from zfaudio.models import build_model
from zfaudio.models.checks import check_model
from zfaudio.models.encoders import FrameEncoder, LinearEncoder, MelEncoder

RATE = 16000


def mel_encoder(
    frame_size: int = 200, window: int = 512, bands: int = 40, quantizer: Quantizer = QUANTIZER
) -> MelEncoder:
    config = RNNConfig(encoder="mel", encoder_window=window, encoder_bands=bands, sample_rate=RATE, embedding_size=16)
    return MelEncoder(frame_size, config, quantizer).double()


def described(encoder: MelEncoder, samples: Tensor) -> Tensor:
    return encoder.describe(samples.unfold(-1, encoder.past + encoder.frame_size, encoder.frame_size))


# Features


@pytest.mark.parametrize(("window", "bands"), [(512, 40), (300, 20), (201, 13), (150, 8)])
def test_the_mel_features_are_those_of_librosa(window, bands):
    encoder = mel_encoder(window=window, bands=bands)
    torch.manual_seed(0)
    samples = torch.randn(1, encoder.past + 5 * 200, dtype=torch.float64).cumsum(-1) * 0.1
    ours = described(encoder, samples)[0].numpy()
    heard = samples[0].numpy()[encoder.past + 200 - window :]  # the first window ends with the first frame
    powers = np.abs(librosa.stft(heard, n_fft=window, hop_length=200, window="hann", center=False)) ** 2
    filters = librosa.filters.mel(sr=RATE, n_fft=window, n_mels=bands, norm=None)
    hann_power = np.square(librosa.filters.get_window("hann", window)).sum()
    mean_powers = (filters / filters.sum(1, keepdims=True)) @ powers / hann_power  # [bands, frames]
    frames = samples[0].numpy()[encoder.past :].reshape(5, 200)
    step = 1 / QUANTIZER.deviation
    np.testing.assert_allclose(ours[:, :bands], (np.log(mean_powers.T + step**2) + 5) / 4, rtol=1e-4, atol=1e-5)
    rms = np.sqrt(np.mean(frames**2, axis=1) + step**2)
    np.testing.assert_allclose(ours[:, bands], (np.log(rms) + 1.5) / 1.5, rtol=1e-9)
    companded = np.sign(frames) * np.log(1 + 30 * np.abs(frames)) / np.log(31)
    np.testing.assert_allclose(ours[:, bands + 1 :], companded, rtol=1e-9)


def test_white_noise_of_power_one_has_power_one_in_every_band():
    torch.manual_seed(0)
    encoder = mel_encoder()
    bands = described(encoder, torch.randn(1, encoder.past + 4000 * 200, dtype=torch.float64))[0, :, :40]
    power = torch.exp(4 * bands - 5).mean(0)
    torch.testing.assert_close(power, torch.ones_like(power), rtol=0.15, atol=0)


def test_a_tone_is_heard_in_its_band():
    encoder = mel_encoder()
    tone = torch.sin(2 * math.pi * 1000 / RATE * torch.arange(encoder.past + 200, dtype=torch.float64))
    loudest = int(described(encoder, tone.unsqueeze(0))[0, 0, :40].argmax())
    centers = librosa.mel_frequencies(n_mels=42, fmax=RATE / 2)[1:-1]
    assert loudest == np.abs(centers - 1000).argmin()


@pytest.mark.parametrize("level", [0.0, 1e-4, 1.0, 40.0])
def test_features_from_silence_to_full_scale_have_about_unit_scale(level):
    torch.manual_seed(0)
    encoder = mel_encoder(quantizer=Quantizer(0.0, 700.0)).float()
    features = described(encoder, level * torch.randn(2, encoder.past + 400))
    assert torch.isfinite(features).all()
    assert features.abs().max() < 4


@pytest.mark.parametrize("window", [5, 7, 16, 40])
def test_the_window_reaches_as_far_as_the_encoder_says_and_sees_no_later_frame(window):
    encoder = mel_encoder(frame_size=7, window=window, bands=1)
    torch.manual_seed(1)
    assert encoder.past == max(0, window - 7)
    samples = torch.randn(1, encoder.past + 28, dtype=torch.float64)
    before = encoder(samples)
    assert before.shape == (1, 4, encoder.feature_size)
    for place in range(samples.shape[1]):
        changed = samples.clone()
        changed[0, place] += 1
        moved = (encoder(changed) != before)[0].any(-1).tolist()
        frame, heard = place - encoder.past, range(4)
        # The taper of a Hann window is zero at its first sample.
        expected = [7 * t - encoder.past < frame < 7 * t + 7 or (window <= 7 and frame == 7 * t) for t in heard]
        assert moved == expected


def test_the_linear_encoder_is_the_frame_itself_and_has_no_weights():
    encoder = LinearEncoder(7, RNNConfig(), QUANTIZER)
    samples = torch.randn(2, 21)
    assert torch.equal(encoder(samples), samples.view(2, 3, 7))
    assert encoder.state_dict() == {}
    assert encoder.past == 0


@pytest.mark.parametrize("name", ["rnn", "vrnn", "srnn", "zforcing"])
def test_a_model_with_the_linear_encoder_has_the_weights_and_the_state_of_earlier_versions(name):
    model = build(tiny(name))
    assert not [key for key in model.state_dict() if "encoder" in key]
    assert len(model.initial_state(2)) == (2 if name in ("rnn", "zforcing") else 3)
    longer = build(tiny(name, encoder="mel", encoder_window=30))
    assert longer.initial_state(2)[-1].shape == (2, 23)
    assert "encoder.spectrum.filters" not in longer.state_dict()


@pytest.mark.parametrize("settings", [{"encoder_window": 12}, {"head": "autoregressive", "head_window": 12}])
@pytest.mark.parametrize("name", ["rnn", "vrnn", "srnn", "zforcing"])
def test_the_state_ends_with_the_samples_before_the_frame_that_is_read_next(name, settings):
    model = build(tiny(name, **({"encoder": "mel"} | settings)))
    frames, lengths, noise = sequences(5, 3, 2)
    noise = noise[..., : model.latent_size]
    past = model(frames, lengths, noise=noise).state[-1]
    for row, length in enumerate(lengths.tolist()):
        before = torch.cat([torch.zeros(model.past), frames[row, : length - 1].flatten()])
        assert torch.equal(past[row], before[-model.past :])


def test_a_state_far_from_zero_before_a_recording_is_heard():
    model = build(tiny("rnn", encoder="mel"))
    frames, lengths, _ = sequences(4)
    state = model.initial_state(1)
    other = (*state[:-1], torch.ones_like(state[-1]))
    one, two = (model(frames, lengths, start).log_likelihood for start in (state, other))
    assert (one != two).all()


# Settings


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"sample_rate": 0}, r"model\.sample_rate is 0, but a mel spectrum needs it"),
        ({"encoder_bands": 90}, r"model\.encoder_bands is 90, too many for a window of 16 samples at 16000 Hz"),
        ({"encoder_bands": 0}, r"encoder_bands is 0; it must be at least 1"),
        ({"encoder_window": 1}, r"encoder_window is 1; it must be at least 2"),
        ({"encoder": "cepstral"}, r"model\.encoder is 'cepstral'; choose linear, mel"),
    ],
)
def test_settings_that_no_encoder_can_have_are_a_users_mistake(settings, said):
    with pytest.raises(UserError, match=said):
        build(tiny("rnn", **({"encoder": "mel"} | settings)))


class LastSamples(FrameEncoder):
    """Three samples of the last two frames and two more before them."""

    def __init__(self, frame_size, config, quantizer):
        super().__init__()
        self.frame_size, self.past, self.feature_size = frame_size, frame_size + 2, 3

    def forward(self, samples):
        windows = samples.unfold(-1, self.past + self.frame_size, self.frame_size)
        return torch.tanh(windows[..., :: self.frame_size])


@pytest.mark.parametrize("name", ["rnn", "vrnn", "srnn", "zforcing"])
def test_an_encoder_of_another_package_passes_the_checks(name):
    check_model(tiny(name, encoder=f"{__name__}.LastSamples"))


# Training


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    return small_shards(tmp_path_factory.mktemp("shards"))


HEARING = {
    "model__encoder": "mel",
    "model__encoder_window": 64,
    "model__encoder_bands": 8,
    "model__head": "autoregressive",
    "model__head_window": 30,
    "model__head_size": 8,
}


@pytest.mark.parametrize("name", ["rnn", "srnn", "zforcing"])
def test_a_model_that_hears_the_past_trains_resumes_scores_and_speaks(shards, tmp_path, name):
    run_here(small_run(shards, name, **HEARING), tmp_path / "whole")
    config = read_config(tmp_path / "whole/config.yaml")
    assert config.model.sample_rate == RATE
    run_here(small_run(shards, name, **HEARING, train__max_steps=8), tmp_path / "parts")
    run_here(small_run(shards, name, **HEARING), tmp_path / "parts", resume=True)
    assert_same_weights(tmp_path / "whole", tmp_path / "parts")

    whole = evaluate(tmp_path / "whole", split="valid", device="cpu")
    chunked = evaluate(tmp_path / "whole", split="valid", device="cpu", frames_per_batch=17)
    for ours, theirs in zip(chunked.scores, whole.scores, strict=True):
        assert ours.nats == pytest.approx(theirs.nats, rel=1e-5)

    model = zfaudio.load(tmp_path / "whole")
    recording = np.random.default_rng(0).integers(-900, 900, 25 * FRAME_SIZE).astype(np.int16)
    one, other = (model.continue_from((recording, RATE), seconds=0.02).waveforms for _ in range(2))
    assert np.array_equal(one, other)
    changed = recording.copy()
    changed[-FRAME_SIZE - 5] += 500  # before the last frame
    assert not np.array_equal(model.continue_from((changed, RATE), seconds=0.02).waveforms, one)
    assert model.reconstruct((recording, RATE)).waveforms.shape == (1, len(recording))
    assert model.sample(num=2, seconds=0.02).waveforms.shape == (2, 320)


def test_the_sample_rate_is_that_of_the_shards_and_no_other(shards, tmp_path):
    with pytest.raises(UserError, match=r"model\.sample_rate is 8000, but the shards in .* are at 16000 Hz"):
        run_here(small_run(shards, "rnn", model__sample_rate=8000), tmp_path / "exp")
    given = small_run(shards, "rnn", model__sample_rate=RATE, train__max_steps=1)
    run_here(given, tmp_path / "exp")
    assert read_config(tmp_path / "exp/config.yaml").model == given.model


def test_a_run_of_a_version_without_the_sample_rate_goes_on(shards, tmp_path):
    exp = tmp_path / "exp"
    run_here(small_run(shards, "rnn", train__max_steps=4), exp)
    for path in exp.rglob("config.yaml"):
        config = read_config(path)
        write_config(dataclasses.replace(config, model=dataclasses.replace(config.model, sample_rate=0)), path)
    assert run_here(small_run(shards, "rnn", train__max_steps=6), exp, resume=True).progress.step == 6
    assert build_model(read_config(exp / "config.yaml").model, FRAME_SIZE, QUANTIZER).past == 0
