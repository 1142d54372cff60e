"""Generation's step at the speed of its products: constants folded once, then frame after frame without autograd.

What differs from `ZForcing.step`, in exact arithmetic nothing:

- embed and gen are linear: with the LSTM's input matrix they become one matrix for [x_t, z_t] and one bias.
- h_{t-1} meets the first layer of the prior (or the posterior) and the LSTM's recurrent matrix in one product.
- Weights are laid out once (ops/products.py). A step of a few voices reads each of them once and does little else: its
  bound is the speed of memory. That of many voices is their products.
"""

from collections.abc import Callable
from functools import cache
from typing import TypeVar

import torch
from torch import Tensor, nn

from zfaudio.distributions import split_gaussian
from zfaudio.ops.cells import LatentLSTMCell, State
from zfaudio.ops.gates import clamped_leaky_relu_
from zfaudio.ops.kernels import gates_for
from zfaudio.ops.networks import LATENT_LIMIT, GaussianMLP, linear_layers
from zfaudio.ops.products import packed_linear, packed_weight

Predicted = TypeVar("Predicted")
Step = Callable[..., tuple[Predicted, State]]


@torch.no_grad()
def latent_stepper(
    embed: nn.Linear,
    prior: GaussianMLP,
    posterior: GaussianMLP,
    cell: LatentLSTMCell,
    predict: Callable[[Tensor, Tensor], Predicted],
) -> Step[Predicted]:
    """A function (frame, state, latent_temperature, backward, noise) -> (prediction, state): `FrameModel.step`.

    It computes with the weights as they are now; later changes to them do not reach it. No gradient passes through it.
    Under autocast its products, and nothing else, are less precise.

    Args:
        embed: of frames.
        prior: p(z_t | h_{t-1}).
        posterior: q(z_t | h_{t-1}, b_t), taken where `backward` is given.
        cell: of the decoder.
        predict: (h_t [batch, hidden], x_t) -> the distribution of the next frame.
    """
    hidden_size = cell.recurrent.in_features
    with torch.autocast(embed.weight.device.type, enabled=False):
        to_embedded, to_latent, bias = cell.folded()
        inputs = torch.cat([to_embedded @ embed.weight, to_latent], dim=1)
        gate_bias = bias + to_embedded @ embed.bias

    from_inputs = packed_weight(inputs)

    @cache  # a generation uses one of them, a continuation both
    def latents_of(network: GaussianMLP) -> Callable[[Tensor, Tensor | None], tuple[Tensor, Tensor]]:
        """(h_{t-1}, b_t) -> parameters of z_t [batch, 2 * latent], recurrent gate sums [batch, 4 * hidden]."""
        first, second = linear_layers(network.layers)
        from_inner = packed_linear(second)
        from_hidden = packed_weight(torch.cat([first.weight[:, :hidden_size], cell.recurrent.weight]))
        hidden_bias = torch.cat([first.bias, gate_bias])
        from_backward = packed_weight(first.weight[:, hidden_size:]) if first.in_features > hidden_size else None

        def latents(hidden: Tensor, backward: Tensor | None) -> tuple[Tensor, Tensor]:
            summed = from_hidden(hidden).add_(hidden_bias)
            inner, gates = summed.split([len(first.bias), 4 * hidden_size], dim=-1)
            if from_backward is not None and backward is not None:
                inner = inner + from_backward(backward)
            return from_inner(clamped_leaky_relu_(inner.contiguous())), gates

        return latents

    @torch.no_grad()
    def step(
        frame: Tensor,
        state: tuple[Tensor, ...],
        latent_temperature: float = 1.0,
        backward: Tensor | None = None,
        noise: Tensor | None = None,
    ) -> tuple[Predicted, State]:
        hidden_before, cell_before = state
        parameters, gates = latents_of(prior if backward is None else posterior)(hidden_before, backward)
        latents = split_gaussian(parameters, limit=LATENT_LIMIT)
        noise = torch.randn_like(latents.mean) if noise is None else noise
        entering = from_inputs(torch.cat([frame, latents.at(noise, latent_temperature)], dim=-1))
        after = State(torch.empty_like(hidden_before), torch.empty_like(cell_before))
        gates_for(frame).lstm_step(entering, gates, cell_before, after.cell, after.hidden)
        return predict(after.hidden, frame), after

    return step
