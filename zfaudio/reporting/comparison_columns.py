"""The columns of the comparison of experiments: scores of recordings, of pictures or of sentences, sizes and speeds."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from zfaudio.evaluation.comparison import ComparisonRow
from zfaudio.evaluation.units import word_perplexity
from zfaudio.observations import Encoding, Kind
from zfaudio.reporting.model_words import describe_likelihood
from zfaudio.text import format_number

# What columns mean that are only shown if experiments differ in them, or have such numbers.
LEGEND = {
    "frame": "frame: its pixels",
    "batch": "batch: sequences in a training step of each process",
    "learning rate": "learning rate: at the start of training",
    "bits/mu-law": "bits/mu-law: bits per sample of 8-bit mu-law, which bits per 16-bit sample do not compare with",
    "draws": "draws: of the posterior, in scoring",
    "Fréchet": "Fréchet: distance of the log-mel frames of samples from those of real speech, see zfaudio quality",
    "words, %": "words, %: pieces of the samples that are recognized as words; words/s: recognized words per second",
}


# The titles of bits per sample, by the encoding of the samples.
BITS: dict[Encoding, str] = {"linear": "bits/sample", "mulaw": "bits/mu-law"}


@dataclass(frozen=True)
class Column:
    """A column of the table."""

    title: str
    text: Callable[[ComparisonRow], str]  # what stands in a row; empty if the row has no such value
    numeric: bool = True  # numbers are aligned on the right
    stacked: bool = False  # on a page, it stands in smaller type below the column to the left


def columns_of(rows: Sequence[ComparisonRow]) -> list[Column]:
    """The columns of the table: those about seeds and samples if a row has such, settings if rows differ in them."""
    kind = rows[0].kind
    settings = [
        *([Column("frame", lambda row: f"{row.frame_size}")] if kind == "binary" else []),
        Column("batch", lambda row: "" if row.batch_size is None else f"{row.batch_size}"),
        Column("learning rate", lambda row: "" if row.learning_rate is None else f"{row.learning_rate:g}"),
        Column("draws", lambda row: "" if row.bound == "exact" else f"{row.draws}"),
    ]
    of_samples = [
        Column("s/s", lambda row: number(row.computing_per_second, 2)),
        Column("Fréchet", lambda row: number(row.samples_frechet_distance, 2)),
        Column("words, %", lambda row: number(_percent(row.samples_recognized_fraction), 1)),
        Column("words/s", lambda row: number(row.samples_words_per_second, 2), stacked=True),
    ]
    scores = {"waveform": _scores_of_recordings, "binary": _scores_of_pictures, "tokens": _scores_of_sentences}[kind]
    encodings = {row.encoding for row in rows}
    seeds = any(row.seed_range for row in rows)
    return [
        Column("experiment", lambda row: row.name + ("*" if row.remark else ""), numeric=False),
        Column("model", lambda row: row.model, numeric=False, stacked=True),
        Column(
            "likelihood", lambda row: describe_likelihood(row.likelihood or "", row.head), numeric=False, stacked=True
        ),
        Column("bound", _bound, numeric=False, stacked=True),
        *(
            column
            for column in scores()
            if (seeds or column.title != "over seeds")
            and (column.title != BITS["linear"] or encodings != {"mulaw"})
            and (column.title != BITS["mulaw"] or "mulaw" in encodings)
        ),
        Column("parameters", lambda row: f"{row.parameters:,}"),
        Column("steps", lambda row: number(row.steps, 0)),
        *(column for column in settings if len({column.text(row) for row in rows} - {""}) > 1),
        Column("frames/s", lambda row: number(row.training_frames_per_second, 0)),
        *(
            column
            for column in of_samples
            if any(column.text(row) for row in rows) or (column.title == "s/s" and kind == "waveform")
        ),
    ]


def _scores_of_recordings() -> list[Column]:
    return [
        Column("nats/frame", lambda row: _at_least(row) + number(row.nats_per_frame, 2)),
        Column("95 %", lambda row: interval(row.nats_per_frame_ci95, 2), stacked=True),
        Column("over seeds", lambda row: interval(row.seed_range, 2), stacked=True),
        Column("difference", lambda row: number(row.difference, 2, "+")),
        Column("95 %, paired", lambda row: interval(row.difference_ci95, 2, "+"), stacked=True),
        # Bits of different samples never stand in one column.
        Column(BITS["linear"], lambda row: number(row.bits_per_sample, 3) if row.encoding == "linear" else ""),
        Column(BITS["mulaw"], lambda row: number(row.bits_per_sample, 3) if row.encoding == "mulaw" else ""),
        Column("KL", lambda row: number(row.kl_per_frame, 2)),
    ]


def _scores_of_pictures() -> list[Column]:
    """Minus the log-probability of a picture, as published tables have it."""

    def minus(value: float | None) -> float | None:
        return None if value is None else -value

    return [
        Column("nats/image", lambda row: _at_most(row) + number(minus(row.nats_per_utterance), 2)),
        Column("95 %", lambda row: interval(_mapped(minus, row.nats_per_utterance_ci95), 2), stacked=True),
        Column("over seeds", lambda row: interval(_mapped(minus, row.seed_range), 2), stacked=True),
        Column("difference", lambda row: number(minus(row.difference), 2, "+")),
        Column("95 %, paired", lambda row: interval(_mapped(minus, row.difference_ci95), 2, "+"), stacked=True),
        Column("KL", lambda row: number(row.kl_per_utterance, 2)),
    ]


def _scores_of_sentences() -> list[Column]:
    def change(nats: float | None) -> float | None:
        """By how many percent the perplexity changes if a word has so many nats more."""
        return None if nats is None else 100 * math.expm1(-nats)

    return [
        Column("perplexity", lambda row: _at_most(row) + number(row.word_perplexity, 2)),
        Column("95 %", lambda row: interval(row.word_perplexity_ci95, 2), stacked=True),
        Column("over seeds", lambda row: interval(_mapped(word_perplexity, row.seed_range), 2), stacked=True),
        Column("difference, %", lambda row: number(change(row.difference), 2, "+")),
        Column("95 %, paired", lambda row: interval(_mapped(change, row.difference_ci95), 2, "+"), stacked=True),
        Column("KL", lambda row: number(row.kl_per_utterance, 2)),
    ]


def explain_scores(kind: Kind, reference: str) -> list[str]:
    """What the columns of scores mean, in lines below the table."""
    bounds = "if the scores are bounds, it is the difference of the bounds"
    steps = "steps: training steps of the checkpoint that was scored"
    if kind == "binary":
        return [
            f"nats/image: minus the log-probability of an image, less is better; difference: from {reference}, on the "
            f"same images; {bounds}",
            f"KL: nats per image; {steps}",
        ]
    if kind == "tokens":
        return [
            f"perplexity: per word, with the ends of sentences, less is better; difference: from {reference}, on the "
            f"same sentences; {bounds}",
            f"KL: nats per sentence; {steps}",
        ]
    return [
        f"difference: nats per frame above {reference}, on the same utterances; if the scores are lower bounds, it is "
        "the difference of the bounds",
        f"KL: nats per frame; {steps}",
    ]


def explain_columns(kind: Kind, columns: Sequence[Column]) -> list[str]:
    """What the other columns mean."""
    cost = "; s/s: seconds of computing per second of generated speech" if kind == "waveform" else ""
    titles = {column.title for column in columns}
    return [*(text for title, text in LEGEND.items() if title in titles), f"frames/s: in training, median{cost}"]


def _bound(row: ComparisonRow) -> str:
    return f"iwae, {row.importance_samples}" if row.bound == "iwae" else row.bound


def _at_least(row: ComparisonRow) -> str:
    return "" if row.bound == "exact" else ">= "


def _at_most(row: ComparisonRow) -> str:
    return "" if row.bound == "exact" else "<= "


def _percent(fraction: float | None) -> float | None:
    return None if fraction is None else 100 * fraction


def _mapped(
    decreasing: Callable[[float], float | None], ends: tuple[float, float] | None
) -> tuple[float, float] | None:
    """The interval that a decreasing function makes of an interval."""
    if ends is None:
        return None
    high, low = map(decreasing, ends)
    return None if low is None or high is None else (low, high)


def number(value: float | None, digits: int, sign: str = "") -> str:
    """A number; nothing if there is none."""
    return "" if value is None else format_number(value, digits, sign, commas=True)


def interval(ends: tuple[float, float] | None, digits: int, sign: str = "") -> str:
    """An interval; nothing if there is none."""
    if ends is None:
        return ""
    low, high = ends
    return f"{number(low, digits, sign)} to {number(high, digits, sign)}"
