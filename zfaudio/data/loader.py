"""Load batches from shards: an endless stream of training segments, or whole utterances for scoring.

In training with n processes, each reads shards of its own if there are enough of similar size. The other shards, and
all shards in scoring, are read by all processes, each of which keeps every n-th utterance. So all processes get the
same amount of work for any number of shards, and a stopped run resumes with exactly the next batch.
"""

import copy
import itertools
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from zfaudio.config import DataConfig
from zfaudio.data.batches import Batch, FrameSequence, FrameWriter
from zfaudio.data.manifest import Manifest
from zfaudio.data.segments import SegmentArrays, TrainingSegments
from zfaudio.data.shard_format import FramedUtterance
from zfaudio.data.shard_reader import read_shards
from zfaudio.errors import UserError
from zfaudio.seeds import derive_seed

__all__ = ["Batch", "TrainingStream", "whole_utterances"]

# whole_utterances reads this many batches ahead to sort their utterances by length.
SORTED_BATCHES = 32

# A thread makes this many items before it hands them over, which takes as long as making a third of a batch.
HANDED_OVER = 4

Item = TypeVar("Item")


class TrainingStream:
    """An endless iterator over batches of training segments, float32 [batch_size, segment_frames + 1, frame_size].

    Each row of the batch walks through a sequence, segment after segment. The last frame of a segment is the first
    input frame of the next one, so that each frame but the first of a sequence is scored once. With `carry_state`, a
    sequence is a whole recording; without, it is a single segment at a random offset. Epochs follow each other without
    a break. The order within an epoch depends only on the seed and the epoch.

    Args:
        location: path or address of the folder of shards.
        manifest: their manifest.
        config: how to cut and shuffle.
        batch_size: number of rows for this process.
        segment_frames: number of scored frames per segment.
        seed: seed of the order, the offsets and the noise.
        rank: rank of this process.
        world: number of processes.

    Raises:
        UserError: there are fewer training utterances than processes.
    """

    def __init__(
        self,
        location: str | Path,
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
        # The segments must not refer back to the stream: the thread that reads ahead ends when the stream is deleted.
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
            "shards": manifest.identity("train"),
        }
        self._state = self._segments.initial_state()
        self._batches: Iterator[tuple[SegmentArrays, dict[str, Any]]] | None = None

    @property
    def too_short(self) -> set[str]:
        """Ids of the recordings read so far that are too short to be scored."""
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
        """Return the state after the last batch, in plain integers, booleans and lists."""
        return {**copy.deepcopy(self._state), "settings": dict(self._settings)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue exactly with the batch that follows a state from `state_dict`.

        Raises:
            UserError: the state is from a stream with other settings or shards, or is damaged.
        """
        settings = state.get("settings")
        if not isinstance(settings, dict):
            raise UserError("cannot resume: the state of the training data has no settings")
        for name, value in self._settings.items():
            if name == "shards":
                # States of version 0.1.0 do not say which shards they are of.
                if settings.get(name, value) != value:
                    raise UserError("cannot resume: the shards are not those of the stopped run")
            elif settings.get(name) != value:
                raise UserError(f"cannot resume: {name} was {settings.get(name)} in the stopped run and is {value} now")
        self._segments.check_state(state)
        self._state = copy.deepcopy({"next": state["next"], "lanes": state["lanes"]})
        self._batches = None


def whole_utterances(
    location: str | Path,
    manifest: Manifest,
    split: str,
    config: DataConfig,
    frames_per_batch: int,
    seed: int,
    rank: int = 0,
    world: int = 1,
) -> Iterator[Batch]:
    """Yield every utterance of a split once and whole, in batches of utterances of similar length.

    The noise of an utterance depends only on the seed and its id, not on its batch or process. Utterances of fewer than
    two frames have no frame to score and are skipped.

    Args:
        location: path or address of the folder of shards.
        manifest: their manifest.
        split: train, valid or test.
        config: whether to dequantize, and whether to score the first frame.
        frames_per_batch: maximum of batch x time, except for a single utterance that is longer.
        seed: seed of the dequantization noise.
        rank: rank of this process.
        world: number of processes, among which the utterances are shared out.

    Raises:
        UserError: there is no such split, it has nothing to score, or a shard is damaged.
    """
    writer = FrameWriter(manifest, config)
    for utterances in utterances_of_batches(location, manifest, split, writer, frames_per_batch, rank, world):
        yield batch_of_utterances(utterances, writer, manifest.frame_size, seed)


def utterances_of_batches(
    location: str | Path,
    manifest: Manifest,
    split: str,
    writer: FrameWriter,
    frames_per_batch: int,
    rank: int = 0,
    world: int = 1,
) -> Iterator[list[FramedUtterance]]:
    """Yield the utterances of each batch of `whole_utterances`, the longest first."""
    scorable = scorable_utterances(location, manifest, split, writer)
    own = itertools.islice(scorable, rank, None, world)
    for group in group_by_frames(own, writer, SORTED_BATCHES * frames_per_batch):
        group.sort(key=writer.length, reverse=True)
        while group:
            size = max(1, frames_per_batch // writer.length(group[0]))
            yield group[:size]
            del group[:size]


def scorable_utterances(
    location: str | Path, manifest: Manifest, split: str, writer: FrameWriter, least: int = 1
) -> Iterator[FramedUtterance]:
    """Yield the utterances of a split that have a frame to score. Raises UserError if there are fewer than `least`."""
    count = 0
    for utterance in read_shards(location, manifest.split(split).shards, manifest):
        if writer.length(utterance) >= 2:
            count += 1
            yield utterance
    if count < least:
        frames = 2 - writer.leading_zeros
        remedy = "" if writer.leading_zeros else ", or set data.score_first_frame true"
        raise UserError(
            f"{location}: {count} utterances of {split} can be scored, which takes {frames} frames of "
            f"{manifest.frame_size} samples, but {least} are needed; make shards with more or longer recordings in "
            f"{split}{remedy}"
        )


def check_scorable(config: DataConfig, manifest: Manifest, world: int = 1) -> None:
    """See that training and validation have something to score, before the first step.

    It reads only until it has found enough, which usually is the first utterance of each part.

    Args:
        config: the data to train on.
        manifest: manifest of its shards.
        world: number of processes, each of which needs an utterance to train on.

    Raises:
        UserError: there is too little to score, or a shard is damaged.
    """
    writer = FrameWriter(manifest, config)
    for split, least in (("train", world), ("valid", 1)):
        if split == "train" or split in manifest.splits:
            for _ in itertools.islice(scorable_utterances(config.shards, manifest, split, writer, least), least):
                pass


def group_by_frames(
    utterances: Iterator[FramedUtterance], writer: FrameWriter, frames: int
) -> Iterator[list[FramedUtterance]]:
    """Yield lists of consecutive utterances that have at least `frames` frames in total, except for the last list."""
    group: list[FramedUtterance] = []
    total = 0
    for utterance in utterances:
        group.append(utterance)
        total += writer.length(utterance)
        if total >= frames:
            yield group
            group, total = [], 0
    if group:
        yield group


def batch_of_utterances(utterances: list[FramedUtterance], writer: FrameWriter, frame_size: int, seed: int) -> Batch:
    """Make a batch of whole utterances, of which the first must be the longest."""
    frames = np.empty((len(utterances), writer.length(utterances[0]), frame_size), np.float32)
    lengths = []
    for utterance, row in zip(utterances, frames, strict=True):
        sequence = FrameSequence(utterance, 0, writer.length(utterance), derive_seed(seed, utterance.id))
        lengths.append(writer.write(sequence, 0, row))
    starts = torch.ones(len(utterances), dtype=torch.bool)
    ids = [utterance.id for utterance in utterances]
    return Batch(torch.from_numpy(frames), torch.tensor(lengths), starts, ids)


def prefetch(items: Iterator[Item], depth: int = 4) -> Iterator[Item]:
    """Yield the items of an endless iterator. A thread makes up to `depth` times HANDED_OVER of them ahead."""
    thread = ThreadPoolExecutor(1, thread_name_prefix="loader")
    try:
        pending = deque(thread.submit(list, itertools.islice(items, HANDED_OVER)) for _ in range(depth))
        while True:
            yield from pending.popleft().result()
            pending.append(thread.submit(list, itertools.islice(items, HANDED_OVER)))
    finally:
        # Do not wait: the garbage collector may close a generator in any thread, even in the thread to wait for.
        thread.shutdown(wait=False, cancel_futures=True)
