"""The small networks of the published model, which run at every step."""

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zfaudio.distributions import DiagonalGaussian, split_gaussian

LATENT_LIMIT = 8.0  # published clamp of the means and log-variances of prior, posterior and auxiliary


class ClampedLeakyReLU(nn.Module):
    """Leaky ReLU with slope 1/3, clamped to [-3, 3]: the published activation."""

    def forward(self, values: Tensor) -> Tensor:
        """Elementwise."""
        return F.leaky_relu(values, 1 / 3).clamp(-3, 3)


def linear_layers(layers: nn.Sequential) -> tuple[nn.Linear, nn.Linear]:
    """The two linear layers of a network that has one activation between them.

    Read their weights as attributes, not with get_parameter: torch.func.functional_call replaces them by plain tensors.
    """
    first, _, second = layers
    return cast(nn.Linear, first), cast(nn.Linear, second)


class GaussianMLP(nn.Module):
    """A network with one hidden layer that gives a Gaussian; its mean and log-variance are clamped as published."""

    def __init__(self, input_size: int, mlp_size: int, output_size: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(input_size, mlp_size), ClampedLeakyReLU(), nn.Linear(mlp_size, 2 * output_size)
        )

    def forward(self, *inputs: Tensor) -> DiagonalGaussian:
        """Inputs [..., size], which are concatenated along the last axis."""
        return split_gaussian(self.layers(torch.cat(inputs, dim=-1)), limit=LATENT_LIMIT)
