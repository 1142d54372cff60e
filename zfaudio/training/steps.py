"""Parts of a training step: the seed of its draws, its learning rate, and the state its sequences start from."""

import torch
from torch import Tensor

from zfaudio.config import TrainConfig
from zfaudio.models.base import RecurrentState
from zfaudio.seeds import torch_seed


def seed_step(seed: int, step: int, rank: int) -> None:
    """Seed torch so that the draws of a step do not depend on earlier steps; a resumed run then repeats them."""
    torch.manual_seed(torch_seed(seed, "step", step, rank))


def decayed_learning_rate(options: TrainConfig, step: int) -> float:
    """The learning rate of a step, counted from 0: constant, then falling linearly over the last `decay_steps`."""
    left = min((options.max_steps - step) / options.decay_steps, 1.0)
    return options.min_learning_rate + left * (options.learning_rate - options.min_learning_rate)


def restart(state: RecurrentState, starts: Tensor) -> RecurrentState:
    """The state [batch, ...] with zeros for the sequences that start a recording, bool `starts` [batch]."""
    return tuple(part * ~starts.view(-1, *(1 for _ in part.shape[1:])) for part in state)
