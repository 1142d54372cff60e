"""Heads: from what a model knows to the density of the next frame.

A head of another package is a subclass of `FrameHead`, named by its import path in `model.head`.
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from zfaudio.config import FrameDensityConfig
from zfaudio.distributions import Quantizer
from zfaudio.models.frame_likelihoods import FrameDistribution, FrameLikelihood, build_likelihood
from zfaudio.plugins import find_class

HEADS = {
    "factorized": "zfaudio.models.heads.FactorizedHead",
    "autoregressive": "zfaudio.models.autoregressive_head.AutoregressiveHead",
    "tiered": "zfaudio.models.tiered_head.TieredHead",
    "dilated": "zfaudio.models.dilated_head.DilatedHead",
}


class FrameHead(nn.Module, ABC):
    """A network from a condition, and the samples before, to the density of a frame.

    A subclass is built with (condition_size, frame_size, config, quantizer).
    """

    likelihood: FrameLikelihood
    noise_size: int  # how many standard normal numbers the draw of a frame needs
    past: int = 0  # how many samples before the previous frame it reads

    def observe(self, frames: Tensor) -> Tensor:
        """Frames as the model should read them, see `FrameLikelihood.observe`."""
        return self.likelihood.observe(frames)

    @abstractmethod
    def forward(self, condition: Tensor, samples: Tensor) -> FrameDistribution:
        """The densities of the frames of a sequence, each given the samples before it.

        Args:
            condition: of each frame, [batch, steps, size].
            samples: of the frames before: x_1..x_S if the densities are those of x_2..x_{S+1}, with `past` samples in
                front of them, [batch, past + steps * frame_size].

        Returns:
            A density over [batch, steps, frame_size].
        """

    @abstractmethod
    def step(self, condition: Tensor, samples: Tensor) -> FrameDistribution:
        """The density of a single frame, for generation.

        Args:
            condition: [batch, size].
            samples: the previous frame with `past` samples in front of it, [batch, past + frame_size].

        Returns:
            A density over [batch, frame_size].
        """


class FactorizedHead(FrameHead):
    """A linear map from the condition to a density in which samples (of one component) are independent."""

    def __init__(self, condition_size: int, frame_size: int, config: FrameDensityConfig, quantizer: Quantizer) -> None:
        super().__init__()
        self.likelihood = build_likelihood(config, frame_size, quantizer)
        self.noise_size = self.likelihood.noise_size
        self.linear = nn.Linear(condition_size, self.likelihood.parameters)

    def forward(self, condition: Tensor, samples: Tensor) -> FrameDistribution:
        """See `FrameHead.forward`; of the samples only their grid matters."""
        return self.step(condition, samples.unflatten(-1, (condition.shape[-2], -1)))

    def step(self, condition: Tensor, samples: Tensor) -> FrameDistribution:
        """See `FrameHead.step`; of the samples only their grid matters."""
        return self.likelihood.on_grid(self.likelihood.read(self.linear(condition)), self.likelihood.grid(samples))


def places_to_score(samples: int, stride: int, device: torch.device) -> Tensor:
    """One of every `stride` of so many samples, the first of them at random: int64 [samples / stride]."""
    places = torch.arange(0, samples, stride, device=device)
    return places + torch.randint(stride, (), device=device) if stride > 1 else places


def build_head(condition_size: int, frame_size: int, config: FrameDensityConfig, quantizer: Quantizer) -> FrameHead:
    """The head that `config.head` names.

    Args:
        condition_size: size of the condition that the model gives it; 0 for none.
        frame_size: samples per frame.
        config: settings of the density.
        quantizer: where the 16-bit integers lie among standardized samples.

    Raises:
        UserError: there is no such head, or its settings do not fit the frame size.
    """
    head = find_class(config.head, HEADS, FrameHead, "model.head")
    return head(condition_size, frame_size, config, quantizer)
