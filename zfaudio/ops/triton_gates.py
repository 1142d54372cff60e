"""The functions of gates.py for a GPU: the same names and arguments, each of them one Triton kernel.

A step of 32 sequences takes longer to launch operator by operator than to compute. A kernel reads its arguments once,
in their own precision, computes in the precision of its results, and writes each result once. Rows may lie apart (a
slice of a wider tensor). Columns may not: such arguments are copied.
"""

# In Triton's language the arguments of a kernel have no types.
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls, allow-untyped-decorators

from collections.abc import Sequence
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from zfaudio.ops.networks import LATENT_LIMIT

COLUMNS = 256  # columns of a row that one program computes


def lstm_step(gates: Tensor, product: Tensor, previous_cell: Tensor, cell: Tensor, hidden: Tensor) -> None:
    """See `gates.lstm_step`."""
    launch(_lstm_step, (gates, product, previous_cell, cell, hidden), cell.shape[-1])


def lstm_step_backward(
    d_hidden: Sequence[Tensor],
    d_cell: Sequence[Tensor],
    gates: Tensor,
    previous_cell: Tensor,
    cell: Tensor,
    d_gates: Tensor,
) -> Tensor:
    """See `gates.lstm_step_backward`."""
    d_previous_cell = torch.empty_like(cell)
    padding = (3 - len(d_hidden)) * [d_hidden[0]]  # the kernel reads only the first PARTS of three
    tensors = [*d_hidden, *padding, *d_cell, gates, previous_cell, cell, d_gates, d_previous_cell]
    launch(_lstm_step_backward, tensors, cell.shape[-1], PARTS=len(d_hidden))
    return d_previous_cell


def draw_latents(parameters: Tensor, product: Tensor, noise: Tensor, latents: Tensor) -> None:
    """See `gates.draw_latents`."""
    launch(_draw_latents, (parameters, product, noise, latents), latents.shape[-1], LIMIT=LATENT_LIMIT)


def draw_latents_backward(
    d_latents: Sequence[Tensor], d_parameters: Tensor, parameters: Tensor, noise: Tensor, d_sums: Tensor
) -> None:
    """See `gates.draw_latents_backward`."""
    launch(_draw_latents_backward, (*d_latents, d_parameters, parameters, noise, d_sums), noise.shape[-1])


def activate(values: Tensor, product: Tensor) -> None:
    """See `gates.activate`."""
    launch(_activate, (values, product), values.shape[-1])


def activate_backward(grad: Tensor, activation: Tensor, out: Tensor) -> None:
    """See `gates.activate_backward`."""
    launch(_activate_backward, (grad, activation, out), out.shape[-1])


def launch(kernel: Any, tensors: Sequence[Tensor], size: int, **constants: Any) -> None:
    """Run a kernel on all rows and on blocks of `size` columns: kernel(*tensors, *strides of their rows, size)."""
    rows = [tensor if tensor.stride(-1) == 1 else tensor.contiguous() for tensor in tensors]
    grid = len(rows[0]), triton.cdiv(size, COLUMNS)
    kernel[grid](*rows, *(tensor.stride(0) for tensor in rows), size, BLOCK=COLUMNS, **constants)


@triton.jit
def _sigmoid(values):
    return 1 / (1 + tl.exp(-values))


@triton.jit
def _tanh(values):
    return 2 * _sigmoid(2 * values) - 1


@triton.jit
def _clamp(values, limit):
    # tl.clamp would turn NaN into the limit and hide that a step has gone wrong.
    return tl.where(values > limit, limit, tl.where(values < -limit, -limit, values))


@triton.jit
def _columns(size, BLOCK: tl.constexpr):
    """The columns of a program, and a mask of those that exist."""
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    return column, column < size


@triton.jit
def _load_gates(pointer, size, mask):
    return (
        tl.load(pointer, mask),
        tl.load(pointer + size, mask),
        tl.load(pointer + 2 * size, mask),
        tl.load(pointer + 3 * size, mask),
    )


@triton.jit
def _store_gates(pointer, size, mask, input_gate, forget_gate, cell_gate, output_gate):
    tl.store(pointer, input_gate, mask)
    tl.store(pointer + size, forget_gate, mask)
    tl.store(pointer + 2 * size, cell_gate, mask)
    tl.store(pointer + 3 * size, output_gate, mask)


@triton.jit
def _lstm_step(
    gates,
    product,
    previous_cell,
    cell,
    hidden,
    gates_stride,
    product_stride,
    previous_cell_stride,
    cell_stride,
    hidden_stride,
    size,
    BLOCK: tl.constexpr,
):
    row = tl.program_id(0)
    column, mask = _columns(size, BLOCK)
    dtype = gates.dtype.element_ty
    gates += row * gates_stride + column
    product += row * product_stride + column
    input_sum, forget_sum, cell_sum, output_sum = _load_gates(gates, size, mask)
    input_product, forget_product, cell_product, output_product = _load_gates(product, size, mask)
    input_gate = _sigmoid(input_sum + input_product.to(dtype))
    forget_gate = _sigmoid(forget_sum + forget_product.to(dtype))
    cell_gate = _tanh(cell_sum + cell_product.to(dtype))
    output_gate = _sigmoid(output_sum + output_product.to(dtype))
    c_before = tl.load(previous_cell + row * previous_cell_stride + column, mask)
    c = forget_gate * c_before + input_gate * cell_gate
    _store_gates(gates, size, mask, input_gate, forget_gate, cell_gate, output_gate)
    tl.store(cell + row * cell_stride + column, c, mask)
    tl.store(hidden + row * hidden_stride + column, output_gate * _tanh(c), mask)


@triton.jit
def _lstm_step_backward(
    d_hidden,
    d_hidden_2,
    d_hidden_3,
    d_cell,
    d_cell_2,
    gates,
    previous_cell,
    cell,
    d_gates,
    d_previous_cell,
    d_hidden_stride,
    d_hidden_2_stride,
    d_hidden_3_stride,
    d_cell_stride,
    d_cell_2_stride,
    gates_stride,
    previous_cell_stride,
    cell_stride,
    d_gates_stride,
    d_previous_cell_stride,
    size,
    PARTS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    row = tl.program_id(0)
    column, mask = _columns(size, BLOCK)
    dtype = d_gates.dtype.element_ty
    dh = tl.load(d_hidden + row * d_hidden_stride + column, mask).to(dtype)
    if PARTS > 1:
        dh += tl.load(d_hidden_2 + row * d_hidden_2_stride + column, mask).to(dtype)
    if PARTS > 2:
        dh += tl.load(d_hidden_3 + row * d_hidden_3_stride + column, mask).to(dtype)
    input_gate, forget_gate, cell_gate, output_gate = _load_gates(gates + row * gates_stride + column, size, mask)
    c_before = tl.load(previous_cell + row * previous_cell_stride + column, mask)
    cell_tanh = _tanh(tl.load(cell + row * cell_stride + column, mask))
    dc = dh * output_gate * (1 - cell_tanh * cell_tanh)
    dc += tl.load(d_cell + row * d_cell_stride + column, mask)
    dc += tl.load(d_cell_2 + row * d_cell_2_stride + column, mask)
    _store_gates(
        d_gates + row * d_gates_stride + column,
        size,
        mask,
        dc * cell_gate * input_gate * (1 - input_gate),
        dc * c_before * forget_gate * (1 - forget_gate),
        dc * input_gate * (1 - cell_gate * cell_gate),
        dh * cell_tanh * output_gate * (1 - output_gate),
    )
    tl.store(d_previous_cell + row * d_previous_cell_stride + column, dc * forget_gate, mask)


@triton.jit
def _draw_latents(
    parameters,
    product,
    noise,
    latents,
    parameters_stride,
    product_stride,
    noise_stride,
    latents_stride,
    size,
    LIMIT: tl.constexpr,
    BLOCK: tl.constexpr,
):
    row = tl.program_id(0)
    column, mask = _columns(size, BLOCK)
    dtype = parameters.dtype.element_ty
    parameters += row * parameters_stride + column
    product += row * product_stride + column
    mean = _clamp(tl.load(parameters, mask) + tl.load(product, mask).to(dtype), LIMIT)
    log_variance = tl.load(parameters + size, mask) + tl.load(product + size, mask).to(dtype)
    log_variance = _clamp(log_variance, LIMIT)
    draw = mean + tl.exp(0.5 * log_variance) * tl.load(noise + row * noise_stride + column, mask)
    tl.store(parameters, mean, mask)
    tl.store(parameters + size, log_variance, mask)
    tl.store(latents + row * latents_stride + column, draw, mask)


@triton.jit
def _draw_latents_backward(
    d_latents,
    d_latents_2,
    d_parameters,
    parameters,
    noise,
    d_sums,
    d_latents_stride,
    d_latents_2_stride,
    d_parameters_stride,
    parameters_stride,
    noise_stride,
    d_sums_stride,
    size,
    BLOCK: tl.constexpr,
):
    row = tl.program_id(0)
    column, mask = _columns(size, BLOCK)
    dtype = d_sums.dtype.element_ty
    d_draw = tl.load(d_latents + row * d_latents_stride + column, mask).to(dtype)
    d_draw += tl.load(d_latents_2 + row * d_latents_2_stride + column, mask).to(dtype)
    d_parameters += row * d_parameters_stride + column
    d_sums += row * d_sums_stride + column
    log_variance = tl.load(parameters + row * parameters_stride + size + column, mask)
    slope = 0.5 * tl.exp(0.5 * log_variance) * tl.load(noise + row * noise_stride + column, mask)
    mean_free, log_variance_free = tl.load(d_sums, mask), tl.load(d_sums + size, mask)  # 1 where nothing was clamped
    d_log_variance = tl.load(d_parameters + size, mask) + slope * d_draw
    tl.store(d_sums, mean_free * (tl.load(d_parameters, mask) + d_draw), mask)
    tl.store(d_sums + size, log_variance_free * d_log_variance, mask)


@triton.jit
def _activate(values, product, values_stride, product_stride, size, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    column, mask = _columns(size, BLOCK)
    dtype = values.dtype.element_ty
    values += row * values_stride + column
    sums = tl.load(values, mask) + tl.load(product + row * product_stride + column, mask).to(dtype)
    tl.store(values, _clamp(tl.where(sums > 0, sums, sums * (1 / 3)), 3.0), mask)


@triton.jit
def _activate_backward(grad, activation, out, grad_stride, activation_stride, out_stride, size, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    column, mask = _columns(size, BLOCK)
    passed = tl.load(grad + row * grad_stride + column, mask).to(out.dtype.element_ty)
    active = tl.load(activation + row * activation_stride + column, mask)
    slope = tl.where(active > 0, passed, passed * (1 / 3))
    tl.store(out + row * out_stride + column, tl.where(tl.abs(active) < 3, slope, slope * 0), mask)
