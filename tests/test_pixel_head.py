"""The autoregressive head on pixels: a probability over frames, pixel by pixel, and the draws that belong to it."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from equations import linear, sigmoid, weights_of
from torch import Tensor

from zfaudio.config import RNNConfig
from zfaudio.errors import UserError
from zfaudio.models.heads import build_head
from zfaudio.models.pixel_head import PixelFrame, PixelHead
from zfaudio.observations import Binary

CONDITION_SIZE, FRAME_SIZE = 3, 6
SETTINGS = RNNConfig(likelihood="bernoulli", head="autoregressive", head_window=4, head_size=5)

windows = pytest.mark.parametrize("window", [2, 6, 15])


def build(config: RNNConfig = SETTINGS, condition_size: int = CONDITION_SIZE, **settings: int) -> PixelHead:
    """A head in float64 with weights far from their start."""
    torch.manual_seed(0)
    head = build_head(condition_size, FRAME_SIZE, replace(config, **settings), Binary()).double()
    assert isinstance(head, PixelHead)
    for parameter in head.parameters():
        parameter.data.add_(0.5 * torch.randn_like(parameter))
    return head


def pixels(*shape: int) -> Tensor:
    return torch.randint(2, shape).double()


def frame_of(head: PixelHead, *shape: int, condition_size: int = CONDITION_SIZE) -> PixelFrame:
    """The probability of frames [*shape, frame_size] after random ones, given random conditions."""
    torch.manual_seed(1)
    return head.step(torch.randn(*shape, condition_size).double(), pixels(*shape, head.past + FRAME_SIZE))


def of_each_pixel(density: PixelFrame, frame: Tensor) -> Tensor:
    """log p of each pixel of a frame [frame_size] given those before it, as generation goes: [frame_size]."""
    head, condition, scores = density.head, density.head.hear(density.condition), []
    window = density.before
    for place, pixel in enumerate(frame):
        predicted = head.density(window.unsqueeze(-2), condition, density.shifts, torch.tensor([place]))
        scores.append(predicted.log_prob(pixel.view(1, 1, 1)).squeeze())
        window = torch.cat([window[..., 1:], pixel.view(1, 1)], dim=-1)
    return torch.stack(scores)


@windows
def test_a_frames_probability_is_the_product_of_those_of_its_pixels(window):
    density, frame = frame_of(build(head_window=window), 1), pixels(FRAME_SIZE)
    torch.testing.assert_close(density.log_prob(frame.unsqueeze(0))[0], of_each_pixel(density, frame).sum())


@windows
def test_the_probabilities_of_all_frames_sum_to_one(window):
    density = frame_of(build(head_window=window), 1)
    frames = torch.tensor(list(itertools.product([0.0, 1.0], repeat=FRAME_SIZE))).double()
    many = replace(
        density, condition=density.condition.expand(len(frames), -1), before=density.before.expand(len(frames), -1)
    )
    assert many.log_prob(frames).exp().sum().item() == pytest.approx(1)


@pytest.mark.parametrize("changed", range(FRAME_SIZE))
def test_a_pixel_depends_on_none_that_comes_after_it(changed):
    density, frame = frame_of(build(head_window=15), 1), pixels(FRAME_SIZE)
    other = frame.clone()
    other[changed] = 1 - other[changed]
    before, after = of_each_pixel(density, frame), of_each_pixel(density, other)
    assert torch.equal(before[:changed], after[:changed])
    assert (before[changed:] != after[changed:]).all()  # the window is longer than the frame


def test_a_draw_depends_on_no_noise_that_comes_after_it():
    density, noise = frame_of(build(), 50), torch.randn(50, FRAME_SIZE).double()
    drawn = density.at(noise)
    for place in range(FRAME_SIZE):
        later = noise.clone()
        later[:, place:] = torch.randn(50, FRAME_SIZE - place)
        assert torch.equal(density.at(later)[:, :place], drawn[:, :place])
        assert not torch.equal(density.at(later)[:, place:], drawn[:, place:])


def test_frames_of_a_sequence_score_as_each_alone():
    head, (batch, steps) = build(head_window=9), (2, 5)
    samples, condition = (
        pixels(batch, head.past + steps * FRAME_SIZE),
        torch.randn(batch, steps, CONDITION_SIZE).double(),
    )
    frames = pixels(batch, steps, FRAME_SIZE)
    together = head(condition, samples).log_prob(frames)
    for step in range(steps):
        heard = samples[:, step * FRAME_SIZE : head.past + (step + 1) * FRAME_SIZE]
        alone = head.step(condition[:, step], heard).log_prob(frames[:, step])
        torch.testing.assert_close(together[:, step], alone)


@pytest.mark.parametrize("condition_size", [CONDITION_SIZE, 0])
def test_the_head_is_its_equations(condition_size):
    """In NumPy, from the docstrings."""
    head = build(condition_size=condition_size)
    density, frame = frame_of(head, 1, condition_size=condition_size), pixels(FRAME_SIZE)
    w, condition = weights_of(head), density.condition[0].numpy()
    window, expected = list(density.before[0].numpy()), 0.0

    def leaky(units: np.ndarray) -> np.ndarray:
        return np.where(units > 0, units, 0.1 * units)

    for place, pixel in enumerate(frame.numpy()):
        heard = np.array(window[-head.window :])
        units = w["filters.weight"] @ heard + w["places"][place]
        logit = w["linear.weight"][0] @ heard
        if condition_size:
            gain, shift = np.split(linear(w, "condition", condition), 2)
            units = units * (1 + gain) + shift
            logit += w["logits.weight"][place] @ condition
        logit += linear(w, "outer", leaky(linear(w, "inner", leaky(units))))[0]
        expected += np.log(sigmoid(logit if pixel else -logit))
        window.append(pixel)
    assert density.log_prob(frame.unsqueeze(0)).item() == pytest.approx(expected, rel=1e-10)


def test_a_strided_score_is_that_of_all_pixels_on_average(monkeypatch):
    head = build(head_stride=3)
    density, frames = frame_of(head, 4), pixels(4, FRAME_SIZE)
    estimates = []
    for offset in range(3):
        monkeypatch.setattr(torch, "randint", lambda *_, offset=offset, **__: torch.tensor(offset))
        estimates.append(density.log_prob(frames))
    torch.testing.assert_close(torch.stack(estimates).mean(0), density_in_full(head, density, frames))


def density_in_full(head: PixelHead, density: PixelFrame, frames: Tensor) -> Tensor:
    head.eval()
    return density.log_prob(frames)


def test_frames_scored_a_few_at_a_time_score_as_all_at_once():
    head = build()
    density, frames = frame_of(head, 3, 7), pixels(3, 7, FRAME_SIZE)
    expected = density.log_prob(frames)
    head.frames_at_once = 4
    torch.testing.assert_close(density.log_prob(frames), expected)


def test_at_temperature_0_every_pixel_is_the_more_probable_one():
    density = frame_of(build(), 20)
    drawn = density.at(torch.randn(20, FRAME_SIZE).double(), temperature=0.0)
    for row in range(20):
        one = replace(density, condition=density.condition[row : row + 1], before=density.before[row : row + 1])
        assert (of_each_pixel(one, drawn[row]).exp() >= 0.5).all()


def test_draws_have_the_probability_of_the_frame():
    density = frame_of(build(), 1)
    many = replace(density, condition=density.condition.expand(20_000, -1), before=density.before.expand(20_000, -1))
    drawn = many.at(torch.randn(20_000, FRAME_SIZE).double())
    found, counts = drawn.unique(dim=0, return_counts=True)
    expected = replace(many, condition=many.condition[: len(found)], before=many.before[: len(found)])
    torch.testing.assert_close(counts / 20_000, expected.log_prob(found).exp().float(), atol=0.015, rtol=0)


def test_a_stride_that_does_not_divide_the_frame_is_a_users_mistake():
    with pytest.raises(UserError, match=r"model\.head_stride is 4; it must divide the frame size, 6"):
        build(head_stride=4)
