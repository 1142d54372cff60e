"""The latent path at the speed of its matrix products: one autograd function instead of the loop of latent_path.py.

In exact arithmetic it computes the same as the loop. It is faster because of the following:

- Only what depends on h_{t-1} is computed step by step. What the frames give to the gates, and b_t to the first layer
  of the posterior, is one product each over all frames.
- gen is linear, so its weight and the LSTM's input weight are merged into one, once per call.
- h_{t-1} and z_t enter the gates in one product.
- Weights are laid out once per call for the few rows of a step (products.py).
- The backward pass computes the gradient of each weight in one product over all frames.
- On a GPU everything between two products is one kernel (triton_gates.py).

`kept_elements` tells what the forward pass keeps for the backward pass.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from zfaudio.distributions import DiagonalGaussian
from zfaudio.ops.cells import LatentLSTMCell, State
from zfaudio.ops.gates import gates_for, sum_of
from zfaudio.ops.latent_path import LatentPath
from zfaudio.ops.networks import LATENT_LIMIT, GaussianMLP, linear_layers
from zfaudio.ops.products import Products, autocast_products, linear_of_embedding


def fast_latent_path(
    posterior: GaussianMLP,
    lstm_cell: LatentLSTMCell,
    embed: nn.Linear,
    frames: Tensor,
    future: Tensor,
    noise: Tensor,
    state: State,
) -> LatentPath:
    """`plain_latent_path`, faster; with the same arguments, except that the first three must be these modules.

    Under autocast only its products are computed in lower precision.
    """
    products = autocast_products(state.hidden)
    inner, outer = linear_layers(posterior.layers)
    embedding_weight, latents_weight, gate_bias = lstm_cell.merged_weights()
    recurrent_weight = lstm_cell.recurrent.weight
    frame_gates = linear_of_embedding(frames.transpose(0, 1), embed, embedding_weight, gate_bias)
    gate_weight = torch.cat([recurrent_weight, latents_weight.to(recurrent_weight.dtype)], dim=1)
    with torch.autocast(state.hidden.device.type, enabled=False):
        hidden, cell, parameters, latents = _LatentPath.apply(  # type: ignore[no-untyped-call]
            products,
            frame_gates,
            future.to(products.result_dtype).transpose(0, 1),
            noise.to(products.result_dtype).transpose(0, 1),
            state.hidden,
            state.cell,
            inner.weight,
            inner.bias,
            outer.weight,
            outer.bias,
            gate_weight,
        )
    mean, log_variance = parameters.transpose(0, 1).chunk(2, dim=-1)
    return LatentPath(
        previous_hidden=hidden[:-1].transpose(0, 1),
        hidden=hidden[1:].transpose(0, 1),
        cell=cell.transpose(0, 1),
        posterior=DiagonalGaussian(mean, log_variance),
        latents=latents.transpose(0, 1),
    )


def kept_elements(hidden: int, latent: int, mlp: int) -> dict[str, int]:
    """Number of elements kept for the backward pass for each frame of each sequence, by what they hold.

    The arguments x_t, b_t and the noise are kept too; they are not counted because other parts of the model keep them
    anyway. At the TIMIT size (1024, 256, 512) these are 7,424 elements or 29.7 kB per frame in float32, and the
    arguments are 5.9 kB.
    """
    return {
        "gates": 4 * hidden,
        "hidden": hidden,
        "cell": hidden,
        "posterior's hidden layer": mlp,
        "posterior's mean and log-variance": 2 * latent,
        "latents": latent,
    }


class _LatentPath(torch.autograd.Function):
    """The loop and its gradient. Steps come before the batch in all shapes."""

    @staticmethod
    def forward(
        ctx: Any,
        products: Products,
        frame_gates: Tensor,
        future: Tensor,
        noise: Tensor,
        first_hidden: Tensor,
        first_cell: Tensor,
        inner_weight: Tensor,
        inner_bias: Tensor,
        outer_weight: Tensor,
        outer_bias: Tensor,
        gate_weight: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Run the loop.

        Args:
            ctx: of the autograd function.
            products: how to multiply.
            frame_gates: what the frames, with the bias, add to the gates, [steps, batch, 4 * hidden].
            future: b_t, [steps, batch, future].
            noise: standard normal, [steps, batch, latent].
            first_hidden: h_0, [batch, hidden].
            first_cell: c_0, [batch, hidden].
            inner_weight: first layer of the posterior, for h_{t-1} and b_t, [mlp, hidden + future].
            inner_bias: its bias, [mlp].
            outer_weight: second layer of the posterior, [2 * latent, mlp].
            outer_bias: its bias, [2 * latent].
            gate_weight: for h_{t-1} and z_t, [4 * hidden, hidden + latent].

        Returns:
            h_0..h_S, [steps + 1, batch, hidden].
            c_1..c_S, [steps, batch, hidden].
            Mean and log-variance of the posterior, [steps, batch, 2 * latent].
            z_1..z_S, [steps, batch, latent].
        """
        future, noise = future.contiguous(), noise.contiguous()
        steps, batch, latent_size = noise.shape
        hidden_size = first_hidden.shape[-1]

        # Sums of known parts first; each step adds its product and replaces its row by activations.
        gates = frame_gates.to(products.result_dtype, copy=True)
        inner = products.linear(future.flatten(0, 1), inner_weight[:, hidden_size:], inner_bias)
        inner = inner.view(steps, batch, len(inner_weight))
        parameters = outer_bias.to(noise).repeat(steps, batch, 1)

        gate_inputs = gates.new_zeros(steps + 1, batch, hidden_size + latent_size)  # h_{t-1} and z_t side by side
        hidden, latents = gate_inputs.split([hidden_size, latent_size], dim=-1)
        cell = gates.new_empty(steps, batch, hidden_size)
        hidden[0], previous_cell = first_hidden, first_cell
        multiply_inner = products.packed(inner_weight[:, :hidden_size])
        multiply_outer = products.packed(outer_weight)
        multiply_gates = products.packed(gate_weight)
        elementwise = gates_for(noise)
        for t in range(steps):
            elementwise.activate(inner[t], multiply_inner(hidden[t]))
            elementwise.draw_latents(parameters[t], multiply_outer(inner[t]), noise[t], latents[t])
            elementwise.lstm_step(gates[t], multiply_gates(gate_inputs[t]), previous_cell, cell[t], hidden[t + 1])
            previous_cell = cell[t]

        ctx.products = products
        ctx.save_for_backward(
            future,
            noise,
            first_cell,
            inner_weight,
            outer_weight,
            gate_weight,
            gates,
            inner,
            parameters,
            gate_inputs,
            cell,
        )
        return hidden, cell, parameters, latents[:steps]

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, d_hidden_all: Tensor, d_cell_all: Tensor, d_parameters: Tensor, d_latents: Tensor
    ) -> tuple[Tensor | None, ...]:
        """Gradients of the arguments of `forward`, from those of its results."""
        products: Products = ctx.products
        future, noise, first_cell, inner_weight, outer_weight, gate_weight, *activations = ctx.saved_tensors
        gates, inner, parameters, gate_inputs, cell = activations
        steps, _, hidden_size = cell.shape
        latent_size = noise.shape[-1]

        multiply_outer = products.packed(outer_weight.t())
        multiply_gates = products.packed(gate_weight.t())
        multiply_inner = products.packed(inner_weight[:, :hidden_size].t())
        d_gates, d_inner = torch.empty_like(gates), torch.empty_like(inner)
        # 1 where nothing was clamped; each step replaces its row by the gradient of the unclamped parameters.
        d_unclamped = (parameters.abs() < LATENT_LIMIT).to(parameters)
        d_hidden, d_cell = [d_hidden_all[steps]], torch.zeros_like(first_cell)
        elementwise = gates_for(noise)
        for t in reversed(range(steps)):
            previous_cell = cell[t - 1] if t else first_cell
            d_cell = elementwise.lstm_step_backward(
                d_hidden, (d_cell, d_cell_all[t]), gates[t], previous_cell, cell[t], d_gates[t]
            )
            d_gate_inputs = multiply_gates(d_gates[t])
            d_hidden_from_gates, d_latents_from_gates = d_gate_inputs.split([hidden_size, latent_size], dim=-1)
            elementwise.draw_latents_backward(
                (d_latents_from_gates, d_latents[t]), d_parameters[t], parameters[t], noise[t], d_unclamped[t]
            )
            elementwise.activate_backward(multiply_outer(d_unclamped[t]), inner[t], out=d_inner[t])
            d_hidden = [multiply_inner(d_inner[t]), d_hidden_from_gates, d_hidden_all[t]]

        # What is left is one product over all frames for each gradient.
        d_inner_bias, d_outer_bias = d_inner.sum((0, 1)), d_unclamped.sum((0, 1))
        d_inner_rows = d_inner.flatten(0, 1).to(products.compute_dtype)
        gate_input_rows = gate_inputs[:steps].flatten(0, 1).to(products.compute_dtype)
        d_inner_weight = torch.cat(
            [
                products.weight_gradient(d_inner_rows, gate_input_rows[:, :hidden_size]),
                products.weight_gradient(d_inner_rows, future.flatten(0, 1)),
            ],
            dim=1,
        )
        d_outer_weight = products.weight_gradient(d_unclamped.flatten(0, 1), inner.flatten(0, 1))
        d_gate_weight = products.weight_gradient(d_gates.flatten(0, 1), gate_input_rows)
        d_future = products.linear(d_inner_rows, inner_weight[:, hidden_size:].t()).view_as(future)
        return (
            None,  # products
            d_gates,  # frame_gates
            d_future,
            None,  # noise
            sum_of(d_hidden),  # first_hidden
            d_cell,  # first_cell
            d_inner_weight,
            d_inner_bias,
            d_outer_weight,
            d_outer_bias,
            d_gate_weight,
        )
