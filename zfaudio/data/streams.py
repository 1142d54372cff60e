"""Pieces that streams of utterances are made of: shares, shuffling, reading ahead."""

import itertools
import random
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")

# Items that a thread makes before it hands them over: handing over a batch takes as long as making a third of one.
TOGETHER = 4


def rank_share(items: Iterable[Item], rank: int, world: int) -> Iterator[Item]:
    """Every world-th item, from the rank-th on."""
    return itertools.islice(items, rank, None, world)


def shuffled(items: Iterable[Item], size: int, rng: random.Random) -> Iterator[Item]:
    """The items in random order, each drawn from a buffer of `size`."""
    buffer: list[Item] = []
    for item in items:
        if len(buffer) < size:
            buffer.append(item)
            continue
        i = rng.randrange(size)
        drawn, buffer[i] = buffer[i], item
        yield drawn
    rng.shuffle(buffer)
    yield from buffer


def prefetch(items: Iterator[Item], depth: int = 4) -> Iterator[Item]:
    """The items of an endless iterator, made ahead in a thread of their own: `depth` times TOGETHER of them."""
    thread = ThreadPoolExecutor(1, thread_name_prefix="loader")
    try:
        pending = deque(thread.submit(list, itertools.islice(items, TOGETHER)) for _ in range(depth))
        while True:
            yield from pending.popleft().result()
            pending.append(thread.submit(list, itertools.islice(items, TOGETHER)))
    finally:
        # Without waiting: the garbage collector may close a generator in any thread, even in the one waited for.
        thread.shutdown(wait=False, cancel_futures=True)
