"""Recordings of fewer bits that are stored in 16: their grid is found, scored and kept."""

import dataclasses
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from zfaudio.config import FrameDensityConfig
from zfaudio.distributions import COARSEST_GRID, OFF_GRID, LogisticMixture, Quantizer, grid_of
from zfaudio.models.autoregressive_head import AutoregressiveHead
from zfaudio.models.frame_likelihoods import build_likelihood
from zfaudio.models.heads import FactorizedHead

QUANTIZER = Quantizer(mean=3.25, deviation=700.0)


def standardize(integers: Tensor) -> Tensor:
    return (integers.double() - QUANTIZER.mean) / QUANTIZER.deviation


def mixture_on(grid: float | None, samples: int = 1) -> LogisticMixture:
    """One mixture for so many samples, wide enough to reach several steps of a grid of 256."""
    torch.manual_seed(0)
    logits, mean, log_scale = torch.randn(3, 1, 1, 3, dtype=torch.float64).expand(3, samples, 1, 3)
    known = None if grid is None else torch.tensor([[grid]], dtype=torch.float64)
    return LogisticMixture(logits, mean, log_scale - 1, QUANTIZER, known)


@given(st.integers(0, 12), st.lists(st.integers(-7, 7), min_size=2, max_size=9, unique=True))
def test_the_grid_is_the_largest_power_of_two_that_divides_every_sample(power, factors):
    integers = torch.tensor(factors).repeat(8) * 2**power
    divides = [p for p in range(13) if (integers % 2**p == 0).all()]
    assert grid_of(standardize(integers), QUANTIZER).item() == 2 ** max(divides)


@pytest.mark.parametrize("value", [0, 1, 256, -32768])
def test_samples_that_are_all_equal_say_nothing_about_a_grid(value):
    assert grid_of(standardize(torch.full((1, 20), value)), QUANTIZER).item() == 1


def test_few_samples_say_nothing_about_a_grid():
    assert grid_of(standardize(torch.arange(15) * 256), QUANTIZER).item() == 1
    assert grid_of(standardize(torch.arange(16) * 256), QUANTIZER).item() == 256


def test_the_coarsest_grid_has_sixteen_values():
    assert grid_of(standardize(torch.tensor([0, -32768]).repeat(8)), QUANTIZER).item() == COARSEST_GRID == 65536 / 16


@pytest.mark.parametrize("grid", [2.0, 256.0, 4096.0])
def test_probabilities_on_and_off_a_grid_sum_to_one_but_for_what_is_given_away(grid):
    integers = torch.arange(-32768, 32768).unsqueeze(-1)
    mixture = mixture_on(grid, samples=65536)
    total = (mixture.log_prob(standardize(integers)).exp() * QUANTIZER.step).sum().item()
    assert 1 - OFF_GRID <= total <= 1 + 1e-12


@pytest.mark.parametrize("grid", [2.0, 256.0])
def test_on_a_grid_the_mass_of_its_steps_is_scored_and_off_it_that_of_one_integer(grid):
    every = mixture_on(None, samples=65536)
    integers = torch.arange(-32768, 32768).unsqueeze(-1)
    masses = every.log_prob(standardize(integers)).exp() * QUANTIZER.step  # of every integer
    for value in (0, int(3 * grid), -2048):
        first, last = int(value - grid / 2), int(value + grid / 2)  # half a step lies at each end
        step = masses[first + 32768 : last + 32769].clone()
        step[[0, -1]] *= 0.5
        scored = (mixture_on(grid).log_prob(standardize(torch.tensor([[value]]))).exp() * QUANTIZER.step).item()
        assert scored == pytest.approx((1 - OFF_GRID) * step.sum().item(), rel=2e-3)
    off = mixture_on(grid).log_prob(standardize(torch.tensor([[5]]))).item()
    assert off == pytest.approx(every.log_prob(standardize(integers))[5 + 32768].item() + math.log(OFF_GRID))


def test_a_grid_of_one_scores_and_draws_as_without_a_grid():
    values, noise = standardize(torch.randint(-3000, 3000, (50, 1))), torch.randn(50, 2, dtype=torch.float64)
    ours, theirs = mixture_on(1.0, 50), mixture_on(None, 50)
    assert torch.equal(ours.log_prob(values), theirs.log_prob(values))
    assert torch.equal(ours.at(noise), theirs.at(noise))


def test_draws_stay_on_the_grid_and_leave_it_as_rarely_as_they_are_scored():
    noise = torch.randn(20_000, 2, dtype=torch.float64)
    noise[0, 0] = torch.special.ndtri(torch.tensor(0.5 * OFF_GRID, dtype=torch.float64))
    mixture = mixture_on(256.0, 20_000)
    drawn = QUANTIZER.integers(mixture.at(noise)).flatten()
    assert drawn[0] % 256 != 0
    leaving = torch.special.ndtr(noise[:, 0]) < OFF_GRID
    assert ((drawn % 256 != 0) <= leaving).all()
    shares = mixture_on(256.0).log_prob(standardize(torch.tensor([[256]]))).exp().item() * QUANTIZER.step
    assert (drawn == 256).double().mean().item() == pytest.approx(shares, abs=0.02)


@pytest.mark.parametrize("head_class", [FactorizedHead, AutoregressiveHead])
def test_a_head_gains_by_the_grid_of_the_frame_before(head_class):
    torch.manual_seed(0)
    config = FrameDensityConfig(likelihood="logistic_mixture", head_window=8, head_size=6, components=3)
    head = head_class(4, 20, config, QUANTIZER).double()
    before = 256 * torch.randint(-9, 9, (2, 5 * 20))
    following = 256 * torch.randint(-9, 9, (2, 5, 20))
    condition = torch.randn(2, 5, 4, dtype=torch.float64)
    scores = head(condition, standardize(before)).log_prob(standardize(following))
    before[:, -1] += 1  # the last frame of each sequence leaves the grid
    other = head(condition, standardize(before)).log_prob(standardize(following))
    assert (scores[:, -1] > other[:, -1] + 20).all()
    assert torch.allclose(scores[:, :-1], other[:, :-1])


@pytest.mark.parametrize("core", ["plain", "fast"])
def test_the_autoregressive_head_draws_samples_on_the_grid(core):
    torch.manual_seed(0)
    config = FrameDensityConfig(
        likelihood="logistic_mixture", head_window=8, head_size=6, components=3, core=core, head="autoregressive"
    )
    head = AutoregressiveHead(4, 20, config, QUANTIZER).double()
    condition, before = torch.randn(3, 4, dtype=torch.float64), standardize(256 * torch.randint(-9, 9, (3, 20)))
    with torch.no_grad():
        drawn = head.step(condition, before).at(torch.randn(3, head.noise_size, dtype=torch.float64))
    assert (torch.round(QUANTIZER.integers(drawn)) % 256 == 0).all()


def test_densities_that_are_not_of_integers_have_no_grid():
    for name in ("gaussian", "gaussian_mixture"):
        likelihood = build_likelihood(FrameDensityConfig(likelihood=name), 4, QUANTIZER)
        assert likelihood.grid(torch.zeros(1, 4)) is None


def test_a_mixture_with_a_grid_has_finite_gradients_in_float32():
    log_scale = torch.full((1, 1, 3), -12.0, requires_grad=True)
    mixture = LogisticMixture(torch.zeros(1, 1, 3), torch.zeros(1, 1, 3), log_scale, QUANTIZER, torch.tensor([[256.0]]))
    for value in (0, 1, 256, -32768, 32512, 32767):
        scored = mixture.log_prob(standardize(torch.tensor([[value]])).float())
        (gradient,) = torch.autograd.grad(scored.sum(), log_scale)
        assert torch.isfinite(scored).all()
        assert torch.isfinite(gradient).all()
    assert dataclasses.replace(mixture, grid=None).grid is None
