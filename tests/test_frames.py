"""Frames and their kernels, compared with plain NumPy."""

import math

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra.numpy import arrays
from speech import speech

from zfaudio.data.frames import (
    Moments,
    count_constant,
    dequantize,
    from_frames,
    moments,
    standardize,
    to_frames,
)

int16 = st.integers(-(2**15), 2**15 - 1)
waveforms = arrays(np.int16, st.integers(0, 400), elements=int16)


def numpy_noise(seed: int, first: int, count: int) -> np.ndarray:
    def mix(bits: np.ndarray) -> np.ndarray:
        bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return bits ^ (bits >> np.uint64(31))

    index = np.uint64(first) + np.arange(count, dtype=np.uint64)
    bits = mix(mix(np.array([seed], np.uint64)) + index * np.uint64(0x9E3779B97F4A7C15))
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53 - 0.5


def numpy_moments(samples: np.ndarray) -> tuple[float, float]:
    samples = samples.astype(np.float64)
    return samples.mean(), samples.std()


@given(waveforms, st.integers(1, 50))
def test_frames_join_to_the_waveform_less_its_tail(waveform, frame_size):
    frames = to_frames(waveform, frame_size)
    assert frames.shape == (len(waveform) // frame_size, frame_size)
    assert frames.dtype == np.int16
    whole = len(frames) * frame_size
    assert len(waveform) - whole < frame_size
    np.testing.assert_array_equal(from_frames(frames), waveform[:whole])


def test_frames_of_a_strided_waveform():
    stereo = speech(1000).reshape(-1, 2)
    np.testing.assert_array_equal(to_frames(stereo[:, 1], 100).reshape(-1), stereo[:, 1])


@given(arrays(np.int16, st.integers(1, 3000), elements=int16))
def test_moments_are_those_of_numpy(samples):
    found = moments(samples)
    mean, deviation = numpy_moments(samples)
    assert found.count == len(samples)
    assert found.mean == pytest.approx(mean, rel=1e-12, abs=1e-9)
    assert found.deviation == pytest.approx(deviation, rel=1e-9, abs=1e-9)


def test_moments_stay_exact_far_from_zero():
    # A sum of squares in float32 would lose a deviation of 1 at an offset of 30,000.
    samples = (30000 + np.random.default_rng(0).integers(-2, 3, 1_000_000)).astype(np.int16)
    mean, deviation = numpy_moments(samples)
    found = moments(samples)
    assert found.mean == pytest.approx(mean, rel=1e-14)
    assert found.deviation == pytest.approx(deviation, rel=1e-10)


def test_moments_at_full_scale_do_not_overflow():
    samples = np.full(200_000, -(2**15), np.int16)
    assert moments(samples) == Moments(200_000, -32768.0, 0.0)


@given(st.lists(arrays(np.int16, st.integers(0, 300), elements=int16), min_size=1, max_size=8))
def test_merged_moments_are_those_of_all_samples(parts):
    merged = Moments()
    for part in parts:
        merged = merged.merge(moments(part))
    whole = moments(np.concatenate(parts))
    assert merged.count == whole.count
    assert merged.mean == pytest.approx(whole.mean, rel=1e-12, abs=1e-9)
    assert merged.deviation == pytest.approx(whole.deviation, rel=1e-9, abs=1e-6)


def test_moments_of_nothing():
    assert moments(np.zeros(0, np.int16)) == Moments()
    assert Moments().deviation == 0.0


def test_standardize_is_bit_exact_with_numpy():
    frames = to_frames(speech(4000), 160)
    expected = ((frames.astype(np.float64) - 1.7) / 913.3).astype(np.float32)
    np.testing.assert_array_equal(standardize(frames, 1.7, 913.3), expected)


@settings(max_examples=30)
@given(st.integers(0, 2**64 - 1), st.integers(0, 10**6))
def test_dequantize_is_bit_exact_with_numpy(seed, first_frame):
    frames = to_frames(speech(2000), 50)
    noise = numpy_noise(seed, first_frame * 50, 2000).reshape(frames.shape)
    expected = ((frames.astype(np.float64) + noise - -3.2) / 1234.5).astype(np.float32)
    np.testing.assert_array_equal(dequantize(frames, -3.2, 1234.5, seed, first_frame), expected)


def test_noise_does_not_depend_on_the_part_that_is_read():
    frames = to_frames(speech(3000), 30)
    whole = dequantize(frames, 0.0, 100.0, seed=7)
    np.testing.assert_array_equal(dequantize(frames[41:60], 0.0, 100.0, seed=7, first_frame=41), whole[41:60])


def test_noise_is_uniform_over_one_step_and_differs_by_seed():
    silence = np.zeros((1000, 200), np.int16)
    noise = dequantize(silence, 0.0, 1.0, seed=1).reshape(-1).astype(np.float64)
    other = dequantize(silence, 0.0, 1.0, seed=2).reshape(-1).astype(np.float64)
    assert noise.min() >= -0.5
    assert noise.max() <= 0.5
    assert abs(noise.mean()) < 5 / math.sqrt(12 * noise.size)
    assert noise.var() == pytest.approx(1 / 12, rel=0.01)
    counts = np.histogram(noise, 64, (-0.5, 0.5))[0]
    assert ((counts - noise.size / 64) ** 2 / (noise.size / 64)).sum() < 120  # chi-squared, 63 degrees: p < 1e-5
    assert abs(np.corrcoef(noise, other)[0, 1]) < 0.01
    assert abs(np.corrcoef(noise[:-1], noise[1:])[0, 1]) < 0.01


def test_frames_are_written_into_a_given_array():
    frames = to_frames(speech(400), 20)
    batch = np.full((2, 20, 20), np.nan, np.float32)
    assert dequantize(frames, 1.0, 2.0, 3, out=batch[1]) is not None
    np.testing.assert_array_equal(batch[1], dequantize(frames, 1.0, 2.0, 3))
    assert np.isnan(batch[0]).all()
    with pytest.raises(ValueError, match="contiguous"):
        standardize(frames, 1.0, 2.0, out=np.empty((20, 40), np.float32)[:, ::2])


@given(arrays(np.int16, (12, 5), elements=st.integers(-1, 1)))
def test_constant_frames_are_counted(frames):
    assert count_constant(frames) == int((frames == frames[:, :1]).all(axis=1).sum())


def test_no_frames_hold_no_constant_frame():
    assert count_constant(np.zeros((0, 200), np.int16)) == 0
