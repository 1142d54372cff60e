"""Read the recordings of a corpus that has one sample rate, and is not resampled."""

import numpy as np
from numpy.typing import NDArray

from zfaudio.corpus.audio import duration, open_audio, read_samples, to_mono
from zfaudio.errors import UserError


def read_at_rate(path: str, rate: int, corpus: str) -> NDArray[np.int16]:
    """Read a recording, int16 [samples].

    Args:
        path: the recording.
        rate: the sample rate of the corpus in Hz.
        corpus: its name, for the error message.

    Raises:
        RejectedRecording: it cannot be decoded, or is too short.
        UserError: its sample rate is another one.
    """
    with open_audio(path) as sound:
        if sound.samplerate != rate:
            raise UserError(f"{path}: {sound.samplerate} Hz; {corpus} is at {rate} Hz")
        duration(sound)
        return to_mono(read_samples(sound))
