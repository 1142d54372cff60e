"""The units of a log-likelihood, and how sums over frames become averages with intervals.

Models score standardized frames, x = (waveform - mean) / deviation, waveforms in steps of 16-bit samples. With
uniform noise of one step added before standardizing, the density is a lower bound on the probability of the
integer samples (Theis et al., 2016, "A note on the evaluation of generative models", section 3.1):

    log P(k) >= E[log p(k + u)],   log p(waveform) = log p(x) - log(deviation) for each sample
"""

import math
from dataclasses import dataclass

import numpy as np

BOOTSTRAP_DRAWS = 2000
PUBLISHED_BATCH = 32  # rows of a test batch in the published evaluation of Z-forcing


@dataclass(frozen=True)
class Units:
    """What turns nats per frame in standardized space into the other units."""

    frame_size: int  # samples a frame
    deviation: float  # of the training part, in 16-bit steps

    def nats_per_sample(self, nats_per_frame: float) -> float:
        """Standardized space, nats a sample."""
        return nats_per_frame / self.frame_size

    def nats_per_waveform_sample(self, nats_per_frame: float) -> float:
        """Waveform space (one 16-bit step as the unit of length), nats a sample."""
        return self.nats_per_sample(nats_per_frame) - math.log(self.deviation)

    def bits_per_sample(self, nats_per_frame: float) -> float:
        """Bits a 16-bit sample that a code built on the model would spend; meaningful for dequantized scores."""
        return -self.nats_per_waveform_sample(nats_per_frame) / math.log(2)


def average_per_frame(nats: np.ndarray, frames: np.ndarray) -> float:
    """Mean over all frames, long utterances weighing more: nats [utterances] summed, frames [utterances]."""
    return float(nats.sum() / frames.sum())


def bootstrap_interval(nats: np.ndarray, frames: np.ndarray, seed: int = 0) -> tuple[float, float]:
    """95 % interval of `average_per_frame` by resampling utterances (percentile bootstrap).

    Args:
        nats: score of each utterance, summed over its frames, [utterances].
        frames: scored frames of each utterance, [utterances].
        seed: of the resampling.
    """
    draws = np.random.default_rng(seed).integers(len(nats), size=(BOOTSTRAP_DRAWS, len(nats)))
    averages = nats[draws].sum(1) / frames[draws].sum(1)
    low, high = np.percentile(averages, [2.5, 97.5])
    return float(low), float(high)


def paired_interval(nats: np.ndarray, other_nats: np.ndarray, frames: np.ndarray, seed: int = 0) -> tuple[float, float]:
    """95 % interval of the difference of two models' `average_per_frame` on the same utterances (paired bootstrap).

    Both averages of a resampling are over the same utterances, so their difference is the average of the utterances'
    differences: what both models find hard about an utterance cancels.

    Args:
        nats: score of each utterance under one model, [utterances].
        other_nats: under the other, in the same order, [utterances].
        frames: scored frames of each utterance, [utterances].
        seed: of the resampling.
    """
    return bootstrap_interval(nats - other_nats, frames, seed)


def sequence_conventions(
    nats: np.ndarray, frames: np.ndarray, frame_size: int, sample_rate: int, padded: bool = False
) -> dict[str, float]:
    """Nats per sequence as published tables count them, by the name of the convention.

    TIMIT: nats summed over an utterance, averaged over utterances, as in Chung et al. (2015, table 1), Fraccaro et al.
    (2016, table 1) and Goyal et al. (2017, table 1). Blizzard: the same tables' sequences of half a second, 8,000
    samples at 16 kHz, which a whole utterance's score gives by its average per frame.

    Args:
        nats: score of each utterance, [utterances].
        frames: scored frames of each utterance, [utterances].
        frame_size: samples a frame.
        sample_rate: Hz.
        padded: add the average of the published evaluation of Z-forcing (eval_timit.py and load.py of its code): the
            test part is filled up with rows of padding to the next whole batch of 32, with a batch more where it fills
            the last, and the mean is over batches of the mean over their rows. Rows of padding count as 0 nats.
    """
    samples = sample_rate // 2
    conventions = {
        "timit: summed over a whole utterance, averaged over utterances": float(nats.mean()),
        f"blizzard: half-second sequences ({samples:,} samples at {sample_rate / 1000:g} kHz)": (
            average_per_frame(nats, frames) * samples / frame_size
        ),
    }
    if padded:
        rows = (len(nats) // PUBLISHED_BATCH + 1) * PUBLISHED_BATCH
        conventions["zforcing2017: averaged over utterances and rows of padding"] = float(nats.sum() / rows)
    return conventions


def worst_permille_share(frame_nats: np.ndarray) -> float:
    """The part of the sum over all frames that the worst 0.1 % of them (at least one) contribute.

    -0.5 says that they cost half as much as the average is: without them it would be 1.5 times as high.
    """
    count = max(1, len(frame_nats) // 1000)
    worst = np.partition(frame_nats, count - 1)[:count]
    return float(worst.sum() / frame_nats.sum())


def gaussian_nats_per_frame(
    mean: float, deviation: float, scored_mean: float, scored_deviation: float, frame_size: int
) -> float:
    """Score of the i.i.d. Gaussian N(mean, deviation²) on samples of the given moments, in nats a standardized frame.

    The reference every model must beat: it knows the training part's mean and deviation and nothing else.
    """
    spread = (scored_deviation**2 + (scored_mean - mean) ** 2) / deviation**2
    return -0.5 * frame_size * (math.log(2 * math.pi) + spread)
