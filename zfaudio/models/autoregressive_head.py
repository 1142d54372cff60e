"""The autoregressive head: predicts each sample of a frame from the samples before it and from the model's state.

The density of a frame is a product over its samples (the hierarchical model of Lai et al., 2019, "Re-examination of the
Role of Latent Variables in Sequence Modeling", section 4):

    p(x_{t+1} | c_t, x_t) = prod_i p(x_{t+1,i} | the head_window samples before it, c_t)

c_t is the condition that the model provides: its state and latent. Lai et al. run an LSTM along the samples. Here a
small network reads a window of samples instead, so that training computes all samples in parallel. The window reaches
back into x_t, which the model has already read, and beyond it if it is longer than a frame. The network reads the
changes from sample to sample, divided by their root mean square, and predicts the next sample in the same unit, as a
change from the last one. It therefore predicts speech alike at any loudness, and its inputs are hardly correlated,
unlike the samples themselves (worth 0.4 bits per sample after 500 training steps).
"""

import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zfaudio.config import FrameDensityConfig
from zfaudio.models.frame_likelihoods import FrameDistribution, build_likelihood, sample_likelihood
from zfaudio.models.heads import FrameHead, check_stride, places_to_score
from zfaudio.observations import RECORDINGS, Observation, of_recordings
from zfaudio.ops import head_loop
from zfaudio.ops.sample_draw import KINDS

SLOPE = 0.1  # of the head's leaky ReLU

# Frames that are scored at a time, which bounds the memory: each frame needs a window for each of its samples. Tensors
# larger than 32 MB are also slow on a CPU, because the allocator returns them to the system after every use. With
# windows longer than this, fewer frames are scored at a time.
FRAMES_AT_ONCE = 128
WINDOW_AT_ONCE = 64

# The factors and shifts by which the condition adapts the units of the first layer, [..., 1, head_size] each.
Adaptation = tuple[Tensor, Tensor]


class AutoregressiveHead(FrameHead):
    """Two layers over a window of samples. The condition scales and shifts the units of the first layer."""

    kinds = RECORDINGS

    def __init__(
        self, condition_size: int, frame_size: int, config: FrameDensityConfig, observation: Observation
    ) -> None:
        super().__init__()
        check_stride(config, frame_size)
        self.frame_size, self.window, self.stride = frame_size, config.head_window, config.head_stride
        self.past = max(0, self.window - frame_size)
        self.config, self.quantizer = config, of_recordings(observation, "this head")
        self.likelihood = build_likelihood(config, 1, observation)
        self.noise_size = frame_size * self.likelihood.noise_size
        self.frames_at_once = max(1, FRAMES_AT_ONCE * WINDOW_AT_ONCE // max(self.window, WINDOW_AT_ONCE))
        self.compiled = config.core == "fast" and config.likelihood in KINDS
        self.filters = nn.Linear(self.window + 2, config.head_size)  # of the window and the logarithm of its level
        self.condition = nn.Linear(condition_size, 2 * config.head_size) if condition_size else None
        self.inner = nn.Linear(config.head_size, config.head_size)
        self.outer = nn.Linear(config.head_size, self.likelihood.parameters)
        self.linear = nn.Linear(self.window + 2, self.likelihood.parameters, bias=False)  # linear prediction
        nn.init.zeros_(self.linear.weight)

    def forward(self, condition: Tensor, samples: Tensor) -> "AutoregressiveFrame":
        """See `FrameHead.forward`."""
        before = samples.unfold(-1, self.past + self.frame_size, self.frame_size)  # [batch, steps, past + frame_size]
        return self.step(condition, before)

    def step(self, condition: Tensor, samples: Tensor) -> "AutoregressiveFrame":
        """See `FrameHead.step`; also for condition [..., size] and samples [..., past + frame_size]."""
        adaptation = None
        if self.condition is not None:
            gain, shift = self.condition(condition).unsqueeze(-2).chunk(2, dim=-1)  # [..., 1, head_size]
            adaptation = 1 + gain, shift
        grid = self.likelihood.grid(samples[..., self.past :])
        return AutoregressiveFrame(self, adaptation, grid, samples[..., samples.shape[-1] - self.window :])

    def density(self, windows: Tensor, adaptation: Adaptation | None, grid: Tensor | None) -> FrameDistribution:
        """Density of the sample after each window.

        Args:
            windows: [..., n, window].
            adaptation: of the first layer.
            grid: of the samples before the frame, [..., 1].

        Returns:
            A density over [..., n, 1].
        """
        floor = self.quantizer.step**2  # a smaller level would amplify the noise of dequantization
        last = windows[..., -1:]
        loudness = torch.sqrt(windows.square().mean(-1, keepdim=True) + floor)  # [..., n, 1]
        changes = windows[..., 1:] - windows[..., :-1]
        level = torch.sqrt(changes.square().mean(-1, keepdim=True) + floor)
        scaled = torch.cat([changes / level, last / loudness, torch.log(level), torch.log(loudness / level)], dim=-1)
        units = self.filters(scaled)
        if adaptation is not None:
            gain, shift = adaptation
            units = torch.addcmul(shift, units, gain)
        units = F.leaky_relu(self.inner(F.leaky_relu(units, SLOPE)), SLOPE)
        density = self.likelihood.read(self.outer(units) + self.linear(scaled), origin=last, level=level)
        return self.likelihood.on_grid(density, None if grid is None else grid.unsqueeze(-1))


@dataclass
class AutoregressiveFrame:
    """The density of a frame under the head."""

    head: AutoregressiveHead
    adaptation: Adaptation | None
    grid: Tensor | None  # of the samples before the frame, [..., 1]
    previous_samples: Tensor  # the samples before the frame, [..., window]

    def log_prob(self, frames: Tensor) -> Tensor:
        """Log-density of frames [..., frame_size]: [...] in nats. In training an estimate, see `head_stride`."""
        stride = self.head.stride if self.head.training else 1
        samples = torch.cat([self.previous_samples, frames], dim=-1).flatten(0, -2)  # [rows, window + frame_size]
        scored: slice | Tensor = slice(None)
        if stride > 1:
            scored = places_to_score(self.head.frame_size, stride, samples.device)
        log_probs = []
        at_once = self.head.frames_at_once
        grids = itertools.repeat(None) if self.grid is None else self.grid.flatten(0, -2).split(at_once)
        parts = zip(samples.split(at_once), self._split_adaptation(len(samples)), grids, strict=False)
        for part, adaptation, grid in parts:
            windows = part[:, :-1].unfold(-1, self.head.window, 1)[:, scored]  # [rows, n, window]
            targets = part[:, self.head.window :][:, scored].unsqueeze(-1)  # [rows, n, 1]
            log_probs.append(stride * self.head.density(windows, adaptation, grid).log_prob(targets).sum(-1))
        return torch.cat(log_probs).view(frames.shape[:-1])

    def _split_adaptation(self, rows: int) -> Iterable[Adaptation | None]:
        """The adaptation of as many rows as are scored at a time."""
        at_once = self.head.frames_at_once
        if self.adaptation is None:
            return itertools.repeat(None, -(-rows // at_once))
        gain, shift = (part.flatten(0, -3).split(at_once) for part in self.adaptation)
        return zip(gain, shift, strict=True)

    def at(self, noise: Tensor, temperature: float = 1.0) -> Tensor:
        """The frame [..., frame_size] that standard normal `noise` [..., noise_size] is mapped to, sample by sample.

        On a CPU with core `fast` and without a gradient, the loop over samples is compiled, see ops/head_loop.py.
        """
        noise = noise.unflatten(-1, (self.head.frame_size, self.head.likelihood.noise_size))
        if self.head.compiled and noise.device.type == "cpu" and not torch.is_grad_enabled():
            return self._at_compiled(noise, temperature)
        window, samples = self.previous_samples, []
        for sample_noise in noise.unbind(-2):
            density = self.head.density(window.unsqueeze(-2), self.adaptation, self.grid)
            samples.append(density.at(sample_noise.unsqueeze(-2), temperature).squeeze(-1))  # [..., 1]
            window = torch.cat([window[..., 1:], samples[-1]], dim=-1)
        return torch.cat(samples, dim=-1)

    def _at_compiled(self, noise: Tensor, temperature: float) -> Tensor:
        """`at` by the compiled loop; noise [..., frame_size, numbers per sample]."""
        head = self.head
        shape = noise.shape[:-2]
        rows = math.prod(shape)
        adaptation = None
        if self.adaptation is not None:
            gain, shift = (part.squeeze(-2).reshape(rows, -1) for part in self.adaptation)
            adaptation = gain, shift
        samples = head_loop.draw_samples(
            head_loop.head_weights(head.filters, head.inner, head.outer, head.linear),
            sample_likelihood(head.config, head.quantizer),
            SLOPE,
            self.previous_samples.reshape(rows, -1),
            adaptation,
            None if self.grid is None else self.grid.reshape(rows),
            noise.reshape(rows, noise.shape[-2], noise.shape[-1]),
            temperature,
        )
        return samples.view(*shape, -1)
