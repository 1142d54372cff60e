"""`zfaudio compare`: a table of experiments that were scored on the same utterances, as text, CSV and for a page."""

import csv as csv_format
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zfaudio.evaluation.comparison import Comparison, ComparisonRow, compare_experiments
from zfaudio.experiment.results import EvaluationResult
from zfaudio.files import whole_file
from zfaudio.observations import Kind, sequence_word
from zfaudio.reporting.comparison_columns import BITS, Column, columns_of, explain_columns, explain_scores, number
from zfaudio.text import printable

# Beginnings of the names of numbers that a kind does not have, and that its CSV leaves out.
OF_SOUND = ("encoding", "bits_per_sample", "flac_bits", "computing_per_second", "samples_")
FOREIGN: dict[Kind, tuple[str, ...]] = {
    "waveform": ("nats_per_utterance", "kl_per_utterance", "word_perplexity"),
    "binary": (*OF_SOUND, "word_perplexity"),
    "tokens": OF_SOUND,
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
        UserError: a result is missing, results are of different kinds, or two results on the same audio are not on the
            same utterances.
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
    columns, result = columns_of(comparison.rows), comparison.reference_result
    references: list[dict[str, str]] = []
    if result.kind == "waveform":
        scores = result.waveform
        name, independent = scores.independent
        references = [
            {"experiment": name, "nats/frame": number(independent, 2)},
            *({"experiment": name, BITS["linear"]: number(bits, 3)} for name, bits in scores.lossless_coders.items()),
        ]
    word = sequence_word(result.kind, bool(result.image_size))
    return ComparisonTable(
        heading=printable(_heading(comparison)),
        columns=columns,
        rows=[[printable(column.text(row)) for column in columns] for row in comparison.rows],
        references=[[reference.get(column.title, "") for column in columns] for reference in references],
        remarks=[printable(f"{row.name}: {row.remark}") for row in comparison.rows if row.remark],
        legend=[
            *explain_scores(result.kind, printable(comparison.reference)),
            *explain_columns(result.kind, columns),
            *([f"a single {word} has no interval"] if result.utterances == 1 else []),
        ],
    )


def _heading(comparison: Comparison) -> str:
    """What was scored, and how."""
    result = comparison.reference_result
    if result.kind != "waveform":
        return f"{result.split}: {_content(result)}"
    seconds = result.frames * result.frame_size / result.waveform.sample_rate
    how = ["dequantized" if result.dequantized else "not dequantized"]
    if result.encoding == "mulaw":
        how = ["8-bit mu-law"]
    if result.protocol != "whole":
        how.append(f"protocol {result.protocol}")
    return (
        f"{result.split}: {result.utterances:,} utterances, {result.frames:,} frames of {result.frame_size} samples "
        f"({seconds / 60:,.1f} min); {', '.join(how)}"
    )


def _content(result: EvaluationResult) -> str:
    """The pictures or sentences that were scored."""
    if result.kind == "tokens":
        assert result.unknown_share is not None
        share = number(100 * result.unknown_share, 2)
        return (
            f"{result.utterances:,} sentences, {result.frames:,} words, {share} % of them <unk>; a vocabulary of "
            f"{result.vocabulary:,} words"
        )
    if result.image_size is None:
        return f"{result.utterances:,} sequences"
    rows, columns = result.image_size
    return f"{result.utterances:,} images of {rows} x {columns} pixels"


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
    kept = {name: value for name, value in record.items() if not name.startswith(FOREIGN[row.kind])}
    return {name: _csv_text(value) if isinstance(value, str) else value for name, value in kept.items()}


def _csv_text(text: str) -> str:
    """Text that a spreadsheet shows: an apostrophe keeps it from being computed as a formula."""
    text = printable(text)
    return f"'{text}" if text.startswith(FORMULA_STARTS) else text
