"""What a run tells: metrics.csv, the tracker, lines on the terminal, and the progress bar. Only one process speaks."""

import sys
import time
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
        step: number of steps done before.
    """

    def __init__(self, accelerator: Accelerator, metrics: MetricsLog | None, bar: "tqdm[Any]", step: int) -> None:
        self.accelerator, self.metrics, self.bar = accelerator, metrics, bar
        self.first_step, self.started = step, time.monotonic()

    def record(self, step: int, split: str, row: dict[str, Any]) -> None:
        """Write one row to metrics.csv and to the tracker."""
        if self.metrics is not None:
            self.metrics.append({"step": step, "split": split, **row})
        try:
            self.accelerator.log({f"{split}/{name}": value for name, value in row.items()}, step=step)
        except OSError as error:
            raise explain_write_error(Path(str(self.accelerator.project_dir)) / "tensorboard", error) from None

    def time_left(self, step: int, max_steps: int) -> str:
        """How long the run will still take at its speed so far, validations included, as the end of a line."""
        if step >= max_steps:
            return ""
        seconds = (time.monotonic() - self.started) / (step - self.first_step) * (max_steps - step)
        return f"; {in_words(seconds)} left"

    def say(self, line: str) -> None:
        """Print a line above the progress bar."""
        if line and self.accelerator.is_main_process:
            self.bar.write(line, file=sys.stdout)


def progress_bar(accelerator: Accelerator, step: int, max_steps: int) -> "tqdm[Any]":
    """A bar that starts at `step`; only on a terminal, and only on one process."""
    hidden = None if accelerator.is_main_process else True  # None: hidden where there is no terminal
    return tqdm(total=max_steps, initial=step, unit="step", disable=hidden, dynamic_ncols=True)


def in_words(seconds: float) -> str:
    """A duration, to the minute or to the second."""
    minutes = round(seconds / 60)
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"


def in_short(row: dict[str, Any]) -> str:
    """A row of the training log as the progress bar shows it."""
    terms = {"nats/frame": "nats_per_frame", "KL": "kl", "aux": "log_auxiliary"}
    shown = [f"{row[name]:.1f} {label}" for label, name in terms.items() if name in row]
    shown += [f"{row[name]:.1%} {label}" for label, name in (("wait", "data_wait"), ("loop", "loop_overhead"))]
    skipped = f", {row['skipped']} skipped" if row["skipped"] else ""
    return f"{row['frames_per_second']:.0f} frames/s, {', '.join(shown)}{skipped}"
