"""The frame likelihood of recordings of 8-bit mu-law: a probability for each of the 256 levels of a sample.

The logit of level x_c, whose step is w_c wide, has a part that moves with the signal and a part of its own:

    logit_c = log w_c + log logistic(x_c; mean, scale) + free_c

A head says mean and scale relative to the last sample and in its unit, as it does for densities of 16-bit samples. With
the free part alone, as in WaveNet, a network has to learn which level each such change leads to: after 400 steps on
one-second digits, this package's WaveNet needed 3.4 bits a sample more.
"""

import math
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor

from zfaudio.distributions import Categorical
from zfaudio.models.frame_likelihoods import SMALLEST_SCALE, FrameLikelihood, at_least_float32, log_of
from zfaudio.mulaw import CODES, decode_tensor, encode_tensor
from zfaudio.observations import MuLaw


@dataclass
class MuLawLevels:
    """Independent levels of 8-bit mu-law along the last axis.

    As a density it is that of `LogisticMixture`: constant within the 16-bit step around a level, whose integral is the
    probability of the level, and zero elsewhere. So all units of evaluation/units.py are valid: the bits per sample are
    those of the code.
    """

    logits: Tensor  # [..., size, 256], unnormalized
    levels: MuLaw

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density of `value` [..., size], summed over the last axis: [...] in nats.

        It is minus infinity if a sample is none of the levels: its probability is zero.
        """
        integers = self.levels.integers(value)
        codes = encode_tensor(integers)
        chosen = torch.take_along_dim(self.logits, codes.unsqueeze(-1), -1).squeeze(-1)
        log_prob = chosen - torch.logsumexp(self.logits, -1)
        log_prob = torch.where(decode_tensor(codes) == integers, log_prob, -math.inf)
        return (log_prob - math.log(self.levels.step)).sum(-1)

    def at(self, noise: Tensor, temperature: float = 1.0) -> Tensor:
        """The draw [..., size], standardized levels, to which standard normal `noise` [..., size] is mapped.

        `temperature` divides the logits; at 0 the draw is the most probable level.
        """
        codes = Categorical(self.logits).at(noise, temperature).long()
        drawn = self.levels.standardize(codes).to(self.logits.dtype)
        return torch.where(self.logits.isnan().any(-1), math.nan, drawn)  # what diverged is not to look like a level


class MuLawLikelihood(FrameLikelihood):
    """A categorical distribution over the levels of each sample; its logits are at the top of this file."""

    kinds = ("mulaw",)

    @property
    def parameters(self) -> int:
        """Of each sample the mean and the log-scale of the logistic, and a logit of each level."""
        return self.size * (2 + CODES)

    @property
    def noise_size(self) -> int:
        """One number per sample."""
        return self.size

    def observe(self, frames: Tensor) -> Tensor:
        """Levels: what is not quite one, as the frame of zeros before a recording, is rounded to one."""
        return self.quantizer.round(frames)

    def read(self, parameters: Tensor, origin: Tensor | float = 0.0, level: Tensor | float = 1.0) -> MuLawLevels:
        """See `FrameLikelihood.read`."""
        levels = cast(MuLaw, self.quantizer)
        mean, log_scale, free = at_least_float32(parameters).unflatten(-1, (self.size, -1)).split([1, 1, CODES], -1)
        center = (origin + mean.squeeze(-1) * level).unsqueeze(-1)
        smallest = math.log(SMALLEST_SCALE * levels.step)
        log_scale = (log_scale.squeeze(-1) + log_of(level)).clamp(min=smallest).unsqueeze(-1)
        codes = torch.arange(CODES, device=free.device)
        distance = (levels.standardize(codes).to(free.dtype) - center) * torch.exp(-log_scale)
        log_widths = math.log(CODES) * (2 * codes / (CODES - 1) - 1).abs()  # up to a constant
        return MuLawLevels(free + log_widths - distance - 2 * F.softplus(-distance), levels)
