import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch import distributions as reference

from zfaudio.data.frames import dequantize
from zfaudio.distributions import (
    Bernoulli,
    Categorical,
    DiagonalGaussian,
    GaussianMixture,
    LogisticMixture,
    Quantizer,
    choose_component,
    gaussian_kl,
    split_gaussian,
)

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


# 16-bit integers in standardized space

quantizers = st.builds(Quantizer, mean=st.floats(-50, 50), deviation=st.floats(20, 8000))
every_integer = torch.arange(-32768, 32768, dtype=torch.float64)


def standardize(integers: Tensor, quantizer: Quantizer) -> Tensor:
    return (integers - quantizer.mean) / quantizer.deviation


@given(quantizers)
@settings(max_examples=20)
def test_a_quantizer_knows_where_the_integers_lie(quantizer):
    samples = standardize(every_integer, quantizer)
    assert quantizer.lowest == samples[0].item()
    assert quantizer.highest == samples[-1].item()
    assert quantizer.step == pytest.approx((samples[1] - samples[0]).item())
    torch.testing.assert_close(quantizer.round(samples + 0.49 * quantizer.step), samples)
    torch.testing.assert_close(quantizer.round(samples - 0.49 * quantizer.step), samples)


@given(quantizers, seeds, st.booleans())
@settings(max_examples=30)
def test_rounding_undoes_dequantization_but_for_the_rounding_of_float32(quantizer, seed, full_scale):
    """One sample of 2,500 is off by one at full scale, and one of 70,000 at the level of speech (deviation 700)."""
    rng = np.random.default_rng(seed)
    loud, quiet = rng.uniform(-32768, 32767, (500, 200)), rng.laplace(0, quantizer.deviation / math.sqrt(2), (500, 200))
    integers = np.rint((loud if full_scale else quiet).clip(-32768, 32767)).astype(np.int16)
    dequantized = dequantize(integers, quantizer.mean, quantizer.deviation, seed)
    rounded = quantizer.round(torch.from_numpy(dequantized))
    assert torch.equal(quantizer.round(rounded), rounded)
    off = np.rint(rounded.double().numpy() * quantizer.deviation + quantizer.mean) - integers
    assert np.abs(off).max() <= 1
    assert (off != 0).mean() < (1e-3 if full_scale else 5e-5 + 1e-7 * quantizer.deviation)


# Mixtures


def random_gaussian_mixture(seed: int, rows: int, components: int, size: int) -> GaussianMixture:
    gaussians = random_gaussian(seed, rows, components, size)
    return GaussianMixture(torch.randn(rows, components, dtype=torch.float64), gaussians)


@given(seeds, sizes, sizes, sizes)
def test_a_mixture_of_gaussians_agrees_with_torch(seed, rows, components, size):
    mixture = random_gaussian_mixture(seed, rows, components, size)
    value = torch.randn(rows, size, dtype=torch.float64)
    expected = reference.MixtureSameFamily(
        reference.Categorical(logits=mixture.logits), as_reference(mixture.components)
    )
    torch.testing.assert_close(mixture.log_prob(value), expected.log_prob(value))


def random_logistic_mixture(seed: int, size: int, components: int, quantizer: Quantizer) -> LogisticMixture:
    """Means within the range of the corpus, scales from half a step to the deviation of the corpus."""
    torch.manual_seed(seed)
    narrowest = math.log(0.5 * quantizer.step)
    shape = (1, size, components)
    return LogisticMixture(
        torch.randn(shape, dtype=torch.float64),
        torch.randn(shape, dtype=torch.float64),
        narrowest * torch.rand(shape, dtype=torch.float64),
        quantizer,
    )


def probability_by_differences(mixture: LogisticMixture, integers: Tensor) -> Tensor:
    """P(k) of integers [..., size]: the difference of the distribution function between the ends of the step."""
    logistic = reference.TransformedDistribution(
        reference.Uniform(torch.zeros_like(mixture.mean), torch.ones_like(mixture.mean), validate_args=False),
        [
            reference.transforms.SigmoidTransform().inv,
            reference.transforms.AffineTransform(mixture.mean, torch.exp(mixture.log_scale)),
        ],
        validate_args=False,
    )

    def below(edges: Tensor) -> Tensor:
        return logistic.cdf(standardize(edges, mixture.quantizer).unsqueeze(-1))

    upper = torch.where(integers.unsqueeze(-1) == 32767, 1.0, below(integers + 0.5))
    lower = torch.where(integers.unsqueeze(-1) == -32768, 0.0, below(integers - 0.5))
    return (torch.softmax(mixture.logits, -1) * (upper - lower)).sum(-1)


@given(seeds, sizes, sizes, quantizers)
def test_a_discretized_mixture_of_logistics_is_a_difference_of_distribution_functions(
    seed, size, components, quantizer
):
    mixture = random_logistic_mixture(seed, size, components, quantizer)
    integers = torch.round(torch.randn(9, size, dtype=torch.float64) * quantizer.deviation).clamp(-32768, 32767)
    integers[0], integers[1] = -32768, 32767
    probability = probability_by_differences(mixture, integers)
    known = probability > 1e-9  # smaller differences are dominated by rounding
    ours = mixture.log_prob_of_samples(standardize(integers, quantizer)) + math.log(quantizer.step)
    torch.testing.assert_close(ours[known], torch.log(probability)[known], rtol=1e-6, atol=1e-6)
    total = mixture.log_prob(standardize(integers, quantizer)) + size * math.log(quantizer.step)
    torch.testing.assert_close(total, ours.sum(-1))


@pytest.mark.parametrize("where", [-32768, -32760, 0, 32767, 50_000])
@pytest.mark.parametrize("scale", [1e-3, 0.3, 20, 5000, 1e5])
def test_the_probabilities_of_all_integers_sum_to_one(where, scale):
    """Wherever the mass is, even beyond the integers, and for scales from a thousandth of a step to all integers."""
    quantizer = Quantizer(-7.0, 300.0)
    places = standardize(torch.tensor([[where, 3.0]], dtype=torch.float64), quantizer)
    scales = torch.tensor([[scale, 40.0]], dtype=torch.float64) / quantizer.deviation
    mixture = LogisticMixture(torch.zeros(1, 2, dtype=torch.float64), places, torch.log(scales), quantizer)
    log_probability = mixture.log_prob(standardize(every_integer, quantizer).unsqueeze(-1)) + math.log(quantizer.step)
    assert torch.exp(log_probability).sum().item() == pytest.approx(1, abs=1e-9)


@given(seeds, quantizers)
def test_averaged_over_dequantization_noise_the_density_is_the_probability_of_the_integer(seed, quantizer):
    """E[log p(k + u)] + log(step) = log P(k), because the density is the same at every u."""
    mixture = random_logistic_mixture(seed, 1, 3, quantizer)
    heaviest = mixture.mean[0, :, mixture.logits.argmax()]
    integer = torch.round(heaviest * quantizer.deviation + quantizer.mean).clamp(-32768, 32767)
    noise = torch.linspace(-0.499, 0.499, 101, dtype=torch.float64).unsqueeze(-1)
    log_density = mixture.log_prob(standardize(integer + noise, quantizer))
    torch.testing.assert_close(log_density, log_density[50].expand(101))
    probability = probability_by_differences(mixture, integer)
    assert log_density.mean().item() + math.log(quantizer.step) == pytest.approx(
        torch.log(probability).item(), abs=1e-4
    )


# Draws


def kolmogorov_distance(uniform: Tensor) -> float:
    """Largest gap, times the root of their number, between the distribution of values and the uniform one on [0, 1].

    Above 1.95 for one in 1,000 sets of uniform draws.
    """
    ordered, n = uniform.sort().values, len(uniform)
    above = (torch.arange(1, n + 1) / n - ordered).max()
    below = (ordered - torch.arange(n) / n).max()
    return math.sqrt(n) * max(above.item(), below.item())


def test_draws_from_a_mixture_of_gaussians_follow_its_density():
    mixture = random_gaussian_mixture(5, 1, 3, 2)
    draws = mixture.at(torch.randn(100_000, 4, dtype=torch.float64))
    weights = torch.softmax(mixture.logits, -1)[0]
    gaussians = reference.Normal(mixture.components.mean[0], mixture.components.deviation[0])  # [components, size]
    by_component = gaussians.cdf(draws.unsqueeze(1))  # [draws, components, size]
    for dimension in range(2):
        assert kolmogorov_distance((weights * by_component[..., dimension]).sum(-1)) < 1.95
    # All dimensions of a draw have the same component, so they are correlated as its means are.
    center = (weights[:, None] * mixture.components.mean[0]).sum(0)
    expected = (weights * (mixture.components.mean[0] - center).prod(-1)).sum()
    assert (draws - center).prod(-1).mean().item() == pytest.approx(expected.item(), abs=0.03)


def test_draws_from_a_mixture_of_logistics_have_the_probabilities_of_their_integers():
    quantizer = Quantizer(2.0, 30.0)
    mixture = LogisticMixture(
        torch.tensor([[[0.0, 0.5, -1.0]] * 2], dtype=torch.float64),
        torch.tensor([[[0.0, 0.3, -0.2], [-0.1, 0.0, 0.4]]], dtype=torch.float64),
        torch.log(torch.tensor([[[0.1, 0.02, 0.3], [0.05, 0.2, 0.01]]], dtype=torch.float64)),
        quantizer,
    )
    torch.manual_seed(1)
    n = 200_000
    draws = mixture.at(torch.randn(n, 4, dtype=torch.float64)) * quantizer.deviation + quantizer.mean
    torch.testing.assert_close(draws, torch.round(draws))
    integers = torch.arange(-60, 61, dtype=torch.float64)
    expected = n * probability_by_differences(mixture, integers.unsqueeze(-1))  # [integers, size]
    for dimension in range(2):
        found = torch.histc(draws[:, dimension], 121, -60.5, 60.5)
        often = expected[:, dimension] > 10
        chi_square = ((found - expected[:, dimension])[often].square() / expected[often, dimension]).sum()
        assert (chi_square - often.sum()) / math.sqrt(2 * often.sum()) < 4
    assert torch.corrcoef(draws.T)[0, 1].abs() < 4 / math.sqrt(n)  # each sample has its own component


def test_at_temperature_zero_a_draw_is_the_mean_of_the_heaviest_component():
    noise = torch.randn(50, 4, dtype=torch.float64)
    gaussians = random_gaussian_mixture(1, 1, 3, 2)
    heaviest = gaussians.components.mean[0, gaussians.logits.argmax()]
    torch.testing.assert_close(gaussians.at(noise, 0.0), heaviest.expand(50, 2))
    logistics = random_logistic_mixture(1, 2, 3, Quantizer(3.0, 500.0))
    mean = logistics.mean.gather(-1, logistics.logits.argmax(-1, keepdim=True)).squeeze(-1)
    torch.testing.assert_close(logistics.at(noise, 0.0), logistics.quantizer.round(mean).expand(50, 2))


@pytest.mark.parametrize("temperature", [0.5, 1.0, 1.5])
def test_temperature_sharpens_the_weights_of_a_mixture_and_scales_its_components(temperature):
    n, quantizer = 200_000, Quantizer(3.0, 500.0)
    logits, means = torch.tensor([0.0, 1.0, -0.5]).double(), torch.tensor([-20.0, 0.0, 20.0]).double()
    logistics = LogisticMixture(
        logits.expand(n, 1, 3), means.expand(n, 1, 3), torch.full((n, 1, 3), math.log(0.5)).double(), quantizer
    )
    components = DiagonalGaussian(means.view(3, 1).expand(n, 3, 1), torch.full((n, 3, 1), 2 * math.log(0.5)).double())
    gaussians = GaussianMixture(logits.expand(n, 3), components)
    noise = torch.randn(n, 2, dtype=torch.float64)
    expected = torch.softmax(logits / temperature, -1)
    for mixture, deviation in ((logistics, 0.5 * math.pi / math.sqrt(3)), (gaussians, 0.5)):
        draws = mixture.at(noise, temperature).squeeze(-1)
        chosen = (draws.unsqueeze(-1) - means).abs().argmin(-1)
        found = torch.bincount(chosen, minlength=3) / n
        torch.testing.assert_close(found.double(), expected, atol=0.006, rtol=0)
        spread = (draws - means[chosen]).square().mean().sqrt().item()
        assert spread == pytest.approx(temperature * deviation, rel=0.02)


def test_at_the_smallest_temperature_the_heaviest_component_is_chosen():
    logits = torch.tensor([-3.0, 5.0, 2.0])
    drawn = Categorical(logits.expand(20, 1, 3)).at(torch.randn(20, 1), 5e-324)
    assert torch.equal(drawn, torch.ones(20, 1))


def test_draws_stay_within_16_bits():
    quantizer = Quantizer(3.0, 500.0)
    shape = (1, 1, 1)
    mixture = LogisticMixture(torch.zeros(shape), torch.full(shape, 60.0), torch.full(shape, 3.0), quantizer)
    draws = mixture.at(torch.randn(2000, 2))
    assert draws.max().item() == pytest.approx(quantizer.highest)
    assert draws.min().item() == pytest.approx(quantizer.lowest)


@given(seeds, sizes)
def test_components_are_chosen_as_often_as_they_weigh(seed, components):
    torch.manual_seed(seed)
    logits = 2 * torch.randn(components, dtype=torch.float64)
    # 10,000 quantiles of equal probability represent all noise.
    noise = torch.special.ndtri((torch.arange(10_000, dtype=torch.float64) + 0.5) / 10_000).unsqueeze(-1)
    chosen = choose_component(logits.expand(10_000, -1), torch.special.ndtr(noise))
    share = torch.bincount(chosen.flatten(), minlength=components) / 10_000
    torch.testing.assert_close(share.double(), torch.softmax(logits, -1), atol=2e-4, rtol=0)


@pytest.mark.parametrize("extreme", [-40.0, 40.0])
def test_extreme_noise_still_chooses_a_component_and_draws_a_number(extreme):
    logits, noise = torch.zeros(1, 3), torch.full((1, 1), extreme)
    assert choose_component(logits, torch.special.ndtr(noise)).item() == (0 if extreme < 0 else 2)
    mixture = LogisticMixture(*torch.zeros(3, 1, 1, 3), Quantizer(0.0, 500.0))
    assert torch.isfinite(mixture.at(torch.full((1, 2), extreme))).all()


# Extremes


@pytest.mark.parametrize("log_scale", [math.log(1e-3 / 700), -5.0, 0.0, 8.0, 30.0])
@pytest.mark.parametrize("mean", [-1000.0, 0.0, 1000.0])
@pytest.mark.parametrize("integer", [-32768, -32767, 0, 32766, 32767])
def test_a_mixture_of_logistics_is_finite_with_finite_gradients_in_float32(log_scale, mean, integer):
    parameters = [torch.zeros(1, 2), torch.full((1, 2), mean), torch.full((1, 2), log_scale)]
    for parameter in parameters:
        parameter.requires_grad_()
    quantizer = Quantizer(3.0, 700.0)
    log_prob = LogisticMixture(*parameters, quantizer).log_prob(standardize(torch.tensor([integer]), quantizer))
    assert torch.isfinite(log_prob)
    for gradient in torch.autograd.grad(log_prob, parameters):
        assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("log_variance", [-13.8, 0.0, 30.0])
@pytest.mark.parametrize("value", [-100.0, 0.0, 100.0])
def test_a_mixture_of_gaussians_is_finite_with_finite_gradients_in_float32(log_variance, value):
    parameters = [torch.tensor([0.0, -50.0]), torch.tensor([[0.0], [5.0]]), torch.full((2, 1), log_variance)]
    for parameter in parameters:
        parameter.requires_grad_()
    mixture = GaussianMixture(parameters[0], DiagonalGaussian(parameters[1], parameters[2]))
    log_prob = mixture.log_prob(torch.tensor([value]))
    assert torch.isfinite(log_prob)
    for gradient in torch.autograd.grad(log_prob, parameters):
        assert torch.isfinite(gradient).all()


# Pixels and words


def test_a_pixels_probability_is_torchs():
    logits, values = torch.randn(4, 5, dtype=torch.float64), torch.randint(2, (4, 5)).double()
    expected = torch.distributions.Bernoulli(logits=logits).log_prob(values).sum(-1)
    torch.testing.assert_close(Bernoulli(logits).log_prob(values), expected)
    sure = Bernoulli(torch.tensor([[80.0, -80.0]]))  # in float32, log(1 + exp(80)) - 80 would be 0
    assert sure.log_prob(torch.tensor([[1.0, 0.0]])).item() == pytest.approx(-2 * math.exp(-80))


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_pixels_are_drawn_with_their_probability(temperature):
    """Noise in steps of equal probability gives as many ones as there should be."""
    logits = torch.tensor([-3.0, 0.0, 1.5], dtype=torch.float64)
    noise = torch.special.ndtri((torch.arange(10_000).double() + 0.5) / 10_000).unsqueeze(-1).expand(-1, 3)
    drawn = Bernoulli(logits).at(noise, temperature)
    torch.testing.assert_close(drawn.mean(0), torch.sigmoid(logits / temperature), atol=1e-3, rtol=0)
    assert Bernoulli(logits).at(noise, 0.0)[0].tolist() == Bernoulli(logits).at(noise, 0.0)[-1].tolist() == [0, 0, 1]


def test_a_words_probability_is_torchs():
    logits, ids = torch.randn(4, 2, 7, dtype=torch.float64), torch.randint(7, (4, 2))
    expected = torch.distributions.Categorical(logits=logits).log_prob(ids).sum(-1)
    torch.testing.assert_close(Categorical(logits).log_prob(ids.double()), expected)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_words_are_drawn_with_their_probability(temperature):
    logits = torch.tensor([[0.3, -4.0, 2.0, 1.0]], dtype=torch.float64)
    noise = torch.special.ndtri((torch.arange(10_000).double() + 0.5) / 10_000).unsqueeze(-1)
    drawn = Categorical(logits).at(noise, temperature).squeeze(-1).long()
    expected = torch.softmax(logits[0] / temperature, -1)
    torch.testing.assert_close(torch.bincount(drawn, minlength=4) / 10_000, expected.float(), atol=1e-3, rtol=0)
    assert (Categorical(logits).at(noise, 0.0) == 2).all()


def test_every_word_of_a_large_vocabulary_can_be_drawn():
    """Also the last ones, for which the sum of all before them must be exact."""
    logits = torch.zeros(1, 32_768)
    last = torch.tensor([[(32_768 - k - 0.5) / 32_768] for k in range(5)], dtype=torch.float64)
    drawn = Categorical(logits).at(torch.special.ndtri(last))
    assert drawn.squeeze(-1).tolist() == [32_767 - k for k in range(5)]
