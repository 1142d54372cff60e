"""The samples before a frame, for models that hear more than the frame itself.

A head or an encoder says by `past` how many samples before the frame x_t it reads. The model's `past` is the larger of
the two. If it is not 0, the model's state ends with the last `past` samples before the next frame to be read, [batch,
past], zeros before a recording. If it is 0, the state has no such part.
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch
from torch import Tensor

# What a model carries from frame to frame: tensors [batch, ...], zeros before a recording.
RecurrentState = tuple[Tensor, ...]


class Signal(NamedTuple):
    """Frames one after another, with the samples before the first of them."""

    samples: Tensor  # [batch, past + time * frame_size]
    past: int
    frame_size: int

    def heard(self, past: int, steps: int | None = None) -> Tensor:
        """The first `steps` frames (by default all), and `past` samples before them.

        Returns:
            [batch, past + steps * frame_size].
        """
        end = None if steps is None else self.past + steps * self.frame_size
        return self.samples[:, self.past - past : end]

    def repeated(self, draws: int) -> "Signal":
        """The signal so many times, [draws * batch, ...]."""
        return self if draws == 1 else self._replace(samples=self.samples.repeat(draws, 1))

    def after(self, own: RecurrentState, steps: Tensor | None = None) -> RecurrentState:
        """The state with the samples before the next frame.

        Args:
            own: the other parts of the state.
            steps: number of frames of each sequence that were read, [batch]; by default all.
        """
        if not self.past:
            return own
        if steps is None:
            return *own, self.samples[:, -self.past :]
        places = torch.arange(self.past, device=self.samples.device) + self.frame_size * steps.unsqueeze(1)
        return *own, self.samples.gather(1, places)


def first_state(own: RecurrentState, past: int) -> RecurrentState:
    """The state before a recording: `own`, which has one part at least, and zeros for the samples before."""
    return (*own, own[0].new_zeros(len(own[0]), past)) if past else own


def open_signal(frames: Tensor, state: RecurrentState, past: int) -> tuple[RecurrentState, Signal]:
    """Frames [batch, time, frame_size] after what a state remembers of the samples before them.

    Returns:
        The other parts of the state, and the signal.
    """
    samples, frame_size = frames.flatten(1), frames.shape[-1]
    if not past:
        return state, Signal(samples, 0, frame_size)
    return state[:-1], Signal(torch.cat([state[-1], samples], dim=1), past, frame_size)


def zero_padding(frames: Tensor, lengths: Tensor) -> Tensor:
    """Frames [batch, time, frame_size], zero past the length of each sequence, [batch].

    What stands there is then no part of any gradient, even where a function of it is infinite.
    """
    inside = torch.arange(frames.shape[1], device=frames.device) < lengths.unsqueeze(1)
    return torch.where(inside.unsqueeze(-1), frames, 0)


def past_of_chunks(
    chunks: Iterable[Tensor], past: int, observe: Callable[[Tensor], Tensor]
) -> Iterable[RecurrentState]:
    """What a state holds of the samples before each chunk of a sequence, as the last parts of the state.

    Args:
        chunks: frames [1, time, frame_size] each, that begin with the last frame of the chunk before.
        past: number of samples.
        observe: frames as the model reads them.
    """
    state: RecurrentState | None = None
    for frames in chunks:
        if state is None:
            state = first_state((frames.new_empty(1, 0),), past)[1:]
        yield state
        if past:
            _, signal = open_signal(observe(frames[:, :-1]), state, past)
            state = (signal.after(())[0].clone(),)  # a view would keep the chunk
