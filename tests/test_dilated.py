"""The dilated head and WaveNet: the equations, how far they hear, that nothing hears what comes after it, and draws."""

import dataclasses
import functools
import math

import hypothesis
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_models import LIKELIHOODS, observed_by
from torch import Tensor

from zfaudio.config import FrameDensityConfig, WaveNetConfig
from zfaudio.distributions import Quantizer
from zfaudio.errors import UserError
from zfaudio.models import build_model
from zfaudio.models.bounds import BOUNDS, LOUDEST, LOUDEST_SAMPLE, MOST, SLOPE
from zfaudio.models.dilated_head import DilatedFrame, DilatedHead
from zfaudio.ops import dilated_loop
from zfaudio.ops.sample_draw import SampleLikelihood

FRAME_SIZE, CONDITION_SIZE = 12, 5
WINDOW, DILATIONS, STACKS, CHANNELS = 5, 2, 2, 3
REACH = STACKS * (2**DILATIONS - 1)
QUANTIZER = Quantizer(3.0, 700.0)

likelihoods = pytest.mark.parametrize("likelihood", LIKELIHOODS)


def settings(likelihood: str = "logistic_mixture", **changed: int) -> FrameDensityConfig:
    sizes = {"head_window": WINDOW, "head_size": 6, "head_channels": CHANNELS}
    layers = {"head_dilations": DILATIONS, "head_stacks": STACKS}
    return FrameDensityConfig(
        head="dilated", likelihood=likelihood, components=2, min_deviation=0.0, **{**sizes, **layers, **changed}
    )


def build(config: FrameDensityConfig, condition_size: int = CONDITION_SIZE) -> DilatedHead:
    torch.manual_seed(0)
    head = DilatedHead(condition_size, FRAME_SIZE, config, observed_by(config.likelihood, QUANTIZER)).double().eval()
    for parameter in head.parameters():
        parameter.data.add_(0.1 * torch.randn_like(parameter))
    return head


def frames_like(*shape: int) -> Tensor:
    return QUANTIZER.round(torch.randn(*shape, FRAME_SIZE, dtype=torch.float64))


def density_of(head: DilatedHead, rows: int, condition_size: int = CONDITION_SIZE, seed: int = 1) -> DilatedFrame:
    torch.manual_seed(seed)
    samples = QUANTIZER.round(torch.randn(rows, head.past + FRAME_SIZE, dtype=torch.float64))
    return head.step(torch.randn(rows, condition_size, dtype=torch.float64), samples)


# The equations


def by_hand(head: DilatedHead, samples: np.ndarray, condition: np.ndarray) -> tuple[float, float]:
    """Mean and deviation of the Gaussian of the sample after samples [n], by the equations, in recursion."""

    def weights(layer: torch.nn.Linear) -> tuple[np.ndarray, np.ndarray]:
        bias = np.zeros(layer.out_features) if layer.bias is None else layer.bias.detach().numpy()
        return layer.weight.detach().numpy(), bias

    def apply(layer: torch.nn.Linear, values: np.ndarray) -> np.ndarray:
        weight, bias = weights(layer)
        return weight @ values + bias

    def changes(n: int) -> np.ndarray:
        return np.diff(samples[n + 1 - WINDOW : n + 1])

    def unit(n: int) -> float:
        return min(LOUDEST, math.sqrt((changes(n) ** 2).mean() + 1 / 700**2))

    @functools.cache
    def coming_in(layer: int, n: int) -> np.ndarray:
        if layer == 0:
            sample = np.arcsinh(10 * np.clip(samples[n], -LOUDEST_SAMPLE, LOUDEST_SAMPLE))
            return apply(head.enter, np.array([sample, np.arcsinh(changes(n)[-1] / unit(n)), np.log(unit(n))]))
        return coming_in(layer - 1, n) + apply(head.residual[layer - 1], gate(sums(layer - 1, n)))

    @functools.cache
    def sums(layer: int, n: int) -> np.ndarray:
        earlier = coming_in(layer, n - 2 ** (layer % DILATIONS))
        return apply(head.taps[layer], np.concatenate([earlier, coming_in(layer, n)]))

    def gate(values: np.ndarray) -> np.ndarray:
        return -np.tanh(values[:CHANNELS] / 2) / (1 + np.exp(-values[CHANNELS:]))

    def leaky(values: np.ndarray) -> np.ndarray:
        return np.where(values > 0, values, SLOPE * values)

    last = len(samples) - 1
    added = apply(head.condition, condition).reshape(STACKS * DILATIONS, 2 * CHANNELS)
    told = np.concatenate([gate(sums(layer, last) + added[layer]) for layer in range(STACKS * DILATIONS)])
    units = leaky(apply(head.inner, leaky(apply(head.skip, told))))
    parameters = apply(head.outer, units) + apply(head.linear, changes(last) / unit(last))
    mean, log_variance = MOST * np.tanh(parameters / MOST)
    return samples[last] + mean * unit(last), math.exp(0.5 * log_variance) * unit(last)


def test_the_density_of_a_sample_is_that_of_the_equations():
    head = build(settings("gaussian"))
    density = density_of(head, 1)
    noise = torch.randn(1, FRAME_SIZE, dtype=torch.float64)
    with torch.no_grad():
        frame = density.at(noise)[0].numpy()
    samples = np.concatenate([density.samples[0].numpy(), frame])
    score = 0.0
    for i in range(FRAME_SIZE):
        mean, deviation = by_hand(head, samples[i : head.heard + i], density.condition[0].numpy())
        assert frame[i] == pytest.approx(mean + deviation * noise[0, i].item())
        score += -0.5 * ((frame[i] - mean) / deviation) ** 2 - math.log(deviation) - 0.5 * math.log(2 * math.pi)
    assert density.log_prob(torch.from_numpy(frame)[None]).item() == pytest.approx(score)


@pytest.mark.parametrize("condition_size", [0, CONDITION_SIZE])
@likelihoods
def test_frames_of_a_sequence_score_and_draw_as_each_does_after_the_samples_before_it(likelihood, condition_size):
    head = build(settings(likelihood), condition_size)
    frames = head.observe(frames_like(2, 7))
    samples = torch.cat([torch.zeros(2, head.past, dtype=torch.float64), frames[:, :-1].flatten(1)], dim=1)
    condition = torch.randn(2, 6, condition_size, dtype=torch.float64)
    noise = torch.randn(2, 6, head.noise_size, dtype=torch.float64)
    together = head(condition, samples)
    scores, draws = together.log_prob(frames[:, 1:]), together.at(noise)
    for t in range(6):
        alone = head.step(condition[:, t], samples[:, t * FRAME_SIZE : head.past + (t + 1) * FRAME_SIZE])
        torch.testing.assert_close(alone.log_prob(frames[:, t + 1]), scores[:, t])
        torch.testing.assert_close(alone.at(noise[:, t]), draws[:, t])


@pytest.mark.parametrize("at_once", [1, 40, 100])
def test_what_is_scored_part_by_part_scores_as_the_whole(monkeypatch, at_once):
    head, frames = build(settings()), frames_like(3, 7)
    samples = torch.cat([torch.zeros(3, head.past, dtype=torch.float64), frames[:, :-1].flatten(1)], dim=1)
    density = head(torch.randn(3, 6, CONDITION_SIZE, dtype=torch.float64), samples)
    whole = density.log_prob(frames[:, 1:])
    monkeypatch.setattr("zfaudio.models.dilated_head.SAMPLES_AT_ONCE", {"cpu": at_once})
    torch.testing.assert_close(density.log_prob(frames[:, 1:]), whole)


@likelihoods
def test_in_training_one_sample_in_so_many_is_scored_without_bias(likelihood):
    head = build(settings(likelihood, head_stride=3))
    density, frames = density_of(head, 4), head.observe(frames_like(4))
    exact = density.log_prob(frames)
    head.train()
    torch.manual_seed(0)
    estimates = torch.unique(torch.stack([density.log_prob(frames) for _ in range(40)]), dim=0)
    assert len(estimates) == 3
    torch.testing.assert_close(estimates.mean(0), exact)


# How far it hears


def test_wavenet_hears_a_thousand_samples_with_ten_dilations():
    model = build_model(WaveNetConfig(head_window=32), 100, Quantizer())
    assert model.past == 1023 + 32 - 100
    assert [part.shape for part in model.initial_state(2)] == [(2, model.past)]


@pytest.mark.parametrize("place", range(-3, 3))
def test_a_sample_hears_as_far_back_as_the_dilations_reach_and_no_further(place):
    """The first sample of the frame; `place` counts from the earliest sample that it hears."""
    torch.manual_seed(2)
    head = build(settings("gaussian"))
    assert head.heard == REACH + WINDOW
    samples = torch.randn(1, 3 + head.heard, dtype=torch.float64, requires_grad=True)
    density = DilatedFrame(head, torch.randn(1, CONDITION_SIZE).double(), None, samples[:, 3:])
    mean = density.at(torch.zeros(1, FRAME_SIZE, dtype=torch.float64))[0, 0]
    (gradient,) = torch.autograd.grad(mean, samples)
    assert (gradient[0, 3 + place] != 0) == (place >= 0)


@likelihoods
@pytest.mark.parametrize("place", [0, 3, 11])
def test_a_sample_moves_no_draw_of_an_earlier_one(likelihood, place):
    head = build(settings(likelihood))
    density = density_of(head, 1)
    noise = torch.randn(1, head.noise_size, dtype=torch.float64)
    changed = noise.unflatten(1, (FRAME_SIZE, -1)).clone()
    changed[:, place] += 1
    before, after = density.at(noise)[0], density.at(changed.flatten(1))[0]
    assert torch.equal(before[:place], after[:place])
    assert before[place] != after[place]


def test_a_draw_scores_by_the_change_of_variables():
    """log p(x) = log N(noise) - log |dx / dnoise|, the derivative a triangle."""
    head = build(settings("gaussian"))
    density = density_of(head, 1)
    noise = torch.randn(1, FRAME_SIZE, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(density.at, noise)[0, :, 0]
    assert (jacobian.triu(1) == 0).all()
    gaussian = -0.5 * (noise.square() + math.log(2 * math.pi)).sum()
    torch.testing.assert_close(density.log_prob(density.at(noise))[0], gaussian - jacobian.diagonal().log().sum())


def test_every_sample_depends_on_the_condition():
    head = build(settings("gaussian"))
    density = density_of(head, 1)
    noise = torch.zeros(1, FRAME_SIZE, dtype=torch.float64)
    other = dataclasses.replace(density, condition=density.condition + 1)
    assert (density.at(noise) != other.at(noise)).all()


# Bounds


def test_a_head_that_speaks_to_itself_does_not_grow_without_limit():
    head = build(settings("gaussian")).float()
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.mul_(30)
        density = head.step(torch.randn(2, CONDITION_SIZE), torch.randn(2, head.past + FRAME_SIZE))
        assert torch.isfinite(density.at(torch.zeros(2, head.noise_size))).all()
        assert density.at(torch.zeros(2, head.noise_size)).abs().max() < FRAME_SIZE * MOST * LOUDEST + 5


@pytest.mark.parametrize("level", [0.0, 1e-4, 40.0])
def test_silence_and_full_scale_score_with_finite_gradients_in_float32(level):
    head = build(settings()).float()
    samples = QUANTIZER.round((level * torch.randn(2, head.past + FRAME_SIZE)).clamp(-46, 46))
    scored = head.step(torch.zeros(2, CONDITION_SIZE), samples).log_prob(samples[:, -FRAME_SIZE:])
    scored.sum().backward()
    assert torch.isfinite(scored).all()
    assert all(torch.isfinite(parameter.grad).all() for parameter in head.parameters())


# The compiled loop


@likelihoods
@given(
    lanes=st.integers(1, 3),
    window=st.sampled_from([2, 5, 40]),
    dilations=st.integers(1, 5),
    stacks=st.integers(1, 2),
    conditioned=st.booleans(),
    temperature=st.floats(0, 2),
    seed=st.integers(0, 99),
)
@hypothesis.settings(max_examples=25, deadline=None)
def test_the_compiled_loop_draws_what_the_operators_do(
    likelihood, lanes, window, dilations, stacks, conditioned, temperature, seed
):
    size = CONDITION_SIZE if conditioned else 0
    sizes = {"head_window": window, "head_dilations": dilations, "head_stacks": stacks}
    head = build(settings(likelihood, **sizes), size)
    density = density_of(head, lanes, size, seed)
    noise = torch.randn(lanes, head.noise_size, dtype=torch.float64)
    with torch.no_grad():
        drawn = density.at(noise, temperature)
        head.compiled = False
        torch.testing.assert_close(drawn, density.at(noise, temperature), rtol=1e-9, atol=1e-9)


@likelihoods
@pytest.mark.parametrize("level", [0.0, 0.3, 46.0])
def test_they_draw_the_same_after_silence_and_at_full_scale(likelihood, level):
    head = build(settings(likelihood))
    torch.manual_seed(2)
    samples = QUANTIZER.round(torch.full((2, head.past + FRAME_SIZE), level, dtype=torch.float64))
    samples[1] *= torch.sign(torch.randn(head.past + FRAME_SIZE))
    density = head.step(torch.randn(2, CONDITION_SIZE).double(), samples)
    noise = torch.randn(2, head.noise_size, dtype=torch.float64)
    with torch.no_grad():
        drawn = density.at(noise)
        head.compiled = False
        torch.testing.assert_close(drawn, density.at(noise), rtol=1e-9, atol=1e-9)


@likelihoods
def test_a_lane_of_the_compiled_loop_is_the_same_alone_and_beside_others(likelihood):
    head = build(settings(likelihood, head_channels=16, head_dilations=6)).float()
    noise = torch.randn(5, head.noise_size)
    with torch.inference_mode():
        density = head.step(torch.randn(5, CONDITION_SIZE), torch.randn(5, head.past + FRAME_SIZE))
        grid = None if density.grid is None else density.grid[3:4]
        alone = DilatedFrame(head, density.condition[3:4], grid, density.samples[3:4])
        # The product with the condition may be rounded differently for another number of rows.
        head.condition.weight.zero_()
        together = density.at(noise)
        assert together.dtype == torch.float32
        assert torch.equal(together[3:4], alone.at(noise[3:4]))


@likelihoods
def test_the_compiled_loop_hides_no_draw_that_diverged(likelihood):
    head = build(settings(likelihood))
    density = density_of(head, 2)
    density.condition[0, 0] = float("nan")
    density.samples[1, -1] = float("nan")
    with torch.no_grad():
        assert density.at(torch.zeros(2, head.noise_size).double()).isnan().all()


@pytest.mark.parametrize("name", [*dilated_loop.DilatedWeights._fields, "window", "memory", "layers", "condition"])
def test_the_compiled_loop_refuses_arrays_that_do_not_fit_together(name):
    head = build(settings("gaussian"))
    density = density_of(head, 3)
    with torch.no_grad():
        weights = dilated_loop.dilated_weights(
            head.enter, list(head.taps), list(head.residual), head.skip, head.inner, head.outer, head.linear
        )
        arguments = {
            "window": WINDOW,
            "memory": head.remember(density.samples),
            "condition": head.condition(density.condition),
        }
    if name == "window":
        arguments["window"] = WINDOW - 1
    elif name == "memory":
        arguments["memory"] = [part[..., :-1] for part in arguments["memory"]]
    elif name == "layers":
        arguments["memory"] = arguments["memory"][:-1]
    elif name == "condition":
        arguments["condition"] = arguments["condition"][:, :-1]
    else:
        weights = weights._replace(**{name: np.ascontiguousarray(getattr(weights, name)[:-1])})
    with pytest.raises(ValueError, match="do not fit together"):
        dilated_loop.draw_samples(
            weights,
            bounds=BOUNDS,
            likelihood=SampleLikelihood("gaussian", 1, 0.0, 1.0, 3.0, 700.0),
            previous_samples=density.samples,
            grid=None,
            noise=torch.zeros(3, FRAME_SIZE, 1),
            temperature=1.0,
            **arguments,
        )


# Mistakes


def test_a_stride_that_does_not_divide_the_frame_is_a_users_mistake():
    with pytest.raises(UserError, match=r"head_stride is 5; it must divide the frame size, 12"):
        build(settings(head_stride=5))


@pytest.mark.parametrize("head", ["factorized", "tiered"])
def test_wavenet_with_another_head_is_a_users_mistake(head):
    with pytest.raises(
        UserError, match=rf"model\.head is {head}; wavenet is a head by itself.*set model\.head dilated"
    ):
        WaveNetConfig(head=head)
