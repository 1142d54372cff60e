"""The posterior of a recording: what its frames tell about the latents of each step."""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from zfaudio.data.frames import standardize, to_frames
from zfaudio.data.manifest import Manifest
from zfaudio.models import FrameModel
from zfaudio.models.base import RecurrentState, steps_of
from zfaudio.models.chunks import Chunks, chunk_borders

FRAMES_AT_ONCE = 4096  # of a recording; a longer one is read in chunks, if the model can read chunks


class RecordedSteps:
    """The steps through a recording: for each, the frame that the model reads, and b_t.

    The first step reads a frame of zeros, and the last one predicts the last frame of the recording. Each iteration
    reads a long recording anew, so that the memory it takes does not depend on how long it is.

    Args:
        model: the model, in evaluation mode.
        recording: int16 [samples], whole frames.
        manifest: of the shards that the model was trained on.
    """

    def __init__(self, model: FrameModel, recording: NDArray[np.int16], manifest: Manifest) -> None:
        self._model, self._manifest = model, manifest
        self._frames = to_frames(recording, manifest.frame_size)
        device = next(model.parameters()).device
        steps = len(self)
        self._chunks = Chunks(self, chunk_borders(steps, FRAMES_AT_ONCE), device)
        self._future_states: list[RecurrentState] | None = None
        if len(self._chunks) > 1:
            self._future_states = model.future_states(self._chunks)
        if self._future_states is None:
            self._chunks = Chunks(self, [0, steps], device)
        self._first_chunk = self._read_chunk(0)

    def __len__(self) -> int:
        return len(self._frames)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor | None]]:
        """x_t [frame_size], and b_t [size] or None for a model without latents."""
        for index in range(len(self._chunks)):
            frames, future = self._read_chunk(index) if index else self._first_chunk
            for t in range(len(frames)):
                yield frames[t], None if future is None else future[t]

    def part(self, first: int, last: int) -> Tensor:
        """Frames first..last-1 of the zeros and the recording, standardized as in training: float32 [1, n, frame_size].

        Frame 0 are the zeros.
        """
        frames = np.zeros((1, last - first, self._manifest.frame_size), np.float32)
        zeros = int(first == 0)
        recorded = self._frames[first + zeros - 1 : last - 1]
        standardize(recorded, self._manifest.waveform.mean, self._manifest.waveform.deviation, frames[0, zeros:])
        return torch.from_numpy(frames)

    @property
    def last_frame(self) -> Tensor:
        """The last frame of the recording, standardized, [frame_size]."""
        return self.part(len(self), len(self) + 1)[0, 0].to(self._chunks.device)

    @property
    def first_future(self) -> Tensor | None:
        """b_t of the first steps, [steps, size]; None for a model without latents."""
        return self._first_chunk[1]

    def future(self) -> Iterator[Tensor] | None:
        """b_t of each step, [size]; None for a model without latents."""
        if self.first_future is None:
            return None
        return (future for _, future in self if future is not None)

    def _read_chunk(self, index: int) -> tuple[Tensor, Tensor | None]:
        """x_t [steps, frame_size] and b_t [steps, size] of a chunk."""
        frames = self._chunks[index]
        lengths = steps_of(frames) + 1
        if self._future_states is None:  # models that read no chunks need not have the argument
            future = self._model.read_future(frames, lengths)
        else:
            future = self._model.read_future(frames, lengths, self._future_states[index])
        return frames[0, :-1], None if future is None else future[0]
