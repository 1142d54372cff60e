"""What a run tells: metrics.csv, TensorBoard, lines on the terminal, and the progress bar. Only one process speaks."""

import sys
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from tqdm import tqdm

from zfaudio.experiment.metrics import MetricsLog
from zfaudio.files import explain_write_error


class TrainingLog:
    """The log of a run.

    Args:
        accelerator: knows whether this is the process that speaks; its trackers have been started.
        metrics: where rows go; None on the other processes.
        bar: the progress bar.
    """

    def __init__(self, accelerator: Accelerator, metrics: MetricsLog | None, bar: "tqdm[Any]") -> None:
        self.accelerator, self.metrics, self.bar = accelerator, metrics, bar

    def record(self, step: int, split: str, row: dict[str, Any]) -> None:
        """Write one row to metrics.csv and to TensorBoard."""
        if self.metrics is not None:
            self.metrics.append({"step": step, "split": split, **row})
        try:
            self.accelerator.log({f"{split}/{name}": value for name, value in row.items()}, step=step)
        except OSError as error:
            raise explain_write_error(Path(str(self.accelerator.project_dir)) / "tensorboard", error) from None

    def say(self, line: str) -> None:
        """Print a line above the progress bar."""
        if self.accelerator.is_main_process:
            self.bar.write(line, file=sys.stdout)


def progress_bar(accelerator: Accelerator, step: int, max_steps: int) -> "tqdm[Any]":
    """A bar that starts at `step`; only on a terminal, and only on one process."""
    hidden = None if accelerator.is_main_process else True  # None: hidden where there is no terminal
    return tqdm(total=max_steps, initial=step, unit="step", disable=hidden, dynamic_ncols=True)


def in_short(row: dict[str, Any]) -> str:
    """A row of the training log as the progress bar shows it."""
    terms = {"nats/frame": "nats_per_frame", "KL": "kl", "aux": "log_auxiliary"}
    shown = [f"{row[name]:.1f} {label}" for label, name in terms.items() if name in row]
    shown += [f"{row[name]:.1%} {label}" for label, name in (("wait", "data_wait"), ("loop", "loop_overhead"))]
    skipped = f", {row['skipped']} skipped" if row["skipped"] else ""
    return f"{row['frames_per_second']:.0f} frames/s, {', '.join(shown)}{skipped}"
