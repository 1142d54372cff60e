"""The log-mel spectra of the next frames, which the auxiliary cost may predict in place of the state b_t.

b_t is what the backward LSTM makes of the future; a spectrum is what a listener hears of it, and it cannot be made
easier to predict.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from zfaudio.config import ZForcingConfig
from zfaudio.models.mel_spectrum import MelSpectrum
from zfaudio.observations import Observation


class Spectra(NamedTuple):
    """Spectra of frames."""

    bands: Tensor  # [batch, frames, bands]
    known: Tensor  # 1 for each frame of the recording and 0 past its end, [batch, frames]


class SpectraAhead(nn.Module):
    """The spectra of the frames t + 1..t + auxiliary_frames, for each step t."""

    def __init__(self, frame_size: int, config: ZForcingConfig, observation: Observation) -> None:
        super().__init__()
        self.frame_size, self.ahead = frame_size, config.auxiliary_frames
        self.past = max(0, config.encoder_window - frame_size)
        self.spectrum = MelSpectrum(config, observation)
        self.size = self.ahead * config.encoder_bands

    def read(self, samples: Tensor, lengths: Tensor) -> Spectra:
        """The spectra of frames x_1..x_{T-1}; each window ends with its frame.

        Args:
            samples: of x_0..x_{T-1}, with `past` samples in front, [batch, past + T * frame_size].
            lengths: number of frames of each sequence, [batch].
        """
        with torch.no_grad(), torch.autocast(samples.device.type, enabled=False):
            windows = samples.unfold(-1, self.past + self.frame_size, self.frame_size)[:, 1:]
            bands: Tensor = self.spectrum(windows)
        places = torch.arange(1, bands.shape[1] + 1, device=bands.device)
        return Spectra(bands, (places < lengths.unsqueeze(1)).to(bands.dtype))

    def beyond(self, chunks: Sequence[Spectra]) -> Spectra:
        """The first auxiliary_frames - 1 frames of all these spectra: what lies ahead of the chunk before them."""
        bands = torch.cat([chunk.bands for chunk in chunks], dim=1)
        known = torch.cat([chunk.known for chunk in chunks], dim=1)
        return Spectra(bands[:, : self.ahead - 1], known[:, : self.ahead - 1])

    def nothing(self, batch_size: int) -> Spectra:
        """What lies ahead of the end of a recording."""
        zeros = self.spectrum.taper.new_zeros(batch_size, self.ahead - 1)
        return Spectra(zeros.unsqueeze(-1).expand(-1, -1, self.spectrum.bands), zeros)

    def targets(self, spectra: Spectra, beyond: Spectra) -> tuple[Tensor, Tensor]:
        """The spectra of the next frames for each step.

        Args:
            spectra: of x_1..x_{T-1}.
            beyond: of the frames after them.

        Returns:
            The spectra [batch, T - 1, ahead, bands], and which are known, [batch, T - 1, ahead].
        """
        bands = torch.cat([spectra.bands, beyond.bands], dim=1).unfold(1, self.ahead, 1)  # [batch, T - 1, bands, ahead]
        known = torch.cat([spectra.known, beyond.known], dim=1).unfold(1, self.ahead, 1)
        return bands.transpose(-1, -2), known
