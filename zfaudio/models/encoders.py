"""Encoders: what a recurrent model reads of a frame, and of the samples before it.

The model embeds the features linearly: embed(x_t) stands for a linear map of them in the equations of all models. An
encoder of another package is a subclass of `FrameEncoder`, named by its import path in `model.encoder`.
"""

import math
import warnings
from abc import ABC, abstractmethod

import librosa
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zfaudio.config import RNNConfig
from zfaudio.distributions import Quantizer
from zfaudio.errors import UserError
from zfaudio.plugins import find_class

ENCODERS = {
    "linear": "zfaudio.models.encoders.LinearEncoder",
    "mel": "zfaudio.models.encoders.MelEncoder",
}

SLOPE = 0.1  # of the mel encoder's leaky ReLU
COMPANDING = 30.0  # samples from about a thirtieth of the corpus's deviation are compressed

# About the mean and the deviation in standardized speech: -5.4 and 4.4 for bands, and -1.2 and 1.7 for levels, in the
# first recordings of LJ Speech at 16 kHz.
LOG_POWER_MEAN, LOG_POWER_DEVIATION = -5.0, 4.0
LOG_LEVEL_MEAN, LOG_LEVEL_DEVIATION = -1.5, 1.5


class FrameEncoder(nn.Module, ABC):
    """From samples to features of frames. A subclass is built with (frame_size, config, quantizer)."""

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
    """The frame itself, as published: the model's embedding is then linear in the samples."""

    def __init__(self, frame_size: int, config: RNNConfig, quantizer: Quantizer) -> None:
        super().__init__()
        self.feature_size = frame_size

    def forward(self, samples: Tensor) -> Tensor:
        """See `FrameEncoder.forward`."""
        frames: Tensor = samples.unflatten(-1, (-1, self.feature_size))
        return frames


class MelEncoder(FrameEncoder):
    """A layer of units over the spectrum of the last `encoder_window` samples, the frame's level and its samples.

    The spectrum is that of a Hann window which ends with the frame, as logarithms of the mean power in mel bands. The
    samples are companded, so that the waveform of quiet speech is heard too.
    """

    filters: Tensor  # the weight of each frequency in each band, which sum to 1, [window // 2 + 1, bands]
    taper: Tensor  # the Hann window, whose squares sum to 1, [window]

    def __init__(self, frame_size: int, config: RNNConfig, quantizer: Quantizer) -> None:
        super().__init__()
        self.frame_size, self.window, self.feature_size = frame_size, config.encoder_window, config.embedding_size
        self.past = max(0, self.window - frame_size)
        self.floor = quantizer.step**2  # the power of one 16-bit step
        taper = torch.hann_window(self.window, dtype=torch.float64)
        self.register_buffer("taper", (taper / taper.norm()).float(), persistent=False)
        self.register_buffer("filters", mel_filters(config), persistent=False)
        self.units = nn.Linear(config.encoder_bands + 1 + frame_size, config.embedding_size)

    def forward(self, samples: Tensor) -> Tensor:
        """See `FrameEncoder.forward`."""
        before = samples.unfold(-1, self.past + self.frame_size, self.frame_size)  # [batch, steps, past + frame_size]
        with torch.autocast(samples.device.type, enabled=False):
            described = self.describe(before)
        return F.leaky_relu(self.units(described), SLOPE)

    def describe(self, samples: Tensor) -> Tensor:
        """Bands, level and companded samples of frames with their past: [..., past + frame_size] -> [..., size]."""
        frames, windows = samples[..., self.past :], samples[..., samples.shape[-1] - self.window :]
        spectrum = torch.fft.rfft(windows * self.taper)  # [..., window // 2 + 1]
        powers = spectrum.real.square() + spectrum.imag.square()
        bands = torch.log(powers @ self.filters + self.floor)
        level = 0.5 * torch.log(frames.square().mean(-1, keepdim=True) + self.floor)
        companded = torch.sign(frames) * torch.log1p(COMPANDING * frames.abs()) / math.log1p(COMPANDING)
        return torch.cat(
            [
                (bands - LOG_POWER_MEAN) / LOG_POWER_DEVIATION,
                (level - LOG_LEVEL_MEAN) / LOG_LEVEL_DEVIATION,
                companded,
            ],
            dim=-1,
        )


def mel_filters(config: RNNConfig) -> Tensor:
    """The weight of each frequency in each mel band, which sum to 1: [encoder_window // 2 + 1, encoder_bands].

    Raises:
        UserError: the sample rate is not known, or a band lies between two frequencies.
    """
    if not config.sample_rate:
        raise UserError(
            "model.sample_rate is 0, but the mel encoder needs it; give the rate of the recordings in Hz (training "
            "takes that of the shards)"
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of empty bands, which are an error here
        filters = librosa.filters.mel(
            sr=config.sample_rate, n_fft=config.encoder_window, n_mels=config.encoder_bands, norm=None
        )
    totals = filters.sum(1, keepdims=True)
    if not totals.all():
        raise UserError(
            f"model.encoder_bands is {config.encoder_bands}, too many for a window of {config.encoder_window} samples "
            f"at {config.sample_rate} Hz; lower it, or raise model.encoder_window"
        )
    return torch.from_numpy(filters / totals).T.contiguous()


def build_encoder(frame_size: int, config: RNNConfig, quantizer: Quantizer) -> FrameEncoder:
    """The encoder that `config.encoder` names.

    Args:
        frame_size: samples per frame.
        config: settings of the model.
        quantizer: where the 16-bit integers lie among standardized samples.

    Raises:
        UserError: there is no such encoder, or its settings do not fit.
    """
    return find_class(config.encoder, ENCODERS, FrameEncoder, "model.encoder")(frame_size, config, quantizer)
