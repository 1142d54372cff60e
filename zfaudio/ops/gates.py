"""The elementwise part of a step, forward and backward, in place where possible; matrix products are done elsewhere.

Many of these sums have two sources: what is known before the loop, and a product of the step. They are added here.
triton_gates.py has functions with the same names and arguments, each of them one GPU kernel; `gates_for` chooses.
"""

import os
import shutil
import sys
import sysconfig
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import torch
import torch.nn.functional as F
from torch import Tensor

from zfaudio.ops.networks import LATENT_LIMIT
from zfaudio.ops.torch_private import leaky_relu_backward, sigmoid_backward, tanh_backward


def gates_for(tensor: Tensor) -> ModuleType:
    """The module whose functions are fastest on the device of the tensor: this one or triton_gates."""
    if tensor.is_cuda and triton_runs():
        from zfaudio.ops import triton_gates  # it imports Triton's compiler

        return triton_gates
    return sys.modules[__name__]


@cache
def triton_runs() -> bool:
    """Whether Triton is installed, with the C compiler and Python headers that it needs to launch a kernel."""
    compiler = os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang")
    headers = Path(sysconfig.get_path("include"), "Python.h")
    return bool(find_spec("triton") and compiler and headers.exists())


def lstm_step(gates: Tensor, product: Tensor, previous_cell: Tensor, cell: Tensor, hidden: Tensor) -> None:
    """One LSTM step.

    Args:
        gates: sums of the input, forget, cell and output gates without `product`, [batch, 4 * hidden]; replaced by the
            activations of the gates.
        product: added to the sums, [batch, 4 * hidden].
        previous_cell: c_{t-1}, [batch, hidden].
        cell: c_t is written here, [batch, hidden].
        hidden: h_t is written here, [batch, hidden].
    """
    input_gate, forget_gate, cell_gate, output_gate = gates.add_(product).chunk(4, dim=-1)
    input_and_forget_gate, _ = gates.chunk(2, dim=-1)
    input_and_forget_gate.sigmoid_()
    cell_gate.tanh_()
    output_gate.sigmoid_()
    torch.mul(forget_gate, previous_cell, out=cell).addcmul_(input_gate, cell_gate)
    torch.tanh(cell, out=hidden).mul_(output_gate)


def lstm_step_backward(
    d_hidden: Sequence[Tensor],
    d_cell: Sequence[Tensor],
    gates: Tensor,
    previous_cell: Tensor,
    cell: Tensor,
    d_gates: Tensor,
) -> Tensor:
    """Gradients of one LSTM step.

    Args:
        d_hidden: one to three tensors whose sum is the gradient of h_t, [batch, hidden].
        d_cell: two tensors whose sum is the gradient of c_t, [batch, hidden].
        gates: the activations that `lstm_step` left, [batch, 4 * hidden].
        previous_cell: c_{t-1}, [batch, hidden].
        cell: c_t, [batch, hidden].
        d_gates: the gradient of the sums is written here, [batch, 4 * hidden].

    Returns:
        Gradient of c_{t-1}, [batch, hidden].
    """
    input_gate, forget_gate, cell_gate, output_gate = gates.chunk(4, dim=-1)
    d_input_gate, d_forget_gate, d_cell_gate, d_output_gate = d_gates.chunk(4, dim=-1)
    d_hidden_sum, cell_tanh = sum_of(d_hidden), torch.tanh(cell)
    d_cell_sum = d_hidden_sum * output_gate
    tanh_backward(d_cell_sum, cell_tanh, out=d_cell_sum)
    d_cell_sum.add_(sum_of(d_cell))
    torch.mul(d_cell_sum, cell_gate, out=d_input_gate)
    torch.mul(d_cell_sum, previous_cell, out=d_forget_gate)
    torch.mul(d_cell_sum, input_gate, out=d_cell_gate)
    torch.mul(d_hidden_sum, cell_tanh, out=d_output_gate)
    input_and_forget_gate, d_input_and_forget_gate = gates.chunk(2, dim=-1)[0], d_gates.chunk(2, dim=-1)[0]
    sigmoid_backward(d_input_and_forget_gate, input_and_forget_gate, out=d_input_and_forget_gate)
    sigmoid_backward(d_output_gate, output_gate, out=d_output_gate)
    tanh_backward(d_cell_gate, cell_gate, out=d_cell_gate)
    return d_cell_sum.mul_(forget_gate)


def sum_of(parts: Sequence[Tensor]) -> Tensor:
    """Sum of one or more tensors in the precision of the last. Do not write to it: it may be one of them."""
    result = parts[0].to(parts[-1].dtype)
    for part in parts[1:]:
        result = result + part
    return result


def draw_latents(parameters: Tensor, product: Tensor, noise: Tensor, latents: Tensor) -> None:
    """Draw latents from a Gaussian.

    Args:
        parameters: mean and log-variance without `product`, [batch, 2 * latent]; replaced by the clamped mean and
            log-variance.
        product: added to them, [batch, 2 * latent].
        noise: standard normal, [batch, latent].
        latents: the draw is written here, [batch, latent].
    """
    mean, log_variance = parameters.add_(product).clamp_(-LATENT_LIMIT, LATENT_LIMIT).chunk(2, dim=-1)
    torch.mul(log_variance, 0.5, out=latents).exp_().mul_(noise).add_(mean)


def draw_latents_backward(
    d_latents: Sequence[Tensor], d_parameters: Tensor, parameters: Tensor, noise: Tensor, d_sums: Tensor
) -> None:
    """Gradient of the mean and log-variance before they were clamped.

    Args:
        d_latents: two tensors whose sum is the gradient of the draw, [batch, latent].
        d_parameters: gradient of the clamped mean and log-variance from elsewhere, [batch, 2 * latent].
        parameters: the clamped mean and log-variance that `draw_latents` left, [batch, 2 * latent].
        noise: the noise of the draw, [batch, latent].
        d_sums: 1 where nothing was clamped and 0 elsewhere, [batch, 2 * latent]; replaced by the gradient.
    """
    d_latents_sum = sum_of(d_latents)
    d_mean, d_log_variance = d_parameters.chunk(2, dim=-1)
    d_mean_sum, d_log_variance_sum = d_sums.chunk(2, dim=-1)
    d_mean_sum.mul_(d_latents_sum + d_mean)
    slope = torch.exp(0.5 * parameters.chunk(2, dim=-1)[1]).mul_(noise).mul_(0.5)
    d_log_variance_sum.mul_(torch.addcmul(d_log_variance, slope, d_latents_sum))


def activate(values: Tensor, product: Tensor) -> None:
    """Replace values by `ClampedLeakyReLU` of values + product, both [batch, units]."""
    clamped_leaky_relu_(values.add_(product))


def activate_backward(grad: Tensor, activation: Tensor, out: Tensor) -> None:
    """Gradient of `ClampedLeakyReLU`, from what it gave: the slope is 1 above zero, 1/3 below, 0 where it clamped.

    Args:
        grad: gradient of the activation, [batch, units].
        activation: what `activate` left, [batch, units].
        out: the gradient of its argument is written here, [batch, units].
    """
    leaky_relu_backward(grad, activation, 1 / 3, out=out)
    out.mul_(activation.abs() < 3)


def clamped_leaky_relu_(values: Tensor) -> Tensor:
    """`ClampedLeakyReLU`, in place."""
    return F.leaky_relu_(values, 1 / 3).clamp_(-3, 3)
