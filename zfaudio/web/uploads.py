"""Recordings that came from a browser: limited in size, and decoded like any file of unknown origin."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from zfaudio.corpus.audio import RejectedRecording, open_audio, read_samples
from zfaudio.errors import UserError

MOST_BYTES = 20 << 20
MOST_SECONDS = 60
# Of all channels together, because a small file can be silence at any rate in many channels: 60 s of stereo at 192 kHz.
MOST_SAMPLES = MOST_SECONDS * 2 * 192_000


def read_upload(path: str | None) -> tuple[NDArray[np.int16], int]:
    """Read an uploaded recording.

    Args:
        path: of the file; None if none was uploaded.

    Returns:
        Samples, int16 [samples, channels], and the sample rate in Hz.

    Raises:
        UserError: there is none, it is too long, or cannot be decoded; the text has the name of the file alone.
    """
    if path is None:
        raise UserError("give a recording: upload a file, or record one with the microphone")
    name = Path(path).name
    try:
        with open_audio(path) as sound:
            seconds = sound.frames / sound.samplerate
            if seconds > MOST_SECONDS:
                raise UserError(f"{name}: {seconds:.0f} s long, and this page takes up to {MOST_SECONDS} s; cut it")
            if sound.frames * sound.channels > MOST_SAMPLES:
                raise UserError(f"{name}: {sound.channels} channels at {sound.samplerate} Hz are too much; resample it")
            return read_samples(sound), sound.samplerate
    except RejectedRecording as rejection:
        raise UserError(f"{name}: {rejection.reason}") from None
