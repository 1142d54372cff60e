"""What every model of frames offers: its terms of the bound for training and scoring, one step for generation."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol, cast

import torch
from torch import Generator, Tensor, nn

from zfaudio.distributions import DiagonalGaussian, Quantizer, gaussian_kl
from zfaudio.models.autoregressive_head import AutoregressiveOutput
from zfaudio.models.config import ModelConfig
from zfaudio.models.frame_likelihoods import FactorizedOutput
from zfaudio.ops import latent_path as plain
from zfaudio.ops import latent_path_fast as fast
from zfaudio.ops.cells import ConditionalNormLSTMCell, LatentLSTMCell, State
from zfaudio.ops.latent_path import LatentPath
from zfaudio.ops.lstm import LSTM
from zfaudio.ops.networks import GaussianMLP
from zfaudio.ops.packing import packed

# What a model carries from frame to frame: tensors [batch, ...], zeros before a recording.
RecurrentState = tuple[Tensor, ...]

# What is taken from a model to see what it is worth: nothing; what the posterior knows, by latents drawn from the
# prior; or the state h_t, in the density of the next frame, the posterior's latents kept.
Ablation = Literal["none", "posterior", "state"]


class FrameDistribution(Protocol):
    """A density over frames: rows [..., frame_size]."""

    def log_prob(self, frames: Tensor) -> Tensor:
        """Log-density of whole frames, [...] in nats."""

    def at(self, noise: Tensor, temperature: float = 1.0) -> Tensor:
        """The draw [..., frame_size] that standard normal `noise` [..., frame_noise_size] stands for.

        `temperature` shrinks it towards the mean.
        """


class Latents(NamedTuple):
    """The latents of each step, [batch, steps, latent]; what stands on padding means nothing."""

    prior: DiagonalGaussian
    posterior: DiagonalGaussian
    drawn: Tensor


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
    state: RecurrentState  # after the last frame of each sequence
    latents: Latents | None = None  # of models that have them
    hidden: Tensor | None = None  # h_t, [batch, time - 1, hidden], of models that have one

    @property
    def elbo(self) -> Tensor:
        """The bound on the log-likelihood of each scored frame, [batch, time - 1] in nats."""
        return self.log_likelihood - self.kl


class FrameModel(nn.Module):
    """A model of sequences of frames. What a subclass must define is what this class leaves unwritten."""

    frame_size: int
    frame_noise_size: int  # standard normal numbers that a frame's draw takes
    latent_size: int = 0  # dimensions of z_t; none without latents
    bound: Literal["elbo", "exact"]  # what the sum of log_likelihood - kl is

    def initial_state(self, batch_size: int) -> RecurrentState:
        """State before the first frame: zeros."""
        raise NotImplementedError

    def latent_noise(self, steps: int, generator: Generator | None = None) -> Tensor:
        """Standard normal draws for the latents of one sequence, [steps, latent], on the CPU."""
        return torch.randn(steps, self.latent_size, generator=generator)

    def draws(self, frames: Tensor, noise: Tensor | None) -> Tensor:
        """What `forward` draws latents with: `noise`, or new draws [batch, time - 1, latent], as precise as weights."""
        if noise is None:
            noise = torch.randn(len(frames), frames.shape[1] - 1, self.latent_size, device=frames.device)
        return noise.to(next(self.parameters()).dtype)

    def forward(
        self,
        frames: Tensor,
        lengths: Tensor,
        state: RecurrentState | None = None,
        noise: Tensor | None = None,
        ablation: Ablation = "none",
    ) -> FrameTerms:
        """Score frames 1..lengths-1 of each sequence, given those before.

        Args:
            frames: standardized frames, [batch, time, frame_size]; what lies past a sequence's length is ignored.
            lengths: frames of each sequence, the first (input only) included, [batch].
            state: where the sequences start from; `initial_state` when left out.
            noise: what the latents are drawn with, [batch, time - 1, latent]; torch's random state when left out.
            ablation: what to do without; the terms are then no bound.
        """
        raise NotImplementedError

    def read_backward(self, frames: Tensor, lengths: Tensor) -> Tensor | None:
        """What the posterior knows of the future, b_t [batch, time - 1, size], for `step`; None without latents.

        b_t has read frames t+1..lengths-1.
        """
        raise NotImplementedError

    def step(
        self,
        frame: Tensor,
        state: RecurrentState,
        latent_temperature: float = 1.0,
        backward: Tensor | None = None,
        noise: Tensor | None = None,
    ) -> tuple[FrameDistribution, RecurrentState]:
        """Read one frame and predict the next: the step of generation.

        Args:
            frame: x_t, [batch, frame_size]; under a discretized likelihood whole 16-bit steps, as its draws are.
            state: state before x_t.
            latent_temperature: scales the deviation of the latent's draw.
            backward: b_t, [batch, size]; with it z_t is drawn from the posterior, without it from the prior.
            noise: what z_t is drawn with, [batch, latent]; torch's random state when left out.
        """
        raise NotImplementedError

    def fix_work(self) -> None:
        """From now on a pass is the same operators on the same shapes, whatever the lengths: see cuda_graph.py."""
        for module in self.modules():
            if isinstance(module, LSTM):
                module.same_work = True

    def stepper(self) -> Callable[..., tuple[FrameDistribution, RecurrentState]]:
        """A function with the arguments of `step`, for many steps with the weights as they are now and no gradient."""
        with torch.no_grad():
            return torch.no_grad()(cast(FrameModel, packed(self)).step)


def build_output(
    condition_size: int, frame_size: int, config: ModelConfig, quantizer: Quantizer
) -> FactorizedOutput | AutoregressiveOutput:
    """The frame likelihood that `config.likelihood` and `config.head` name, given a condition of that size."""
    output = AutoregressiveOutput if config.head == "autoregressive" else FactorizedOutput
    return output(condition_size, frame_size, config, quantizer)


def latent_path(
    config: ModelConfig,
    ablation: Ablation,
    prior: GaussianMLP,
    posterior: GaussianMLP,
    advance: LatentLSTMCell | ConditionalNormLSTMCell,
    embed: nn.Linear,
    frames: Tensor,
    future: Tensor,
    noise: Tensor,
    state: State,
) -> LatentPath:
    """The loop of `plain.latent_path` by the configured core, from the prior where the posterior is left out."""
    loop = advance, embed, frames, future, noise, state
    if ablation == "posterior":
        return plain.latent_path(lambda hidden, _: prior(hidden), *loop)
    if config.core == "fast" and isinstance(advance, LatentLSTMCell):
        return fast.latent_path(posterior, advance, *loop[1:])
    return plain.latent_path(posterior, *loop)


def scored_steps(lengths: Tensor, steps: int) -> Tensor:
    """Which steps score a frame of their sequence, bool [batch, steps]: lengths [batch] count the input-only frame."""
    return torch.arange(steps, device=lengths.device) < (lengths - 1).unsqueeze(1)


def on(scored: Tensor, terms: Tensor) -> Tensor:
    """Terms [batch, steps], zero where nothing is scored."""
    # where, not a product: what stands on padding may be infinite
    return torch.where(scored, terms, 0)


def latent_terms(scored: Tensor, latents: Latents) -> dict[str, Tensor]:
    """`kl` and `log_latent_ratio` of `FrameTerms`."""
    prior, posterior, drawn = latents
    return {
        "kl": on(scored, gaussian_kl(posterior, prior)),
        "log_latent_ratio": on(scored, prior.log_prob(drawn) - posterior.log_prob(drawn)),
    }


def reverse(values: Tensor, lengths: Tensor) -> Tensor:
    """Turn each sequence round within its own length: values [batch, steps, size], lengths [batch].

    Padding stays where it is, after the end. Twice is once not at all.
    """
    batch, length, _ = values.shape
    steps, ends = torch.arange(length, device=values.device), lengths.unsqueeze(1)
    order = torch.where(steps < ends, ends - 1 - steps, steps)  # [batch, steps]
    order = order + length * torch.arange(batch, device=values.device).unsqueeze(1)  # rows of all sequences
    return values.flatten(0, 1).index_select(0, order.flatten()).view_as(values)
