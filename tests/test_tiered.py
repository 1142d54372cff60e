"""The tiered head: what it hears, that it is a density, and that it cannot see the sample that it predicts."""

import numpy as np
import pytest
import torch
from tiny_models import LIKELIHOODS, observed_by
from torch import Tensor

from zfaudio.config import FrameDensityConfig
from zfaudio.distributions import Quantizer
from zfaudio.errors import UserError
from zfaudio.models.tiered_head import TieredFrame, TieredHead, around_lag
from zfaudio.ops.linear_prediction import predictions
from zfaudio.ops.pitch_lag import pitch_lag

FRAME_SIZE, CONDITION_SIZE = 12, 5
QUANTIZER = Quantizer(3.0, 700.0)

likelihoods = pytest.mark.parametrize("likelihood", LIKELIHOODS)


def settings(likelihood: str = "logistic_mixture", **changed: int) -> FrameDensityConfig:
    sizes = {"head_window": 5, "head_size": 6, "head_tier": 4, "head_tier_window": 20, "head_tier_size": 7}
    return FrameDensityConfig(
        head="tiered", likelihood=likelihood, components=2, **{**sizes, "head_lags": 2, "head_order": 3, **changed}
    )


def build(config: FrameDensityConfig, condition_size: int = CONDITION_SIZE) -> TieredHead:
    torch.manual_seed(0)
    head = TieredHead(condition_size, FRAME_SIZE, config, observed_by(config.likelihood, QUANTIZER)).double().eval()
    for parameter in head.parameters():
        parameter.data.add_(0.1 * torch.randn_like(parameter))
    return head


def density_of(head: TieredHead, *shape: int) -> TieredFrame:
    torch.manual_seed(1)
    samples = head.observe(torch.randn(*shape, head.past + FRAME_SIZE, dtype=torch.float64))
    return head.step(torch.randn(*shape, CONDITION_SIZE, dtype=torch.float64), samples)


def frame_like(*shape: int) -> Tensor:
    return QUANTIZER.round(torch.randn(*shape, FRAME_SIZE, dtype=torch.float64))


@pytest.mark.parametrize("period", [20, 37.3, 80, 131.7])
def test_the_lag_of_a_voice_is_its_pitch_period(period):
    times = np.arange(320)
    voice = sum(np.cos(2 * np.pi * k * times / period + k) / k for k in range(1, 5))
    lag, strength = pitch_lag(torch.from_numpy(voice)[None], shortest=20)
    multiple = max(1, round(lag.item() / period))
    assert lag.item() == pytest.approx(multiple * period, abs=1)
    assert strength.item() > 0.95


def test_lag_and_strength_are_those_of_the_largest_correlation():
    torch.manual_seed(0)
    windows = torch.randn(6, 20, dtype=torch.float64)
    lag, strength = pitch_lag(windows, shortest=3)
    for window, own_lag, own_strength in zip(windows.numpy(), lag, strength, strict=True):
        recent = window[10:]
        likeness = {k: recent @ window[10 - k : 20 - k] for k in range(3, 11)}
        for k, product in likeness.items():
            before = window[10 - k : 20 - k]
            likeness[k] = product / np.sqrt((before @ before) * (recent @ recent) + 1e-6)
        assert own_lag.item() == max(likeness, key=likeness.get)
        assert own_strength.item() == pytest.approx(max(likeness.values()))


def test_silence_is_like_nothing():
    _, strength = pitch_lag(1e-5 * torch.randn(3, 320), shortest=20)
    assert (strength.abs() < 0.01).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("value", [0.0, 0.004, -0.3, 1.7])
def test_of_lags_that_are_equally_like_the_shortest_is_taken(value, dtype):
    lag, _ = pitch_lag(torch.full((3, 320), value, dtype=dtype), shortest=20)
    assert lag.flatten().tolist() == [20, 20, 20]


def test_the_samples_around_the_lag_are_found():
    samples = torch.arange(30.0).expand(2, 30)
    found = around_lag(samples, torch.tensor([20, 25]), torch.tensor([[8], [10]]), lags=1)
    assert found.tolist() == [[[11, 12, 13], [16, 17, 18]], [[9, 10, 11], [14, 15, 16]]]


@likelihoods
@pytest.mark.parametrize("lags", [0, 2])
def test_a_frames_density_is_the_product_of_those_that_draw_its_samples(likelihood, lags):
    """A draw maps noise to samples one by one; the log-density of the frame must follow from these maps."""
    head = build(settings(likelihood, head_lags=lags))
    density = density_of(head, 3)
    noise = torch.randn(3, head.noise_size, dtype=torch.float64)
    frame = density.at(noise)
    if likelihood == "gaussian":  # the change of variables, x_i = mean + deviation * noise_i
        jacobian = torch.autograd.functional.jacobian(density.at, noise)
        slopes = torch.stack([jacobian[row, :, row].diagonal() for row in range(3)])
        expected = (-0.5 * noise.square() - 0.5 * np.log(2 * np.pi) - slopes.log()).sum(-1)
        torch.testing.assert_close(density.log_prob(frame), expected)
    assert torch.isfinite(density.log_prob(frame)).all()


@likelihoods
@pytest.mark.parametrize("place", [0, 3, 4, 7, 11])
def test_a_sample_moves_its_own_score_and_later_ones_only(likelihood, place):
    head = build(settings(likelihood))
    density, frame = density_of(head, 1), head.observe(frame_like(1))
    changed = frame.clone()
    changed[0, place] += 50 * QUANTIZER.step
    changed = head.observe(changed)
    samples = [torch.cat([density.previous_samples, values], dim=-1) for values in (frame, changed)]
    ours, theirs = ([score(head, density, values, i).item() for i in range(FRAME_SIZE)] for values in samples)
    assert ours[:place] == theirs[:place]
    assert ours[place] != theirs[place]
    assert sum(ours) == pytest.approx(density.log_prob(frame).item())


def score(head: TieredHead, density: TieredFrame, samples: Tensor, place: int) -> Tensor:
    """log p of one sample of a frame given those before it, computed from nothing else: [1]."""
    first = place // head.tier * head.tier
    middle = head.hear(samples[:, first : first + head.heard], density.condition)
    before = samples[:, : head.heard + place]
    padded = torch.cat([before, before[:, :1]], dim=1)  # the sample to predict is not looked at
    predicted = predictions(padded, middle.coefficients)
    residuals = (padded[:, head.order :] - predicted)[:, :-1]
    periods = around_lag(residuals, torch.tensor([residuals.shape[1]]), middle.lag, head.lags)
    density_of_sample = head.density(
        predicted[:, -1:].unsqueeze(-1), residuals[:, -head.window :].unsqueeze(-2), periods, middle, density.grid
    )
    target = samples[:, head.heard + place, None, None]
    return density_of_sample.log_prob(target).sum()


@pytest.mark.parametrize("condition_size", [0, CONDITION_SIZE])
def test_frames_of_a_sequence_score_as_each_does_after_the_samples_before_it(condition_size):
    head = build(settings(), condition_size)
    samples, frames = frame_like(2, 6).flatten(1), frame_like(2, 6)
    samples = torch.cat([samples.new_zeros(2, head.past), samples], dim=1)
    condition = torch.randn(2, 6, condition_size, dtype=torch.float64)
    together = head(condition, samples).log_prob(frames)
    for t in range(6):
        before = samples[:, t * FRAME_SIZE : head.past + (t + 1) * FRAME_SIZE]
        torch.testing.assert_close(head.step(condition[:, t], before).log_prob(frames[:, t]), together[:, t])


def test_in_training_one_sample_in_so_many_is_scored_without_bias():
    head = build(settings(head_stride=2))
    density, frames = density_of(head, 4), frame_like(4)
    exact = density.log_prob(frames)
    head.train()
    torch.manual_seed(0)
    estimates = torch.stack([density.log_prob(frames) for _ in range(64)])
    assert len(estimates[:, 0].unique()) == 2
    torch.testing.assert_close((estimates.amin(0) + estimates.amax(0)) / 2, exact)


def test_in_training_what_is_heard_is_too_loud_or_too_quiet_and_what_is_scored_is_not():
    head = build(settings("gaussian", head_jitter=0.05))
    density, frames = density_of(head, 4), frame_like(4)
    exact = density.log_prob(frames)
    head.train()
    torch.manual_seed(0)
    gains = torch.exp(0.05 * torch.randn(4, 1, dtype=torch.float64))
    torch.manual_seed(0)
    jittered = density.log_prob(frames)
    assert (jittered != exact).all()
    heard = torch.cat([density.previous_samples, frames], dim=-1) * gains
    louder = TieredFrame(head, density.condition, density.grid, heard[:, : head.heard])
    head.eval()
    at_gain = louder.log_prob(heard[:, head.heard :])
    assert not torch.allclose(jittered, at_gain)  # these targets are louder, too
    samples, every = torch.cat([density.previous_samples, frames], dim=-1), torch.arange(head.tier)
    torch.testing.assert_close(jittered, density._score(samples, heard, density.condition, density.grid, every))


def test_a_head_that_speaks_to_itself_does_not_grow_without_limit():
    head = build(settings("gaussian")).float()
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.mul_(30)
        density = head.step(torch.randn(2, CONDITION_SIZE), torch.randn(2, head.past + FRAME_SIZE))
        assert torch.isfinite(density.at(torch.randn(2, head.noise_size))).all()


@pytest.mark.parametrize("level", [0.0, 1e-4, 40.0])
def test_silence_and_full_scale_score_with_finite_gradients_in_float32(level):
    head = build(settings()).float()
    samples = QUANTIZER.round((level * torch.randn(2, head.past + FRAME_SIZE)).clamp(-46, 46))
    scored = head.step(torch.zeros(2, CONDITION_SIZE), samples).log_prob(samples[:, -FRAME_SIZE:])
    scored.sum().backward()
    assert torch.isfinite(scored).all()
    assert all(torch.isfinite(parameter.grad).all() for parameter in head.parameters() if parameter.grad is not None)


@pytest.mark.parametrize(
    ("setting", "value", "said"),
    [
        ("head_tier", 5, "head_tier is 5; it must divide the frame size, 12"),
        ("head_stride", 3, "head_stride is 3; it must divide model.head_tier, 4"),
        ("head_lags", 4, "must be more than model.head_lags, 4"),
        ("head_tier_window", 7, "at most half of model.head_tier_window, 7"),
        ("head_order", 20, "head_order is 20; it must be less than model.head_tier_window, 20"),
    ],
)
def test_tiers_that_do_not_fit_together_are_a_users_mistake(setting, value, said):
    with pytest.raises(UserError, match=said):
        build(settings(**{setting: value}))
