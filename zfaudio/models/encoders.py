"""Encoders: what a recurrent model reads of a frame, and of the samples before it.

The model embeds the features linearly: embed(x_t) stands for a linear map of them in the equations of all models. An
encoder of another package is a subclass of `FrameEncoder`, named by its import path in `model.encoder`.
"""

import math
from abc import ABC, abstractmethod
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zfaudio.config import RNNConfig
from zfaudio.models.fitting import find_fitting
from zfaudio.models.mel_spectrum import MelSpectrum
from zfaudio.observations import RECORDINGS, Content, Observation, Tokens, of_recordings

ENCODERS = {
    "linear": "zfaudio.models.encoders.LinearEncoder",
    "mel": "zfaudio.models.encoders.MelEncoder",
    "lookup": "zfaudio.models.encoders.LookupEncoder",
}

SLOPE = 0.1  # of the mel encoder's leaky ReLU
COMPANDING = 30.0  # samples from about a thirtieth of the corpus's deviation are compressed

# About the mean and the deviation in standardized speech, in the first recordings of LJ Speech at 16 kHz.
LOG_LEVEL_MEAN, LOG_LEVEL_DEVIATION = -1.5, 1.5


class FrameEncoder(nn.Module, ABC):
    """From samples to features of frames. A subclass is built with (frame_size, config, observation)."""

    kinds: ClassVar[tuple[Content, ...]] = ("waveform",)  # of frames that it reads
    feature_size: int
    past: int = 0  # how many samples before the frame it reads

    @abstractmethod
    def forward(self, samples: Tensor) -> Tensor:
        """Features of the frames of a sequence; those of a frame know no later one.

        Args:
            samples: of the frames, with `past` samples in front of them, [batch, past + steps * frame_size].

        Returns:
            [batch, steps, feature_size].
        """


class LinearEncoder(FrameEncoder):
    """The frame itself, as published: the model's embedding is then linear in the samples or pixels."""

    kinds = (*RECORDINGS, "binary")

    def __init__(self, frame_size: int, config: RNNConfig, observation: Observation) -> None:
        super().__init__()
        self.feature_size = frame_size

    def forward(self, samples: Tensor) -> Tensor:
        """See `FrameEncoder.forward`."""
        frames: Tensor = samples.unflatten(-1, (-1, self.feature_size))
        return frames


class LookupEncoder(FrameEncoder):
    """A learned vector for each id of a vocabulary."""

    kinds = ("tokens",)

    def __init__(self, frame_size: int, config: RNNConfig, observation: Observation) -> None:
        super().__init__()
        assert isinstance(observation, Tokens)
        self.feature_size = config.embedding_size
        self.vectors = nn.Embedding(observation.vocabulary, config.embedding_size)

    def forward(self, samples: Tensor) -> Tensor:
        """See `FrameEncoder.forward`; `samples` are ids, [batch, steps]."""
        vectors: Tensor = self.vectors(samples.long())
        return vectors


class MelEncoder(FrameEncoder):
    """A layer of units over the spectrum of the last `encoder_window` samples, the frame's level and its samples.

    The spectrum is that of a Hann window which ends with the frame, as logarithms of the mean power in mel bands. The
    samples are companded, so that the waveform of quiet speech is heard too.
    """

    kinds = RECORDINGS

    def __init__(self, frame_size: int, config: RNNConfig, observation: Observation) -> None:
        super().__init__()
        self.frame_size, self.feature_size = frame_size, config.embedding_size
        self.past = max(0, config.encoder_window - frame_size)
        self.floor = of_recordings(observation, "model.encoder mel").step ** 2  # the power of one 16-bit step
        self.spectrum = MelSpectrum(config, observation)
        self.units = nn.Linear(config.encoder_bands + 1 + frame_size, config.embedding_size)

    def forward(self, samples: Tensor) -> Tensor:
        """See `FrameEncoder.forward`."""
        before = samples.unfold(-1, self.past + self.frame_size, self.frame_size)  # [batch, steps, past + frame_size]
        with torch.autocast(samples.device.type, enabled=False):
            described = self.describe(before)
        return F.leaky_relu(self.units(described), SLOPE)

    def describe(self, samples: Tensor) -> Tensor:
        """Bands, level and companded samples of frames with their past: [..., past + frame_size] -> [..., size]."""
        frames = samples[..., self.past :]
        level = 0.5 * torch.log(frames.square().mean(-1, keepdim=True) + self.floor)
        companded = torch.sign(frames) * torch.log1p(COMPANDING * frames.abs()) / math.log1p(COMPANDING)
        return torch.cat(
            [self.spectrum(samples), (level - LOG_LEVEL_MEAN) / LOG_LEVEL_DEVIATION, companded],
            dim=-1,
        )


def build_encoder(frame_size: int, config: RNNConfig, observation: Observation) -> FrameEncoder:
    """The encoder that `config.encoder` names.

    Args:
        frame_size: samples per frame.
        config: settings of the model.
        observation: what a frame holds; of recordings, where the 16-bit integers lie among standardized samples.

    Raises:
        UserError: there is no such encoder, it is not for such frames, or its settings do not fit.
    """
    encoder = find_fitting(config.encoder, ENCODERS, FrameEncoder, "model.encoder", observation)
    return encoder(frame_size, config, observation)
