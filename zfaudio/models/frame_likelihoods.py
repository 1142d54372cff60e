"""From a state to the density of the next frame: the frame likelihoods, as every model can have them."""

import math

import torch
from torch import Tensor, nn

from zfaudio.distributions import (
    DiagonalGaussian,
    GaussianMixture,
    LogisticMixture,
    Quantizer,
    floor_deviation,
)
from zfaudio.models.config import ModelConfig

SampleDensity = DiagonalGaussian | GaussianMixture | LogisticMixture

# A logistic far narrower than a 16-bit step is a point mass already; below, exp(-log_scale) would overflow in the end.
NARROWEST = 1e-3  # steps


class DensityLayout:
    """How a network's output is read as a density over `size` samples: a whole frame, or one sample of it."""

    def __init__(self, config: ModelConfig, size: int, quantizer: Quantizer) -> None:
        self.kind, self.components, self.min_deviation = config.likelihood, config.components, config.min_deviation
        self.size, self.quantizer = size, quantizer

    @property
    def parameters(self) -> int:
        """Numbers that describe one density."""
        if self.kind == "gaussian":
            return 2 * self.size
        if self.kind == "gaussian_mixture":
            return self.components * (1 + 2 * self.size)
        return 3 * self.components * self.size

    @property
    def noise_size(self) -> int:
        """Standard normal numbers that one draw takes."""
        return self.size if self.kind == "gaussian" else 2 * self.size

    def observe(self, frames: Tensor) -> Tensor:
        """Frames as the model is to read them: under a discretized density, whole 16-bit steps.

        With dequantization undone, the density is that of the integers and their probability exact.
        """
        return self.quantizer.round(frames) if self.kind == "logistic_mixture" else frames

    def read(self, parameters: Tensor, origin: Tensor | float = 0.0, level: Tensor | float = 1.0) -> SampleDensity:
        """The density of a network's output.

        Args:
            parameters: [..., parameters], of any precision; densities are in float32 or better.
            origin: what means are counted from, [..., 1].
            level: what means and scales are counted in, [..., 1].
        """
        parameters = parameters.to(torch.promote_types(parameters.dtype, torch.float32))
        log_level = torch.log(torch.as_tensor(level))
        if self.kind == "gaussian":
            mean, log_variance = parameters.chunk(2, dim=-1)
            log_variance = floor_deviation(log_variance + 2 * log_level, self.min_deviation)
            return DiagonalGaussian(origin + mean * level, log_variance)
        if self.kind == "gaussian_mixture":
            logits, mean, log_variance = parameters.split(
                [self.components, self.components * self.size, self.components * self.size], dim=-1
            )
            log_variance = floor_deviation(log_variance + 2 * log_level, self.min_deviation)
            shape = (self.components, self.size)
            components = DiagonalGaussian(
                (origin + mean * level).unflatten(-1, shape), log_variance.unflatten(-1, shape)
            )
            return GaussianMixture(logits, components)
        logits, mean, log_scale = parameters.chunk(3, dim=-1)
        shape = (self.size, self.components)
        return LogisticMixture(
            logits.unflatten(-1, shape),
            (origin + mean * level).unflatten(-1, shape),
            (log_scale + log_level).clamp(min=math.log(NARROWEST * self.quantizer.step)).unflatten(-1, shape),
            self.quantizer,
        )


class FactorizedOutput(nn.Module):
    """A linear map from the state to a density whose samples (of one component) are independent."""

    def __init__(self, condition_size: int, frame_size: int, config: ModelConfig, quantizer: Quantizer) -> None:
        super().__init__()
        self.layout = DensityLayout(config, frame_size, quantizer)
        self.linear = nn.Linear(condition_size, self.layout.parameters)

    @property
    def noise_size(self) -> int:
        """Standard normal numbers that a frame's draw takes."""
        return self.layout.noise_size

    def observe(self, frames: Tensor) -> Tensor:
        """Frames as the model is to read them, see `DensityLayout.observe`."""
        return self.layout.observe(frames)

    def forward(self, condition: Tensor, previous: Tensor) -> SampleDensity:
        """Density of the frame that follows: condition [..., condition_size]; the frame before it is not read."""
        return self.layout.read(self.linear(condition))
