"""The loop over frames as the equations read, which the fast core in latent_path_fast.py is tested against."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from zfaudio.distributions import DiagonalGaussian
from zfaudio.ops.cells import State


class LatentPath(NamedTuple):
    """The states and latents of each step."""

    previous_hidden: Tensor  # h_{t-1}, [batch, steps, hidden]
    hidden: Tensor  # h_t, [batch, steps, hidden]
    cell: Tensor  # c_t, [batch, steps, hidden]
    posterior: DiagonalGaussian  # q(z_t | h_{t-1}, b_t), [batch, steps, latent]
    latents: Tensor  # z_t, drawn from the posterior, [batch, steps, latent]


def plain_latent_path(
    posterior: Callable[[Tensor, Tensor], DiagonalGaussian],
    lstm_cell: Callable[[Tensor, Tensor, State], State],
    embed: Callable[[Tensor], Tensor],
    frames: Tensor,
    future: Tensor,
    noise: Tensor,
    state: State,
) -> LatentPath:
    """At each frame, draw z_t from the posterior and step the decoder.

    Args:
        posterior: (h_{t-1}, b_t) -> q(z_t | h_{t-1}, b_t).
        lstm_cell: (embed(x_t), z_t, state of h_{t-1}) -> state of h_t.
        embed: x_t -> embed(x_t).
        frames: x_t, as `embed` reads it, [batch, steps, size].
        future: b_t, [batch, steps, size].
        noise: standard normal, [batch, steps, latent].
        state: state before the first step.
    """
    previous_hidden, hidden, cell, mean, log_variance, latents = [], [], [], [], [], []
    steps = zip(embed(frames).unbind(1), future.unbind(1), noise.unbind(1), strict=True)
    for embedded_t, future_t, noise_t in steps:
        previous_hidden.append(state.hidden)
        posterior_t = posterior(state.hidden, future_t)
        latents_t = posterior_t.at(noise_t)
        state = lstm_cell(embedded_t, latents_t, state)
        hidden.append(state.hidden)
        cell.append(state.cell)
        mean.append(posterior_t.mean)
        log_variance.append(posterior_t.log_variance)
        latents.append(latents_t)
    return LatentPath(
        previous_hidden=torch.stack(previous_hidden, 1),
        hidden=torch.stack(hidden, 1),
        cell=torch.stack(cell, 1),
        posterior=DiagonalGaussian(torch.stack(mean, 1), torch.stack(log_variance, 1)),
        latents=torch.stack(latents, 1),
    )
