"""Shards to batches: an endless stream of training segments, and whole utterances for scoring.

In training a rank reads its share of the shards, where there are enough of like size; the others, and in scoring all,
every rank reads and keeps every world-th utterance of. So it works for any number of shards and ranks, all have as much
to do, and a run resumes on the very batch where it stopped.
"""

import copy
import itertools
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
import torch

from zfaudio.data.batches import Batch, DataConfig, FrameWriter, Sequence
from zfaudio.data.manifest import Manifest
from zfaudio.data.segments import SegmentArrays, TrainingSegments
from zfaudio.data.shard_format import FramedUtterance
from zfaudio.data.shard_reader import read_shards
from zfaudio.errors import UserError
from zfaudio.seeds import derive_seed

__all__ = ["Batch", "DataConfig", "TrainingStream", "whole_utterances"]

# Batches' worth of utterances that whole_utterances reads ahead and sorts by length.
POOL = 32

# Items that a thread makes before it hands them over: handing over a batch takes as long as making a third of one.
TOGETHER = 4

Item = TypeVar("Item")


class TrainingStream:
    """Endless batches of training segments, float32 [batch_size, segment_frames + 1, frame_size].

    Each batch lane walks through a sequence, segment after segment; the last frame of one segment is the
    input frame of the next, so every frame after a sequence's first is scored once. With `carry_state` a
    sequence is a whole recording; without, it is one segment at a random offset. Epochs follow one another
    without a break, each in an order of its own that depends on the seed and the epoch alone.

    Args:
        location: folder or address of the shards.
        manifest: their manifest.
        config: how to cut and shuffle.
        batch_size: lanes, of this rank.
        segment_frames: scored frames of a segment.
        seed: of the order, the offsets and the noise.
        rank: of this process.
        world: number of processes.

    Raises:
        UserError: no training utterances, or fewer than ranks.
    """

    def __init__(
        self,
        location: str,
        manifest: Manifest,
        config: DataConfig,
        batch_size: int,
        segment_frames: int,
        seed: int,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        split = manifest.split("train")
        if split.utterances < world:
            raise UserError(f"{location}: {split.utterances} training utterances cannot feed {world} processes")
        # The stream holds its segments, never the other way: dropping it ends the thread that reads ahead.
        self._segments = TrainingSegments(location, manifest, config, batch_size, segment_frames, seed, rank, world)
        self._settings = {
            "seed": seed,
            "rank": rank,
            "world": world,
            "batch_size": batch_size,
            "segment_frames": segment_frames,
            "carry_state": config.carry_state,
            "score_first_frame": config.score_first_frame,
            "shuffle_utterances": config.shuffle_utterances,
            "train_frames": split.frames,
        }
        self._state = self._segments.initial_state()
        self._batches: Iterator[tuple[SegmentArrays, dict[str, Any]]] | None = None

    @property
    def too_short(self) -> set[str]:
        """Ids of the recordings met so far that hold nothing to score."""
        return set(self._segments.too_short)

    def __iter__(self) -> "TrainingStream":
        return self

    def __next__(self) -> Batch:
        if self._batches is None:
            self._batches = prefetch(self._segments.batches(self._state))
        segments, self._state = next(self._batches)
        return Batch(
            torch.from_numpy(segments.frames),
            torch.tensor(segments.lengths),
            torch.tensor(segments.starts),
            segments.utterances,
        )

    def state_dict(self) -> dict[str, Any]:
        """Where this rank's stream stands after the last batch it gave: plain ints, bools and lists."""
        return {**copy.deepcopy(self._state), "settings": dict(self._settings)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with the batch after the one that `state` was taken at, bit for bit.

        Raises:
            UserError: the state is of a stream with other settings.
        """
        for name, value in self._settings.items():
            before = state.get("settings", {}).get(name)
            if before != value:
                raise UserError(f"cannot resume: {name} was {before} in the stopped run and is {value} now")
        self._state = copy.deepcopy({"next": state["next"], "lanes": state["lanes"]})
        self._batches = None


def whole_utterances(
    location: str,
    manifest: Manifest,
    split: str,
    config: DataConfig,
    frames_per_batch: int,
    seed: int,
    rank: int = 0,
    world: int = 1,
) -> Iterator[Batch]:
    """Every utterance of a split once, whole, in batches of similar length; longest first within a pool.

    An utterance's noise depends on the seed and its id alone, not on the batch or the rank it falls into.
    Utterances of fewer than two frames hold nothing to score and are passed over.

    Args:
        location: folder or address of the shards.
        manifest: their manifest.
        split: train, valid or test.
        config: how to standardize.
        frames_per_batch: batch x time of a batch stays within this, unless one utterance alone is longer.
        seed: of the dequantization noise.
        rank: of this process.
        world: number of processes; they share the utterances out among them.

    Raises:
        UserError: no such split, or a damaged shard.
    """
    writer = FrameWriter(manifest, config)
    utterances = read_shards(location, manifest.split(split).shards)
    own = itertools.islice((one for one in utterances if writer.length(one) >= 2), rank, None, world)
    for pool in pools(own, writer, POOL * frames_per_batch):
        pool.sort(key=writer.length, reverse=True)
        while pool:
            size = max(1, frames_per_batch // writer.length(pool[0]))
            yield whole_batch(pool[:size], writer, manifest.frame_size, seed)
            del pool[:size]


def pools(utterances: Iterator[FramedUtterance], writer: FrameWriter, frames: int) -> Iterator[list[FramedUtterance]]:
    """Utterances in lists of just over so many frames; the last may hold fewer."""
    pool: list[FramedUtterance] = []
    pooled = 0
    for utterance in utterances:
        pool.append(utterance)
        pooled += writer.length(utterance)
        if pooled >= frames:
            yield pool
            pool, pooled = [], 0
    if pool:
        yield pool


def whole_batch(utterances: list[FramedUtterance], writer: FrameWriter, frame_size: int, seed: int) -> Batch:
    """A batch of whole utterances, the longest first."""
    rows = np.empty((len(utterances), writer.length(utterances[0]), frame_size), np.float32)
    lengths = [
        writer.write(Sequence(utterance, 0, writer.length(utterance), derive_seed(seed, utterance.id)), 0, row)
        for utterance, row in zip(utterances, rows, strict=True)
    ]
    starts = torch.ones(len(utterances), dtype=torch.bool)
    return Batch(torch.from_numpy(rows), torch.tensor(lengths), starts, [one.id for one in utterances])


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
