"""Dropout of whole frames from what a recurrent state reads, so that the latents have to tell what it missed.

On words it is the word dropout of Bowman et al., 2016 ("Generating Sentences from a Continuous Space", section 3.1).
"""

import torch
from torch import Tensor, nn


class InputDropout(nn.Module):
    """Replaces the features of random frames by zeros, in training.

    Args:
        fraction: of the frames. If it is 1, the state reads no frame at all, in scoring and generation neither: all
            that lies before the reach of the head must then pass through the latents.
    """

    def __init__(self, fraction: float) -> None:
        super().__init__()
        self.fraction = fraction

    def forward(self, features: Tensor) -> Tensor:
        """Features of frames [batch, ..., size], some of them zero."""
        if self.fraction == 1:
            return torch.zeros_like(features)
        if not (self.training and self.fraction):
            return features
        return features * (torch.rand_like(features[..., :1]) >= self.fraction)
