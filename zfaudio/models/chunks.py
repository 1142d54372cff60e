"""Read long utterances in chunks, so that the memory it takes does not grow with their length."""

from collections.abc import Iterator, Sequence
from typing import Protocol, overload

import torch
from torch import Generator, Tensor

from zfaudio.data.batches import Batch, LongUtterance
from zfaudio.models.base import Ablation, FrameModel, FrameTerms, RecurrentState, steps_of

# torch draws normal numbers 16 at a time. Draws of whole blocks of steps, and of at least one block at the end, are the
# same as a single draw for all steps.
BLOCK_STEPS = 16


def chunk_borders(steps: int, frames_at_once: int, block: int = BLOCK_STEPS) -> list[int]:
    """Cut the steps of an utterance into chunks.

    Args:
        steps: number of steps, which is one less than the number of frames.
        frames_at_once: largest number of frames in a chunk, if it is enough for a block.
        block: the number of steps of every chunk but the last is a multiple of it, and the last has at least as many.

    Returns:
        The first step of each chunk, and `steps`.
    """
    length = max(1, (frames_at_once - 1) // block) * block
    borders = [*range(0, steps, length), steps]
    if len(borders) > 2 and steps - borders[-2] < block:
        if length > block:
            borders[-2] -= block
        else:
            del borders[-2]
    return borders


class FrameSource(Protocol):
    """What the frames of a sequence come from."""

    def part(self, first: int, last: int) -> Tensor:
        """Frames first..last-1, [1, last - first, frame_size]."""


class Chunks(Sequence[Tensor]):
    """The chunks of an utterance: frames [1, steps + 1, frame_size] each, made when they are asked for.

    Args:
        source: of the frames.
        borders: the first step of each chunk, and the number of steps.
        device: of the chunks.
    """

    def __init__(self, source: FrameSource, borders: list[int], device: torch.device) -> None:
        self.source, self.borders, self.device = source, borders, device

    def __len__(self) -> int:
        return len(self.borders) - 1

    @overload
    def __getitem__(self, index: int) -> Tensor: ...

    @overload
    def __getitem__(self, index: slice) -> list[Tensor]: ...

    def __getitem__(self, index: int | slice) -> Tensor | list[Tensor]:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        first = index % len(self)
        return self.source.part(self.borders[first], self.borders[first + 1] + 1).to(self.device)


class ChunkedUtterance:
    """An utterance that a model reads in chunks; in one, if the model cannot read chunks.

    Args:
        model: the model, in evaluation mode.
        source: an utterance, or a batch of one.
        frames_at_once: largest number of frames in a chunk.
    """

    def __init__(self, model: FrameModel, source: Batch | LongUtterance, frames_at_once: int) -> None:
        steps = int(source.lengths[0]) - 1
        device = next(model.parameters()).device
        self.model = model
        self.chunks = Chunks(source, chunk_borders(steps, frames_at_once), device)
        self.future_states: list[RecurrentState] | None = None
        if len(self.chunks) > 1:
            self.future_states = model.future_states(self.chunks)
        if self.future_states is None:
            self.chunks = Chunks(source, [0, steps], device)

    def terms(self, generator: Generator, ablation: Ablation = "none") -> Iterator[tuple[FrameTerms, int]]:
        """The terms of each chunk, in order, and the number of its steps.

        Args:
            generator: of the noise of the latents.
            ablation: what to leave out.
        """
        state: RecurrentState | None = None
        for index, frames in enumerate(self.chunks):
            lengths = steps_of(frames) + 1
            noise = self.model.latent_noise(frames.shape[1] - 1, generator).unsqueeze(0).to(frames.device)
            # Models that read no chunks need not have the argument.
            known_future = {} if self.future_states is None else {"future_state": self.future_states[index]}
            terms: FrameTerms = self.model(frames, lengths, state=state, noise=noise, ablation=ablation, **known_future)
            state = terms.state
            yield terms, frames.shape[1] - 1


def is_long(source: Batch | LongUtterance, frames_at_once: int) -> bool:
    """Whether a batch is a single utterance of more frames than a model should read at once."""
    return len(source.utterances) == 1 and int(source.lengths[0]) > frames_at_once
