"""Linear prediction that adapts backward: from the samples that were heard, as in G.728 and in lossless coders.

A window is tapered so that its last samples count most. The autocorrelation method with the Levinson recursion always
gives a stable filter: what a decoder that speaks to itself resounds, dies away.
"""

import math

import torch
from torch import Tensor

# Added to the power of each window, as a fraction of it: white noise 40 dB below the signal keeps the filter smooth.
WHITE_NOISE = 1e-4

# The k-th coefficient is multiplied by EXPANSION ** k, which moves the poles away from the unit circle as in G.728: no
# resonance rings for long. Without it, samples of a model of 16 kHz got stuck in whistles.
EXPANSION = 0.99


def taper(size: int) -> Tensor:
    """Weights of the samples of a window, [size]: a sine that rises over its first nine tenths, and falls after."""
    fall = size // 10
    rising = torch.sin(torch.arange(1, size - fall + 1, dtype=torch.float64) * (0.5 * math.pi / (size - fall)))
    falling = torch.cos(torch.arange(1, fall + 1, dtype=torch.float64) * (0.5 * math.pi / (fall + 1)))
    return torch.cat([rising, falling])


def predict_linearly(windows: Tensor, order: int, floor: float) -> Tensor:
    """Coefficients of the linear prediction of the sample after each window.

    Args:
        windows: tapered, [..., n].
        order: number of coefficients, less than n.
        floor: added to the mean power of each window, so that silence is predicted too.

    Returns:
        a [..., order], such that sum_k a_k x_{t-k} predicts x_t; a_1 comes first.
    """
    size = windows.shape[-1]
    correlations = [(windows[..., k:] * windows[..., : size - k]).sum(-1) for k in range(order + 1)]
    correlations[0] = correlations[0] * (1 + WHITE_NOISE) + size * floor
    expansion = EXPANSION ** torch.arange(1, order + 1, dtype=windows.dtype, device=windows.device)
    return levinson(torch.stack(correlations, dim=-1)) * expansion


def levinson(correlations: Tensor) -> Tensor:
    """The Levinson recursion: autocorrelations [..., order + 1] of a signal, to coefficients [..., order]."""
    error = correlations[..., :1]
    coefficients = correlations[..., :0]
    for k in range(1, correlations.shape[-1]):
        past = correlations[..., 1:k].flip(-1)
        reflection = (correlations[..., k : k + 1] - (coefficients * past).sum(-1, keepdim=True)) / error
        coefficients = torch.cat([coefficients - reflection * coefficients.flip(-1), reflection], dim=-1)
        error = error * (1 - reflection.square())
    return coefficients


def predictions(samples: Tensor, coefficients: Tensor) -> Tensor:
    """The prediction of each sample from those before it.

    Args:
        samples: [..., n].
        coefficients: [..., order].

    Returns:
        Predictions of samples order..n - 1, [..., n - order].
    """
    order, size = coefficients.shape[-1], samples.shape[-1]
    total = coefficients[..., :1] * samples[..., order - 1 : size - 1]
    for k in range(1, order):
        total = torch.addcmul(total, coefficients[..., k : k + 1], samples[..., order - 1 - k : size - 1 - k])
    return total
