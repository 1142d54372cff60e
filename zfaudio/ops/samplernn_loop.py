"""SampleRNN's loop over the samples of a frame, compiled by numba for the CPU.

In models/samplernn.py, which has the equations, a sample takes some forty small operators of torch, each of which takes
longer to start than to compute. Here it is one pass over weights that mostly stay in the processor's cache. Each frame
of a batch is computed on its own, so it comes out the same whatever else is in the batch.
"""

# numba finds the types of the kernel's arguments.
# mypy: allow-untyped-defs, allow-untyped-calls, allow-untyped-decorators

import math
from typing import NamedTuple

import numpy as np
from numba import njit
from torch import Tensor, nn

from zfaudio.ops.gru import GRU
from zfaudio.ops.sample_bounds import Bounds, bound, clamp, compand
from zfaudio.ops.sample_draw import (
    Array,
    SampleLikelihood,
    as_array,
    draw_frames,
    draw_sample,
    leaky_relu,
    parameters_of_sample,
)
from zfaudio.ops.signal_loop import multiply_add, root_mean_square


class Weights(NamedTuple):
    """Weights [out, in] and biases [out] of the layers."""

    read: Array
    read_bias: Array
    gru_input: Array
    gru_input_bias: Array
    gru_recurrent: Array
    gru_recurrent_bias: Array
    to_samples: Array
    filters: Array
    filters_bias: Array
    inner: Array
    inner_bias: Array
    outer: Array
    outer_bias: Array
    linear: Array


def weights_of(
    read: nn.Linear,
    gru: GRU,
    to_samples: nn.Linear,
    filters: nn.Linear,
    inner: nn.Linear,
    outer: nn.Linear,
    linear: nn.Linear,
) -> Weights:
    """The weights of the layers as they are now. They are not copied."""

    def array(values: Tensor) -> Array:
        return values.detach().contiguous().numpy()

    return Weights(
        read=array(read.weight),
        read_bias=array(read.bias),
        gru_input=array(gru.input.weight),
        gru_input_bias=array(gru.input.bias),
        gru_recurrent=array(gru.recurrent.weight),
        gru_recurrent_bias=array(gru.recurrent.bias),
        to_samples=array(to_samples.weight),
        filters=array(filters.weight),
        filters_bias=array(filters.bias),
        inner=array(inner.weight),
        inner_bias=array(inner.bias),
        outer=array(outer.weight),
        outer_bias=array(outer.bias),
        linear=array(linear.weight),
    )


def draw_samples(
    weights: Weights,
    window: int,
    bounds: Bounds,
    likelihood: SampleLikelihood,
    previous_samples: Tensor,
    told: Tensor,
    middle: Tensor,
    grid: Tensor | None,
    noise: Tensor,
    temperature: float,
) -> Tensor:
    """Map standard normal noise to samples, each drawn given the samples before it.

    Args:
        weights: of the layers.
        window: number of samples that the sample tier reads.
        bounds: of what the tiers hear and say.
        likelihood: how the output describes a density.
        previous_samples: the samples before the first, [batch, heard].
        told: what the upper tier tells each step of the middle tier, [batch, steps, middle].
        middle: state of the middle tier before them, [batch, middle].
        grid: of the samples before the first, [batch]; see LogisticMixture.
        noise: [batch, samples, 1], or for a mixture [batch, samples, 2], of which the first number chooses the
            component and the second is for the draw from it.
        temperature: how freely samples are drawn, see distributions.py.

    Returns:
        [batch, samples].
    """
    dtype, numbers = weights.inner.dtype, likelihood.numbers()
    tolds, middles = as_array(told, dtype), as_array(middle, dtype)

    def draw_row(row: int, signal: Array, grid: float, choice: Array, deviate: Array) -> None:
        _draw_row(
            signal, tolds[row], middles[row], grid, choice, deviate, weights, window, bounds, numbers, temperature
        )

    return draw_frames(draw_row, previous_samples, grid, noise, likelihood.kind, dtype)


@njit(cache=True, nogil=True)
def _sigmoid(value):
    return 1 / (1 + math.exp(-value))


@njit(cache=True, nogil=True)
def _next_state(samples, told, weights, bounds, floor, state):
    """A step of the middle tier: reads samples [rate], replaces its state [middle]."""
    rate, size = len(samples), len(state)
    level = root_mean_square(samples, floor)
    heard = np.empty(2 * rate + 1, samples.dtype)
    for i in range(rate):
        heard[i] = samples[i] / level
        heard[rate + i] = compand(samples[i], bounds)
    heard[2 * rate] = math.log(clamp(level, bounds.loudest))
    inputs = told + weights.read_bias
    multiply_add(weights.read, heard, inputs)
    gates, recurrent = weights.gru_input_bias.copy(), weights.gru_recurrent_bias.copy()
    multiply_add(weights.gru_input, inputs, gates)
    multiply_add(weights.gru_recurrent, state, recurrent)
    for j in range(size):
        reset = _sigmoid(gates[j] + recurrent[j])
        update = _sigmoid(gates[size + j] + recurrent[size + j])
        candidate = math.tanh(gates[2 * size + j] + reset * recurrent[2 * size + j])
        state[j] = candidate + update * (state[j] - candidate)


@njit(cache=True, nogil=True)
def _describe(window, level, unit, floor, bounds, out):
    """The input of the sample tier, from the samples [window] before one, and the level of their changes."""
    size = len(window)
    last = window[size - 1]
    for i in range(size - 1):
        out[i] = math.asinh((window[i + 1] - window[i]) / unit)
    out[size - 1] = math.log(unit)
    out[size] = math.log(root_mean_square(window, floor) / level)
    out[size + 1] = compand(last, bounds)
    out[size + 2] = math.asinh(last / unit)


@njit(cache=True, nogil=True)
def _fit(before, after, told, state, choice, weights, window, likelihood):
    """Whether the arrays fit together, for `before` samples that are given and `after` that are drawn."""
    kind, components = likelihood[0], likelihood[1]
    steps, middle = told.shape
    units, outputs = len(weights.filters_bias), len(weights.outer_bias)
    rate = after // steps if steps > 0 else 0
    return (
        rate > 0
        and steps * rate == after
        and window > 1
        and before >= max(window, rate)
        and len(choice) == after
        and len(state) == middle
        and components > 0
        and outputs == parameters_of_sample(kind, components)
        and weights.read.shape == (middle, 2 * rate + 1)
        and len(weights.read_bias) == middle
        and weights.gru_input.shape == (3 * middle, middle)
        and len(weights.gru_input_bias) == 3 * middle
        and weights.gru_recurrent.shape == (3 * middle, middle)
        and len(weights.gru_recurrent_bias) == 3 * middle
        and weights.to_samples.shape == (rate * units, middle)
        and weights.filters.shape == (units, window + 3)
        and weights.inner.shape == (units, units)
        and len(weights.inner_bias) == units
        and weights.outer.shape == (outputs, units)
        and weights.linear.shape == (outputs, window + 3)
    )


@njit(cache=True, nogil=True)
def _draw_row(signal, told, state, grid, choice, deviate, weights, window, bounds, likelihood, temperature):
    """Fill signal [heard + samples] after its first `heard` samples; the middle tier's state moves on."""
    heard = len(signal) - len(deviate)
    if not _fit(heard, len(deviate), told, state, choice, weights, window, likelihood):
        raise ValueError("the arrays of SampleRNN do not fit together")  # numba does not check indices
    rate, units = len(deviate) // len(told), len(weights.filters_bias)
    components, floor = likelihood[1], 1 / likelihood[5] ** 2
    described = np.empty(window + 3, signal.dtype)
    changes = np.empty(window - 1, signal.dtype)
    first, second = np.empty_like(weights.filters_bias), np.empty_like(weights.inner_bias)
    parameters, room = np.empty_like(weights.outer_bias), np.empty(components)

    for t in range(heard, len(signal)):
        step, place = divmod(t - heard, rate)
        if place == 0:
            _next_state(signal[t - rate : t], told[step], weights, bounds, floor, state)
        before = signal[t - window : t]
        for i in range(window - 1):
            changes[i] = before[i + 1] - before[i]
        level = root_mean_square(changes, floor)
        unit = clamp(level, bounds.loudest)
        _describe(before, level, unit, floor, bounds, described)
        first[:] = weights.filters_bias
        multiply_add(weights.to_samples[place * units : (place + 1) * units], state, first)
        multiply_add(weights.filters, described, first)
        leaky_relu(first, bounds.slope)
        second[:] = weights.inner_bias
        multiply_add(weights.inner, first, second)
        leaky_relu(second, bounds.slope)
        parameters[:] = weights.outer_bias
        multiply_add(weights.outer, second, parameters)
        multiply_add(weights.linear, described, parameters)
        bound(parameters, bounds)
        drawn = draw_sample(
            parameters,
            likelihood,
            clamp(signal[t - 1], bounds.loudest_sample),
            unit,
            grid,
            choice[t - heard],
            deviate[t - heard],
            temperature,
            room,
        )
        signal[t] = drawn
