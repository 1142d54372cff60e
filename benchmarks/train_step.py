"""One training step, Adam and clipping included: the published loop, the plain loop and the fast core.

python -m benchmarks.train_step --device cpu [--json FILE]
"""

import dataclasses
import json as json_format
import math
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from benchmarks.published import published_loss
from zfaudio.command import run_command
from zfaudio.models import ModelConfig
from zfaudio.models.zforcing import ZForcing
from zfaudio.objective import Weights, training_loss
from zfaudio.ops import fast
from zfaudio.ops.products import product

TIMIT = ModelConfig()  # hidden 1024, latent 256, embedding and MLP 512
FRAME_SIZE = 200
BATCH = 32
STEPS = 40
WEIGHTS = Weights(kl=0.2, auxiliary=0.005, backward=0.0)


def train_step(device: Literal["cpu", "cuda"] = "cpu", json: str = "", turns: int = 5, growth: bool = True) -> None:
    """Time a training step at the TIMIT size beside the published way of computing it.

    Args:
        device: where to compute.
        json: also write the results to this file.
        turns: how often each way is timed; medians are given.
        growth: also time other batch sizes, lengths and hidden sizes.
    """
    load = os.getloadavg()[0]
    check_same_loss(device)
    steps: dict[str, Callable[[], None]] = {
        core: training_step(core, TIMIT, BATCH, STEPS, device) for core in ("published", "plain", "fast")
    }
    square = torch.randn(2048, 2048, device=device)
    products = {"torch.mm": lambda: torch.mm(square, square), "oneDNN": lambda: product(square, square)}
    seconds = medians_in_alternation({**steps, **products}, turns, device)

    frames = BATCH * STEPS
    flops = flops_per_frame(TIMIT)
    gflops = {name: 2 * 2048**3 / seconds[name] / 1e9 for name in products}
    reached = flops * frames / seconds["fast"] / 1e9
    results: dict[str, Any] = {
        "device": device,
        "threads": torch.get_num_threads(),
        "load_before": round(load, 2),
        "frames_per_second": {core: round(frames / seconds[core]) for core in steps},
        "speedup_vs_published": round(seconds["published"] / seconds["fast"], 3),
        "speedup_vs_plain": round(seconds["plain"] / seconds["fast"], 3),
        "mflop_per_frame": round(flops / 1e6, 1),
        "gflops_reached": round(reached, 1),
        "gflops_of_large_product": {name: round(value, 1) for name, value in gflops.items()},
        "fraction_of_gemm_bound": round(reached / gflops["torch.mm"], 3),
        "fraction_of_onednn_bound": round(reached / gflops["oneDNN"], 3),
        "kept_bytes_per_frame": 4 * sum(fast.kept_elements(1024, 256, 512).values()),
    }
    if growth:
        results["growth"] = measure_growth(device)
    print_table(results)
    if json:
        Path(json).write_text(json_format.dumps(results, indent=1) + "\n")
    print(json_format.dumps(results))


def training_step(core: str, config: ModelConfig, batch: int, steps: int, device: str) -> Callable[[], None]:
    """One step of training with a core, `published`, `plain` or `fast`; data and weights are always the same."""
    model = model_with(core, config, device)
    # The fused Adam for all: what is compared is the model.
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4, eps=1e-5, fused=True)
    frames = torch.randn(batch, steps + 1, FRAME_SIZE, device=device)
    noise = torch.randn(batch, steps, config.latent_size, device=device)

    def step() -> None:
        optimizer.zero_grad()
        loss_of(core, model, frames, noise).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 100.0)
        optimizer.step()

    return step


def model_with(core: str, config: ModelConfig, device: str) -> ZForcing:
    """The model for a core, always with the same weights; the published way runs on the plain one's modules."""
    torch.manual_seed(0)
    return ZForcing(dataclasses.replace(config, core="fast" if core == "fast" else "plain"), FRAME_SIZE).to(device)


def loss_of(core: str, model: ZForcing, frames: Tensor, noise: Tensor) -> Tensor:
    """The training loss by a core."""
    if core == "published":
        return published_loss(model, frames, noise, WEIGHTS)
    lengths = torch.full((len(frames),), frames.shape[1], device=frames.device)
    return training_loss(model(frames, lengths, noise=noise), WEIGHTS)


def check_same_loss(device: str) -> None:
    """Raise AssertionError unless all cores give the same loss: timings of different functions mean nothing."""
    small = dataclasses.replace(TIMIT, hidden_size=64)
    frames, noise = torch.randn(4, 6, FRAME_SIZE, device=device), torch.randn(4, 5, TIMIT.latent_size, device=device)
    losses = [
        loss_of(core, model_with(core, small, device), frames, noise).detach()
        for core in ("published", "plain", "fast")
    ]
    torch.testing.assert_close(losses[1:], losses[:1] * 2, rtol=1e-4, atol=0)


def flops_per_frame(config: ModelConfig) -> float:
    """FLOPs a frame of a training step once redundant products are gone (gen folded into the LSTM's input matrix)."""
    hidden, latent, embedding, mlp = config.hidden_size, config.latent_size, config.embedding_size, config.mlp_size
    embed = FRAME_SIZE * embedding
    products = (
        embed
        + 4 * hidden * (embedding + hidden)  # backward LSTM
        + 4 * hidden * (embedding + latent + hidden)  # decoder LSTM
        + mlp * (hidden + 2 * latent)  # prior
        + mlp * (2 * hidden + 2 * latent)  # posterior
        + mlp * (latent + 2 * hidden)  # auxiliary
        + hidden * 2 * FRAME_SIZE  # output
    )
    # Each once forward, once for its input's gradient, once for its weight's; frames need no gradient.
    return 2.0 * (3 * products - embed)


def medians_in_alternation(tasks: dict[str, Callable[[], Any]], turns: int, device: str) -> dict[str, float]:
    """Median seconds of each task, one of each after the other in every turn; the first turn is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in tasks}
    for _ in range(turns + 1):
        for name, task in tasks.items():
            start = time.perf_counter()
            task()
            if device == "cuda":
                torch.cuda.synchronize()
            seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values[1:]) for name, values in seconds.items()}


def measure_growth(device: str) -> dict[str, dict[str, float]]:
    """Exponent of the fast step's time in batch, length and hidden size: time grows as size ** exponent."""
    sizes = {
        "batch": {size: (TIMIT, size, STEPS) for size in (16, 32, 64)},
        "length": {size: (TIMIT, BATCH, size) for size in (20, 40, 80)},
        "hidden": {size: (dataclasses.replace(TIMIT, hidden_size=size), BATCH, STEPS) for size in (512, 1024, 2048)},
    }
    growth = {}
    for name, settings in sizes.items():
        tasks = {str(size): training_step("fast", *setting, device) for size, setting in settings.items()}
        seconds = medians_in_alternation(tasks, 3, device)
        first, last = min(settings), max(settings)
        exponent = math.log(seconds[str(last)] / seconds[str(first)]) / math.log(last / first)
        growth[name] = {size: round(value, 3) for size, value in seconds.items()} | {"exponent": round(exponent, 2)}
    return growth


def print_table(results: dict[str, Any]) -> None:
    """A table of what was measured."""
    for core, rate in results["frames_per_second"].items():
        print(f"{core:10s} {rate:6d} frames/s")
    print(f"fast against published: {results['speedup_vs_published']:.2f} x")
    for name, gflops in results["gflops_of_large_product"].items():
        print(
            f"large product, {name}: {gflops:.0f} GFLOP/s; fast reaches {results['gflops_reached'] / gflops:.2f} of it"
        )
    for name, seconds in results.get("growth", {}).items():
        print(f"{name}: " + ", ".join(f"{size} {value}" for size, value in seconds.items()))


if __name__ == "__main__":
    run_command(train_step, sys.argv[1:], "python -m benchmarks.train_step")
