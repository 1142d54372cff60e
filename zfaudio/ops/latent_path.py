"""The loop as the equations read. Slow and right: what every faster core is held against."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from zfaudio.distributions import DiagonalGaussian
from zfaudio.ops.cells import State


class LatentPath(NamedTuple):
    """What the loop leaves behind, one row a step."""

    before: Tensor  # h_{t-1}, [batch, steps, hidden]
    hidden: Tensor  # h_t, [batch, steps, hidden]
    cell: Tensor  # c_t, [batch, steps, hidden]
    posterior: DiagonalGaussian  # q(z_t | h_{t-1}, b_t), [batch, steps, latent]
    latent: Tensor  # z_t drawn from it, [batch, steps, latent]


def latent_path(
    infer: Callable[[Tensor, Tensor], DiagonalGaussian],
    advance: Callable[[Tensor, Tensor, State], State],
    embed: Callable[[Tensor], Tensor],
    frames: Tensor,
    backward: Tensor,
    noise: Tensor,
    state: State,
) -> LatentPath:
    """Draw z_t and step the decoder, frame by frame.

    Args:
        infer: (h_{t-1}, b_t) -> q(z_t | h_{t-1}, b_t).
        advance: (embed(x_t), z_t, state) -> state.
        embed: x_t -> embed(x_t).
        frames: x_t, [batch, steps, frame_size].
        backward: b_t, [batch, steps, hidden].
        noise: standard normal, [batch, steps, latent].
        state: before the first step.
    """
    before, hidden, cell, mean, log_variance, latent = [], [], [], [], [], []
    rows = embed(frames).unbind(1), backward.unbind(1), noise.unbind(1)
    for embedded_t, backward_t, noise_t in zip(*rows, strict=True):
        before.append(state.hidden)
        posterior = infer(state.hidden, backward_t)
        latent_t = posterior.at(noise_t)
        state = advance(embedded_t, latent_t, state)
        hidden.append(state.hidden)
        cell.append(state.cell)
        mean.append(posterior.mean)
        log_variance.append(posterior.log_variance)
        latent.append(latent_t)
    return LatentPath(
        before=torch.stack(before, 1),
        hidden=torch.stack(hidden, 1),
        cell=torch.stack(cell, 1),
        posterior=DiagonalGaussian(torch.stack(mean, 1), torch.stack(log_variance, 1)),
        latent=torch.stack(latent, 1),
    )
