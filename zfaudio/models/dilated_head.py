"""The dilated head: gated convolutions over the signal, each of which reaches twice as far back as the one before.

WaveNet (van den Oord et al., 2016, "WaveNet: A Generative Model for Raw Audio", section 2), with the configured density
of a sample. Layer l of L has dilation d_l = 1, 2, 4, ..., and from 1 again in each further stack:

    h_{1,n} = enter(what is heard at x_n)
    a_{l,n} = taps_l(h_{l,n-d_l}, h_{l,n})                   the sums of a filter and a gate
    h_{l+1,n} = h_{l,n} + residual_l(gated(a_{l,n}))         gated(f, g) = -tanh(f / 2) sigmoid(g)
    s_n = skip(gated(a_{1,n} + V_1 c_t), ..., gated(a_{L,n} + V_L c_t))
    p(x_{n+1} | ...) = outer(lrelu(inner(lrelu(s_n)))) + linear(the last changes from sample to sample)

c_t is the condition of the frame of x_{n+1}. In WaveNet it also enters what a layer tells the next one; here only what
it tells the output. So what the layers remember of a signal depends on its samples alone: it can be computed anew at
each frame, and a model's state need not hold it.

Samples are companded, and changes are divided by their level. The density is relative to the last sample, in a unit
that is at most LOUDEST, and its parameters are bounded. So loudness cannot feed on itself without limit.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zfaudio.config import FrameDensityConfig
from zfaudio.models.bounds import BOUNDS, LOUDEST, SLOPE, bounded_density, companded
from zfaudio.models.frame_likelihoods import FrameDistribution, build_likelihood, sample_likelihood
from zfaudio.models.heads import FrameHead, check_stride, places_to_score
from zfaudio.observations import RECORDINGS, Observation, of_recordings
from zfaudio.ops import dilated_loop
from zfaudio.ops.inverse_sine import asinh
from zfaudio.ops.sample_draw import KINDS

# Samples that are scored together, which bounds the memory. A GPU needs more of them to be busy.
SAMPLES_AT_ONCE = {"cpu": 1 << 14, "cuda": 1 << 18}


class DilatedHead(FrameHead):
    """Stacks of dilated convolutions; the equations are at the top of this file."""

    kinds = RECORDINGS

    def __init__(
        self, condition_size: int, frame_size: int, config: FrameDensityConfig, observation: Observation
    ) -> None:
        super().__init__()
        check_stride(config, frame_size)
        self.frame_size, self.window, self.stride = frame_size, config.head_window, config.head_stride
        self.dilations = [2**layer for layer in range(config.head_dilations)] * config.head_stacks
        self.heard = sum(self.dilations) + self.window  # samples before the one that is predicted
        self.past = max(0, self.heard - frame_size)
        self.config, self.quantizer = config, of_recordings(observation, "model.head dilated")
        self.floor = self.quantizer.step**2
        self.likelihood = build_likelihood(config, 1, observation)
        self.noise_size = frame_size * self.likelihood.noise_size
        self.compiled = config.core == "fast" and config.likelihood in KINDS

        layers, channels, units = len(self.dilations), config.head_channels, config.head_size
        self.enter = nn.Linear(3, channels)
        self.taps = nn.ModuleList(nn.Linear(2 * channels, 2 * channels) for _ in range(layers))
        self.residual = nn.ModuleList(nn.Linear(channels, channels) for _ in range(layers - 1))
        self.condition = nn.Linear(condition_size, 2 * layers * channels, bias=False) if condition_size else None
        self.skip = nn.Linear(layers * channels, units)
        self.inner = nn.Linear(units, units)
        self.outer = nn.Linear(units, self.likelihood.parameters)
        self.linear = nn.Linear(self.window - 1, self.likelihood.parameters, bias=False)  # linear prediction
        nn.init.zeros_(self.linear.weight)
        for layer in (*self.taps, *self.residual, self.skip, self.inner):
            nn.init.kaiming_uniform_(layer.weight, nonlinearity="linear")  # torch's default lets signals fade

    def forward(self, condition: Tensor, samples: Tensor) -> "DilatedFrames":
        """See `FrameHead.forward`. It can only score the frames that follow in `samples`, and any one after them."""
        steps = condition.shape[1]
        grid = self.likelihood.grid(samples[:, self.past :].unflatten(-1, (steps, self.frame_size)))
        known = self.heard + (steps - 1) * self.frame_size
        return DilatedFrames(self, condition, grid, samples[:, samples.shape[1] - known :])

    def step(self, condition: Tensor, samples: Tensor) -> "DilatedFrame":
        """See `FrameHead.step`."""
        grid = self.likelihood.grid(samples[:, self.past :])
        return DilatedFrame(self, condition, grid, samples[:, samples.shape[1] - self.heard :])

    def hear(self, samples: Tensor) -> "Heard":
        """What is heard at samples [rows, n], except at the first `window - 1` of them."""
        changes = samples[:, 1:] - samples[:, :-1]
        level = torch.sqrt(F.avg_pool1d(changes.square(), self.window - 1, stride=1) + self.floor)
        unit = level.clamp(max=LOUDEST)
        last, change = samples[:, self.window - 1 :], changes[:, self.window - 2 :]
        inputs = torch.stack([companded(last), asinh(change / unit), torch.log(unit)], dim=-1)
        return Heard(inputs, last.unsqueeze(-1), changes.unfold(1, self.window - 1, 1), unit.unsqueeze(-1))

    def advance(self, layer: int, earlier: Tensor, now: Tensor) -> tuple[Tensor, Tensor]:
        """One layer, from what came into it a dilation ago and what comes in now, [..., channels] each.

        Returns:
            The sums of filters and gates, [..., 2 * channels], and what comes into the next layer; after the last layer
            that has no meaning.
        """
        sums = self.taps[layer](torch.cat([earlier, now], dim=-1))
        if layer < len(self.residual):
            now = now + self.residual[layer](gated(sums))
        return sums, now

    def respond(
        self, sums: Sequence[Tensor], heard: "Heard", condition: Tensor, grid: Tensor | None
    ) -> FrameDistribution:
        """The densities of the samples after those that were heard.

        Args:
            sums: of each layer, [..., n, 2 * channels].
            heard: at the samples, [..., n, size].
            condition: of the frame, [..., 1, size].
            grid: of the samples before the frame, [..., 1, 1].

        Returns:
            A density over [..., n, 1].
        """
        of_layers = torch.cat(list(sums), dim=-1)  # [..., n, layers * 2 * channels]
        if self.condition is not None:
            of_layers = of_layers + self.condition(condition)
        told = gated(of_layers.unflatten(-1, (len(sums), -1))).flatten(-2)  # [..., n, layers * channels]
        units = self.inner(F.leaky_relu(self.skip(told), SLOPE))
        parameters = self.outer(F.leaky_relu(units, SLOPE)) + self.linear(heard.changes / heard.unit)
        return bounded_density(self.likelihood, parameters, heard.last, heard.unit, grid)

    def remember(self, samples: Tensor) -> list[Tensor]:
        """What came into each layer at the last samples, as many as its dilation, but for the very last one.

        Args:
            samples: [rows, heard].

        Returns:
            [rows, dilation, channels] for each layer.
        """
        hidden, kept = self.enter(self.hear(samples[:, :-1]).inputs), []
        for layer, dilation in enumerate(self.dilations):
            kept.append(hidden[:, hidden.shape[1] - dilation :])
            if layer < len(self.residual):
                _, hidden = self.advance(layer, hidden[:, :-dilation], hidden[:, dilation:])
        return kept


@dataclass
class Heard:
    """What is heard at some samples, [..., n, size] each."""

    inputs: Tensor  # of the first layer
    last: Tensor  # the sample itself
    changes: Tensor  # from sample to sample, the last window - 1
    unit: Tensor  # of the density of the sample after it: the level of the changes, bounded


@dataclass
class DilatedFrames:
    """The densities of the frames of a sequence under the head."""

    head: DilatedHead
    condition: Tensor  # [rows, steps, size]
    grid: Tensor | None  # of the samples before each frame, [rows, steps, 1]
    samples: Tensor  # before the last frame, [rows, heard + (steps - 1) * frame_size]

    def log_prob(self, frames: Tensor) -> Tensor:
        """Log-densities of frames [rows, steps, frame_size]: [rows, steps] in nats.

        In training an estimate, see `head_stride`. All frames but the last must be those that `samples` ends with.
        """
        head, (rows, steps, size) = self.head, frames.shape
        stride = head.stride if head.training else 1
        places = places_to_score(size, stride, frames.device)
        signal = torch.cat([self.samples, frames[:, -1]], dim=1)
        at_once = SAMPLES_AT_ONCE[frames.device.type]
        steps_at_once = min(steps, max(1, at_once // size))
        rows_at_once = max(1, at_once // (head.heard + steps_at_once * size))
        scores = []
        for row in range(0, rows, rows_at_once):
            of_rows = [
                self._score(
                    signal, slice(row, row + rows_at_once), range(step, min(steps, step + steps_at_once)), places
                )
                for step in range(0, steps, steps_at_once)
            ]
            scores.append(torch.cat(of_rows, dim=1))
        log_probs: Tensor = stride * torch.cat(scores)
        return log_probs

    def _score(self, signal: Tensor, rows: slice, steps: range, places: Tensor) -> Tensor:
        """Sums of the log-densities at some places of some frames: [rows, steps]."""
        head, size = self.head, self.head.frame_size
        signal = signal[rows, steps.start * size : head.heard + steps.stop * size]
        condition = self.condition[rows, steps.start : steps.stop].unsqueeze(-2)
        grid = None if self.grid is None else self.grid[rows, steps.start : steps.stop].unsqueeze(-2)

        def scored(values: Tensor) -> Tensor:
            """Of values [rows, n, size] at the last samples, those at the places: [rows, steps, len(places), size]."""
            ends: Tensor = values[:, values.shape[1] - len(steps) * size :].unflatten(1, (len(steps), size))
            return ends if len(places) == size else ends[:, :, places]

        heard = head.hear(signal[:, :-1])
        hidden, sums = head.enter(heard.inputs), []
        for layer, dilation in enumerate(head.dilations[:-1]):
            of_layer, hidden = head.advance(layer, hidden[:, :-dilation], hidden[:, dilation:])
            sums.append(scored(of_layer))
        earlier, now = hidden[:, : -head.dilations[-1]], hidden[:, head.dilations[-1] :]
        sums.append(head.advance(len(sums), scored(earlier), scored(now))[0])  # only the output reads the last layer
        heard = Heard(scored(heard.inputs), scored(heard.last), scored(heard.changes), scored(heard.unit))
        log_prob = head.respond(sums, heard, condition, grid).log_prob(scored(signal.unsqueeze(-1)))
        return log_prob.sum(-1)

    def at(self, noise: Tensor, temperature: float = 1.0) -> Tensor:
        """The frames [rows, steps, frame_size] that noise [rows, steps, noise_size] is mapped to, each on its own."""
        before = self.samples.unfold(1, self.head.heard, self.head.frame_size)  # [rows, steps, heard]
        grid = None if self.grid is None else self.grid.flatten(0, 1)
        alone = DilatedFrame(self.head, self.condition.flatten(0, 1), grid, before.flatten(0, 1))
        frames: Tensor = alone.at(noise.flatten(0, 1), temperature).unflatten(0, noise.shape[:2])
        return frames


@dataclass
class DilatedFrame:
    """The density of a frame under the head."""

    head: DilatedHead
    condition: Tensor  # [rows, size]
    grid: Tensor | None  # of the samples before the frame, [rows, 1]
    samples: Tensor  # before the frame, [rows, heard]

    def log_prob(self, frames: Tensor) -> Tensor:
        """Log-density of frames [rows, frame_size]: [rows] in nats. In training an estimate, see `head_stride`."""
        grid = None if self.grid is None else self.grid.unsqueeze(1)
        alone = DilatedFrames(self.head, self.condition.unsqueeze(1), grid, self.samples)
        return alone.log_prob(frames.unsqueeze(1)).squeeze(1)

    def at(self, noise: Tensor, temperature: float = 1.0) -> Tensor:
        """The frame [rows, frame_size] that standard normal noise [rows, noise_size] is mapped to, sample by sample.

        On a CPU with core `fast` and without a gradient, the loop over samples is compiled, see ops/dilated_loop.py.
        """
        head = self.head
        noise = noise.unflatten(-1, (head.frame_size, head.likelihood.noise_size))
        if head.compiled and noise.device.type == "cpu" and not torch.is_grad_enabled():
            return self._at_compiled(noise, temperature)
        inputs_of_layers = [list(part.unbind(1)) for part in head.remember(self.samples)]  # [rows, channels] each
        condition = self.condition.unsqueeze(1)
        grid = None if self.grid is None else self.grid.unsqueeze(1)
        samples = self.samples
        for sample_noise in noise.unbind(1):
            heard = head.hear(samples[:, samples.shape[1] - head.window :])
            hidden, sums = head.enter(heard.inputs)[:, 0], []
            for layer, (inputs, dilation) in enumerate(zip(inputs_of_layers, head.dilations, strict=True)):
                inputs.append(hidden)
                of_layer, hidden = head.advance(layer, inputs[-1 - dilation], hidden)
                sums.append(of_layer.unsqueeze(1))
            density = head.respond(sums, heard, condition, grid)
            drawn = density.at(sample_noise.unsqueeze(1), temperature).squeeze(-1)  # [rows, 1]
            samples = torch.cat([samples, drawn], dim=1)
        return samples[:, head.heard :]

    def _at_compiled(self, noise: Tensor, temperature: float) -> Tensor:
        """`at` by the compiled loop; noise [rows, frame_size, numbers per sample]."""
        head = self.head
        taps, residual = cast("Sequence[nn.Linear]", head.taps), cast("Sequence[nn.Linear]", head.residual)
        # Row by row, because a product may be rounded differently for another number of rows.
        remembered = [head.remember(row) for row in self.samples.split(1)]
        return dilated_loop.draw_samples(
            dilated_loop.dilated_weights(head.enter, taps, residual, head.skip, head.inner, head.outer, head.linear),
            head.window,
            BOUNDS,
            sample_likelihood(head.config, head.quantizer),
            self.samples,
            [torch.cat(layer) for layer in zip(*remembered, strict=True)],
            None if head.condition is None else head.condition(self.condition),
            None if self.grid is None else self.grid.squeeze(-1),
            noise,
            temperature,
        )


def gated(sums: Tensor) -> Tensor:
    """The sums of filters and gates [..., 2 * channels] -> -tanh(filters / 2) * sigmoid(gates), [..., channels].

    On a CPU, torch's tanh takes nine times as long as its sigmoid, and the other sign would take an operator more.
    """
    filters, gates = torch.sigmoid(sums).chunk(2, dim=-1)
    return torch.addcmul(gates, filters, gates, value=-2)
