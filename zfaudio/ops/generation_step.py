"""Z-forcing's step of generation at the speed of its products, with constants computed once and without gradients.

In exact arithmetic it computes the same as `ZForcing.step`. It is faster because of the following:

- embed and gen are linear, so they are merged with the LSTM's input weight into one weight for [x_t, z_t].
- One product multiplies h_{t-1} by the first layer of the prior (or posterior) and by the LSTM's recurrent weight.
- Weights are laid out once (products.py). A step of a few sequences reads each weight once and does little else, so
  that memory bounds its speed. A step of many sequences is bounded by its products.
"""

from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor, nn

from zfaudio.distributions import split_gaussian
from zfaudio.ops.cells import LatentLSTMCell, State
from zfaudio.ops.gates import clamped_leaky_relu_, gates_for
from zfaudio.ops.networks import LATENT_LIMIT, GaussianMLP, linear_layers
from zfaudio.ops.products import packed_linear, packed_weight


@torch.no_grad()
def latent_stepper(
    embed: nn.Linear,
    prior: GaussianMLP,
    posterior: GaussianMLP,
    lstm_cell: LatentLSTMCell,
) -> Callable[..., State]:
    """A function with the arguments of `FrameModel.step`, but x_t as `embed` reads it, that returns the next state.

    It computes with the weights as they are now: do not use it after they have changed. No gradient passes through it.
    Under autocast only its products are computed in lower precision.

    Args:
        embed: of what the encoder tells of x_t.
        prior: h_{t-1} -> p(z_t | h_{t-1}).
        posterior: (h_{t-1}, b_t) -> q(z_t | h_{t-1}, b_t), used in steps that are given b_t.
        lstm_cell: of the decoder.
    """
    hidden_size = lstm_cell.recurrent.in_features
    with torch.autocast(embed.weight.device.type, enabled=False):
        embedding_weight, latents_weight, bias = lstm_cell.merged_weights()
        input_weight = torch.cat([embedding_weight @ embed.weight, latents_weight], dim=1)
        gate_bias = bias + embedding_weight @ embed.bias
    multiply_inputs = packed_weight(input_weight)

    @cache  # pure generation uses the prior only; a continuation uses both networks
    def multiply_hidden_for(network: GaussianMLP) -> Callable[[Tensor, Tensor | None], tuple[Tensor, Tensor]]:
        """(h_{t-1}, b_t) -> mean and log-variance of z_t [batch, 2 * latent], recurrent sums [batch, 4 * hidden]."""
        inner, outer = linear_layers(network.layers)
        mlp_size = len(inner.bias)
        inner_weight, future_weight = inner.weight[:, :hidden_size], inner.weight[:, hidden_size:]
        multiply_hidden = packed_weight(torch.cat([inner_weight, lstm_cell.recurrent.weight]))
        hidden_bias = torch.cat([inner.bias, gate_bias])
        multiply_future = packed_weight(future_weight) if future_weight.numel() else None
        multiply_outer = packed_linear(outer)

        def multiply(hidden: Tensor, future: Tensor | None) -> tuple[Tensor, Tensor]:
            hidden_sums = multiply_hidden(hidden).add_(hidden_bias)
            inner_sums, gate_sums = hidden_sums.split([mlp_size, 4 * hidden_size], dim=-1)
            if multiply_future is not None and future is not None:
                inner_sums = inner_sums + multiply_future(future)
            return multiply_outer(clamped_leaky_relu_(inner_sums.contiguous())), gate_sums

        return multiply

    @torch.no_grad()
    def step(
        features: Tensor,
        state: tuple[Tensor, ...],
        latent_temperature: float = 1.0,
        future: Tensor | None = None,
        noise: Tensor | None = None,
    ) -> State:
        previous_hidden, previous_cell = state
        multiply = multiply_hidden_for(prior if future is None else posterior)
        parameters, gate_sums = multiply(previous_hidden, future)
        distribution = split_gaussian(parameters, limit=LATENT_LIMIT)
        noise = torch.randn_like(distribution.mean) if noise is None else noise
        latents = distribution.at(noise, latent_temperature)
        input_sums = multiply_inputs(torch.cat([features, latents], dim=-1))
        hidden, cell = torch.empty_like(previous_hidden), torch.empty_like(previous_cell)
        gates_for(previous_hidden).lstm_step(input_sums, gate_sums, previous_cell, cell, hidden)
        return State(hidden, cell)

    return step
