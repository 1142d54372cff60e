"""Sums over windows, the pitch lag and the linear prediction, compiled by numba for loops over samples on the CPU.

The last two are twins of pitch_lag.py and linear_prediction.py, computed in float64, which costs next to nothing.
"""

# numba finds the types of the kernels' arguments.
# mypy: allow-untyped-defs, allow-untyped-calls, allow-untyped-decorators

import math

import numpy as np
from numba import njit

from zfaudio.ops.linear_prediction import EXPANSION, WHITE_NOISE
from zfaudio.ops.pitch_lag import LIKENESS_STEPS, SILENCE


@njit(cache=True, nogil=True, fastmath={"reassoc"})
def dot(left, right):
    """Sum of the products of two arrays of one length, in the order in which vectors compute it fastest."""
    total = left.dtype.type(0)
    for i in range(len(left)):
        total += left[i] * right[i]
    return total


@njit(cache=True, nogil=True)
def multiply_add(matrix, values, out):
    """Add matrix [m, n] times values [n] to out [m]."""
    for j in range(len(out)):
        out[j] += dot(matrix[j], values)


@njit(cache=True, nogil=True)
def root_mean_square(values, floor):
    """Of values [n], with a floor under their mean square."""
    return math.sqrt(dot(values, values) / len(values) + floor)


@njit(cache=True, nogil=True)
def most_alike(samples, shortest):
    """`pitch_lag` of samples [n] in float64: the lag, and the likeness there."""
    half = len(samples) // 2
    recent = samples[len(samples) - half :]
    sums = np.zeros(len(samples) + 1)
    for i in range(len(samples)):
        sums[i + 1] = sums[i] + samples[i] * samples[i]
    power = dot(recent, recent)
    chosen, strength, largest = shortest, 0.0, -math.inf
    for lag in range(shortest, half + 1):
        start = len(samples) - half - lag
        energy = max(0.0, sums[start + half] - sums[start])
        product = dot(recent, samples[start : start + half])
        likeness = product / math.sqrt(energy * power + (SILENCE * half) ** 2)
        rounded = np.rint(LIKENESS_STEPS * likeness)
        if rounded > largest:
            chosen, strength, largest = lag, likeness, rounded
    return chosen, strength


@njit(cache=True, nogil=True)
def predict_backward(tapered, floor, backward):
    """`predict_linearly` of tapered samples [n] in float64; writes the coefficients to `backward` [order], a_1 last."""
    order, size = len(backward), len(tapered)
    correlations = np.empty(order + 1)
    for k in range(order + 1):
        correlations[k] = dot(tapered[k:], tapered[: size - k])
    error = correlations[0] * (1 + WHITE_NOISE) + size * floor
    coefficients, before = np.zeros(order), np.zeros(order)
    for k in range(order):
        remains = correlations[k + 1]
        for j in range(k):
            remains -= coefficients[j] * correlations[k - j]
        reflection = remains / error
        before[:k] = coefficients[:k]
        for j in range(k):
            coefficients[j] -= reflection * before[k - 1 - j]
        coefficients[k] = reflection
        error *= 1 - reflection * reflection
    for k in range(order):
        backward[order - 1 - k] = coefficients[k] * EXPANSION ** (k + 1)


@njit(cache=True, nogil=True)
def leave_residuals(samples, backward, out):
    """What the linear prediction leaves of samples [order + n], to out [n]."""
    for i in range(len(out)):
        out[i] = samples[i + len(backward)]
    for k in range(len(backward)):
        coefficient = backward[k]
        for i in range(len(out)):
            out[i] -= coefficient * samples[i + k]
