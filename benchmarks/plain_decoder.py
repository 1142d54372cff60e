"""The tiered head as one would first write it: modules of torch, and nothing of ours.

The equations are those of zfaudio/models/tiered_head.py, and the names of the layers too, so that both load the same
weights. The likelihood is a mixture of logistics over 16-bit integers (Salimans et al., 2017), without coarser grids:
both agree where the samples use all integers. The mean of the corpus is 0.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SLOPE, LOUDEST, LOUDEST_SAMPLE, MOST = 0.1, 4.0, 16.0, 20.0
WHITE_NOISE, EXPANSION, SILENCE, LIKENESS_STEPS = 1e-4, 0.99, 1e-4, 4096.0


@dataclass(frozen=True)
class Sizes:
    """Of the head, in samples and units; the defaults are those of recipes/digits."""

    condition: int = 320
    frame: int = 100
    tier: int = 20
    reach: int = 320
    window: int = 32
    lags: int = 5
    order: int = 20
    middle: int = 256
    units: int = 224
    components: int = 5


class PlainDecoder(nn.Module):
    """Log-densities of samples, given those before them and a condition for each frame.

    Args:
        sizes: of the network.
        step: of 16-bit integers among standardized samples.
        taper: of the window of the linear prediction, [reach].
    """

    def __init__(self, sizes: Sizes, step: float, taper: Tensor) -> None:
        super().__init__()
        self.sizes, self.step = sizes, step
        self.register_buffer("taper", taper, persistent=False)
        inputs = sizes.window + 4 + 2 * sizes.lags + 2
        self.middle_samples = nn.Linear(2 * sizes.reach + 1, sizes.middle)
        self.middle_condition = nn.Linear(sizes.condition, sizes.middle, bias=False)
        self.middle_inner = nn.Linear(sizes.middle, sizes.middle)
        self.adapt = nn.Linear(sizes.middle, 3 * sizes.units)
        self.filters = nn.Linear(inputs, sizes.units)
        self.inner = nn.Linear(sizes.units, sizes.units)
        self.outer = nn.Linear(sizes.units, 3 * sizes.components)
        self.linear = nn.Linear(inputs, 3 * sizes.components, bias=False)

    def forward(self, condition: Tensor, samples: Tensor, heard: int) -> Tensor:
        """Log-densities in nats.

        Args:
            condition: of each frame, [batch, frames, condition].
            samples: those of the frames after `heard` samples before them, [batch, heard + frames * frame].
            heard: number of samples before the first that is scored.

        Returns:
            Of each sample, [batch, frames * frame].
        """
        sizes, floor = self.sizes, self.step**2
        conditions = condition.repeat_interleave(sizes.frame // sizes.tier, dim=1)  # [B, K, condition]
        steps = samples.unfold(1, heard + sizes.tier, sizes.tier)  # [B, K, heard + tier]

        windows = steps[..., heard - sizes.reach : heard]  # [B, K, reach]
        level = torch.sqrt((windows**2).mean(-1, keepdim=True) + floor)
        described = torch.cat([windows / level, compand(windows), torch.log(level.clamp(max=LOUDEST))], -1)
        units = F.leaky_relu(self.middle_samples(described) + self.middle_condition(conditions), SLOPE)
        units = F.leaky_relu(units + self.middle_inner(units), SLOPE)
        gain, shift, inner_shift = self.adapt(units).unsqueeze(2).chunk(3, -1)  # [B, K, 1, units]
        lag, strength = self.pitch(windows)
        coefficients = self.linear_prediction(windows)

        known = max(sizes.window, sizes.reach // 2 + sizes.lags)  # residuals before a step
        near = steps[..., heard - known - sizes.order :].unfold(-1, sizes.order + 1, 1)
        before, now = near[..., :-1], near[..., -1]  # [B, K, known + tier, order], [B, K, known + tier]
        predictions = (before * coefficients.flip(-1).unsqueeze(2)).sum(-1)
        residuals = now - predictions
        recent = residuals[..., known - sizes.window : -1].unfold(-1, sizes.window, 1)  # [B, K, tier, window]
        places = known + torch.arange(sizes.tier).unsqueeze(-1) + torch.arange(-sizes.lags, sizes.lags + 1)
        index = places - lag.unsqueeze(-1)  # [B, K, tier, 2 * lags + 1]
        periods = residuals.unsqueeze(2).expand(-1, -1, sizes.tier, -1).gather(-1, index)

        predicted = predictions[..., known:].unsqueeze(-1)  # [B, K, tier, 1]
        recent_level = torch.sqrt((recent**2).mean(-1, keepdim=True) + floor)
        unit = recent_level.clamp(max=LOUDEST)
        inputs = torch.cat(
            [
                torch.asinh(recent / unit),
                torch.log(unit),
                torch.log(level.unsqueeze(2) / recent_level),
                compand(predicted),
                torch.asinh(predicted / unit),
                torch.asinh(periods / unit),
                strength.unsqueeze(2).expand_as(predicted),
            ],
            -1,
        )
        first = F.leaky_relu(self.filters(inputs) * (1 + gain) + shift, SLOPE)
        second = F.leaky_relu(self.inner(first) + inner_shift, SLOPE)
        parameters = MOST * torch.tanh((self.outer(second) + self.linear(inputs)) / MOST)
        origin = predicted.clamp(-LOUDEST_SAMPLE, LOUDEST_SAMPLE)
        targets = steps[..., heard:].unsqueeze(-1)  # [B, K, tier, 1]
        return self.log_prob(parameters, origin, unit, targets).flatten(1)

    def pitch(self, windows: Tensor) -> tuple[Tensor, Tensor]:
        """The lag [..., 1] at which the second half of each window [..., reach] is most like what lies before it."""
        half = self.sizes.reach // 2
        recent = windows[..., half:]
        shifted = windows.unfold(-1, half, 1)[..., : half - self.sizes.tier + 1, :].flip(-2)  # by tier, tier + 1, ...
        products = (shifted * recent.unsqueeze(-2)).sum(-1)
        energy = (shifted**2).sum(-1) * (recent**2).sum(-1, keepdim=True)
        likeness = products / torch.sqrt(energy + (SILENCE * half) ** 2)
        place = torch.round(LIKENESS_STEPS * likeness).argmax(-1, keepdim=True)
        return self.sizes.tier + place, likeness.gather(-1, place)

    def linear_prediction(self, windows: Tensor) -> Tensor:
        """Coefficients [..., order] by the autocorrelation method: windows [..., reach]."""
        order, size = self.sizes.order, self.sizes.reach
        tapered = windows * self.taper
        products = [(tapered[..., k:] * tapered[..., : size - k]).sum(-1) for k in range(order + 1)]
        correlations = torch.stack(products, -1)
        places = torch.arange(order)
        matrix = correlations[..., (places - places.unsqueeze(-1)).abs()]
        matrix = matrix + torch.eye(order, dtype=matrix.dtype) * (
            WHITE_NOISE * correlations[..., :1, None] + size * self.step**2
        )
        return torch.linalg.solve(matrix, correlations[..., 1:]) * EXPANSION ** (1 + places).to(matrix.dtype)

    def log_prob(self, parameters: Tensor, origin: Tensor, unit: Tensor, samples: Tensor) -> Tensor:
        """Log-density of samples [..., 1], integers of 16 bits, under mixtures of logistics: [...]."""
        logits, mean, log_scale = parameters.chunk(3, -1)
        centered = samples - (origin + mean * unit)
        inverse = torch.exp(-(log_scale + torch.log(unit)))
        above, below = inverse * (centered + self.step / 2), inverse * (centered - self.step / 2)
        log_mass = F.logsigmoid(above) + F.logsigmoid(-below) + torch.log(-torch.expm1(-self.step * inverse))
        log_mass = torch.where(samples < -32767.5 * self.step, F.logsigmoid(above), log_mass)
        log_mass = torch.where(samples > 32766.5 * self.step, F.logsigmoid(-below), log_mass)
        return torch.logsumexp(F.log_softmax(logits, -1) + log_mass, -1) - math.log(self.step)


def compand(samples: Tensor) -> Tensor:
    """Samples with the loud ones compressed."""
    return torch.asinh(10 * samples.clamp(-LOUDEST_SAMPLE, LOUDEST_SAMPLE))
