"""Waveforms as frames of samples: cut and join, moments, standardize, dequantize.

The kernels are compiled by numba and release the GIL. They run on one core each: corpora are spread over
processes, an utterance at a time, which scales better than threads inside an utterance.
"""

import math
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

Samples = NDArray[np.int16]
Frames = NDArray[np.int16]

# Sums over a block of this many 16-bit samples, and their products with its length, fit int64 exactly.
BLOCK = 1 << 16


def to_frames(waveform: Samples, frame_size: int) -> Frames:
    """Cut a waveform into frames; the samples after the last whole frame are dropped.

    Args:
        waveform: samples, int16 [samples].
        frame_size: samples a frame.

    Returns:
        Frames, int16 [samples // frame_size, frame_size].
    """
    frames = len(waveform) // frame_size
    return np.ascontiguousarray(waveform[: frames * frame_size], dtype=np.int16).reshape(frames, frame_size)


def from_frames(frames: Frames) -> Samples:
    """Join frames [frames, frame_size] to a waveform [frames * frame_size]."""
    return np.ascontiguousarray(frames).reshape(-1)


@dataclass(frozen=True)
class Moments:
    """Count, mean and sum of squared differences from the mean of some samples."""

    count: int = 0
    mean: float = 0.0
    m2: float = 0.0

    @property
    def deviation(self) -> float:
        """Standard deviation over all samples (divided by their count); 0 without samples."""
        return math.sqrt(self.m2 / self.count) if self.count else 0.0

    def merge(self, other: "Moments") -> "Moments":
        """Moments of both sets of samples together (Chan, Golub and LeVeque, 1979)."""
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
    """Moments of int16 samples of any shape, in one pass."""
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
    """(frames - mean) / deviation, computed in float64.

    Args:
        frames: int16 [frames, frame_size].
        mean: of the corpus, in units of the 16-bit samples.
        deviation: of the corpus, likewise.
        out: C-contiguous float32 array of the same shape to write to; a new one when left out.

    Returns:
        float32 [frames, frame_size].
    """
    out = np.empty(frames.shape, np.float32) if out is None else out
    _standardize(_flat(frames), mean, deviation, _flat(out))
    return out


def dequantize(
    frames: Frames,
    mean: float,
    deviation: float,
    seed: int,
    first_frame: int = 0,
    out: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """(frames + u - mean) / deviation with u uniform in [-1/2, 1/2), computed in float64.

    u is a function of the seed and of the sample's place in its utterance alone, so any part of an
    utterance, read in any order, gets the noise it has in the whole.

    Args:
        frames: int16 [frames, frame_size].
        mean: of the corpus, in units of the 16-bit samples.
        deviation: of the corpus, likewise.
        seed: 64-bit seed of the noise; one an utterance.
        first_frame: index of frames[0] in its utterance.
        out: C-contiguous float32 array of the same shape to write to; a new one when left out.

    Returns:
        float32 [frames, frame_size].
    """
    out = np.empty(frames.shape, np.float32) if out is None else out
    first_sample = first_frame * frames.shape[1]
    _dequantize(_flat(frames), mean, deviation, np.uint64(seed), np.uint64(first_sample), _flat(out))
    return out


def count_constant(frames: Frames) -> int:
    """How many frames, int16 [frames, frame_size], hold one value only (digital silence)."""
    return int(_count_constant(np.ascontiguousarray(frames)))


def _flat(array: NDArray) -> NDArray:
    if not array.flags.c_contiguous:
        raise ValueError("frames must be C-contiguous")
    return array.reshape(-1)


@njit(cache=True, nogil=True)
def _block_moments(block: Samples) -> tuple[float, float]:
    """Mean and sum of squared differences of at most BLOCK samples; exact up to the last division."""
    count = len(block)
    total = np.int64(0)
    squares = np.int64(0)
    for i in range(len(block)):
        sample = np.int32(block[i])  # numba's product of two int32 is an int64, and five times as fast as of two int64
        total += sample
        squares += sample * sample
    return total / count, (count * squares - total * total) / count


@njit(cache=True, nogil=True)
def _standardize(samples: Samples, mean: float, deviation: float, out: NDArray[np.float32]) -> None:
    for i in range(len(samples)):
        out[i] = (samples[i] - mean) / deviation


@njit(cache=True, nogil=True)
def _mix(bits: np.uint64) -> np.uint64:
    """The output function of splitmix64 (Steele, Lea and Flood, 2014)."""
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))


@njit(cache=True, nogil=True)
def _dequantize(
    samples: Samples,
    mean: float,
    deviation: float,
    seed: np.uint64,
    first_sample: np.uint64,
    out: NDArray[np.float32],
) -> None:
    # splitmix64 from a mixed seed: close seeds start far apart. The top 53 bits make a double in [0, 1).
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
