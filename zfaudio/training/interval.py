"""Averages over an interval of training, for a line of the log."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor

from zfaudio.data.batches import Batch
from zfaudio.models.base import FrameTerms

# Columns of the log that are averages per frame, in the order of `Interval.term_sums`.
TERMS = ("nats_per_frame", "log_likelihood", "kl", "log_auxiliary", "log_backward")

# What time is spent on: waiting for the next batch; computing a step (model, objective, backward pass, clipping and
# optimizer); or work that is not training: validation and checkpoints. The rest is overhead of the loop around them.
# On a GPU this is the time of the host, which mostly runs ahead of the GPU.
Activity = Literal["data_wait", "computing", "not_training"]


@dataclass
class IntervalSums:
    """What an interval of training has added up on one process, as a checkpoint keeps it."""

    terms: list[float]  # nats, in the order of TERMS
    frames: float
    loss: float
    norm: float
    steps: int
    seconds: float  # since the interval began
    data_wait: float  # seconds of each activity
    computing: float
    not_training: float

    def __post_init__(self) -> None:
        if len(self.terms) != len(TERMS):
            raise ValueError(f"terms has {len(self.terms)} numbers, not {len(TERMS)}")
        if not 0 <= self.steps < 2**63:
            raise ValueError("steps is out of range")


class Interval:
    """Sums over the steps since the last line of the log. They stay on the device, so that nothing waits for them."""

    def __init__(self, device: torch.device) -> None:
        self.term_sums = torch.zeros(len(TERMS), dtype=torch.float64, device=device)  # nats
        self.frames = torch.zeros((), dtype=torch.float64, device=device)
        self.loss = torch.zeros((), dtype=torch.float64, device=device)
        self.norm = torch.zeros((), dtype=torch.float64, device=device)
        self.steps = 0
        self.seconds: dict[Activity, float] = {"data_wait": 0.0, "computing": 0.0, "not_training": 0.0}
        self.started = time.perf_counter()

    def sums(self) -> IntervalSums:
        """What has been added up so far, to continue from with `restore`."""
        return IntervalSums(
            self.term_sums.tolist(),
            self.frames.item(),
            self.loss.item(),
            self.norm.item(),
            self.steps,
            time.perf_counter() - self.started,
            **self.seconds,
        )

    def restore(self, sums: IntervalSums) -> None:
        """Continue an interval in which a run was stopped. The time in between does not count."""
        self.term_sums.copy_(torch.tensor(sums.terms, dtype=torch.float64))
        self.frames.fill_(sums.frames)
        self.loss.fill_(sums.loss)
        self.norm.fill_(sums.norm)
        self.steps = sums.steps
        self.started = time.perf_counter() - sums.seconds
        self.seconds = {
            "data_wait": sums.data_wait,
            "computing": sums.computing,
            "not_training": sums.not_training,
        }

    @contextmanager
    def timed(self, activity: Activity) -> Iterator[None]:
        """Count the time inside the `with` block as spent on an activity."""
        began = time.perf_counter()
        yield
        self.seconds[activity] += time.perf_counter() - began

    @torch.no_grad()
    def add(self, batch: Batch, terms: FrameTerms, loss: Tensor, norm: Tensor) -> None:
        """Add a step: its batch, its terms, its loss in nats per sequence, and the norm of its gradient."""
        parts = (terms.elbo, terms.log_likelihood, terms.kl, terms.log_auxiliary, terms.log_backward)
        # Terms that the model does not have become NaN, which the log leaves empty.
        missing = loss.new_full((), float("nan"))
        self.term_sums += torch.stack([missing if part is None else part.sum() for part in parts])
        self.frames += int((batch.lengths - 1).sum())
        self.loss += loss
        self.norm += norm
        self.steps += 1

    def averages(self, accelerator: Accelerator) -> dict[str, Any]:
        """Averages over all processes: nats per frame, loss in nats per sequence, frames per second.

        The shares of time are those of this process.
        """
        total = accelerator.reduce(torch.cat([self.term_sums, torch.stack([self.frames, self.loss, self.norm])]))
        *sums, frames, loss, norm = total.tolist()
        seconds = time.perf_counter() - self.started - self.seconds["not_training"]
        steps = max(self.steps, 1) * accelerator.num_processes
        row = {name: value / frames for name, value in zip(TERMS, sums, strict=True) if frames and np.isfinite(value)}
        return row | {
            "frames": frames,
            "loss": loss / steps,
            "gradient_norm": norm / steps,
            "frames_per_second": frames / seconds,
            "data_wait": self.seconds["data_wait"] / seconds,
            "loop_overhead": 1 - (self.seconds["data_wait"] + self.seconds["computing"]) / seconds,
        }
