"""Cut speech into pieces that may be words: at dips of its energy, and of the cuts that these allow, at the best ones.

Connected words have no pauses between them, and stop consonants have pauses inside of words, so energy alone does not
say where words end. The constants are chosen on the training strings of the Free Spoken Digit Dataset, where words of
0.14 to 0.9 s follow each other without a gap: 94 % of the borders between words have a dip at most TOLERANCE away, and
46 % of the dips are such borders. Which dips are borders is decided by what can be recognized between them
(`best_cut`), by the same rule for real and for generated speech.
"""

from collections.abc import Sequence

import numpy as np
import scipy  # which loads scipy.signal when it is first used: it takes most of a second

SMOOTHING_SECONDS = 0.02  # of the energy
STEP_SECONDS = 0.005
PROMINENCE_DB = 3.0  # by how much energy rises on both sides of a dip
LEAST_DISTANCE_SECONDS = 0.04  # between dips
TOLERANCE = 0.05  # seconds by which the edges of a piece may miss those of a word

SHORTEST_SECONDS, LONGEST_SECONDS = 0.15, 1.2  # of a piece

Span = tuple[float, float]  # start and end in seconds


def find_edges(waveform: np.ndarray, rate: int) -> list[float]:
    """Where pieces may start and end: the dips of the energy, and both ends. In seconds, in order.

    Args:
        waveform: int16 [samples].
        rate: sample rate in Hz.
    """
    step = round(STEP_SECONDS * rate)
    level = 10 * np.log10(1 + smooth_power(waveform, rate, SMOOTHING_SECONDS)[::step])  # above one 16-bit step, in dB
    distance = round(LEAST_DISTANCE_SECONDS / STEP_SECONDS)
    dips, _ = scipy.signal.find_peaks(-level, prominence=PROMINENCE_DB, distance=distance)
    return [0.0, *(float(dip) * step / rate for dip in dips), len(waveform) / rate]


def smooth_power(waveform: np.ndarray, rate: int, seconds: float) -> np.ndarray:
    """The power of a waveform, int16 [samples], in a Hann window of some seconds around each sample, [samples]."""
    window = np.hanning(round(seconds * rate) + 2)[1:-1]
    power: np.ndarray = scipy.signal.convolve(
        np.square(waveform.astype(np.float64)), window / window.sum(), mode="same"
    )
    return power.clip(0)  # a convolution by Fourier transforms may come out below zero in silence


def spans_between(edges: Sequence[float]) -> list[Span]:
    """All pairs of edges that are as far apart as a word may be long."""
    return [
        (start, end)
        for index, start in enumerate(edges)
        for end in edges[index + 1 :]
        if SHORTEST_SECONDS <= end - start <= LONGEST_SECONDS
    ]


def best_cut(spans: Sequence[Span], confidences: Sequence[float]) -> list[int]:
    """The cut whose confidence, averaged over time, is the greatest.

    Args:
        spans: pieces that may overlap.
        confidences: of each piece, 0 or more.

    Returns:
        Indices of pieces that do not overlap, in order of time, for which the sum of duration times confidence is the
        greatest possible.
    """
    edges = sorted({edge for span in spans for edge in span})
    ending: dict[float, list[int]] = {edge: [] for edge in edges}
    for index, (_, end) in enumerate(spans):
        ending[end].append(index)
    # The greatest sum up to each edge, and the pieces that it is of, of which the last ends there or before.
    best: dict[float, tuple[float, list[int]]] = {}
    latest: tuple[float, list[int]] = (0.0, [])
    for edge in edges:
        for index in ending[edge]:
            total, pieces = best[spans[index][0]]
            total += (edge - spans[index][0]) * confidences[index]
            if total > latest[0]:
                latest = (total, [*pieces, index])
        best[edge] = latest
    return latest[1]


def overlap(one: Span, other: Span) -> float:
    """The length of the intersection of two spans over that of their union."""
    shared = min(one[1], other[1]) - max(one[0], other[0])
    return max(0.0, shared) / (max(one[1], other[1]) - min(one[0], other[0]))
