"""The log-mel spectrum of the end of a signal: what the mel encoder hears and the auxiliary cost may predict."""

import warnings

import librosa
import torch
from torch import Tensor, nn

from zfaudio.config import RNNConfig
from zfaudio.errors import UserError
from zfaudio.observations import Observation, of_recordings

# About the mean and the deviation in standardized speech, in the first recordings of LJ Speech at 16 kHz.
LOG_POWER_MEAN, LOG_POWER_DEVIATION = -5.0, 4.0


class MelSpectrum(nn.Module):
    """Logarithms of the mean power in mel bands under a Hann window, scaled to about unit deviation in speech."""

    filters: Tensor  # the weight of each frequency in each band, which sum to 1, [window // 2 + 1, bands]
    taper: Tensor  # the Hann window, whose squares sum to 1, [window]

    def __init__(self, config: RNNConfig, observation: Observation) -> None:
        super().__init__()
        self.bands, self.window = config.encoder_bands, config.encoder_window
        self.floor = of_recordings(observation, "a mel spectrum").step ** 2  # the power of one 16-bit step
        taper = torch.hann_window(self.window, dtype=torch.float64)
        self.register_buffer("taper", (taper / taper.norm()).float(), persistent=False)
        self.register_buffer("filters", mel_filters(config), persistent=False)

    def forward(self, samples: Tensor) -> Tensor:
        """The spectrum of the last `window` samples: [..., n] -> [..., bands]."""
        spectrum = torch.fft.rfft(samples[..., samples.shape[-1] - self.window :] * self.taper)
        powers = spectrum.real.square() + spectrum.imag.square()  # [..., window // 2 + 1]
        bands = torch.log(powers @ self.filters + self.floor)
        return (bands - LOG_POWER_MEAN) / LOG_POWER_DEVIATION


def mel_filters(config: RNNConfig) -> Tensor:
    """The weight of each frequency in each mel band, which sum to 1: [encoder_window // 2 + 1, encoder_bands].

    Raises:
        UserError: the sample rate is not known, or a band lies between two frequencies.
    """
    if not config.sample_rate:
        raise UserError(
            "model.sample_rate is 0, but a mel spectrum needs it; give the rate of the recordings in Hz (training "
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
