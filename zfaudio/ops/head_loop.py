"""The autoregressive head's loop over the samples of a frame, compiled by numba for the CPU.

In models/autoregressive_head.py a sample takes some fifty small operators of torch, each of which takes longer to start
than to compute. Here it is one pass over weights that stay in the processor's cache. Each frame of a batch is computed
on its own, so it comes out the same whatever else is in the batch.
"""

# numba finds the types of the kernel's arguments.
# mypy: allow-untyped-defs, allow-untyped-calls, allow-untyped-decorators

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray
from torch import Tensor, nn

KINDS = ("gaussian", "gaussian_mixture", "logistic_mixture")
GAUSSIAN, GAUSSIAN_MIXTURE, LOGISTIC_MIXTURE = range(3)

Array = NDArray[np.floating]


class HeadWeights(NamedTuple):
    """Weights [in, out] and biases [out] of the head's layers."""

    filters: Array
    filters_bias: Array
    inner: Array
    inner_bias: Array
    outer: Array
    outer_bias: Array
    linear: Array


@dataclass(frozen=True)
class SampleLikelihood:
    """How the head's output describes the density of a sample; see models/frame_likelihoods.py.

    Args:
        kind: one of KINDS.
        components: number of components of a mixture.
        min_deviation: floor of the deviation of Gaussians, standardized.
        min_scale: floor of the scale of logistics, standardized.
        mean: of the quantizer.
        deviation: of the quantizer.
    """

    kind: str
    components: int
    min_deviation: float
    min_scale: float
    mean: float
    deviation: float


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
        noise: [batch, samples, 1], or for a mixture [batch, samples, 2], of which the first number chooses the
            component and the second is for the draw from it.
        temperature: scales the distance of each draw from the mean.

    Returns:
        [batch, samples].
    """
    batch, samples, _ = noise.shape
    window, units = previous_samples.shape[1], len(weights.filters_bias)
    if adaptation is None:
        gain, shift = previous_samples.new_ones(batch, units), previous_samples.new_zeros(batch, units)
    else:
        gain, shift = adaptation
    choice, deviate = torch.special.ndtr(noise[..., 0]), noise[..., -1]
    if likelihood.kind == "logistic_mixture":  # the logistic's quantile, see LogisticMixture.at
        deviate = torch.special.log_ndtr(deviate) - torch.special.log_ndtr(-deviate)
    dtype = weights.filters.dtype

    def array(values: Tensor) -> Array:
        return values.to(torch.float64).numpy().astype(dtype, order="C")

    gains, shifts, choices, deviates = array(gain), array(shift), array(choice), array(deviate)
    signal = np.empty((batch, window + samples), dtype)
    signal[:, :window] = previous_samples.numpy()
    min_log_variance = 2 * math.log(likelihood.min_deviation) if likelihood.min_deviation > 0 else -math.inf

    def draw(row: int) -> None:
        _draw_row(
            signal[row],
            window,
            gains[row],
            shifts[row],
            choices[row],
            deviates[row],
            weights.filters,
            weights.filters_bias,
            weights.inner,
            weights.inner_bias,
            weights.outer,
            weights.outer_bias,
            weights.linear,
            KINDS.index(likelihood.kind),
            likelihood.components,
            min_log_variance,
            math.log(likelihood.min_scale),
            likelihood.mean,
            likelihood.deviation,
            slope,
            temperature,
        )

    if batch == 1:
        draw(0)
    else:
        with ThreadPoolExecutor(min(batch, torch.get_num_threads())) as pool:  # the kernel releases the GIL
            list(pool.map(draw, range(batch)))
    return torch.from_numpy(signal[:, window:].copy())


@njit(cache=True, nogil=True)
def _affine(values, matrix, bias, out):
    for j in range(len(out)):
        out[j] = bias[j]
    for k in range(len(values)):
        value = values[k]
        for j in range(len(out)):
            out[j] += matrix[k, j] * value


@njit(cache=True, nogil=True)
def _leaky_relu(values, slope):
    for j in range(len(values)):
        if values[j] < 0:
            values[j] *= slope


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
def _softmax(logits, weights):
    largest = logits.max()
    total = 0.0
    for c in range(len(logits)):
        weights[c] = math.exp(logits[c] - largest)
        total += weights[c]
    for c in range(len(logits)):
        weights[c] /= total


@njit(cache=True, nogil=True)
def _choose(weights, uniform):
    cumulative = 0.0
    chosen = 0
    for c in range(len(weights)):
        cumulative += weights[c]
        chosen += uniform > cumulative
    return min(chosen, len(weights) - 1)


@njit(cache=True, nogil=True)
def _log_add_exp(left, right):
    largest, smallest = max(left, right), min(left, right)
    return largest if smallest == -math.inf else largest + math.log1p(math.exp(smallest - largest))


@njit(cache=True, nogil=True)
def _draw_row(
    signal,
    window,
    gain,
    shift,
    choice,
    deviate,
    filters,
    filters_bias,
    inner,
    inner_bias,
    outer,
    outer_bias,
    linear,
    kind,
    components,
    min_log_variance,
    min_log_scale,
    mean,
    deviation,
    slope,
    temperature,
):
    """Fill signal [window + samples] after its first `window` samples."""
    inputs, hidden, outputs = window + 2, len(inner_bias), len(outer_bias)
    if (
        window < 2
        or components < 1
        or outputs != (2 if kind == GAUSSIAN else 3 * components)
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
    parameters, direct = np.empty_like(outer_bias), np.empty_like(outer_bias)
    no_bias = np.zeros_like(outer_bias)
    weights = np.empty(components)
    lowest, highest = (-32768 - mean) / deviation, (32767 - mean) / deviation
    for t in range(len(deviate)):
        origin = signal[t + window - 1]
        level = _describe(signal[t : t + window], 1 / deviation**2, head_input)
        _affine(head_input, filters, filters_bias, first)
        for j in range(len(first)):
            first[j] = shift[j] + first[j] * gain[j]
        _leaky_relu(first, slope)
        _affine(first, inner, inner_bias, second)
        _leaky_relu(second, slope)
        _affine(second, outer, outer_bias, parameters)
        _affine(head_input, linear, no_bias, direct)
        for j in range(len(parameters)):
            parameters[j] += direct[j]
        if kind == GAUSSIAN:
            log_variance = _log_add_exp(parameters[1] + 2 * math.log(level), min_log_variance)
            center = origin + parameters[0] * level
            draw = center + math.exp(0.5 * log_variance) * deviate[t]
        else:
            logits, means, scales = (
                parameters[:components],
                parameters[components : 2 * components],
                parameters[2 * components :],
            )
            _softmax(logits, weights)
            center = 0.0
            for c in range(components):
                center += weights[c] * (origin + means[c] * level)
            chosen = _choose(weights, choice[t])
            if kind == GAUSSIAN_MIXTURE:
                scale = math.exp(0.5 * _log_add_exp(scales[chosen] + 2 * math.log(level), min_log_variance))
            else:
                scale = math.exp(max(scales[chosen] + math.log(level), min_log_scale))
            draw = origin + means[chosen] * level + scale * deviate[t]
        draw = center + temperature * (draw - center)
        if kind == LOGISTIC_MIXTURE:
            if draw < lowest:  # written so that NaN stays NaN
                draw = lowest
            elif draw > highest:
                draw = highest
            draw = (np.rint(draw * deviation + mean) - mean) / deviation
        signal[t + window] = draw
