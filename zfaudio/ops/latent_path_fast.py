"""The latent path at the speed of its matrix products: one autograd function in place of the loop of ops/plain.py.

What differs from the loop, in exact arithmetic nothing:

- Only what waits for h_{t-1} is computed step by step. What frames give the gates (ops/embedding.py) and b_t gives the
  posterior's first layer is one product each over all frames.
- gen is linear: its matrix and the LSTM's input matrix for it become one, W_latent = W_in[:, E:] W_gen, once a call.
- h_{t-1} and z_t enter the gates in one product.
- Weights are laid out for the step's few rows once a call (ops/products.py).
- The backward pass leaves every weight's gradient to one product over all frames.
- On a GPU what stands between two products is one kernel (ops/triton_gates.py).

What is kept for the backward pass: see `kept_elements`.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from zfaudio.distributions import DiagonalGaussian
from zfaudio.ops.cells import LatentLSTMCell, State
from zfaudio.ops.embedding import gate_sums
from zfaudio.ops.gates import total
from zfaudio.ops.kernels import gates_for
from zfaudio.ops.latent_path import LatentPath
from zfaudio.ops.networks import LATENT_LIMIT, GaussianMLP, linear_layers
from zfaudio.ops.products import Products, autocast_products


class PathWeights(NamedTuple):
    """Weights of the loop."""

    inner: Tensor  # of the posterior's first layer, [mlp, hidden + hidden]: for h_{t-1}, for b_t
    inner_bias: Tensor
    outer: Tensor  # of its second, [2 * latent, mlp]
    outer_bias: Tensor
    joined: Tensor  # of the gates, [4 * hidden, hidden + latent]: for h_{t-1}, for z_t


def latent_path(
    infer: GaussianMLP,
    advance: LatentLSTMCell,
    embed: nn.Linear,
    frames: Tensor,
    backward: Tensor,
    noise: Tensor,
    state: State,
) -> LatentPath:
    """`plain.latent_path`, faster; the same arguments, except that the first three are the model's modules.

    Under autocast its products, and nothing else, are less precise.
    """
    multiply = autocast_products(state.hidden)
    to_embedded, to_latent, bias = advance.folded()
    entering = gate_sums(frames.transpose(0, 1), embed, to_embedded, bias)
    weights = _weights(infer, advance, to_latent)
    rows = (values.to(multiply.given).transpose(0, 1) for values in (backward, noise))
    with torch.autocast(state.hidden.device.type, enabled=False):
        hidden, cell, parameters, latent = _LatentPath.apply(multiply, entering, *rows, *state, *weights)
    mean, log_variance = parameters.transpose(0, 1).chunk(2, dim=-1)
    return LatentPath(
        before=hidden[:-1].transpose(0, 1),
        hidden=hidden[1:].transpose(0, 1),
        cell=cell.transpose(0, 1),
        posterior=DiagonalGaussian(mean, log_variance),
        latent=latent.transpose(0, 1),
    )


def _weights(infer: GaussianMLP, advance: LatentLSTMCell, to_latent: Tensor) -> PathWeights:
    """With W_latent, [4 * hidden, latent]."""
    inner, outer = linear_layers(infer.layers)
    joined = torch.cat([advance.recurrent.weight, to_latent.to(advance.recurrent.weight.dtype)], dim=1)
    return PathWeights(inner.weight, inner.bias, outer.weight, outer.bias, joined)


def kept_elements(hidden: int, latent: int, mlp: int) -> dict[str, int]:
    """Elements kept for the backward pass for each frame of each sequence, by what they hold.

    The arguments, which others keep too, come on top: x_t, b_t and the noise. At the TIMIT size (1024, 256, 512)
    7,424 elements, 29.7 kB a frame in float32, and 5.9 kB of arguments.
    """
    return {
        "gates": 4 * hidden,
        "hidden": hidden,
        "cell": hidden,
        "posterior's inner layer": mlp,
        "posterior's parameters": 2 * latent,
        "latent": latent,
    }


class _LatentPath(torch.autograd.Function):
    """Time-major: what frames give the gates [S, B, 4 H], backward [S, B, H], noise [S, B, Z], hidden and cell [B, H],
    `PathWeights`.

    Gives h_0..h_S [S + 1, B, H], c_1..c_S [S, B, H], the posterior's mean and log-variance [S, B, 2 Z], z [S, B, Z].
    """

    @staticmethod
    def forward(
        ctx: Any, multiply: Products, entering: Tensor, backward: Tensor, noise: Tensor, *others: Tensor
    ) -> tuple[Tensor, ...]:
        state, weights = State(*others[:2]), PathWeights(*others[2:])
        backward, noise = backward.contiguous(), noise.contiguous()
        gates = entering.to(multiply.given, copy=True)  # their activations in the end
        steps, batch, latent_size = noise.shape
        size, inner_size = state.hidden.shape[-1], len(weights.inner)

        inner = multiply(backward.flatten(0, 1), weights.inner[:, size:], weights.inner_bias)
        inner = inner.view(steps, batch, inner_size)
        joined = gates.new_zeros(steps + 1, batch, size + latent_size)  # h_{t-1} and z_t, beside one another
        hidden, latent = joined.split([size, latent_size], dim=-1)
        cell = gates.new_empty(steps, batch, size)
        parameters = weights.outer_bias.to(noise).repeat(steps, batch, 1)
        hidden[0], before = state
        from_hidden = multiply.packed(weights.inner[:, :size])
        from_inner = multiply.packed(weights.outer)
        from_joined = multiply.packed(weights.joined)
        arithmetic = gates_for(noise)
        for t in range(steps):
            arithmetic.activate(inner[t], from_hidden(hidden[t]))
            arithmetic.draw_latent(parameters[t], from_inner(inner[t]), noise[t], latent[t])
            arithmetic.lstm_step(gates[t], from_joined(joined[t]), before, cell[t], hidden[t + 1])
            before = cell[t]

        ctx.multiply = multiply
        ctx.save_for_backward(backward, noise, *others, gates, inner, joined, cell, parameters)
        return hidden, cell, parameters, latent[:steps]

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, d_hidden_all: Tensor, d_cell_all: Tensor, d_parameters: Tensor, d_latent: Tensor
    ) -> tuple[Tensor | None, ...]:
        multiply: Products = ctx.multiply
        backward, noise, _, first_cell, *rest = ctx.saved_tensors
        weights, (gates, inner, joined, cell, parameters) = PathWeights(*rest[:5]), rest[5:]
        steps, size = cell.shape[0], cell.shape[-1]

        to_clamped = multiply.packed(weights.outer.t())
        to_joined = multiply.packed(weights.joined.t())
        to_hidden = multiply.packed(weights.inner[:, :size].t())
        d_gates, d_inner = torch.empty_like(gates), torch.empty_like(inner)
        d_clamped = (parameters.abs() < LATENT_LIMIT).to(parameters)  # then the parameters' gradient
        d_hidden, d_cell = [d_hidden_all[steps]], torch.zeros_like(first_cell)
        arithmetic = gates_for(noise)
        for t in reversed(range(steps)):
            d_cell = arithmetic.lstm_step_backward(
                *(d_hidden, (d_cell, d_cell_all[t]), gates[t]),
                *(cell[t - 1] if t else first_cell, cell[t], d_gates[t]),
            )
            d_before, d_drawn = to_joined(d_gates[t]).split([size, noise.shape[-1]], dim=-1)
            arithmetic.draw_latent_backward(
                (d_drawn, d_latent[t]), d_parameters[t], parameters[t], noise[t], d_clamped[t]
            )
            arithmetic.activate_backward(to_clamped(d_clamped[t]), inner[t], out=d_inner[t])
            d_hidden = [to_hidden(d_inner[t]), d_before, d_hidden_all[t]]

        # What is left is one product over all frames for each gradient.
        d_inner_bias, d_outer_bias = d_inner.sum((0, 1)), d_clamped.sum((0, 1))
        d_inner, before = (rows.flatten(0, 1).to(multiply.computed) for rows in (d_inner, joined[:steps]))
        d_weights = PathWeights(
            inner=torch.cat(
                [
                    multiply.weight_gradient(d_inner, before[:, :size]),
                    multiply.weight_gradient(d_inner, backward.flatten(0, 1)),
                ],
                dim=1,
            ),
            inner_bias=d_inner_bias,
            outer=multiply.weight_gradient(d_clamped.flatten(0, 1), inner.flatten(0, 1)),
            outer_bias=d_outer_bias,
            joined=multiply.weight_gradient(d_gates.flatten(0, 1), before),
        )
        d_backward = multiply(d_inner, weights.inner[:, size:].t()).view_as(backward)
        return None, d_gates, d_backward, None, total(d_hidden), d_cell, *d_weights
