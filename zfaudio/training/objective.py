"""What training maximizes: the bound's terms, their weights, and how the weights grow with the steps."""

from dataclasses import dataclass

from torch import Tensor

from zfaudio.models.base import FrameTerms


@dataclass
class ObjectiveConfig:
    """Weights of the objective.

    Args:
        kl_weight_start: weight of the KL term at step 0.
        kl_weight_step: what a step adds to it, until it is 1.
        aux_weight_start: weight of log p(b_t | z_t) at step 0.
        aux_weight_end: weight it ends at.
        aux_weight_step: what a step moves it towards its end.
        backward_weight: weight of log p(x_t | b_t), where the model has it.
    """

    kl_weight_start: float = 0.2
    kl_weight_step: float = 5e-5
    aux_weight_start: float = 0.0
    aux_weight_end: float = 0.005
    aux_weight_step: float = 5e-5
    backward_weight: float = 1.0


@dataclass(frozen=True)
class Weights:
    """Weights of the objective's terms at one step: numbers, or scalars on the device."""

    kl: float | Tensor
    auxiliary: float | Tensor
    backward: float | Tensor


def weights_at(config: ObjectiveConfig, step: int) -> Weights:
    """Weights at a step counted from 0, annealed linearly (Goyal et al., 2017, section 5)."""
    return Weights(
        kl=min(config.kl_weight_start + config.kl_weight_step * step, 1.0),
        auxiliary=move_towards(config.aux_weight_start, config.aux_weight_end, config.aux_weight_step * step),
        backward=config.backward_weight,
    )


def move_towards(start: float, end: float, distance: float) -> float:
    """`start` moved by `distance` towards `end`, not past it."""
    return min(start + distance, end) if start <= end else max(start - distance, end)


def training_loss(terms: FrameTerms, weights: Weights) -> Tensor:
    """Minus the weighted objective, in nats a sequence: summed over frames, averaged over the batch, as published.

    The scale matters: the published clip of the gradient's norm (100) refers to it.
    """
    objective = terms.log_likelihood - weights.kl * terms.kl
    if terms.log_auxiliary is not None:
        objective = objective + weights.auxiliary * terms.log_auxiliary
    if terms.log_backward is not None:
        objective = objective + weights.backward * terms.log_backward
    return -objective.sum() / objective.shape[0]
