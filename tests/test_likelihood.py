import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zfaudio.data.frames import dequantize, to_frames
from zfaudio.evaluation.units import (
    Units,
    average_per_frame,
    bootstrap_interval,
    describe_interval,
    gaussian_nats_per_frame,
    paired_interval,
    sequence_conventions,
    worst_permille_share,
)


def test_dequantized_bits_of_a_uniform_discrete_source_are_its_entropy():
    # Samples that are uniform on 256 integers have an entropy of 8 bits; k + u is uniform on an interval of length 256.
    rng = np.random.default_rng(0)
    waveform = rng.integers(-128, 128, size=200 * 50).astype(np.int16)
    mean, deviation = float(waveform.mean()), float(waveform.std())
    frames = dequantize(to_frames(waveform, 200), mean, deviation, seed=1)
    low, high = (-128.5 - mean) / deviation, (127.5 - mean) / deviation
    assert frames.min() >= low
    assert frames.max() <= high
    nats_per_frame = 200 * -math.log(high - low)
    assert Units(200, deviation).bits_per_sample(nats_per_frame) == pytest.approx(8.0, abs=1e-6)


def test_gaussian_bits_bound_the_entropy_of_a_discretized_gaussian():
    # The entropy of a discretized Gaussian with deviation 40 is close to log2(40 sqrt(2 pi e)).
    rng = np.random.default_rng(1)
    waveform = np.round(40 * rng.standard_normal(200 * 2000)).astype(np.int16)
    deviation = float(waveform.std())
    frames = dequantize(to_frames(waveform, 200), 0.0, deviation, seed=3).astype(np.float64)
    nats = (-0.5 * (math.log(2 * math.pi) + frames**2)).sum(1).mean()
    entropy = math.log2(40 * math.sqrt(2 * math.pi * math.e))
    bits = Units(200, deviation).bits_per_sample(nats)
    assert bits == pytest.approx(entropy, abs=0.01)


def test_units_agree_with_each_other():
    units = Units(frame_size=200, deviation=500.0)
    assert units.nats_per_sample(100.0) == 0.5
    assert units.nats_per_waveform_sample(100.0) == pytest.approx(0.5 - math.log(500))
    assert units.bits_per_sample(100.0) == pytest.approx((math.log(500) - 0.5) / math.log(2))


@given(st.lists(st.tuples(st.floats(-1e4, 1e4), st.integers(1, 500)), min_size=1, max_size=30))
def test_average_counts_every_frame_once(utterances):
    nats, frames = (np.array(column, dtype=float) for column in zip(*utterances, strict=True))
    assert average_per_frame(nats, frames) == pytest.approx(nats.sum() / frames.sum())


def test_interval_covers_the_mean_and_narrows_with_more_utterances():
    rng = np.random.default_rng(0)
    nats, frames = 100 * rng.standard_normal(400) + 1000, np.full(400, 10.0)
    low, high = bootstrap_interval(nats, frames)
    assert low < average_per_frame(nats, frames) < high
    few_low, few_high = bootstrap_interval(nats[:25], frames[:25])
    assert few_high - few_low > 2 * (high - low)
    expected = 1.96 * 100 / math.sqrt(400) / 10  # 95 % half-width of a mean of independent scores
    assert (high - low) / 2 == pytest.approx(expected, rel=0.15)


def test_a_single_utterance_has_no_interval():
    one = np.array([7.0])
    assert bootstrap_interval(one, one) is None
    assert paired_interval(one, 2 * one, one) is None
    assert describe_interval(None, 2) == "no interval from a single utterance"
    assert describe_interval((-1.0, 0.001), 2, "+") == "95 % -1.00 to 0.00"


def test_worst_frames_share_is_what_the_mean_loses_to_them():
    frame_nats = np.full(2000, 10.0)
    frame_nats[[3, 77]] = -4000.0
    share = worst_permille_share(frame_nats)
    assert share == pytest.approx(-8000 / (19_980 - 8000))
    assert frame_nats.mean() * (1 - share) == pytest.approx(10.0 * 1998 / 2000)


def test_iid_gaussian_reference_is_the_average_of_its_densities():
    rng = np.random.default_rng(2)
    waveform = 300 * rng.standard_normal(4000) + 7
    mean, deviation = 0.0, 250.0
    standardized = (waveform - mean) / deviation
    expected = (-0.5 * (math.log(2 * math.pi) + standardized**2)).mean() * 200
    value = gaussian_nats_per_frame(mean, deviation, float(waveform.mean()), float(waveform.std()), 200)
    assert value == pytest.approx(expected)


# Two models on the same utterances


def random_scores(utterances: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores of two models that find the same utterances hard, and the frames of each utterance."""
    rng = np.random.default_rng(seed)
    frames = rng.integers(20, 400, utterances)
    shared = 30 * rng.standard_normal(utterances) * frames
    ours = shared + 3.0 * frames + rng.standard_normal(utterances) * frames
    return ours, shared + rng.standard_normal(utterances) * frames, frames


@given(st.integers(2, 40), st.integers(0, 1000))
def test_paired_interval_resamples_the_same_utterances_for_both(utterances, seed):
    ours, theirs, frames = random_scores(utterances, seed)
    rng, differences = np.random.default_rng(seed), []
    for drawn in rng.integers(utterances, size=(2000, utterances)):
        first = sum(ours[drawn]) / sum(frames[drawn])
        second = sum(theirs[drawn]) / sum(frames[drawn])
        differences.append(first - second)
    expected = np.percentile(differences, [2.5, 97.5])
    assert paired_interval(ours, theirs, frames, seed) == pytest.approx(tuple(expected), abs=1e-9)


def test_a_model_that_is_another_plus_a_constant_a_frame_has_that_very_difference():
    theirs, _, frames = random_scores(50, seed=0)
    assert paired_interval(theirs + 7.5 * frames, theirs, frames) == pytest.approx((7.5, 7.5), abs=1e-10)


def test_pairing_sees_a_difference_that_separate_intervals_hide():
    ours, theirs, frames = random_scores(60, seed=4)
    low, high = paired_interval(ours, theirs, frames)
    assert 2 < low < 3 < high < 4
    assert bootstrap_interval(ours, frames)[0] < bootstrap_interval(theirs, frames)[1]


# Published units


def test_conventions_of_published_tables_by_hand():
    nats, frames = np.array([600.0, 1000.0]), np.array([30, 50])
    values = sequence_conventions(nats, frames, frame_size=200, sample_rate=16_000)
    assert values == {
        "per utterance, averaged over utterances": 800.0,
        "per half second (8,000 samples at 16 kHz)": 20.0 * 40,
    }
    # 11,025 samples are 44.1 frames of 250 samples.
    half_second = sequence_conventions(nats, frames, frame_size=250, sample_rate=22_050)
    assert half_second["per half second (11,025 samples at 22.05 kHz)"] == pytest.approx(20 * 44.1)


@pytest.mark.parametrize(("utterances", "rows"), [(1, 32), (31, 32), (32, 64), (33, 64), (1680, 1696)])
def test_rows_of_padding_count_as_utterances_of_no_nats(utterances, rows):
    values = sequence_conventions(np.full(utterances, 100.0), np.full(utterances, 10), 200, 16_000, padded=True)
    name = "zforcing2017: averaged over utterances and rows of padding"
    assert values[name] == pytest.approx(100 * utterances / rows)
