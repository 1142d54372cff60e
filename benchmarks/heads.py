"""Speed of the tiered head, whose samples a compiled loop draws one by one, compared with torch's operators.

python -m benchmarks.heads [--json FILE]
"""

import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from benchmarks.timing import load_before, medians_in_alternation, processor, report
from zfaudio.command import run_command
from zfaudio.config import ZForcingConfig
from zfaudio.distributions import Quantizer
from zfaudio.generation.sampling import Temperatures, draw_noise, generate_frames, zero_frame
from zfaudio.models import build_model
from zfaudio.models.base import FrameModel
from zfaudio.models.tiered_head import TieredHead

FRAMES_A_SECOND = 80
DEVIATION = 1000.0  # of the waveforms, in 16-bit steps
CACHED = (512, 256)  # a matrix that fits into the second cache: half a megabyte
PRODUCTS = 1000


@torch.inference_mode()
def heads(
    json: str = "",
    rates: tuple[int, ...] = (8000, 16000),
    frames: int = 160,
    by_operators: int = 8,
    size: int = 256,
    turns: int = 5,
) -> None:
    """Time Z-forcing of the size of recipes/digits with the tiered head: one voice, on one core.

    Args:
        json: file to write the results to as well.
        rates: sample rates; frames and windows are as long in milliseconds as in recipes/digits.
        frames: number of frames that are generated.
        by_operators: number of frames that torch's operators generate.
        size: units of the model's layers.
        turns: how often each implementation is timed; the medians are reported.
    """
    load = load_before()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    matrix, vector = torch.randn(CACHED), torch.randn(CACHED[1])
    tasks: dict[str, Callable[[], Any]] = {"products": partial(multiply, matrix, vector)}
    models = {rate: model_of(rate, size) for rate in rates}
    for rate, model in models.items():
        tasks[f"operators, {rate}"] = partial(speak, model, by_operators, compiled=False)
        tasks[f"compiled, {rate}"] = partial(speak, model, frames, compiled=True)
        tasks[f"head, {rate}"] = partial(draw, head_of(model), frames)
    try:
        median = medians_in_alternation(tasks, turns)
    finally:
        torch.set_num_threads(threads)

    rate_of_products = matrix.numel() * PRODUCTS / median["products"]  # multiply-adds a second
    results: dict[str, Any] = {
        "processor": processor(),
        "load_before": load,
        "gigaflops_of_cached_products": round(2 * rate_of_products / 1e9, 1),
        "rates": {},
    }
    rows: list[tuple[object, ...]] = [
        ("s per s of speech", "operators", "compiled", "speed-up", "of which the head", "bound: products")
    ]
    for rate, model in models.items():
        operators = median[f"operators, {rate}"] * FRAMES_A_SECOND / by_operators
        compiled, head = (median[f"{name}, {rate}"] * FRAMES_A_SECOND / frames for name in ("compiled", "head"))
        multiply_adds = multiply_adds_of(head_of(model))
        bound = rate * multiply_adds / rate_of_products
        results["rates"][rate] = {
            "operators_s_per_s": round(operators, 3),
            "s_per_s": round(compiled, 4),
            "head_s_per_s": round(head, 4),
            "speedup_vs_operators": round(operators / compiled, 1),
            "multiply_adds_per_sample": multiply_adds,
            "head_fraction_of_product_bound": round(bound / head, 3),
        }
        rows.append((rate, operators, compiled, f"{operators / compiled:.1f}", head, bound))
    report(results, rows, json)


def model_of(rate: int, size: int) -> FrameModel:
    """Z-forcing with the settings of recipes/digits and random weights, for a sample rate."""
    config = ZForcingConfig(
        hidden_size=size,
        latent_size=24,
        embedding_size=size,
        mlp_size=size,
        sample_rate=rate,
        encoder="mel",
        encoder_window=rate * 256 // 8000,
        head="tiered",
        head_window=rate * 32 // 8000,
        head_tier_window=rate * 320 // 8000,
        head_tier_size=size,
        head_size=size * 3 // 4,
        likelihood="logistic_mixture",
        components=5,
    )
    torch.manual_seed(0)
    return build_model(config, rate // FRAMES_A_SECOND, Quantizer(0.0, DEVIATION)).eval()


def head_of(model: FrameModel) -> TieredHead:
    """The head of a model, which is a tiered one."""
    assert isinstance(model.output, TieredHead)
    return model.output


def speak(model: FrameModel, frames: int, compiled: bool) -> None:
    """Generate frames of one voice as `zfaudio generate` does."""
    head_of(model).compiled = compiled
    step, noise = model.stepper(), draw_noise(model, seed=0, first=0, batch=1)
    for _ in generate_frames(step, zero_frame(model, 1), model.initial_state(1), noise, Temperatures(), frames):
        pass


def draw(head: TieredHead, frames: int) -> None:
    """Draw frames from the head alone, each after the ones before it."""
    head.compiled = True
    assert head.middle_condition is not None
    samples, condition = torch.zeros(1, head.past + head.frame_size), torch.zeros(1, head.middle_condition.in_features)
    noise = torch.randn(frames, 1, head.noise_size)
    for frame_noise in noise:
        drawn = head.step(condition, samples).at(frame_noise)
        samples = torch.cat([samples, drawn], dim=-1)[:, head.frame_size :]


def multiply(matrix: torch.Tensor, vector: torch.Tensor) -> None:
    """Products of a matrix and a vector."""
    for _ in range(PRODUCTS):
        torch.mv(matrix, vector)


def multiply_adds_of(head: TieredHead) -> int:
    """For each sample: of the sample tier, and its share of the middle tier, the lag and the linear prediction."""
    every_sample = (head.filters, head.inner, head.outer, head.linear)
    every_step = (head.middle_samples, head.middle_inner, head.adapt)
    half = head.reach // 2
    lag = half * (half + 1 - head.tier) if head.lags else 0
    prediction = (head.order + 1) * head.reach + head.order * head.residuals
    step = sum(layer.weight.numel() for layer in every_step) + lag + prediction
    return sum(layer.weight.numel() for layer in every_sample) + head.order + step // head.tier


if __name__ == "__main__":
    run_command(heads, sys.argv[1:], "python -m benchmarks.heads")
