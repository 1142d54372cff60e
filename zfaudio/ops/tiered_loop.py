"""The tiered head's loop over the samples of a frame, compiled by numba for the CPU.

In models/tiered_head.py, which has the equations, a sample takes some sixty small operators of torch, each of which
takes longer to start than to compute. Here it is one pass over weights that mostly stay in the processor's cache. Each
frame of a batch is computed on its own, so it comes out the same whatever else is in the batch.
"""

# numba finds the types of the kernel's arguments.
# mypy: allow-untyped-defs, allow-untyped-calls, allow-untyped-decorators

import math
from typing import NamedTuple

import numpy as np
from numba import njit
from torch import Tensor, nn

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
from zfaudio.ops.signal_loop import (
    dot,
    leave_residuals,
    most_alike,
    multiply_add,
    predict_backward,
    root_mean_square,
)


class TieredWeights(NamedTuple):
    """Weights [out, in] and biases [out] of the head's layers."""

    middle_samples: Array
    middle_samples_bias: Array
    middle_condition: Array
    middle_inner: Array
    middle_inner_bias: Array
    adapt: Array
    adapt_bias: Array
    filters: Array
    filters_bias: Array
    inner: Array
    inner_bias: Array
    outer: Array
    outer_bias: Array
    linear: Array
    taper: Array  # of the window of the linear prediction, [reach]


class TieredSizes(NamedTuple):
    """How far the tiers hear, in samples, and the order of the linear prediction."""

    tier: int  # for each step of the middle tier
    reach: int  # that the middle tier hears
    window: int  # whose residuals the sample tier hears
    lags: int  # on each side of the one a pitch period back
    order: int


def tiered_weights(
    middle_samples: nn.Linear,
    middle_condition: nn.Linear | None,
    middle_inner: nn.Linear,
    adapt: nn.Linear,
    filters: nn.Linear,
    inner: nn.Linear,
    outer: nn.Linear,
    linear: nn.Linear,
    taper: Tensor,
) -> TieredWeights:
    """The weights of the head's layers as they are now. They are not copied."""

    def array(values: Tensor) -> Array:
        return values.detach().contiguous().numpy()

    weights = [array(layer.weight) for layer in (middle_samples, middle_inner, adapt, filters, inner, outer, linear)]
    biases = [array(layer.bias) for layer in (middle_samples, middle_inner, adapt, filters, inner, outer)]
    condition = np.empty((len(biases[0]), 0), biases[0].dtype)
    return TieredWeights(
        middle_samples=weights[0],
        middle_samples_bias=biases[0],
        middle_condition=condition if middle_condition is None else array(middle_condition.weight),
        middle_inner=weights[1],
        middle_inner_bias=biases[1],
        adapt=weights[2],
        adapt_bias=biases[2],
        filters=weights[3],
        filters_bias=biases[3],
        inner=weights[4],
        inner_bias=biases[4],
        outer=weights[5],
        outer_bias=biases[5],
        linear=weights[6],
        taper=array(taper),
    )


def draw_samples(
    weights: TieredWeights,
    sizes: TieredSizes,
    bounds: Bounds,
    likelihood: SampleLikelihood,
    previous_samples: Tensor,
    condition: Tensor,
    grid: Tensor | None,
    noise: Tensor,
    temperature: float,
) -> Tensor:
    """Map standard normal noise to samples, each drawn given the samples before it.

    Args:
        weights: of the head.
        sizes: of the head.
        bounds: of the head.
        likelihood: how the head's output describes a density.
        previous_samples: the samples before the first, [batch, heard].
        condition: of the frame, [batch, size].
        grid: of the samples before the first, [batch]; see LogisticMixture.
        noise: [batch, samples, 1], or for a mixture [batch, samples, 2], of which the first number chooses the
            component and the second is for the draw from it.
        temperature: how freely samples are drawn, see distributions.py.

    Returns:
        [batch, samples].
    """
    dtype, numbers = weights.inner.dtype, likelihood.numbers()
    conditions = as_array(condition, dtype)

    def draw_row(row: int, signal: Array, grid: float, choice: Array, deviate: Array) -> None:
        _draw_row(signal, conditions[row], grid, choice, deviate, weights, sizes, bounds, numbers, temperature)

    return draw_frames(draw_row, previous_samples, grid, noise, likelihood.kind, dtype)


@njit(cache=True, nogil=True)
def _hear(samples, companded, level, conditioned, weights, bounds, adapted):
    """The middle tier's units, from samples [reach] and their level, to `adapted` [3 * units]."""
    reach = len(samples)
    heard = np.empty(2 * reach + 1, samples.dtype)
    for i in range(reach):
        heard[i] = samples[i] / level
    heard[reach : 2 * reach] = companded
    heard[2 * reach] = math.log(clamp(level, bounds.loudest))
    first = conditioned.copy()
    multiply_add(weights.middle_samples, heard, first)
    leaky_relu(first, bounds.slope)
    second = first + weights.middle_inner_bias
    multiply_add(weights.middle_inner, first, second)
    leaky_relu(second, bounds.slope)
    adapted[:] = weights.adapt_bias
    multiply_add(weights.adapt, second, adapted)


@njit(cache=True, nogil=True)
def _describe(residuals, periods, predicted, unit, level, heard_level, strength, bounds, out):
    """The input of the sample tier: residuals [window] before a sample, and those around the one a lag before."""
    window = len(residuals)
    for i in range(window):
        out[i] = math.asinh(residuals[i] / unit)
    out[window] = math.log(unit)
    out[window + 1] = math.log(heard_level / level)
    out[window + 2] = compand(predicted, bounds)
    out[window + 3] = math.asinh(predicted / unit)
    for i in range(len(periods)):
        out[window + 4 + i] = math.asinh(periods[i] / unit)
    if len(periods) > 0:
        out[window + 4 + len(periods)] = strength


@njit(cache=True, nogil=True)
def _respond(heard, adapted, weights, bounds, first, second, parameters):
    """The sample tier: from its input to the `parameters` of a density."""
    units = len(first)
    first[:] = weights.filters_bias
    multiply_add(weights.filters, heard, first)
    for j in range(units):
        first[j] = adapted[units + j] + first[j] * (1 + adapted[j])
    leaky_relu(first, bounds.slope)
    second[:] = weights.inner_bias
    multiply_add(weights.inner, first, second)
    for j in range(units):
        second[j] += adapted[2 * units + j]
    leaky_relu(second, bounds.slope)
    parameters[:] = weights.outer_bias
    multiply_add(weights.outer, second, parameters)
    multiply_add(weights.linear, heard, parameters)
    bound(parameters, bounds)


@njit(cache=True, nogil=True)
def _fit(before, after, condition, choice, weights, sizes, likelihood):
    """Whether the arrays fit together, for `before` samples that are given and `after` that are drawn."""
    tier, reach, window, lags, order = sizes
    kind, components = likelihood[0], likelihood[1]
    middle, units, outputs = len(weights.middle_inner_bias), len(weights.inner_bias), len(weights.outer_bias)
    inputs = window + 4 + (2 * lags + 2 if lags > 0 else 0)
    farthest = reach // 2 + lags if lags > 0 else 0
    return (
        tier > 0
        and window > 0
        and 0 < order < reach
        and 0 <= lags < tier
        and (lags == 0 or tier <= reach // 2)
        and before >= max(reach, window + order, farthest + order)
        and after % tier == 0
        and len(choice) == after
        and components > 0
        and outputs == parameters_of_sample(kind, components)
        and weights.middle_samples.shape == (middle, 2 * reach + 1)
        and len(weights.middle_samples_bias) == middle
        and weights.middle_condition.shape == (middle, len(condition))
        and weights.middle_inner.shape == (middle, middle)
        and weights.adapt.shape == (3 * units, middle)
        and len(weights.adapt_bias) == 3 * units
        and weights.filters.shape == (units, inputs)
        and len(weights.filters_bias) == units
        and weights.inner.shape == (units, units)
        and weights.outer.shape == (outputs, units)
        and weights.linear.shape == (outputs, inputs)
        and len(weights.taper) == reach
    )


@njit(cache=True, nogil=True)
def _draw_row(signal, condition, grid, choice, deviate, weights, sizes, bounds, likelihood, temperature):
    """Fill signal [heard + samples] after its first `heard` samples."""
    heard = len(signal) - len(deviate)
    if not _fit(heard, len(deviate), condition, choice, weights, sizes, likelihood):
        raise ValueError("the arrays of the head do not fit together")  # numba does not check indices
    tier, reach, window, lags, order = sizes
    components, floor = likelihood[1], 1 / likelihood[5] ** 2
    known = max(window, reach // 2 + lags) if lags > 0 else window  # residuals before a step
    around = 2 * lags + 1 if lags > 0 else 0

    conditioned = weights.middle_samples_bias.copy()
    multiply_add(weights.middle_condition, condition, conditioned)
    companded = np.empty_like(signal)
    for i in range(heard - reach, heard):
        companded[i] = compand(signal[i], bounds)
    residuals = np.empty(known + tier, signal.dtype)
    backward = np.empty(order, signal.dtype)
    adapted = np.empty_like(weights.adapt_bias)
    heard_now = np.empty(weights.filters.shape[1], signal.dtype)
    first, second = np.empty_like(weights.filters_bias), np.empty_like(weights.inner_bias)
    parameters, room = np.empty_like(weights.outer_bias), np.empty(components)

    for step in range(0, len(deviate), tier):
        start = heard + step
        samples = signal[start - reach : start]
        heard_level = root_mean_square(samples, floor)
        _hear(samples, companded[start - reach : start], heard_level, conditioned, weights, bounds, adapted)
        exact = samples.astype(np.float64)
        lag, strength = most_alike(exact, tier) if lags > 0 else (known, 0.0)
        predict_backward(exact * weights.taper, floor, backward)
        leave_residuals(signal[start - known - order : start], backward, residuals[:known])
        for t in range(start, start + tier):
            place = known + t - start  # among the residuals
            predicted = dot(backward, signal[t - order : t])
            recent = residuals[place - window : place]
            back = place - lag - lags if lags > 0 else 0
            level = root_mean_square(recent, floor)
            unit = clamp(level, bounds.loudest)
            periods = residuals[back : back + around]
            _describe(recent, periods, predicted, unit, level, heard_level, strength, bounds, heard_now)
            _respond(heard_now, adapted, weights, bounds, first, second, parameters)
            origin = clamp(predicted, bounds.loudest_sample)
            drawn = draw_sample(
                parameters,
                likelihood,
                origin,
                unit,
                grid,
                choice[t - heard],
                deviate[t - heard],
                temperature,
                room,
            )
            signal[t] = drawn
            companded[t] = compand(signal[t], bounds)
            residuals[place] = signal[t] - predicted
