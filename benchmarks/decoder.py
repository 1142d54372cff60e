"""Speed of training the tiered head, compared with the same network in plain modules of torch.

python -m benchmarks.decoder [--json FILE]
"""

import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.plain_decoder import PlainDecoder, Sizes
from benchmarks.timing import load_before, medians_in_alternation, processor, report
from zfaudio.command import run_command
from zfaudio.config import FrameDensityConfig
from zfaudio.distributions import Quantizer
from zfaudio.environment import prepare_environment
from zfaudio.models.tiered_head import TieredHead

QUANTIZER = Quantizer(0.0, 1000.0)
TINY = Sizes(condition=6, frame=24, tier=12, reach=40, window=5, lags=2, order=3, middle=7, units=6, components=2)


def decoder(
    json: str = "", batch: int = 8, frames: int = 40, stride: int = 4, turns: int = 7, tiny: bool = False
) -> None:
    """Time the forward and backward pass of the head of recipes/digits, on one core in float32.

    Args:
        json: file to write the results to as well.
        batch: sequences.
        frames: frames of each sequence.
        stride: also time the head with this `model.head_stride`, which scores one of so many samples.
        turns: how often each implementation is timed; the medians are reported.
        tiny: use a tiny network, to check that the benchmark runs.
    """
    load, threads = load_before(), torch.get_num_threads()
    torch.set_num_threads(1)
    sizes = TINY if tiny else Sizes()
    difference = check_same_densities(sizes)
    heads = {
        "zfaudio": head_of(sizes),
        f"zfaudio, stride {stride}": head_of(sizes, stride),
    }
    samples, condition = inputs_for(heads["zfaudio"], batch, frames)
    plain = plain_decoder(heads["zfaudio"])
    tasks: dict[str, Callable[[], None]] = {
        "plain": partial(train, partial(score_plainly, plain, heads["zfaudio"].heard), plain, condition, samples),
        **{name: partial(train, partial(score, head), head, condition, samples) for name, head in heads.items()},
        "products": products_of(sizes, batch * frames, sizes.tier),
        f"products, stride {stride}": products_of(sizes, batch * frames, sizes.tier // stride),
    }
    try:
        seconds = medians_in_alternation(tasks, turns)
    finally:
        torch.set_num_threads(threads)

    total = batch * frames * sizes.frame
    shapes = shapes_of(sizes, batch * frames, sizes.tier)
    multiply_adds = sum(rows * entering * leaving * times for rows, entering, leaving, times in shapes)
    results: dict[str, Any] = {
        "processor": processor(),
        "load_before": load,
        "largest_difference_in_float64": difference,
        "multiply_adds_per_sample": round(multiply_adds / total),
        "gflops_of_torch_products": round(2 * multiply_adds / seconds["products"] / 1e9, 1),
        "implementations": {},
    }
    table: list[tuple[object, ...]] = [("", "samples/s", "speed-up", "of the bound of torch's products")]
    for name in ("plain", *heads):
        bound = seconds[f"products, stride {stride}" if "stride" in name else "products"]
        speed, speedup, fraction = round(total / seconds[name]), seconds["plain"] / seconds[name], bound / seconds[name]
        table.append((name, speed, speedup, fraction))
        results["implementations"][name] = {
            "samples_per_second": speed,
            "speedup_vs_plain": round(speedup, 3),
            "fraction_of_product_bound": round(fraction, 3),
        }
    report(results, table, json)


def head_of(sizes: Sizes, stride: int = 1, dtype: torch.dtype = torch.float32) -> TieredHead:
    """The head, always with the same weights, none of which is zero."""
    config = FrameDensityConfig(
        head="tiered",
        likelihood="logistic_mixture",
        components=sizes.components,
        head_window=sizes.window,
        head_size=sizes.units,
        head_stride=stride,
        head_tier=sizes.tier,
        head_tier_window=sizes.reach,
        head_tier_size=sizes.middle,
        head_lags=sizes.lags,
        head_order=sizes.order,
    )
    torch.manual_seed(0)
    head = TieredHead(sizes.condition, sizes.frame, config, QUANTIZER).to(dtype)
    nn.init.normal_(head.linear.weight, std=0.05)
    return head.train()


def plain_decoder(head: TieredHead) -> PlainDecoder:
    """The same network in plain modules, with the same weights."""
    sizes = Sizes(
        condition=head.middle_condition.in_features if head.middle_condition else 0,
        frame=head.frame_size,
        tier=head.tier,
        reach=head.reach,
        window=head.window,
        lags=head.lags,
        order=head.order,
        middle=head.middle_inner.in_features,
        units=head.inner.in_features,
        components=head.outer.out_features // 3,
    )
    plain = PlainDecoder(sizes, QUANTIZER.step, head.taper).to(head.taper.dtype)
    plain.load_state_dict(head.state_dict())
    return plain


def inputs_for(head: TieredHead, batch: int, frames: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """Noisy tones [batch, past + (1 + frames) * frame] of 16-bit integers, and conditions [batch, frames, size]."""
    torch.manual_seed(1)
    length = head.past + (1 + frames) * head.frame_size
    phases = torch.arange(length) * 2 * torch.pi / torch.linspace(40, 90, batch).unsqueeze(-1)
    samples = torch.sin(phases) + 0.5 * torch.sin(2 * phases) + 0.3 * torch.randn(batch, length)
    assert head.middle_condition is not None
    condition = torch.randn(batch, frames, head.middle_condition.in_features, dtype=dtype)
    return QUANTIZER.round(samples.double()).to(dtype), condition.requires_grad_()


def score(head: TieredHead, condition: Tensor, samples: Tensor) -> Tensor:
    """Log-densities of frames, [batch, frames]; the first frame of the samples is known."""
    known, frames = head.past + head.frame_size, condition.shape[1]
    targets = samples[:, known:].unflatten(1, (frames, -1))
    return head(condition, samples[:, : -head.frame_size]).log_prob(targets)


def score_plainly(plain: PlainDecoder, heard: int, condition: Tensor, samples: Tensor) -> Tensor:
    """The same by the plain network."""
    scored = condition.shape[1] * plain.sizes.frame
    log_densities: Tensor = plain(condition, samples[:, -heard - scored :], heard)
    return log_densities.unflatten(1, (-1, plain.sizes.frame)).sum(-1)


def train(scores: Callable[[Tensor, Tensor], Tensor], network: nn.Module, condition: Tensor, samples: Tensor) -> None:
    """The forward and backward pass of a training step."""
    network.zero_grad()
    condition.grad = None
    (-scores(condition, samples).sum()).backward()


def check_same_densities(sizes: Sizes) -> float:
    """The largest difference of log-densities and gradients, relative to their size, in float64.

    Raises AssertionError if it is more than rounding; otherwise comparing times would mean nothing.
    """
    head = head_of(sizes, dtype=torch.float64)
    plain = plain_decoder(head)
    samples, condition = inputs_for(head, 2, 3, torch.float64)
    outcomes = []
    for network, scores in (
        (head, score(head, condition, samples)),
        (plain, score_plainly(plain, head.heard, condition, samples)),
    ):
        gradients = torch.autograd.grad(scores.sum(), [condition, *network.parameters()])
        outcomes.append([scores.detach(), *gradients])
    difference = max(float((one - other).abs().max() / other.abs().max()) for one, other in zip(*outcomes, strict=True))
    assert difference < 1e-9, f"the plain network differs from the tiered head by {difference}"
    return difference


def shapes_of(sizes: Sizes, frames: int, scored: int) -> list[tuple[int, int, int, int]]:
    """Rows, size in and size out of each layer's products, and how many of them a training step needs.

    Three: forward, and the gradients of the weight and of the input; two where the input needs no gradient.

    Args:
        sizes: of the network.
        frames: number of frames.
        scored: samples that are scored in each step of the middle tier.
    """
    steps = frames * sizes.frame // sizes.tier
    heard, outputs = sizes.window + 4 + 2 * sizes.lags + 2, 3 * sizes.components
    return [
        (steps, 2 * sizes.reach + 1, sizes.middle, 2),
        (frames, sizes.condition, sizes.middle, 3),
        (steps, sizes.middle, sizes.middle, 3),
        (steps, sizes.middle, 3 * sizes.units, 3),
        (steps * scored, heard, sizes.units, 2),
        (steps * scored, sizes.units, sizes.units, 3),
        (steps * scored, sizes.units, outputs, 3),
        (steps * scored, heard, outputs, 2),
    ]


def products_of(sizes: Sizes, frames: int, scored: int) -> Callable[[], None]:
    """All products of a training step by torch, and nothing else."""
    factors = []
    for rows, entering, leaving, times in shapes_of(sizes, frames, scored):
        values, weight, grad = (
            torch.randn(*shape) for shape in ((rows, entering), (leaving, entering), (rows, leaving))
        )
        factors += [(values, weight.t()), (grad.t(), values), (grad, weight)][:times]

    def run() -> None:
        for left, right in factors:
            torch.mm(left, right)

    return run


if __name__ == "__main__":
    prepare_environment()
    run_command(decoder, sys.argv[1:], "python -m benchmarks.decoder")
