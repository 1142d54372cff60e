"""`zfaudio compare`: one table of any number of experiments, scored on the same utterances."""

import csv as csv_format
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zfaudio.evaluation.comparison import Comparison, Row, compare_experiments
from zfaudio.figures import Interval, draw_intervals


@dataclass(frozen=True)
class Column:
    """A column of the table as it is read."""

    title: str
    cell: Callable[[Row], str]  # empty where the row has no such thing
    numeric: bool = True
    under: bool = False  # whether a page shows it below the column before it


def compare(
    experiments: list[Path],
    *,
    split: str = "test",
    reference: Path | None = None,
    group_seeds: bool = False,
    csv: Path | None = None,
) -> None:
    """Print a table of experiments: likelihoods, their differences, sizes and speeds.

    Intervals are 95 % ones by bootstrap over utterances; those of differences resample the same utterances for both
    (paired). An experiment scored on other audio or by other rules than the reference is marked. zfaudio report
    --compare puts the table on a page.

    Args:
        experiments: folders of experiments, each scored by zfaudio evaluate; or single results (EXP/results/NAME.json).
        split: which result of the experiments, EXP/results/SPLIT.json.
        reference: the experiment that others are compared with; the first when left out.
        group_seeds: average experiments that differ in train.seed alone, and show the range of their scores.
        csv: write the table there, a number a column.
    """
    comparison = compare_experiments(experiments, split, reference, group_seeds)
    print(describe(make_table(comparison)))
    if csv is not None:
        write_csv(csv, comparison.rows)


# What is read


def columns_of(rows: Sequence[Row]) -> list[Column]:
    """The table's columns; that of seeds only where some are averaged."""
    seeds = [Column("over seeds", lambda row: between(row.seed_range, 2), under=True)]
    return [
        Column("experiment", lambda row: row.name + ("*" if row.remark else ""), numeric=False),
        Column("model", lambda row: row.model, numeric=False, under=True),
        Column("likelihood", density, numeric=False, under=True),
        Column("bound", bound, numeric=False, under=True),
        Column("nats/frame", lambda row: sign(row) + number(row.nats_per_frame, 2)),
        Column("95 %", lambda row: between(row.nats_per_frame_ci95, 2), under=True),
        *(seeds if any(row.seed_range for row in rows) else []),
        Column("difference", lambda row: number(row.difference, 2, "+")),
        Column("95 %, paired", lambda row: between(row.difference_ci95, 2, "+"), under=True),
        Column("bits/sample", lambda row: number(row.bits_per_sample, 3)),
        Column("KL", lambda row: number(row.kl_per_frame, 2)),
        Column("parameters", lambda row: f"{row.parameters:,}"),
        Column("steps", lambda row: number(row.steps, 0)),
        Column("frames/s", lambda row: number(row.training_frames_per_second, 0)),
        Column("s/s", lambda row: number(row.computing_per_second, 2)),
    ]


def density(row: Row) -> str:
    """The frame likelihood in words."""
    name = {"gaussian": "Gaussian", "gaussian_mixture": "Gaussian mixture", "logistic_mixture": "discretized logistics"}
    return name.get(row.likelihood, row.likelihood) + (", autoregressive" if row.head == "autoregressive" else "")


def bound(row: Row) -> str:
    """What the score is."""
    return f"iwae, {row.importance_samples}" if row.bound == "iwae" else row.bound


def sign(row: Row) -> str:
    """A mark before the score of a lower bound."""
    return "" if row.bound == "exact" else ">= "


def number(value: float | None, digits: int, plus: str = "") -> str:
    """With so many decimals; nothing for None."""
    return "" if value is None else f"{value:{plus},.{digits}f}"


def between(interval: tuple[float, float] | None, digits: int, plus: str = "") -> str:
    """`1.0 to 2.0`; nothing for None."""
    return "" if interval is None else f"{number(interval[0], digits, plus)} to {number(interval[1], digits, plus)}"


def heading(comparison: Comparison) -> str:
    """What was scored, and how."""
    result = comparison.conditions
    seconds = result.frames * result.frame_size / result.sample_rate
    how = ["dequantized" if result.dequantized else "not dequantized"]
    if result.protocol != "whole":
        how.append(f"protocol {result.protocol}")
    return (
        f"{result.split}: {result.utterances:,} utterances, {result.frames:,} frames of {result.frame_size} samples "
        f"({seconds / 60:,.1f} min); {', '.join(how)}"
    )


@dataclass
class Table:
    """The table in words."""

    heading: str
    columns: list[Column]
    rows: list[list[str]]
    references: list[list[str]]  # rows that need no model
    remarks: list[str]  # on rows with an asterisk
    legend: list[str]

    @property
    def titles(self) -> list[str]:
        """Of the columns."""
        return [column.title for column in self.columns]

    def stack(self, cells: Sequence[str]) -> list["Cell"]:
        """A row, or the titles, as a page shows it: some columns below those before them."""
        stacked: list[Cell] = []
        for column, text in zip(self.columns, cells, strict=True):
            if column.under:
                stacked[-1].under += [text] if text else []
            else:
                stacked.append(Cell(text, [], column.numeric))
        return stacked


@dataclass
class Cell:
    """What stands in one place of a page's table."""

    text: str
    under: list[str]
    numeric: bool


def make_table(comparison: Comparison) -> Table:
    """The table of a comparison."""
    columns = columns_of(comparison.rows)
    references = [
        {
            "experiment": "i.i.d. Gaussian",
            "nats/frame": number(comparison.references.iid_gaussian_nats_per_frame, 2),
        },
        {"experiment": "FLAC", "bits/sample": number(comparison.references.flac_bits_per_sample, 3)},
    ]
    return Table(
        heading(comparison),
        columns,
        [[column.cell(row) for column in columns] for row in comparison.rows],
        [[row.get(column.title, "") for column in columns] for row in references],
        [f"{row.name}: {row.remark}" for row in comparison.rows if row.remark],
        [
            f"difference: nats per frame above {comparison.reference}, on the same utterances; where scores are lower "
            "bounds, of the bounds",
            "KL: nats per frame; steps: of training, at the checkpoint that was scored",
            "frames/s: in training, median; s/s: seconds of computing per second of generated speech",
        ],
    )


def describe(table: Table) -> str:
    """The table for a terminal."""
    widths = [max(map(len, texts)) for texts in zip(table.titles, *table.rows, *table.references, strict=True)]

    def line(texts: Sequence[str]) -> str:
        placed = zip(texts, widths, table.columns, strict=True)
        padded = (text.rjust(width) if column.numeric else text.ljust(width) for text, width, column in placed)
        return "  ".join(padded).rstrip()

    rows = [table.titles, ["-" * width for width in widths], *table.rows, *table.references]
    remarks = [f"* {remark}" for remark in table.remarks]
    return "\n".join([table.heading, "", *map(line, rows), "", *remarks, *table.legend])


def draw(comparison: Comparison) -> str:
    """The rows that compare and their intervals as an SVG element.

    Bits per sample beside FLAC's; without dequantization, nats per frame beside the i.i.d. Gaussian's.
    """
    rows, references = [row for row in comparison.rows if not row.remark], comparison.references
    if comparison.conditions.dequantized:
        bits = [(row.name, row.bits_per_sample, row.bits_per_sample_ci95) for row in rows]
        intervals = [Interval(name, value, *span) for name, value, span in bits if value is not None and span]
        return draw_intervals(
            "Bits per 16-bit sample, with 95 % intervals: the fewer, the better",
            intervals,
            references.flac_bits_per_sample,
            "FLAC",
        )
    return draw_intervals(
        "Nats per frame, with 95 % intervals: the more, the better",
        [Interval(row.name, row.nats_per_frame, *row.nats_per_frame_ci95) for row in rows],
        references.iid_gaussian_nats_per_frame,
        "i.i.d. Gaussian",
    )


# What programs read


def write_csv(path: Path, rows: Sequence[Row]) -> None:
    """The rows with every number in a column of its own, empty where there is none."""
    flat = [flatten_row(row) for row in rows]
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv_format.DictWriter(file, list(flat[0]))
        writer.writeheader()
        writer.writerows(flat)


def flatten_row(row: Row) -> dict[str, Any]:
    """Intervals as two columns, ..._low and ..._high; seeds apart by spaces."""
    flat: dict[str, Any] = {}
    for name, value in vars(row).items():
        if name.endswith(("_ci95", "_range")):
            flat[f"{name}_low"], flat[f"{name}_high"] = value or (None, None)
        else:
            flat[name] = " ".join(map(str, value)) if isinstance(value, list) else value
    return flat
