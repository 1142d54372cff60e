"""Training segments: batch lanes that walk through recordings, from any state on."""

import itertools
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from zfaudio.data.batches import DataConfig, FrameWriter, Sequence
from zfaudio.data.manifest import Manifest, Shard
from zfaudio.data.shard_format import FramedUtterance
from zfaudio.data.shard_reader import read_shards
from zfaudio.errors import UserError
from zfaudio.seeds import derive_seed

Item = TypeVar("Item")
Place = tuple[int, int]  # epoch, position in the epoch's order

# Shards with at least this share of the frames of the largest are of like size.
LIKE_SIZE = 0.9


@dataclass
class Lane:
    """Where a row of the batch stands: in which sequence, and at which of its frames."""

    place: Place
    sequence: Sequence
    offset: int


class SegmentArrays(NamedTuple):
    """What a batch is made of, as it leaves the thread that reads ahead: no tensors yet."""

    frames: NDArray[np.float32]  # [batch, time, frame_size]
    lengths: list[int]
    starts: list[bool]
    utterances: list[str]


class TrainingSegments:
    """Batches of training segments as a function of the state that they start from.

    A state is {"next": [epoch, position] of the next sequence to read, "lanes": for each lane the
    [epoch, position, offset] of the sequence it is in, None where it takes a new one}.

    Args:
        location: folder or address of the shards.
        manifest: their manifest.
        config: how to cut and shuffle.
        batch_size: lanes, of this rank.
        segment_frames: scored frames of a segment.
        seed: of the order, the offsets and the noise.
        rank: of this process.
        world: number of processes.
    """

    def __init__(
        self,
        location: str,
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
        self.too_short: set[str] = set()  # ids of recordings met so far that hold nothing to score

    def initial_state(self) -> dict[str, Any]:
        """The state before the first batch."""
        return {"next": [0, 0], "lanes": [None] * self.batch_size}

    def batches(self, state: dict[str, Any]) -> Iterator[tuple[SegmentArrays, dict[str, Any]]]:
        """Batches after `state`, without end, each with the state after it."""
        lanes, sequences = self._restore(state)
        upcoming = state["next"]
        time = self.segment_frames + 1
        while True:
            rows = np.empty((self.batch_size, time, self.manifest.frame_size), np.float32)
            lengths, starts, names = [], [], []
            for i, lane in enumerate(lanes):
                if lane is None:
                    place, sequence = next(sequences)
                    upcoming = [place[0], place[1] + 1]
                    lane = Lane(place, sequence, 0)
                starts.append(lane.offset == 0)
                lengths.append(self.writer.write(lane.sequence, lane.offset, rows[i]))
                names.append(lane.sequence.utterance.id)
                lane.offset += self.segment_frames
                # A last frame alone has nothing after it to score.
                lanes[i] = lane if lane.offset < lane.sequence.length - 1 else None
            places = [None if lane is None else [*lane.place, lane.offset] for lane in lanes]
            yield SegmentArrays(rows, lengths, starts, names), {"lanes": places, "next": list(upcoming)}

    def _restore(self, state: dict[str, Any]) -> tuple[list[Lane | None], Iterator[tuple[Place, Sequence]]]:
        """The lanes of a state with their sequences, and the stream of sequences from `next` on.

        Sequences are found by reading the epochs again from the earliest that a lane is still in.
        """
        next_place = tuple(state["next"])
        waiting: dict[Place, tuple[int, int]] = {}  # lane and offset of the sequences that lanes are in
        for i, place in enumerate(state["lanes"]):
            if place is not None:
                waiting[place[0], place[1]] = (i, place[2])
        lanes: list[Lane | None] = [None] * self.batch_size
        sequences = self._sequences(min([next_place, *waiting])[0])
        for place, sequence in sequences:
            if place >= next_place:
                return lanes, itertools.chain([(place, sequence)], sequences)
            if place in waiting:
                i, offset = waiting[place]
                lanes[i] = Lane(place, sequence, offset)
        raise AssertionError("the stream of sequences has no end")

    def _sequences(self, epoch: int) -> Iterator[tuple[Place, Sequence]]:
        """This rank's sequences with their places, from the beginning of an epoch on, without end."""
        while True:
            position = -1
            for position, sequence in enumerate(self._epoch(epoch)):
                yield (epoch, position), sequence
            if position < 0:
                raise UserError(
                    f"{self.location}: no training recording left with at least 2 frames for process "
                    f"{self.rank} of {self.world}"
                )
            epoch += 1

    def _epoch(self, epoch: int) -> Iterator[Sequence]:
        """This rank's sequences of one epoch, in its order."""
        rng = random.Random(derive_seed(self.seed, epoch))
        shards = list(self.manifest.split("train").shards)
        rng.shuffle(shards)  # the first draw of the generator: all ranks see the same order of shards
        dealt, shared = deal_out(shards, self.world)
        own = itertools.chain(
            self._scorable(dealt[self.rank :: self.world]),
            itertools.islice(self._scorable(shared), self.rank, None, self.world),
        )
        utterances = shuffled(own, self.config.shuffle_utterances, rng)
        if self.config.carry_state:
            for utterance in utterances:
                yield Sequence(utterance, 0, self.writer.length(utterance), self._noise_seed(utterance, epoch))
        else:
            segments = (segment for utterance in utterances for segment in self._segments(utterance, epoch, rng))
            yield from shuffled(segments, self.config.shuffle_utterances, rng)

    def _segments(self, utterance: FramedUtterance, epoch: int, rng: random.Random) -> Iterator[Sequence]:
        """As many whole segments as fit into an utterance, from a random offset; a short utterance as it is."""
        length, noise_seed = self.writer.length(utterance), self._noise_seed(utterance, epoch)
        whole, rest = divmod(length - 1, self.segment_frames)
        if not whole:
            yield Sequence(utterance, 0, length, noise_seed)
        first = rng.randint(0, rest)
        for i in range(whole):
            yield Sequence(utterance, first + i * self.segment_frames, self.segment_frames + 1, noise_seed)

    def _scorable(self, shards: Iterable[Shard]) -> Iterator[FramedUtterance]:
        for utterance in read_shards(self.location, shards):
            if self.writer.length(utterance) >= 2:
                yield utterance
            else:
                self.too_short.add(utterance.id)

    def _noise_seed(self, utterance: FramedUtterance, epoch: int) -> int:
        return derive_seed(self.seed, epoch, utterance.id)


def deal_out(shards: list[Shard], world: int) -> tuple[list[Shard], list[Shard]]:
    """Shards that ranks take in turn, as many each, and those that all of them read, to share their utterances.

    Only shards of like size are dealt out: a rank with little to read would give its recordings too often.
    """
    if world == 1:
        return shards, []
    most = max(shard.frames for shard in shards)
    large = [shard for shard in shards if shard.frames >= LIKE_SIZE * most]
    dealt = large[: len(large) // world * world]
    names = {shard.name for shard in dealt}
    return dealt, [shard for shard in shards if shard.name not in names]


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
