"""What stands between the products of a step, forward and backward, in place where it can be.

Where a step's sums have two sources, what is known before it and a product of the step, they are added here.
ops/triton_gates.py has functions of the same names and arguments, each of them one kernel of a GPU.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from zfaudio.ops.networks import LATENT_LIMIT

sigmoid_backward = torch.ops.aten.sigmoid_backward.grad_input
tanh_backward = torch.ops.aten.tanh_backward.grad_input


def lstm_step(gates: Tensor, product: Tensor, before: Tensor, cell: Tensor, hidden: Tensor) -> None:
    """One LSTM update.

    Args:
        gates: sums without `product` in, activations out, [batch, 4 * hidden] (input, forget, cell, output).
        product: what is missing in them, [batch, 4 * hidden].
        before: cell state before, [batch, hidden].
        cell: takes the cell state after, [batch, hidden].
        hidden: takes the hidden state after, [batch, hidden].
    """
    enter, forget, candidate, leave = gates.add_(product).chunk(4, dim=-1)
    gates.chunk(2, dim=-1)[0].sigmoid_()  # enter and forget
    candidate.tanh_()
    leave.sigmoid_()
    torch.mul(forget, before, out=cell).addcmul_(enter, candidate)
    torch.tanh(cell, out=hidden).mul_(leave)


def lstm_step_backward(
    d_hidden: Sequence[Tensor], d_cell: Sequence[Tensor], gates: Tensor, before: Tensor, cell: Tensor, d_gates: Tensor
) -> Tensor:
    """Gradients of one LSTM update.

    Args:
        d_hidden: one to three tensors whose sum is the gradient of the hidden state after, [batch, hidden].
        d_cell: two whose sum is the gradient of the cell state after, [batch, hidden].
        gates: activations that `lstm_step` left, [batch, 4 * hidden].
        before: cell state before, [batch, hidden].
        cell: cell state after, [batch, hidden].
        d_gates: takes the gradient of the sums, [batch, 4 * hidden].

    Returns:
        Gradient of the cell state before, [batch, hidden].
    """
    enter, forget, candidate, leave = gates.chunk(4, dim=-1)
    d_enter, d_forget, d_candidate, d_leave = d_gates.chunk(4, dim=-1)
    d_state, squashed = total(d_hidden), torch.tanh(cell)
    d_before = torch.ops.aten.tanh_backward(d_state * leave, squashed).add_(total(d_cell))
    torch.mul(d_before, candidate, out=d_enter)
    torch.mul(d_before, before, out=d_forget)
    torch.mul(d_before, enter, out=d_candidate)
    torch.mul(d_state, squashed, out=d_leave)
    first, d_first = gates.chunk(2, dim=-1)[0], d_gates.chunk(2, dim=-1)[0]  # enter and forget
    sigmoid_backward(d_first, first, grad_input=d_first)
    sigmoid_backward(d_leave, leave, grad_input=d_leave)
    tanh_backward(d_candidate, candidate, grad_input=d_candidate)
    return d_before.mul_(forget)


def total(parts: Sequence[Tensor]) -> Tensor:
    """Sum of one tensor or more, as precise as the last of them; not to be written to."""
    result = parts[0].to(parts[-1].dtype)
    for other in parts[1:]:
        result = result + other
    return result


def draw_latent(parameters: Tensor, product: Tensor, noise: Tensor, latent: Tensor) -> None:
    """A latent from a Gaussian's parameters.

    Args:
        parameters: mean and log-variance without `product` in, with it and clamped out, [batch, 2 * latent].
        product: what is missing in them.
        noise: standard normal, [batch, latent].
        latent: takes the draw, [batch, latent].
    """
    mean, log_variance = parameters.add_(product).clamp_(-LATENT_LIMIT, LATENT_LIMIT).chunk(2, dim=-1)
    torch.mul(log_variance, 0.5, out=latent).exp_().mul_(noise).add_(mean)


def draw_latent_backward(
    d_latent: Sequence[Tensor], d_parameters: Tensor, parameters: Tensor, noise: Tensor, d_sums: Tensor
) -> None:
    """Gradient of what the clamped parameters were before.

    Args:
        d_latent: two tensors whose sum is the gradient of the draw, [batch, latent].
        d_parameters: gradient of the clamped parameters from elsewhere, [batch, 2 * latent].
        parameters: as `draw_latent` left them.
        noise: that it was given.
        d_sums: 1 where nothing was clamped and 0 elsewhere, in; the gradient, out; [batch, 2 * latent].
    """
    d_draw = total(d_latent)
    d_mean, d_log_variance = d_parameters.chunk(2, dim=-1)
    left, right = d_sums.chunk(2, dim=-1)
    left.mul_(d_draw + d_mean)
    spread = torch.exp(0.5 * parameters.chunk(2, dim=-1)[1]).mul_(noise).mul_(0.5)
    right.mul_(torch.addcmul(d_log_variance, spread, d_draw))


def activate(values: Tensor, product: Tensor) -> None:
    """`ClampedLeakyReLU` of values + product, both [batch, units], in place of values."""
    clamped_leaky_relu_(values.add_(product))


def activate_backward(grad: Tensor, activation: Tensor, out: Tensor) -> None:
    """Gradient of the clamped leaky ReLU from what it gave: 1 above zero, 1/3 below, 0 where it was clamped."""
    torch.ops.aten.leaky_relu_backward.grad_input(grad, activation, 1 / 3, True, grad_input=out)
    out.mul_(activation.abs() < 3)


def clamped_leaky_relu_(values: Tensor) -> Tensor:
    """`ClampedLeakyReLU`, in place."""
    return torch.nn.functional.leaky_relu_(values, 1 / 3).clamp_(-3, 3)
