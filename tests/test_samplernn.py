"""SampleRNN: its equations, that nothing hears what comes after it, its draws, and its compiled loop."""

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from equations import linear, log_normal, sigmoid, torch_lstm, weights_of
from small_runs import assert_same_weights, run_here, small_run, small_shards
from tiny_models import LIKELIHOODS, observed_by
from torch import Tensor

from zfaudio.config import SampleRNNConfig
from zfaudio.distributions import Quantizer
from zfaudio.errors import UserError
from zfaudio.models.bounds import BOUNDS, LOUDEST, LOUDEST_SAMPLE, MOST, SLOPE
from zfaudio.models.checks import check_model, random_model
from zfaudio.models.samplernn import SampleRNN, SampleRNNFrame
from zfaudio.ops import samplernn_loop
from zfaudio.ops.sample_draw import SampleLikelihood

FRAME_SIZE, STEP, STEPS = 8, 4, 2
QUANTIZER = Quantizer(3.0, 700.0)

likelihoods = pytest.mark.parametrize("likelihood", LIKELIHOODS)


def settings(likelihood: str = "gaussian", **changed: int | float) -> SampleRNNConfig:
    sizes = {"hidden_size": 5, "embedding_size": 4, "middle_step": STEP, "middle_size": 3, "components": 2}
    return SampleRNNConfig(likelihood=likelihood, **{**sizes, "sample_window": 5, "sample_size": 6, **changed})


def build(likelihood: str = "gaussian", **changed: int | float) -> SampleRNN:
    return random_model(settings(likelihood, **changed), FRAME_SIZE, observed_by(likelihood, QUANTIZER)).eval()


def frames_of(*shape: int) -> Tensor:
    return QUANTIZER.round(torch.randn(*shape, FRAME_SIZE, dtype=torch.float64))


def density_of(model: SampleRNN, batch: int = 3) -> SampleRNNFrame:
    """After two frames, so that no part of the state is zero."""
    torch.manual_seed(1)
    state, dtype = model.initial_state(batch), model.embed.weight.dtype
    for frame in frames_of(2, batch).to(dtype):
        density, state = model.step(frame, state)
    return density


# Equations


def level_of(samples: np.ndarray) -> float:
    return np.sqrt(np.mean(samples**2) + QUANTIZER.step**2)


def compand(samples: np.ndarray) -> np.ndarray:
    return np.arcsinh(10 * np.clip(samples, -LOUDEST_SAMPLE, LOUDEST_SAMPLE))


def describe(samples: np.ndarray) -> np.ndarray:
    level = level_of(samples)
    return np.concatenate([samples / level, compand(samples), [np.log(min(level, LOUDEST))]])


def leaky_relu(values: np.ndarray) -> np.ndarray:
    return np.where(values > 0, values, SLOPE * values)


def log_probability(w: dict[str, np.ndarray], window: np.ndarray, told: np.ndarray, sample: float) -> float:
    """log p of a sample after the window, under the sample tier."""
    changes, last = np.diff(window), window[-1]
    level = level_of(changes)
    unit = min(level, LOUDEST)
    others = [np.log(unit), np.log(level_of(window) / level), compand(last), np.arcsinh(last / unit)]
    heard = np.concatenate([np.arcsinh(changes / unit), others])
    units = leaky_relu(linear(w, "tier.inner", leaky_relu(linear(w, "tier.filters", heard) + told)))
    outputs = linear(w, "tier.outer", units) + w["tier.linear.weight"] @ heard
    mean, log_variance = MOST * np.tanh(outputs / MOST)
    deviation = np.hypot(unit * np.exp(log_variance / 2), 0.001)
    return log_normal(np.array([sample]), np.array([last + mean * unit]), np.array([2 * np.log(deviation)]))


def test_scores_are_those_of_the_equations():
    model = build()
    frames = frames_of(1, 6)
    scores = model(frames, torch.tensor([6])).log_likelihood[0].detach().numpy()
    w, h, c, m = weights_of(model), np.zeros(5), np.zeros(5), np.zeros(3)
    signal = np.concatenate([np.zeros(STEP), frames.numpy().ravel()])
    for t in range(6):
        score = 0.0
        for j in range(STEPS):
            start = STEP + t * FRAME_SIZE + j * STEP
            told = w["to_steps.weight"].reshape(STEPS, 3, 5)[j] @ h
            gates = linear(w, "gru.input", linear(w, "read", describe(signal[start - STEP : start])) + told)
            recurrent = linear(w, "gru.recurrent", m)
            reset, update = sigmoid(gates[:3] + recurrent[:3]), sigmoid(gates[3:6] + recurrent[3:6])
            m = update * m + (1 - update) * np.tanh(gates[6:] + reset * recurrent[6:])
            for k, told in enumerate(w["tier.to_samples.weight"].reshape(STEP, 6, 3) @ m):
                if t > 0:
                    score += log_probability(w, signal[start + k - 5 : start + k], told, signal[start + k])
        if t > 0:
            assert scores[t - 1] == pytest.approx(score, rel=1e-10)
        h, c = torch_lstm(w, "lstm", linear(w, "embed", describe(frames[0, t].numpy())), h, c)


@likelihoods
@pytest.mark.parametrize("sizes", [{"sample_window": 19}, {"middle_step": 8, "sample_window": 2}, {"core": "plain"}])
def test_every_check_of_a_model_holds_at_other_sizes(likelihood, sizes):
    check_model(settings(likelihood, **sizes), FRAME_SIZE)


# Densities and draws


def test_a_sample_follows_from_the_noise_up_to_its_own_and_so_follows_the_density_of_the_frame():
    """A draw maps noise to samples one by one; the log-density of the frame must follow from these maps."""
    density = density_of(build())
    noise = torch.randn(3, FRAME_SIZE, dtype=torch.float64)
    slopes = torch.autograd.functional.jacobian(density.at, noise)  # [3, samples, 3, noise]
    for row in range(3):
        own = slopes[row, :, row]
        assert (own.triu(1) == 0).all()
        assert (own.tril() != 0).sum() > FRAME_SIZE
        expected = (-0.5 * noise[row].square() - 0.5 * np.log(2 * np.pi) - own.diagonal().log()).sum()
        torch.testing.assert_close(density.log_prob(density.at(noise))[row], expected)


@likelihoods
def test_in_training_one_sample_in_so_many_is_scored_without_bias(likelihood):
    model = build(likelihood, sample_stride=2)
    frames, lengths = frames_of(2, 5), torch.tensor([5, 5])
    exact = model(frames, lengths).log_likelihood
    model.train()
    torch.manual_seed(0)
    estimates = torch.stack([model(frames, lengths).log_likelihood for _ in range(16)])
    assert len(estimates[:, 0, 0].unique()) == 2
    torch.testing.assert_close((estimates.amin(0) + estimates.amax(0)) / 2, exact)


def test_the_state_of_the_middle_tier_crosses_frames():
    model = build()
    frame, state = frames_of(1), list(model.initial_state(1))
    before, _ = model.step(frame, tuple(state))
    state[2] = state[2] + 1
    after, _ = model.step(frame, tuple(state))
    assert not torch.equal(before.log_prob(frame), after.log_prob(frame))


def test_a_voice_that_speaks_to_itself_does_not_grow_without_limit():
    model = build().float()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(30)
        assert torch.isfinite(density_of(model).at(torch.randn(3, FRAME_SIZE))).all()


@pytest.mark.parametrize("level", [0.0, 1e-4, 40.0])
def test_silence_and_full_scale_score_with_finite_gradients_in_float32(level):
    model = build("logistic_mixture").float()
    frames = QUANTIZER.round((level * torch.randn(2, 5, FRAME_SIZE)).clamp(-46, 46))
    scored = model(frames, torch.tensor([5, 5])).log_likelihood
    scored.sum().backward()
    assert torch.isfinite(scored).all()
    assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters())


def test_training_carries_its_state_on_and_resumes_with_it(tmp_path):
    shards = small_shards(tmp_path)
    sizes = {"middle_step": 5, "middle_size": 6, "sample_size": 8, "sample_stride": 5}
    options = {f"model__{name}": value for name, value in sizes.items()} | {"train__save_every": 100}
    runs = {
        name: run_here(small_run(shards, "samplernn", **options, train__max_steps=steps), tmp_path / exp, resume)
        for name, steps, exp, resume in (("whole", 8, "a", False), ("part", 5, "b", False), ("resumed", 8, "b", True))
    }
    assert_same_weights(tmp_path / "a", tmp_path / "b")
    assert len(runs["whole"].state) == 4
    assert all(map(torch.equal, runs["whole"].state, runs["resumed"].state))
    assert all((part != 0).any() for part in runs["whole"].state)


# The compiled loop


@likelihoods
@hypothesis.given(
    lanes=st.integers(1, 3),
    window=st.integers(2, 12),
    rate=st.sampled_from([1, 2, 4, 8]),
    min_deviation=st.sampled_from([0.0, 0.01]),
    temperature=st.sampled_from([0.0, 0.5, 1.0]),
    seed=st.integers(0, 99),
)
@hypothesis.settings(max_examples=15, deadline=None)
def test_the_compiled_loop_draws_what_the_operators_do(
    likelihood, lanes, window, rate, min_deviation, temperature, seed
):
    model = build(likelihood, sample_window=window, middle_step=rate, min_deviation=min_deviation)
    torch.manual_seed(seed)
    noise = torch.randn(lanes, model.frame_noise_size, dtype=torch.float64)
    with torch.no_grad():
        density = density_of(model, lanes)
        drawn = density.at(noise, temperature)
        model.compiled = False
        torch.testing.assert_close(drawn, density.at(noise, temperature), rtol=1e-9, atol=1e-9)


@likelihoods
def test_a_lane_of_the_compiled_loop_is_the_same_alone_and_beside_others(likelihood):
    model = build(likelihood).float()
    noise = torch.randn(3, model.frame_noise_size)
    with torch.inference_mode():
        density = density_of(model)
        together = density.at(noise)
        grid = None if density.grid is None else density.grid[1:2]
        own = density.told[1:2], density.middle[1:2], grid, density.previous_samples[1:2]
        alone = SampleRNNFrame(model, *own).at(noise[1:2])
    assert together.dtype == torch.float32
    assert torch.equal(together[1:2], alone)


@likelihoods
def test_the_compiled_loop_hides_no_draw_that_diverged(likelihood):
    model = build(likelihood)
    with torch.no_grad():
        density = density_of(model)
        density.told[:, 1] = float("nan")
        drawn = density.at(torch.zeros(3, model.frame_noise_size, dtype=torch.float64))
    assert drawn[:, :STEP].isfinite().all()
    assert drawn[:, STEP:].isnan().all()


@pytest.mark.parametrize("name", [*samplernn_loop.Weights._fields, "window", "told", "middle", "noise"])
def test_the_compiled_loop_refuses_arrays_that_do_not_fit_together(name):
    model = build()
    tier = model.tier
    weights = samplernn_loop.weights_of(
        model.read, model.gru, tier.to_samples, tier.filters, tier.inner, tier.outer, tier.linear
    )
    density = density_of(model)
    arguments = {"window": 5, "told": density.told, "middle": density.middle, "noise": torch.zeros(3, FRAME_SIZE, 1)}
    if name == "window":
        arguments[name] = 6
    elif name in arguments:
        arguments[name] = arguments[name][:, :-1]
    else:
        weights = weights._replace(**{name: np.ascontiguousarray(getattr(weights, name)[:-1])})
    with pytest.raises(ValueError, match="do not fit together"), torch.no_grad():
        samplernn_loop.draw_samples(
            weights,
            bounds=BOUNDS,
            likelihood=SampleLikelihood("gaussian", 1, 0.0, 1.0, 3.0, 700.0),
            previous_samples=density.previous_samples,
            grid=None,
            temperature=1.0,
            **arguments,
        )


@pytest.mark.parametrize(
    ("setting", "value", "said"),
    [
        ("middle_step", 3, "middle_step is 3; it must divide the frame size, 8"),
        ("sample_stride", 3, "sample_stride is 3; it must divide model.middle_step, 4"),
    ],
)
def test_rates_that_do_not_fit_together_are_a_users_mistake(setting, value, said):
    with pytest.raises(UserError, match=said):
        build(**{setting: value})
