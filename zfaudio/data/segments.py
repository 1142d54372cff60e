"""Cut training utterances into batches of segments, starting from any state of the stream."""

import itertools
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from zfaudio.config import DataConfig
from zfaudio.data.batches import FrameSequence, FrameWriter
from zfaudio.data.manifest import Manifest, Shard
from zfaudio.data.shard_format import FramedUtterance
from zfaudio.data.shard_reader import read_shards
from zfaudio.errors import UserError
from zfaudio.seeds import derive_seed

Item = TypeVar("Item")
Position = tuple[int, int]  # epoch, and index of a sequence in the epoch's order

# Shards with at least this fraction of the frames of the largest shard count as equally large.
SIMILAR_SIZE = 0.9

# A state is taken for damaged if no stream of fewer lanes could have come to it. Reading it would take for ever.
MOST_LANES = 1024


@dataclass
class Lane:
    """The sequence that a row of the batch walks through, and the frame that it has reached."""

    position: Position
    sequence: FrameSequence
    offset: int


class SegmentArrays(NamedTuple):
    """The contents of a batch before they become tensors. They are made in the thread that reads ahead."""

    frames: NDArray[np.float32]  # [batch, time, frame_size]
    lengths: list[int]
    starts: list[bool]
    utterances: list[str]


class TrainingSegments:
    """Batches of training segments, as a function of the state from which they start.

    Each row of the batch is a lane, which walks through one sequence after another. A state is a dictionary with
    "next", the [epoch, index] of the next sequence to read, and "lanes", the [epoch, index, offset] of the sequence
    that each lane is in, or None if it takes a new one.

    Args:
        location: path or address of the folder of shards.
        manifest: their manifest.
        config: how to cut and shuffle.
        batch_size: number of lanes of this process.
        segment_frames: number of scored frames per segment.
        seed: seed of the order, the offsets and the noise.
        rank: rank of this process.
        world: number of processes.
    """

    def __init__(
        self,
        location: str | Path,
        manifest: Manifest,
        config: DataConfig,
        batch_size: int,
        segment_frames: int,
        seed: int,
        rank: int,
        world: int,
    ) -> None:
        self.location = location
        self.manifest = manifest
        self.config = config
        self.batch_size = batch_size
        self.segment_frames = segment_frames
        self.seed = seed
        self.rank = rank
        self.world = world
        self.writer = FrameWriter(manifest, config)
        self.longest = manifest.split("train").frames + 1  # no sequence has more frames
        self.too_short: set[str] = set()  # ids of the recordings read so far that are too short to be scored

    def initial_state(self) -> dict[str, Any]:
        """Return the state before the first batch."""
        return {"next": [0, 0], "lanes": [None] * self.batch_size}

    def check_state(self, state: dict[str, Any]) -> None:
        """See that a state from a file is one that this stream can have come to. Raises UserError if not."""
        next_position, lanes = state.get("next"), state.get("lanes")
        walking = [lane for lane in lanes if lane is not None] if isinstance(lanes, list) else []
        if (
            not (_are_counts(next_position, 2) and isinstance(lanes, list) and len(lanes) == self.batch_size)
            or not all(_are_counts(lane, 3) and self._can_reach(next_position, *lane) for lane in walking)
            or len({tuple(lane[:2]) for lane in walking}) < len(walking)
        ):
            raise UserError("cannot resume: the position in the training data is damaged")

    def _can_reach(self, next_position: Any, epoch: int, index: int, offset: int) -> bool:
        """Whether a lane can be in this sequence when `next_position` is the next to read."""
        steps, rest = divmod(offset, self.segment_frames)
        # In each step since the lane took its sequence, every lane took at most one, and every epoch has at least one.
        # The run may have had more lanes then.
        epochs = steps * max(self.batch_size, MOST_LANES) + 1
        before = [epoch, index] < next_position and next_position[0] - epoch <= epochs
        return before and not rest and 0 < offset <= self.longest

    def batches(self, state: dict[str, Any]) -> Iterator[tuple[SegmentArrays, dict[str, Any]]]:
        """Yield the batches after `state` without end, each with the state after it."""
        lanes, sequences = self._restore(state)
        next_position = state["next"]
        time = self.segment_frames + 1
        while True:
            rows = np.empty((self.batch_size, time, self.manifest.frame_size), np.float32)
            lengths, starts, names = [], [], []
            for i, lane in enumerate(lanes):
                if lane is None:
                    position, sequence = next(sequences)
                    next_position = [position[0], position[1] + 1]
                    lane = Lane(position, sequence, 0)
                starts.append(lane.offset == 0)
                lengths.append(self.writer.write(lane.sequence, lane.offset, rows[i]))
                names.append(lane.sequence.utterance.id)
                lane.offset += self.segment_frames
                # A single last frame is not followed by a frame to score.
                lanes[i] = lane if lane.offset < lane.sequence.length - 1 else None
            positions = [None if lane is None else [*lane.position, lane.offset] for lane in lanes]
            yield SegmentArrays(rows, lengths, starts, names), {"lanes": positions, "next": list(next_position)}

    def _restore(self, state: dict[str, Any]) -> tuple[list[Lane | None], Iterator[tuple[Position, FrameSequence]]]:
        """Return the lanes of a state with their sequences, and the stream of sequences from `next` on.

        To find the sequences, the epochs are read again, from the earliest one that a lane is still in.
        """
        next_position = tuple(state["next"])
        unfinished: dict[Position, tuple[int, int]] = {}  # lane and offset of each sequence that a lane is in
        for i, lane in enumerate(state["lanes"]):
            if lane is not None:
                epoch, index, offset = lane
                unfinished[epoch, index] = (i, offset)
        lanes: list[Lane | None] = [None] * self.batch_size
        first_epoch, _ = min([next_position, *unfinished])
        sequences = self._sequences(first_epoch)
        previous: Position | None = None
        for position, sequence in sequences:
            if position >= next_position:
                if unfinished or (position != next_position and previous != (next_position[0], next_position[1] - 1)):
                    break
                return lanes, itertools.chain([(position, sequence)], sequences)
            if position in unfinished:
                i, offset = unfinished.pop(position)
                if offset >= sequence.length - 1:
                    break
                lanes[i] = Lane(position, sequence, offset)
            previous = position
        raise UserError(f"{self.location}: cannot resume: the stopped run was at a position that these shards lack")

    def _sequences(self, epoch: int) -> Iterator[tuple[Position, FrameSequence]]:
        """Yield the sequences of this process with their positions without end, from the start of an epoch."""
        while True:
            index = -1
            for index, sequence in enumerate(self._epoch(epoch)):
                yield (epoch, index), sequence
            if index < 0:
                raise UserError(
                    f"{self.location}: no training recording has at least 2 frames for process "
                    f"{self.rank} of {self.world}"
                )
            epoch += 1

    def _epoch(self, epoch: int) -> Iterator[FrameSequence]:
        """Yield the sequences of this process in one epoch, in a random order."""
        rng = random.Random(derive_seed(self.seed, epoch))
        shards = list(self.manifest.split("train").shards)
        rng.shuffle(shards)  # the generator's first use, so that all processes get the same order of shards
        separate, shared = separate_shards(shards, self.world)
        utterances: Iterator[FramedUtterance] = itertools.chain(
            self._read(separate[self.rank :: self.world]),
            itertools.islice(self._read(shared), self.rank, None, self.world),
        )
        utterances = shuffled(utterances, self.config.shuffle_utterances, rng)
        if self.config.carry_state:
            for utterance in utterances:
                yield FrameSequence(utterance, 0, self.writer.length(utterance), self._noise_seed(utterance, epoch))
        else:
            segments = (segment for utterance in utterances for segment in self._segments(utterance, epoch, rng))
            yield from shuffled(segments, self.config.shuffle_utterances, rng)

    def _segments(self, utterance: FramedUtterance, epoch: int, rng: random.Random) -> Iterator[FrameSequence]:
        """Yield all whole segments that fit into an utterance after a random offset, or all of a short utterance."""
        length, noise_seed = self.writer.length(utterance), self._noise_seed(utterance, epoch)
        count, rest = divmod(length - 1, self.segment_frames)
        if not count:
            yield FrameSequence(utterance, 0, length, noise_seed)
        first = rng.randint(0, rest)
        for i in range(count):
            yield FrameSequence(utterance, first + i * self.segment_frames, self.segment_frames + 1, noise_seed)

    def _read(self, shards: Iterable[Shard]) -> Iterator[FramedUtterance]:
        """Yield the utterances that have a frame to score, and note the ids of the others."""
        for utterance in read_shards(self.location, shards, self.manifest):
            if self.writer.length(utterance) >= 2:
                yield utterance
            else:
                self.too_short.add(utterance.id)

    def _noise_seed(self, utterance: FramedUtterance, epoch: int) -> int:
        return derive_seed(self.seed, epoch, utterance.id)


def _are_counts(values: object, length: int) -> bool:
    """Whether `values` is a list of `length` integers, none of which is negative."""
    return isinstance(values, list) and len(values) == length and all(type(v) is int and v >= 0 for v in values)


def separate_shards(shards: list[Shard], world: int) -> tuple[list[Shard], list[Shard]]:
    """Separate the shards that only one process reads from those that all processes read.

    Each of `world` processes reads the same number of whole shards. These must be of similar size: a process with less
    to read would use its recordings more often than the others.

    Returns:
        The shards of which each is read by one process, and the shards whose utterances are shared out.
    """
    if world == 1:
        return shards, []
    most = max(shard.frames for shard in shards)
    large = [shard for shard in shards if shard.frames >= SIMILAR_SIZE * most]
    separate = large[: len(large) // world * world]
    names = {shard.name for shard in separate}
    return separate, [shard for shard in shards if shard.name not in names]


def shuffled(items: Iterable[Item], size: int, rng: random.Random) -> Iterator[Item]:
    """Yield items in random order, each drawn from a buffer of `size` items."""
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
