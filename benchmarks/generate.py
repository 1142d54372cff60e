"""Speed of generation with Z-forcing at the TIMIT size, compared with the published implementation.

python -m benchmarks.generate --device cpu [--json FILE]
"""

import sys
from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import torch

from benchmarks.published import published_speech
from benchmarks.timing import load_before, medians_in_alternation, processor, report
from zfaudio.command import run_command
from zfaudio.config import ZForcingConfig
from zfaudio.data.manifest import FORMAT_VERSION, Manifest
from zfaudio.distributions import Quantizer
from zfaudio.generation.sampling import GeneratedWaveform, Temperatures, sample_speech
from zfaudio.models.zforcing import ZForcing
from zfaudio.ops.products import packed_weight

FRAME_SIZE = 200
RATE = 16000
DEVIATION = 1000.0  # of the waveforms, in 16-bit steps
VOICES = (1, 64)  # numbers of waveforms generated together
MEMORY = 256e6  # bytes, far more than a cache holds


def generate(
    device: Literal["cpu", "cuda"] = "cpu",
    json: str = "",
    seconds: float = 3.0,
    hidden_size: int = 1024,
    voices: tuple[int, ...] = VOICES,
    turns: int = 5,
) -> None:
    """Time the sampling of `zfaudio generate`, from the random draws to 16-bit samples, and the published loop.

    Args:
        device: where to compute.
        json: file to write the results to as well.
        seconds: length of each voice's speech.
        hidden_size: hidden size of the model; its other sizes are half and a quarter of it.
        voices: numbers of voices to generate together.
        turns: how often each implementation is timed; the medians are reported.
    """
    load = load_before()
    config = ZForcingConfig(
        hidden_size=hidden_size,
        latent_size=hidden_size // 4,
        embedding_size=hidden_size // 2,
        mlp_size=hidden_size // 2,
    )
    torch.manual_seed(0)
    model = ZForcing(config, FRAME_SIZE, Quantizer(0.0, DEVIATION)).to(device).eval()
    weights = weights_per_step(config)
    square = torch.randn(2048, 2048, device=device)
    multiply = packed_weight(square)
    in_memory, as_large = (torch.ones(int(size), device=device) for size in (MEMORY / 4, weights))
    tasks: dict[str, Callable[[], Any]] = {
        "large product": lambda: multiply(square)[0, 0].item(),
        "reading memory": lambda: in_memory.sum().item(),
        "reading as much as the weights": lambda: as_large.sum().item(),
    }
    samples = round(seconds * RATE)
    for count in voices:
        tasks[f"published, {count}"] = partial(published_speech, model, count, samples)
        tasks[f"zfaudio, {count}"] = partial(speak, model, samples, count, bfloat16=False)
        tasks[f"bfloat16, {count}"] = partial(speak, model, samples, count, bfloat16=True)
    median = medians_in_alternation(tasks, turns)

    gflops = 2 * 2048**3 / median["large product"] / 1e9
    memory = MEMORY / median["reading memory"] / 1e9
    cached = 4 * weights / median["reading as much as the weights"] / 1e9
    results: dict[str, Any] = {
        "device": torch.cuda.get_device_name() if device == "cuda" else device,
        "processor": processor(),
        "threads": torch.get_num_threads(),
        "load_before": load,
        "megabytes_of_weights": round(4 * weights / 1e6, 1),
        "gflops_of_large_product": round(gflops, 1),
        "gb_per_second_of_memory": round(memory, 1),
        "gb_per_second_of_so_many_bytes": round(cached, 1),
        "voices": {},
    }
    rows: list[tuple[object, ...]] = [
        ("voices", "published", "zfaudio", "speed-up", "bound: memory", "bound: products", "products in bfloat16")
    ]
    for count in voices:
        published, ours, in_bfloat16 = (
            median[f"{name}, {count}"] / seconds / count for name in ("published", "zfaudio", "bfloat16")
        )
        steps = RATE / FRAME_SIZE  # per second of speech
        by_memory = steps / count * 4 * weights / memory / 1e9
        by_products = steps * 2 * weights / gflops / 1e9
        results["voices"][count] = {
            "published_s_per_s": round(published, 5),
            "s_per_s": round(ours, 5),
            "bf16_s_per_s": round(in_bfloat16, 5),
            "speedup_vs_published": round(published / ours, 3),
            "gb_per_second": round(steps / count * 4 * weights / ours / 1e9, 2),
            "fraction_of_memory_bound": round(by_memory / ours, 3),
            "fraction_of_product_bound": round(by_products / ours, 3),
        }
        rows.append((count, published, ours, f"{published / ours:.2f}", by_memory, by_products, in_bfloat16))
    report(results, rows, json)


def speak(model: ZForcing, samples: int, count: int, bfloat16: bool) -> list[GeneratedWaveform]:
    """Generate `count` waveforms of `samples` samples as `zfaudio generate` does."""
    manifest = Manifest(FORMAT_VERSION, FRAME_SIZE, RATE, mean=0.0, deviation=DEVIATION)
    with torch.autocast(model.embed.weight.device.type, torch.bfloat16, enabled=bfloat16):
        return list(sample_speech(model, manifest, samples, Temperatures(), seed=0, count=count))


def weights_per_step(config: ZForcingConfig) -> int:
    """Number of weights that a step of generation reads, with embed and gen folded into the LSTM's input matrix."""
    hidden, latent, mlp = config.hidden_size, config.latent_size, config.mlp_size
    return (mlp + 4 * hidden) * hidden + 2 * latent * mlp + 4 * hidden * (FRAME_SIZE + latent) + 2 * FRAME_SIZE * hidden


if __name__ == "__main__":
    run_command(generate, sys.argv[1:], "python -m benchmarks.generate")
