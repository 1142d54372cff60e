"""Shards of pixels and of words from Markov chains, whose likelihood is known exactly."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from zfaudio.data.frame_shards import write_frame_shards
from zfaudio.data.shard_format import FramedUtterance
from zfaudio.observations import END, SPECIAL_WORDS, START

# Row i: the probabilities of what follows i. The first value follows 0, as after the frame of zeros.
BITS = np.array([[0.8, 0.2], [0.3, 0.7]])
WORDS = [*SPECIAL_WORDS, "a", "good", "film"]
SENTENCES = np.array(
    [
        [0.0, 0.0, 0.1, 0.6, 0.2, 0.1],  # after the start
        [0.0, 1.0, 0.0, 0.0, 0.0, 0.0],  # never reached
        [0.0, 0.4, 0.2, 0.2, 0.1, 0.1],
        [0.0, 0.1, 0.1, 0.0, 0.5, 0.3],
        [0.0, 0.2, 0.0, 0.1, 0.1, 0.6],
        [0.0, 0.7, 0.1, 0.1, 0.1, 0.0],
    ]
)


def exact_nats(chain: np.ndarray, values: np.ndarray) -> float:
    """The log-probability of a sequence of values of any shape, after 0."""
    sequence = np.concatenate([[START], values.ravel()])
    return float(np.log(chain[sequence[:-1], sequence[1:]]).sum())


def draw(rng: np.random.Generator, chain: np.ndarray, length: int) -> list[int]:
    """A sequence of this length, or one that has come to its end."""
    values: list[int] = []
    while len(values) < length and not (len(chain) > 2 and values[-1:] == [END]):
        values.append(int(rng.choice(len(chain), p=chain[values[-1] if values else START])))
    return values


def framed(id: str, values: list[int], frame_size: int, speaker: str = "s") -> FramedUtterance:
    frames = np.array(values, np.int16).reshape(-1, frame_size)
    return FramedUtterance(id, speaker, 0.0, frames.size, frames)


SPLITS = {"train": 200, "valid": 20, "test": 60}  # utterances


def bit_shards(out: Path, rows: int = 6, columns: int = 4, layout: str = "rows") -> str:
    """Pictures of rows x columns bits that are one chain, a frame for each row or for each pixel."""
    frame_size = columns if layout == "rows" else 1

    def pictures(split: str, count: int) -> Iterator[FramedUtterance]:
        rng = np.random.default_rng(len(split) + count)
        for index in range(count):
            yield framed(f"{split}-{index}", draw(rng, BITS, rows * columns), frame_size)

    splits = {split: pictures(split, count) for split, count in SPLITS.items()}
    write_frame_shards(out, splits, kind="binary", frame_size=frame_size, image_size=(rows, columns))
    return str(out)


def sentence_shards(out: Path, words: list[str] = WORDS) -> str:
    """Sentences of the chain. `words` are the vocabulary, by id."""

    def sentences(split: str, count: int) -> Iterator[FramedUtterance]:
        rng = np.random.default_rng(len(split) + count)
        for index in range(count):
            yield framed(f"{split}-{index}", draw(rng, SENTENCES, 1000), 1)

    splits = {split: sentences(split, 15 * count if split == "train" else 3 * count) for split, count in SPLITS.items()}
    write_frame_shards(out, splits, kind="tokens", frame_size=1, vocabulary=words)
    return str(out)
