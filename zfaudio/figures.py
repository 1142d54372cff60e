"""Pictures: a waveform above its spectrogram, and curves of training.

Drawn on matplotlib's Figure itself, without pyplot: that keeps no state and needs no display.
"""

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass

import librosa
import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

WINDOW_SECONDS = 0.025
HOP_SECONDS = 0.005
COLUMNS = 2000  # at most, of a spectrogram or an envelope

# White noise of the corpus's deviation stands at 0 dB: speech reaches above it at low frequencies.
DECIBELS = (-50.0, 25.0)
WAVE_LIMIT = 10.0  # deviations of the corpus

GREY = "#808080"  # readable on white and on black
INK = "#010203"  # replaced by the page's text color in SVG
LINES = ("#3f8fc4", "#e0673a")
SPEECH = "#3f8fc4"
MARK = "#e0673a"


@dataclass(frozen=True)
class Curve:
    """One line of a plot; `values` [n] over `steps` [n]."""

    label: str
    steps: Sequence[float]
    values: Sequence[float]


@dataclass(frozen=True)
class Interval:
    """A value and the interval it stands in."""

    label: str
    value: float
    low: float
    high: float


def draw_speech(waveform: np.ndarray, rate: int, deviation: float, mark: float = 0.0) -> Figure:
    """A waveform above its spectrogram, at scales set by the corpus, so that pictures compare.

    Args:
        waveform: int16 [n], at least one sample.
        rate: Hz.
        deviation: of the corpus, in 16-bit steps.
        mark: seconds at which a line is drawn, as at the end of a prompt; none at 0.
    """
    figure = Figure(figsize=(4.8, 2.4), dpi=160, layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(1, 2.2))
    seconds = len(waveform) / rate
    low, high = envelope(waveform / deviation)
    upper.fill_between(np.linspace(0, seconds, len(low)), low, high, color=SPEECH, linewidth=0.6)
    upper.set_ylim(-WAVE_LIMIT, WAVE_LIMIT)
    upper.set_axis_off()
    lower.imshow(
        spectrogram(waveform / deviation, rate),
        extent=(0, seconds, 0, rate / 2000),
        origin="lower",
        aspect="auto",
        cmap="magma",
        vmin=DECIBELS[0],
        vmax=DECIBELS[1],
    )
    lower.set_xlim(0, seconds)
    lower.set_ylabel("kHz", color=GREY, fontsize=8)
    lower.set_xlabel("s", color=GREY, fontsize=8, labelpad=0)
    lower.tick_params(colors=GREY, labelsize=8)
    lower.spines[:].set_visible(False)
    if mark > 0:
        for axes in (upper, lower):
            axes.axvline(mark, color=MARK, linewidth=1.5)
    return figure


def envelope(waveform: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Smallest and largest sample of at most COLUMNS stretches of a waveform [n]."""
    starts = np.linspace(0, len(waveform), min(COLUMNS, len(waveform)), endpoint=False).astype(int)
    return np.minimum.reduceat(waveform, starts), np.maximum.reduceat(waveform, starts)


def spectrogram(waveform: np.ndarray, rate: int) -> np.ndarray:
    """Power of a waveform [n] in dB, [frequencies, times]; white noise of variance 1 stands at 0 dB."""
    window = max(2, round(WINDOW_SECONDS * rate))
    hop = max(1, round(HOP_SECONDS * rate), len(waveform) // COLUMNS)
    size = 1 << (window - 1).bit_length()
    padded = np.pad(waveform.astype(np.float32), (0, max(0, size - len(waveform))))
    spectrum = librosa.stft(padded, n_fft=size, win_length=window, hop_length=hop)
    energy = float(np.square(librosa.filters.get_window("hann", window)).sum())
    return 10 * np.log10(np.abs(spectrum[:, : 1 + len(waveform) // hop]) ** 2 / energy + 1e-10)


def draw_curves(title: str, curves: Sequence[Curve], log: bool = False) -> str:
    """Draw lines over training steps as an SVG element, to stand inside a page and take its text color and font.

    Args:
        title: above the plot.
        curves: those without a value are left out.
        log: logarithmic values.
    """
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": title}):
        figure = Figure(figsize=(3.6, 2.2), layout="constrained")
        axes = figure.subplots()
        axes.set_title(title, fontsize=9, loc="left", color=INK)
        drawn = [curve for curve in curves if len(curve.values)]
        for curve, color in zip(drawn, LINES, strict=False):
            marker = "o" if len(curve.values) < 30 else ""
            axes.plot(
                curve.steps, curve.values, label=curve.label, color=color, linewidth=1.5, marker=marker, markersize=3
            )
        if log:
            axes.set_yscale("log")
        elif drawn:
            axes.set_ylim(*value_limits(np.concatenate([curve.values for curve in drawn])))
        if len(drawn) > 1:
            axes.legend(frameon=False, fontsize=8, labelcolor=INK)
        tidy(axes)
        return svg_element(figure, title)


def draw_intervals(title: str, intervals: Sequence[Interval], mark: float, mark_label: str) -> str:
    """Draw values with their intervals below each other, as an SVG element like that of `draw_curves`.

    Args:
        title: above the plot.
        intervals: from top to bottom, at least one.
        mark: where a line is drawn through all of them.
        mark_label: what the line stands for.
    """
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": title}):
        figure = Figure(figsize=(9.2, 0.9 + 0.24 * len(intervals)), layout="constrained")
        axes = figure.subplots()
        axes.set_title(title, fontsize=9, loc="left", color=INK)
        places = range(len(intervals))
        values = np.array([one.value for one in intervals])
        reach = np.array([[one.value - one.low, one.high - one.value] for one in intervals]).T
        axes.errorbar(values, places, xerr=reach, fmt="o", color=LINES[0], markersize=4, linewidth=1.5, capsize=2)
        axes.axvline(mark, color=MARK, linewidth=1.2, label=mark_label)
        axes.set_yticks(places, [one.label for one in intervals])
        axes.set_ylim(len(intervals) - 0.5, -0.5)
        axes.legend(frameon=False, fontsize=8, labelcolor=INK)
        tidy(axes)
        return svg_element(figure, title)


def value_limits(values: np.ndarray) -> tuple[float, float]:
    """Limits of an axis that leave out the lowest few values where they would flatten all others.

    The first steps of a training run, and single batches later, can score thousands of nats below the rest.
    """
    lowest, low, high = np.percentile(values, [0, 5, 100])
    if lowest > low - 2 * (high - low):
        low = lowest
    margin = 0.06 * (high - low) or max(0.06 * abs(high), 1e-6)
    return float(low - margin), float(high + margin)


def tidy(axes: Axes) -> None:
    """Two thin spines, a faint grid, small grey ticks."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GREY)
    axes.grid(color=GREY, alpha=0.25, linewidth=0.6)
    axes.tick_params(colors=GREY, labelcolor=INK, labelsize=8)
    axes.margins(x=0.02)


def svg_element(figure: Figure, label: str) -> str:
    """A figure as `<svg>`, free to scale, its ink the color of the text around it."""
    file = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    figure.savefig(file, format="svg", transparent=True, metadata=nothing)
    document = file.getvalue()
    element = document[document.index("<svg") :]
    element = re.sub(r"<metadata>.*?</metadata>", "", element, flags=re.DOTALL)
    element = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", element, count=1)
    element = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", element, count=1)
    return element.replace("<svg", f'<svg role="img" aria-label="{label}"', 1).replace(INK, "currentColor")
