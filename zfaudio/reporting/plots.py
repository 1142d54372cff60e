"""The plots of a page, as SVG elements: training curves, KL by latent dimension, and compared experiments."""

import math
from dataclasses import dataclass
from pathlib import Path

from zfaudio.errors import UserError
from zfaudio.evaluation.ablation import LatentUsage
from zfaudio.evaluation.comparison import Comparison
from zfaudio.evaluation.description import negated
from zfaudio.experiment.metrics import read_metrics
from zfaudio.figures import Curve, Estimate, draw_curves, draw_intervals
from zfaudio.observations import sample_words

TRAINING_PLOTS = (  # title, column of metrics.csv, whether the axis is logarithmic
    ("Log-likelihood, nats per frame", "nats_per_frame", False),
    ("KL of the posterior from the prior, nats per frame", "kl", False),
    ("Auxiliary log-likelihood, nats per frame", "log_auxiliary", False),
    ("Norm of the gradient", "gradient_norm", True),
    ("Learning rate", "learning_rate", True),
    ("Frames per second in training", "frames_per_second", False),
    ("Share of training time waiting for data", "data_wait", False),
    ("Share of training time in the loop around the model", "loop_overhead", False),
)


@dataclass(frozen=True)
class Plot:
    """A plot and its title, which the page shows above it."""

    title: str
    svg: str  # an SVG element


def plot_training(metrics: Path) -> list[Plot]:
    """Plots of the columns of metrics.csv over steps. Raises UserError if it has no rows."""
    rows = read_metrics(metrics)
    if not rows:
        raise UserError(f"{metrics}: no training curves (missing or empty)")
    plots = []
    for title, column, logarithmic in TRAINING_PLOTS:
        curves = [_training_curve(rows, split, column) for split in ("train", "valid")]
        if any(len(curve.values) for curve in curves):
            plots.append(Plot(title, draw_curves(title, curves, logarithmic)))
    return plots


def _training_curve(rows: list[dict[str, str]], split: str, column: str) -> Curve:
    """The finite values of a column over the steps of a split."""
    points = [(int(row["step"]), float(row[column])) for row in rows if row["split"] == split and row.get(column)]
    finite = [(step, value) for step, value in points if math.isfinite(value)]
    return Curve(split, [step for step, _ in finite], [value for _, value in finite])


def plot_kl_by_dimension(usage: LatentUsage) -> Plot | None:
    """The KL of each latent dimension, largest first; None if no dimension has any KL."""
    values = [kl for kl in usage.kl_per_dimension if kl > 0]
    if not values:
        return None
    title = "KL by dimension, nats per frame"
    return Plot(title, draw_curves(title, [Curve("", range(1, len(values) + 1), values)], log=True))


def plot_comparison(comparison: Comparison) -> Plot:
    """The comparable rows with their intervals.

    Shows bits per sample with FLAC's as a line, or, without dequantization, nats per frame with the i.i.d. Gaussian's;
    of pictures nats per image, of sentences perplexities.
    """
    rows = [row for row in comparison.rows if not row.remark]
    if comparison.reference_result.kind == "binary":
        title = "Nats per image, with 95 % intervals: lower is better"
        intervals = [
            Estimate(row.name, -row.nats_per_utterance, negated(row.nats_per_utterance_ci95))
            for row in rows
            if row.nats_per_utterance is not None
        ]
        return Plot(title, draw_intervals(title, intervals))
    if comparison.reference_result.kind == "tokens":
        title = "Perplexity per word, with 95 % intervals: lower is better"
        intervals = [
            Estimate(row.name, row.word_perplexity, row.word_perplexity_ci95)
            for row in rows
            if row.word_perplexity is not None
        ]
        return Plot(title, draw_intervals(title, intervals))
    waveform = comparison.reference_result.waveform
    if comparison.reference_result.bits_per_sample is not None:
        words = sample_words(waveform.encoding)
        title = f"Bits per {words}, with 95 % intervals: lower is better"
        intervals = [
            Estimate(row.name, row.bits_per_sample, row.bits_per_sample_ci95)
            for row in rows
            if row.bits_per_sample is not None
        ]
        return Plot(title, draw_intervals(title, intervals, waveform.lossless_coders.get("FLAC"), mark_label="FLAC"))
    title = "Nats per frame, with 95 % intervals: higher is better"
    intervals = [Estimate(row.name, row.nats_per_frame, row.nats_per_frame_ci95) for row in rows]
    name, nats = waveform.independent
    return Plot(title, draw_intervals(title, intervals, nats, mark_label=name))
