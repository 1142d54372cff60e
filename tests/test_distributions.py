import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import distributions as reference

from zfaudio.distributions import DiagonalGaussian, gaussian_kl, split_gaussian

sizes = st.integers(1, 5)
seeds = st.integers(0, 2**31)


def random_gaussian(seed: int, *shape: int) -> DiagonalGaussian:
    torch.manual_seed(seed)
    return DiagonalGaussian(torch.randn(*shape, dtype=torch.float64), torch.randn(*shape, dtype=torch.float64))


def as_reference(gaussian: DiagonalGaussian) -> reference.Distribution:
    return reference.Independent(reference.Normal(gaussian.mean, gaussian.deviation), 1)


@given(seeds, sizes, sizes)
def test_log_density_agrees_with_torch(seed, rows, size):
    gaussian = random_gaussian(seed, rows, size)
    value = torch.randn(rows, size, dtype=torch.float64)
    torch.testing.assert_close(gaussian.log_prob(value), as_reference(gaussian).log_prob(value))


@given(seeds, sizes, sizes)
def test_kl_agrees_with_torch(seed, rows, size):
    left, right = random_gaussian(seed, rows, size), random_gaussian(seed + 1, rows, size)
    expected = reference.kl_divergence(as_reference(left), as_reference(right))
    torch.testing.assert_close(gaussian_kl(left, right), expected)


def test_kl_of_a_distribution_with_itself_is_zero():
    gaussian = random_gaussian(0, 4, 3)
    torch.testing.assert_close(gaussian_kl(gaussian, gaussian), torch.zeros(4, dtype=torch.float64))


def test_samples_have_the_stated_moments_and_temperature_scales_the_deviation():
    torch.manual_seed(0)
    gaussian = DiagonalGaussian(torch.full((200_000, 1), 2.0), torch.full((200_000, 1), math.log(9.0)))
    draws = gaussian.sample(temperature=0.5)
    assert draws.mean().item() == pytest.approx(2.0, abs=0.02)
    assert draws.std().item() == pytest.approx(1.5, abs=0.02)
    torch.testing.assert_close(gaussian.sample(temperature=0.0), gaussian.mean)


def test_deviation_never_falls_below_its_floor_and_keeps_a_gradient_there():
    parameters = torch.tensor([0.0, -30.0], requires_grad=True)
    gaussian = split_gaussian(parameters, min_deviation=0.01)
    assert gaussian.deviation.item() == pytest.approx(0.01, rel=1e-3)
    gaussian.log_prob(torch.tensor([1.0])).backward()
    assert parameters.grad is not None
    assert parameters.grad[1] > 0  # an outlier still pushes the deviation up


def test_clamp_bounds_mean_and_log_variance():
    gaussian = split_gaussian(torch.tensor([100.0, -100.0]), limit=8.0)
    assert gaussian.mean.item() == 8.0
    assert gaussian.log_variance.item() == -8.0


def test_densities_of_bfloat16_networks_are_computed_in_float32():
    gaussian = split_gaussian(torch.zeros(4, dtype=torch.bfloat16))
    assert gaussian.mean.dtype == torch.float32
