"""The contract of a model of frames: terms of the bound for training and scoring, single steps for generation."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple, cast

import torch
from torch import Generator, Tensor, nn

from zfaudio.config import FrameDensityConfig, ModelConfig
from zfaudio.distributions import DiagonalGaussian, gaussian_kl
from zfaudio.models.frame_likelihoods import FrameDistribution
from zfaudio.models.past import RecurrentState as RecurrentState
from zfaudio.observations import Content, Observation
from zfaudio.ops.cells import ConditionalNormLSTMCell, LatentLSTMCell, State
from zfaudio.ops.latent_path import LatentPath, plain_latent_path
from zfaudio.ops.latent_path_fast import fast_latent_path
from zfaudio.ops.lstm import LSTM
from zfaudio.ops.networks import GaussianMLP
from zfaudio.ops.packing import packed

# What to leave out of a model, to measure what it contributes: nothing; the posterior, by drawing the latents from the
# prior; or the state h_t in the density of the next frame, while the posterior's latents are kept.
Ablation = Literal["none", "posterior", "state"]


class Latents(NamedTuple):
    """The latents of each step, [batch, steps, latent]. Values on padding have no meaning."""

    prior: DiagonalGaussian
    posterior: DiagonalGaussian
    drawn: Tensor


@dataclass
class FrameTerms:
    """Terms of the bound at each scored frame, [batch, time - 1] in nats; zero after the end of a sequence.

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

    @classmethod
    def exact(cls, log_likelihood: Tensor, state: RecurrentState, hidden: Tensor | None = None) -> "FrameTerms":
        """The terms of a model without latents: an exact log-likelihood."""
        zeros = torch.zeros_like(log_likelihood)
        return cls(log_likelihood, zeros, zeros, None, None, state, hidden=hidden)

    @property
    def elbo(self) -> Tensor:
        """The bound at each scored frame, [batch, time - 1] in nats."""
        return self.log_likelihood - self.kl


class FrameModel(nn.Module, ABC):
    """A model of sequences of frames. Subclass it to write a model of your own.

    A subclass must set the class attributes `config_class` and `bound` and define `initial_state`, `forward` and
    `step`; with latents also `read_future`. If one is missing, defining the class raises a TypeError that names it.

    Args:
        config: settings of the model, an instance of `config_class`.
        frame_size: samples, pixels or ids per frame.
        observation: what a frame holds; of recordings, where the 16-bit integers lie among standardized samples.
    """

    config_class: ClassVar[type[ModelConfig]]
    kinds: ClassVar[tuple[Content, ...]] = ("waveform",)  # of frames that it takes
    # What the sum of log_likelihood - kl is: a lower bound (models with latents) or the exact log-likelihood.
    bound: ClassVar[Literal["elbo", "exact"]]

    many_draws: ClassVar[bool] = False  # whether `noise` may hold several draws for each sequence, see `forward`

    frame_noise_size: int  # how many standard normal numbers the draw of a frame needs; set by __init__
    latent_size: int = 0  # dimensions of z_t; 0 without latents
    past: int = 0  # how many samples before x_t the model hears beyond its own state, see past.py

    def __init__(self, config: ModelConfig, frame_size: int, observation: Observation) -> None:
        super().__init__()
        self.config, self.frame_size, self.observation = config, frame_size, observation

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        missing = [name for name in ("config_class", "bound") if not hasattr(cls, name)]
        methods = ["initial_state", "forward", "step"]
        if getattr(cls, "bound", "exact") == "elbo":
            methods.append("read_future")
        missing += [name for name in methods if getattr(cls, name) is getattr(FrameModel, name)]
        if missing:
            raise TypeError(f"{cls.__name__} is a FrameModel that does not define {', '.join(missing)}")
        if cls.bound not in ("elbo", "exact"):
            raise TypeError(f"{cls.__name__}.bound is {cls.bound!r}; it must be 'elbo' or 'exact'")
        if "__dataclass_fields__" not in vars(cls.config_class):
            raise TypeError(f"{cls.config_class.__name__} is not a dataclass; write @dataclass above it")

    @abstractmethod
    def initial_state(self, batch_size: int) -> RecurrentState:
        """The state before the first frame: zeros."""

    def latent_noise(self, steps: int, generator: Generator | None = None) -> Tensor:
        """Standard normal numbers for the latents of one sequence, [steps, latent], on the CPU."""
        return torch.randn(steps, self.latent_size, generator=generator)

    def noise_or_new(self, frames: Tensor, noise: Tensor | None) -> Tensor:
        """`noise`, or new standard normal numbers [batch, time - 1, latent], in the precision of the weights."""
        if noise is None:
            noise = torch.randn(len(frames), frames.shape[1] - 1, self.latent_size, device=frames.device)
        return noise.to(next(self.parameters()).dtype)

    @abstractmethod
    def forward(
        self,
        frames: Tensor,
        lengths: Tensor,
        state: RecurrentState | None = None,
        noise: Tensor | None = None,
        ablation: Ablation = "none",
        future_state: RecurrentState | None = None,
    ) -> FrameTerms:
        """Score frames 1..length-1 of each sequence, given the frames before them.

        Args:
            frames: standardized frames, [batch, time, frame_size]; frames past the length of a sequence are ignored.
            lengths: number of frames of each sequence, including the first, which is input only, [batch].
            state: the state that the sequences start from; by default `initial_state`.
            noise: standard normal numbers for the latents, [batch, time - 1, latent]; by default newly drawn. For a
                model with `many_draws` they may be [draws * batch, time - 1, latent], first those of the first draw of
                each sequence. The terms then have as many rows, and what does not depend on the draw is computed once.
            ablation: what to leave out; the terms are then not a bound.
            future_state: if the frames are a chunk of a longer sequence, what `future_states` returned for it. A model
                that does not define that method need not have this argument.
        """

    def read_future(self, frames: Tensor, lengths: Tensor, future_state: RecurrentState | None = None) -> Tensor | None:
        """What the posterior knows of the future at each step, for `step`; None for a model without latents.

        Args:
            frames: standardized frames, [batch, time, frame_size].
            lengths: number of frames of each sequence, [batch].
            future_state: if the frames are a chunk of a longer sequence, what `future_states` returned for it.

        Returns:
            b_t, [batch, time - 1, size], which depends on frames t + 1..length - 1.
        """
        return None

    def future_states(self, chunks: Sequence[Tensor]) -> list[RecurrentState] | None:
        """What the model must know of the rest of a sequence to read it in chunks, for the argument `future_state`.

        A long sequence is scored chunk by chunk, so that its length does not decide how much memory that takes: with
        `state` from the chunk before, and with `future_state`. A model that does not define this method is given whole
        sequences.

        Args:
            chunks: the frames of a sequence, [1, time, frame_size] each, in order. Each chunk begins with the last
                frame of the chunk before. They are made when they are read, so keep none of them.

        Returns:
            A state for each chunk; None if the model cannot read chunks.
        """
        return None

    @abstractmethod
    def step(
        self,
        frame: Tensor,
        state: RecurrentState,
        latent_temperature: float = 1.0,
        future: Tensor | None = None,
        noise: Tensor | None = None,
        latents: Tensor | None = None,
    ) -> tuple[FrameDistribution, RecurrentState]:
        """Read one frame and predict the next one: a step of generation.

        Args:
            frame: x_t, [batch, frame_size]; whole 16-bit steps under a discretized likelihood, as its draws are.
            state: the state before x_t.
            latent_temperature: scales the deviation with which z_t is drawn.
            future: b_t, [batch, size]; if given, z_t is drawn from the posterior, otherwise from the prior.
            noise: standard normal numbers for z_t, [batch, latent]; by default from torch's generator.
            latents: z_t itself, [batch, latent]; if given, nothing is drawn.

        Returns:
            The density of x_{t+1}, and the state after x_t.
        """

    def stepper(self) -> Callable[..., tuple[FrameDistribution, RecurrentState]]:
        """A faster `step` for generation, with the weights as they are now and without gradients."""
        with torch.no_grad():
            return torch.no_grad()(cast(FrameModel, packed(self)).step)

    def use_fixed_shapes(self) -> None:
        """Compute with the same operators and shapes whatever the lengths are, so that a CUDA graph can record it."""
        for module in self.modules():
            if isinstance(module, LSTM):
                module.fixed_shapes = True


def latent_path(
    config: FrameDensityConfig,
    ablation: Ablation,
    prior: GaussianMLP,
    posterior: GaussianMLP,
    lstm_cell: LatentLSTMCell | ConditionalNormLSTMCell,
    embed: nn.Linear,
    frames: Tensor,
    future: Tensor,
    noise: Tensor,
    state: State,
) -> LatentPath:
    """`plain_latent_path` by the configured core; if the posterior is left out, z_t is drawn from the prior.

    The conditional layer norm always runs on the plain core.
    """
    if ablation == "posterior":
        return plain_latent_path(lambda hidden, _: prior(hidden), lstm_cell, embed, frames, future, noise, state)
    if config.core == "fast" and isinstance(lstm_cell, LatentLSTMCell):
        return fast_latent_path(posterior, lstm_cell, embed, frames, future, noise, state)
    return plain_latent_path(posterior, lstm_cell, embed, frames, future, noise, state)


def scored_steps(lengths: Tensor, steps: int) -> Tensor:
    """Which steps score a frame of their sequence, bool [batch, steps]; `lengths` [batch] include the input frame."""
    return torch.arange(steps, device=lengths.device) < (lengths - 1).unsqueeze(1)


def steps_of(frames: Tensor) -> Tensor:
    """The number of steps in each sequence of unpadded frames [batch, time, frame_size]: int64 [batch]."""
    return torch.full((len(frames),), frames.shape[1] - 1, device=frames.device)


def draw(drawn_from: DiagonalGaussian, temperature: float, noise: Tensor | None) -> Tensor:
    """A draw of latents, [batch, latent], by `noise` [batch, latent] or by new normal numbers."""
    return drawn_from.sample(temperature) if noise is None else drawn_from.at(noise, temperature)


def for_each_draw(values: Tensor, draws: int) -> Tensor:
    """Values of sequences [batch, ...] for each of several draws: [draws * batch, ...]."""
    return values if draws == 1 else values.repeat(draws, *(1 for _ in values.shape[1:]))


def zero_unscored(terms: Tensor, scored: Tensor) -> Tensor:
    """Terms [batch, steps], set to zero where `scored` is false."""
    # torch.where instead of a product, because terms on padding may be infinite.
    return torch.where(scored, terms, 0)


def latent_terms(scored: Tensor, latents: Latents) -> dict[str, Tensor]:
    """The terms `kl` and `log_latent_ratio` of `FrameTerms`."""
    prior, posterior, drawn = latents
    return {
        "kl": zero_unscored(gaussian_kl(posterior, prior), scored),
        "log_latent_ratio": zero_unscored(prior.log_prob(drawn) - posterior.log_prob(drawn), scored),
    }


def reverse(values: Tensor, lengths: Tensor) -> Tensor:
    """Reverse each sequence within its own length: values [batch, steps, size], lengths [batch].

    Padding stays behind the end. Reversing twice gives the original.
    """
    batch, length, _ = values.shape
    steps, ends = torch.arange(length, device=values.device), lengths.unsqueeze(1)
    order = torch.where(steps < ends, ends - 1 - steps, steps)  # [batch, steps]
    order = order + length * torch.arange(batch, device=values.device).unsqueeze(1)  # rows of all sequences
    return values.flatten(0, 1).index_select(0, order.flatten()).view_as(values)
