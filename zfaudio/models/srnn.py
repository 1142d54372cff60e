"""SRNN (Fraccaro et al., 2016, "Sequential Neural Models with Stochastic Layers", equations 1 to 12).

Step t reads frame x_t and scores x_{t+1}. The LSTM does not see the latents, which make a chain of their own:

    d_t = LSTM(embed(x_t), d_{t-1})
    p(z_t | z_{t-1}, d_t) = N(mu_p, sigma_p)                    prior, z_0 = 0
    a_t = LSTM_b([d_t, embed(x_{t+1})], a_{t+1})                backward in time (`smoothing`)
    a_t = [d_t, embed(x_{t+1})]                                 without: the posterior filters
    q(z_t | z_{t-1}, a_t) = N(mu_q, sigma_q)                    mu_q = mu_p + correction (`residual_posterior`)
    p(x_{t+1} | decode([z_t, d_t]))                             a frame likelihood of outputs.py
"""

import torch
from torch import Tensor, nn

from zfaudio.config import SRNNConfig
from zfaudio.distributions import DiagonalGaussian, Quantizer, split_gaussian
from zfaudio.models.base import (
    Ablation,
    FrameModel,
    FrameTerms,
    Latents,
    RecurrentState,
    latent_terms,
    reverse,
    scored_steps,
    zero_unscored,
)
from zfaudio.models.frame_likelihoods import FrameDistribution
from zfaudio.models.heads import build_head
from zfaudio.ops.cells import LatentState, State, at_end, zero_state
from zfaudio.ops.latent_chain_fast import fast_latent_chain
from zfaudio.ops.lstm import LSTM
from zfaudio.ops.networks import ClampedLeakyReLU, GaussianMLP


class SRNN(FrameModel):
    """The model of this file's docstring."""

    config_class = SRNNConfig
    bound = "elbo"
    config: SRNNConfig

    def __init__(self, config: SRNNConfig, frame_size: int, quantizer: Quantizer) -> None:
        super().__init__(config, frame_size, quantizer)
        self.latent_size = config.latent_size
        hidden, latent, mlp = config.hidden_size, config.latent_size, config.mlp_size
        self.embed = nn.Linear(frame_size, config.embedding_size)
        self.lstm = LSTM(config.embedding_size, hidden, config.core)
        seen = hidden + config.embedding_size
        self.backward_lstm = LSTM(seen, hidden, config.core) if config.smoothing else None
        self.prior = GaussianMLP(hidden + latent, mlp, latent)
        self.posterior = GaussianMLP((hidden if config.smoothing else seen) + latent, mlp, latent)
        self.decode = nn.Sequential(nn.Linear(latent + hidden, mlp), ClampedLeakyReLU())
        self.output = build_head(mlp, frame_size, config, quantizer)
        self.frame_noise_size = self.output.noise_size

    def initial_state(self, batch_size: int) -> LatentState:
        """Zeros, in float32 or better whatever the precision of the products."""
        zeros = zero_state(self.embed.weight, batch_size, self.config.hidden_size)
        return LatentState(*zeros, zeros.hidden.new_zeros(batch_size, self.latent_size))

    def forward(
        self,
        frames: Tensor,
        lengths: Tensor,
        state: RecurrentState | None = None,
        noise: Tensor | None = None,
        ablation: Ablation = "none",
    ) -> FrameTerms:
        """Terms of the bound with one draw of z_1..z_{T-1} from the posterior; see `FrameModel.forward`."""
        batch, time, _ = frames.shape
        frames = self.output.observe(frames)
        state = self.initial_state(batch) if state is None else LatentState(*state)
        before = State(state.hidden, state.cell)
        hidden, after = self.lstm.run(frames[:, :-1], lengths - 1, before, self.embed)  # [B, T-1, H]
        future = self._read_future(hidden, self.embed(frames[:, 1:]), lengths - 1)
        drawn_from = future if ablation != "posterior" else None
        latents = self._latent_chain(hidden, drawn_from, state.latents, self.noise_or_new(frames, noise))

        known = torch.zeros_like(hidden) if ablation == "state" else hidden
        scored = scored_steps(lengths, time - 1)  # [B, T-1]
        log_likelihood = self._predict(latents.drawn, known, frames[:, :-1]).log_prob(frames[:, 1:])
        return FrameTerms(
            log_likelihood=zero_unscored(log_likelihood, scored),
            **latent_terms(scored, latents),
            log_auxiliary=None,
            log_backward=None,
            state=LatentState(*after, at_end(latents.drawn, lengths - 1)),
            latents=latents,
            hidden=hidden,
        )

    def read_backward(self, frames: Tensor, lengths: Tensor) -> Tensor:
        """a_t from a zero state on, [batch, time - 1, size]; see `FrameModel.read_backward`."""
        hidden = self.lstm.read(frames[:, :-1], self.embed)
        return self._read_future(hidden, self.embed(frames[:, 1:]), lengths - 1)

    def step(
        self,
        frame: Tensor,
        state: RecurrentState,
        latent_temperature: float = 1.0,
        backward: Tensor | None = None,
        noise: Tensor | None = None,
    ) -> tuple[FrameDistribution, LatentState]:
        """One step of generation; see `FrameModel.step`."""
        before = LatentState(*state)
        hidden, cell = self.lstm.step(self.embed(frame), State(before.hidden, before.cell))
        latents = self.prior(hidden, before.latents)
        if backward is not None:
            latents = self._infer(latents, backward, before.latents)
        latent = latents.sample(latent_temperature) if noise is None else latents.at(noise, latent_temperature)
        return self._predict(latent, hidden, frame), LatentState(hidden, cell, latent)

    def _read_future(self, hidden: Tensor, embedded: Tensor, lengths: Tensor) -> Tensor:
        """a_t: d_t [B, S, H] and embed(x_{t+1}) [B, S, E] of sequences with `lengths` steps -> [B, S, size]."""
        seen = torch.cat([hidden, embedded], dim=-1)
        if self.backward_lstm is None:
            return seen
        return reverse(self.backward_lstm.read(reverse(seen, lengths)), lengths)

    def _latent_chain(self, hidden: Tensor, future: Tensor | None, latent: Tensor, noise: Tensor) -> Latents:
        """Draw z_t step by step, from the posterior, or from the prior where `future` is None.

        Args:
            hidden: d_t, [B, S, H].
            future: a_t, [B, S, size].
            latent: z_0, [B, Z].
            noise: standard normal, [B, S, Z].
        """
        if self.config.core == "fast" and future is not None:
            chain = fast_latent_chain(
                self.prior, self.posterior, self.config.residual_posterior, hidden, future, latent, noise
            )
            return Latents(split_gaussian(chain.prior), split_gaussian(chain.posterior), chain.latents)
        priors, posteriors, drawn = [], [], []
        futures = hidden.shape[1] * [None] if future is None else future.unbind(1)
        for hidden_t, future_t, noise_t in zip(hidden.unbind(1), futures, noise.unbind(1), strict=True):
            prior = self.prior(hidden_t, latent)
            posterior = prior if future_t is None else self._infer(prior, future_t, latent)
            latent = posterior.at(noise_t)
            priors.append(prior)
            posteriors.append(posterior)
            drawn.append(latent)
        return Latents(stack(priors), stack(posteriors), torch.stack(drawn, 1))

    def _infer(self, prior: DiagonalGaussian, future: Tensor, latent: Tensor) -> DiagonalGaussian:
        """q(z_t | z_{t-1}, a_t): prior of z_t, a_t [B, size], z_{t-1} [B, Z]."""
        posterior = self.posterior(future, latent)
        if self.config.residual_posterior:
            posterior.mean = prior.mean + posterior.mean
        return posterior

    def _predict(self, latent: Tensor, hidden: Tensor, previous: Tensor) -> FrameDistribution:
        """p(x_{t+1} | z_t, d_t): [..., Z], [..., H] and x_t [..., frame_size] -> its density."""
        return self.output(self.decode(torch.cat([latent, hidden], dim=-1)), previous)


def stack(steps: list[DiagonalGaussian]) -> DiagonalGaussian:
    """Gaussians [batch, size] of each step as one of [batch, steps, size]."""
    return DiagonalGaussian(
        torch.stack([step.mean for step in steps], 1), torch.stack([step.log_variance for step in steps], 1)
    )
