"""The dilated head's loop over the samples of a frame, compiled by numba for the CPU.

In models/dilated_head.py, which has the equations, a sample takes some ten small operators of torch for each layer.
Here it is one pass over weights that stay in the processor's cache. As in Fast WaveNet (Le Paine et al., 2016), what
came into a layer is remembered until it is read again, a dilation later. Each frame of a batch is computed on its own,
so it comes out the same whatever else is in the batch.
"""

# numba finds the types of the kernel's arguments.
# mypy: allow-untyped-defs, allow-untyped-calls, allow-untyped-decorators

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numba import njit
from torch import Tensor, nn

from zfaudio.ops.sample_bounds import Bounds, bound, clamp, compand
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
from zfaudio.ops.signal_loop import root_mean_square


class DilatedWeights(NamedTuple):
    """Weights [in, out] and biases [out] of the head's layers; those of the convolutions one above the other."""

    enter: Array
    enter_bias: Array
    taps: Array  # [layers, 2 * channels, 2 * channels]
    taps_bias: Array  # [layers, 2 * channels]
    residual: Array  # [layers - 1, channels, channels]
    residual_bias: Array  # [layers - 1, channels]
    skip: Array
    skip_bias: Array
    inner: Array
    inner_bias: Array
    outer: Array
    outer_bias: Array
    linear: Array


def dilated_weights(
    enter: nn.Linear,
    taps: Sequence[nn.Linear],
    residual: Sequence[nn.Linear],
    skip: nn.Linear,
    inner: nn.Linear,
    outer: nn.Linear,
    linear: nn.Linear,
) -> DilatedWeights:
    """The weights of the head's layers as they are now."""

    def array(values: Tensor) -> Array:
        return values.detach().contiguous().numpy()

    def stacked(parts: Iterable[Tensor], *shape: int) -> Array:  # there may be none
        return array(torch.cat([enter.weight.new_empty(0, *shape), *(part.unsqueeze(0) for part in parts)]))

    channels = len(enter.bias)
    return DilatedWeights(
        enter=array(enter.weight.t()),
        enter_bias=array(enter.bias),
        taps=stacked((layer.weight.t() for layer in taps), 2 * channels, 2 * channels),
        taps_bias=stacked((layer.bias for layer in taps), 2 * channels),
        residual=stacked((layer.weight.t() for layer in residual), channels, channels),
        residual_bias=stacked((layer.bias for layer in residual), channels),
        skip=array(skip.weight.t()),
        skip_bias=array(skip.bias),
        inner=array(inner.weight.t()),
        inner_bias=array(inner.bias),
        outer=array(outer.weight.t()),
        outer_bias=array(outer.bias),
        linear=array(linear.weight.t()),
    )


def draw_samples(
    weights: DilatedWeights,
    window: int,
    bounds: Bounds,
    likelihood: SampleLikelihood,
    previous_samples: Tensor,
    memory: Sequence[Tensor],
    condition: Tensor | None,
    grid: Tensor | None,
    noise: Tensor,
    temperature: float,
) -> Tensor:
    """Map standard normal noise to samples, each drawn given the samples before it.

    Args:
        weights: of the head.
        window: number of samples that the level is taken from.
        bounds: of what the head hears and says.
        likelihood: how the head's output describes a density.
        previous_samples: the samples before the first, [batch, window or more].
        memory: what came into each layer before the last of these samples, [batch, dilation, channels].
        condition: what the condition adds to the sums of filters and gates, [batch, layers * 2 * channels].
        grid: of the samples before the first, [batch]; see LogisticMixture.
        noise: [batch, samples, 1], or for a mixture [batch, samples, 2], of which the first number chooses the
            component and the second is for the draw from it.
        temperature: how freely samples are drawn, see distributions.py.

    Returns:
        [batch, samples].
    """
    batch, samples, _ = noise.shape
    dtype, numbers = weights.inner.dtype, likelihood.numbers()
    conditions = as_array(previous_samples.new_empty(batch, 0) if condition is None else condition, dtype)
    dilations = np.array([part.shape[1] for part in memory])
    room = previous_samples.new_zeros(batch, samples, memory[0].shape[2])
    inputs = as_array(torch.cat([values for part in memory for values in (part, room)], dim=1), dtype)

    def draw_row(row: int, signal: Array, grid: float, choice: Array, deviate: Array) -> None:
        _draw_row(
            signal,
            inputs[row],
            dilations,
            conditions[row],
            grid,
            choice,
            deviate,
            weights,
            bounds,
            numbers,
            temperature,
        )

    heard = previous_samples[:, previous_samples.shape[1] - window :]
    return draw_frames(draw_row, heard, grid, noise, likelihood.kind, dtype)


@njit(cache=True, nogil=True)
def _gate(sums, told):
    """`gated` of models/dilated_head.py: sums [2 * channels] to told [channels]."""
    channels = len(told)
    for j in range(channels):
        told[j] = -math.tanh(0.5 * sums[j]) / (1 + math.exp(-sums[channels + j]))


@njit(cache=True, nogil=True)
def _advance(inputs, dilations, step, samples, condition, weights, pair, sums, told):
    """All layers at a sample.

    The first layer's input stands in inputs [sum of (dilation + samples), channels] after those that are remembered;
    what comes into the others is written there. `told` [layers * channels] is what they tell the output.
    """
    channels, start = len(pair) // 2, 0
    for layer in range(len(dilations)):
        now = start + dilations[layer] + step
        pair[:channels] = inputs[start + step]
        pair[channels:] = inputs[now]
        affine(pair, weights.taps[layer], weights.taps_bias[layer], sums)
        own = told[layer * channels : (layer + 1) * channels]
        _gate(sums, own)
        start += dilations[layer] + samples
        if layer + 1 < len(dilations):
            following = inputs[start + dilations[layer + 1] + step]
            for j in range(channels):
                following[j] = pair[channels + j] + weights.residual_bias[layer, j]
            add_product(own, weights.residual[layer], following)
        if len(condition) > 0:
            for j in range(2 * channels):
                sums[j] += condition[2 * layer * channels + j]
            _gate(sums, own)


@njit(cache=True, nogil=True)
def _fit(signal, inputs, dilations, condition, choice, deviate, weights, likelihood):
    """Whether the arrays fit together."""
    samples, layers, channels = len(deviate), len(dilations), len(weights.enter_bias)
    window, units, outputs = len(signal) - samples, len(weights.inner_bias), len(weights.outer_bias)
    kind, components = likelihood[0], likelihood[1]
    return (
        window > 1
        and layers > 0
        and dilations.min() > 0
        and len(choice) == samples
        and components > 0
        and outputs == parameters_of_sample(kind, components)
        and inputs.shape == (dilations.sum() + layers * samples, channels)
        and len(condition) in (0, 2 * layers * channels)
        and weights.enter.shape == (3, channels)
        and weights.taps.shape == (layers, 2 * channels, 2 * channels)
        and weights.taps_bias.shape == (layers, 2 * channels)
        and weights.residual.shape == (layers - 1, channels, channels)
        and weights.residual_bias.shape == (layers - 1, channels)
        and weights.skip.shape == (layers * channels, units)
        and len(weights.skip_bias) == units
        and weights.inner.shape == (units, units)
        and weights.outer.shape == (units, outputs)
        and weights.linear.shape == (window - 1, outputs)
    )


@njit(cache=True, nogil=True)
def _draw_row(signal, inputs, dilations, condition, grid, choice, deviate, weights, bounds, likelihood, temperature):
    """Fill signal [window + samples] after its first `window` samples."""
    if not _fit(signal, inputs, dilations, condition, choice, deviate, weights, likelihood):
        raise ValueError("the arrays of the head do not fit together")  # numba does not check indices
    samples, channels = len(deviate), len(weights.enter_bias)
    window, floor = len(signal) - samples, 1 / likelihood[5] ** 2
    changes = np.empty(window - 1, signal.dtype)
    heard = np.empty(3, signal.dtype)
    pair, sums = np.empty(2 * channels, signal.dtype), np.empty(2 * channels, signal.dtype)
    told = np.empty(len(dilations) * channels, signal.dtype)
    first, second = np.empty_like(weights.skip_bias), np.empty_like(weights.inner_bias)
    parameters, room = np.empty_like(weights.outer_bias), np.empty(likelihood[1])

    for t in range(samples):
        last = signal[t + window - 1]
        for i in range(window - 1):
            changes[i] = signal[t + i + 1] - signal[t + i]
        unit = clamp(root_mean_square(changes, floor), bounds.loudest)
        for i in range(window - 1):
            changes[i] /= unit
        heard[0], heard[1], heard[2] = compand(last, bounds), math.asinh(changes[window - 2]), math.log(unit)
        affine(heard, weights.enter, weights.enter_bias, inputs[dilations[0] + t])
        _advance(inputs, dilations, t, samples, condition, weights, pair, sums, told)
        affine(told, weights.skip, weights.skip_bias, first)
        leaky_relu(first, bounds.slope)
        affine(first, weights.inner, weights.inner_bias, second)
        leaky_relu(second, bounds.slope)
        affine(second, weights.outer, weights.outer_bias, parameters)
        add_product(changes, weights.linear, parameters)
        bound(parameters, bounds)
        signal[t + window] = draw_sample(
            parameters, likelihood, last, unit, grid, choice[t], deviate[t], temperature, room
        )
