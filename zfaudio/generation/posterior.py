"""The posterior of a recording: what its frames tell about the latents of each step."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from zfaudio.config import DataConfig
from zfaudio.data.batches import FrameWriter, LongUtterance
from zfaudio.data.frames import to_frames
from zfaudio.data.manifest import Manifest
from zfaudio.data.shard_format import FramedUtterance
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
        recording: int16 [samples], whole frames; or pixels, or ids.
        manifest: of the shards that the model was trained on.
    """

    def __init__(self, model: FrameModel, recording: NDArray[np.int16], manifest: Manifest) -> None:
        self._model = model
        frames = to_frames(recording, manifest.frame_size)
        self._steps = len(frames)
        writer = FrameWriter(manifest, DataConfig(dequantize=False, score_first_frame=True))
        self._source = LongUtterance(FramedUtterance("", "", 0.0, frames.size, frames), writer, manifest.frame_size, 0)
        device = next(model.parameters()).device
        steps = len(self)
        self._chunks = Chunks(self._source, chunk_borders(steps, FRAMES_AT_ONCE), device)
        self._future_states: list[RecurrentState] | None = None
        if len(self._chunks) > 1:
            self._future_states = model.future_states(self._chunks)
        if self._future_states is None:
            self._chunks = Chunks(self._source, [0, steps], device)
        self._first_chunk = self._read_chunk(0)

    def __len__(self) -> int:
        return self._steps

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor | None]]:
        """x_t [frame_size], and b_t [size] or None for a model without latents."""
        for index in range(len(self._chunks)):
            frames, future = self._read_chunk(index) if index else self._first_chunk
            for t in range(len(frames)):
                yield frames[t], None if future is None else future[t]

    @property
    def last_frame(self) -> Tensor:
        """The last frame of the recording, as the model reads it, [frame_size]."""
        return self._source.part(len(self), len(self) + 1)[0, 0].to(self._chunks.device)

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
