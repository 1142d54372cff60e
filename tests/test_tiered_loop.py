"""The compiled loop of the tiered head against the operators of torch."""

import dataclasses

import hypothesis
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_models import LIKELIHOODS, observed_by
from torch import Tensor

from zfaudio.config import FrameDensityConfig
from zfaudio.distributions import Quantizer
from zfaudio.models.tiered_head import TieredFrame, TieredHead
from zfaudio.ops.linear_prediction import predict_linearly, predictions
from zfaudio.ops.pitch_lag import pitch_lag
from zfaudio.ops.signal_loop import leave_residuals, most_alike, predict_backward

FRAME_SIZE, CONDITION_SIZE = 24, 5
QUANTIZER = Quantizer(3.0, 700.0)

likelihoods = pytest.mark.parametrize("likelihood", LIKELIHOODS)


def settings(likelihood: str = "logistic_mixture", **changed: int) -> FrameDensityConfig:
    sizes = {"head_window": 5, "head_size": 6, "head_tier": 4, "head_tier_window": 20, "head_tier_size": 7}
    return FrameDensityConfig(
        head="tiered",
        likelihood=likelihood,
        components=3,
        **{**sizes, "head_lags": 2, "head_order": 3, **changed},
    )


def build(config: FrameDensityConfig, condition_size: int = CONDITION_SIZE) -> TieredHead:
    """A head in float64 with weights far from their start."""
    torch.manual_seed(0)
    head = TieredHead(condition_size, FRAME_SIZE, config, observed_by(config.likelihood, QUANTIZER)).double().eval()
    for parameter in head.parameters():
        parameter.data.add_(0.2 * torch.randn_like(parameter))
    return head


def density_after(head: TieredHead, samples: Tensor, condition_size: int = CONDITION_SIZE) -> TieredFrame:
    """The density after samples [..., at least past + FRAME_SIZE], given random conditions."""
    condition = torch.randn(*samples.shape[:-1], condition_size, dtype=samples.dtype)
    return head.step(condition, samples[..., samples.shape[-1] - head.past - FRAME_SIZE :])


def speech_like(*shape: int, grid: int = 1) -> Tensor:
    """Periodic samples with some noise, [*shape, 200], on the integers that the grid divides."""
    times = torch.arange(200, dtype=torch.float64)
    phase, period = torch.rand(2, *shape, 1, dtype=torch.float64)
    voice = torch.sin(2 * np.pi * (times / (5 + 6 * period) + phase)) + 0.1 * torch.randn(*shape, 200)
    integers = grid * torch.round(voice * QUANTIZER.deviation / grid)
    return (integers - QUANTIZER.mean) / QUANTIZER.deviation


def both(density: TieredFrame, noise: Tensor, temperature: float = 1.0) -> tuple[Tensor, Tensor]:
    """The frames that the compiled loop and the operators draw."""
    with torch.no_grad():
        drawn = density.at(noise, temperature)
        density.head.compiled = False
        try:
            return drawn, density.at(noise, temperature)
        finally:
            density.head.compiled = True


@likelihoods
@given(
    lanes=st.integers(1, 3),
    window=st.sampled_from([2, 5, 40]),
    reach=st.sampled_from([9, 20, 61]),
    lags=st.sampled_from([0, 1, 3]),
    order=st.sampled_from([1, 3, 8]),
    conditioned=st.booleans(),
    grid=st.sampled_from([1, 256]),
    temperature=st.floats(0, 2),
    seed=st.integers(0, 99),
)
@hypothesis.settings(max_examples=40, deadline=None)
def test_the_compiled_loop_draws_what_the_operators_do(
    likelihood, lanes, window, reach, lags, order, conditioned, grid, temperature, seed
):
    sizes = {"head_window": window, "head_tier_window": reach, "head_lags": lags, "head_order": order}
    size = CONDITION_SIZE if conditioned else 0
    head = build(settings(likelihood, **sizes), size)
    torch.manual_seed(seed)
    density = density_after(head, speech_like(lanes, grid=grid), size)
    if likelihood == "logistic_mixture":
        assert density.grid.tolist() == [[grid]] * lanes
    drawn, expected = both(density, torch.randn(lanes, head.noise_size, dtype=torch.float64), temperature)
    torch.testing.assert_close(drawn, expected, rtol=1e-9, atol=1e-9)


@likelihoods
@pytest.mark.parametrize("level", [0.0, 0.3, 46.0])
def test_they_draw_the_same_after_silence_and_at_full_scale(likelihood, level):
    head = build(settings(likelihood, head_tier_window=61))
    torch.manual_seed(2)
    samples = torch.full((2, 200), level, dtype=torch.float64)
    samples[1] *= torch.sign(torch.randn(200))
    drawn, expected = both(density_after(head, samples), torch.randn(2, head.noise_size, dtype=torch.float64))
    torch.testing.assert_close(drawn, expected, rtol=1e-9, atol=1e-9)


@likelihoods
def test_in_float32_they_differ_by_rounding(likelihood):
    head = build(settings(likelihood, head_tier_window=61)).float()
    torch.manual_seed(3)
    density = density_after(head, speech_like(8).float())
    drawn, expected = both(density, torch.randn(8, head.noise_size))
    assert drawn.dtype == torch.float32
    torch.testing.assert_close(drawn, expected, rtol=1e-3, atol=1e-3)


@likelihoods
@pytest.mark.parametrize("threads", [1, 2])
def test_a_lane_of_the_compiled_loop_is_the_same_alone_and_beside_others(likelihood, threads):
    head = build(settings(likelihood)).float()
    torch.manual_seed(4)
    density, noise = density_after(head, speech_like(2, 3).float()), torch.randn(2, 3, head.noise_size)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with torch.inference_mode():
            together = density.at(noise)
            grid = None if density.grid is None else density.grid[1, 2]
            one = dataclasses.replace(
                density, condition=density.condition[1, 2], grid=grid, previous_samples=density.previous_samples[1, 2]
            )
            alone = one.at(noise[1, 2])
    finally:
        torch.set_num_threads(before)
    assert together.shape == (2, 3, FRAME_SIZE)
    assert torch.equal(together[1, 2], alone)


@likelihoods
def test_the_compiled_loop_hides_no_draw_that_diverged(likelihood):
    head = build(settings(likelihood))
    samples = speech_like(2)
    samples[1, -1] = float("nan")
    density = density_after(head, samples)
    density.condition[0, 0] = float("nan")
    with torch.no_grad():
        assert density.at(torch.zeros(2, head.noise_size).double()).isnan().all()


def test_the_operators_draw_where_a_gradient_is_asked_for():
    head = build(settings("gaussian"))
    assert density_after(head, speech_like(1)).at(torch.zeros(1, head.noise_size).double()).requires_grad


def test_the_plain_core_is_not_compiled():
    assert build(settings()).compiled
    assert not build(dataclasses.replace(settings(), core="plain")).compiled


@pytest.mark.parametrize("size", [320, 61])
@pytest.mark.parametrize("floor", [1e-6, 1e-2])
def test_the_compiled_lag_and_linear_prediction_are_those_of_the_operators(size, floor):
    torch.manual_seed(5)
    for window in (
        *speech_like(20).repeat(1, 2)[:, :size],
        *torch.randn(20, size).double(),
        torch.zeros(size).double(),
    ):
        lag, strength = most_alike(window.numpy(), 4)
        expected_lag, expected_strength = pitch_lag(window, 4)
        assert lag == expected_lag.item()
        assert strength == pytest.approx(expected_strength.item(), abs=1e-9)
        backward, left = np.empty(8), np.empty(size - 8)
        predict_backward(window.numpy(), floor, backward)
        coefficients = predict_linearly(window, 8, floor)
        np.testing.assert_allclose(backward[::-1], coefficients, atol=1e-9)
        leave_residuals(window.numpy(), backward, left)
        np.testing.assert_allclose(left, window[8:] - predictions(window, coefficients), atol=1e-9)
