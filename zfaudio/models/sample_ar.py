"""The autoregressive head by itself: each sample from the window before it, no state, no latents.

    p(x_{t+1} | x_t) = prod_i p(x_{t+1,i} | the head_window samples before it)

The floor that every model of frames is held against: what it scores needs no memory beyond a few milliseconds.
"""

import torch
from torch import Tensor

from zfaudio.distributions import Quantizer
from zfaudio.models.autoregressive_head import AutoregressiveOutput
from zfaudio.models.base import (
    Ablation,
    FrameDistribution,
    FrameModel,
    FrameTerms,
    RecurrentState,
    on,
    scored_steps,
)
from zfaudio.models.config import ModelConfig


class SampleAR(FrameModel):
    """The model of this file's docstring."""

    bound = "exact"

    def __init__(self, config: ModelConfig, frame_size: int, quantizer: Quantizer) -> None:
        super().__init__()
        self.config, self.frame_size = config, frame_size
        self.output = AutoregressiveOutput(0, frame_size, config, quantizer)
        self.frame_noise_size = self.output.noise_size

    def initial_state(self, batch_size: int) -> RecurrentState:
        """Nothing is carried on."""
        return ()

    def forward(
        self,
        frames: Tensor,
        lengths: Tensor,
        state: RecurrentState | None = None,
        noise: Tensor | None = None,
        ablation: Ablation = "none",
    ) -> FrameTerms:
        """The exact log-likelihood; see `FrameModel.forward`. There is nothing to do without."""
        frames = self.output.observe(frames)
        scored = scored_steps(lengths, frames.shape[1] - 1)
        log_likelihood = on(scored, self._predict(frames[:, :-1]).log_prob(frames[:, 1:]))
        nothing = torch.zeros_like(log_likelihood)
        return FrameTerms(log_likelihood, nothing, nothing, None, None, state=())

    def read_backward(self, frames: Tensor, lengths: Tensor) -> None:
        """Nothing: the future is not read."""

    def step(
        self,
        frame: Tensor,
        state: RecurrentState,
        latent_temperature: float = 1.0,
        backward: Tensor | None = None,
        noise: Tensor | None = None,
    ) -> tuple[FrameDistribution, RecurrentState]:
        """One step of generation; see `FrameModel.step`."""
        return self._predict(frame), ()

    def _predict(self, previous: Tensor) -> FrameDistribution:
        return self.output(previous[..., :0], previous)
