"""Statistics of speech that need no trained network: log-mel moments, the long-term spectrum, voicing and F0."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import librosa
import numpy as np
import torch
from torchaudio.transforms import MelSpectrogram

WINDOW_SECONDS = 0.025
HOP_SECONDS = 0.01
BANDS = 40  # mel bands, up to half the sample rate

# F0 is tracked at half the frame rate, in windows that hold a few periods of the lowest voice.
F0_HZ = (60.0, 400.0)
F0_WINDOW_SECONDS = 0.064
F0_HOP_SECONDS = 0.02
LEAST_VOICED = 0.05  # of the frames, for a median and a spread of F0


@dataclass
class MelStatistics:
    """Statistics over all frames of some speech."""

    frames: int
    mean: np.ndarray  # of the log-mel frames, [bands]
    covariance: np.ndarray  # of the log-mel frames, [bands, bands]
    spectrum: np.ndarray  # long-term average power of each band in dB above one 16-bit step, [bands]


@dataclass
class Voice:
    """Voicing and fundamental frequency of some speech."""

    voiced_fraction: float  # of the frames
    median_f0_hz: float | None  # over voiced frames; None if they are too few
    f0_deviation_semitones: float | None  # standard deviation of log F0 over voiced frames; None if they are too few

    @property
    def few_voiced(self) -> bool:
        """Whether too few frames are voiced to say anything about F0: errors of the tracker may be most of them."""
        return self.voiced_fraction < LEAST_VOICED


def mel_power(waveforms: Sequence[np.ndarray], rate: int) -> np.ndarray:
    """Power in mel bands, relative to white noise with a deviation of one 16-bit step.

    Args:
        waveforms: int16 [n] each. No frame spans two of them, and a waveform shorter than a window gives no frame.
        rate: sample rate in Hz.

    Returns:
        Power, float64 [frames, bands].
    """
    window = round(WINDOW_SECONDS * rate)
    transform = MelSpectrogram(
        rate,
        n_fft=1 << (window - 1).bit_length(),
        win_length=window,
        hop_length=round(HOP_SECONDS * rate),
        n_mels=BANDS,
        center=False,
    ).double()
    noise_power = transform.spectrogram.window.square().sum() * transform.mel_scale.fb.sum(0)  # [bands]
    powers = [
        (transform(torch.from_numpy(waveform.astype(np.float64))).T / noise_power).numpy()
        for waveform in waveforms
        if len(waveform) >= transform.n_fft
    ]
    return np.concatenate([np.empty((0, BANDS)), *powers])


def mel_statistics(waveforms: Sequence[np.ndarray], rate: int) -> MelStatistics:
    """Moments of log-mel frames, and the long-term spectrum, of waveforms int16 [n] at `rate` Hz.

    The power of noise of one 16-bit step is added to every band, so that the logarithm of digital silence is 0.
    """
    power = 1 + mel_power(waveforms, rate)
    frames = np.log(power)
    return MelStatistics(
        frames=len(frames),
        mean=frames.mean(0),
        covariance=np.cov(frames, rowvar=False),
        spectrum=10 * np.log10(power.mean(0)),
    )


def frechet_distance(
    mean: np.ndarray, covariance: np.ndarray, other_mean: np.ndarray, other_covariance: np.ndarray
) -> float:
    """Squared Frechet (2-Wasserstein) distance between two Gaussians (Dowson and Landau, 1982).

    |m - m'|² + tr(C + C' - 2 (C C')^1/2), as in the Frechet inception distance. Means [size] and covariances
    [size, size] are in float64.
    """
    # (C C')^1/2 has the same trace as (C^1/2 C' C^1/2)^1/2, whose eigenvalues are real because it is symmetric.
    values, vectors = np.linalg.eigh(covariance)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    cross = np.sqrt(np.linalg.eigvalsh(root @ other_covariance @ root).clip(0)).sum()
    distance = np.square(mean - other_mean).sum() + np.trace(covariance) + np.trace(other_covariance) - 2 * cross
    return float(max(distance, 0.0))


def spectral_distance(spectrum: np.ndarray, other: np.ndarray) -> float:
    """Root mean square of the difference between two spectra in dB, [bands] each; in dB."""
    return float(np.sqrt(np.square(spectrum - other).mean()))


def measure_voice(waveforms: Sequence[np.ndarray], rate: int) -> Voice:
    """Voicing and F0 of waveforms, int16 [n] at `rate` Hz, by probabilistic YIN (Mauch and Dixon, 2014)."""
    window = 1 << math.ceil(math.log2(F0_WINDOW_SECONDS * rate))
    tracks = [
        librosa.pyin(
            waveform.astype(np.float64) / 32768,
            fmin=F0_HZ[0],
            fmax=F0_HZ[1],
            sr=rate,
            frame_length=window,
            hop_length=round(F0_HOP_SECONDS * rate),
        )
        for waveform in waveforms
    ]
    f0 = np.concatenate([track[0] for track in tracks])
    voiced = np.concatenate([track[1] for track in tracks])
    fraction = float(voiced.mean())
    if fraction < LEAST_VOICED:
        return Voice(fraction, None, None)
    semitones = 12 * np.log2(f0[voiced])
    return Voice(fraction, float(np.median(f0[voiced])), float(semitones.std()))
