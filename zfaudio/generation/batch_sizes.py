"""How many sequences to step together, so that a sample does not depend on how many are made.

A matrix product may round differently for another number of rows, and a difference in the last bit soon makes other
speech. Only batch sizes that give the same bits are used. Which ones do depends on the model's sizes and on the
processor: with AVX-512 it was every size up to 64, with AVX2 it was 4, 16 and 64, but not 1. So it is tried out. One
fixed size would need no trial, but a batch of 16 takes 2.2 times as long as a single voice.
"""

from collections.abc import Callable, Iterator
from functools import cache

import torch
from torch import Tensor

BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64)
REFERENCE_SIZE = 16  # the size whose rounding the others must reproduce

# (number of the first sample, batch size) -> a few frames of these samples, each [batch, frame_size]
Trial = Callable[[int, int], list[Tensor]]


def plan_batches(count: int, trial: Trial) -> Iterator[tuple[int, int]]:
    """Split samples 0..count-1 into batches.

    Each batch has the smallest size that holds all samples that remain, or else the largest size there is, among the
    sizes that give the same bits as REFERENCE_SIZE.

    Args:
        count: number of samples.
        trial: generates the first frames of some samples together.

    Yields:
        The number of a batch's first sample, and its size. The last batch may hold more than the samples that remain.
    """

    @cache
    def gives_same_bits(size: int) -> bool:
        if size == REFERENCE_SIZE:
            return True
        batches = [trial(first, REFERENCE_SIZE) for first in range(0, size, REFERENCE_SIZE)]
        expected = [torch.cat(frames)[:size] for frames in zip(*batches, strict=True)]
        return all(map(torch.equal, trial(0, size), expected))

    first = 0
    while first < count:
        large_enough = [size for size in BATCH_SIZES if size >= count - first]
        too_small = [size for size in reversed(BATCH_SIZES) if size < count - first]
        size = next(size for size in large_enough + too_small if gives_same_bits(size))
        yield first, size
        first += size
