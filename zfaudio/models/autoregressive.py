"""The autoregressive head: each sample of a frame from those before it and from the model's state.

A frame's density is a product over its samples (the hierarchical model of Lai et al., 2019, "Re-examination of the Role
of Latent Variables in Sequence Modeling", section 4):

    p(x_{t+1} | c_t, x_t) = prod_i p(x_{t+1,i} | the head_window samples before it, c_t)

c_t is what the model gives, its state and latent. The source runs an LSTM along the samples. Here a small network reads
a window, so that training computes all samples at once; the window reaches back into x_t, which the model has read
anyway. What a window holds is divided by its level, its root mean square, and the density is stretched by it: speech is
predicted alike at any loudness.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zfaudio.distributions import Quantiser
from zfaudio.errors import UserError
from zfaudio.models.config import ModelConfig
from zfaudio.models.outputs import DensityLayout, SampleDensity

SLOPE = 0.1  # of the head's leaky ReLU


class AutoregressiveOutput(nn.Module):
    """Two layers over a window of samples; the condition scales and shifts the first one's units."""

    def __init__(self, condition_size: int, frame_size: int, config: ModelConfig, quantiser: Quantiser) -> None:
        super().__init__()
        if config.head_window > frame_size:
            raise UserError(
                f"model.head_window is {config.head_window}, longer than a frame ({frame_size} samples), which is all "
                "that the head has before the next; lower it"
            )
        if frame_size % config.head_stride:
            raise UserError(f"model.head_stride is {config.head_stride}; it must divide the frame size, {frame_size}")
        self.frame_size, self.window, self.stride = frame_size, config.head_window, config.head_stride
        self.quantiser = quantiser
        self.layout = DensityLayout(config, 1, quantiser)
        self.filters = nn.Linear(self.window + 1, config.head_size)  # of the window and the logarithm of its level
        self.condition = nn.Linear(condition_size, 2 * config.head_size) if condition_size else None
        self.inner = nn.Linear(config.head_size, config.head_size)
        self.outer = nn.Linear(config.head_size, self.layout.parameters)
        self.linear = nn.Linear(self.window, self.layout.parameters, bias=False)  # prediction without hidden units
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
        # A level below one 16-bit step would magnify the noise of dequantisation.
        level = torch.sqrt(windows.square().mean(-1) + self.quantiser.step**2)  # [..., n]
        scaled = windows / level.unsqueeze(-1)
        units = self.filters(torch.cat([scaled, torch.log(level).unsqueeze(-1)], dim=-1))
        if adaptation is not None:
            units = torch.addcmul(adaptation[1], units, adaptation[0])
        units = F.leaky_relu(self.inner(F.leaky_relu(units, SLOPE)), SLOPE)
        return self.layout.read(self.outer(units) + self.linear(scaled), level)


@dataclass
class AutoregressiveFrame:
    """The density of a frame under the head."""

    head: AutoregressiveOutput
    adaptation: tuple[Tensor, Tensor] | None  # factors and shifts of the first layer's units, [..., 1, head_size]
    before: Tensor  # the samples before the frame, [..., window]

    def log_prob(self, frames: Tensor) -> Tensor:
        """Log-density of frames [..., frame_size]: [...] in nats; in training an estimate, see `head_stride`."""
        samples = torch.cat([self.before, frames[..., :-1]], dim=-1)
        windows = samples.unfold(-1, self.head.window, 1)  # [..., frame_size, window]
        stride = self.head.stride if self.head.training else 1
        first = int(torch.randint(stride, ())) if stride > 1 else 0
        density = self.head.density(windows[..., first::stride, :], self.adaptation)
        return stride * density.log_prob(frames[..., first::stride].unsqueeze(-1)).sum(-1)

    def at(self, noise: Tensor, temperature: float = 1.0) -> Tensor:
        """The frame [..., frame_size] that standard normal `noise` [..., noise_size] stands for, sample by sample."""
        noise = noise.unflatten(-1, (self.head.frame_size, self.head.layout.noise_size))
        window, samples = self.before, []
        for draw in noise.unbind(-2):
            density = self.head.density(window.unsqueeze(-2), self.adaptation)
            samples.append(density.at(draw.unsqueeze(-2), temperature).squeeze(-1))  # [..., 1]
            window = torch.cat([window[..., 1:], samples[-1]], dim=-1)
        return torch.cat(samples, dim=-1)
