"""The log of a training run: EXP/metrics.csv, one row an interval of training or a validation."""

import csv
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor

from zfaudio.data.loader import Batch
from zfaudio.models.base import FrameTerms

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


# Sums over an interval of training, in this order.
SUMS = ("nats_per_frame", "log_likelihood", "kl", "log_auxiliary", "log_backward")

# What the time of an interval is spent on: waiting for the next batch; model, objective, backward pass, clipping and
# optimizer; and what is no training, validation and checkpoints. What is left is the overhead of the loop around them.
# Of a GPU that is the host's time, much of which passes while the GPU is at work.
Part = Literal["data_wait", "computing", "apart"]


class MetricsLog:
    """Appends rows to a CSV file; `step` is where a resumed run continues, later rows are dropped."""

    def __init__(self, path: Path, step: int) -> None:
        self.path = path
        kept = [row for row in read_metrics(path) if int(row["step"]) <= step]
        fresh = path.with_name(path.name + ".new")
        with fresh.open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(kept)
        fresh.replace(path)

    def append(self, row: dict[str, float | str]) -> None:
        """One row; columns that are not in it stay empty."""
        with self.path.open("a", newline="") as file:
            csv.DictWriter(file, COLUMNS).writerow(row)


def read_metrics(path: Path) -> list[dict[str, str]]:
    """Rows of a metrics file, none where there is no file; a last line that was cut short is left out."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return [row for row in csv.DictReader(file) if row["skipped"] is not None and None not in row]


class Interval:
    """Sums over the steps since the last line of the log, kept on the device so that nothing waits for them."""

    def __init__(self, device: torch.device) -> None:
        self.sums = torch.zeros(len(SUMS), dtype=torch.float64, device=device)  # nats
        self.frames = torch.zeros((), dtype=torch.float64, device=device)
        self.loss = torch.zeros((), dtype=torch.float64, device=device)
        self.norm = torch.zeros((), dtype=torch.float64, device=device)
        self.steps = 0
        self.spent: dict[Part, float] = {"data_wait": 0.0, "computing": 0.0, "apart": 0.0}  # seconds
        self.started = time.perf_counter()

    @contextmanager
    def timed(self, part: Part) -> Iterator[None]:
        """Count the time inside as spent on one part."""
        began = time.perf_counter()
        yield
        self.spent[part] += time.perf_counter() - began

    @torch.no_grad()
    def add(self, batch: Batch, terms: FrameTerms, loss: Tensor, norm: Tensor) -> None:
        """Count a step."""
        parts = (terms.elbo, terms.log_likelihood, terms.kl, terms.log_auxiliary, terms.log_backward)
        # Terms that the model does not have become NaN, which the log leaves empty.
        missing = loss.new_full((), float("nan"))
        self.sums += torch.stack([missing if part is None else part.sum() for part in parts])
        self.frames += int((batch.lengths - 1).sum())
        self.loss += loss
        self.norm += norm
        self.steps += 1

    def averages(self, accelerator: Accelerator) -> dict[str, Any]:
        """Over all processes nats a frame, loss in nats a sequence and frames a second; this one's shares of time."""
        total = accelerator.reduce(torch.cat([self.sums, torch.stack([self.frames, self.loss, self.norm])]))
        *sums, frames, loss, norm = total.tolist()
        seconds = time.perf_counter() - self.started - self.spent["apart"]
        steps = max(self.steps, 1) * accelerator.num_processes
        row = {name: value / frames for name, value in zip(SUMS, sums, strict=True) if frames and np.isfinite(value)}
        return row | {
            "frames": frames,
            "loss": loss / steps,
            "gradient_norm": norm / steps,
            "frames_per_second": frames / seconds,
            "data_wait": self.spent["data_wait"] / seconds,
            "loop_overhead": 1 - (self.spent["data_wait"] + self.spent["computing"]) / seconds,
        }
