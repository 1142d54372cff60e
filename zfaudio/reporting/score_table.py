"""The result of an evaluation as a table and facts for a page."""

import math
from dataclasses import dataclass

from zfaudio.experiment.results import EvaluationResult
from zfaudio.reporting.formatting import page_number


@dataclass
class ScoreRow:
    """The score of the model or of a reference; None if it has no such number."""

    name: str
    nats_per_frame: float | None
    interval: tuple[float, float] | None
    bits_per_sample: float | None


@dataclass
class ScoreTable:
    """An evaluation and its references."""

    split: str
    protocol: str
    bound: str  # what the model's score is, in words
    at_least: bool  # whether the score is a lower bound of the log-likelihood
    cut: bool  # whether utterances were cut as in the published evaluation
    rows: list[ScoreRow]  # first the model, then the references
    facts: dict[str, str]
    conventions: dict[str, float]  # nats per sequence, by the name of the convention


def tabulate_scores(result: EvaluationResult) -> ScoreTable:
    """An evaluation as rows and facts."""
    protocol = "Dequantized: bounds the probability of the 16-bit signal"
    if not result.dequantized:
        constant = f"{result.constant_frames:,} constant frames"
        protocol = f"Published protocol, not dequantized: a density, unbounded on {constant}"
    return ScoreTable(
        split=result.split,
        protocol=protocol,
        bound={
            "exact": "exact likelihood",
            "elbo": "evidence lower bound",
            "iwae": f"importance-weighted bound, {result.importance_samples} samples",
        }[result.bound],
        at_least=result.bound != "exact",
        cut=result.protocol == "zforcing2017",
        rows=_score_rows(result),
        facts={
            "median frame": f"{page_number(result.median_frame_nats, 1)} nats",
            "worst 0.1 % of frames": f"{page_number(100 * result.worst_permille_share, 1)} % of the average",
            "KL per frame": f"{page_number(result.kl_per_frame, 2)} nats",
            "utterances": f"{result.utterances:,}",
            "frames": f"{result.frames:,} of {result.frame_size} samples",
            "constant frames": f"{result.constant_frames:,}",
        },
        conventions=result.waveform.conventions,
    )


def _score_rows(result: EvaluationResult) -> list[ScoreRow]:
    gaussian = result.waveform.references.iid_gaussian_nats_per_frame
    gaussian_bits = None
    if result.bits_per_sample is not None:
        # A difference of one nat per frame is the same number of bits per sample for every model.
        gap = result.nats_per_frame - gaussian
        gaussian_bits = result.bits_per_sample + gap / (result.frame_size * math.log(2))
    return [
        ScoreRow(result.model, result.nats_per_frame, result.nats_per_frame_ci95, result.bits_per_sample),
        ScoreRow("i.i.d. Gaussian", gaussian, interval=None, bits_per_sample=gaussian_bits),
        ScoreRow("FLAC", None, interval=None, bits_per_sample=result.waveform.references.flac_bits_per_sample),
    ]


def page_order(result: EvaluationResult) -> tuple[bool, bool, bool]:
    """A sort key: the test split first; within a split, dequantized results first, then whole utterances."""
    return result.split != "test", not result.dequantized, result.protocol == "zforcing2017"
