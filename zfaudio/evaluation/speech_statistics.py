"""Statistics of speech that need no trained network: log-mel moments, the long-term spectrum, the voice."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import librosa
import numpy as np
import torch
from torchaudio.transforms import MelSpectrogram

WINDOW_SECONDS = 0.025
HOP_SECONDS = 0.01
BANDS = 40  # up to half the sample rate

# F0 is looked for twice as seldom, in windows that hold a few periods of the lowest voice.
F0_HZ = (60.0, 400.0)
F0_WINDOW_SECONDS = 0.064
F0_HOP_SECONDS = 0.02


@dataclass
class MelStatistics:
    """Of all frames of some speech."""

    frames: int
    mean: np.ndarray  # of the log-mel frames, [bands]
    covariance: np.ndarray  # of the log-mel frames, [bands, bands]
    spectrum: np.ndarray  # long-term average power of each band in dB above one 16-bit step, [bands]


@dataclass
class Voice:
    """Voicing and fundamental frequency of some speech."""

    voiced_fraction: float  # of frames
    median_f0_hz: float | None  # None where no frame is voiced
    f0_deviation_semitones: float | None  # standard deviation of log F0 over voiced frames


def mel_power(waveforms: Sequence[np.ndarray], rate: int) -> np.ndarray:
    """Power in mel bands, float64 [frames, bands]; white noise whose deviation is one 16-bit step stands at 1.

    Args:
        waveforms: int16 [n] each; no frame reaches from one into another, and those shorter than a window give none.
        rate: Hz.
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
    # What such noise gives, [bands].
    noise = transform.spectrogram.window.square().sum() * transform.mel_scale.fb.sum(0)
    powers = [
        (transform(torch.from_numpy(waveform.astype(np.float64))).T / noise).numpy()
        for waveform in waveforms
        if len(waveform) >= transform.n_fft
    ]
    return np.concatenate([np.empty((0, BANDS)), *powers])


def mel_statistics(waveforms: Sequence[np.ndarray], rate: int) -> MelStatistics:
    """Moments of log-mel frames and the long-term spectrum of waveforms, int16 [n] each, at `rate` Hz.

    One 16-bit step's noise is added to every band, so that digital silence has a logarithm (0).
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
    """Frechet (2-Wasserstein) distance of two Gaussians, squared (Dowson and Landau, 1982).

    |m - m'|² + tr(C + C' - 2 (C C')^1/2), as the Frechet inception distance has it. Means [size], covariances
    [size, size], in float64.
    """
    # (C C')^1/2 has the trace of (C^1/2 C' C^1/2)^1/2, which is symmetric, so that its eigenvalues are safe to take.
    values, vectors = np.linalg.eigh(covariance)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    cross = np.sqrt(np.linalg.eigvalsh(root @ other_covariance @ root).clip(0)).sum()
    distance = np.square(mean - other_mean).sum() + np.trace(covariance) + np.trace(other_covariance) - 2 * cross
    return float(max(distance, 0.0))


def spectral_distance(spectrum: np.ndarray, other: np.ndarray) -> float:
    """Root of the mean squared difference over bands: dB [bands] each -> dB."""
    return float(np.sqrt(np.square(spectrum - other).mean()))


def measure_voice(waveforms: Sequence[np.ndarray], rate: int) -> Voice:
    """Voicing and F0 by probabilistic YIN (Mauch and Dixon, 2014): waveforms int16 [n] each, at `rate` Hz."""
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
    if not voiced.any():
        return Voice(0.0, None, None)
    semitones = 12 * np.log2(f0[voiced])
    return Voice(float(voiced.mean()), float(np.median(f0[voiced])), float(semitones.std()))
