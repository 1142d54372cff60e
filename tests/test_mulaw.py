"""Recordings of 8-bit mu-law: the levels, their likelihood, shards of them, and what a model hears of them."""

import dataclasses
import json
import math

import numpy as np
import pytest
import torch
import torchaudio.functional
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare
from speech import framed

import zfaudio
from zfaudio.config import DataConfig, FrameDensityConfig
from zfaudio.data.batches import FrameSequence, FrameWriter
from zfaudio.data.manifest import FORMAT_VERSION, Manifest, read_manifest
from zfaudio.data.shard_format import FramedUtterance, write_shard
from zfaudio.data.shard_reader import read_utterances
from zfaudio.errors import UserError
from zfaudio.models.frame_likelihoods import build_likelihood, sample_likelihood
from zfaudio.models.mulaw_likelihood import MuLawLevels
from zfaudio.mulaw import CODES, LEVELS, decode, decode_tensor, encode, encode_tensor, to_levels
from zfaudio.observations import Binary, MuLaw, Quantizer, Tokens, value_fault
from zfaudio.ops.sample_draw import draw_sample, draws_of

EVERY_SAMPLE = np.arange(-32768, 32768).astype(np.int16)
OBSERVATION = MuLaw(3.0, 700.0)
LEVELS_OF_CODES = OBSERVATION.standardize(torch.arange(CODES))


def likelihood(size: int = 1):
    return build_likelihood(FrameDensityConfig(likelihood="mulaw"), size, OBSERVATION)


def random_density(*shape: int, seed: int = 0, origin: float = 0.0, level: float = 1.0) -> MuLawLevels:
    torch.manual_seed(seed)
    one = likelihood()
    parameters = torch.randn(*shape, one.parameters, dtype=torch.float64)
    where = torch.full((*shape, 1), origin, dtype=torch.float64), torch.full((*shape, 1), level, dtype=torch.float64)
    return one.read(parameters, *where)


# Levels


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_codes_and_levels_of_all_16_bit_samples_are_those_of_torchaudio(dtype):
    samples = torch.arange(-32768, 32768).to(dtype) / 32768
    codes = torchaudio.functional.mu_law_encoding(samples, CODES)
    assert np.array_equal(encode(EVERY_SAMPLE), codes.numpy())
    decoded = torchaudio.functional.mu_law_decoding(codes, CODES).double() * 32768
    assert np.array_equal(to_levels(EVERY_SAMPLE), decoded.round().clamp(max=32767).numpy())


def test_there_are_256_levels_and_they_stay_what_they_are():
    assert np.array_equal(np.unique(to_levels(EVERY_SAMPLE)), LEVELS)
    assert np.array_equal(encode(LEVELS), np.arange(CODES))
    assert np.array_equal(to_levels(LEVELS), LEVELS)
    assert (np.diff(LEVELS) > 0).all()
    assert to_levels(np.zeros(1, np.int16)) == 3


def test_tensors_have_the_same_codes_and_levels():
    codes = encode_tensor(torch.arange(-32768, 32768).double())
    assert np.array_equal(codes.numpy(), encode(EVERY_SAMPLE))
    assert np.array_equal(decode_tensor(torch.arange(CODES)).numpy(), decode(np.arange(CODES).astype(np.uint8)))
    assert encode_tensor(torch.tensor([-1e9, 1e9, math.nan]).double()).tolist()[:2] == [0, 255]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rounding_standardized_samples_gives_the_levels_of_their_integers(dtype):
    samples = torch.from_numpy((EVERY_SAMPLE - OBSERVATION.mean) / OBSERVATION.deviation)
    rounded = OBSERVATION.round((samples + 0.3 * OBSERVATION.step).to(dtype))
    assert np.array_equal(Quantizer(3.0, 700.0).integers(rounded).numpy(), to_levels(EVERY_SAMPLE))


# The likelihood


@given(st.integers(0, 99), st.floats(-3, 3), st.floats(1e-3, 5))
def test_it_is_a_categorical_distribution_over_the_levels(seed, origin, level):
    density = random_density(CODES, seed=seed, origin=origin, level=level)
    expected = torch.distributions.Categorical(logits=density.logits.squeeze(-2)).log_prob(torch.arange(CODES))
    ours = density.log_prob(LEVELS_OF_CODES.unsqueeze(-1)) + math.log(OBSERVATION.step)
    torch.testing.assert_close(ours, expected)


def test_the_probabilities_of_all_levels_sum_to_one_and_other_samples_have_none():
    density = random_density(1)
    every = ((torch.arange(-32768, 32768).double() - OBSERVATION.mean) / OBSERVATION.deviation)[:, None]
    probabilities = density.log_prob(every).exp() * OBSERVATION.step
    assert probabilities.sum().item() == pytest.approx(1)
    assert (probabilities > 0).sum() == CODES
    assert (probabilities[EVERY_SAMPLE == 5] == 0).all()


def test_its_logits_are_those_of_a_logistic_at_the_origin_and_of_each_level():
    parameters = torch.randn(5, 258, dtype=torch.float64)
    origin, level = torch.randn(5, 1, dtype=torch.float64), torch.rand(5, 1, dtype=torch.float64) + 0.1
    density = likelihood().read(parameters, origin=origin, level=level)
    mean, scale = origin + parameters[:, :1] * level, parameters[:, 1:2].exp() * level
    logistic = torch.distributions.TransformedDistribution(
        torch.distributions.Uniform(torch.zeros(5, 1).double(), torch.ones(5, 1).double()),
        [
            torch.distributions.transforms.SigmoidTransform().inv,
            torch.distributions.transforms.AffineTransform(mean, scale),
        ],
    )
    places = (torch.from_numpy(LEVELS.astype(float)) - 3) / 700
    widths = torch.linspace(-1, 1, CODES, dtype=torch.float64).abs() * math.log(256)  # the slope of decoding
    expected = parameters[:, 2:] + widths + logistic.log_prob(places.expand(5, -1))
    difference = density.logits[:, 0] - expected
    torch.testing.assert_close(difference, difference[:, :1].expand(-1, CODES), rtol=0, atol=1e-6)


def test_its_gradients_are_those_of_finite_differences():
    parameters = torch.randn(2, 3 * 258, dtype=torch.float64, requires_grad=True)
    frames = OBSERVATION.round(torch.randn(2, 3, dtype=torch.float64))
    origin, level = torch.tensor([[0.2], [-1.0]]).double(), torch.tensor([[0.5], [2.0]]).double()
    assert torch.autograd.gradcheck(
        lambda values: likelihood(3).read(values, origin, level).log_prob(frames), parameters
    )


@pytest.mark.parametrize("value", [2 / 700, 1e6])
def test_a_frame_that_is_no_level_scores_minus_infinity_and_has_no_gradient(value):
    parameters = torch.randn(1, 258, requires_grad=True)
    scored = likelihood().read(parameters).log_prob(torch.full((1, 1), value))
    assert scored.item() == -math.inf
    torch.where(torch.tensor([False]), scored, 0).sum().backward()
    assert (parameters.grad == 0).all()


@pytest.mark.parametrize("temperature", [0.5, 1.0])
def test_draws_are_as_frequent_as_they_are_probable(temperature):
    torch.manual_seed(3)
    logits = 2 * torch.randn(1, 1, CODES, dtype=torch.float64)
    draws = 100_000
    drawn = MuLawLevels(logits.expand(draws, 1, CODES), OBSERVATION).at(torch.randn(draws, 1).double(), temperature)
    counts = torch.bincount(OBSERVATION.codes(drawn).flatten(), minlength=CODES).numpy()
    expected = draws * torch.softmax(logits.flatten() / temperature, -1).numpy()
    common = expected > 5
    found = [*counts[common], counts[~common].sum()], [*expected[common], expected[~common].sum()]
    assert chisquare(*found).pvalue > 1e-3


def test_at_temperature_zero_the_most_probable_level_is_drawn():
    density = random_density(20)
    drawn = density.at(torch.randn(20, 1, dtype=torch.float64), 0.0)
    assert torch.equal(OBSERVATION.codes(drawn), density.logits.argmax(-1))


@given(st.integers(0, 999), st.floats(-3, 3), st.floats(1e-4, 5), st.sampled_from([0.0, 0.3, 1.0, 2.0]))
def test_the_compiled_draw_is_that_of_the_distribution(seed, origin, level, temperature):
    torch.manual_seed(seed)
    parameters, noise = torch.randn(1, 258, dtype=torch.float64), torch.randn(1, 1, dtype=torch.float64)
    where = torch.full((1, 1), origin).double(), torch.full((1, 1), level).double()
    expected = likelihood().read(parameters, *where).at(noise, temperature).item()
    choice, deviate = draws_of(noise, "mulaw")
    numbers = sample_likelihood(FrameDensityConfig(likelihood="mulaw"), OBSERVATION).numbers()
    drawn = draw_sample(
        parameters[0].numpy(),
        numbers,
        where[0].item(),
        where[1].item(),
        1.0,
        choice.item(),
        deviate.item(),
        temperature,
        np.empty(numbers[1]),
    )
    assert drawn == pytest.approx(expected, abs=1e-9)


def test_the_choice_of_a_compiled_draw_never_rounds_to_one_in_float32():
    choice, _ = draws_of(torch.full((1, 1), 6.0), "mulaw")
    assert 0 < 1 - choice.item() < 1e-8


# What does not fit


@pytest.mark.parametrize(
    ("name", "observation", "said"),
    [
        (
            "mulaw",
            Quantizer(),
            "model.likelihood is mulaw, which is for recordings of 8-bit mu-law, but these shards hold recordings; set "
            r"it to gaussian or gaussian_mixture or logistic_mixture \(zfaudio shard --encoding mulaw makes shards",
        ),
        ("mulaw", Binary(), "for recordings of 8-bit mu-law, but these shards hold binary frames; set it to bernoulli"),
        ("mulaw", Tokens(9), "for recordings of 8-bit mu-law, but these shards hold tokens; set it to categorical"),
        (
            "gaussian",
            MuLaw(),
            "which is for recordings, but these shards hold recordings of 8-bit mu-law; set it to mulaw",
        ),
        ("logistic_mixture", MuLaw(), "set it to mulaw"),
        ("bernoulli", MuLaw(), "set it to mulaw"),
    ],
)
def test_a_likelihood_of_other_samples_is_refused_by_name(name, observation, said):
    with pytest.raises(UserError, match=said):
        build_likelihood(FrameDensityConfig(likelihood=name), 1, observation)


def test_a_sample_that_is_no_level_is_found_in_shards():
    assert value_fault(LEVELS[None], MuLaw()) == ""
    assert value_fault(np.zeros((0, 4), np.int16), MuLaw()) == ""
    assert value_fault(np.array([[3, 5]], np.int16), MuLaw()) == "a sample is 5, which is no level of 8-bit mu-law"


# Shards, and what a model hears


def test_shards_hold_the_levels_of_the_recordings_and_say_so(spoken_corpus, mulaw_shards, tmp_path):
    zfaudio.shard(spoken_corpus, tmp_path / "linear", frame_size=20)
    manifest, linear = read_manifest(mulaw_shards), read_manifest(tmp_path / "linear")
    assert (manifest.encoding, linear.encoding) == ("mulaw", "linear")
    assert "encoding" not in json.loads((tmp_path / "linear/manifest.json").read_text())
    assert manifest.observation == MuLaw(manifest.mean, manifest.deviation)
    assert manifest.fingerprint != linear.fingerprint
    values = []
    for ours, theirs in zip(
        read_utterances(mulaw_shards, "train"), read_utterances(tmp_path / "linear", "train"), strict=True
    ):
        assert np.array_equal(ours.frames, to_levels(theirs.frames))
        values.append(ours.frames)
    together = np.concatenate(values)
    assert manifest.mean == pytest.approx(together.mean())
    assert manifest.deviation == pytest.approx(together.std())
    with pytest.raises(UserError, match="holds shards of other recordings or settings"):
        zfaudio.shard(spoken_corpus, tmp_path / "linear", frame_size=20, encoding="mulaw")


@pytest.mark.parametrize("dequantize", [False, True])
def test_a_model_hears_levels_alone_whatever_it_is_given(dequantize):
    """Also of a recording of 16 bits to go on from: all that a model reads passes the writer."""
    manifest = Manifest(FORMAT_VERSION, 20, 16000, 3.0, 700.0, encoding="mulaw")
    writer, utterance = FrameWriter(manifest, DataConfig(dequantize=dequantize)), framed("a", 12, 20)
    row = np.empty((12, 20), np.float32)
    writer.write(FrameSequence(utterance, 0, 12, 7), 0, row)
    integers = OBSERVATION.integers(torch.from_numpy(row)).numpy()
    assert np.array_equal(integers, to_levels(utterance.frames))
    assert not np.array_equal(integers, utterance.frames)


def test_damaged_shards_of_mulaw_are_refused(mulaw_shards, tmp_path):
    utterance = FramedUtterance("a", "s", 0.0, 40, np.full((2, 20), 5, np.int16))
    manifest = read_manifest(mulaw_shards)
    with (tmp_path / "valid-000000.tar").open("wb") as stream:
        digest = write_shard(stream, [utterance])
    part = manifest.splits["valid"]
    shard = dataclasses.replace(part.shards[0], name="valid-000000.tar", sha256=digest, utterances=1, frames=2)
    split = dataclasses.replace(part, shards=[shard], utterances=1, frames=2)
    manifest = dataclasses.replace(manifest, splits={"valid": split})
    (tmp_path / "manifest.json").write_text(manifest.to_json())
    with pytest.raises(UserError, match="a: a sample is 5, which is no level of 8-bit mu-law; copy it again"):
        list(read_utterances(tmp_path, "valid"))


def test_pixels_have_no_encoding():
    with pytest.raises(ValueError, match="encoding is mulaw; binary frames have none"):
        Manifest(FORMAT_VERSION, 4, kind="binary", encoding="mulaw")
