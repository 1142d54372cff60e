"""Heads: from what a model knows to the density of the next frame.

A head of another package is a subclass of `FrameHead`, named by its import path in `model.head`.
"""

from abc import ABC, abstractmethod

from torch import Tensor, nn

from zfaudio.config import FrameDensityConfig
from zfaudio.distributions import Quantizer
from zfaudio.models.frame_likelihoods import FrameDistribution, FrameLikelihood, build_likelihood
from zfaudio.plugins import find_class

HEADS = {
    "factorized": "zfaudio.models.heads.FactorizedHead",
    "autoregressive": "zfaudio.models.autoregressive_head.AutoregressiveHead",
}


class FrameHead(nn.Module, ABC):
    """A network from a condition, and the frame before, to the density of a frame.

    A subclass is built with (condition_size, frame_size, config, quantizer).
    """

    likelihood: FrameLikelihood
    noise_size: int  # how many standard normal numbers the draw of a frame needs

    def observe(self, frames: Tensor) -> Tensor:
        """Frames as the model should read them, see `FrameLikelihood.observe`."""
        return self.likelihood.observe(frames)

    @abstractmethod
    def forward(self, condition: Tensor, previous_frame: Tensor) -> FrameDistribution:
        """The density of the frame that follows `previous_frame` [..., frame_size], given condition [..., size]."""


class FactorizedHead(FrameHead):
    """A linear map from the condition to a density in which samples (of one component) are independent."""

    def __init__(self, condition_size: int, frame_size: int, config: FrameDensityConfig, quantizer: Quantizer) -> None:
        super().__init__()
        self.likelihood = build_likelihood(config, frame_size, quantizer)
        self.noise_size = self.likelihood.noise_size
        self.linear = nn.Linear(condition_size, self.likelihood.parameters)

    def forward(self, condition: Tensor, previous_frame: Tensor) -> FrameDistribution:
        """See `FrameHead.forward`; the frame before is not read."""
        return self.likelihood.read(self.linear(condition))


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
