"""What bounds the networks that speak to themselves sample by sample, so that loudness cannot feed on itself.

What they hear of samples is at any loudness of about unit scale, and bounded. What they say is in a unit of at most
LOUDEST, and bounded too.
"""

import torch
from torch import Tensor

from zfaudio.models.frame_likelihoods import FrameDistribution, FrameLikelihood
from zfaudio.ops.inverse_sine import asinh
from zfaudio.ops.sample_bounds import Bounds

SLOPE = 0.1  # of the leaky ReLUs
LOUDEST = 4.0  # deviations of the corpus; the loudest of real speech is about there
LOUDEST_SAMPLE = 16.0  # deviations of the corpus; what is heard is clamped to it
MOST = 20.0  # means in units, logarithms of scales, and logits

BOUNDS = Bounds(SLOPE, LOUDEST, LOUDEST_SAMPLE, MOST)  # for compiled loops


def companded(samples: Tensor) -> Tensor:
    """Samples with the loud ones compressed, elementwise."""
    return asinh(10 * samples.clamp(-LOUDEST_SAMPLE, LOUDEST_SAMPLE))


def heard_at_any_level(samples: Tensor, floor: float) -> tuple[Tensor, Tensor]:
    """What a network hears of samples [..., n]: scaled by their level, companded, and the level.

    Args:
        samples: [..., n].
        floor: added to their mean square.

    Returns:
        What is heard, [..., 2 * n + 1], and the level, [..., 1].
    """
    level = torch.sqrt(samples.square().mean(-1, keepdim=True) + floor)
    return torch.cat([samples / level, companded(samples), torch.log(level.clamp(max=LOUDEST))], dim=-1), level


def bounded_density(
    likelihood: FrameLikelihood, parameters: Tensor, origin: Tensor, unit: Tensor, grid: Tensor | None
) -> FrameDistribution:
    """The density that the output of a network describes, once it is bounded.

    Args:
        likelihood: of a sample.
        parameters: [..., parameters].
        origin: added to the means, [..., 1].
        unit: of the means and scales, [..., 1].
        grid: of the samples before, [..., 1].
    """
    density = likelihood.read(MOST * torch.tanh(parameters / MOST), origin=origin, level=unit)
    return likelihood.on_grid(density, grid)
