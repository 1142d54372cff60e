"""Batches of frames, and how the frames of utterances are written into them."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from zfaudio.config import DataConfig
from zfaudio.data.frames import dequantize, standardize
from zfaudio.data.manifest import Manifest
from zfaudio.data.shard_format import FramedUtterance
from zfaudio.mulaw import to_levels


@dataclass
class Batch:
    """Frames of several sequences. Frame 0 of each is only input; frames 1..length-1 are scored.

    Those of recordings are standardized; pixels and ids are as they are.
    """

    frames: Tensor  # float32 [batch, time, frame_size], zeros after each sequence's last frame
    lengths: Tensor  # int64 [batch], number of frames of each sequence, including frame 0
    starts: Tensor  # bool [batch], true where the recurrent state is reset
    utterances: list[str]  # id of each sequence's utterance

    def part(self, first: int, last: int) -> Tensor:
        """Frames first..last-1 of each sequence."""
        return self.frames[:, first:last]


@dataclass(frozen=True)
class FrameSequence:
    """Consecutive frames of one utterance, over which the recurrent state is carried on.

    If the first frame is scored too, the frame of zeros before the utterance counts as frame 0 of the utterance.
    """

    utterance: FramedUtterance
    first: int  # index of the first frame in the utterance
    length: int  # number of frames
    noise_seed: int


class FrameWriter:
    """Writes the frames of sequences into the rows of a batch, those of recordings standardized.

    All that a model reads passes here: shards, and the recordings that it is given to score or to go on from. Of shards
    of mu-law, a model therefore hears levels alone, to which no noise is added.
    """

    def __init__(self, manifest: Manifest, config: DataConfig) -> None:
        self.waveform = manifest.waveform if manifest.kind == "waveform" else None
        self.mulaw = manifest.encoding == "mulaw"
        self.dequantize = manifest.is_dequantized(config)
        self.leading_zeros = int(config.score_first_frame)

    def length(self, utterance: FramedUtterance) -> int:
        """Return the number of frames of an utterance, including the frame of zeros before it if there is one."""
        return len(utterance.frames) + self.leading_zeros

    def write(self, sequence: FrameSequence, offset: int, row: NDArray[np.float32]) -> int:
        """Fill a row, float32 [time, frame_size], with the sequence's frames from `offset` on, and then with zeros.

        Returns:
            The number of frames written, without the zeros at the end.
        """
        length = min(len(row), sequence.length - offset)
        first = sequence.first + offset - self.leading_zeros  # index into utterance.frames
        zeros = 1 if first < 0 else 0
        if zeros:
            row[0] = 0.0
        if length < len(row):
            row[length:] = 0.0
        frames, out = sequence.utterance.frames[first + zeros : first + length], row[zeros:length]
        scale = self.waveform
        if self.mulaw:
            frames = to_levels(frames)
        if scale is None:
            out[:] = frames
        elif self.dequantize:
            dequantize(frames, scale.mean, scale.deviation, sequence.noise_seed, first + zeros, out)
        else:
            standardize(frames, scale.mean, scale.deviation, out)
        return length


class LongUtterance:
    """A batch of one utterance whose frames are made part by part: all of them at once would take much memory.

    Args:
        utterance: the utterance.
        writer: makes its frames.
        frame_size: samples per frame.
        noise_seed: seed of its dequantization noise.
    """

    def __init__(self, utterance: FramedUtterance, writer: FrameWriter, frame_size: int, noise_seed: int) -> None:
        self._sequence = FrameSequence(utterance, 0, writer.length(utterance), noise_seed)
        self._writer, self._frame_size = writer, frame_size
        self.lengths = torch.tensor([self._sequence.length])
        self.utterances = [utterance.id]

    def part(self, first: int, last: int) -> Tensor:
        """Frames first..last-1, float32 [1, last - first, frame_size]."""
        frames = np.empty((1, last - first, self._frame_size), np.float32)
        self._writer.write(self._sequence, first, frames[0])
        return torch.from_numpy(frames)
