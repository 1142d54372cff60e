"""What training maximizes: the terms of the bound, their weights, and how the weights change from step to step."""

from dataclasses import dataclass

import torch
from torch import Tensor

from zfaudio.config import ObjectiveConfig
from zfaudio.models.base import FrameTerms


@dataclass(frozen=True)
class Weights:
    """Weights of the objective's terms, and its free bits, at one step: numbers, or scalars on the device."""

    kl: float | Tensor
    auxiliary: float | Tensor
    backward: float | Tensor
    free_bits: float | Tensor = 0.0  # nats per frame


def weights_at(config: ObjectiveConfig, step: int) -> Weights:
    """The weights at a step, counted from 0. They are annealed linearly (Goyal et al., 2017, section 5)."""
    return Weights(
        kl=min(config.kl_weight_start + config.kl_weight_step * step, 1.0),
        auxiliary=move_towards(config.aux_weight_start, config.aux_weight_end, config.aux_weight_step * step),
        backward=config.backward_weight,
        free_bits=config.free_bits,
    )


def move_towards(start: float, end: float, distance: float) -> float:
    """`start` moved towards `end` by `distance`, but not past it."""
    return min(start + distance, end) if start <= end else max(start - distance, end)


def training_loss(terms: FrameTerms, weights: Weights) -> Tensor:
    """Minus the weighted objective in nats per sequence: summed over frames, averaged over the batch, as published.

    The scale matters: the published norm at which gradients are clipped (100) refers to it.
    """
    objective = terms.log_likelihood - weights.kl * torch.relu(terms.kl - weights.free_bits)
    if terms.log_auxiliary is not None:
        objective = objective + weights.auxiliary * terms.log_auxiliary
    if terms.log_backward is not None:
        objective = objective + weights.backward * terms.log_backward
    return -objective.sum() / objective.shape[0]
