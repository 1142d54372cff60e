"""The draw of one sample from the density that a head's output describes, for the compiled loops over samples.

The densities are those of models/frame_likelihoods.py, of which these are twins on the CPU.
"""

# numba finds the types of the kernels' arguments.
# mypy: allow-untyped-defs, allow-untyped-calls, allow-untyped-decorators

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray
from torch import Tensor

from zfaudio.distributions import OFF_GRID
from zfaudio.mulaw import CODES, LEVELS, LOG_WIDTHS

KINDS = ("gaussian", "gaussian_mixture", "logistic_mixture", "mulaw")
GAUSSIAN, GAUSSIAN_MIXTURE, LOGISTIC_MIXTURE, MULAW = range(4)

Array = NDArray[np.floating]


@dataclass(frozen=True)
class SampleLikelihood:
    """How a head's output describes the density of a sample; see models/frame_likelihoods.py.

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

    def numbers(self) -> tuple[int, int, float, float, float, float]:
        """What `draw_sample` takes as `likelihood`."""
        min_log_variance = 2 * math.log(self.min_deviation) if self.min_deviation > 0 else -math.inf
        kind = KINDS.index(self.kind)
        return kind, self.components, min_log_variance, math.log(self.min_scale), self.mean, self.deviation


def draws_of(noise: Tensor, kind: str) -> tuple[Tensor, Tensor]:
    """What chooses the component of each sample, and what the draw from it is made of.

    Args:
        noise: standard normal, [..., 1], or for a mixture [..., 2]. The only number of mulaw chooses the level.
        kind: one of KINDS.

    Returns:
        Uniform numbers, and standard deviates of the component, [...] each.
    """
    if kind == "mulaw":  # in float32, the choice would round to 1 once in hours, and be a bang
        noise = noise.double()
    choice, deviate = torch.special.ndtr(noise[..., 0]), noise[..., -1]
    if kind == "logistic_mixture":  # the logistic's quantile, see LogisticMixture.at
        deviate = torch.special.log_ndtr(deviate) - torch.special.log_ndtr(-deviate)
    return choice, deviate


def as_array(values: Tensor, dtype: Any) -> Array:
    """The values in C order, in the precision of the loop's weights."""
    return values.detach().to(torch.float64).numpy().astype(dtype, order="C")


def draw_frames(
    draw_row: Callable[[int, Array, float, Array, Array], None],
    previous_samples: Tensor,
    grid: Tensor | None,
    noise: Tensor,
    kind: str,
    dtype: Any,
) -> Tensor:
    """Map standard normal noise to samples, row by row in as many threads as torch uses.

    Args:
        draw_row: a loop that releases the GIL. It is given the number of a row and, of that row, the signal [heard +
            samples], whose samples it must fill; the grid; and what `draws_of` gives for each sample, [samples] each.
        previous_samples: the samples before the first, [batch, heard].
        grid: of the samples before the first, [batch]; see LogisticMixture.
        noise: [batch, samples, 1], or for a mixture [batch, samples, 2], of which the first number chooses the
            component and the second is for the draw from it.
        kind: one of KINDS.
        dtype: of the loop's weights.

    Returns:
        [batch, samples].
    """
    batch, samples, _ = noise.shape
    heard = previous_samples.shape[1]
    grid = previous_samples.new_ones(batch) if grid is None else grid
    choice, deviate = draws_of(noise, kind)
    choices = as_array(choice, np.float64 if kind == "mulaw" else dtype)
    grids, deviates = as_array(grid, dtype), as_array(deviate, dtype)
    signal = np.empty((batch, heard + samples), dtype)
    signal[:, :heard] = previous_samples.numpy()

    def draw(row: int) -> None:
        draw_row(row, signal[row], grids[row], choices[row], deviates[row])

    threads = min(batch, torch.get_num_threads())
    if threads < 2:
        for row in range(batch):
            draw(row)
    else:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(draw, range(batch)))
    return torch.from_numpy(signal[:, heard:].copy())


@njit(cache=True, nogil=True)
def parameters_of_sample(kind, components):
    """How many numbers describe the density of a sample."""
    if kind == MULAW:
        return 2 + CODES
    return 2 if kind == GAUSSIAN else 3 * components


@njit(cache=True, nogil=True)
def affine(values, matrix, bias, out):
    """out [m] = values [n] times matrix [n, m] plus bias [m]."""
    for j in range(len(out)):
        out[j] = bias[j]
    add_product(values, matrix, out)


@njit(cache=True, nogil=True)
def add_product(values, matrix, out):
    """Add values [n] times matrix [n, m] to out [m]."""
    for k in range(len(values)):
        value = values[k]
        for j in range(len(out)):
            out[j] += matrix[k, j] * value


@njit(cache=True, nogil=True)
def leaky_relu(values, slope):
    """In place."""
    for j in range(len(values)):
        if values[j] < 0:
            values[j] *= slope


@njit(cache=True, nogil=True)
def _softmax(logits, temperature, weights):
    largest = logits.max()
    total = 0.0
    for c in range(len(logits)):
        weights[c] = math.exp((logits[c] - largest) / temperature)
        total += weights[c]
    for c in range(len(logits)):
        weights[c] /= total


@njit(cache=True, nogil=True)
def _choose(logits, uniform, temperature, weights):
    """Twin of `choose_component` in distributions.py; `weights` is room for the result."""
    if temperature == 0:
        return np.argmax(logits)
    _softmax(logits, temperature, weights)
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
def _draw_level(parameters, center, log_scale, mean, deviation, uniform, temperature):
    """The level that a uniform number chooses; twin of MuLawLevels.at. `center` and `log_scale` are the logistic's."""
    weights = np.empty(CODES)
    scale = math.exp(log_scale)
    for c in range(CODES):
        distance = abs((LEVELS[c] - mean) / deviation - center) / scale
        weights[c] = parameters[2 + c] + LOG_WIDTHS[c] - distance - 2 * math.log1p(math.exp(-distance))
    if np.isnan(weights.sum()):
        return math.nan
    chosen = _choose(weights, uniform, temperature, np.empty(CODES))
    return (LEVELS[chosen] - mean) / deviation


@njit(cache=True, nogil=True)
def draw_sample(parameters, likelihood, origin, level, grid, choice, deviate, temperature, weights):
    """The sample that uniform `choice` and standard `deviate` are mapped to.

    `parameters` is the head's output, `likelihood` what SampleLikelihood.numbers gives, `origin` and `level` are those
    of FrameLikelihood.read, `grid` is that of LogisticMixture, and `weights` [components] is room for the result.
    """
    kind, components, min_log_variance, min_log_scale, mean, deviation = likelihood
    if kind == GAUSSIAN:
        log_variance = _log_add_exp(parameters[1] + 2 * math.log(level), min_log_variance)
        center = origin + parameters[0] * level
        return center + temperature * math.exp(0.5 * log_variance) * deviate
    if kind == MULAW:
        center, log_scale = origin + parameters[0] * level, max(parameters[1] + math.log(level), min_log_scale)
        return _draw_level(parameters, center, log_scale, mean, deviation, choice, temperature)
    if grid > 1:
        if choice < OFF_GRID:
            grid, choice = 1.0, choice / OFF_GRID
        else:
            choice = (choice - OFF_GRID) / (1 - OFF_GRID)
    means = parameters[components : 2 * components]
    scales = parameters[2 * components :]
    chosen = _choose(parameters[:components], choice, temperature, weights)
    if kind == GAUSSIAN_MIXTURE:
        scale = math.exp(0.5 * _log_add_exp(scales[chosen] + 2 * math.log(level), min_log_variance))
    else:
        scale = math.exp(max(scales[chosen] + math.log(level), min_log_scale))
    draw = origin + means[chosen] * level + temperature * scale * deviate
    if kind == LOGISTIC_MIXTURE:
        lowest = -32768.0
        highest = math.floor(32767.0 / grid) * grid
        value = draw * deviation + mean
        if value < lowest:  # written so that NaN stays NaN
            value = lowest
        elif value > highest:
            value = highest
        draw = (np.rint(value / grid) * grid - mean) / deviation
    return draw
