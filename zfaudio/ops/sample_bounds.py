"""What bounds the compiled loops over samples; twins of models/bounds.py."""

# numba finds the types of the kernels' arguments.
# mypy: allow-untyped-defs, allow-untyped-calls, allow-untyped-decorators

import math
from typing import NamedTuple

from numba import njit


class Bounds(NamedTuple):
    """What bounds inputs and outputs, and the slope of the leaky ReLUs; the constants of models/bounds.py."""

    slope: float
    loudest: float
    loudest_sample: float
    most: float


@njit(cache=True, nogil=True)
def clamp(value, limit):
    """To [-limit, limit]; written so that NaN stays NaN."""
    return limit if value > limit else -limit if value < -limit else value


@njit(cache=True, nogil=True)
def compand(sample, bounds):
    """`companded`."""
    return math.asinh(10 * clamp(sample, bounds.loudest_sample))


@njit(cache=True, nogil=True)
def bound(parameters, bounds):
    """The parameters of `bounded_density`, in place."""
    for j in range(len(parameters)):
        parameters[j] = bounds.most * math.tanh(parameters[j] / bounds.most)
