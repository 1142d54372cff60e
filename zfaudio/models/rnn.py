"""A recurrent network without latents, the baseline of the models with latents.

Step t reads frame x_t and scores x_{t+1}:

    h_t = LSTM(embed(x_t), h_{t-1})
    p(x_{t+1} | h_t)                 a frame likelihood and head of heads.py

With Gaussian frames and with mixtures of Gaussians it is RNN-Gauss and RNN-GMM of Chung et al., 2015 ("A Recurrent
Latent Variable Model for Sequential Data"); with the autoregressive head, the hierarchical model of Lai et al., 2019.
Its likelihood is exact.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from zfaudio.config import RNNConfig
from zfaudio.models.base import (
    Ablation,
    FrameModel,
    FrameTerms,
    RecurrentState,
    scored_steps,
    zero_unscored,
)
from zfaudio.models.encoders import build_encoder
from zfaudio.models.frame_likelihoods import FrameDistribution
from zfaudio.models.heads import build_head
from zfaudio.models.input_dropout import InputDropout
from zfaudio.models.past import first_state, open_signal, zero_padding
from zfaudio.observations import EVERY_CONTENT, Observation
from zfaudio.ops.cells import State, zero_state
from zfaudio.ops.lstm import LSTM


class RNN(FrameModel):
    """The recurrent network; the equations are at the top of this file."""

    config_class = RNNConfig
    bound = "exact"
    config: RNNConfig
    kinds = EVERY_CONTENT

    def __init__(self, config: RNNConfig, frame_size: int, observation: Observation) -> None:
        super().__init__(config, frame_size, observation)
        self.encoder = build_encoder(frame_size, config, observation)
        self.embed = nn.Linear(self.encoder.feature_size, config.embedding_size)
        self.input_dropout = InputDropout(config.input_dropout)
        self.lstm = LSTM(config.embedding_size, config.hidden_size, config.core)
        self.output = build_head(config.hidden_size, frame_size, config, observation)
        self.frame_noise_size = self.output.noise_size
        self.past = max(self.encoder.past, self.output.past)

    def initial_state(self, batch_size: int) -> RecurrentState:
        """Zeros, in the precision of the weights."""
        return first_state(zero_state(self.embed.weight, batch_size, self.config.hidden_size), self.past)

    def forward(
        self,
        frames: Tensor,
        lengths: Tensor,
        state: RecurrentState | None = None,
        noise: Tensor | None = None,
        ablation: Ablation = "none",
        future_state: RecurrentState | None = None,
    ) -> FrameTerms:
        """The exact log-likelihood; see `FrameModel.forward`."""
        batch, time, _ = frames.shape
        frames = zero_padding(self.output.observe(frames), lengths)
        own, signal = open_signal(frames, self.initial_state(batch) if state is None else state, self.past)
        features = self.input_dropout(self.encoder(signal.heard(self.encoder.past, time - 1)))
        hidden, own = self.lstm.run(features, lengths - 1, State(*own), self.embed)  # [B, T-1, H]
        known = torch.zeros_like(hidden) if ablation == "state" else hidden
        scored = scored_steps(lengths, time - 1)  # [B, T-1]
        log_likelihood = self.output(known, signal.heard(self.output.past, time - 1)).log_prob(frames[:, 1:])
        return FrameTerms.exact(zero_unscored(log_likelihood, scored), signal.after(own, lengths - 1), hidden)

    def future_states(self, chunks: Sequence[Tensor]) -> list[RecurrentState]:
        """Nothing: the model looks back only; see `FrameModel.future_states`."""
        return [() for _ in range(len(chunks))]

    def step(
        self,
        frame: Tensor,
        state: RecurrentState,
        latent_temperature: float = 1.0,
        future: Tensor | None = None,
        noise: Tensor | None = None,
        latents: Tensor | None = None,
    ) -> tuple[FrameDistribution, RecurrentState]:
        """A step of generation; see `FrameModel.step`. There are no latents to draw."""
        previous, signal = open_signal(frame.unsqueeze(1), state, self.past)
        features = self.input_dropout(self.encoder(signal.heard(self.encoder.past))[:, 0])
        own = self.lstm.step(self.embed(features), State(*previous))
        return self.output.step(own.hidden, signal.heard(self.output.past)), signal.after(own)
