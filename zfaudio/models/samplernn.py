"""SampleRNN (Mehri et al., 2017, "SampleRNN: An Unconditional End-to-End Neural Audio Generation Model"), three tiers.

Step t reads frame x_t and scores x_{t+1}. A recurrent network runs at each of two rates, and each tells the next faster
tier by one linear map for each of the latter's steps what it knows ("learned upsampling"):

    h_t = LSTM(embed(x_t), h_{t-1})                                  upper tier, once a frame
    m_s = GRU(read(last middle_step samples) + U_j h_t, m_{s-1})     middle tier; s is the j-th step in frame t + 1
    p(x_i | samples before) = tier(last sample_window samples, V_k m_s)      sample tier; i is the k-th in step s

The recurrent networks cross the borders of frames, so m is part of the state. The sample tier has two hidden layers, as
published. Instead of quantized and embedded samples it hears what the tiered head hears, and has its bounds (see
bounds.py): changes of samples in units of their root mean square, and outputs in that unit. Its density is a frame
likelihood on one sample instead of a softmax of 256 values.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zfaudio.config import SampleRNNConfig
from zfaudio.errors import UserError
from zfaudio.models.base import (
    Ablation,
    FrameModel,
    FrameTerms,
    RecurrentState,
    scored_steps,
    zero_unscored,
)
from zfaudio.models.bounds import (
    BOUNDS,
    LOUDEST,
    LOUDEST_SAMPLE,
    SLOPE,
    bounded_density,
    companded,
    heard_at_any_level,
)
from zfaudio.models.frame_likelihoods import FrameDistribution, build_likelihood, sample_likelihood
from zfaudio.models.heads import places_to_score
from zfaudio.models.past import Signal, first_state, open_signal, zero_padding
from zfaudio.models.tiered_head import FRAMES_AT_ONCE
from zfaudio.observations import RECORDINGS, Observation, of_recordings
from zfaudio.ops import samplernn_loop
from zfaudio.ops.cells import State, at_end, zero_state
from zfaudio.ops.gru import GRU
from zfaudio.ops.inverse_sine import asinh
from zfaudio.ops.linear import Linear, linear
from zfaudio.ops.lstm import LSTM
from zfaudio.ops.sample_draw import KINDS


class SampleRNN(FrameModel):
    """The three tiers; the equations are at the top of this file."""

    config_class = SampleRNNConfig
    kinds = RECORDINGS
    bound = "exact"
    config: SampleRNNConfig

    def __init__(self, config: SampleRNNConfig, frame_size: int, observation: Observation) -> None:
        super().__init__(config, frame_size, observation)
        check_rates(config, frame_size)
        self.quantizer = of_recordings(observation, "model.name samplernn")
        self.floor = self.quantizer.step**2
        self.rate, self.window = config.middle_step, config.sample_window
        self.steps = frame_size // self.rate  # of the middle tier in a frame
        self.past = max(self.rate, self.window - frame_size)
        self.embed = Linear(2 * frame_size + 1, config.embedding_size)
        self.lstm = LSTM(config.embedding_size, config.hidden_size, config.core)
        self.to_steps = Linear(config.hidden_size, self.steps * config.middle_size, bias=False)  # U_1, U_2, ...
        self.read = Linear(2 * self.rate + 1, config.middle_size)
        self.gru = GRU(config.middle_size, config.middle_size, config.core)
        self.tier = SampleTier(config, observation)
        self.frame_noise_size = frame_size * self.tier.likelihood.noise_size
        self.compiled = config.core == "fast" and config.likelihood in KINDS

    def initial_state(self, batch_size: int) -> RecurrentState:
        """Zeros, in the precision of the weights: h, the LSTM's cell, m, and the samples before."""
        zeros = zero_state(self.embed.weight, batch_size, self.config.hidden_size)
        return first_state((*zeros, zeros.hidden.new_zeros(batch_size, self.config.middle_size)), self.past)

    def forward(
        self,
        frames: Tensor,
        lengths: Tensor,
        state: RecurrentState | None = None,
        noise: Tensor | None = None,
        ablation: Ablation = "none",
        future_state: RecurrentState | None = None,
    ) -> FrameTerms:
        """The exact log-likelihood; see `FrameModel.forward`. Without its state the model keeps its windows alone."""
        batch, time, _ = frames.shape
        frames = zero_padding(self.tier.likelihood.observe(frames), lengths)
        own, signal = open_signal(frames, self.initial_state(batch) if state is None else state, self.past)
        previous_hidden, previous_cell, middle = own
        described = self.describe(frames[:, :-1])
        hidden, after = self.lstm.run(described, lengths - 1, State(previous_hidden, previous_cell), self.embed)
        told = torch.cat([previous_hidden.unsqueeze(1), hidden], dim=1)  # [B, T, H]: h_{t-1} for each frame x_t
        if ablation == "state":
            alone = self._read_steps(signal, torch.zeros_like(told)).flatten(0, 1)  # [B * T, steps, M]
            middles = self.gru.run(alone, torch.zeros_like(alone[:, 0])).unflatten(0, (batch, time))
        else:
            read = self._read_steps(signal, told).flatten(1, 2)  # [B, T * steps, M]
            middles = self.gru.run(read, middle).unflatten(1, (time, self.steps))
        before = signal.samples[:, self.past + self.frame_size - self.window :]
        scored = before.unfold(-1, self.window + self.frame_size, self.frame_size)  # [B, T - 1, window + frame_size]
        log_likelihood = self.tier.log_prob(scored, middles[:, 1:], self.tier.likelihood.grid(frames[:, :-1]))
        middle = at_end(middles.flatten(1, 2), (lengths - 1) * self.steps)
        log_likelihood = zero_unscored(log_likelihood, scored_steps(lengths, time - 1))
        return FrameTerms.exact(log_likelihood, signal.after((*after, middle), lengths - 1), hidden)

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
    ) -> tuple["SampleRNNFrame", RecurrentState]:
        """A step of generation; see `FrameModel.step`. There are no latents to draw."""
        (hidden, cell, middle), signal = open_signal(frame.unsqueeze(1), state, self.past)
        for read in self._read_steps(signal, hidden.unsqueeze(1))[:, 0].unbind(1):  # through x_t
            middle = self.gru.step(read, middle)
        after = self.lstm.step(self.embed(self.describe(frame)), State(hidden, cell))
        density = SampleRNNFrame(
            self,
            self.to_steps(after.hidden).unflatten(-1, (self.steps, -1)),
            middle,
            self.tier.likelihood.grid(frame),
            signal.samples[:, -max(self.rate, self.window) :],
        )
        return density, signal.after((*after, middle))

    def describe(self, samples: Tensor) -> Tensor:
        """What the recurrent tiers hear of samples [..., n]: [..., 2 * n + 1]."""
        heard, _ = heard_at_any_level(samples, self.floor)
        return heard

    def _read_steps(self, signal: Signal, told: Tensor) -> Tensor:
        """The inputs of the middle tier's steps in each frame: signal, and h [B, T, H] -> [B, T, steps, M]."""
        before = signal.heard(self.rate)[:, : -self.rate].unfold(-1, self.rate, self.rate)  # [B, T * steps, rate]
        read: Tensor = self.read(self.describe(before)).unflatten(1, (-1, self.steps))
        read = read + self.to_steps(told).unflatten(-1, (self.steps, -1))
        return read


class SampleTier(nn.Module):
    """From a window of samples, and what the middle tier knows, to the density of the next sample."""

    def __init__(self, config: SampleRNNConfig, observation: Observation) -> None:
        super().__init__()
        self.rate, self.window, self.stride = config.middle_step, config.sample_window, config.sample_stride
        self.floor = of_recordings(observation, "model.name samplernn").step ** 2
        self.likelihood = build_likelihood(config, 1, observation)
        units, inputs = config.sample_size, config.sample_window + 3
        self.to_samples = Linear(config.middle_size, self.rate * units, bias=False)  # V_1, V_2, ...
        self.filters = Linear(inputs, units)
        self.inner = Linear(units, units)
        self.outer = Linear(units, self.likelihood.parameters)
        self.linear = Linear(inputs, self.likelihood.parameters, bias=False)  # linear prediction
        nn.init.zeros_(self.linear.weight)

    def log_prob(self, samples: Tensor, middle: Tensor, grid: Tensor | None) -> Tensor:
        """Log-densities of frames in nats. In training an estimate, see `sample_stride`.

        Args:
            samples: each frame after a window, [..., window + frame_size].
            middle: m in its steps, [..., steps, M].
            grid: of the samples before the frame, [..., 1].

        Returns:
            [...].
        """
        stride = self.stride if self.training else 1
        places = places_to_score(self.rate, stride, samples.device)
        rows, middles = samples.flatten(0, -2), middle.flatten(0, -3)
        grids = None if grid is None else grid.flatten(0, -2)
        scores = [
            self._score(rows[part], middles[part], None if grids is None else grids[part], places)
            for part in (slice(first, first + FRAMES_AT_ONCE) for first in range(0, len(rows), FRAMES_AT_ONCE))
        ]
        return stride * torch.cat(scores).view(samples.shape[:-1])

    def _score(self, samples: Tensor, middle: Tensor, grid: Tensor | None, places: Tensor) -> Tensor:
        """Sums of the log-densities at some places of each step: [rows, window + frame_size] -> [rows]."""
        steps = samples.unfold(-1, self.window + self.rate, self.rate)  # [rows, steps, window + rate]
        ends = self.window + places
        windows = steps[..., ends.unsqueeze(-1) + torch.arange(-self.window, 0, device=samples.device)]
        maps = self.to_samples.weight.unflatten(0, (self.rate, -1))[places]  # [n, units, M]
        told = linear(middle, maps.flatten(0, 1)).unflatten(-1, maps.shape[:2])  # [rows, steps, n, units]
        density = self.density(windows, told, None if grid is None else grid.unsqueeze(-1))
        return density.log_prob(steps[..., ends].unsqueeze(-1)).sum((-2, -1))

    def density(self, windows: Tensor, told: Tensor, grid: Tensor | None) -> FrameDistribution:
        """Densities of samples.

        Args:
            windows: the samples before each, [..., n, window].
            told: V_k m_s of each, [..., n, units].
            grid: of the samples before the frame, [..., 1].

        Returns:
            A density over [..., n, 1].
        """
        last = windows[..., -1:]
        changes = windows[..., 1:] - windows[..., :-1]
        loudness = torch.sqrt(windows.square().mean(-1, keepdim=True) + self.floor)  # [..., n, 1]
        level = torch.sqrt(changes.square().mean(-1, keepdim=True) + self.floor)
        unit = level.clamp(max=LOUDEST)
        heard = torch.cat(
            [
                asinh(changes / unit),
                torch.log(unit),
                torch.log(loudness / level),
                companded(last),
                asinh(last / unit),
            ],
            dim=-1,
        )
        units = self.inner(F.leaky_relu(self.filters(heard) + told, SLOPE))
        parameters = self.outer(F.leaky_relu(units, SLOPE)) + self.linear(heard)
        origin = last.clamp(-LOUDEST_SAMPLE, LOUDEST_SAMPLE)
        return bounded_density(self.likelihood, parameters, origin, unit, None if grid is None else grid.unsqueeze(-1))


@dataclass
class SampleRNNFrame:
    """The density of a frame after a step of the model."""

    model: SampleRNN
    told: Tensor  # U_j h_t, [batch, steps, M]
    middle: Tensor  # m before the frame, [batch, M]
    grid: Tensor | None  # of the samples before the frame, [batch, 1]
    previous_samples: Tensor  # the samples before the frame, [batch, max(rate, window)]

    def log_prob(self, frames: Tensor) -> Tensor:
        """Log-density of frames [batch, frame_size]: [batch] in nats. In training an estimate, see `sample_stride`."""
        model = self.model
        samples = torch.cat([self.previous_samples, frames], dim=-1)
        before = samples[:, -model.rate - model.frame_size : -model.rate].unfold(-1, model.rate, model.rate)
        middles = model.gru.run(model.read(model.describe(before)) + self.told, self.middle)
        return model.tier.log_prob(samples[:, -model.window - model.frame_size :], middles, self.grid)

    def at(self, noise: Tensor, temperature: float = 1.0) -> Tensor:
        """The frame [batch, frame_size] that standard normal `noise` [batch, noise_size] is mapped to, one by one.

        On a CPU with core `fast` and without a gradient, the loop is compiled, see ops/samplernn_loop.py.
        """
        model = self.model
        noise = noise.unflatten(-1, (model.frame_size, model.tier.likelihood.noise_size))
        if model.compiled and noise.device.type == "cpu" and not torch.is_grad_enabled():
            return self._at_compiled(noise, temperature)
        samples, middle = self.previous_samples, self.middle
        for told, step_noise in zip(self.told.unbind(1), noise.split(model.rate, dim=1), strict=True):
            middle = model.gru.step(model.read(model.describe(samples[:, -model.rate :])) + told, middle)
            told_samples = model.tier.to_samples(middle).unflatten(-1, (model.rate, -1))
            for told_sample, sample_noise in zip(told_samples.split(1, dim=1), step_noise.split(1, dim=1), strict=True):
                density = model.tier.density(samples[:, None, -model.window :], told_sample, self.grid)
                samples = torch.cat([samples, density.at(sample_noise, temperature)[:, 0]], dim=-1)
        return samples[:, -model.frame_size :]

    def _at_compiled(self, noise: Tensor, temperature: float) -> Tensor:
        """`at` by the compiled loop; noise [batch, frame_size, numbers per sample]."""
        model, tier = self.model, self.model.tier
        weights = samplernn_loop.weights_of(
            model.read, model.gru, tier.to_samples, tier.filters, tier.inner, tier.outer, tier.linear
        )
        return samplernn_loop.draw_samples(
            weights,
            model.window,
            BOUNDS,
            sample_likelihood(model.config, model.quantizer),
            self.previous_samples,
            self.told,
            self.middle,
            None if self.grid is None else self.grid[:, 0],
            noise,
            temperature,
        )


def check_rates(config: SampleRNNConfig, frame_size: int) -> None:
    """Raises UserError if the tiers' rates do not fit together, or not into a frame."""
    if frame_size % config.middle_step:
        raise UserError(f"model.middle_step is {config.middle_step}; it must divide the frame size, {frame_size}")
    if config.middle_step % config.sample_stride:
        raise UserError(
            f"model.sample_stride is {config.sample_stride}; it must divide model.middle_step, {config.middle_step}"
        )
