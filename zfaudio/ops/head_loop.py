"""A frame drawn sample by sample on a CPU: the loop of models/autoregressive.py compiled by numba.

A sample takes some fifty small operators of torch, each of which takes longer to start than to compute; here it is one
pass over weights that lie in the cache. Lanes are computed apart, and so come out the same whatever stands beside them.
"""

# The kernel's types are numba's to find: those of the head's weights.
# mypy: allow-untyped-defs, allow-untyped-calls

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


class Layers(NamedTuple):
    """Of the head: matrices [in, out] and biases [out]."""

    filters: NDArray
    filters_bias: NDArray
    inner: NDArray
    inner_bias: NDArray
    outer: NDArray
    outer_bias: NDArray
    linear: NDArray


@dataclass(frozen=True)
class Reading:
    """How the head's output is read as the density of a sample, see `DensityLayout` in models/outputs.py."""

    kind: str  # of KINDS
    components: int
    min_deviation: float
    narrowest: float  # scale of a logistic, standardized
    mean: float  # of the quantizer
    deviation: float


def layers_of(filters: nn.Linear, inner: nn.Linear, outer: nn.Linear, linear: nn.Linear) -> Layers:
    """The head's layers as they are now."""
    parts = [part for layer in (filters, inner, outer) for part in (layer.weight, layer.bias)]
    return Layers(*(part.detach().t().contiguous().numpy() for part in (*parts, linear.weight)))


def draw_samples(
    layers: Layers,
    reading: Reading,
    slope: float,
    before: Tensor,
    adaptation: tuple[Tensor, Tensor] | None,
    noise: Tensor,
    temperature: float,
) -> Tensor:
    """The samples that standard normal noise stands for, each given those before it.

    Args:
        layers: of the head.
        reading: of its output.
        slope: of its leaky ReLU.
        before: the samples before the first, [lanes, window].
        adaptation: factors and shifts of the first layer's units, [lanes, head_size] each.
        noise: [lanes, samples, 1], or of a mixture [lanes, samples, 2]: for its component, for the draw from it.
        temperature: shrinks the draw towards the mean.

    Returns:
        [lanes, samples].
    """
    lanes, samples, _ = noise.shape
    window, units = before.shape[1], len(layers.filters_bias)
    if adaptation is None:
        adaptation = before.new_ones(lanes, units), before.new_zeros(lanes, units)
    place = noise[..., -1]
    if reading.kind == "logistic_mixture":  # the logistic's quantile, see LogisticMixture.at
        place = torch.special.log_ndtr(place) - torch.special.log_ndtr(-place)
    parts = *adaptation, torch.special.ndtr(noise[..., 0]), place
    dtype = layers.filters.dtype
    gain, shift, choice, places = (part.to(torch.float64).numpy().astype(dtype, order="C") for part in parts)
    line = np.empty((lanes, window + samples), dtype)
    line[:, :window] = before.numpy()
    floor = 2 * math.log(reading.min_deviation) if reading.min_deviation > 0 else -math.inf

    def draw(lane: int) -> None:
        _draw_lane(
            *(line[lane], window, gain[lane], shift[lane], choice[lane], places[lane], *layers),
            *(KINDS.index(reading.kind), reading.components, floor, math.log(reading.narrowest)),
            *(reading.mean, reading.deviation, slope, temperature),
        )

    if lanes == 1:
        draw(0)
    else:
        with ThreadPoolExecutor(min(lanes, torch.get_num_threads())) as pool:  # the kernel releases the GIL
            list(pool.map(draw, range(lanes)))
    return torch.from_numpy(line[:, window:].copy())


@njit(cache=True, nogil=True)
def _affine(values, matrix, bias, out):
    for j in range(len(out)):
        out[j] = bias[j]
    for k in range(len(values)):
        value = values[k]
        for j in range(len(out)):
            out[j] += matrix[k, j] * value


@njit(cache=True, nogil=True)
def _leak(values, slope):
    for j in range(len(values)):
        if values[j] < 0:
            values[j] *= slope


@njit(cache=True, nogil=True)
def _describe(window, floor, out):
    """What the head reads of a window: scaled changes, the last sample, levels. Returns the level of changes."""
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
def _mix(logits, weights):
    """Softmax."""
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
def _log_add(one, other):
    largest, smallest = max(one, other), min(one, other)
    return largest if smallest == -math.inf else largest + math.log1p(math.exp(smallest - largest))


@njit(cache=True, nogil=True)
def _draw_lane(
    line,
    window,
    gain,
    shift,
    choice,
    place,
    filters,
    filters_bias,
    inner,
    inner_bias,
    outer,
    outer_bias,
    linear,
    kind,
    components,
    floor_log_variance,
    least_log_scale,
    mean,
    deviation,
    slope,
    temperature,
):
    """Fill line [window + samples] after its first `window` samples."""
    read = np.empty(window + 2, line.dtype)
    first, second = np.empty_like(filters_bias), np.empty_like(inner_bias)
    parameters, direct = np.empty_like(outer_bias), np.empty_like(outer_bias)
    none = np.zeros_like(outer_bias)
    weights = np.empty(components)
    lowest, highest = (-32768 - mean) / deviation, (32767 - mean) / deviation
    for t in range(len(place)):
        origin = line[t + window - 1]
        level = _describe(line[t : t + window], 1 / deviation**2, read)
        _affine(read, filters, filters_bias, first)
        for j in range(len(first)):
            first[j] = shift[j] + first[j] * gain[j]
        _leak(first, slope)
        _affine(first, inner, inner_bias, second)
        _leak(second, slope)
        _affine(second, outer, outer_bias, parameters)
        _affine(read, linear, none, direct)
        for j in range(len(parameters)):
            parameters[j] += direct[j]
        if kind == 0:
            log_variance = _log_add(parameters[1] + 2 * math.log(level), floor_log_variance)
            center = origin + parameters[0] * level
            draw = center + math.exp(0.5 * log_variance) * place[t]
        else:
            logits, means, scales = (
                parameters[:components],
                parameters[components : 2 * components],
                parameters[2 * components :],
            )
            _mix(logits, weights)
            center = 0.0
            for c in range(components):
                center += weights[c] * (origin + means[c] * level)
            chosen = _choose(weights, choice[t])
            if kind == 1:
                scale = math.exp(0.5 * _log_add(scales[chosen] + 2 * math.log(level), floor_log_variance))
            else:
                scale = math.exp(max(scales[chosen] + math.log(level), least_log_scale))
            draw = origin + means[chosen] * level + scale * place[t]
        draw = center + temperature * (draw - center)
        if kind == 2:
            if draw < lowest:  # what is not a number stays so
                draw = lowest
            elif draw > highest:
                draw = highest
            draw = (np.rint(draw * deviation + mean) - mean) / deviation
        line[t + window] = draw
