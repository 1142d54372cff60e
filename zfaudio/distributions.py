"""Gaussian densities over frames and latents, in nats, always computed in float32 or better."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

LOG_2PI = math.log(2 * math.pi)


@dataclass
class DiagonalGaussian:
    """Independent Gaussians along the last axis: a frame of samples or a latent vector."""

    mean: Tensor  # [..., size]
    log_variance: Tensor  # [..., size]

    @property
    def deviation(self) -> Tensor:
        """Standard deviation, [..., size]."""
        return torch.exp(0.5 * self.log_variance)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density of `value` [..., size], summed over the last axis: [...] in nats."""
        squared = (value - self.mean).square() * torch.exp(-self.log_variance)
        return -0.5 * (LOG_2PI + self.log_variance + squared).sum(-1)

    def sample(self, temperature: float = 1.0) -> Tensor:
        """One reparameterised draw, [..., size]; `temperature` scales the deviation."""
        return self.at(torch.randn_like(self.mean), temperature)

    def at(self, noise: Tensor, temperature: float = 1.0) -> Tensor:
        """The draw that standard normal `noise` [..., size] stands for."""
        return self.mean + temperature * self.deviation * noise


def gaussian_kl(left: DiagonalGaussian, right: DiagonalGaussian) -> Tensor:
    """KL(left || right) summed over the last axis: [...] in nats."""
    log_ratio = right.log_variance - left.log_variance
    squared = (left.mean - right.mean).square() * torch.exp(-right.log_variance)
    return 0.5 * (log_ratio + torch.exp(-log_ratio) + squared - 1).sum(-1)


def split_gaussian(parameters: Tensor, limit: float | None = None, min_deviation: float = 0.0) -> DiagonalGaussian:
    """Read a network's output [..., 2 * size] as means and log-variances.

    Args:
        parameters: means, then log-variances.
        limit: clamp both to [-limit, limit], as the published code does for latents (limit 8).
        min_deviation: a floor: the variance is exp(log-variance) + min_deviation ** 2, which keeps a gradient
            where it binds, as a clamp would not.
    """
    parameters = parameters.to(torch.promote_types(parameters.dtype, torch.float32))
    if limit is not None:
        parameters = parameters.clamp(-limit, limit)
    mean, log_variance = parameters.chunk(2, dim=-1)
    if min_deviation > 0:
        log_variance = torch.logaddexp(log_variance, log_variance.new_tensor(2 * math.log(min_deviation)))
    return DiagonalGaussian(mean, log_variance)
