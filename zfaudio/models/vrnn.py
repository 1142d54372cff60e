"""VRNN (Chung et al., 2015, "A Recurrent Latent Variable Model for Sequential Data", equations 5 to 11).

Step t reads frame x_t and scores x_{t+1}; z_t explains x_{t+1}, and both enter the next state:

    h_t = LSTM([embed(x_t), gen(z_{t-1})], h_{t-1})     z_0 = 0
    p(z_t | h_t) = N(mu_p, sigma_p)                     prior
    q(z_t | h_t, x_{t+1}) = N(mu_q, sigma_q)            posterior: reads the frame itself, but not what follows
    p(x_{t+1} | decode([gen(z_t), h_t]))                a frame likelihood and head of heads.py

It uses the loop of Z-forcing, one step later: starting from h_1, draw z_t, then step the LSTM with x_{t+1} and z_t.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from zfaudio.config import VRNNConfig
from zfaudio.models.base import (
    Ablation,
    FrameModel,
    FrameTerms,
    Latents,
    RecurrentState,
    draw,
    latent_path,
    latent_terms,
    scored_steps,
    zero_unscored,
)
from zfaudio.models.encoders import build_encoder
from zfaudio.models.frame_likelihoods import FrameDistribution
from zfaudio.models.heads import build_head
from zfaudio.models.input_dropout import InputDropout
from zfaudio.models.past import first_state, open_signal, past_of_chunks, zero_padding
from zfaudio.observations import EVERY_CONTENT, Observation
from zfaudio.ops.cells import LatentLSTMCell, LatentState, State, at_end, zero_state
from zfaudio.ops.networks import ClampedLeakyReLU, GaussianMLP


class VRNN(FrameModel):
    """VRNN; the equations are at the top of this file."""

    config_class = VRNNConfig
    bound = "elbo"
    config: VRNNConfig
    kinds = EVERY_CONTENT

    def __init__(self, config: VRNNConfig, frame_size: int, observation: Observation) -> None:
        super().__init__(config, frame_size, observation)
        self.latent_size = config.latent_size
        hidden, latent, mlp = config.hidden_size, config.latent_size, config.mlp_size
        self.encoder = build_encoder(frame_size, config, observation)
        self.embed = nn.Linear(self.encoder.feature_size, config.embedding_size)
        self.prior = GaussianMLP(hidden, mlp, latent)
        self.posterior = GaussianMLP(hidden + config.embedding_size, mlp, latent)
        self.input_dropout = InputDropout(config.input_dropout)
        self.cell = LatentLSTMCell(config.embedding_size, latent, mlp, hidden)
        self.decode = nn.Sequential(nn.Linear(mlp + hidden, mlp), ClampedLeakyReLU())
        self.output = build_head(mlp, frame_size, config, observation)
        self.frame_noise_size = self.output.noise_size
        self.past = max(self.encoder.past, self.output.past)

    def initial_state(self, batch_size: int) -> RecurrentState:
        """Zeros, in the precision of the weights."""
        zeros = zero_state(self.embed.weight, batch_size, self.config.hidden_size)
        return first_state(LatentState(*zeros, zeros.hidden.new_zeros(batch_size, self.latent_size)), self.past)

    def forward(
        self,
        frames: Tensor,
        lengths: Tensor,
        state: RecurrentState | None = None,
        noise: Tensor | None = None,
        ablation: Ablation = "none",
        future_state: RecurrentState | None = None,
    ) -> FrameTerms:
        """The terms of the bound, with one draw of z_1..z_{T-1} from the posterior; see `FrameModel.forward`."""
        batch, time, _ = frames.shape
        frames = zero_padding(self.output.observe(frames), lengths)
        own, signal = open_signal(frames, self.initial_state(batch) if state is None else state, self.past)
        previous = LatentState(*own)
        features = self.encoder(signal.heard(self.encoder.past))  # [B, T, size]
        heard = self.input_dropout(features)
        first = self.cell(self.embed(heard[:, 0]), previous.latents, State(previous.hidden, previous.cell))
        path = latent_path(
            config=self.config,
            ablation=ablation,
            prior=self.prior,
            posterior=self.posterior,
            lstm_cell=self.cell,
            embed=self.embed,
            frames=heard[:, 1:],
            future=self.embed(features[:, 1:]),
            noise=self.noise_or_new(frames, noise),
            state=first,
        )

        hidden = path.previous_hidden
        latents = Latents(self.prior(hidden), path.posterior, path.latents)
        known = torch.zeros_like(hidden) if ablation == "state" else hidden
        scored = scored_steps(lengths, time - 1)  # [B, T-1]
        condition = self._decoded(path.latents, known)
        log_likelihood = self.output(condition, signal.heard(self.output.past, time - 1)).log_prob(frames[:, 1:])
        cell = torch.cat([first.cell.unsqueeze(1), path.cell[:, :-1]], dim=1)  # of the same steps as `hidden`
        return FrameTerms(
            log_likelihood=zero_unscored(log_likelihood, scored),
            **latent_terms(scored, latents),
            log_auxiliary=None,
            log_backward=None,
            # The path has already read the last frame. The next call reads it again, with its latents.
            state=signal.after(
                LatentState(at_end(hidden, lengths - 1), at_end(cell, lengths - 1), at_end(path.latents, lengths - 1)),
                lengths - 1,
            ),
            latents=latents,
            hidden=hidden,
        )

    def read_future(self, frames: Tensor, lengths: Tensor, future_state: RecurrentState | None = None) -> Tensor:
        """embed(x_{t+1}), [batch, time - 1, embedding]; see `FrameModel.read_future`."""
        before = self.initial_state(len(frames)) if future_state is None else future_state
        _, signal = open_signal(zero_padding(frames, lengths), before, self.past)
        embedded: Tensor = self.embed(self.encoder(signal.heard(self.encoder.past))[:, 1:])
        return embedded

    def future_states(self, chunks: Sequence[Tensor]) -> list[RecurrentState]:
        """The samples before each chunk; the posterior looks ahead one frame. See `FrameModel.future_states`."""
        return list(past_of_chunks(chunks, self.past, self.output.observe))

    def step(
        self,
        frame: Tensor,
        state: RecurrentState,
        latent_temperature: float = 1.0,
        future: Tensor | None = None,
        noise: Tensor | None = None,
        latents: Tensor | None = None,
    ) -> tuple[FrameDistribution, RecurrentState]:
        """A step of generation; see `FrameModel.step`."""
        own, signal = open_signal(frame.unsqueeze(1), state, self.past)
        previous = LatentState(*own)
        features = self.input_dropout(self.encoder(signal.heard(self.encoder.past))[:, 0])
        hidden, cell = self.cell(self.embed(features), previous.latents, State(previous.hidden, previous.cell))
        drawn_from = self.prior(hidden) if future is None else self.posterior(hidden, future)
        latents = draw(drawn_from, latent_temperature, noise) if latents is None else latents
        density = self.output.step(self._decoded(latents, hidden), signal.heard(self.output.past))
        return density, signal.after(LatentState(hidden, cell, latents))

    def _decoded(self, latents: Tensor, hidden: Tensor) -> Tensor:
        """decode([gen(z_t), h_t]): z_t [..., Z] and h_t [..., H] -> [..., mlp]."""
        decoded: Tensor = self.decode(torch.cat([self.cell.gen(latents), hidden], dim=-1))
        return decoded
