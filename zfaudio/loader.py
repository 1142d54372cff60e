"""Shards to batches: an endless stream of training segments, and whole utterances for scoring.

Every rank reads all shards and keeps every world-th utterance. That costs some reading, which is cheap, and in
return it works for any number of shards and ranks, and a run resumes on the very batch where it stopped.
"""

import copy
import itertools
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from zfaudio.errors import UserError
from zfaudio.frames import dequantise, standardise
from zfaudio.manifest import Manifest, Shard
from zfaudio.shard_files import FramedUtterance
from zfaudio.shard_reading import read_shards
from zfaudio.streams import hash64, prefetch, rank_share, shuffled

# Batches' worth of utterances that whole_utterances reads ahead and sorts by length.
POOL = 32


@dataclass
class DataConfig:
    """What is trained and scored on.

    Args:
        shards: folder of shards that `zfaudio shard` made, or its address (http://..., s3://...).
        dequantize: add uniform noise of one quantisation step, so that the density bounds the probability of the
            16-bit signal; false is the published protocol.
        carry_state: in training, walk through each recording segment after segment and carry the recurrent state
            on; false takes segments at random offsets, each from a fresh state, as published.
        score_first_frame: put a frame of zeros (the corpus mean) before each recording so that its first frame is
            scored too; the published numbers score from the second.
        shuffle_utterances: size of the buffer from which training utterances are drawn at random.
    """

    shards: str = ""
    dequantize: bool = True
    carry_state: bool = True
    score_first_frame: bool = False
    shuffle_utterances: int = 1000

    def __post_init__(self) -> None:
        if self.shuffle_utterances < 1:
            raise UserError(f"data.shuffle_utterances is {self.shuffle_utterances}; it must be at least 1")


@dataclass
class Batch:
    """Standardised frames of several sequences. Frame 0 of each is input only; frames 1..length-1 are scored."""

    frames: Tensor  # float32 [batch, time, frame_size], zero past each sequence's length
    lengths: Tensor  # int64 [batch], frames of each sequence, frame 0 included
    starts: Tensor  # bool [batch], the sequences whose recurrent state starts afresh
    utterances: list[str]  # ids


@dataclass(frozen=True)
class Sequence:
    """A stretch of one utterance, as long as the recurrent state is carried on.

    Where the first frame is scored too, the frame of zeros before the utterance counts as its frame 0.
    """

    utterance: FramedUtterance
    first: int  # frame of the utterance that the stretch begins with
    length: int  # frames
    noise_seed: int


Place = tuple[int, int]  # epoch, position in the epoch's order


@dataclass
class Lane:
    """Where a row of the batch stands: in which sequence, and at which of its frames."""

    place: Place
    sequence: Sequence
    offset: int


class FrameWriter:
    """Writes standardised frames of sequences into rows of a batch."""

    def __init__(self, manifest: Manifest, config: DataConfig) -> None:
        self.mean = manifest.mean
        self.deviation = manifest.deviation
        self.dequantize = config.dequantize
        self.leading_zeros = int(config.score_first_frame)

    def length(self, utterance: FramedUtterance) -> int:
        """Frames of an utterance, the frame of zeros before it included where there is one."""
        return len(utterance.frames) + self.leading_zeros

    def write(self, sequence: Sequence, offset: int, row: NDArray[np.float32]) -> int:
        """Fill a row, float32 [time, frame_size], with the sequence's frames from `offset` on, then with zeros.

        Returns the number of frames written.
        """
        length = min(len(row), sequence.length - offset)
        first = sequence.first + offset - self.leading_zeros  # index into the utterance's own frames
        zeros = 1 if first < 0 else 0
        row[:zeros] = 0.0
        row[length:] = 0.0
        frames, out = sequence.utterance.frames[first + zeros : first + length], row[zeros:length]
        if self.dequantize:
            dequantise(frames, self.mean, self.deviation, sequence.noise_seed, first + zeros, out)
        else:
            standardise(frames, self.mean, self.deviation, out)
        return length


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
        utterances = manifest.split("train").utterances
        if utterances < world:
            raise UserError(f"{location}: {utterances} training utterances cannot feed {world} processes")
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
        self._state: dict[str, Any] = {"lanes": [None] * batch_size, "next": [0, 0], **self._identity()}
        self._batches: Iterator[tuple[Batch, dict[str, Any]]] | None = None

    def __iter__(self) -> "TrainingStream":
        return self

    def __next__(self) -> Batch:
        if self._batches is None:
            self._batches = prefetch(self._generate(self._state))
        batch, self._state = next(self._batches)
        return batch

    def state_dict(self) -> dict[str, Any]:
        """Where this rank's stream stands after the last batch it gave: plain ints, bools and lists.

        `next` is the [epoch, position] of the next sequence to read; `lanes` holds [epoch, position, offset]
        of the sequence each lane is in, None for a lane that takes a new one.
        """
        return copy.deepcopy(self._state)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with the batch after the one that `state` was taken at, bit for bit.

        Raises:
            UserError: the state is of a stream with other settings.
        """
        for name, value in self._identity().items():
            if state.get(name) != value:
                raise UserError(f"cannot resume: {name} was {state.get(name)} in the stopped run and is {value} now")
        if len(state["lanes"]) != self.batch_size:
            raise UserError(f"cannot resume: the batch had {len(state['lanes'])} lanes and has {self.batch_size} now")
        self._state = copy.deepcopy(state)
        self._batches = None

    def _identity(self) -> dict[str, Any]:
        return {
            "seed": self.seed,
            "rank": self.rank,
            "world": self.world,
            "segment_frames": self.segment_frames,
            "carry_state": self.config.carry_state,
            "score_first_frame": self.config.score_first_frame,
            "shuffle_utterances": self.config.shuffle_utterances,
            "train_frames": self.manifest.split("train").frames,
        }

    def _generate(self, state: dict[str, Any]) -> Iterator[tuple[Batch, dict[str, Any]]]:
        """Batches after `state`, each with the state after it."""
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
            batch = Batch(torch.from_numpy(rows), torch.tensor(lengths), torch.tensor(starts), names)
            places = [None if lane is None else [*lane.place, lane.offset] for lane in lanes]
            yield batch, {"lanes": places, "next": list(upcoming), **self._identity()}

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
        rng = random.Random(hash64(self.seed, epoch))
        shards = list(self.manifest.split("train").shards)
        rng.shuffle(shards)  # the first draw of the generator: all ranks see the same order of shards
        own = rank_share(self._scorable(shards), self.rank, self.world)
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
        return hash64(self.seed, epoch, utterance.id)


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
        config: how to standardise.
        frames_per_batch: batch x time of a batch stays within this, unless one utterance alone is longer.
        seed: of the dequantisation noise.
        rank: of this process.
        world: number of processes; they share the utterances out among them.

    Raises:
        UserError: no such split, or a damaged shard.
    """
    writer = FrameWriter(manifest, config)
    utterances = read_shards(location, manifest.split(split).shards)
    own = rank_share((one for one in utterances if writer.length(one) >= 2), rank, world)
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
        writer.write(Sequence(utterance, 0, writer.length(utterance), hash64(seed, utterance.id)), 0, row)
        for utterance, row in zip(utterances, rows, strict=True)
    ]
    starts = torch.ones(len(utterances), dtype=torch.bool)
    return Batch(torch.from_numpy(rows), torch.tensor(lengths), starts, [one.id for one in utterances])
