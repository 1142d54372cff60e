"""One training step, including Adam and gradient clipping, by the published loop, the plain core and the fast core.

python -m benchmarks.train_step --device cpu [--json FILE]
"""

import dataclasses
import math
import sys
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn

from benchmarks.published import published_loss
from benchmarks.timing import load_before, medians_in_alternation, processor, report
from zfaudio.command import run_command
from zfaudio.config import ZForcingConfig
from zfaudio.device import allow_tf32
from zfaudio.distributions import Quantizer
from zfaudio.models.zforcing import ZForcing
from zfaudio.ops.cuda_graph import Recorded
from zfaudio.ops.latent_path_fast import kept_elements
from zfaudio.ops.torch_private import linear, onednn_applies, onednn_multiplies
from zfaudio.training.objective import Weights, training_loss

FRAME_SIZE = 200
CORES = ("published", "plain", "fast")
GRAPH = "fast, one CUDA graph"
WEIGHTS = Weights(kl=0.2, auxiliary=0.005, backward=0.0)


@dataclasses.dataclass(frozen=True)
class Size:
    """Sizes of the model and of the batch of a step."""

    hidden: int
    latent: int
    mlp: int  # size of the embedding too
    batch: int
    steps: int = 40  # scored frames per sequence

    @property
    def frames(self) -> int:
        """Number of scored frames per training step."""
        return self.batch * self.steps

    def config(self, core: str) -> ZForcingConfig:
        """Settings of the model; the published loop uses the modules of the plain core."""
        return ZForcingConfig(
            hidden_size=self.hidden,
            latent_size=self.latent,
            embedding_size=self.mlp,
            mlp_size=self.mlp,
            core="fast" if core == "fast" else "plain",
        )


SIZES = {"timit": Size(1024, 256, 512, batch=32), "blizzard": Size(2048, 256, 1024, batch=128)}
TINY = Size(32, 8, 16, batch=4, steps=4)


def train_step(
    device: Literal["cpu", "cuda"] = "cpu", json: str = "", turns: int = 5, growth: bool = True, tiny: bool = False
) -> None:
    """Time a training step of the published loop and of both cores.

    A CPU runs the TIMIT size, and a GPU the TIMIT and the Blizzard size, each in float32 (TF32 on a GPU) and with
    products in bfloat16. A CPU that would have to emulate bfloat16 runs float32 only. The float32 results of a CPU are
    at the top level of the JSON object.

    Args:
        device: where to compute.
        json: file to write the results to as well.
        turns: how often each task is timed; the results are medians.
        growth: also time other batch sizes, lengths and hidden sizes.
        tiny: use a tiny model, to check that the benchmark runs.
    """
    results: dict[str, Any] = {
        "device": torch.cuda.get_device_name() if device == "cuda" else device,
        "processor": processor(),
        "torch_instructions": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "load_before": load_before(),
    }
    print(f"{results['processor']}; torch uses {results['torch_instructions']}")
    check_same_loss(device)
    size = TINY if tiny else SIZES["timit"]
    if device == "cpu":
        runs = {"fp32": measure(size, device, "fp32", turns)}
        results |= runs["fp32"]
        if onednn_multiplies(torch.bfloat16):
            results["bf16"] = runs["bf16"] = measure(size, device, "bf16", turns)
        else:
            print("no bfloat16: this processor would have to emulate it")
    else:
        sizes = {"tiny": TINY} if tiny else SIZES
        runs = {
            f"{name}_{precision}": measure(gpu_size, device, precision, turns)
            for name, gpu_size in sizes.items()
            for precision in ("tf32", "bf16")
        }
        results |= runs
    if growth:
        results["growth"] = measure_growth(size, device)
    ways = (*CORES, GRAPH) if device == "cuda" else CORES
    rows: list[tuple[object, ...]] = [
        ("frames/s", *ways, "speed-up", "on published fp32", "x LSTM pair", "of large product")
    ]
    for name, run in runs.items():
        ratios = (
            run["speedup_vs_published"],
            run["speedup_vs_published_fp32"],
            run.get("time_vs_lstm_pair", run.get("time_vs_cudnn_pair")),
            run["fraction_of_gemm_bound"],
        )
        rows.append((name, *run["frames_per_second"].values(), *ratios))
    report(results, rows, json)


def measure(size: Size, device: str, precision: str, turns: int) -> dict[str, Any]:
    """Time the published loop, both cores, two plain LSTMs and large products, in alternation.

    Ratios compare the fast core with the others; on a GPU it runs as one CUDA graph. In a lower precision, the
    published loop is timed in float32 as well.
    """
    edge = 8192 if device == "cuda" else 2048
    square = torch.randn(edge, edge, device=device, dtype=torch.bfloat16 if precision == "bf16" else torch.float32)
    tasks = {core: training_step(core, size, device, precision) for core in CORES}
    if device == "cuda":
        tasks[GRAPH] = training_step("fast", size, device, precision, graph=True)
    ways = list(tasks)
    if precision != "fp32":
        tasks["published fp32"] = training_step("published", size, device, "fp32")
    tasks["LSTM pair"] = lstm_pair(size, device, precision)
    tasks["torch.mm"] = lambda: large_product(square, precision)
    if onednn_applies(square):
        tasks["oneDNN"] = lambda: linear(square, square)
    seconds = medians_in_alternation({name: finished(task, device) for name, task in tasks.items()}, turns)

    ours, in_float32 = seconds.get(GRAPH, seconds["fast"]), seconds.get("published fp32", seconds["published"])
    flops = flops_of_step(size)
    gflops = {name: 2 * edge**3 / seconds[name] / 1e9 for name in ("torch.mm", "oneDNN") if name in seconds}
    pair = "time_vs_cudnn_pair" if device == "cuda" else "time_vs_lstm_pair"  # on a GPU nn.LSTM is cuDNN's
    reached = flops / ours / 1e9
    return {
        "frames_per_second": {way: round(size.frames / seconds[way]) for way in ways},
        "speedup_vs_published": round(seconds["published"] / ours, 3),
        "speedup_vs_published_fp32": round(in_float32 / ours, 3),
        "speedup_vs_plain": round(seconds["plain"] / ours, 3),
        pair: round(ours / seconds["LSTM pair"], 3),
        "mflop_per_frame": round(flops / size.frames / 1e6, 1),
        "gflops_reached": round(reached, 1),
        "gflops_of_large_product": {name: round(value, 1) for name, value in gflops.items()},
        "fraction_of_gemm_bound": round(reached / gflops["torch.mm"], 3),
        **({"fraction_of_onednn_bound": round(reached / gflops["oneDNN"], 3)} if "oneDNN" in gflops else {}),
        "kept_bytes_per_frame": 4 * sum(kept_elements(size.hidden, size.latent, size.mlp).values()),
    }


def finished(task: Callable[[], Any], device: str) -> Callable[[], None]:
    """The task, waiting for the GPU before it returns."""

    def run() -> None:
        task()
        if device == "cuda":
            torch.cuda.synchronize()

    return run


def training_step(
    core: str, size: Size, device: str, precision: str = "fp32", graph: bool = False
) -> Callable[[], None]:
    """A training step with a core (`published`, `plain` or `fast`), always with the same data and weights.

    With `graph`, everything except the optimizer's step is launched as one CUDA graph.
    """
    model = model_with(core, size, device)
    parameters = list(model.parameters())
    optimizer = torch.optim.Adam(parameters, lr=1e-4, eps=1e-5, fused=True)
    frames = torch.randn(size.batch, size.steps + 1, FRAME_SIZE, device=device)
    noise = torch.randn(size.batch, size.steps, size.latent, device=device)

    def gradients(frames: Tensor, noise: Tensor) -> None:
        for parameter in parameters:
            parameter.grad = None
        # As in training, the weights and the optimizer stay in float32.
        with torch.autocast(device, torch.bfloat16, enabled=precision == "bf16"):
            loss = loss_of(core, model, frames, noise)
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 100.0)

    compute = Recorded(gradients) if graph else gradients

    def step() -> None:
        allow_tf32(precision == "tf32")
        compute(frames, noise)
        optimizer.step()

    return step


def lstm_pair(size: Size, device: str, precision: str) -> Callable[[], None]:
    """Only the forward and backward pass of two plain LSTMs, as large as the backward LSTM and the decoder's."""
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    inputs = [
        torch.randn(size.batch, size.steps, width, device=device, dtype=dtype)
        for width in (size.mlp, size.mlp + size.latent)
    ]
    lstms = [nn.LSTM(rows.shape[-1], size.hidden, batch_first=True, device=device, dtype=dtype) for rows in inputs]

    def run() -> None:
        allow_tf32(precision == "tf32")
        for lstm, rows in zip(lstms, inputs, strict=True):
            lstm.zero_grad()
            states, _ = lstm(rows.requires_grad_())
            states.sum().backward()

    return run


def large_product(square: Tensor, precision: str) -> Tensor:
    """A large product: at its rate a whole training step would run at best."""
    allow_tf32(precision == "tf32")
    return torch.mm(square, square)


def model_with(core: str, size: Size, device: str) -> ZForcing:
    """The model with a core, always with the same weights."""
    torch.manual_seed(0)
    return ZForcing(size.config(core), FRAME_SIZE, Quantizer()).to(device)


def loss_of(core: str, model: ZForcing, frames: Tensor, noise: Tensor) -> Tensor:
    """The training loss, computed with a core."""
    if core == "published":
        return published_loss(model, frames, noise, WEIGHTS)
    lengths = torch.full((len(frames),), frames.shape[1], device=frames.device)
    return training_loss(model(frames, lengths, noise=noise), WEIGHTS)


def check_same_loss(device: str) -> None:
    """Raise AssertionError unless all cores give the same loss; otherwise comparing their times would mean nothing."""
    allow_tf32(False)
    small = Size(64, 32, 32, batch=4, steps=5)
    frames = torch.randn(small.batch, small.steps + 1, FRAME_SIZE, device=device)
    noise = torch.randn(small.batch, small.steps, small.latent, device=device)
    tolerances = {False: 1e-4}
    if device == "cuda" or onednn_multiplies(torch.bfloat16):
        tolerances[True] = 1e-2
    for bfloat16, tolerance in tolerances.items():
        with torch.autocast(device, torch.bfloat16, enabled=bfloat16):
            losses = [loss_of(core, model_with(core, small, device), frames, noise).detach() for core in CORES]
            if device == "cuda":
                model = model_with("fast", small, device)
                losses.append(Recorded(lambda *batch, model=model: loss_of("fast", model, *batch))(frames, noise))
        torch.testing.assert_close(losses[1:], losses[:1] * (len(losses) - 1), rtol=tolerance, atol=0)


def flops_of_step(size: Size) -> float:
    """FLOPs of a training step without redundant products: embed and gen are merged into the LSTMs' input weights."""
    hidden, latent, mlp = size.hidden, size.latent, size.mlp
    products = (
        4 * hidden * hidden  # backward LSTM
        + 4 * hidden * (latent + hidden)  # decoder LSTM
        + mlp * (hidden + 2 * latent)  # prior
        + mlp * (2 * hidden + 2 * latent)  # posterior
        + mlp * (latent + 2 * hidden)  # auxiliary
        + hidden * 2 * FRAME_SIZE  # output
    )
    inputs = 2 * 4 * hidden * FRAME_SIZE  # input weights of both LSTMs
    merging = 2 * 4 * hidden * mlp * FRAME_SIZE + 4 * hidden * mlp * latent
    # Each product counts once forward, once for the gradient of its input, and once for that of its weight. Frames need
    # no gradient.
    return 2.0 * (size.frames * (3 * products + 2 * inputs) + 3 * merging)


def measure_growth(size: Size, device: str) -> dict[str, dict[str, float]]:
    """How the time of the fast step grows with batch, length and hidden size: as the size to the power `exponent`."""
    growth = {}
    for name in ("batch", "steps", "hidden"):
        middle = getattr(size, name)
        varied = {value: dataclasses.replace(size, **{name: value}) for value in (middle // 2, middle, 2 * middle)}
        tasks = {
            str(value): finished(training_step("fast", varied_size, device), device)
            for value, varied_size in varied.items()
        }
        seconds = medians_in_alternation(tasks, 3)
        exponent = math.log(seconds[str(2 * middle)] / seconds[str(middle // 2)]) / math.log(4)
        growth[name] = {value: round(taken, 3) for value, taken in seconds.items()} | {"exponent": round(exponent, 2)}
    return growth


if __name__ == "__main__":
    run_command(train_step, sys.argv[1:], "python -m benchmarks.train_step")
