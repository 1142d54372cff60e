"""The small networks of the published model, which the loop over frames calls."""

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zfaudio.distributions import DiagonalGaussian, split_gaussian

LATENT_LIMIT = 8.0  # published clamp of the parameters of prior, posterior and auxiliary


class ClampedLeakyReLU(nn.Module):
    """Leaky ReLU of slope 1/3, clamped to [-3, 3]: the published activation."""

    def forward(self, value: Tensor) -> Tensor:
        """Elementwise."""
        return F.leaky_relu(value, 1 / 3).clamp(-3, 3)


def linear_layers(layers: nn.Sequential) -> tuple[nn.Linear, nn.Linear]:
    """The two linear layers of a network with an activation between them.

    Take their weights as attributes, not by get_parameter: torch.func.functional_call puts plain tensors there.
    """
    first, _, second = layers
    return cast(nn.Linear, first), cast(nn.Linear, second)


class GaussianMLP(nn.Module):
    """One hidden layer, then mean and log-variance, clamped as published."""

    def __init__(self, input_size: int, mlp_size: int, output_size: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(input_size, mlp_size), ClampedLeakyReLU(), nn.Linear(mlp_size, 2 * output_size)
        )

    def forward(self, *inputs: Tensor) -> DiagonalGaussian:
        """Inputs [..., size], joined along the last axis."""
        return split_gaussian(self.layers(torch.cat(inputs, dim=-1)), limit=LATENT_LIMIT)
