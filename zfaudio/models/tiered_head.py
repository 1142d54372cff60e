"""The tiered head: between frame and sample a middle tier, which hears a few pitch periods (after Mehri et al., 2017).

As in SampleRNN ("An Unconditional End-to-End Neural Audio Generation Model"), a network that runs every `head_tier`
samples conditions the one that predicts each sample. Here both are feedforward, so that training computes all samples
in parallel. As in speech coders, and LPCNet (Valin and Skoglund, 2019), the sample tier need not learn what can be
computed: it corrects a linear prediction, and hears the residuals of the last samples and those a pitch period back.

    w_s = last head_tier_window samples                                   once every head_tier samples
    a_s = linear prediction of order head_order from w_s                  ops/linear_prediction.py
    lag_s = argmax over lags of the normalized autocorrelation of w_s     in voiced speech the pitch period
    m_s = middle tier(w_s, c_t)
    e_j = x_j - sum_k a_k x_{j-k}
    p(x_i | ...) = sample tier(last head_window of e, e around e_{i - lag_s}, m_s), centered on sum_k a_k x_{i-k}

In trials on the Free Spoken Digit Dataset (one core, one seed), 30 % of the generated frames were voiced with lags and
2 % without (12 minutes); the linear prediction gained 18 nats a frame of 100 samples, 0.25 bits a sample, and the
residuals a pitch period back another 5 (2 minutes).

A head that only ever hears real speech does not learn to come back to the level of speech once it has left it: samples
were up to twice too loud. In training, what it hears before each frame is therefore a little too loud or too quiet
(head_jitter), and what it predicts is not.

All inputs and outputs are bounded, the unit of the outputs is at most LOUDEST, and the linear prediction is stable. So
loudness cannot feed on itself without limit.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zfaudio.config import FrameDensityConfig
from zfaudio.errors import UserError
from zfaudio.models.bounds import (
    BOUNDS,
    LOUDEST,
    LOUDEST_SAMPLE,
    SLOPE,
    bounded_density,
    companded,
    heard_at_any_level,
)
from zfaudio.models.frame_likelihoods import FrameDistribution, build_likelihood, sample_likelihood
from zfaudio.models.heads import FrameHead, places_to_score
from zfaudio.observations import RECORDINGS, Observation, of_recordings
from zfaudio.ops import tiered_loop
from zfaudio.ops.inverse_sine import asinh
from zfaudio.ops.linear import Linear
from zfaudio.ops.linear_prediction import predict_linearly, predictions, taper
from zfaudio.ops.pitch_lag import pitch_lag
from zfaudio.ops.sample_draw import KINDS

# Frames that are scored at a time, which bounds the memory.
FRAMES_AT_ONCE = 128


class TieredHead(FrameHead):
    """A middle tier and a sample tier; the equations are at the top of this file."""

    kinds = RECORDINGS

    taper: Tensor  # of the window of the linear prediction, [head_tier_window]

    def __init__(
        self, condition_size: int, frame_size: int, config: FrameDensityConfig, observation: Observation
    ) -> None:
        super().__init__()
        check_tiers(config, frame_size)
        self.frame_size, self.tier, self.reach = frame_size, config.head_tier, config.head_tier_window
        self.window, self.stride, self.lags = config.head_window, config.head_stride, config.head_lags
        self.order, self.jitter = config.head_order, config.head_jitter
        farthest = self.reach // 2 + self.lags if self.lags else 0
        self.residuals = max(self.window, farthest)  # before each step of the middle tier
        self.heard = max(self.reach, self.residuals + self.order)  # samples before each step of the middle tier
        self.past = max(0, self.heard - frame_size)
        self.quantizer = of_recordings(observation, "model.head tiered")
        self.floor = self.quantizer.step**2
        self.likelihood = build_likelihood(config, 1, observation)
        self.noise_size = frame_size * self.likelihood.noise_size
        self.config, self.compiled = config, config.core == "fast" and config.likelihood in KINDS
        self.register_buffer("taper", taper(self.reach).float(), persistent=False)

        middle, units = config.head_tier_size, config.head_size
        self.middle_samples = Linear(2 * self.reach + 1, middle)
        self.middle_condition = Linear(condition_size, middle, bias=False) if condition_size else None
        self.middle_inner = Linear(middle, middle)
        self.adapt = Linear(middle, 3 * units)  # gain and shift of the first layer, shift of the second

        inputs = self.window + 4 + (2 * self.lags + 2 if self.lags else 0)
        self.filters = Linear(inputs, units)
        self.inner = Linear(units, units)
        self.outer = Linear(units, self.likelihood.parameters)
        self.linear = Linear(inputs, self.likelihood.parameters, bias=False)
        nn.init.zeros_(self.linear.weight)

    def forward(self, condition: Tensor, samples: Tensor) -> "TieredFrame":
        """See `FrameHead.forward`."""
        before = samples.unfold(-1, self.past + self.frame_size, self.frame_size)  # [batch, steps, past + frame_size]
        return self.step(condition, before)

    def step(self, condition: Tensor, samples: Tensor) -> "TieredFrame":
        """See `FrameHead.step`; also for condition [..., size] and samples [..., past + frame_size]."""
        grid = self.likelihood.grid(samples[..., self.past :])
        return TieredFrame(self, condition, grid, samples[..., samples.shape[-1] - self.heard :])

    def jittered(self, samples: Tensor) -> Tensor:
        """In training, samples [rows, n] as heard at a random gain in each row."""
        if not (self.training and self.jitter):
            return samples
        return samples * torch.exp(self.jitter * torch.randn_like(samples[:, :1]))

    def hear(self, samples: Tensor, condition: Tensor) -> "Middle":
        """The middle tier, at the samples [..., heard] before each of its steps; condition [..., size]."""
        windows = samples[..., self.heard - self.reach :]
        heard, level = heard_at_any_level(windows, self.floor)
        units = self.middle_samples(heard)
        if self.middle_condition is not None:
            units = units + self.middle_condition(condition)
        units = F.leaky_relu(units, SLOPE)
        units = F.leaky_relu(units + self.middle_inner(units), SLOPE)
        gain, shift, inner_shift = self.adapt(units).chunk(3, dim=-1)
        lag, strength = pitch_lag(windows, self.tier) if self.lags else (None, None)
        coefficients = predict_linearly(windows * self.taper, self.order, self.floor)
        return Middle(1 + gain, shift, inner_shift, level, coefficients, lag, strength)

    def density(
        self, predicted: Tensor, residuals: Tensor, periods: Tensor | None, middle: "Middle", grid: Tensor | None
    ) -> FrameDistribution:
        """Densities of samples within a step of the middle tier.

        Args:
            predicted: the linear prediction of each, [..., n, 1].
            residuals: of the samples before each, [..., n, window].
            periods: residuals around the one a lag before each, [..., n, 2 * lags + 1].
            middle: of the step.
            grid: of the samples before the frame, [..., 1].

        Returns:
            A density over [..., n, 1].
        """
        level = torch.sqrt(residuals.square().mean(-1, keepdim=True) + self.floor)  # [..., n, 1]
        unit = level.clamp(max=LOUDEST)
        origin = predicted.clamp(-LOUDEST_SAMPLE, LOUDEST_SAMPLE)
        inputs = [
            asinh(residuals / unit),
            torch.log(unit),
            torch.log(middle.level.unsqueeze(-2) / level),
            companded(predicted),
            asinh(predicted / unit),
        ]
        if periods is not None and middle.strength is not None:
            inputs += [asinh(periods / unit), middle.strength.unsqueeze(-1).expand_as(predicted)]
        heard = torch.cat(inputs, dim=-1)
        units = torch.addcmul(middle.shift.unsqueeze(-2), self.filters(heard), middle.gain.unsqueeze(-2))
        units = self.inner(F.leaky_relu(units, SLOPE)) + middle.inner_shift.unsqueeze(-2)
        parameters = self.outer(F.leaky_relu(units, SLOPE)) + self.linear(heard)
        return bounded_density(self.likelihood, parameters, origin, unit, None if grid is None else grid.unsqueeze(-1))


@dataclass
class Middle:
    """What the middle tier tells the sample tier at each of its steps."""

    gain: Tensor  # of the units of the first layer, [..., units]
    shift: Tensor  # [..., units]
    inner_shift: Tensor  # of the units of the second layer, [..., units]
    level: Tensor  # of the samples that were heard, [..., 1]
    coefficients: Tensor  # of the linear prediction, [..., order]
    lag: Tensor | None  # in samples, int64 [..., 1]; None if the head reads no lags
    strength: Tensor | None  # normalized autocorrelation at the lag, [..., 1]


@dataclass
class TieredFrame:
    """The density of a frame under the head."""

    head: TieredHead
    condition: Tensor  # [..., size]
    grid: Tensor | None  # of the samples before the frame, [..., 1]
    previous_samples: Tensor  # the samples before the frame, [..., heard]

    def log_prob(self, frames: Tensor) -> Tensor:
        """Log-density of frames [..., frame_size]: [...] in nats. In training an estimate, see `head_stride`."""
        samples = torch.cat([self.previous_samples, frames], dim=-1).flatten(0, -2)  # [rows, heard + frame_size]
        heard = self.head.jittered(samples)
        stride = self.head.stride if self.head.training else 1
        places = places_to_score(self.head.tier, stride, samples.device)
        rows = range(0, len(samples), FRAMES_AT_ONCE)
        condition = self.condition.flatten(0, -2)
        grid = None if self.grid is None else self.grid.flatten(0, -2)
        scores = [
            self._score(samples[part], heard[part], condition[part], None if grid is None else grid[part], places)
            for part in (slice(first, first + FRAMES_AT_ONCE) for first in rows)
        ]
        return stride * torch.cat(scores).view(frames.shape[:-1])

    def _score(self, samples: Tensor, heard: Tensor, condition: Tensor, grid: Tensor | None, places: Tensor) -> Tensor:
        """Sums of the log-densities of samples at some places of each step, given those heard before: [rows].

        `samples` and `heard` are [rows, heard + frame_size].
        """
        head = self.head
        steps = heard.unfold(-1, head.heard + head.tier, head.tier)  # [rows, frame_size / tier, heard + tier]
        middle = head.hear(steps[..., : head.heard], condition.unsqueeze(-2))
        near = steps[..., head.heard - head.residuals - head.order :]
        predicted = predictions(near, middle.coefficients)  # [rows, steps, residuals + tier]
        residuals = near[..., head.order :] - predicted
        ends = head.residuals + places  # where the scored samples are among the residuals
        before = residuals[..., ends.unsqueeze(-1) + torch.arange(-head.window, 0, device=samples.device)]
        density = head.density(
            predicted[..., ends].unsqueeze(-1),
            before,  # [rows, steps, n, window]
            around_lag(residuals, ends, middle.lag, head.lags),
            middle,
            None if grid is None else grid.unsqueeze(-1),
        )
        scored = samples[:, head.heard :].unflatten(-1, (-1, head.tier))[..., places]  # [rows, steps, n]
        return density.log_prob(scored.unsqueeze(-1)).sum((-2, -1))

    def at(self, noise: Tensor, temperature: float = 1.0) -> Tensor:
        """The frame [..., frame_size] that standard normal `noise` [..., noise_size] is mapped to, sample by sample.

        On a CPU with core `fast` and without a gradient, the loop over samples is compiled, see ops/tiered_loop.py.
        """
        head = self.head
        if head.compiled and noise.device.type == "cpu" and not torch.is_grad_enabled():
            return self._at_compiled(noise, temperature)
        noise = noise.unflatten(-1, (head.frame_size // head.tier, head.tier, head.likelihood.noise_size))
        samples = self.previous_samples
        for step_noise in noise.unbind(-3):
            heard = samples[..., samples.shape[-1] - head.heard :]
            middle = head.hear(heard, self.condition)
            near = heard[..., head.heard - head.residuals - head.order :]
            residuals = near[..., head.order :] - predictions(near, middle.coefficients)
            backward = middle.coefficients.flip(-1)
            for sample_noise in step_noise.unbind(-2):
                last = samples[..., samples.shape[-1] - head.order :]
                predicted = (backward * last).sum(-1, keepdim=True)  # [..., 1]
                end = torch.full((1,), residuals.shape[-1], device=samples.device)
                density = head.density(
                    predicted.unsqueeze(-2),
                    residuals[..., residuals.shape[-1] - head.window :].unsqueeze(-2),
                    around_lag(residuals, end, middle.lag, head.lags),
                    middle,
                    self.grid,
                )
                drawn = density.at(sample_noise.unsqueeze(-2), temperature).squeeze(-1)  # [..., 1]
                samples = torch.cat([samples, drawn], dim=-1)
                residuals = torch.cat([residuals, drawn - predicted], dim=-1)
        return samples[..., head.heard :]

    def _at_compiled(self, noise: Tensor, temperature: float) -> Tensor:
        """`at` by the compiled loop."""
        head, shape = self.head, noise.shape[:-1]
        rows = math.prod(shape)
        samples = tiered_loop.draw_samples(
            tiered_loop.tiered_weights(
                head.middle_samples,
                head.middle_condition,
                head.middle_inner,
                head.adapt,
                head.filters,
                head.inner,
                head.outer,
                head.linear,
                head.taper,
            ),
            tiered_loop.TieredSizes(head.tier, head.reach, head.window, head.lags, head.order),
            BOUNDS,
            sample_likelihood(head.config, head.quantizer),
            self.previous_samples.reshape(rows, head.heard),
            self.condition.reshape(rows, self.condition.shape[-1]),
            None if self.grid is None else self.grid.reshape(rows),
            noise.reshape(rows, head.frame_size, head.likelihood.noise_size),
            temperature,
        )
        return samples.view(*shape, head.frame_size)


def around_lag(values: Tensor, places: Tensor, lag: Tensor | None, lags: int) -> Tensor | None:
    """The values around those that lie a lag before some places.

    Args:
        values: [..., n].
        places: [k].
        lag: int64 [..., 1].
        lags: how many on each side.

    Returns:
        [..., k, 2 * lags + 1]; None without a lag.
    """
    if lag is None:
        return None
    around = torch.arange(-lags, lags + 1, device=values.device)
    index = (places.unsqueeze(-1) + around) - lag.unsqueeze(-1)  # [..., k, 2 * lags + 1]
    found: Tensor = values.gather(-1, index.flatten(-2)).unflatten(-1, index.shape[-2:])
    return found


def check_tiers(config: FrameDensityConfig, frame_size: int) -> None:
    """Raises UserError if the tiers do not fit together, or not into a frame."""
    tier = config.head_tier
    if frame_size % tier:
        raise UserError(f"model.head_tier is {tier}; it must divide the frame size, {frame_size}")
    if tier % config.head_stride:
        raise UserError(f"model.head_stride is {config.head_stride}; it must divide model.head_tier, {tier}")
    if not config.head_lags < tier <= config.head_tier_window // 2:
        raise UserError(
            f"model.head_tier is {tier}; it must be more than model.head_lags, {config.head_lags}, and at most half of "
            f"model.head_tier_window, {config.head_tier_window}"
        )
    if config.head_order >= config.head_tier_window:
        raise UserError(
            f"model.head_order is {config.head_order}; it must be less than model.head_tier_window, "
            f"{config.head_tier_window}"
        )
