"""SRNN (Fraccaro et al., 2016, "Sequential Neural Models with Stochastic Layers", equations 1 to 12).

Step t reads frame x_t and scores x_{t+1}. The LSTM does not read the latents; they form a chain of their own:

    d_t = LSTM(embed(x_t), d_{t-1})
    p(z_t | z_{t-1}, d_t) = N(mu_p, sigma_p)                    prior, z_0 = 0
    a_t = LSTM_b([d_t, embed(x_{t+1})], a_{t+1})                backward in time (`smoothing`)
    a_t = [d_t, embed(x_{t+1})]                                 without `smoothing`: the posterior filters
    q(z_t | z_{t-1}, a_t) = N(mu_q, sigma_q)                    mu_q = mu_p + correction (`residual_posterior`)
    p(x_{t+1} | decode([z_t, d_t]))                             a frame likelihood and head of heads.py
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from zfaudio.config import SRNNConfig
from zfaudio.distributions import DiagonalGaussian, split_gaussian
from zfaudio.models.base import (
    Ablation,
    FrameModel,
    FrameTerms,
    Latents,
    RecurrentState,
    draw,
    for_each_draw,
    latent_terms,
    reverse,
    scored_steps,
    steps_of,
    zero_unscored,
)
from zfaudio.models.encoders import build_encoder
from zfaudio.models.frame_likelihoods import FrameDistribution
from zfaudio.models.heads import build_head
from zfaudio.models.input_dropout import InputDropout
from zfaudio.models.past import first_state, open_signal, past_of_chunks, zero_padding
from zfaudio.observations import EVERY_CONTENT, Observation
from zfaudio.ops.cells import LatentState, State, at_end, zero_state
from zfaudio.ops.latent_chain_fast import fast_latent_chain
from zfaudio.ops.lstm import LSTM
from zfaudio.ops.networks import ClampedLeakyReLU, GaussianMLP


class SRNN(FrameModel):
    """SRNN; the equations are at the top of this file."""

    config_class = SRNNConfig
    bound = "elbo"
    config: SRNNConfig
    kinds = EVERY_CONTENT
    many_draws = True

    def __init__(self, config: SRNNConfig, frame_size: int, observation: Observation) -> None:
        super().__init__(config, frame_size, observation)
        self.latent_size = config.latent_size
        hidden, latent, mlp = config.hidden_size, config.latent_size, config.mlp_size
        self.encoder = build_encoder(frame_size, config, observation)
        self.embed = nn.Linear(self.encoder.feature_size, config.embedding_size)
        self.input_dropout = InputDropout(config.input_dropout)
        self.lstm = LSTM(config.embedding_size, hidden, config.core)
        seen = hidden + config.embedding_size
        self.backward_lstm = LSTM(seen, hidden, config.core) if config.smoothing else None
        self.prior = GaussianMLP(hidden + latent, mlp, latent)
        self.posterior = GaussianMLP((hidden if config.smoothing else seen) + latent, mlp, latent)
        self.decode = nn.Sequential(nn.Linear(latent + hidden, mlp), ClampedLeakyReLU())
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
        lstm_state = State(previous.hidden, previous.cell)
        features = self.encoder(signal.heard(self.encoder.past))  # [B, T, size]
        hidden, lstm_state = self.lstm.run(
            self.input_dropout(features[:, :-1]), lengths - 1, lstm_state, self.embed
        )  # [B, T-1, H]
        future = self._future_of(hidden, self.embed(features[:, 1:]), lengths - 1, future_state)
        noise = self.noise_or_new(frames, noise)
        draws = len(noise) // batch
        frames, lengths, hidden, future = (for_each_draw(x, draws) for x in (frames, lengths, hidden, future))
        lstm_state = State(*(for_each_draw(part, draws) for part in lstm_state))
        first, signal = for_each_draw(previous.latents, draws), signal.repeated(draws)
        known_future = None if ablation == "posterior" else future
        latents = self._latent_chain(hidden, known_future, first, noise)

        known = torch.zeros_like(hidden) if ablation == "state" else hidden
        scored = scored_steps(lengths, time - 1)  # [B, T-1]
        condition = self._decoded(latents.drawn, known)
        log_likelihood = self.output(condition, signal.heard(self.output.past, time - 1)).log_prob(frames[:, 1:])
        return FrameTerms(
            log_likelihood=zero_unscored(log_likelihood, scored),
            **latent_terms(scored, latents),
            log_auxiliary=None,
            log_backward=None,
            state=signal.after(
                LatentState(lstm_state.hidden, lstm_state.cell, at_end(latents.drawn, lengths - 1)), lengths - 1
            ),
            latents=latents,
            hidden=hidden,
        )

    def read_future(self, frames: Tensor, lengths: Tensor, future_state: RecurrentState | None = None) -> Tensor:
        """a_t, for d_t that begins with a zero state, [batch, time - 1, size]; see `FrameModel.read_future`."""
        before = self.initial_state(len(frames)) if future_state is None else future_state
        _, signal = open_signal(zero_padding(frames, lengths), before, self.past)
        features = self.encoder(signal.heard(self.encoder.past))
        if future_state is None:
            hidden = self.lstm.read(self.input_dropout(features[:, :-1]), self.embed)
        else:
            hidden, _ = self.lstm.run(
                self.input_dropout(features[:, :-1]), lengths - 1, State(*future_state[:2]), self.embed
            )
        return self._future_of(hidden, self.embed(features[:, 1:]), lengths - 1, future_state)

    def future_states(self, chunks: Sequence[Tensor]) -> list[RecurrentState]:
        """The state of d_t before each chunk, that of LSTM_b after it, and the samples before it.

        See `FrameModel.future_states`.
        """
        zeros = zero_state(self.embed.weight, 1, self.config.hidden_size)
        pasts = list(past_of_chunks(chunks, self.past, self.output.observe))
        before = [zeros]
        for frames, past in zip(chunks, pasts, strict=True):
            before.append(self._read_chunk(frames, before[-1], past)[1])
        del before[-1]
        if self.backward_lstm is None:
            return [(*state, *zeros, *past) for state, past in zip(before, pasts, strict=True)]
        states: list[RecurrentState] = []
        after = zeros
        for state, past, frames in zip(reversed(before), reversed(pasts), reversed(chunks), strict=True):
            states.append((*state, *after, *past))
            both, _ = self._read_chunk(frames, state, past)
            _, after = self.backward_lstm.run(both.flip(1), steps_of(frames), after)
        return states[::-1]

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
        hidden, cell = self.lstm.step(self.embed(features), State(previous.hidden, previous.cell))
        drawn_from = self.prior(hidden, previous.latents)
        if future is not None:
            drawn_from = self._posterior_of(drawn_from, future, previous.latents)
        latents = draw(drawn_from, latent_temperature, noise) if latents is None else latents
        density = self.output.step(self._decoded(latents, hidden), signal.heard(self.output.past))
        return density, signal.after(LatentState(hidden, cell, latents))

    def _read_chunk(self, frames: Tensor, state: State, past: RecurrentState) -> tuple[Tensor, State]:
        """[d_t, embed(x_{t+1})] of a chunk, and the state after it; `past` holds the samples before it."""
        _, signal = open_signal(self.output.observe(frames), past, self.past)
        features = self.encoder(signal.heard(self.encoder.past))
        hidden, after = self.lstm.run(self.input_dropout(features[:, :-1]), steps_of(frames), state, self.embed)
        return torch.cat([hidden, self.embed(features[:, 1:])], dim=-1), after

    def _future_of(
        self, hidden: Tensor, embedded: Tensor, lengths: Tensor, future_state: RecurrentState | None
    ) -> Tensor:
        """a_t, [B, S, size], from d_t [B, S, H] and embed(x_{t+1}) [B, S, E]; `lengths` are the steps, [B]."""
        both = torch.cat([hidden, embedded], dim=-1)
        if self.backward_lstm is None:
            return both
        backwards = reverse(both, lengths)
        if future_state is None:
            return reverse(self.backward_lstm.read(backwards), lengths)
        return reverse(self.backward_lstm.run(backwards, lengths, State(*future_state[2:4]))[0], lengths)

    def _latent_chain(self, hidden: Tensor, future: Tensor | None, latents: Tensor, noise: Tensor) -> Latents:
        """Draw z_t step by step, from the posterior, or from the prior if `future` is None.

        Args:
            hidden: d_t, [B, S, H].
            future: a_t, [B, S, size].
            latents: z_0, [B, Z].
            noise: standard normal, [B, S, Z].
        """
        if self.config.core == "fast" and future is not None:
            chain = fast_latent_chain(
                self.prior, self.posterior, self.config.residual_posterior, hidden, future, latents, noise
            )
            return Latents(split_gaussian(chain.prior), split_gaussian(chain.posterior), chain.latents)
        priors, posteriors, drawn = [], [], []
        futures = hidden.shape[1] * [None] if future is None else future.unbind(1)
        for hidden_t, future_t, noise_t in zip(hidden.unbind(1), futures, noise.unbind(1), strict=True):
            prior = self.prior(hidden_t, latents)
            posterior = prior if future_t is None else self._posterior_of(prior, future_t, latents)
            latents = posterior.at(noise_t)
            priors.append(prior)
            posteriors.append(posterior)
            drawn.append(latents)
        return Latents(stack(priors), stack(posteriors), torch.stack(drawn, 1))

    def _posterior_of(self, prior: DiagonalGaussian, future: Tensor, latents: Tensor) -> DiagonalGaussian:
        """q(z_t | z_{t-1}, a_t), from the prior of z_t, a_t [B, size] and z_{t-1} [B, Z]."""
        posterior: DiagonalGaussian = self.posterior(future, latents)
        if self.config.residual_posterior:
            posterior.mean = prior.mean + posterior.mean
        return posterior

    def _decoded(self, latents: Tensor, hidden: Tensor) -> Tensor:
        """decode([z_t, d_t]): z_t [..., Z] and d_t [..., H] -> [..., mlp]."""
        decoded: Tensor = self.decode(torch.cat([latents, hidden], dim=-1))
        return decoded


def stack(steps: list[DiagonalGaussian]) -> DiagonalGaussian:
    """The Gaussians of the steps, [batch, size] each, as one of [batch, steps, size]."""
    return DiagonalGaussian(
        torch.stack([step.mean for step in steps], 1), torch.stack([step.log_variance for step in steps], 1)
    )
