"""The autoregressive head's loop over the samples of a frame, compiled by numba for the CPU.

In models/autoregressive_head.py a sample takes some fifty small operators of torch, each of which takes longer to start
than to compute. Here it is one pass over weights that stay in the processor's cache. Each frame of a batch is computed
on its own, so it comes out the same whatever else is in the batch.
"""

# numba finds the types of the kernel's arguments.
# mypy: allow-untyped-defs, allow-untyped-calls, allow-untyped-decorators

import math
from typing import NamedTuple

import numpy as np
from numba import njit
from torch import Tensor, nn

from zfaudio.ops.sample_draw import (
    Array,
    SampleLikelihood,
    add_product,
    affine,
    as_array,
    draw_frames,
    draw_sample,
    leaky_relu,
    parameters_of_sample,
)


class HeadWeights(NamedTuple):
    """Weights [in, out] and biases [out] of the head's layers."""

    filters: Array
    filters_bias: Array
    inner: Array
    inner_bias: Array
    outer: Array
    outer_bias: Array
    linear: Array


def head_weights(filters: nn.Linear, inner: nn.Linear, outer: nn.Linear, linear: nn.Linear) -> HeadWeights:
    """The weights of the head's layers as they are now."""

    def array(values: Tensor) -> Array:
        return values.detach().t().contiguous().numpy()

    return HeadWeights(
        filters=array(filters.weight),
        filters_bias=array(filters.bias),
        inner=array(inner.weight),
        inner_bias=array(inner.bias),
        outer=array(outer.weight),
        outer_bias=array(outer.bias),
        linear=array(linear.weight),
    )


def draw_samples(
    weights: HeadWeights,
    likelihood: SampleLikelihood,
    slope: float,
    previous_samples: Tensor,
    adaptation: tuple[Tensor, Tensor] | None,
    grid: Tensor | None,
    noise: Tensor,
    temperature: float,
) -> Tensor:
    """Map standard normal noise to samples, each drawn given the samples before it.

    Args:
        weights: of the head.
        likelihood: how the head's output describes a density.
        slope: of the head's leaky ReLU.
        previous_samples: the samples before the first, [batch, window].
        adaptation: gain and shift of the units of the first layer, [batch, head_size] each.
        grid: of the samples before the first, [batch]; see LogisticMixture.
        noise: [batch, samples, 1], or for a mixture [batch, samples, 2], of which the first number chooses the
            component and the second is for the draw from it.
        temperature: how freely samples are drawn, see distributions.py.

    Returns:
        [batch, samples].
    """
    batch, window = previous_samples.shape
    units, dtype = len(weights.filters_bias), weights.filters.dtype
    if adaptation is None:
        gain, shift = previous_samples.new_ones(batch, units), previous_samples.new_zeros(batch, units)
    else:
        gain, shift = adaptation
    gains, shifts = as_array(gain, dtype), as_array(shift, dtype)
    numbers = likelihood.numbers()

    def draw_row(row: int, signal: Array, grid: float, choice: Array, deviate: Array) -> None:
        _draw_row(signal, window, gains[row], shifts[row], grid, choice, deviate, *weights, numbers, slope, temperature)

    return draw_frames(draw_row, previous_samples, grid, noise, likelihood.kind, dtype)


@njit(cache=True, nogil=True)
def _describe(window, floor, out):
    """Write the head's input for a window to `out`: scaled changes, the last sample, levels.

    Returns the level of the changes.
    """
    squares, changes = 0.0, 0.0
    for i in range(len(window)):
        squares += window[i] * window[i]
    for i in range(len(window) - 1):
        out[i] = window[i + 1] - window[i]
        changes += out[i] * out[i]
    loudness = math.sqrt(squares / len(window) + floor)
    level = math.sqrt(changes / (len(window) - 1) + floor)
    last = len(window) - 1
    for i in range(last):
        out[i] /= level
    out[last] = window[last] / loudness
    out[last + 1] = math.log(level)
    out[last + 2] = math.log(loudness / level)
    return level


@njit(cache=True, nogil=True)
def _draw_row(
    signal,
    window,
    gain,
    shift,
    grid,
    choice,
    deviate,
    filters,
    filters_bias,
    inner,
    inner_bias,
    outer,
    outer_bias,
    linear,
    likelihood,
    slope,
    temperature,
):
    """Fill signal [window + samples] after its first `window` samples."""
    inputs, hidden, outputs = window + 2, len(inner_bias), len(outer_bias)
    kind, components, deviation = likelihood[0], likelihood[1], likelihood[5]
    if (
        window < 2
        or components < 1
        or outputs != parameters_of_sample(kind, components)
        or not len(signal) - window == len(choice) == len(deviate)
        or not len(filters_bias) == len(gain) == len(shift)
        or filters.shape != (inputs, len(filters_bias))
        or inner.shape != (len(filters_bias), hidden)
        or outer.shape != (hidden, outputs)
        or linear.shape != (inputs, outputs)
    ):
        raise ValueError("the arrays of the head do not fit together")  # numba does not check indices
    head_input = np.empty(window + 2, signal.dtype)
    first, second = np.empty_like(filters_bias), np.empty_like(inner_bias)
    parameters = np.empty_like(outer_bias)
    weights = np.empty(components)
    for t in range(len(deviate)):
        origin = signal[t + window - 1]
        level = _describe(signal[t : t + window], 1 / deviation**2, head_input)
        affine(head_input, filters, filters_bias, first)
        for j in range(len(first)):
            first[j] = shift[j] + first[j] * gain[j]
        leaky_relu(first, slope)
        affine(first, inner, inner_bias, second)
        leaky_relu(second, slope)
        affine(second, outer, outer_bias, parameters)
        add_product(head_input, linear, parameters)
        signal[t + window] = draw_sample(
            parameters, likelihood, origin, level, grid, choice[t], deviate[t], temperature, weights
        )
