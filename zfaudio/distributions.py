"""Probability densities of frames and latents, in nats, always computed in float32 or better."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from zfaudio.observations import Quantizer as Quantizer

LOG_2PI = math.log(2 * math.pi)

# The probability that a sample leaves the grid of the samples before it, see `grid_of`.
OFF_GRID = 2.0**-16
COARSEST_GRID = 1 << 12  # in 16-bit steps
LEAST_FOR_GRID = 16  # samples; so many share a grid by chance as rarely as a sample leaves one


@dataclass
class DiagonalGaussian:
    """Independent Gaussians along the last axis: the samples of a frame, or the dimensions of a latent."""

    mean: Tensor  # [..., size]
    log_variance: Tensor  # [..., size]

    @property
    def deviation(self) -> Tensor:
        """Standard deviation, [..., size]."""
        return torch.exp(0.5 * self.log_variance)

    def unflatten(self, shape: tuple[int, int]) -> "DiagonalGaussian":
        """The same with the last axis in two: [..., *shape]."""
        return DiagonalGaussian(self.mean.unflatten(-1, shape), self.log_variance.unflatten(-1, shape))

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density of `value` [..., size], summed over the last axis: [...] in nats."""
        squared = (value - self.mean).square() * torch.exp(-self.log_variance)
        return -0.5 * (LOG_2PI + self.log_variance + squared).sum(-1)

    def sample(self, temperature: float = 1.0) -> Tensor:
        """A reparameterized draw, [..., size]; `temperature` scales the deviation."""
        return self.at(torch.randn_like(self.mean), temperature)

    def at(self, noise: Tensor, temperature: float = 1.0) -> Tensor:
        """The draw to which standard normal `noise` [..., size] is mapped; `temperature` scales the deviation."""
        return self.mean + temperature * self.deviation * noise


def gaussian_kl(left: DiagonalGaussian, right: DiagonalGaussian) -> Tensor:
    """KL divergence KL(left || right), summed over the last axis: [...] in nats."""
    log_ratio = right.log_variance - left.log_variance
    squared = (left.mean - right.mean).square() * torch.exp(-right.log_variance)
    return 0.5 * (log_ratio + torch.exp(-log_ratio) + squared - 1).sum(-1)


def split_gaussian(parameters: Tensor, limit: float | None = None, min_deviation: float = 0.0) -> DiagonalGaussian:
    """The Gaussian whose means and log-variances a network gives.

    Args:
        parameters: means, then log-variances, [..., 2 * size].
        limit: if given, both are clamped to [-limit, limit], as the published code does for latents (limit 8).
        min_deviation: floor of the deviation, see `floor_deviation`.
    """
    parameters = parameters.to(torch.promote_types(parameters.dtype, torch.float32))
    if limit is not None:
        parameters = parameters.clamp(-limit, limit)
    mean, log_variance = parameters.chunk(2, dim=-1)
    return DiagonalGaussian(mean, floor_deviation(log_variance, min_deviation))


def floor_deviation(log_variance: Tensor, min_deviation: float) -> Tensor:
    """Log-variances with a floor: min_deviation ** 2 is added to each variance, so that its gradient never vanishes."""
    if min_deviation <= 0:
        return log_variance
    return torch.logaddexp(log_variance, log_variance.new_full((), 2 * math.log(min_deviation)))


def grid_of(samples: Tensor, quantizer: Quantizer) -> Tensor:
    """The distance between neighboring values of a recording that uses only some of the 16-bit integers.

    Recordings of 8 bits that are stored in 16 have only multiples of 256. Lossless coders look for that too (the
    "wasted bits" of FLAC).

    Args:
        samples: standardized, [..., n].
        quantizer: where the integers lie.

    Returns:
        The largest power of two, up to COARSEST_GRID, that divides all n integers, [..., 1]; 1 if they are fewer than
        LEAST_FOR_GRID, or all equal, which says nothing.
    """
    if samples.shape[-1] < LEAST_FOR_GRID:
        return torch.ones_like(samples[..., :1])
    integers = quantizer.integers(samples).to(torch.int32)
    lowest_bit = torch.where(integers == 0, COARSEST_GRID, integers & -integers)
    grid = lowest_bit.amin(-1, keepdim=True).clamp(max=COARSEST_GRID)
    constant = integers.amin(-1, keepdim=True) == integers.amax(-1, keepdim=True)
    return torch.where(constant, 1, grid).to(samples.dtype)


@dataclass
class GaussianMixture:
    """A mixture of diagonal Gaussians: one component is drawn for the whole last axis."""

    logits: Tensor  # [..., components], unnormalized
    components: DiagonalGaussian  # [..., components, size]

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density of `value` [..., size]: [...] in nats."""
        log_weights = torch.log_softmax(self.logits, dim=-1)
        return torch.logsumexp(log_weights + self.components.log_prob(value.unsqueeze(-2)), dim=-1)

    def at(self, noise: Tensor, temperature: float = 1.0) -> Tensor:
        """The draw [..., size] to which standard normal `noise` [..., 2 * size] is mapped.

        The first number of the noise chooses the component, and its second half gives the draw from it; the rest is not
        used. For `temperature`, see `choose_component`; it also scales the deviation of the component.
        """
        uniform = torch.special.ndtr(noise[..., :1])
        chosen = choose_component(self.logits, uniform, temperature).unsqueeze(-1)  # [..., 1, 1]
        index = chosen.expand(*chosen.shape[:-1], self.components.mean.shape[-1])
        mean = torch.take_along_dim(self.components.mean, index, -2).squeeze(-2)
        deviation = torch.take_along_dim(self.components.deviation, index, -2).squeeze(-2)
        draw: Tensor = mean + temperature * deviation * noise.chunk(2, dim=-1)[1]
        return draw


@dataclass
class LogisticMixture:
    """A mixture of logistics for each 16-bit sample, integrated over the sample's step.

    As a density it is constant within a step. So E[log p(k + u)] over uniform noise u is exactly log P(k), and all
    units of evaluation/units.py are valid (Salimans et al., 2017, "PixelCNN++", section 2.1).

    Where the samples before lie on a coarser grid (`grid_of`), the mixture is integrated over the steps of that grid.
    With probability OFF_GRID a sample leaves it, and is then one of all integers. The grid's own integers get nothing
    from this second part, so that only one of the parts has to be computed; at most OFF_GRID is lost by that.
    """

    logits: Tensor  # [..., size, components], unnormalized
    mean: Tensor  # [..., size, components]
    log_scale: Tensor  # [..., size, components]
    quantizer: Quantizer
    grid: Tensor | None = None  # in 16-bit steps, [..., size] or [..., 1]; None for all integers

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density of `value` [..., size], summed over the last axis: [...] in nats."""
        return self.log_prob_of_samples(value).sum(-1)

    def log_prob_of_samples(self, value: Tensor) -> Tensor:
        """Log-density of each sample: [..., size] -> [..., size] in nats."""
        integers = self.quantizer.integers(value)
        sample = ((integers - self.quantizer.mean) / self.quantizer.deviation).to(value.dtype).unsqueeze(-1)
        width, log_weight = self._steps_at(integers)
        inverse = torch.exp(-self.log_scale)
        centered = (sample - self.mean) * inverse
        half = 0.5 * self.quantizer.step * width * inverse
        upper, lower = F.logsigmoid(centered + half), F.logsigmoid(half - centered)
        # sigmoid(a) - sigmoid(b) = sigmoid(a) sigmoid(-b) (1 - exp(b - a)), without cancellation
        log_mass = upper + lower + torch.log(-torch.expm1(-2 * half))
        # The first and the last integer take the mass beyond them.
        integers = integers.unsqueeze(-1)
        log_mass = torch.where(integers <= -32768, upper, log_mass)
        log_mass = torch.where(integers > 32767 - width, lower, log_mass)
        log_probability = torch.logsumexp(torch.log_softmax(self.logits, -1) + log_mass, -1)
        return log_probability + log_weight - math.log(self.quantizer.step)

    def _steps_at(self, integers: Tensor) -> tuple[Tensor | float, Tensor | float]:
        """The width of the step around each of the integers [..., size], and the logarithm of its part's weight.

        Returns:
            In 16-bit steps, [..., size, 1], and in nats, [..., size].
        """
        if self.grid is None:
            return 1.0, 0.0
        left = torch.remainder(integers, self.grid) != 0
        width = torch.where(left, 1, self.grid)
        log_weight = torch.where(left, math.log(OFF_GRID), torch.where(self.grid > 1, math.log1p(-OFF_GRID), 0.0))
        return width.unsqueeze(-1), log_weight.to(self.logits.dtype)

    def at(self, noise: Tensor, temperature: float = 1.0) -> Tensor:
        """The draw [..., size], standardized integers, to which standard normal `noise` [..., 2 * size] is mapped.

        The first half of the noise chooses the components, and the second gives the draws from them. For `temperature`,
        see `choose_component`; it also scales the component, before the draw is rounded.
        """
        choice, deviate = noise.chunk(2, dim=-1)  # [..., size] each
        uniform = torch.special.ndtr(choice)
        grid: Tensor | float = 1.0
        if self.grid is not None:
            leaves = (uniform < OFF_GRID) & (self.grid > 1)
            stays = (uniform - OFF_GRID) / (1 - OFF_GRID)
            uniform = torch.where(leaves, uniform / OFF_GRID, torch.where(self.grid > 1, stays, uniform))
            grid = torch.where(leaves, 1, self.grid)
        index = choose_component(self.logits, uniform.unsqueeze(-1), temperature)
        mean = torch.take_along_dim(self.mean, index, -1).squeeze(-1)
        scale = torch.exp(torch.take_along_dim(self.log_scale, index, -1).squeeze(-1))
        # The logistic's quantile at Phi(deviate), from the logarithms of both tails so that neither rounds to 0.
        logistic = torch.special.log_ndtr(deviate) - torch.special.log_ndtr(-deviate)
        return self._nearest(mean + temperature * scale * logistic, grid)

    def _nearest(self, samples: Tensor, grid: Tensor | float) -> Tensor:
        """The values of the grid nearest to samples [..., size]."""
        steps = samples.double() * self.quantizer.deviation + self.quantizer.mean
        highest = torch.floor(32767 / torch.as_tensor(grid, dtype=torch.float64)) * grid
        steps = torch.round(torch.minimum(steps.clamp(min=-32768), highest) / grid) * grid
        return ((steps - self.quantizer.mean) / self.quantizer.deviation).to(samples.dtype)


@dataclass
class Bernoulli:
    """Independent values of 0 or 1 along the last axis."""

    logits: Tensor  # [..., size]

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-probability of `value` [..., size], summed over the last axis: [...] in nats."""
        return F.logsigmoid((2 * value - 1) * self.logits).sum(-1)

    def at(self, noise: Tensor, temperature: float = 1.0) -> Tensor:
        """The draw [..., size] to which standard normal `noise` [..., size] is mapped.

        `temperature` divides the logits; at 0 the draw is the more probable value.
        """
        # A logistic deviate, from the logarithms of both tails so that neither rounds to 0.
        logistic = torch.special.log_ndtr(noise) - torch.special.log_ndtr(-noise)
        one: Tensor = self.logits + temperature * logistic > 0
        return one.to(self.logits.dtype)


@dataclass
class Categorical:
    """Independent ids of a vocabulary along the last axis."""

    logits: Tensor  # [..., size, vocabulary], unnormalized

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-probability of ids `value` [..., size], which are whole numbers: [...] in nats."""
        chosen = torch.take_along_dim(self.logits, value.long().unsqueeze(-1), -1).squeeze(-1)
        return (chosen - torch.logsumexp(self.logits, -1)).sum(-1)

    def at(self, noise: Tensor, temperature: float = 1.0) -> Tensor:
        """The draw [..., size] to which standard normal `noise` [..., size] is mapped.

        `temperature` divides the logits; at 0 the draw is the most probable id.
        """
        uniform = torch.special.ndtr(noise.double()).unsqueeze(-1)  # in float32, sums over a vocabulary lose the rare
        return choose_component(self.logits.double(), uniform, temperature).squeeze(-1).to(self.logits.dtype)


def choose_component(logits: Tensor, uniform: Tensor, temperature: float = 1.0) -> Tensor:
    """The component [..., 1] that numbers between 0 and 1, [..., 1], choose, given `logits` [..., components].

    `temperature` divides the logits; at 0 the component is the most probable one. In a mixture of samples the choice is
    often between a glottal pulse and none: of two draws, either is speech, and what lies between them is not.
    """
    if temperature == 0:
        return logits.argmax(-1, keepdim=True)
    below = logits - logits.amax(-1, keepdim=True)  # so that no temperature, however small, makes them infinite
    cumulative = torch.softmax(below / temperature, -1).cumsum(-1)
    index: Tensor = (uniform > cumulative).sum(-1, keepdim=True)
    return index.clamp(max=logits.shape[-1] - 1)
