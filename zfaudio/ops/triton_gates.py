"""What ops/gates.py computes, on a GPU: functions of the same names and arguments, each of them one Triton kernel.

Where a step of 32 sequences is launched operator by operator, launching takes longer than computing. A kernel reads
its factors once, in whatever precision they are, computes in that of what it writes, and writes each result once.
Rows may lie apart (a slice of a wider tensor); columns must not, and are copied where they do.
"""

# Kernels are Triton's language, in which arguments have no types.
# mypy: allow-untyped-defs, allow-untyped-calls

from collections.abc import Sequence
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from zfaudio.ops.networks import LATENT_LIMIT

COLUMNS = 256  # of a row that one program computes


def lstm_step(gates: Tensor, product: Tensor, before: Tensor, cell: Tensor, hidden: Tensor) -> None:
    """See `gates.lstm_step`."""
    launch(_lstm_step, (gates, product, before, cell, hidden), cell.shape[-1])


def lstm_step_backward(
    d_hidden: Sequence[Tensor], d_cell: Sequence[Tensor], gates: Tensor, before: Tensor, cell: Tensor, d_gates: Tensor
) -> Tensor:
    """See `gates.lstm_step_backward`."""
    d_before = torch.empty_like(cell)
    three = (*d_hidden, *(3 - len(d_hidden)) * [d_hidden[0]])  # those past PARTS are not read
    tensors = (*three, *d_cell, gates, before, cell, d_gates, d_before)
    launch(_lstm_step_backward, tensors, cell.shape[-1], PARTS=len(d_hidden))
    return d_before


def draw_latent(parameters: Tensor, product: Tensor, noise: Tensor, latent: Tensor) -> None:
    """See `gates.draw_latent`."""
    launch(_draw_latent, (parameters, product, noise, latent), latent.shape[-1], LIMIT=LATENT_LIMIT)


def draw_latent_backward(
    d_latent: Sequence[Tensor], d_parameters: Tensor, parameters: Tensor, noise: Tensor, d_sums: Tensor
) -> None:
    """See `gates.draw_latent_backward`."""
    launch(_draw_latent_backward, (*d_latent, d_parameters, parameters, noise, d_sums), noise.shape[-1])


def activate(values: Tensor, product: Tensor) -> None:
    """See `gates.activate`."""
    launch(_activate, (values, product), values.shape[-1])


def activate_backward(grad: Tensor, activation: Tensor, out: Tensor) -> None:
    """See `gates.activate_backward`."""
    launch(_activate_backward, (grad, activation, out), out.shape[-1])


def launch(kernel: Any, tensors: Sequence[Tensor], size: int, **constants: Any) -> None:
    """Run a kernel over rows and blocks of `size` columns: kernel(*tensors, *distances of their rows, size)."""
    rows = [values if values.stride(-1) == 1 else values.contiguous() for values in tensors]
    grid = len(rows[0]), triton.cdiv(size, COLUMNS)
    kernel[grid](*rows, *(values.stride(0) for values in rows), size, BLOCK=COLUMNS, **constants)


@triton.jit
def _sigmoid(sums):
    return 1 / (1 + tl.exp(-sums))


@triton.jit
def _tanh(sums):
    return 2 * _sigmoid(2 * sums) - 1


@triton.jit
def _clamp(values, limit):
    # Not tl.clamp, which of NaN makes the limit: a step that has gone wrong must show it.
    return tl.where(values > limit, limit, tl.where(values < -limit, -limit, values))


@triton.jit
def _columns(size, BLOCK: tl.constexpr):
    """Columns of a program, and which of them there are."""
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    return column, column < size


@triton.jit
def _load_gates(gate, size, there):
    return (
        tl.load(gate, there),
        tl.load(gate + size, there),
        tl.load(gate + 2 * size, there),
        tl.load(gate + 3 * size, there),
    )


@triton.jit
def _store_gates(gate, size, there, enter, forget, candidate, leave):
    tl.store(gate, enter, there)
    tl.store(gate + size, forget, there)
    tl.store(gate + 2 * size, candidate, there)
    tl.store(gate + 3 * size, leave, there)


@triton.jit
def _lstm_step(
    gates,
    product,
    before,
    cell,
    hidden,
    gates_row,
    product_row,
    before_row,
    cell_row,
    hidden_row,
    size,
    BLOCK: tl.constexpr,
):
    row = tl.program_id(0)
    column, there = _columns(size, BLOCK)
    kind = gates.dtype.element_ty
    gate = gates + row * gates_row + column
    enter, forget, candidate, leave = _load_gates(gate, size, there)
    more_enter, more_forget, more_candidate, more_leave = _load_gates(product + row * product_row + column, size, there)
    enter, forget = enter + more_enter.to(kind), forget + more_forget.to(kind)
    candidate, leave = candidate + more_candidate.to(kind), leave + more_leave.to(kind)
    enter, forget, candidate, leave = _sigmoid(enter), _sigmoid(forget), _tanh(candidate), _sigmoid(leave)
    after = forget * tl.load(before + row * before_row + column, there) + enter * candidate
    _store_gates(gate, size, there, enter, forget, candidate, leave)
    tl.store(cell + row * cell_row + column, after, there)
    tl.store(hidden + row * hidden_row + column, leave * _tanh(after), there)


@triton.jit
def _lstm_step_backward(
    d_hidden,
    d_hidden_2,
    d_hidden_3,
    d_cell,
    d_cell_2,
    gates,
    before,
    cell,
    d_gates,
    d_before,
    d_hidden_row,
    d_hidden_2_row,
    d_hidden_3_row,
    d_cell_row,
    d_cell_2_row,
    gates_row,
    before_row,
    cell_row,
    d_gates_row,
    d_before_row,
    size,
    PARTS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    row = tl.program_id(0)
    column, there = _columns(size, BLOCK)
    kind = d_gates.dtype.element_ty
    d_state = tl.load(d_hidden + row * d_hidden_row + column, there).to(kind)
    if PARTS > 1:
        d_state += tl.load(d_hidden_2 + row * d_hidden_2_row + column, there).to(kind)
    if PARTS > 2:
        d_state += tl.load(d_hidden_3 + row * d_hidden_3_row + column, there).to(kind)
    gate = gates + row * gates_row + column
    enter, forget, candidate, leave = _load_gates(gate, size, there)
    squashed = _tanh(tl.load(cell + row * cell_row + column, there))
    d_after = d_state * leave * (1 - squashed * squashed)
    d_after += tl.load(d_cell + row * d_cell_row + column, there)
    d_after += tl.load(d_cell_2 + row * d_cell_2_row + column, there)
    d_gate = d_gates + row * d_gates_row + column
    earlier = tl.load(before + row * before_row + column, there)
    _store_gates(
        d_gate,
        size,
        there,
        d_after * candidate * enter * (1 - enter),
        d_after * earlier * forget * (1 - forget),
        d_after * enter * (1 - candidate * candidate),
        d_state * squashed * leave * (1 - leave),
    )
    tl.store(d_before + row * d_before_row + column, d_after * forget, there)


@triton.jit
def _draw_latent(
    parameters,
    product,
    noise,
    latent,
    parameters_row,
    product_row,
    noise_row,
    latent_row,
    size,
    LIMIT: tl.constexpr,
    BLOCK: tl.constexpr,
):
    row = tl.program_id(0)
    column, there = _columns(size, BLOCK)
    kind = parameters.dtype.element_ty
    parameter = parameters + row * parameters_row + column
    added = product + row * product_row + column
    mean = _clamp(tl.load(parameter, there) + tl.load(added, there).to(kind), LIMIT)
    log_variance = _clamp(tl.load(parameter + size, there) + tl.load(added + size, there).to(kind), LIMIT)
    draw = mean + tl.exp(0.5 * log_variance) * tl.load(noise + row * noise_row + column, there)
    tl.store(parameter, mean, there)
    tl.store(parameter + size, log_variance, there)
    tl.store(latent + row * latent_row + column, draw, there)


@triton.jit
def _draw_latent_backward(
    d_latent,
    d_latent_2,
    d_parameters,
    parameters,
    noise,
    d_sums,
    d_latent_row,
    d_latent_2_row,
    d_parameters_row,
    parameters_row,
    noise_row,
    d_sums_row,
    size,
    BLOCK: tl.constexpr,
):
    row = tl.program_id(0)
    column, there = _columns(size, BLOCK)
    kind = d_sums.dtype.element_ty
    d_draw = tl.load(d_latent + row * d_latent_row + column, there).to(kind)
    d_draw += tl.load(d_latent_2 + row * d_latent_2_row + column, there).to(kind)
    d_parameter = d_parameters + row * d_parameters_row + column
    d_sum = d_sums + row * d_sums_row + column
    log_variance = tl.load(parameters + row * parameters_row + size + column, there)
    spread = 0.5 * tl.exp(0.5 * log_variance) * tl.load(noise + row * noise_row + column, there)
    free, free_variance = tl.load(d_sum, there), tl.load(d_sum + size, there)
    tl.store(d_sum, free * (tl.load(d_parameter, there) + d_draw), there)
    tl.store(d_sum + size, free_variance * (tl.load(d_parameter + size, there) + spread * d_draw), there)


@triton.jit
def _activate(values, product, values_row, product_row, size, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    column, there = _columns(size, BLOCK)
    value = values + row * values_row + column
    sums = tl.load(value, there) + tl.load(product + row * product_row + column, there).to(values.dtype.element_ty)
    tl.store(value, _clamp(tl.where(sums > 0, sums, sums * (1 / 3)), 3.0), there)


@triton.jit
def _activate_backward(grad, activation, out, grad_row, activation_row, out_row, size, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    column, there = _columns(size, BLOCK)
    passed = tl.load(grad + row * grad_row + column, there).to(out.dtype.element_ty)
    active = tl.load(activation + row * activation_row + column, there)
    slope = tl.where(active > 0, passed, passed * (1 / 3))
    tl.store(out + row * out_row + column, tl.where(tl.abs(active) < 3, slope, slope * 0), there)
