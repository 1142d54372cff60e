"""Heads: from what a model knows to the density of the next frame.

A head of another package is a subclass of `FrameHead`, named by its import path in `model.head`.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from zfaudio.config import FrameDensityConfig
from zfaudio.errors import UserError
from zfaudio.models.fitting import find_fitting
from zfaudio.models.frame_likelihoods import FrameDistribution, FrameLikelihood, build_likelihood
from zfaudio.observations import EVERY_CONTENT, Binary, Content, Observation

HEADS = {
    "factorized": "zfaudio.models.heads.FactorizedHead",
    "autoregressive": "zfaudio.models.autoregressive_head.AutoregressiveHead",
    "tiered": "zfaudio.models.tiered_head.TieredHead",
    "dilated": "zfaudio.models.dilated_head.DilatedHead",
}
PIXEL_HEADS = {"autoregressive": "zfaudio.models.pixel_head.PixelHead"}  # in place of those of HEADS

# How many numbers that describe densities are computed at a time where no gradient is needed: 16 MB.
NUMBERS_AT_ONCE = 1 << 22


class FrameHead(nn.Module, ABC):
    """A network from a condition, and the samples before, to the density of a frame.

    A subclass is built with (condition_size, frame_size, config, observation).
    """

    kinds: ClassVar[tuple[Content, ...]] = ("waveform",)  # of frames that it predicts
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

    kinds = EVERY_CONTENT

    def __init__(
        self, condition_size: int, frame_size: int, config: FrameDensityConfig, observation: Observation
    ) -> None:
        super().__init__()
        self.likelihood = build_likelihood(config, frame_size, observation)
        self.noise_size = self.likelihood.noise_size
        self.linear = nn.Linear(condition_size, self.likelihood.parameters)

    def forward(self, condition: Tensor, samples: Tensor) -> FrameDistribution:
        """See `FrameHead.forward`; of the samples only their grid matters."""
        grid = self.likelihood.grid(samples.unflatten(-1, (condition.shape[-2], -1)))
        if condition.shape[:-1].numel() * self.likelihood.parameters > NUMBERS_AT_ONCE and not torch.is_grad_enabled():
            return FactorizedFrames(self, condition, grid)
        return self.density(condition, grid)

    def step(self, condition: Tensor, samples: Tensor) -> FrameDistribution:
        """See `FrameHead.step`; of the samples only their grid matters."""
        return self.density(condition, self.likelihood.grid(samples))

    def density(self, condition: Tensor, grid: Tensor | None) -> FrameDistribution:
        """The density of frames, given conditions [..., size] and the grids [..., 1] before them."""
        return self.likelihood.on_grid(self.likelihood.read(self.linear(condition)), grid)


@dataclass
class FactorizedFrames:
    """The densities of so many frames that they are scored part by part, which bounds the memory.

    A vocabulary of 16,000 words takes as many numbers for each frame.
    """

    head: FactorizedHead
    condition: Tensor  # [batch, steps, size]
    grid: Tensor | None  # [batch, steps, 1]

    def log_prob(self, frames: Tensor) -> Tensor:
        """Log-density of frames [batch, steps, frame_size]: [batch, steps] in nats."""
        at_once = max(1, NUMBERS_AT_ONCE // self.head.likelihood.parameters)
        conditions, targets = self.condition.flatten(0, 1).split(at_once), frames.flatten(0, 1).split(at_once)
        grids = len(targets) * [None] if self.grid is None else self.grid.flatten(0, 1).split(at_once)
        log_probs = [
            self.head.density(condition, grid).log_prob(target)
            for condition, grid, target in zip(conditions, grids, targets, strict=True)
        ]
        return torch.cat(log_probs).view(frames.shape[:-1])

    def at(self, noise: Tensor, temperature: float = 1.0) -> Tensor:
        """The frames [batch, steps, frame_size] that standard normal noise is mapped to."""
        return self.head.density(self.condition, self.grid).at(noise, temperature)


def check_stride(config: FrameDensityConfig, frame_size: int) -> None:
    """Raises UserError if frames cannot be scored at every `head_stride`-th of their samples or pixels."""
    if frame_size % config.head_stride:
        raise UserError(f"model.head_stride is {config.head_stride}; it must divide the frame size, {frame_size}")


def places_to_score(samples: int, stride: int, device: torch.device) -> Tensor:
    """One of every `stride` of so many samples, the first of them at random: int64 [samples / stride]."""
    places = torch.arange(0, samples, stride, device=device)
    return places + torch.randint(stride, (), device=device) if stride > 1 else places


def build_head(condition_size: int, frame_size: int, config: FrameDensityConfig, observation: Observation) -> FrameHead:
    """The head that `config.head` names.

    Args:
        condition_size: size of the condition that the model gives it; 0 for none.
        frame_size: samples per frame.
        config: settings of the density.
        observation: what a frame holds; of recordings, where the 16-bit integers lie among standardized samples.

    Raises:
        UserError: there is no such head, or its settings do not fit the frame size.
    """
    heads = HEADS | PIXEL_HEADS if isinstance(observation, Binary) else HEADS
    head = find_fitting(config.head, heads, FrameHead, "model.head", observation)
    return head(condition_size, frame_size, config, observation)
