"""Linear prediction: against SciPy's solver, and what makes it safe in a decoder that speaks to itself."""

import numpy as np
import pytest
import scipy.linalg
import scipy.signal
import torch
from hypothesis import given
from hypothesis import strategies as st

from zfaudio.ops.linear_prediction import EXPANSION, WHITE_NOISE, levinson, predict_linearly, predictions, taper


def resonance(samples: int, seed: int = 0) -> np.ndarray:
    """Noise through a filter with two resonances, [samples]."""
    poles = [0.97 * np.exp(0.4j), 0.95 * np.exp(1.3j)]
    denominator = np.real(np.poly([*poles, *np.conj(poles)]))
    return scipy.signal.lfilter([1.0], denominator, np.random.default_rng(seed).standard_normal(samples))


@given(seed=st.integers(0, 10_000), order=st.integers(1, 24))
def test_coefficients_solve_the_normal_equations_and_are_then_expanded(seed, order):
    window = torch.from_numpy(np.random.default_rng(seed).standard_normal((2, 40))).cumsum(-1)
    ours = predict_linearly(window, order, floor=1e-3)
    for row, coefficients in zip(window.numpy(), ours.numpy(), strict=True):
        correlations = np.correlate(row, row, "full")[39 : 40 + order]
        correlations[0] = correlations[0] * (1 + WHITE_NOISE) + 40 * 1e-3
        expected = scipy.linalg.solve_toeplitz(correlations[:-1], correlations[1:])
        expanded = expected * EXPANSION ** np.arange(1, order + 1)
        np.testing.assert_allclose(coefficients, expanded, rtol=1e-6, atol=1e-8)


@given(seed=st.integers(0, 10_000), level=st.sampled_from([1e-6, 1.0, 40.0]))
def test_no_resonance_rings_for_long(seed, level):
    rng = np.random.default_rng(seed)
    window = level * (np.sin(rng.uniform(0, 3) * np.arange(80)) + 0.01 * rng.standard_normal(80))
    coefficients = predict_linearly(torch.from_numpy(window) * taper(80), 10, floor=1e-6).numpy()
    assert np.abs(np.roots(np.concatenate([[1.0], -coefficients]))).max() < EXPANSION


def test_a_resonance_is_predicted_down_to_the_noise_that_excites_it():
    signal = resonance(4000)
    coefficients = predict_linearly(torch.from_numpy(signal), 4, floor=0.0)
    residuals = signal[4:] - predictions(torch.from_numpy(signal), coefficients).numpy()
    assert residuals.std() == pytest.approx(1.0, abs=0.1)
    assert signal.std() > 5


def test_predictions_are_the_sums_of_the_samples_before():
    samples = torch.tensor([[1.0, 10.0, 100.0, 1000.0]])
    assert predictions(samples, torch.tensor([[2.0, 3.0]])).tolist() == [[23.0, 230.0]]


def test_silence_is_predicted_to_stay_silent():
    assert predict_linearly(torch.zeros(1, 50), 8, floor=1e-8).tolist() == [[0.0] * 8]


def test_the_taper_lets_recent_samples_count_most():
    weights = taper(320)
    assert weights.argmax().item() == 287
    assert weights.min() > 0
    assert weights.max() <= 1


def test_the_recursion_has_gradients():
    correlations = torch.tensor([[3.0, 1.0, 0.5, 0.2]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(levinson, correlations)
