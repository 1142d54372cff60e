"""What stands between the products of a step, forward and backward, in place where it can be."""

import torch
from torch import Tensor

from zfaudio.ops.networks import LATENT_LIMIT

LAYER_NORM_EPS = 1e-5  # torch's

sigmoid_backward = torch.ops.aten.sigmoid_backward.grad_input
tanh_backward = torch.ops.aten.tanh_backward.grad_input


def lstm_step(gates: Tensor, before: Tensor, cell: Tensor, hidden: Tensor) -> None:
    """One LSTM update.

    Args:
        gates: sums in, activations out, [batch, 4 * hidden] (input, forget, cell, output).
        before: cell state before, [batch, hidden].
        cell: takes the cell state after, [batch, hidden].
        hidden: takes the hidden state after, [batch, hidden].
    """
    enter, forget, candidate, leave = gates.chunk(4, dim=-1)
    gates.chunk(2, dim=-1)[0].sigmoid_()  # enter and forget
    candidate.tanh_()
    leave.sigmoid_()
    torch.mul(forget, before, out=cell).addcmul_(enter, candidate)
    torch.tanh(cell, out=hidden).mul_(leave)


def lstm_step_backward(
    d_hidden: Tensor, d_cell: Tensor, gates: Tensor, before: Tensor, cell: Tensor, d_gates: Tensor
) -> Tensor:
    """Gradients of one LSTM update.

    Args:
        d_hidden: gradient of the hidden state after, [batch, hidden].
        d_cell: gradient of the cell state after, [batch, hidden].
        gates: activations that `lstm_step` left, [batch, 4 * hidden].
        before: cell state before, [batch, hidden].
        cell: cell state after, [batch, hidden].
        d_gates: takes the gradient of the sums, [batch, 4 * hidden].

    Returns:
        Gradient of the cell state before, [batch, hidden].
    """
    enter, forget, candidate, leave = gates.chunk(4, dim=-1)
    d_enter, d_forget, d_candidate, d_leave = d_gates.chunk(4, dim=-1)
    squashed = torch.tanh(cell)
    d_cell = torch.ops.aten.tanh_backward(d_hidden * leave, squashed).add_(d_cell)
    torch.mul(d_cell, candidate, out=d_enter)
    torch.mul(d_cell, before, out=d_forget)
    torch.mul(d_cell, enter, out=d_candidate)
    torch.mul(d_hidden, squashed, out=d_leave)
    first, d_first = gates.chunk(2, dim=-1)[0], d_gates.chunk(2, dim=-1)[0]  # enter and forget
    sigmoid_backward(d_first, first, grad_input=d_first)
    sigmoid_backward(d_leave, leave, grad_input=d_leave)
    tanh_backward(d_candidate, candidate, grad_input=d_candidate)
    return d_cell.mul_(forget)


def draw_latent(parameters: Tensor, noise: Tensor, latent: Tensor) -> None:
    """A latent from a Gaussian's parameters.

    Args:
        parameters: mean and log-variance, [batch, 2 * latent]; clamped in place.
        noise: standard normal, [batch, latent].
        latent: takes the draw, [batch, latent].
    """
    mean, log_variance = parameters.clamp_(-LATENT_LIMIT, LATENT_LIMIT).chunk(2, dim=-1)
    torch.mul(log_variance, 0.5, out=latent).exp_().mul_(noise).add_(mean)


def draw_latent_backward(
    d_latent: Tensor, d_parameters: Tensor, parameters: Tensor, noise: Tensor, d_sums: Tensor
) -> None:
    """Gradient of what the clamped parameters were before.

    Args:
        d_latent: gradient of the draw, [batch, latent].
        d_parameters: gradient of the clamped parameters from elsewhere, [batch, 2 * latent].
        parameters: as `draw_latent` left them.
        noise: that it was given.
        d_sums: 1 where nothing was clamped and 0 elsewhere, in; the gradient, out; [batch, 2 * latent].
    """
    d_mean, d_log_variance = d_parameters.chunk(2, dim=-1)
    left, right = d_sums.chunk(2, dim=-1)
    left.mul_(d_latent + d_mean)
    spread = torch.exp(0.5 * parameters.chunk(2, dim=-1)[1]).mul_(noise).mul_(0.5)
    right.mul_(torch.addcmul(d_log_variance, spread, d_latent))


def layer_norm_(sums: Tensor) -> Tensor:
    """Layer norm without gain and bias, in place: [batch, size]; the factor of each row, [batch, 1]."""
    variance, mean = torch.var_mean(sums, dim=-1, correction=0, keepdim=True)
    factor = torch.rsqrt(variance + LAYER_NORM_EPS)
    sums.sub_(mean).mul_(factor)
    return factor


def layer_norm_backward(grad: Tensor, normalised: Tensor, factor: Tensor, out: Tensor) -> None:
    """Gradient of the sums from that of what `layer_norm_` made of them, [batch, size]."""
    projection = (grad * normalised).mean(dim=-1, keepdim=True)
    torch.addcmul(grad - grad.mean(dim=-1, keepdim=True), normalised, projection, value=-1, out=out).mul_(factor)


def clamped_leaky_relu_(values: Tensor) -> Tensor:
    """`ClampedLeakyReLU`, in place."""
    return torch.nn.functional.leaky_relu_(values, 1 / 3).clamp_(-3, 3)


def clamped_leaky_relu_backward(grad: Tensor, activation: Tensor, out: Tensor) -> None:
    """Gradient of the clamped leaky ReLU from what it gave: 1 above zero, 1/3 below, 0 where it was clamped."""
    torch.ops.aten.leaky_relu_backward.grad_input(grad, activation, 1 / 3, True, grad_input=out)
    out.mul_(activation.abs() < 3)
