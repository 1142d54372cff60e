"""Draw waveforms with their spectrograms, training curves, and values with confidence intervals.

matplotlib's Figure is used directly, without pyplot, because it keeps no global state and needs no display.
"""

import html
import io
import itertools
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from zfaudio.text import printable

WINDOW_SECONDS = 0.025
HOP_SECONDS = 0.005
MAX_COLUMNS = 2000  # of a spectrogram or an envelope

# White noise with the corpus's deviation is at 0 dB. Speech exceeds that at low frequencies.
DECIBELS = (-50.0, 25.0)
WAVE_LIMIT = 10.0  # in units of the corpus's deviation

GRAY = "#808080"  # readable on white and on black
TEXT = "#010203"  # replaced by the text color of the page in SVG
LINES = ("#3f8fc4", "#e0673a")
SPEECH = "#3f8fc4"
MARK = "#e0673a"


class Waveform(Protocol):
    """Samples [n]: an array, or a file of which only a part is read at a time."""

    def __len__(self) -> int: ...

    def __getitem__(self, part: slice, /) -> NDArray[Any]: ...


@dataclass(frozen=True)
class Curve:
    """One line of a plot: `values` [n] over `steps` [n]."""

    label: str
    steps: Sequence[float]
    values: Sequence[float]


@dataclass(frozen=True)
class Estimate:
    """A value with its confidence interval, if it has one."""

    label: str
    value: float
    interval: tuple[float, float] | None


def draw_speech(waveform: Waveform, rate: int, deviation: float, mark: float = 0.0) -> Figure:
    """Draw a waveform above its spectrogram. The corpus sets the scales, so that pictures can be compared.

    Args:
        waveform: at least one sample, in 16-bit steps.
        rate: sample rate in Hz.
        deviation: standard deviation of the corpus, in 16-bit steps.
        mark: time in seconds at which to draw a line, such as the end of a prompt; 0 draws none.
    """
    figure = Figure(figsize=(4.8, 2.4), dpi=160, layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(1, 2.2))
    fill_speech(upper, lower, waveform, rate, deviation)
    label_seconds(lower)
    draw_mark((upper, lower), mark)
    return figure


def draw_scored_speech(
    waveform: Waveform, rate: int, deviation: float, frame_nats: NDArray[np.float64], frame_size: int, mark: float = 0.0
) -> Figure:
    """Draw a waveform and its spectrogram as `draw_speech` does, and below them the log-likelihood of each frame.

    Args:
        waveform: at least one sample, in 16-bit steps.
        rate: sample rate in Hz.
        deviation: standard deviation of the corpus, in 16-bit steps.
        frame_nats: log-likelihood of each scored frame in nats, [frames]: the last ones of the whole frames.
        frame_size: samples per frame.
        mark: as in `draw_speech`.
    """
    figure = Figure(figsize=(4.2, 3.4), dpi=180, layout="constrained")
    upper, middle, lower = figure.subplots(3, 1, sharex=True, height_ratios=(1, 2.2, 1.8))
    fill_speech(upper, middle, waveform, rate, deviation)
    first = len(waveform) // frame_size - len(frame_nats)
    seconds = (first + 0.5 + np.arange(len(frame_nats))) * frame_size / rate
    lower.plot(seconds, frame_nats, color=SPEECH, linewidth=1.2, marker="." if len(frame_nats) == 1 else "")
    finite = frame_nats[np.isfinite(frame_nats)]
    if finite.size:
        lower.set_ylim(*value_limits(finite))
    lower.spines[:].set_visible(False)
    lower.grid(color=GRAY, alpha=0.25, linewidth=0.6)
    lower.set_ylabel("nats per frame", color=GRAY, fontsize=8)
    label_seconds(lower)
    draw_mark((upper, middle, lower), mark)
    return figure


def fill_speech(upper: Axes, lower: Axes, waveform: Waveform, rate: int, deviation: float) -> None:
    """Draw a waveform and, below it, its spectrogram."""
    seconds = len(waveform) / rate
    # What lies beyond the picture is drawn at its edge: a waveform stuck there would look like silence.
    low, high = (np.clip(values / deviation, -WAVE_LIMIT, WAVE_LIMIT) for values in envelope(waveform))
    upper.fill_between(np.linspace(0, seconds, len(low)), low, high, color=SPEECH, linewidth=0.6, clip_on=False)
    upper.set_ylim(-WAVE_LIMIT, WAVE_LIMIT)
    upper.set_axis_off()
    lower.imshow(
        spectrogram(waveform, rate, deviation),
        extent=(0, seconds, 0, rate / 2000),
        origin="lower",
        aspect="auto",
        cmap="magma",
        vmin=DECIBELS[0],
        vmax=DECIBELS[1],
    )
    lower.set_xlim(0, seconds)
    lower.set_ylabel("kHz", color=GRAY, fontsize=8)
    lower.tick_params(colors=GRAY, labelsize=8)
    lower.spines[:].set_visible(False)


def label_seconds(lowest: Axes) -> None:
    """Label the axis of time, which all axes share."""
    lowest.set_xlabel("s", color=GRAY, fontsize=8, labelpad=0)
    lowest.tick_params(colors=GRAY, labelsize=8)


def draw_mark(several: Sequence[Axes], seconds: float) -> None:
    """Draw a line through all axes at a time; at 0 none."""
    if seconds > 0:
        for axes in several:
            axes.axvline(seconds, color=MARK, linewidth=1.5)


def envelope(waveform: Waveform) -> tuple[NDArray[Any], NDArray[Any]]:
    """The smallest and the largest sample in each of at most MAX_COLUMNS parts of a waveform."""
    borders = np.linspace(0, len(waveform), min(MAX_COLUMNS, len(waveform)) + 1).astype(int)
    parts = [waveform[first:last] for first, last in itertools.pairwise(borders)]
    return np.array([part.min() for part in parts]), np.array([part.max() for part in parts])


def spectrogram(waveform: Waveform, rate: int, deviation: float = 1.0) -> NDArray[np.float32]:
    """The power of a waveform in dB, [frequencies, times]. White noise of the given deviation is at 0 dB.

    It is the short-time Fourier transform of librosa, but reads only the samples that are in a window. Those of a long
    waveform are far apart.
    """
    length = max(2, round(WINDOW_SECONDS * rate))
    hop = max(1, round(HOP_SECONDS * rate), len(waveform) // MAX_COLUMNS)
    size = 1 << (length - 1).bit_length()
    window = np.hanning(length + 1)[:-1]  # periodic, like librosa's, which would load all of SciPy's filters for it
    before = (size - length) // 2
    windows = np.zeros((1 + len(waveform) // hop, size), np.float32)
    for column, center in zip(windows, range(0, len(waveform) + 1, hop), strict=True):
        first, last = max(0, center - size // 2), min(len(waveform), center + size // 2)
        offset = first - (center - size // 2)
        column[offset : offset + last - first] = waveform[first:last] / deviation
    spectrum = np.fft.rfft(windows * np.pad(window, (before, size - length - before)).astype(np.float32))
    return np.asarray(10 * np.log10(np.abs(spectrum.T) ** 2 / np.square(window).sum() + 1e-10), np.float32)


def draw_curves(title: str, curves: Sequence[Curve], log: bool = False) -> str:
    """Draw curves over training steps as an SVG element that takes the text color and font of its page.

    Args:
        title: what the plot shows, for readers who cannot see it. The page shows it above the plot, where it wraps.
        curves: the curves; those without values are left out.
        log: whether the axis of the values is logarithmic.
    """
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": title}):
        figure = Figure(figsize=(3.6, 2.0), layout="constrained")
        axes = figure.subplots()
        drawn = [curve for curve in curves if len(curve.values)]
        for curve, color in zip(drawn, LINES, strict=False):
            marker = "o" if len(curve.values) < 30 else ""
            axes.plot(
                curve.steps,
                curve.values,
                label=plain_text(curve.label),
                color=color,
                linewidth=1.5,
                marker=marker,
                markersize=3,
            )
        if log:
            axes.set_yscale("log")
        elif drawn:
            axes.set_ylim(*value_limits(np.concatenate([curve.values for curve in drawn])))
        if len(drawn) > 1:
            axes.legend(frameon=False, fontsize=8, labelcolor=TEXT)
        style_axes(axes)
        return svg_element(figure, title)


def draw_intervals(title: str, estimates: Sequence[Estimate], mark: float | None = None, mark_label: str = "") -> str:
    """Draw values and their confidence intervals, one below the other, as an SVG element like that of `draw_curves`.

    Args:
        title: what the plot shows, as in `draw_curves`.
        estimates: from top to bottom, at least one.
        mark: value at which a line is drawn through all rows; None draws none.
        mark_label: what the line stands for.
    """
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": title}):
        figure = Figure(figsize=(9.2, 0.7 + 0.24 * len(estimates)), layout="constrained")
        axes = figure.subplots()
        rows = range(len(estimates))
        values = np.array([estimate.value for estimate in estimates])
        lows, highs = np.transpose([estimate.interval or (math.nan, math.nan) for estimate in estimates])
        axes.errorbar(
            values,
            rows,
            xerr=[values - lows, highs - values],
            fmt="o",
            color=LINES[0],
            markersize=4,
            linewidth=1.5,
            capsize=2,
        )
        if mark is not None:
            axes.axvline(mark, color=MARK, linewidth=1.2, label=plain_text(mark_label))
            axes.legend(frameon=False, fontsize=8, labelcolor=TEXT)
        axes.set_yticks(rows, [plain_text(estimate.label) for estimate in estimates])
        axes.set_ylim(len(estimates) - 0.5, -0.5)
        style_axes(axes)
        return svg_element(figure, title)


def plain_text(text: str) -> str:
    """Text that matplotlib draws as it is, where `$...$` would be a formula."""
    return printable(text).replace("$", r"\$")


def value_limits(values: NDArray[Any]) -> tuple[float, float]:
    """Limits of an axis. The lowest few values are left out if showing them would flatten all others.

    The first steps of a training run, and single batches later, can score thousands of nats below the rest.
    """
    lowest, low, high = np.percentile(values, [0, 5, 100])
    if lowest > low - 2 * (high - low):
        low = lowest
    margin = 0.06 * (high - low) or max(0.06 * abs(high), 1e-6)
    return float(low - margin), float(high + margin)


def style_axes(axes: Axes) -> None:
    """Style axes with two thin spines, a faint grid and small gray ticks."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GRAY)
    axes.grid(color=GRAY, alpha=0.25, linewidth=0.6)
    # Also the minor ticks, which have labels if a logarithmic axis spans less than a decade.
    axes.tick_params(which="both", colors=GRAY, labelcolor=TEXT, labelsize=8)
    axes.margins(x=0.02)


def svg_element(figure: Figure, label: str) -> str:
    """Render a figure as an `<svg>` element that scales, with lines and text in the text color of its page."""
    file = io.StringIO()
    no_metadata = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    figure.savefig(file, format="svg", transparent=True, metadata=no_metadata)
    document = file.getvalue()
    element = document[document.index("<svg") :]
    element = re.sub(r"<metadata>.*?</metadata>", "", element, flags=re.DOTALL)
    element = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", element, count=1)
    element = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", element, count=1)
    return element.replace("<svg", f'<svg role="img" aria-label="{html.escape(printable(label))}"', 1).replace(
        TEXT, "currentColor"
    )
