"""The log of a training run, EXP/metrics.csv: one row for each interval of training and for each validation."""

import csv
import io
import re
from pathlib import Path

from zfaudio.errors import UserError
from zfaudio.files import explain_write_error, whole_file
from zfaudio.text import printable

NUMBER = r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]{1,3})?|nan|-?inf"

COLUMNS = (
    "step",
    "split",
    "frames",
    "nats_per_frame",
    "log_likelihood",
    "kl",
    "log_auxiliary",
    "log_backward",
    "loss",
    "gradient_norm",
    "learning_rate",
    "kl_weight",
    "aux_weight",
    "frames_per_second",
    "data_wait",
    "loop_overhead",
    "collapsed",
    "skipped",
)


class MetricsLog:
    """Appends rows to a CSV file. A resumed run continues at `step`; rows after it are dropped."""

    def __init__(self, path: Path, step: int) -> None:
        self.path = path
        kept = [row for row in read_metrics(path) if int(row["step"]) <= step]
        with whole_file(path) as part, part.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(kept)

    def append(self, row: dict[str, float | str]) -> None:
        """Append one row; columns that it does not have stay empty. Raises UserError if it cannot be written."""
        try:
            with self.path.open("a", newline="", encoding="utf-8") as file:
                csv.DictWriter(file, COLUMNS).writerow(row)
        except OSError as error:
            raise explain_write_error(self.path, error) from None


def read_metrics(path: Path) -> list[dict[str, str]]:
    """The rows of a metrics file; none if there is no file. A last line that was cut short is left out.

    Every row has a step, a split and the other columns, which are numbers or empty. Columns of other versions are left
    out, or empty.

    Raises:
        UserError: the file cannot be read, or holds anything else; the message names line and column.
    """
    if not path.exists():
        return []
    if not path.is_file():
        raise UserError(f"{path}: not a file")
    try:
        text = path.read_text(encoding="utf-8")
        reader = csv.reader(io.StringIO(text[: text.rfind("\n") + 1], newline=""), strict=True)
        header = next(reader, [])
        if header and not {"step", "split"} <= {*header}:
            raise ValueError("it has no columns step and split")
        return [read_row(header, row, reader.line_num) for row in reader if row]
    except (OSError, ValueError, csv.Error) as error:
        reason = printable(str(error))[:200]
        raise UserError(f"{path}: not the log of a training run ({reason}); delete the line or the file") from None


def read_row(header: list[str], values: list[str], line: int) -> dict[str, str]:
    """One row by column. Raises ValueError that names the line and the column that is wrong."""
    if len(values) != len(header):
        raise ValueError(f"line {line} has {len(values)} columns, not {len(header)}")
    named = dict(zip(header, values, strict=True))
    row = {column: named.get(column, "") for column in COLUMNS}
    if not re.fullmatch("[0-9]{1,18}", row["step"]):
        raise ValueError(f"line {line}: step is {row['step'][:40]!r}, not a step")
    if row["split"] not in ("train", "valid"):
        raise ValueError(f"line {line}: split is {row['split'][:40]!r}, not train or valid")
    for column in COLUMNS[2:]:
        if row[column] and not re.fullmatch(NUMBER, row[column]):
            raise ValueError(f"line {line}: {column} is {row[column][:40]!r}, not a number")
    return row
