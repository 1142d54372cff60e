"""A linear-Gaussian state-space model: everything about it is known exactly, so it tells whether bounds are right.

z_t = A z_{t-1} + N(0, Q),   x_t = C z_t + N(0, R),   t = 1..T, z_0 = 0; frame 0 is read but means nothing
"""

import math
from collections.abc import Iterator

import numpy as np
import torch
from scored_model import ScoredModel
from torch import Tensor
from torch.distributions import MultivariateNormal, kl_divergence

from zfaudio.models.base import Ablation, FrameTerms, RecurrentState


class LinearGaussian(ScoredModel):
    """The model, with its exact posterior q(z_t | z_{t-1}, x_{t..T}) or one whose precision is off by a factor."""

    def __init__(self, precision_factor: float = 1.0, latent_size: int = 2, frame_size: int = 3, seed: int = 0) -> None:
        super().__init__(frame_size)
        rng = torch.Generator().manual_seed(seed)
        self.latent_size, self.precision_factor = latent_size, precision_factor
        turn = torch.linalg.qr(torch.randn(latent_size, latent_size, generator=rng, dtype=torch.float64))[0]
        self.register_buffer("A", 0.9 * turn)
        self.register_buffer("C", torch.randn(frame_size, latent_size, generator=rng, dtype=torch.float64))
        self.register_buffer("Q", 0.5 * torch.eye(latent_size, dtype=torch.float64))
        self.register_buffer("R", 0.3 * torch.eye(frame_size, dtype=torch.float64))

    def latent_noise(self, steps: int, generator: torch.Generator | None = None) -> Tensor:
        return torch.randn(steps, self.latent_size, generator=generator, dtype=torch.float64)

    def forward(
        self,
        frames: Tensor,
        lengths: Tensor,
        state: RecurrentState | None = None,
        noise: Tensor | None = None,
        ablation: Ablation = "none",
    ) -> FrameTerms:
        assert noise is not None
        frames, scored = frames.double(), torch.arange(frames.shape[1] - 1) < (lengths - 1).unsqueeze(1)
        targets = frames[:, 1:]
        messages = self._messages(targets, scored)
        z = frames.new_zeros(len(frames), self.latent_size)
        terms = []
        for x, e, (precision, shift) in zip(targets.unbind(1), noise.unbind(1), messages, strict=True):
            prior = MultivariateNormal(z @ self.A.T, self.Q)
            covariance = torch.linalg.inv(torch.linalg.inv(self.Q) + precision)
            mean = (covariance @ (prior.mean @ torch.linalg.inv(self.Q) + shift).unsqueeze(-1)).squeeze(-1)
            posterior = MultivariateNormal(mean, covariance / self.precision_factor)
            z = mean + (posterior.scale_tril @ e.unsqueeze(-1)).squeeze(-1)
            likelihood = MultivariateNormal(z @ self.C.T, self.R).log_prob(x)
            ratio = prior.log_prob(z) - posterior.log_prob(z)
            terms.append(torch.stack([likelihood, kl_divergence(posterior, prior), ratio]))
        likelihood, kl, ratio = torch.where(scored, torch.stack(terms, -1), 0)
        return FrameTerms(likelihood, kl, ratio, None, None, (z,))

    def _messages(self, targets: Tensor, scored: Tensor) -> list[tuple[Tensor, Tensor]]:
        """p(x_{t..T} | z_t) as a function of z_t, in information form, for every t; computed backward like b_t."""
        observed = self.C.T @ torch.linalg.inv(self.R)
        precision = targets.new_zeros(len(targets), self.latent_size, self.latent_size)
        shift = targets.new_zeros(len(targets), self.latent_size)
        messages = []
        for x, inside in zip(targets.flip(1).unbind(1), scored.flip(1).unbind(1), strict=True):
            precision = precision + inside[:, None, None] * (observed @ self.C)
            shift = shift + inside[:, None] * (x @ observed.T)
            messages.append((precision, shift))
            gain = precision @ torch.linalg.inv(precision + torch.linalg.inv(self.Q))
            rest = torch.eye(self.latent_size, dtype=torch.float64) - gain
            precision = self.A.T @ rest @ precision @ self.A
            shift = (self.A.T @ rest @ shift.unsqueeze(-1)).squeeze(-1)
        return messages[::-1]

    def sample(self, steps: int, seed: int, count: int | None = None) -> Tensor:
        """A sequence with its frame 0, [steps + 1, frame_size], or `count` of them, [count, steps + 1, frame_size]."""
        rng = torch.Generator().manual_seed(seed)
        rows = 1 if count is None else count
        z = torch.zeros(rows, self.latent_size, dtype=torch.float64)
        frames = [torch.zeros(rows, self.frame_size, dtype=torch.float64)]
        for _ in range(steps):
            draws = torch.randn(rows, self.latent_size + self.frame_size, generator=rng, dtype=torch.float64)
            z = z @ self.A.T + math.sqrt(0.5) * draws[:, : self.latent_size]
            frames.append(z @ self.C.T + math.sqrt(0.3) * draws[:, self.latent_size :])
        sequences = torch.stack(frames, 1)
        return sequences[0] if count is None else sequences


def innovations(model: LinearGaussian, frames: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """x_t - E[x_t] and Cov[x_t], given x_1..x_{t-1}, of frames [T, frame_size] (Kalman, 1960)."""
    a, c, q, r = (getattr(model, name).numpy() for name in "ACQR")
    mean, covariance = np.zeros(len(a)), np.zeros_like(a)
    for x in frames:
        mean, covariance = a @ mean, a @ covariance @ a.T + q
        surprise, spread = x - c @ mean, c @ covariance @ c.T + r
        yield surprise, spread
        gain = covariance @ c.T @ np.linalg.inv(spread)
        mean, covariance = mean + gain @ surprise, covariance - gain @ c @ covariance


def kalman_log_likelihood(model: LinearGaussian, frames: np.ndarray) -> float:
    """log p(x_1..x_T), exactly, frames [T, frame_size]."""
    return sum(
        -0.5 * (e @ np.linalg.solve(s, e) + np.linalg.slogdet(s)[1] + len(e) * math.log(2 * math.pi))
        for e, s in innovations(model, frames)
    )


def factorized_log_likelihood(model: LinearGaussian, frames: np.ndarray) -> float:
    """The score of the best forecast whose samples are independent within a frame: frames [T, frame_size].

    It has the exact means and variances, and none of the covariances.
    """
    return sum(
        -0.5 * float((e**2 / np.diag(s) + np.log(2 * math.pi * np.diag(s))).sum())
        for e, s in innovations(model, frames)
    )
