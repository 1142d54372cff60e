"""The latent path of the decoder with conditional layer norm as one autograd function; see ops/fast.py.

    [r_t, i_t] = [W_r, W_i] h_{t-1}                       one product
    z_t = mean + deviation * noise                        of q(z_t | i_t, b_t)
    [gain_t, bias_t] = clamp(gen(z_t))                    two layers
    gates_t = entering_t + (1 + gain_t) layer_norm(r_t) + bias_t

entering_t, the layer norm of what frames give, waits for nothing: autograd computes it over all frames before.
Kept for the backward pass beside what ops/fast.py keeps: the normalized sums, gain and bias, and gen's inner layer,
12 * hidden + mlp elements a frame.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from zfaudio.ops.cells import GAIN_LIMIT
from zfaudio.ops.gates import total
from zfaudio.ops.kernels import gates_for
from zfaudio.ops.networks import LATENT_LIMIT
from zfaudio.ops.products import Products


class NormedWeights(NamedTuple):
    """Weights of the posterior's two layers, of gen's two and of the cell, as their modules hold them."""

    inner: Tensor  # [mlp, hidden + hidden]: for h_{t-1}, for b_t
    inner_bias: Tensor
    outer: Tensor  # [2 * latent, mlp]
    outer_bias: Tensor
    first: Tensor  # of gen, [mlp, latent]
    first_bias: Tensor
    second: Tensor  # of gen, [8 * hidden, mlp]
    second_bias: Tensor
    recurrent: Tensor  # [4 * hidden, hidden]


class _NormedLatentPath(torch.autograd.Function):
    """Time-major: entering [S, B, 4 H], backward [S, B, H], noise [S, B, Z], hidden and cell [B, H], `NormedWeights`.

    Gives what `fast._LatentPath` does: h_0..h_S [S + 1, B, H], c_1..c_S [S, B, H], the posterior's mean and
    log-variance [S, B, 2 Z], z [S, B, Z].
    """

    @staticmethod
    def forward(
        ctx: Any, multiply: Products, entering: Tensor, backward: Tensor, noise: Tensor, *others: Tensor
    ) -> tuple[Tensor, ...]:
        first_hidden, before, weights = *others[:2], NormedWeights(*others[2:])
        backward, noise = backward.contiguous(), noise.contiguous()
        gates = entering.to(multiply.given, copy=True)  # their activations in the end
        steps, batch, _ = gates.shape
        size, inner_size = first_hidden.shape[-1], len(weights.inner)

        inner = multiply(backward.flatten(0, 1), weights.inner[:, size:], weights.inner_bias)
        inner = inner.view(steps, batch, inner_size)
        hidden, cell = gates.new_empty(steps + 1, batch, size), gates.new_empty(steps, batch, size)
        parameters, units, modulation = (
            bias.to(noise).repeat(steps, batch, 1)
            for bias in (weights.outer_bias, weights.first_bias, weights.second_bias)
        )
        latent = torch.empty_like(noise)
        normalized, factor = torch.empty_like(gates), gates.new_empty(steps, batch, 1)
        hidden[0] = first_hidden
        from_hidden = multiply.packed(torch.cat([weights.inner[:, :size], weights.recurrent]))
        from_inner, from_latent = multiply.packed(weights.outer), multiply.packed(weights.first)
        from_units = multiply.packed(weights.second)
        arithmetic = gates_for(noise)
        for t in range(steps):
            summed = from_hidden(hidden[t])
            arithmetic.activate(inner[t], summed[:, :inner_size])
            arithmetic.draw_latent(parameters[t], from_inner(inner[t]), noise[t], latent[t])
            arithmetic.activate(units[t], from_latent(latent[t]))
            arithmetic.modulate(
                gates[t], summed[:, inner_size:], modulation[t], from_units(units[t]), normalized[t], factor[t]
            )
            arithmetic.lstm_step(gates[t], None, before, cell[t], hidden[t + 1])
            before = cell[t]

        ctx.multiply = multiply
        ctx.save_for_backward(
            *(backward, noise, *others),
            *(gates, inner, hidden, cell, parameters, latent, units, modulation, normalized, factor),
        )
        return hidden, cell, parameters, latent

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, d_hidden_all: Tensor, d_cell_all: Tensor, d_parameters: Tensor, d_latent: Tensor
    ) -> tuple[Tensor | None, ...]:
        multiply: Products = ctx.multiply
        backward, noise, _, first_cell, *rest = ctx.saved_tensors
        weights = NormedWeights(*rest[:9])
        gates, inner, hidden, cell, parameters, latent, units, modulation, normalized, factor = rest[9:]
        steps, inner_size, size = len(noise), inner.shape[-1], hidden.shape[-1]

        to_units, to_latent = multiply.packed(weights.second.t()), multiply.packed(weights.first.t())
        to_inner = multiply.packed(weights.outer.t())
        to_hidden = multiply.packed(torch.cat([weights.inner[:, :size], weights.recurrent]).t())
        d_gates, d_units = torch.empty_like(gates), torch.empty_like(units)
        d_clamped = (parameters.abs() < LATENT_LIMIT).to(parameters)  # then the parameters' gradient
        d_modulation = (modulation.abs() < GAIN_LIMIT).to(modulation)  # then what gen gives, its gradient
        # Of the posterior's units and of the recurrent sums, side by side.
        d_summed = gates.new_empty(*gates.shape[:2], inner_size + 4 * size)
        d_inner, d_recurrent = d_summed.split([inner_size, 4 * size], dim=-1)
        d_hidden, d_cell = [d_hidden_all[steps]], torch.zeros_like(first_cell)
        arithmetic = gates_for(noise)
        for t in reversed(range(steps)):
            d_cell = arithmetic.lstm_step_backward(
                *(d_hidden, (d_cell, d_cell_all[t]), gates[t]),
                *(cell[t - 1] if t else first_cell, cell[t], d_gates[t]),
            )
            arithmetic.modulate_backward(
                d_gates[t], modulation[t], normalized[t], factor[t], d_modulation[t], d_recurrent[t]
            )
            arithmetic.activate_backward(to_units(d_modulation[t]), units[t], out=d_units[t])
            arithmetic.draw_latent_backward(
                (to_latent(d_units[t]), d_latent[t]), d_parameters[t], parameters[t], noise[t], d_clamped[t]
            )
            arithmetic.activate_backward(to_inner(d_clamped[t]), inner[t], out=d_inner[t])
            d_hidden = [to_hidden(d_summed[t]), d_hidden_all[t]]

        # What is left is one product over all frames for each gradient.
        d_summed, d_clamped, d_units, d_modulation = (
            rows.flatten(0, 1) for rows in (d_summed, d_clamped, d_units, d_modulation)
        )
        d_inner = d_summed[:, :inner_size]
        from_before = multiply.weight_gradient(d_summed, hidden[:-1].flatten(0, 1))
        from_backward = multiply.weight_gradient(d_inner, backward.flatten(0, 1))
        d_weights = NormedWeights(
            inner=torch.cat([from_before[:inner_size], from_backward], dim=1),
            inner_bias=d_inner.sum(0),
            outer=multiply.weight_gradient(d_clamped, inner.flatten(0, 1)),
            outer_bias=d_clamped.sum(0),
            first=multiply.weight_gradient(d_units, latent.flatten(0, 1)),
            first_bias=d_units.sum(0),
            second=multiply.weight_gradient(d_modulation, units.flatten(0, 1)),
            second_bias=d_modulation.sum(0),
            recurrent=from_before[inner_size:],
        )
        d_backward = multiply(d_inner, weights.inner[:, size:].t()).view_as(backward)
        return None, d_gates, d_backward, None, total(d_hidden), d_cell, *d_weights


normed_latent_path = _NormedLatentPath.apply
