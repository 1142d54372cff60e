"""How a network's output is read as the density of a frame."""

import math

import pytest
import torch
from tiny_models import LIKELIHOODS, observed_by
from torch import Tensor

from zfaudio.config import ZForcingConfig
from zfaudio.distributions import GaussianMixture, LogisticMixture, Quantizer
from zfaudio.errors import UserError
from zfaudio.models.frame_likelihoods import SMALLEST_SCALE, FrameDistribution, FrameLikelihood, build_likelihood
from zfaudio.models.heads import FactorizedFrames, FactorizedHead
from zfaudio.observations import Binary, Tokens

SIZE, COMPONENTS = 4, 3
QUANTIZER = Quantizer(3.0, 700.0)

likelihoods = pytest.mark.parametrize("likelihood", LIKELIHOODS)


def settings(likelihood: str, min_deviation: float = 0.0) -> ZForcingConfig:
    return ZForcingConfig(likelihood=likelihood, components=COMPONENTS, min_deviation=min_deviation)


def layout(likelihood: str, min_deviation: float = 0.0) -> FrameLikelihood:
    return build_likelihood(settings(likelihood, min_deviation), SIZE, observed_by(likelihood, QUANTIZER))


def read(likelihood: str, parameters: Tensor, **how: object) -> FrameDistribution:
    return layout(likelihood).read(parameters, **how)


@pytest.mark.parametrize(
    ("likelihood", "numbers"),
    [
        ("gaussian", 2 * SIZE),
        ("gaussian_mixture", COMPONENTS * (1 + 2 * SIZE)),
        ("logistic_mixture", 3 * COMPONENTS * SIZE),
        ("mulaw", 258 * SIZE),
    ],
)
def test_a_density_takes_as_many_numbers_as_it_has_parameters_and_each_of_them_counts(likelihood, numbers):
    assert layout(likelihood).parameters == numbers
    parameters = torch.randn(numbers, dtype=torch.float64, requires_grad=True)
    frame = layout(likelihood).observe(torch.randn(SIZE, dtype=torch.float64))
    (gradient,) = torch.autograd.grad(read(likelihood, parameters).log_prob(frame), parameters)
    assert (gradient != 0).all()


@likelihoods
def test_draws_take_as_many_normal_numbers_as_the_layout_says(likelihood):
    density = read(likelihood, torch.randn(2, 5, layout(likelihood).parameters))
    noise_size = layout(likelihood).noise_size
    assert density.at(torch.randn(2, 5, noise_size)).shape == (2, 5, SIZE)
    assert noise_size == (2 * SIZE if "mixture" in likelihood else SIZE)


@likelihoods
def test_a_linear_map_of_the_condition_gives_the_parameters_and_the_frame_before_is_not_read(likelihood):
    torch.manual_seed(0)
    output = FactorizedHead(6, SIZE, settings(likelihood), observed_by(likelihood, QUANTIZER)).double()
    condition = torch.randn(2, 5, 6, dtype=torch.float64)
    frames = output.observe(torch.randn(2, 5, SIZE, dtype=torch.float64))
    expected = read(likelihood, condition @ output.linear.weight.T + output.linear.bias)
    for previous in torch.randn(2, 2, 5 * SIZE):
        torch.testing.assert_close(output(condition, previous).log_prob(frames), expected.log_prob(frames))
    one = output.step(condition[:, 0], torch.randn(2, SIZE))
    torch.testing.assert_close(one.log_prob(frames[:, 0]), expected.log_prob(frames)[:, 0])
    assert output.noise_size == layout(likelihood).noise_size


@likelihoods
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_densities_of_low_precision_networks_are_computed_in_float32(likelihood, dtype):
    density = read(likelihood, torch.zeros(layout(likelihood).parameters, dtype=dtype))
    assert density.log_prob(torch.zeros(SIZE)).dtype == torch.float32


@pytest.mark.parametrize("likelihood", ["gaussian", "gaussian_mixture"])
def test_origin_and_level_shift_and_stretch_the_density(likelihood):
    parameters = torch.randn(5, layout(likelihood).parameters, dtype=torch.float64)
    frames, noise = torch.randn(5, SIZE).double(), torch.randn(5, layout(likelihood).noise_size).double()
    origin, level = torch.randn(5, 1, dtype=torch.float64), torch.rand(5, 1, dtype=torch.float64) + 0.1
    plain, moved = read(likelihood, parameters), read(likelihood, parameters, origin=origin, level=level)
    expected = plain.log_prob((frames - origin) / level) - SIZE * torch.log(level).squeeze(-1)
    torch.testing.assert_close(moved.log_prob(frames), expected)
    torch.testing.assert_close(moved.at(noise), origin + level * plain.at(noise))


def test_origin_and_level_shift_and_stretch_logistics():
    parameters = torch.randn(5, layout("logistic_mixture").parameters, dtype=torch.float64)
    origin, level = torch.randn(5, 1, dtype=torch.float64), torch.rand(5, 1, dtype=torch.float64) + 0.1
    plain = read("logistic_mixture", parameters)
    moved = read("logistic_mixture", parameters, origin=origin, level=level)
    torch.testing.assert_close(moved.mean, origin[..., None] + level[..., None] * plain.mean)
    torch.testing.assert_close(moved.log_scale, plain.log_scale + torch.log(level)[..., None])


@pytest.mark.parametrize("likelihood", ["gaussian", "gaussian_mixture"])
def test_no_gaussian_is_narrower_than_the_floor_whatever_its_level(likelihood):
    parameters = torch.full((layout(likelihood).parameters,), -40.0)
    density = layout(likelihood, min_deviation=0.01).read(parameters, level=torch.tensor([1e-3]))
    gaussians = density.components if isinstance(density, GaussianMixture) else density
    torch.testing.assert_close(gaussians.deviation, torch.full_like(gaussians.deviation, 0.01))


def test_a_logistic_far_narrower_than_a_step_is_no_narrower_than_a_point_mass():
    parameters = torch.full((layout("logistic_mixture").parameters,), -1e4)
    parameters[: 2 * COMPONENTS * SIZE] = 0  # logits and means
    density = read("logistic_mixture", parameters)
    assert isinstance(density, LogisticMixture)
    assert math.exp(density.log_scale.max().item()) == pytest.approx(SMALLEST_SCALE / 700)
    nearest = QUANTIZER.round(torch.zeros(SIZE))
    assert density.log_prob(nearest).item() == pytest.approx(SIZE * math.log(700), rel=1e-3)  # all mass on one integer


@likelihoods
def test_only_a_discretized_density_observes_whole_steps(likelihood):
    frames = torch.randn(3, SIZE)
    observed = layout(likelihood).observe(frames)
    if likelihood in ("logistic_mixture", "mulaw"):
        torch.testing.assert_close(observed, observed_by(likelihood, QUANTIZER).round(frames))
        assert not torch.equal(observed, frames)
    else:
        assert observed is frames


# Pixels and words


def test_a_pixel_takes_a_logit_and_a_word_one_for_each_of_the_vocabulary():
    bernoulli = build_likelihood(settings("bernoulli"), SIZE, Binary())
    categorical = build_likelihood(settings("categorical"), 1, Tokens(9))
    assert (bernoulli.parameters, bernoulli.noise_size) == (SIZE, SIZE)
    assert (categorical.parameters, categorical.noise_size) == (9, 1)
    for likelihood, size in ((bernoulli, SIZE), (categorical, 1)):
        density = likelihood.read(torch.randn(2, 5, likelihood.parameters, dtype=torch.bfloat16))
        drawn = density.at(torch.randn(2, 5, likelihood.noise_size))
        assert drawn.shape == (2, 5, size)
        assert density.log_prob(drawn).dtype == torch.float32


def test_a_likelihood_of_another_kind_of_frames_has_no_16_bit_steps():
    with pytest.raises(UserError, match=r"model\.likelihood bernoulli is for recordings, but these shards hold binary"):
        _ = build_likelihood(settings("bernoulli"), SIZE, Binary()).quantizer


@pytest.mark.parametrize("likelihood", ["gaussian", "logistic_mixture", "categorical"])
def test_many_frames_without_gradients_are_scored_part_by_part(monkeypatch, likelihood):
    """So that a large vocabulary does not take a number for each word and frame at a time."""
    monkeypatch.setattr("zfaudio.models.heads.NUMBERS_AT_ONCE", 100)
    words = likelihood == "categorical"
    size, observation = (1, Tokens(30)) if words else (SIZE, QUANTIZER)
    head = FactorizedHead(6, size, settings(likelihood), observation).double()
    condition, samples = torch.randn(3, 7, 6).double(), torch.zeros(3, 7 * size).double()
    frames = torch.randint(30, (3, 7, 1)).double() if words else torch.randn(3, 7, SIZE).double()
    expected = head(condition, samples).log_prob(frames)
    with torch.no_grad():
        density, seen = head(condition, samples), []
        assert isinstance(density, FactorizedFrames)
        head.linear.register_forward_hook(lambda _, __, numbers: seen.append(numbers.numel()))
        torch.testing.assert_close(density.log_prob(frames), expected.detach())
        assert max(seen) <= 100
        noise = torch.randn(3, 7, head.noise_size).double()
        torch.testing.assert_close(density.at(noise), head.density(condition, density.grid).at(noise))
