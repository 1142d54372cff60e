import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.linalg import sqrtm

from zfaudio.evaluation.speech_statistics import (
    BANDS,
    frechet_distance,
    measure_drift,
    measure_voice,
    mel_power,
    mel_statistics,
    root_mean_square,
    spectral_distance,
    track_f0,
)

RATE = 16000


def noise(seconds: float, deviation: float, seed: int = 0) -> np.ndarray:
    return np.round(deviation * np.random.default_rng(seed).standard_normal(int(seconds * RATE))).astype(np.int16)


def pulses(f0: float, seconds: float) -> np.ndarray:
    """A pulse train whose fundamental is f0 Hz, low-pass filtered as a voice is."""
    time = np.arange(int(seconds * RATE)) / RATE
    wave = sum(np.cos(2 * np.pi * k * f0 * time) / k for k in range(1, int(4000 / f0)))
    return np.round(3000 * wave).astype(np.int16)


# Frechet distance


@given(
    mean=arrays(float, 3, elements=st.floats(-5, 5)),
    deviations=arrays(float, (2, 3), elements=st.floats(0.01, 10)),
)
def test_distance_of_gaussians_that_commute_is_the_closed_form(mean, deviations):
    turn = np.linalg.qr(np.random.default_rng(0).standard_normal((3, 3)))[0]
    one, other = ((turn * np.square(deviation)) @ turn.T for deviation in deviations)
    expected = np.square(mean).sum() + np.square(deviations[0] - deviations[1]).sum()
    assert frechet_distance(mean, one, np.zeros(3), other) == pytest.approx(expected, rel=1e-6, abs=1e-6)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_distance_is_symmetric_and_as_with_a_matrix_square_root(seed):
    rng = np.random.default_rng(seed)
    factors = rng.standard_normal((2, 4, 4))
    covariances = factors @ factors.transpose(0, 2, 1) + 0.1 * np.eye(4)
    means = rng.standard_normal((2, 4))
    root = sqrtm(covariances[0] @ covariances[1]).real
    expected = np.square(means[0] - means[1]).sum() + np.trace(covariances[0] + covariances[1] - 2 * root)
    distance = frechet_distance(means[0], covariances[0], means[1], covariances[1])
    assert distance == pytest.approx(expected, rel=1e-6)
    assert distance == pytest.approx(frechet_distance(means[1], covariances[1], means[0], covariances[0]), rel=1e-6)
    assert frechet_distance(means[0], covariances[0], means[0], covariances[0]) == pytest.approx(0, abs=1e-6)


def test_a_covariance_without_full_rank_is_no_problem():
    flat = np.diag([1.0, 0.0])
    assert frechet_distance(np.zeros(2), flat, np.zeros(2), np.eye(2)) == pytest.approx(1)


# Spectra


def test_the_long_term_spectrum_of_white_noise_is_flat_at_its_level():
    spectrum = mel_statistics([noise(20, 100)], RATE).spectrum
    assert spectrum.shape == (BANDS,)
    np.testing.assert_allclose(spectrum, 40, atol=0.7)


@pytest.mark.parametrize("rate", [8000, 16000, 22050, 48000])
def test_every_band_has_a_filter_at_any_rate(rate):
    power = mel_power([noise(2, 1000)], rate)
    np.testing.assert_allclose(10 * np.log10(power.mean(0)), 60, atol=2)


def test_ten_times_the_amplitude_is_20_db_apart():
    quiet, loud = mel_statistics([noise(5, 100)], RATE), mel_statistics([10 * noise(5, 100)], RATE)
    assert spectral_distance(quiet.spectrum, loud.spectrum) == pytest.approx(20, abs=0.02)
    shift = math.log(100)
    distance = frechet_distance(quiet.mean, quiet.covariance, loud.mean, loud.covariance)
    assert distance == pytest.approx(BANDS * shift**2, rel=0.01)


def test_digital_silence_stands_at_0():
    silence = mel_statistics([np.zeros(RATE, np.int16)], RATE)
    assert not silence.mean.any()
    assert not silence.spectrum.any()


def test_frames_stay_within_their_waveform():
    first, second = noise(1, 10), noise(1, 1000)
    apart = mel_statistics([first, second], RATE)
    assert apart.frames == mel_statistics([first], RATE).frames + mel_statistics([second], RATE).frames
    assert mel_statistics([first, second[:300]], RATE).frames == mel_statistics([first], RATE).frames


# Voice


def test_the_pitch_of_a_pulse_train_is_found():
    voice = measure_voice([pulses(120, 2)], RATE)
    assert voice.median_f0_hz == pytest.approx(120, rel=0.01)
    assert voice.voiced_fraction > 0.95
    assert voice.f0_deviation_semitones < 0.2


def test_an_octave_apart_is_a_deviation_of_six_semitones():
    voice = measure_voice([pulses(110, 1), pulses(220, 1)], RATE)
    assert voice.f0_deviation_semitones == pytest.approx(6, rel=0.05)


def test_silence_and_a_single_sample_have_no_voice():
    voice = measure_voice([np.zeros(RATE, np.int16), np.ones(1, np.int16)], RATE)
    assert voice.voiced_fraction == 0
    assert voice.median_f0_hz is None
    assert voice.f0_deviation_semitones is None


def test_silence_beside_zero_has_no_voice():
    silence = np.full(RATE, 2629, np.int16)
    assert measure_voice([silence], RATE).voiced_fraction == 0
    track = track_f0([np.concatenate([silence, pulses(120, 1)])], RATE)[0]
    assert not track.voiced[:45].any()
    assert np.median(track.f0[track.voiced]) == pytest.approx(120, rel=0.01)


def test_noise_is_hardly_voiced():
    assert measure_voice([noise(2, 1000)], RATE).voiced_fraction < 0.1


@pytest.mark.parametrize(("seconds", "figure"), [(0.4, False), (4.0, True)])
def test_a_few_voiced_frames_give_no_f0(seconds, figure):
    """Two hundredths of the frames may all be errors of the tracker; a sixth may not."""
    voice = measure_voice([np.concatenate([pulses(120, seconds), np.zeros(20 * RATE, np.int16)])], RATE)
    assert 0 < voice.voiced_fraction < 0.2
    assert (voice.median_f0_hz is not None) == (voice.f0_deviation_semitones is not None) == figure


# Drift


def test_speech_that_swells_or_fades_shows_by_how_much():
    steps = np.repeat([1.0, 2.0, 4.0], RATE)
    swelling = [np.round(steps * noise(3, 100, seed)).astype(np.int16) for seed in range(3)]
    fading = [clip[::-1] for clip in swelling]
    for clips, expected in ((swelling, 12.04), (fading, -12.04), ([*swelling, *fading], 0)):
        drift = measure_drift(clips, track_f0(clips, RATE))
        assert drift.level_db == pytest.approx(expected, abs=0.2)


def test_voicing_is_that_of_the_first_and_the_last_third():
    clips = [np.concatenate([noise(1, 1000), noise(1, 1000, seed=1), pulses(120, 1)])]
    drift = measure_drift(clips, track_f0(clips, RATE))
    assert drift.first_voiced_fraction < 0.1
    assert drift.last_voiced_fraction > 0.9


def test_short_ends_of_utterances_do_not_count_for_the_drift():
    clips = [noise(2, 100), noise(1.5, 1000), noise(0.5, 10_000)]
    drift = measure_drift(clips, track_f0(clips, RATE))
    assert drift.level_range_db == pytest.approx(20, abs=0.2)
    assert drift.level_db == pytest.approx(0, abs=0.2)


def test_silence_and_a_single_sample_have_a_drift_too():
    clips = [np.zeros(RATE, np.int16), noise(1, 100)]
    drift = measure_drift(clips, track_f0(clips, RATE))
    assert drift.level_range_db == pytest.approx(40, abs=0.2)
    single = [np.ones(1, np.int16)]
    assert measure_drift(single, track_f0(single, RATE)).level_db == 0


def test_the_level_is_over_all_samples():
    assert root_mean_square([np.full(3, 6, np.int16), np.zeros(1, np.int16)]) == pytest.approx(math.sqrt(27))
    assert root_mean_square([]) == 0
