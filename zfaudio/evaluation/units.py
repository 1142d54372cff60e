"""Units of a log-likelihood, and averages over frames with their confidence intervals.

Models score standardized frames, x = (waveform - mean) / deviation, where the waveform is in steps of 16-bit samples.
If uniform noise of one step is added before standardizing, the density gives a lower bound on the probability of the
integer samples (Theis et al., 2016, "A note on the evaluation of generative models", section 3.1):

    log P(k) >= E[log p(k + u)],   log p(waveform) = log p(x) - log(deviation) per sample
"""

import math
from dataclasses import dataclass

import numpy as np

from zfaudio.text import format_number

Interval = tuple[float, float]  # its lower and its upper end

BOOTSTRAP_DRAWS = 2000
PER_UTTERANCE = "per utterance, averaged over utterances"
PER_HALF_SECOND = "per half second"
PUBLISHED_BATCH = 32  # utterances in a test batch of the published evaluation of Z-forcing


@dataclass(frozen=True)
class Units:
    """Converts nats per frame in standardized space into other units."""

    frame_size: int  # samples per frame
    deviation: float  # standard deviation of the training split, in 16-bit steps

    def nats_per_sample(self, nats_per_frame: float) -> float:
        """Nats per sample in standardized space."""
        return nats_per_frame / self.frame_size

    def nats_per_waveform_sample(self, nats_per_frame: float) -> float:
        """Nats per sample in waveform space, where the unit of length is one 16-bit step."""
        return self.nats_per_sample(nats_per_frame) - math.log(self.deviation)

    def bits_per_sample(self, nats_per_frame: float) -> float:
        """Bits per 16-bit sample of a code built on the model; meaningful only for dequantized scores."""
        return -self.nats_per_waveform_sample(nats_per_frame) / math.log(2)

    def nats_per_frame(self, bits_per_sample: float) -> float:
        """The inverse of `bits_per_sample`."""
        return self.frame_size * (math.log(self.deviation) - bits_per_sample * math.log(2))


def word_perplexity(nats_per_word: float) -> float:
    """exp(-nats per word): among how many words, all as probable, the choice would be as hard."""
    return math.exp(-nats_per_word)


def average_per_frame(nats: np.ndarray, frames: np.ndarray) -> float:
    """Mean over all frames, from the summed score of each utterance: nats [utterances], frames [utterances]."""
    return float(nats.sum() / frames.sum())


def bootstrap_interval(nats: np.ndarray, frames: np.ndarray, seed: int = 0) -> Interval | None:
    """95 % confidence interval of `average_per_frame` by resampling utterances (percentile bootstrap).

    A single utterance has no interval: nothing is known of how much utterances differ.

    Args:
        nats: score of each utterance, summed over its frames, [utterances].
        frames: number of scored frames of each utterance, [utterances].
        seed: seed of the resampling.

    Returns:
        The interval, or None for fewer than two utterances.
    """
    if len(nats) < 2:
        return None
    draws = np.random.default_rng(seed).integers(len(nats), size=(BOOTSTRAP_DRAWS, len(nats)))
    averages = nats[draws].sum(1) / frames[draws].sum(1)
    low, high = np.percentile(averages, [2.5, 97.5])
    return float(low), float(high)


def describe_interval(interval: Interval | None, digits: int, sign: str = "") -> str:
    """A 95 % interval in words."""
    if interval is None:
        return "no interval from a single utterance"
    low, high = (format_number(end, digits, sign) for end in interval)
    return f"95 % {low} to {high}"


def paired_interval(nats: np.ndarray, other_nats: np.ndarray, frames: np.ndarray, seed: int = 0) -> Interval | None:
    """95 % confidence interval of the difference between two models' `average_per_frame` (paired bootstrap).

    Both models are averaged over the same resampled utterances, so what both find hard about an utterance cancels.

    Args:
        nats: score of each utterance under one model, [utterances].
        other_nats: score of each utterance under the other model, in the same order, [utterances].
        frames: number of scored frames of each utterance, [utterances].
        seed: seed of the resampling.

    Returns:
        The interval, or None for fewer than two utterances.
    """
    return bootstrap_interval(nats - other_nats, frames, seed)


def sequence_conventions(
    nats: np.ndarray, frames: np.ndarray, frame_size: int, sample_rate: int, padded: bool = False
) -> dict[str, float]:
    """Nats per sequence, by the name of the convention.

    Per utterance: nats summed over an utterance, averaged over utterances. Published tables count so on TIMIT (Chung et
    al., 2015, table 1; Fraccaro et al., 2016, table 1; Goyal et al., 2017, table 1). Per half second: the same tables
    score sequences of 8,000 samples at 16 kHz on Blizzard; here the average per frame of whole utterances is scaled to
    that length.

    Args:
        nats: score of each utterance, [utterances].
        frames: number of scored frames of each utterance, [utterances].
        frame_size: samples per frame.
        sample_rate: Hz.
        padded: add the average of the published evaluation of Z-forcing (eval_timit.py and load.py of its code). It
            fills the last batch of 32 with rows of padding, adds a whole batch of them if the last batch is full, and
            averages over all rows. Rows of padding count as 0 nats.
    """
    samples = sample_rate // 2
    conventions = {
        PER_UTTERANCE: float(nats.mean()),
        f"{PER_HALF_SECOND} ({samples:,} samples at {sample_rate / 1000:g} kHz)": (
            average_per_frame(nats, frames) * samples / frame_size
        ),
    }
    if padded:
        rows = (len(nats) // PUBLISHED_BATCH + 1) * PUBLISHED_BATCH
        conventions["zforcing2017: averaged over utterances and rows of padding"] = float(nats.sum() / rows)
    return conventions


def worst_permille_share(frame_nats: np.ndarray) -> float:
    """The share of the sum over all frames that the worst 0.1 % of the frames (at least one) contribute.

    For example, -0.5 means that without these frames the sum would be 1.5 times as high.
    """
    count = max(1, len(frame_nats) // 1000)
    worst = np.partition(frame_nats, count - 1)[:count]
    return float(worst.sum() / frame_nats.sum())


def gaussian_nats_per_frame(
    mean: float, deviation: float, scored_mean: float, scored_deviation: float, frame_size: int
) -> float:
    """Score of the i.i.d. Gaussian N(mean, deviation²) on samples with the given moments, in nats per frame.

    Every model must beat this reference, which knows only the mean and the deviation of the training split. The score
    is in standardized space.
    """
    spread = (scored_deviation**2 + (scored_mean - mean) ** 2) / deviation**2
    return -0.5 * frame_size * (math.log(2 * math.pi) + spread)
