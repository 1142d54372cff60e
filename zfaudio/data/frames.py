"""Cut waveforms into frames, compute their moments, and standardize and dequantize them.

The kernels are compiled by numba and release the GIL. Each runs on one core: to process utterances in parallel scales
better than to use threads within an utterance. numba does not check indices, so each kernel checks the lengths of its
arrays, and the functions that call it their types.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

Samples = NDArray[np.int16]
Frames = NDArray[np.int16]

# Sums and sums of squares over this many 16-bit samples, times their number, fit into int64.
BLOCK = 1 << 16


def to_frames(waveform: Samples, frame_size: int) -> Frames:
    """Cut a waveform into frames. The samples after the last whole frame are dropped.

    Args:
        waveform: int16 [samples].
        frame_size: number of samples per frame.

    Returns:
        Frames, int16 [samples // frame_size, frame_size].
    """
    frames = len(waveform) // frame_size
    return np.ascontiguousarray(waveform[: frames * frame_size], dtype=np.int16).reshape(frames, frame_size)


def from_frames(frames: Frames) -> Samples:
    """Join frames [frames, frame_size] into a waveform [frames * frame_size]."""
    return np.ascontiguousarray(frames).reshape(-1)


@dataclass(frozen=True)
class Moments:
    """Moments of a set of samples."""

    count: int = 0  # number of samples
    mean: float = 0.0
    m2: float = 0.0  # sum of the squared differences from the mean

    @property
    def deviation(self) -> float:
        """Standard deviation of the samples (not of a population they are drawn from). 0 without samples."""
        return math.sqrt(self.m2 / self.count) if self.count else 0.0

    def merge(self, other: "Moments") -> "Moments":
        """Return the moments of the union of both sets of samples (Chan, Golub and LeVeque, 1979)."""
        if not self.count:
            return other
        if not other.count:
            return self
        count = self.count + other.count
        delta = other.mean - self.mean
        mean = self.mean + delta * (other.count / count)
        m2 = self.m2 + other.m2 + delta * delta * (self.count * (other.count / count))
        return Moments(count, mean, m2)


def moments(samples: NDArray[np.int16]) -> Moments:
    """Compute the moments of int16 samples of any shape in one pass."""
    flat = np.ascontiguousarray(samples, dtype=np.int16).reshape(-1)
    total = Moments()
    for first in range(0, len(flat), BLOCK):
        block = flat[first : first + BLOCK]
        mean, m2 = _block_moments(block)
        total = total.merge(Moments(len(block), float(mean), float(m2)))
    return total


def standardize(
    frames: Frames, mean: float, deviation: float, out: NDArray[np.float32] | None = None
) -> NDArray[np.float32]:
    """Compute (frames - mean) / deviation in float64.

    Args:
        frames: int16 [frames, frame_size].
        mean: mean of the corpus, in units of 16-bit samples.
        deviation: standard deviation of the corpus, in the same units.
        out: C-contiguous float32 array of the same shape for the result. By default, a new one is made.

    Returns:
        float32 [frames, frame_size].

    Raises:
        ValueError: an array has another type or shape, or is not C-contiguous.
    """
    out = np.empty(frames.shape, np.float32) if out is None else out
    _check_arrays(frames, out)
    _standardize(frames.reshape(-1), float(mean), float(deviation), out.reshape(-1))
    return out


def dequantize(
    frames: Frames,
    mean: float,
    deviation: float,
    seed: int,
    first_frame: int = 0,
    out: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """Compute (frames + u - mean) / deviation in float64, with noise u uniform in [-1/2, 1/2).

    The noise depends only on the seed and on the position of a sample in its utterance. So a sample gets the same noise
    whichever part of the utterance is read.

    Args:
        frames: int16 [frames, frame_size].
        mean: mean of the corpus, in units of 16-bit samples.
        deviation: standard deviation of the corpus, in the same units.
        seed: 64-bit seed of the noise, one for each utterance.
        first_frame: index of frames[0] in its utterance.
        out: C-contiguous float32 array of the same shape for the result. By default, a new one is made.

    Returns:
        float32 [frames, frame_size].

    Raises:
        ValueError: an array has another type or shape, or is not C-contiguous.
    """
    out = np.empty(frames.shape, np.float32) if out is None else out
    _check_arrays(frames, out)
    first_sample = np.uint64(first_frame * frames.shape[1])
    _dequantize(frames.reshape(-1), float(mean), float(deviation), np.uint64(seed), first_sample, out.reshape(-1))
    return out


def count_constant(frames: Frames) -> int:
    """Count the frames, int16 [frames, frame_size], whose samples are all equal (digital silence).

    Raises:
        ValueError: the array has another type or number of dimensions.
    """
    frames = np.ascontiguousarray(frames)
    _check_array("frames", frames, np.int16, 2)
    return int(_count_constant(frames))


def _check_arrays(frames: Frames, out: NDArray[np.float32]) -> None:
    _check_array("frames", frames, np.int16, 2)
    _check_array("out", out, np.float32, 2)
    if out.shape != frames.shape:
        raise ValueError(f"out has shape {out.shape}, but frames have shape {frames.shape}")
    if not out.flags.writeable:
        raise ValueError("out is read-only")


def _check_array(name: str, array: NDArray[Any], dtype: type, dimensions: int) -> None:
    if array.dtype != dtype or array.ndim != dimensions:
        wanted = f"{np.dtype(dtype)} of {dimensions} dimensions"
        raise ValueError(f"{name} must be {wanted}, not {array.dtype} of {array.ndim}")
    if not array.flags.c_contiguous or not array.flags.aligned:
        raise ValueError(f"{name} must be C-contiguous and aligned")


@njit(cache=True, nogil=True)
def _block_moments(block: Samples) -> tuple[float, float]:
    """Compute the mean and the sum of squared differences of at most BLOCK samples, exact up to the last division."""
    count = len(block)
    total = np.int64(0)
    squares = np.int64(0)
    for i in range(len(block)):
        sample = np.int32(block[i])  # numba multiplies two int32 to an int64, five times as fast as two int64
        total += sample
        squares += sample * sample
    return total / count, (count * squares - total * total) / count


@njit(cache=True, nogil=True)
def _standardize(samples: Samples, mean: float, deviation: float, out: NDArray[np.float32]) -> None:
    if len(out) != len(samples):
        raise ValueError("out and samples differ in length")
    for i in range(len(samples)):
        out[i] = (samples[i] - mean) / deviation


@njit(cache=True, nogil=True)
def _mix(bits: np.uint64) -> np.uint64:
    """The output function of splitmix64 (Steele, Lea and Flood, 2014)."""
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: np.uint64 = bits ^ (bits >> np.uint64(31))
    return mixed


@njit(cache=True, nogil=True)
def _dequantize(
    samples: Samples,
    mean: float,
    deviation: float,
    seed: np.uint64,
    first_sample: np.uint64,
    out: NDArray[np.float32],
) -> None:
    if len(out) != len(samples):
        raise ValueError("out and samples differ in length")
    # splitmix64. The seed is mixed first, so that close seeds start far apart. The top 53 bits give a double in [0, 1).
    start = _mix(seed)
    for i in range(len(samples)):
        bits = _mix(start + (first_sample + np.uint64(i)) * np.uint64(0x9E3779B97F4A7C15))
        noise = (bits >> np.uint64(11)) * 2.0**-53 - 0.5
        out[i] = (samples[i] + noise - mean) / deviation


@njit(cache=True, nogil=True)
def _count_constant(frames: Frames) -> int:
    count = 0
    for frame in frames:
        constant = True
        for sample in frame:
            if sample != frame[0]:
                constant = False
                break
        count += constant
    return count
