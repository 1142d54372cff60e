"""The tiered head: between frame and sample a middle tier, which hears a few pitch periods (after Mehri et al., 2017).

As in SampleRNN ("An Unconditional End-to-End Neural Audio Generation Model"), a network that runs every `head_tier`
samples conditions the one that predicts each sample. Here both are feedforward, so that training computes all samples
in parallel, and the sample tier hears one more thing: the samples around the one that lies a pitch period back.

    lag_s = argmax over lags of the normalized autocorrelation of the last head_tier_window samples
    m_s = middle(last head_tier_window samples, c_t)                      once every head_tier samples
    p(x_i | ...) = sample tier(last head_window samples, samples around x_{i - lag_s}, m_s)

In voiced speech the lag is the pitch period, so units need not remember the last period. In a trial on the Free Spoken
Digit Dataset (12 minutes on one core, one seed), 30 % of the generated frames were voiced with lags, and 2 % without.

All inputs and outputs are bounded, and the unit of the outputs is at most LOUDEST. So what a sample adds to the one
before it is bounded too, and loudness cannot feed on itself without limit.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zfaudio.config import FrameDensityConfig
from zfaudio.distributions import Quantizer
from zfaudio.errors import UserError
from zfaudio.models.frame_likelihoods import FrameDistribution, build_likelihood
from zfaudio.models.heads import FrameHead

SLOPE = 0.1  # of the leaky ReLUs
LOUDEST = 4.0  # deviations of the corpus; the loudest of real speech is about there

# Bounds of what the tiers read and say, so that nothing can grow without limit when a head speaks to itself.
LOUDEST_SAMPLE = 16.0  # deviations of the corpus
FARTHEST = 100.0  # levels of the changes from sample to sample
MOST_DARK = 5.0  # logarithm of the level of a signal over that of its changes

MOST = 20.0  # means in units, logarithms of scales, and logits

# Frames that are scored at a time, which bounds the memory.
FRAMES_AT_ONCE = 128


class TieredHead(FrameHead):
    """A middle tier and a sample tier; the equations are at the top of this file."""

    def __init__(self, condition_size: int, frame_size: int, config: FrameDensityConfig, quantizer: Quantizer) -> None:
        super().__init__()
        check_tiers(config, frame_size)
        self.frame_size, self.tier, self.reach = frame_size, config.head_tier, config.head_tier_window
        self.window, self.stride, self.lags = config.head_window, config.head_stride, config.head_lags
        self.heard = max(self.reach, self.window)  # samples before each step of the middle tier
        self.past = max(0, self.heard - frame_size)
        self.quantizer, self.floor = quantizer, quantizer.step**2
        self.likelihood = build_likelihood(config, 1, quantizer)
        self.noise_size = frame_size * self.likelihood.noise_size

        middle, units = config.head_tier_size, config.head_size
        self.middle_samples = nn.Linear(2 * self.reach + 1, middle)
        self.middle_condition = nn.Linear(condition_size, middle, bias=False) if condition_size else None
        self.middle_inner = nn.Linear(middle, middle)
        self.adapt = nn.Linear(middle, 3 * units)  # gain and shift of the first layer, shift of the second

        inputs = self.window + 3 + (2 * self.lags + 2 if self.lags else 0)
        self.filters = nn.Linear(inputs, units)
        self.inner = nn.Linear(units, units)
        self.outer = nn.Linear(units, self.likelihood.parameters)
        self.linear = nn.Linear(inputs, self.likelihood.parameters, bias=False)  # linear prediction
        nn.init.zeros_(self.linear.weight)

    def forward(self, condition: Tensor, samples: Tensor) -> "TieredFrame":
        """See `FrameHead.forward`."""
        before = samples.unfold(-1, self.past + self.frame_size, self.frame_size)  # [batch, steps, past + frame_size]
        return self.step(condition, before)

    def step(self, condition: Tensor, samples: Tensor) -> "TieredFrame":
        """See `FrameHead.step`; also for condition [..., size] and samples [..., past + frame_size]."""
        grid = self.likelihood.grid(samples[..., self.past :])
        return TieredFrame(self, condition, grid, samples[..., samples.shape[-1] - self.heard :])

    def hear(self, samples: Tensor, condition: Tensor) -> "Middle":
        """The middle tier, at the samples [..., heard] before each of its steps; condition [..., size]."""
        windows = samples[..., self.heard - self.reach :]
        level = torch.sqrt(windows.square().mean(-1, keepdim=True) + self.floor)
        inputs = [windows / level, companded(windows), torch.log(level.clamp(max=LOUDEST))]
        units = self.middle_samples(torch.cat(inputs, dim=-1))
        if self.middle_condition is not None:
            units = units + self.middle_condition(condition)
        units = F.leaky_relu(units, SLOPE)
        units = F.leaky_relu(units + self.middle_inner(units), SLOPE)
        gain, shift, inner_shift = self.adapt(units).chunk(3, dim=-1)
        lag, strength = pitch_lag(windows, self.tier) if self.lags else (None, None)
        return Middle(1 + gain, shift, inner_shift, lag, strength)

    def density(
        self, windows: Tensor, periods: Tensor | None, middle: "Middle", grid: Tensor | None
    ) -> FrameDistribution:
        """Densities of samples within a step of the middle tier.

        Args:
            windows: the samples before each, [..., n, window].
            periods: the samples around the one a lag before each, [..., n, 2 * lags + 1].
            middle: of the step.
            grid: of the samples before the frame, [..., 1].

        Returns:
            A density over [..., n, 1].
        """
        last = windows[..., -1:]
        changes = windows[..., 1:] - windows[..., :-1]
        loudness = torch.sqrt(windows.square().mean(-1, keepdim=True) + self.floor)  # [..., n, 1]
        level = torch.sqrt(changes.square().mean(-1, keepdim=True) + self.floor)
        unit = level.clamp(max=LOUDEST)
        inputs = [
            changes / unit,
            last / loudness,
            torch.log(level),
            torch.log(loudness / level),
            torch.asinh(10 * last),
        ]
        if periods is not None and middle.strength is not None:
            inputs += [torch.asinh((periods - last) / unit), middle.strength.unsqueeze(-1).expand_as(last)]
        scaled = torch.cat(inputs, dim=-1)
        units = torch.addcmul(middle.shift.unsqueeze(-2), self.filters(scaled), middle.gain.unsqueeze(-2))
        units = self.inner(F.leaky_relu(units, SLOPE)) + middle.inner_shift.unsqueeze(-2)
        parameters = self.outer(F.leaky_relu(units, SLOPE)) + self.linear(scaled)
        parameters = MOST * torch.tanh(parameters / MOST)
        density = self.likelihood.read(parameters, origin=last, level=unit)
        return self.likelihood.on_grid(density, None if grid is None else grid.unsqueeze(-1))


@dataclass
class Middle:
    """What the middle tier tells the sample tier at each of its steps."""

    gain: Tensor  # of the units of the first layer, [..., units]
    shift: Tensor  # [..., units]
    inner_shift: Tensor  # of the units of the second layer, [..., units]
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
        stride = self.head.stride if self.head.training else 1
        places = torch.arange(0, self.head.tier, stride, device=samples.device)
        if stride > 1:
            places = places + torch.randint(stride, (), device=samples.device)
        rows = range(0, len(samples), FRAMES_AT_ONCE)
        condition = self.condition.flatten(0, -2)
        grid = None if self.grid is None else self.grid.flatten(0, -2)
        scores = [
            self._score(samples[part], condition[part], None if grid is None else grid[part], places)
            for part in (slice(first, first + FRAMES_AT_ONCE) for first in rows)
        ]
        return stride * torch.cat(scores).view(frames.shape[:-1])

    def _score(self, samples: Tensor, condition: Tensor, grid: Tensor | None, places: Tensor) -> Tensor:
        """Sums of the log-densities at some places of each step: [rows, heard + frame_size] -> [rows]."""
        head = self.head
        steps = samples.unfold(-1, head.heard + head.tier, head.tier)  # [rows, frame_size / tier, heard + tier]
        middle = head.hear(steps[..., : head.heard], condition.unsqueeze(-2))
        reach_back = torch.arange(-head.window, 0, device=samples.device)
        windows = steps[..., (head.heard + places).unsqueeze(-1) + reach_back]  # [rows, steps, n, window]
        periods = around_lag(steps, head.heard + places, middle.lag, head.lags)
        grid = None if grid is None else grid.unsqueeze(-1)
        density = head.density(windows, periods, middle, grid)
        targets = steps[..., head.heard + places].unsqueeze(-1)  # [rows, steps, n, 1]
        return density.log_prob(targets).sum((-2, -1))

    def at(self, noise: Tensor, temperature: float = 1.0) -> Tensor:
        """The frame [..., frame_size] that standard normal `noise` [..., noise_size] is mapped to, sample by sample."""
        head = self.head
        noise = noise.unflatten(-1, (head.frame_size // head.tier, head.tier, head.likelihood.noise_size))
        samples = self.previous_samples
        for step_noise in noise.unbind(-3):
            middle = head.hear(samples[..., samples.shape[-1] - head.heard :], self.condition)
            for sample_noise in step_noise.unbind(-2):
                end = torch.full((1,), samples.shape[-1], device=samples.device)
                windows = samples[..., samples.shape[-1] - head.window :].unsqueeze(-2)
                density = head.density(windows, around_lag(samples, end, middle.lag, head.lags), middle, self.grid)
                drawn = density.at(sample_noise.unsqueeze(-2), temperature).squeeze(-1)  # [..., 1]
                samples = torch.cat([samples, drawn], dim=-1)
        return samples[..., head.heard :]


def companded(samples: Tensor) -> Tensor:
    """Samples with the loud ones compressed, elementwise."""
    return torch.asinh(10 * samples.clamp(-LOUDEST_SAMPLE, LOUDEST_SAMPLE))


def pitch_lag(windows: Tensor, shortest: int) -> tuple[Tensor, Tensor]:
    """The lag at which the second half of each window is most like what lies before it.

    Args:
        windows: [..., n].
        shortest: the shortest lag in samples; the longest is n // 2.

    Returns:
        The lag, int64 [..., 1], and the normalized autocorrelation there, between -1 and 1, [..., 1].
    """
    windows = windows.clone()  # the last bit of a Fourier transform depends on where in memory its input begins
    size = windows.shape[-1]
    half = size // 2
    recent = windows[..., size - half :].clone()
    length = 1 << (size + half).bit_length()
    spectrum = torch.fft.rfft(windows, length) * torch.fft.rfft(recent, length).conj()
    lags = torch.arange(shortest, half + 1, device=windows.device)
    starts = size - half - lags
    products = torch.fft.irfft(spectrum, length)[..., starts]
    sums = F.pad(windows.square().cumsum(-1), (1, 0))
    energy = (sums[..., starts + half] - sums[..., starts]).clamp(min=0)
    # 1e-4 of the corpus's power: the likeness of silence to silence says nothing.
    likeness = products / torch.sqrt(energy * recent.square().sum(-1, keepdim=True) + (1e-4 * half) ** 2)
    strength, place = likeness.max(-1, keepdim=True)
    return lags[place], strength


def around_lag(samples: Tensor, places: Tensor, lag: Tensor | None, lags: int) -> Tensor | None:
    """The samples around those that lie a lag before some places.

    Args:
        samples: [..., n].
        places: of the samples that are predicted, [k].
        lag: int64 [..., 1].
        lags: how many on each side.

    Returns:
        [..., k, 2 * lags + 1]; None without a lag.
    """
    if lag is None:
        return None
    around = torch.arange(-lags, lags + 1, device=samples.device)
    index = (places.unsqueeze(-1) + around) - lag.unsqueeze(-1)  # [..., k, 2 * lags + 1]
    found: Tensor = samples.gather(-1, index.flatten(-2)).unflatten(-1, index.shape[-2:])
    return found


def check_tiers(config: FrameDensityConfig, frame_size: int) -> None:
    """Raises UserError if the tiers do not fit together, or not into a frame."""
    tier = config.head_tier
    if frame_size % tier:
        raise UserError(f"model.head_tier is {tier}; it must divide the frame size, {frame_size}")
    if tier % config.head_stride:
        raise UserError(f"model.head_stride is {config.head_stride}; it must divide model.head_tier, {tier}")
    if not config.head_lags < tier <= config.head_tier_window // 2 - config.head_lags:
        raise UserError(
            f"model.head_tier is {tier}; it must be more than model.head_lags, {config.head_lags}, and at most half of "
            f"model.head_tier_window, {config.head_tier_window}, less model.head_lags"
        )
