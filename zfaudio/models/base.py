"""What every model of frames offers: its terms of the bound for training and scoring, one step for generation."""

from dataclasses import dataclass
from typing import Literal, Protocol

from torch import Generator, Tensor, nn

from zfaudio.ops.cells import State


class FrameDistribution(Protocol):
    """A density over frames: rows [..., frame_size]."""

    @property
    def mean(self) -> Tensor:
        """Mean frame, [..., frame_size]."""

    def log_prob(self, frames: Tensor) -> Tensor:
        """Log-density of whole frames, [...] in nats."""

    def sample(self, temperature: float = 1.0) -> Tensor:
        """One draw, [..., frame_size]; `temperature` scales the deviation."""

    def at(self, noise: Tensor, temperature: float = 1.0) -> Tensor:
        """The draw that standard normal `noise` [..., frame_size] stands for."""


@dataclass
class FrameTerms:
    """Terms of the bound at each scored frame, [batch, time - 1] in nats, zero where a sequence has ended.

    Column t belongs to the step that reads frame t and scores frame t + 1.
    """

    log_likelihood: Tensor  # log p(x_{t+1} | h_t)
    kl: Tensor  # KL(q(z_t) || p(z_t)), in closed form
    log_latent_ratio: Tensor  # log p(z_t) - log q(z_t) at the z_t that was drawn
    log_auxiliary: Tensor | None  # log p(b_t | z_t)
    log_backward: Tensor | None  # log p(x_t | b_t)
    state: State  # after the last frame of each sequence


class FrameModel(nn.Module):
    """A model of sequences of frames. What a subclass must define is what this class leaves unwritten."""

    frame_size: int
    bound: Literal["elbo", "exact"]  # what the sum of log_likelihood - kl is

    def initial_state(self, batch_size: int) -> State:
        """State before the first frame."""
        raise NotImplementedError

    def latent_noise(self, steps: int, generator: Generator | None = None) -> Tensor:
        """Standard normal draws for the latents of one sequence, [steps, latent], on the CPU."""
        raise NotImplementedError

    def forward(
        self, frames: Tensor, lengths: Tensor, state: State | None = None, noise: Tensor | None = None
    ) -> FrameTerms:
        """Score frames 1..lengths-1 of each sequence, given those before.

        Args:
            frames: standardised frames, [batch, time, frame_size]; what lies past a sequence's length is ignored.
            lengths: frames of each sequence, the first (input only) included, [batch].
            state: where the sequences start from; `initial_state` when left out.
            noise: what the latents are drawn with, [batch, time - 1, latent]; torch's random state when left out.
        """
        raise NotImplementedError

    def read_backward(self, frames: Tensor, lengths: Tensor) -> Tensor:
        """States b_t of the future-reading network, [batch, time - 1, hidden]; b_t has read frames t+1..lengths-1."""
        raise NotImplementedError

    def step(
        self,
        frame: Tensor,
        state: State,
        latent_temperature: float = 1.0,
        backward: Tensor | None = None,
        noise: Tensor | None = None,
    ) -> tuple[FrameDistribution, State]:
        """Read one frame and predict the next: the step of generation.

        Args:
            frame: x_t, [batch, frame_size].
            state: state before x_t.
            latent_temperature: scales the deviation of the latent's draw.
            backward: b_t, [batch, hidden]; with it z_t is drawn from the posterior, without it from the prior.
            noise: what z_t is drawn with, [batch, latent]; torch's random state when left out.
        """
        raise NotImplementedError
