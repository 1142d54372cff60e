"""Statistics of speech that need no trained network: log-mel moments, the long-term spectrum, level, voicing and F0."""

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


@dataclass
class Drift:
    """How clips change from their first to their last third, and how far they are apart."""

    level_db: float  # of the last third above the first, average over clips
    first_voiced_fraction: float  # of the frames of the first thirds
    last_voiced_fraction: float  # of the frames of the last thirds
    level_range_db: float  # of the loudest clip above the quietest


@dataclass(frozen=True)
class Track:
    """Fundamental frequency over time."""

    f0: np.ndarray  # in Hz, [frames]; NaN where there is none
    voiced: np.ndarray  # [frames]


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
    """Voicing and F0 of waveforms, int16 [n] at `rate` Hz."""
    return summarize_voice(track_f0(waveforms, rate))


def track_f0(waveforms: Sequence[np.ndarray], rate: int) -> list[Track]:
    """F0 of each waveform, int16 [n] at `rate` Hz, by probabilistic YIN (Mauch and Dixon, 2014)."""
    window = 1 << math.ceil(math.log2(F0_WINDOW_SECONDS * rate))
    hop = round(F0_HOP_SECONDS * rate)
    tracks = []
    for waveform in waveforms:
        samples = waveform.astype(np.float64) / 32768
        f0, voiced, _ = librosa.pyin(
            samples, fmin=F0_HZ[0], fmax=F0_HZ[1], sr=rate, frame_length=window, hop_length=hop
        )
        # What stands still repeats itself at every lag: only zeros have no voice for YIN.
        still = still_frames(samples, window, hop)
        tracks.append(Track(np.where(still, np.nan, f0), voiced & ~still))
    return tracks


def still_frames(samples: np.ndarray, window: int, hop: int) -> np.ndarray:
    """Whether all samples of a frame are the same, bool [1 + n // hop], for samples [n]; frames are centered."""
    padded = np.pad(samples, window // 2, mode="edge")
    frames = np.lib.stride_tricks.sliding_window_view(padded, window)[::hop]
    return np.asarray(np.ptp(frames, axis=1) == 0)


def summarize_voice(tracks: Sequence[Track]) -> Voice:
    """Voicing and F0 over all frames of some tracks."""
    f0 = np.concatenate([track.f0 for track in tracks])
    voiced = np.concatenate([track.voiced for track in tracks])
    fraction = float(voiced.mean())
    if fraction < LEAST_VOICED:
        return Voice(fraction, None, None)
    semitones = 12 * np.log2(f0[voiced])
    return Voice(fraction, float(np.median(f0[voiced])), float(semitones.std()))


def root_mean_square(waveforms: Sequence[np.ndarray]) -> float:
    """The level of waveforms, int16 [n] each, over all samples."""
    power = sum(float(np.square(waveform.astype(np.float64)).sum()) for waveform in waveforms)
    return math.sqrt(power / max(sum(map(len, waveforms)), 1))


def measure_drift(waveforms: Sequence[np.ndarray], tracks: Sequence[Track]) -> Drift:
    """How the level and the voicing of clips change from their first to their last third.

    Clips of less than half the length of the longest do not count: they are mostly ends of utterances, which are quiet.

    Args:
        waveforms: clips, int16 [n] each.
        tracks: F0 of each.
    """
    longest = max(map(len, waveforms))
    clips = [(one, track) for one, track in zip(waveforms, tracks, strict=True) if 2 * len(one) >= longest]
    first, last = ([level_db(third(one, part)) for one, _ in clips] for part in (0, 2))
    voiced = [np.concatenate([third(track.voiced, part) for _, track in clips]) for part in (0, 2)]
    levels = [level_db(one) for one, _ in clips]
    return Drift(
        level_db=float(np.subtract(last, first).mean()),
        first_voiced_fraction=float(voiced[0].mean()) if len(voiced[0]) else 0.0,
        last_voiced_fraction=float(voiced[1].mean()) if len(voiced[1]) else 0.0,
        level_range_db=max(levels) - min(levels),
    )


def third(values: np.ndarray, part: int) -> np.ndarray:
    """Third number 0, 1 or 2 of an array [n], all of the same length; a rest is left out in the middle."""
    length = len(values) // 3
    return values[len(values) - length :] if part == 2 else values[part * length : (part + 1) * length]


def level_db(waveform: np.ndarray) -> float:
    """Power of a waveform, int16 [n], in dB above that of noise of one 16-bit step, which is added to it."""
    power = float(np.square(waveform.astype(np.float64)).mean()) if len(waveform) else 0.0
    return 10 * math.log10(1 + power)
