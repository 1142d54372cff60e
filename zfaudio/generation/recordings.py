"""A recording as a model hears it: one channel, at the model's sample rate."""

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from zfaudio.corpus.audio import RejectedRecording, mix_is_weak, read_audio, resample, to_int16, to_mono
from zfaudio.errors import UserError

if TYPE_CHECKING:
    # An audio file; or a waveform, [samples] or [samples, channels], and its sample rate in Hz.
    AudioInput = str | Path | tuple[ArrayLike, int]
else:
    AudioInput = str  # A command line can only name a file, or a split, or give words.

LARGEST_FLOAT = 2.0  # Floating-point recordings lie in [-1, 1); decoders of lossy formats exceed that a little.


def read_recording(recording: AudioInput, sample_rate: int, frame_size: int) -> NDArray[np.int16]:
    """Read a recording, mix it down to one channel and resample it.

    Args:
        recording: an audio file of any format, sample rate and number of channels; or (waveform, rate), where the
            waveform is int16, or floating point in [-1, 1), and has the shape [samples] or [samples, channels].
        sample_rate: of the model, in Hz.
        frame_size: of the model, in samples.

    Returns:
        int16 [samples], at least one frame.

    Raises:
        UserError: the recording cannot be read, or is shorter than one frame.
    """
    if isinstance(recording, str | Path):
        name = str(recording)
        try:
            samples, rate = read_audio(recording)
        except RejectedRecording as rejection:
            raise UserError(f"{name}: {rejection.reason}") from None
    else:
        name = "the waveform"
        samples, rate = check_waveform(recording)
    mono = to_mono(samples)
    if len(samples) and mix_is_weak(samples, mono):
        warnings.warn(f"{name}: its channels cancel each other out in their mean; give one of them", stacklevel=3)
    waveform = resample(mono, rate, sample_rate)
    if len(waveform) < frame_size:
        raise UserError(
            f"{name}: {len(waveform)} samples at {sample_rate} Hz, shorter than one frame of the model "
            f"({frame_size}); give a longer recording"
        )
    return waveform


def check_waveform(recording: tuple[ArrayLike, int]) -> tuple[NDArray[np.int16], int]:
    """Check a waveform and its sample rate: int16 [samples, channels] and the rate. Raises UserError."""
    if not isinstance(recording, tuple) or len(recording) != 2:
        raise UserError("a recording is the path of an audio file, or a tuple (waveform, sample rate in Hz)")
    samples: NDArray[Any] = np.asarray(recording[0])
    rate = recording[1]
    if not isinstance(rate, int | np.integer) or rate < 1:
        raise UserError(f"the waveform's sample rate is {rate!r}; give whole Hz")
    if samples.ndim == 1:
        samples = samples[:, np.newaxis]
    if samples.ndim != 2 or samples.shape[1] > max(1, len(samples)):
        raise UserError(f"the waveform has the shape {list(samples.shape)}; give [samples] or [samples, channels]")
    if samples.dtype == np.int16:
        return samples, int(rate)
    if not np.issubdtype(samples.dtype, np.floating):
        raise UserError(f"the waveform holds {samples.dtype}; give int16, or floating point in [-1, 1)")
    # not (a <= b), because a comparison with NaN is false
    if len(samples) and not np.abs(samples).max() <= LARGEST_FLOAT:
        raise UserError("the waveform holds NaN or values far outside [-1, 1); scale it, or give int16")
    return to_int16(samples), int(rate)
