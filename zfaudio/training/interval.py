"""Averages over an interval of training, for a line of the log."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
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
