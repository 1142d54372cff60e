"""Batches, and how frames of utterances get into them."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from zfaudio.data.frames import dequantize, standardize
from zfaudio.data.manifest import Manifest
from zfaudio.data.shard_format import FramedUtterance
from zfaudio.errors import UserError


@dataclass
class DataConfig:
    """What is trained and scored on.

    Args:
        shards: folder of shards that `zfaudio shard` made, or its address (http://..., s3://...).
        dequantize: add uniform noise of one quantization step, so that the density bounds the probability of the
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
    """Standardized frames of several sequences. Frame 0 of each is input only; frames 1..length-1 are scored."""

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


class FrameWriter:
    """Writes standardized frames of sequences into rows of a batch."""

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
        if zeros:
            row[0] = 0.0
        if length < len(row):
            row[length:] = 0.0
        frames, out = sequence.utterance.frames[first + zeros : first + length], row[zeros:length]
        if self.dequantize:
            dequantize(frames, self.mean, self.deviation, sequence.noise_seed, first + zeros, out)
        else:
            standardize(frames, self.mean, self.deviation, out)
        return length
