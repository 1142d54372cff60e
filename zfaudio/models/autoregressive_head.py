"""The autoregressive head: each sample of a frame from those before it and from the model's state.

A frame's density is a product over its samples (the hierarchical model of Lai et al., 2019, "Re-examination of the Role
of Latent Variables in Sequence Modeling", section 4):

    p(x_{t+1} | c_t, x_t) = prod_i p(x_{t+1,i} | the head_window samples before it, c_t)

c_t is what the model gives, its state and latent. The source runs an LSTM along the samples. Here a small network reads
a window, so that training computes all samples at once; the window reaches back into x_t, which the model has read
anyway. It reads the changes from sample to sample, divided by their root mean square, and tells of the next sample in
the same terms, as a change from the last: speech is predicted alike at any loudness, and the network's inputs, unlike
samples of speech, are hardly correlated (after 500 steps of training this is worth 0.4 bits a sample).
"""

import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zfaudio.distributions import Quantizer
from zfaudio.errors import UserError
from zfaudio.models.config import ModelConfig
from zfaudio.models.frame_likelihoods import NARROWEST, DensityLayout, SampleDensity
from zfaudio.ops import head_loop as sample_loop

SLOPE = 0.1  # of the head's leaky ReLU

# Frames scored at once. All their samples go through the network side by side, which takes memory; tensors beyond 32 MB
# are moreover taken from the system and given back at every use, which halves the speed on a CPU.
ROWS = 128


class AutoregressiveOutput(nn.Module):
    """Two layers over a window of samples; the condition scales and shifts the first one's units."""

    def __init__(self, condition_size: int, frame_size: int, config: ModelConfig, quantizer: Quantizer) -> None:
        super().__init__()
        if config.head_window > frame_size:
            raise UserError(
                f"model.head_window is {config.head_window}, longer than a frame ({frame_size} samples), which is all "
                "that the head has before the next; lower it"
            )
        if frame_size % config.head_stride:
            raise UserError(f"model.head_stride is {config.head_stride}; it must divide the frame size, {frame_size}")
        self.frame_size, self.window, self.stride = frame_size, config.head_window, config.head_stride
        self.quantizer, self.compiled = quantizer, config.core == "fast"
        self.layout = DensityLayout(config, 1, quantizer)
        self.filters = nn.Linear(self.window + 2, config.head_size)  # of the window and the logarithm of its level
        self.condition = nn.Linear(condition_size, 2 * config.head_size) if condition_size else None
        self.inner = nn.Linear(config.head_size, config.head_size)
        self.outer = nn.Linear(config.head_size, self.layout.parameters)
        self.linear = nn.Linear(self.window + 2, self.layout.parameters, bias=False)  # prediction without hidden units
        nn.init.zeros_(self.linear.weight)

    @property
    def noise_size(self) -> int:
        """Standard normal numbers that a frame's draw takes."""
        return self.frame_size * self.layout.noise_size

    def observe(self, frames: Tensor) -> Tensor:
        """Frames as the model is to read them, see `DensityLayout.observe`."""
        return self.layout.observe(frames)

    def forward(self, condition: Tensor, previous: Tensor) -> "AutoregressiveFrame":
        """Density of the frame that follows `previous` [..., frame_size], given condition [..., condition_size]."""
        adaptation = None
        if self.condition is not None:
            gain, shift = self.condition(condition).unsqueeze(-2).chunk(2, dim=-1)  # [..., 1, head_size]
            adaptation = 1 + gain, shift
        return AutoregressiveFrame(self, adaptation, previous[..., self.frame_size - self.window :])

    def density(self, windows: Tensor, adaptation: tuple[Tensor, Tensor] | None) -> SampleDensity:
        """Density of the sample after each window: windows [..., n, window] -> a density over [..., n, 1]."""
        floor = self.quantizer.step**2  # a smaller level would magnify the noise of dequantization
        last = windows[..., -1:]
        loudness = torch.sqrt(windows.square().mean(-1, keepdim=True) + floor)  # [..., n, 1]
        changes = windows[..., 1:] - windows[..., :-1]
        level = torch.sqrt(changes.square().mean(-1, keepdim=True) + floor)
        scaled = torch.cat([changes / level, last / loudness, torch.log(level), torch.log(loudness / level)], dim=-1)
        units = self.filters(scaled)
        if adaptation is not None:
            units = torch.addcmul(adaptation[1], units, adaptation[0])
        units = F.leaky_relu(self.inner(F.leaky_relu(units, SLOPE)), SLOPE)
        return self.layout.read(self.outer(units) + self.linear(scaled), origin=last, level=level)


@dataclass
class AutoregressiveFrame:
    """The density of a frame under the head."""

    head: AutoregressiveOutput
    adaptation: tuple[Tensor, Tensor] | None  # factors and shifts of the first layer's units, [..., 1, head_size]
    before: Tensor  # the samples before the frame, [..., window]

    def log_prob(self, frames: Tensor) -> Tensor:
        """Log-density of frames [..., frame_size]: [...] in nats; in training an estimate, see `head_stride`."""
        stride = self.head.stride if self.head.training else 1
        samples = torch.cat([self.before, frames], dim=-1).flatten(0, -2)  # [rows, window + frame_size]
        scored: slice | Tensor = slice(None)
        if stride > 1:
            scored = torch.arange(0, self.head.frame_size, stride, device=samples.device)
            scored = scored + torch.randint(stride, (), device=samples.device)
        log_probs = []
        for part, adaptation in zip(samples.split(ROWS), self._adaptation_of_parts(len(samples)), strict=True):
            windows = part[:, :-1].unfold(-1, self.head.window, 1)[:, scored]  # [rows, n, window]
            targets = part[:, self.head.window :][:, scored].unsqueeze(-1)  # [rows, n, 1]
            log_probs.append(stride * self.head.density(windows, adaptation).log_prob(targets).sum(-1))
        return torch.cat(log_probs).view(frames.shape[:-1])

    def _adaptation_of_parts(self, rows: int) -> Iterable[tuple[Tensor, Tensor] | None]:
        if self.adaptation is None:
            return itertools.repeat(None, -(-rows // ROWS))
        gain, shift = (part.flatten(0, -3).split(ROWS) for part in self.adaptation)
        return zip(gain, shift, strict=True)

    def at(self, noise: Tensor, temperature: float = 1.0) -> Tensor:
        """The frame [..., frame_size] that standard normal `noise` [..., noise_size] stands for, sample by sample.

        On a CPU and without a gradient, with core `fast`, by the compiled loop of ops/sample_loop.py.
        """
        noise = noise.unflatten(-1, (self.head.frame_size, self.head.layout.noise_size))
        if self.head.compiled and noise.device.type == "cpu" and not torch.is_grad_enabled():
            return self._at_once(noise, temperature)
        window, samples = self.before, []
        for draw in noise.unbind(-2):
            density = self.head.density(window.unsqueeze(-2), self.adaptation)
            samples.append(density.at(draw.unsqueeze(-2), temperature).squeeze(-1))  # [..., 1]
            window = torch.cat([window[..., 1:], samples[-1]], dim=-1)
        return torch.cat(samples, dim=-1)

    def _at_once(self, noise: Tensor, temperature: float) -> Tensor:
        """`at` in one compiled loop, without a gradient: noise [..., frame_size, noise numbers of a sample]."""
        head, layout = self.head, self.head.layout
        reading = sample_loop.Reading(
            *(layout.kind, layout.components, layout.min_deviation, NARROWEST * head.quantizer.step),
            *(head.quantizer.mean, head.quantizer.deviation),
        )
        rows = noise.shape[:-2]
        adaptation = None
        if self.adaptation is not None:
            gain, shift = (part.squeeze(-2).reshape(math.prod(rows), -1) for part in self.adaptation)
            adaptation = gain, shift
        samples = sample_loop.draw_samples(
            sample_loop.layers_of(head.filters, head.inner, head.outer, head.linear),
            *(reading, SLOPE, self.before.reshape(math.prod(rows), -1), adaptation),
            *(noise.reshape(math.prod(rows), *noise.shape[-2:]), temperature),
        )
        return samples.view(*rows, -1)
