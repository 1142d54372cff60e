"""Cut long recordings into pieces, in their pauses or at a fixed length."""

import numpy as np
from numpy.typing import NDArray

from zfaudio.corpus.audio import AudioFile, read_samples

# (start, end) of each piece of a recording, in seconds.
Pieces = list[tuple[float, float]]

# Energy is measured in steps of 10 ms. A cut is made in the middle of the quietest 200 ms.
STEP_SECONDS = 0.01
WINDOW_STEPS = 20


def measure_energy(sound: AudioFile) -> tuple[NDArray[np.float64], float]:
    """Measure the mean square of all channels in steps of about 10 ms.

    Returns:
        The energy of each whole step, float64 [steps], and the length of a step in seconds.

    Raises:
        RejectedRecording: the recording cannot be decoded to its end, or holds NaN.
    """
    step = max(1, round(STEP_SECONDS * sound.samplerate))
    block = 3000 * step
    energies = []
    for start in range(0, sound.frames, block):
        samples = read_samples(sound, start, min(start + block, sound.frames)).astype(np.float64)
        whole_steps = samples[: len(samples) // step * step]
        energies.append(np.square(whole_steps).reshape(-1, step * sound.channels).mean(axis=1))
    return np.concatenate(energies), step / sound.samplerate


def cut_at_pauses(energies: NDArray[np.float64], step: float, seconds: float, longest: float) -> Pieces:
    """Cut a recording at its quietest moments into pieces that cover all of it.

    Each cut leaves at least a third of `longest` on both sides, so that no piece is a fragment.

    Args:
        energies: mean square of each step, float64 [steps].
        step: length of a step in seconds.
        seconds: length of the recording.
        longest: maximum length of a piece in seconds.
    """
    window = min(WINDOW_STEPS, max(1, round(longest / 3 / step)))
    smoothed = np.convolve(energies, np.full(window, 1.0 / window), mode="same")
    pieces = []
    start = 0.0
    while seconds - start > longest:
        earliest, latest = start + longest / 3, min(start + longest, seconds - longest / 3)
        first, last = int(np.ceil(earliest / step)), int(np.floor(latest / step))
        candidates = smoothed[first : last + 1]
        cut = (first + int(np.argmin(candidates))) * step if len(candidates) else latest
        pieces.append((start, cut))
        start = cut
    return [*pieces, (start, seconds)]


def cut_at_fixed_length(seconds: float, length: float, shortest: float) -> Pieces:
    """Cut a recording into pieces of `length` seconds. The rest is a piece too if it lasts at least `shortest`."""
    count = int(seconds / length + 1e-9)
    pieces = [(index * length, (index + 1) * length) for index in range(count)]
    if seconds - count * length >= shortest:
        pieces.append((count * length, seconds))
    return pieces
