"""What a model's score stands beside: an i.i.d. Gaussian and FLAC, on the very frames that were scored."""

import hashlib
import io
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import soundfile

from zfaudio.data.frames import Moments, count_constant, from_frames, moments
from zfaudio.evaluation.units import gaussian_nats_per_frame


@dataclass
class References:
    """Scores that need no model."""

    iid_gaussian_nats_per_frame: float
    flac_bits_per_sample: float


@dataclass
class ScoredAudio:
    """What was scored, as integers."""

    constant_frames: int  # frames whose samples are all equal, where a density has no upper bound
    sha256: str  # of all utterances' samples, in any order: scores of the same audio have the same
    longest: int  # frames of the longest utterance
    references: References


def measure_scored_audio(
    scored: Iterable[np.ndarray], mean: float, deviation: float, frame_size: int, sample_rate: int, dequantized: bool
) -> ScoredAudio:
    """Reference scores of utterances.

    Args:
        scored: the scored frames of each utterance, int16 [frames, frame_size].
        mean: of the training part, in 16-bit steps.
        deviation: of the training part, in 16-bit steps.
        frame_size: samples a frame.
        sample_rate: Hz.
        dequantized: whether uniform noise of one step is part of what is scored.
    """
    total, constant, longest, flac_bytes, digests = Moments(0, 0.0, 0.0), 0, 0, 0, []
    for frames in scored:
        waveform = from_frames(frames)
        total = total.merge(moments(waveform))
        constant += count_constant(frames)
        longest = max(longest, len(frames))
        digests.append(hashlib.sha256(waveform.astype("<i2").tobytes()).hexdigest())
        flac_bytes += flac_size(waveform, sample_rate)
    noise_variance = 1 / 12 if dequantized else 0.0
    gaussian = gaussian_nats_per_frame(
        mean, deviation, total.mean, float(np.sqrt(total.deviation**2 + noise_variance)), frame_size
    )
    sha256 = hashlib.sha256("".join(sorted(digests)).encode()).hexdigest()
    return ScoredAudio(constant, sha256, longest, References(gaussian, 8 * flac_bytes / total.count))


def flac_size(waveform: np.ndarray, sample_rate: int) -> int:
    """Bytes of int16 samples [n] as a FLAC file at the strongest setting, header included."""
    file = io.BytesIO()
    soundfile.write(file, waveform, sample_rate, format="FLAC", subtype="PCM_16", compression_level=1.0)
    return len(file.getvalue())
