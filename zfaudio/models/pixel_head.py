"""The autoregressive head on pixels: predicts each pixel of a frame from the pixels before it and from the state.

The probability of a frame is a product over its pixels, as in PixelRNN (van den Oord et al., 2016, "Pixel Recurrent
Neural Networks", section 2):

    p(x_{t+1} | c_t, x_t) = prod_i p(x_{t+1,i} | the head_window pixels before it, i, c_t)

c_t is the condition that the model provides. If a frame is a row of a picture, the window holds the pixels to the left
and those of the rows above. Unlike a sample, a pixel has no level, and its place within the frame matters: the window
is heard as it is, the first layer has a shift of its own at each place, and the condition adds a logit at each place.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zfaudio.config import FrameDensityConfig
from zfaudio.models.frame_likelihoods import FrameDistribution, build_likelihood
from zfaudio.models.heads import FrameHead, check_stride, places_to_score
from zfaudio.observations import Observation
from zfaudio.ops.linear import Linear

SLOPE = 0.1  # of the leaky ReLUs
NUMBERS_AT_ONCE = 1 << 22  # units of a layer that are computed at a time, which bounds the memory


class PixelHead(FrameHead):
    """Two layers over a window of pixels. The condition scales and shifts the units of the first layer."""

    kinds = ("binary",)

    def __init__(
        self, condition_size: int, frame_size: int, config: FrameDensityConfig, observation: Observation
    ) -> None:
        super().__init__()
        check_stride(config, frame_size)
        self.frame_size, self.window, self.stride = frame_size, config.head_window, config.head_stride
        self.past = max(0, self.window - frame_size)
        self.likelihood = build_likelihood(config, 1, observation)
        self.noise_size = frame_size * self.likelihood.noise_size
        units = config.head_size
        self.frames_at_once = max(1, NUMBERS_AT_ONCE // (frame_size * max(units, self.window)))
        self.filters = Linear(self.window, units, bias=False)
        self.places = nn.Parameter(torch.zeros(frame_size, units))  # the shift at each place
        self.condition = nn.Linear(condition_size, 2 * units) if condition_size else None
        self.logits = nn.Linear(condition_size, frame_size, bias=False) if condition_size else None
        self.inner = Linear(units, units)
        self.outer = Linear(units, 1)
        self.linear = Linear(self.window, 1, bias=False)

    def forward(self, condition: Tensor, samples: Tensor) -> "PixelFrame":
        """See `FrameHead.forward`."""
        before = samples.unfold(-1, self.past + self.frame_size, self.frame_size)  # [batch, steps, past + frame_size]
        return self.step(condition, before)

    def step(self, condition: Tensor, samples: Tensor) -> "PixelFrame":
        """See `FrameHead.step`; also for condition [..., size] and samples [..., past + frame_size]."""
        shifts = self.places if torch.is_grad_enabled() else self.places.detach()
        return PixelFrame(self, condition, shifts, samples[..., samples.shape[-1] - self.window :])

    def hear(self, condition: Tensor) -> "Condition":
        """What the head makes of the conditions of frames, [..., size]."""
        if self.condition is None or self.logits is None:
            return Condition(1.0, 0.0, condition.new_zeros(*condition.shape[:-1], self.frame_size))
        gain, shift = self.condition(condition).unsqueeze(-2).chunk(2, dim=-1)
        return Condition(1 + gain, shift, self.logits(condition))

    def density(self, windows: Tensor, condition: "Condition", shifts: Tensor, places: Tensor) -> FrameDistribution:
        """Probability of the pixel after each window.

        Args:
            windows: [..., n, window].
            condition: of the frame.
            shifts: of the first layer at each place of a frame, [frame_size, head_size].
            places: of the n pixels within the frame, int64 [n].

        Returns:
            A density over [..., n, 1].
        """
        units = (self.filters(windows) + shifts[places]) * condition.gain + condition.shift
        units = F.leaky_relu(self.inner(F.leaky_relu(units, SLOPE)), SLOPE)
        logits = self.outer(units) + self.linear(windows) + condition.logits[..., places].unsqueeze(-1)
        return self.likelihood.read(logits)


@dataclass
class Condition:
    """What the head makes of the condition of a frame."""

    gain: Tensor | float  # of the first layer, [..., 1, head_size]
    shift: Tensor | float  # [..., 1, head_size]
    logits: Tensor  # added at each place, [..., frame_size]


@dataclass
class PixelFrame:
    """The probability of a frame under the head."""

    head: PixelHead
    condition: Tensor  # [..., size]
    shifts: Tensor  # of the first layer at each place, [frame_size, head_size]
    before: Tensor  # the pixels before the frame, [..., window]

    def log_prob(self, frames: Tensor) -> Tensor:
        """Log-probability of frames [..., frame_size]: [...] in nats. In training an estimate, see `head_stride`."""
        head = self.head
        stride = head.stride if head.training else 1
        places = places_to_score(head.frame_size, stride, frames.device)
        pixels = torch.cat([self.before, frames], dim=-1).flatten(0, -2)  # [rows, window + frame_size]
        conditions = self.condition.flatten(0, -2).split(head.frames_at_once)
        log_probs = []
        for part, condition in zip(pixels.split(head.frames_at_once), conditions, strict=True):
            windows = part[:, :-1].unfold(-1, head.window, 1)  # [rows, frame_size, window]
            targets = part[:, head.window :]
            if stride > 1:
                windows, targets = windows[:, places], targets[:, places]
            log_prob = head.density(windows, head.hear(condition), self.shifts, places).log_prob(targets.unsqueeze(-1))
            log_probs.append(stride * log_prob.sum(-1))
        return torch.cat(log_probs).view(frames.shape[:-1])

    def at(self, noise: Tensor, temperature: float = 1.0) -> Tensor:
        """The frame [..., frame_size] that standard normal `noise` [..., noise_size] is mapped to, pixel by pixel."""
        head, condition = self.head, self.head.hear(self.condition)
        window, pixels = self.before, []
        places = torch.arange(head.frame_size, device=noise.device).split(1)
        for place, pixel_noise in zip(places, noise.split(1, -1), strict=True):
            density = head.density(window.unsqueeze(-2), condition, self.shifts, place)
            pixels.append(density.at(pixel_noise.unsqueeze(-2), temperature).squeeze(-1))  # [..., 1]
            window = torch.cat([window[..., 1:], pixels[-1]], dim=-1)
        return torch.cat(pixels, dim=-1)
