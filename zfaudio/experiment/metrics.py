"""The log of a training run, EXP/metrics.csv: one row for each interval of training and for each validation."""

import csv
from pathlib import Path

from zfaudio.files import whole_file

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
        with whole_file(path) as part, part.open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(kept)

    def append(self, row: dict[str, float | str]) -> None:
        """Append one row; columns that it does not have stay empty."""
        with self.path.open("a", newline="") as file:
            csv.DictWriter(file, COLUMNS).writerow(row)


def read_metrics(path: Path) -> list[dict[str, str]]:
    """The rows of a metrics file; none if there is no file. A last line that was cut short is left out."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return [row for row in csv.DictReader(file) if row["skipped"] is not None and None not in row]
