"""The autoregressive head: a density over frames, sample by sample, and the draws that belong to it."""

import dataclasses
import math

import hypothesis
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_models import LIKELIHOODS, observed_by
from torch import Tensor

from zfaudio.config import SampleARConfig
from zfaudio.distributions import Quantizer
from zfaudio.errors import UserError
from zfaudio.models import build_model
from zfaudio.models.autoregressive_head import FRAMES_AT_ONCE, AutoregressiveFrame, AutoregressiveHead

CONDITION_SIZE = 3
FINE = Quantizer(0.0, 1e6)  # steps so small that they play no part

likelihoods = pytest.mark.parametrize("likelihood", LIKELIHOODS)


def settings(likelihood: str = "gaussian", window: int = 4, stride: int = 1) -> SampleARConfig:
    return SampleARConfig(
        likelihood=likelihood,
        components=3,
        head_window=window,
        head_size=6,
        head_stride=stride,
        min_deviation=0.0,
    )


def build(
    config: SampleARConfig, frame_size: int = 6, quantizer: Quantizer = FINE, condition_size: int = CONDITION_SIZE
) -> AutoregressiveHead:
    """A head in float64 with weights far from their start."""
    torch.manual_seed(0)
    head = AutoregressiveHead(condition_size, frame_size, config, observed_by(config.likelihood, quantizer)).double()
    for parameter in head.parameters():
        parameter.data.add_(0.2 * torch.randn_like(parameter))
    return head


def density_of(head: AutoregressiveHead, *shape: int, seed: int = 1) -> AutoregressiveFrame:
    """The density of frames [*shape, frame_size] after random ones, given random conditions."""
    torch.manual_seed(seed)
    previous = head.observe(torch.randn(*shape, head.past + head.frame_size, dtype=torch.float64))
    return head.step(torch.randn(*shape, CONDITION_SIZE, dtype=torch.float64), previous)


def one_by_one(density: AutoregressiveFrame, frames: Tensor) -> Tensor:
    """log p of each sample given those before it, as generation goes: [..., frame_size]."""
    window, scores = density.previous_samples, []
    for sample in frames.split(1, dim=-1):
        predicted = density.head.density(window.unsqueeze(-2), density.adaptation, density.grid)
        scores.append(predicted.log_prob(sample.unsqueeze(-2)))
        window = torch.cat([window[..., 1:], sample], dim=-1)
    return torch.cat(scores, dim=-1)


# A density


@likelihoods
def test_a_frames_density_is_the_product_of_those_that_draw_its_samples(likelihood):
    head = build(settings(likelihood), quantizer=Quantizer(3.0, 700.0))
    density = density_of(head, 2, 5)
    frames = head.observe(torch.randn(2, 5, 6, dtype=torch.float64))
    torch.testing.assert_close(density.log_prob(frames), one_by_one(density, frames).sum(-1))


@pytest.mark.parametrize("likelihood", ["gaussian", "gaussian_mixture"])
def test_the_density_of_a_frame_integrates_to_one(likelihood):
    """It would not if a sample's density saw that sample or a later one."""
    head = build(settings(likelihood, window=2), frame_size=2, quantizer=Quantizer(0.0, 1.0))  # no level below 1
    density = density_of(head, 1)
    places = torch.linspace(-40, 40, 401, dtype=torch.float64)
    grid = torch.cartesian_prod(places, places)
    expanded = AutoregressiveFrame(
        head,
        tuple(part.expand(len(grid), 1, -1) for part in density.adaptation),
        None,
        density.previous_samples.expand(len(grid), -1),
    )
    with torch.no_grad():
        total = torch.exp(expanded.log_prob(grid)).sum() * (places[1] - places[0]) ** 2
    assert total.item() == pytest.approx(1, abs=1e-3)


def test_a_sample_depends_on_the_noise_up_to_its_own_and_scores_by_the_change_of_variables():
    """log p(x) = log N(noise) - log |dx / dnoise|, the derivative a triangle."""
    head = build(settings())
    density = density_of(head, 1)
    noise = torch.randn(1, 6, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(density.at, noise)[0, :, 0]
    assert (jacobian.triu(1) == 0).all()
    assert (jacobian.tril() != 0).sum() == 21
    gaussian = -0.5 * (noise.square() + math.log(2 * math.pi)).sum()
    expected = gaussian - jacobian.diagonal().abs().log().sum()
    torch.testing.assert_close(density.log_prob(density.at(noise))[0], expected)


@pytest.mark.parametrize("j", [0, 2, 5])
def test_changing_a_sample_moves_its_own_score_and_those_whose_window_holds_it(j):
    head = build(settings(window=2))
    density = density_of(head, 1)
    frames = torch.randn(1, 6, dtype=torch.float64)
    changed = frames.clone()
    changed[0, j] += 1
    moved = (one_by_one(density, frames) != one_by_one(density, changed))[0]
    assert moved.tolist() == [j <= i <= j + 2 for i in range(6)]


@pytest.mark.parametrize("j", [0, 1, 2, 5])
def test_the_window_reaches_back_into_the_frame_before_and_no_further(j):
    head = build(settings(window=4))
    torch.manual_seed(2)
    condition, previous = torch.randn(1, CONDITION_SIZE).double(), torch.randn(1, 6, dtype=torch.float64)
    frames, changed = torch.randn(1, 6, dtype=torch.float64), previous.clone()
    changed[0, j] += 1
    moved = one_by_one(head.step(condition, previous), frames) != one_by_one(head.step(condition, changed), frames)
    assert moved[0].tolist() == [i + 6 - j <= 4 for i in range(6)]


@pytest.mark.parametrize("j", [0, 3, 4, 9, 10])
def test_a_window_longer_than_a_frame_reaches_back_into_the_frames_before_that(j):
    head = build(settings(window=11))
    torch.manual_seed(2)
    assert head.past == 5
    condition, previous = torch.randn(1, CONDITION_SIZE).double(), torch.randn(1, 11, dtype=torch.float64)
    frames, changed = torch.randn(1, 6, dtype=torch.float64), previous.clone()
    changed[0, j] += 1
    moved = one_by_one(head.step(condition, previous), frames) != one_by_one(head.step(condition, changed), frames)
    assert moved[0].tolist() == [i <= j for i in range(6)]


@likelihoods
@pytest.mark.parametrize("window", [4, 6, 11, 20])
def test_frames_of_a_sequence_score_as_each_does_after_the_samples_before_it(likelihood, window):
    head = build(settings(likelihood, window=window), quantizer=Quantizer(3.0, 700.0))
    torch.manual_seed(3)
    samples = head.observe(torch.randn(2, head.past + 4 * 6, dtype=torch.float64))
    condition = torch.randn(2, 3, CONDITION_SIZE, dtype=torch.float64)
    scores = head(condition, samples[:, :-6]).log_prob(samples[:, head.past + 6 :].unflatten(1, (3, 6)))
    for t in range(3):
        start = head.past + (t + 1) * 6  # of the frame that is scored
        density = head.step(condition[:, t], samples[:, start - 6 - head.past : start])
        torch.testing.assert_close(scores[:, t], one_by_one(density, samples[:, start : start + 6]).sum(-1))


def test_every_sample_depends_on_the_condition():
    head = build(settings())
    previous, frames = torch.randn(2, 1, 6, dtype=torch.float64)
    one, other = torch.randn(2, 1, CONDITION_SIZE, dtype=torch.float64)
    assert (one_by_one(head.step(one, previous), frames) != one_by_one(head.step(other, previous), frames)).all()


@pytest.mark.parametrize("conditioned", [True, False])
def test_frames_beyond_those_scored_at_once_score_as_they_do_alone(conditioned):
    head = build(settings(), condition_size=CONDITION_SIZE if conditioned else 0)
    rows = 2 * FRAMES_AT_ONCE + 3
    previous, frames = torch.randn(2, rows, 6, dtype=torch.float64)
    condition = torch.randn(rows, CONDITION_SIZE if conditioned else 0, dtype=torch.float64)
    together = head.step(condition, previous).log_prob(frames)
    for row in (0, FRAMES_AT_ONCE - 1, FRAMES_AT_ONCE, rows - 1):
        alone = head.step(condition[row : row + 1], previous[row : row + 1]).log_prob(frames[row : row + 1])
        torch.testing.assert_close(together[row : row + 1], alone)


# Loudness


def test_louder_speech_is_predicted_alike():
    """Where the loudness itself is not looked at, a frame twice as loud has half the density in each sample."""
    head = build(settings())
    for layer in (head.filters, head.linear):
        layer.weight.data[:, head.window] = 0  # the logarithm of the level
    torch.manual_seed(4)
    condition, previous = torch.randn(1, CONDITION_SIZE).double(), torch.randn(1, 6, dtype=torch.float64)
    frames, noise = torch.randn(2, 1, 6, dtype=torch.float64)
    quiet, loud = head.step(condition, previous), head.step(condition, 8 * previous)
    torch.testing.assert_close(loud.log_prob(8 * frames), quiet.log_prob(frames) - 6 * math.log(8))
    torch.testing.assert_close(loud.at(noise), 8 * quiet.at(noise))


@likelihoods
@pytest.mark.parametrize("level", [0.0, 1e-3, 1.0, 40.0])
def test_silence_and_full_scale_score_with_finite_gradients_in_float32(likelihood, level):
    head = build(settings(likelihood), quantizer=Quantizer(3.0, 700.0)).float()
    previous = torch.full((1, 6), level)
    frames = head.observe(level * torch.tensor([[1.0, 1, -1, 1, 1, -1]]))
    log_prob = head.step(torch.zeros(1, CONDITION_SIZE), previous).log_prob(frames)
    log_prob.sum().backward()
    assert torch.isfinite(log_prob).all()
    assert all(torch.isfinite(parameter.grad).all() for parameter in head.parameters())


# Draws


@pytest.mark.parametrize("likelihood", [name for name in LIKELIHOODS if name != "mulaw"])
def test_draws_have_the_first_two_moments_of_the_density_that_scores_them(likelihood):
    """E[f log p] can be had by drawing from another density and weighing: both must agree."""
    head = build(settings(likelihood, window=2), frame_size=2, quantizer=Quantizer(0.0, 50.0))
    torch.manual_seed(6)
    n = 60_000
    condition = torch.zeros(1, CONDITION_SIZE, dtype=torch.float64)
    density = head.step(condition.expand(n, -1), torch.tensor([[0.3, -0.2]], dtype=torch.float64).expand(n, -1))
    with torch.no_grad():
        drawn = density.at(torch.randn(n, head.noise_size, dtype=torch.float64))
        spread = 2 * drawn.std(0)
        wide = torch.distributions.StudentT(3.0, drawn.mean(0), spread)
        proposed = head.observe(wide.sample((n,)))
        weights = torch.exp(density.log_prob(proposed) - wide.log_prob(proposed).sum(-1))
    assert weights.mean().item() == pytest.approx(1, abs=5 * weights.std().item() / math.sqrt(n))
    for values in (lambda x: x[:, 0], lambda x: x[:, 1], lambda x: x[:, 0] * x[:, 1], lambda x: x[:, 1].square()):
        ours, theirs = values(drawn), weights * values(proposed)
        error = math.sqrt((ours.var().item() + theirs.var().item()) / n)
        assert ours.mean().item() == pytest.approx(theirs.mean().item(), abs=5 * error)


@likelihoods
def test_at_temperature_zero_each_sample_is_the_most_probable_given_those_before_it(likelihood):
    head = build(settings(likelihood), quantizer=Quantizer(3.0, 700.0))
    density = density_of(head, 4)
    drawn = density.at(torch.randn(4, head.noise_size, dtype=torch.float64), temperature=0.0)
    torch.testing.assert_close(density.at(torch.randn(4, head.noise_size, dtype=torch.float64), 0.0), drawn)
    window = torch.cat([density.previous_samples, drawn], -1)[:, 3:-3]  # before the frame's fourth sample
    predicted = head.density(window[:, -4:].unsqueeze(-2), density.adaptation, density.grid)
    expected = predicted.at(torch.zeros(4, 1, head.likelihood.noise_size, dtype=torch.float64), 0.0)
    torch.testing.assert_close(drawn[:, 3], expected.flatten())


# Scoring a part of the samples in training


def test_in_training_one_sample_in_so_many_is_scored_without_bias_and_in_scoring_every_one():
    head = build(settings(stride=3))
    density, frames = density_of(head, 2), torch.randn(2, 6, dtype=torch.float64)
    head.eval()
    exact = density.log_prob(frames)
    torch.testing.assert_close(exact, one_by_one(density, frames).sum(-1))
    head.train()
    estimates = []
    for seed in range(40):
        torch.manual_seed(seed)
        estimates.append(density.log_prob(frames))
    different = torch.unique(torch.stack(estimates), dim=0)
    assert len(different) == 3
    torch.testing.assert_close(different.mean(0), exact)


# Mistakes


@pytest.mark.parametrize(
    ("setting", "value", "said"),
    [
        ("head_window", 1, r"head_window is 1; it must be at least 2"),
        ("head_stride", 3, r"head_stride is 3; it must divide the frame size, 10"),
        ("head_stride", 0, r"head_stride is 0; it must be at least 1"),
        ("head_size", 0, r"head_size is 0; it must be at least 1"),
    ],
)
def test_a_window_or_stride_that_a_frame_does_not_hold_is_a_users_mistake(setting, value, said):
    sizes = {"head_window": 4, setting: value}
    with pytest.raises(UserError, match=said):
        build_model(SampleARConfig(**sizes), 10, Quantizer())


@pytest.mark.parametrize("window", [10, 11, 35])
def test_a_window_may_be_longer_than_a_frame(window):
    model = build_model(SampleARConfig(head_window=window), 10, Quantizer())
    assert model.past == model.output.past == window - 10


@likelihoods
@given(
    lanes=st.integers(1, 5),
    window=st.integers(2, 15),
    min_deviation=st.sampled_from([0.0, 0.001]),
    temperature=st.floats(0, 2),
    conditioned=st.booleans(),
    seed=st.integers(0, 99),
)
@hypothesis.settings(max_examples=25)
def test_the_compiled_loop_draws_what_the_operators_do(
    likelihood, lanes, window, min_deviation, temperature, conditioned, seed
):
    config = dataclasses.replace(settings(likelihood, window), min_deviation=min_deviation)
    head = build(config, quantizer=Quantizer(3.0, 700.0), condition_size=CONDITION_SIZE if conditioned else 0)
    torch.manual_seed(seed)
    previous = torch.randn(lanes, head.past + head.frame_size, dtype=torch.float64)
    noise = torch.randn(lanes, head.noise_size, dtype=torch.float64)
    condition = torch.randn(lanes, CONDITION_SIZE if conditioned else 0, dtype=torch.float64)
    with torch.no_grad():
        density = head.step(condition, previous)
        drawn = density.at(noise, temperature)
        head.compiled = False
        torch.testing.assert_close(drawn, density.at(noise, temperature), rtol=1e-9, atol=1e-9)


@likelihoods
def test_a_lane_of_the_compiled_loop_is_the_same_alone_and_beside_others(likelihood):
    head = build(settings(likelihood)).float()
    noise = torch.randn(2, 3, head.noise_size)
    with torch.inference_mode():
        density = head.step(torch.randn(2, 3, CONDITION_SIZE), torch.randn(2, 3, head.frame_size))
        together = density.at(noise)
        gain, shift = density.adaptation
        alone_density = AutoregressiveFrame(
            head,
            (gain[1, 2], shift[1, 2]),
            None if density.grid is None else density.grid[1, 2],
            density.previous_samples[1, 2],
        )
        alone = alone_density.at(noise[1, 2])
    assert together.shape == (2, 3, head.frame_size)
    assert together.dtype == torch.float32
    assert torch.equal(together[1, 2], alone)


@likelihoods
def test_the_compiled_loop_hides_no_draw_that_diverged(likelihood):
    head = build(settings(likelihood))
    with torch.no_grad():
        drawn = head.step(torch.full((1, CONDITION_SIZE), float("nan")).double(), torch.randn(1, 6).double()).at(
            torch.zeros(1, head.noise_size).double()
        )
    assert drawn.isnan().all()
