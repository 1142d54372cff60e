"""`zfaudio compare`: a table of experiments that were scored on the same utterances, as text, CSV and for a page."""

import csv as csv_format
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zfaudio.evaluation.comparison import Comparison, ComparisonRow, compare_experiments
from zfaudio.files import whole_file
from zfaudio.text import format_number, printable

LIKELIHOODS = {
    "gaussian": "Gaussian",
    "gaussian_mixture": "Gaussian mixture",
    "logistic_mixture": "discretized logistics",
}

# What columns mean that are only shown if experiments differ in them, or have such numbers.
LEGEND = {
    "batch": "batch: sequences in a training step of each process",
    "learning rate": "learning rate: at the start of training",
    "draws": "draws: of the posterior, in scoring",
    "Fréchet": "Fréchet: distance of the log-mel frames of samples from those of real speech, see zfaudio quality",
    "words, %": "words, %: pieces of the samples that are recognized as words; words/s: recognized words per second",
}

FORMULA_STARTS = ("=", "+", "-", "@")  # a spreadsheet computes a cell that starts so, unless it is a number


def compare(
    experiments: Sequence[str | Path],
    *,
    split: str = "test",
    reference: str | Path | None = None,
    group_seeds: bool = False,
    csv: str | Path | None = None,
) -> Comparison:
    """Print a table of experiments: likelihoods, their differences, sizes and speeds.

    The intervals are 95 % bootstrap intervals over utterances. Those of differences resample the same utterances for
    both experiments (paired bootstrap). An experiment that was scored on other audio or by other rules than the
    reference is marked. zfaudio report --compare puts the same table on a page.

    Args:
        experiments: folders of experiments, each scored by zfaudio evaluate, or single results (EXP/results/NAME.json).
        split: which result of the experiments to read, EXP/results/SPLIT.json.
        reference: the experiment to compare the others with; by default the first.
        group_seeds: average experiments that differ only in train.seed, and show the range of their scores.
        csv: file to write the table to, with each number in a column of its own.

    Returns:
        The rows of the table as numbers.

    Raises:
        UserError: a result is missing, or two results on the same audio are not on the same utterances.
    """
    comparison = compare_experiments(
        [Path(experiment) for experiment in experiments],
        split,
        reference=None if reference is None else Path(reference),
        group_seeds=group_seeds,
    )
    try:
        if csv is not None:
            write_csv(Path(csv), comparison.rows)
    finally:
        print(describe(tabulate_comparison(comparison)))
    return comparison


# The table in words

MODELS = {
    "zforcing": "Z-forcing",
    "vrnn": "VRNN",
    "srnn": "SRNN",
    "rnn": "RNN",
    "sample_ar": "Sample-level autoregressive model",
    "samplernn": "SampleRNN",
    "wavenet": "WaveNet",
}


def describe_model(settings: dict[str, Any]) -> str:
    """A model in words, from its settings: for example "Z-forcing, Gaussian". Empty if they do not name one."""
    name = str(settings.get("name", ""))
    words = MODELS.get(name, name.rpartition(".")[2])
    likelihood = describe_likelihood(str(settings.get("likelihood", "")), settings.get("head"))
    return ", ".join(part for part in (words, likelihood) if part)


def describe_likelihood(likelihood: str, head: object) -> str:
    """A frame likelihood and its head in words, such as "discretized logistics, autoregressive"."""
    words = [LIKELIHOODS.get(likelihood, likelihood), "autoregressive" if head == "autoregressive" else ""]
    return ", ".join(word for word in words if word)


@dataclass(frozen=True)
class Column:
    """A column of the table."""

    title: str
    text: Callable[[ComparisonRow], str]  # what stands in a row; empty if the row has no such value
    numeric: bool = True  # numbers are aligned on the right
    stacked: bool = False  # on a page, it stands in smaller type below the column to the left


@dataclass
class StackedCell:
    """A cell of the table on a page, together with the cells that are stacked below it."""

    text: str
    below: list[str]
    numeric: bool


@dataclass
class ComparisonTable:
    """A comparison in words."""

    heading: str
    columns: list[Column]
    rows: list[list[str]]
    references: list[list[str]]  # rows of the references that need no model
    remarks: list[str]  # about rows with an asterisk
    legend: list[str]

    @property
    def titles(self) -> list[str]:
        """The titles of the columns."""
        return [column.title for column in self.columns]

    def stack(self, row: Sequence[str]) -> list[StackedCell]:
        """A row, or the titles, as a page shows it."""
        cells: list[StackedCell] = []
        for column, text in zip(self.columns, row, strict=True):
            if not column.stacked:
                cells.append(StackedCell(text, below=[], numeric=column.numeric))
            elif text:
                cells[-1].below.append(text)
        return cells


def tabulate_comparison(comparison: Comparison) -> ComparisonTable:
    """A comparison as a table."""
    columns = _columns(comparison.rows)
    scores = comparison.reference_result.waveform.references
    references = [
        {"experiment": "i.i.d. Gaussian", "nats/frame": _number(scores.iid_gaussian_nats_per_frame, 2)},
        {"experiment": "FLAC", "bits/sample": _number(scores.flac_bits_per_sample, 3)},
    ]
    return ComparisonTable(
        heading=printable(_heading(comparison)),
        columns=columns,
        rows=[[printable(column.text(row)) for column in columns] for row in comparison.rows],
        references=[[reference.get(column.title, "") for column in columns] for reference in references],
        remarks=[printable(f"{row.name}: {row.remark}") for row in comparison.rows if row.remark],
        legend=[
            f"difference: nats per frame above {printable(comparison.reference)}, on the same utterances; if the "
            "scores are lower bounds, it is the difference of the bounds",
            "KL: nats per frame; steps: training steps of the checkpoint that was scored",
            *(text for title, text in LEGEND.items() if title in {column.title for column in columns}),
            "frames/s: in training, median; s/s: seconds of computing per second of generated speech",
            *(["a single utterance has no interval"] if comparison.reference_result.utterances == 1 else []),
        ],
    )


def _columns(rows: Sequence[ComparisonRow]) -> list[Column]:
    """The columns of the table: those about seeds and samples if a row has such, settings if rows differ in them."""
    settings = [
        Column("batch", lambda row: "" if row.batch_size is None else f"{row.batch_size}"),
        Column("learning rate", lambda row: "" if row.learning_rate is None else f"{row.learning_rate:g}"),
        Column("draws", lambda row: "" if row.bound == "exact" else f"{row.draws}"),
    ]
    quality = [
        Column("Fréchet", lambda row: _number(row.samples_frechet_distance, 2)),
        Column("words, %", lambda row: _number(_percent(row.samples_recognized_fraction), 1)),
        Column("words/s", lambda row: _number(row.samples_words_per_second, 2), stacked=True),
    ]
    seeds = Column("over seeds", lambda row: _interval(row.seed_range, 2), stacked=True)
    return [
        Column("experiment", lambda row: row.name + ("*" if row.remark else ""), numeric=False),
        Column("model", lambda row: row.model, numeric=False, stacked=True),
        Column(
            "likelihood", lambda row: describe_likelihood(row.likelihood or "", row.head), numeric=False, stacked=True
        ),
        Column("bound", _bound, numeric=False, stacked=True),
        Column("nats/frame", lambda row: _bound_sign(row) + _number(row.nats_per_frame, 2)),
        Column("95 %", lambda row: _interval(row.nats_per_frame_ci95, 2), stacked=True),
        *([seeds] if any(row.seed_range for row in rows) else []),
        Column("difference", lambda row: _number(row.difference, 2, "+")),
        Column("95 %, paired", lambda row: _interval(row.difference_ci95, 2, "+"), stacked=True),
        Column("bits/sample", lambda row: _number(row.bits_per_sample, 3)),
        Column("KL", lambda row: _number(row.kl_per_frame, 2)),
        Column("parameters", lambda row: f"{row.parameters:,}"),
        Column("steps", lambda row: _number(row.steps, 0)),
        *(column for column in settings if len({column.text(row) for row in rows} - {""}) > 1),
        Column("frames/s", lambda row: _number(row.training_frames_per_second, 0)),
        Column("s/s", lambda row: _number(row.computing_per_second, 2)),
        *(column for column in quality if any(column.text(row) for row in rows)),
    ]


def _bound(row: ComparisonRow) -> str:
    return f"iwae, {row.importance_samples}" if row.bound == "iwae" else row.bound


def _bound_sign(row: ComparisonRow) -> str:
    return "" if row.bound == "exact" else ">= "


def _percent(fraction: float | None) -> float | None:
    return None if fraction is None else 100 * fraction


def _number(value: float | None, digits: int, sign: str = "") -> str:
    return "" if value is None else format_number(value, digits, sign, commas=True)


def _interval(interval: tuple[float, float] | None, digits: int, sign: str = "") -> str:
    if interval is None:
        return ""
    low, high = interval
    return f"{_number(low, digits, sign)} to {_number(high, digits, sign)}"


def _heading(comparison: Comparison) -> str:
    """What was scored, and how."""
    result = comparison.reference_result
    seconds = result.frames * result.frame_size / result.waveform.sample_rate
    how = ["dequantized" if result.dequantized else "not dequantized"]
    if result.protocol != "whole":
        how.append(f"protocol {result.protocol}")
    return (
        f"{result.split}: {result.utterances:,} utterances, {result.frames:,} frames of {result.frame_size} samples "
        f"({seconds / 60:,.1f} min); {', '.join(how)}"
    )


def describe(table: ComparisonTable) -> str:
    """The table for a terminal."""
    widths = [max(map(len, texts)) for texts in zip(table.titles, *table.rows, *table.references, strict=True)]

    def line(row: Sequence[str]) -> str:
        cells = zip(row, widths, table.columns, strict=True)
        padded = [text.rjust(width) if column.numeric else text.ljust(width) for text, width, column in cells]
        return "  ".join(padded).rstrip()

    rows = [table.titles, ["-" * width for width in widths], *table.rows, *table.references]
    remarks = [f"* {remark}" for remark in table.remarks]
    return "\n".join([table.heading, "", *map(line, rows), "", *remarks, *table.legend])


# The table as numbers


def write_csv(path: Path, rows: Sequence[ComparisonRow]) -> None:
    """Write rows as CSV, each number in a column of its own; it is empty if the row has no such number."""
    records = [_csv_record(row) for row in rows]
    with whole_file(path) as part, part.open("w", newline="", encoding="utf-8") as file:
        writer = csv_format.DictWriter(file, list(records[0]))
        writer.writeheader()
        writer.writerows(records)


def _csv_record(row: ComparisonRow) -> dict[str, Any]:
    """A row for CSV: an interval becomes two columns, ..._low and ..._high; seeds are separated by spaces."""
    record: dict[str, Any] = {}
    for name, value in vars(row).items():
        if name.endswith(("_ci95", "_range")):
            record[f"{name}_low"], record[f"{name}_high"] = value or (None, None)
        else:
            record[name] = " ".join(map(str, value)) if isinstance(value, list) else value
    return {name: _csv_text(value) if isinstance(value, str) else value for name, value in record.items()}


def _csv_text(text: str) -> str:
    """Text that a spreadsheet shows: an apostrophe keeps it from being computed as a formula."""
    text = printable(text)
    return f"'{text}" if text.startswith(FORMULA_STARTS) else text
