"""Frame likelihoods: how a network's output is read as a density over samples.

A likelihood of another package is a subclass of `FrameLikelihood`, named by its import path in `model.likelihood`.
"""

import dataclasses
import math
from abc import ABC, abstractmethod
from typing import ClassVar, Protocol, cast

import torch
from torch import Tensor

from zfaudio.config import LikelihoodConfig
from zfaudio.distributions import (
    Bernoulli,
    Categorical,
    DiagonalGaussian,
    GaussianMixture,
    LogisticMixture,
    floor_deviation,
    grid_of,
)
from zfaudio.models.fitting import find_fitting
from zfaudio.observations import Content, Observation, Quantizer, Tokens, of_recordings
from zfaudio.ops.sample_draw import SampleLikelihood

LIKELIHOODS = {
    "gaussian": "zfaudio.models.frame_likelihoods.GaussianLikelihood",
    "gaussian_mixture": "zfaudio.models.frame_likelihoods.GaussianMixtureLikelihood",
    "logistic_mixture": "zfaudio.models.frame_likelihoods.LogisticMixtureLikelihood",
    "mulaw": "zfaudio.models.mulaw_likelihood.MuLawLikelihood",
    "bernoulli": "zfaudio.models.frame_likelihoods.BernoulliLikelihood",
    "categorical": "zfaudio.models.frame_likelihoods.CategoricalLikelihood",
}

# Smallest scale of a logistic, in 16-bit steps. It is a point mass long before that, and below it exp(-log_scale) would
# overflow at some point.
SMALLEST_SCALE = 1e-3


class FrameDistribution(Protocol):
    """A density over frames [..., frame_size]."""

    def log_prob(self, frames: Tensor) -> Tensor:
        """Log-density of frames [..., frame_size]: [...] in nats."""

    def at(self, noise: Tensor, temperature: float = 1.0) -> Tensor:
        """The draw [..., frame_size] that standard normal `noise` [..., frame_noise_size] is mapped to.

        `temperature` scales the deviation around the mean.
        """


class FrameLikelihood(ABC):
    """Reads parameters as a density over `size` samples: a whole frame, or a single sample of it.

    Args:
        config: settings of the density.
        size: number of samples.
        observation: what a frame holds; of recordings, where the 16-bit integers lie among standardized samples.
    """

    kinds: ClassVar[tuple[Content, ...]] = ("waveform",)  # of frames that it describes

    def __init__(self, config: LikelihoodConfig, size: int, observation: Observation) -> None:
        self.config, self.size, self.observation = config, size, observation

    @property
    def quantizer(self) -> Quantizer:
        """Where the 16-bit integers lie among standardized samples. Raises UserError if frames hold something else."""
        return of_recordings(self.observation, f"model.likelihood {self.config.likelihood}")

    @property
    @abstractmethod
    def parameters(self) -> int:
        """How many numbers describe one density."""

    @property
    @abstractmethod
    def noise_size(self) -> int:
        """How many standard normal numbers one draw needs."""

    def observe(self, frames: Tensor) -> Tensor:
        """Frames as the model should read them; a discretized density rounds them to 16-bit steps."""
        return frames

    @abstractmethod
    def read(self, parameters: Tensor, origin: Tensor | float = 0.0, level: Tensor | float = 1.0) -> FrameDistribution:
        """The density that the output of a network describes.

        Args:
            parameters: [..., parameters], of any precision; the density is computed in float32 or better.
            origin: added to the means, [..., 1].
            level: unit of the means and scales, [..., 1].
        """

    def grid(self, samples: Tensor) -> Tensor | None:
        """The grid [..., 1] on which the samples [..., n] before a frame lie, for a density of integers."""
        return None

    def on_grid(self, density: FrameDistribution, grid: Tensor | None) -> FrameDistribution:
        """The density of a frame, or of a sample, after samples on that grid."""
        return density


class GaussianLikelihood(FrameLikelihood):
    """A Gaussian with a diagonal covariance."""

    @property
    def parameters(self) -> int:
        """A mean and a log-variance of each sample."""
        return 2 * self.size

    @property
    def noise_size(self) -> int:
        """One number per sample."""
        return self.size

    def read(self, parameters: Tensor, origin: Tensor | float = 0.0, level: Tensor | float = 1.0) -> DiagonalGaussian:
        """See `FrameLikelihood.read`."""
        mean, log_variance = at_least_float32(parameters).chunk(2, dim=-1)
        log_variance = floor_deviation(log_variance + 2 * log_of(level), self.config.min_deviation)
        return DiagonalGaussian(origin + mean * level, log_variance)


class GaussianMixtureLikelihood(FrameLikelihood):
    """A mixture of Gaussians with diagonal covariances over all `size` samples."""

    @property
    def parameters(self) -> int:
        """Of each component a logit, and a mean and a log-variance of each sample."""
        return self.config.components * (1 + 2 * self.size)

    @property
    def noise_size(self) -> int:
        """Two numbers per sample: for the choice of the component, and for the draw from it."""
        return 2 * self.size

    def read(self, parameters: Tensor, origin: Tensor | float = 0.0, level: Tensor | float = 1.0) -> GaussianMixture:
        """See `FrameLikelihood.read`."""
        components, shape = self.config.components, (self.config.components, self.size)
        logits, mean, log_variance = at_least_float32(parameters).split(
            [components, components * self.size, components * self.size], dim=-1
        )
        log_variance = floor_deviation(log_variance + 2 * log_of(level), self.config.min_deviation)
        return GaussianMixture(
            logits,
            DiagonalGaussian((origin + mean * level).unflatten(-1, shape), log_variance.unflatten(-1, shape)),
        )


class LogisticMixtureLikelihood(FrameLikelihood):
    """A mixture of logistics for each sample, integrated over 16-bit steps: the probability of the integers."""

    @property
    def parameters(self) -> int:
        """Of each component and sample a logit, a mean and a log-scale."""
        return 3 * self.config.components * self.size

    @property
    def noise_size(self) -> int:
        """Two numbers per sample: for the choice of the component, and for the draw from it."""
        return 2 * self.size

    def observe(self, frames: Tensor) -> Tensor:
        """Whole 16-bit steps: the noise of dequantization is removed, so that the probability is exact."""
        return self.quantizer.round(frames)

    def grid(self, samples: Tensor) -> Tensor:
        """See `FrameLikelihood.grid` and `grid_of`."""
        return grid_of(samples, self.quantizer)

    def on_grid(self, density: FrameDistribution, grid: Tensor | None) -> FrameDistribution:
        """See `FrameLikelihood.on_grid`."""
        return dataclasses.replace(cast(LogisticMixture, density), grid=grid)

    def read(self, parameters: Tensor, origin: Tensor | float = 0.0, level: Tensor | float = 1.0) -> LogisticMixture:
        """See `FrameLikelihood.read`."""
        shape = (self.size, self.config.components)
        smallest = math.log(SMALLEST_SCALE * self.quantizer.step)
        logits, mean, log_scale = at_least_float32(parameters).chunk(3, dim=-1)
        return LogisticMixture(
            logits.unflatten(-1, shape),
            (origin + mean * level).unflatten(-1, shape),
            (log_scale + log_of(level)).clamp(min=smallest).unflatten(-1, shape),
            self.quantizer,
        )


class BernoulliLikelihood(FrameLikelihood):
    """A probability of 1 for each pixel. Pixels have no level, so `origin` and `level` of `read` are not used."""

    kinds = ("binary",)

    @property
    def parameters(self) -> int:
        """A logit of each pixel."""
        return self.size

    @property
    def noise_size(self) -> int:
        """One number per pixel."""
        return self.size

    def read(self, parameters: Tensor, origin: Tensor | float = 0.0, level: Tensor | float = 1.0) -> Bernoulli:
        """See `FrameLikelihood.read`."""
        return Bernoulli(at_least_float32(parameters))


class CategoricalLikelihood(FrameLikelihood):
    """A probability for each id of a vocabulary. Ids have no level, so `origin` and `level` of `read` are not used."""

    kinds = ("tokens",)

    @property
    def parameters(self) -> int:
        """A logit of each id."""
        return self.size * cast(Tokens, self.observation).vocabulary

    @property
    def noise_size(self) -> int:
        """One number per id."""
        return self.size

    def read(self, parameters: Tensor, origin: Tensor | float = 0.0, level: Tensor | float = 1.0) -> Categorical:
        """See `FrameLikelihood.read`."""
        return Categorical(at_least_float32(parameters).unflatten(-1, (self.size, -1)))


def build_likelihood(config: LikelihoodConfig, size: int, observation: Observation) -> FrameLikelihood:
    """The likelihood over `size` samples that `config.likelihood` names.

    Raises:
        UserError: there is no such one, or it is not for such frames.
    """
    likelihood = find_fitting(config.likelihood, LIKELIHOODS, FrameLikelihood, "model.likelihood", observation)
    return likelihood(config, size, observation)


def sample_likelihood(config: LikelihoodConfig, quantizer: Quantizer) -> SampleLikelihood:
    """What compiled loops over samples need to know of a likelihood, whose name is one of their KINDS."""
    return SampleLikelihood(
        kind=config.likelihood,
        components=config.components,
        min_deviation=config.min_deviation,
        min_scale=SMALLEST_SCALE * quantizer.step,
        mean=quantizer.mean,
        deviation=quantizer.deviation,
    )


def at_least_float32(values: Tensor) -> Tensor:
    """Values in float32, or as they are if they are more precise."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def log_of(level: Tensor | float) -> Tensor:
    """Logarithm of a level."""
    return torch.log(torch.as_tensor(level))
