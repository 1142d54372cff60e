"""Cut long recordings into pieces, at their quietest moments or at a fixed length."""

import numpy as np
import soundfile

from zfaudio.corpus.audio import read_samples

# Loudness is measured in steps of 10 ms; a cut falls into the middle of the quietest 200 ms.
STEP_SECONDS = 0.01
WINDOW_STEPS = 20


def loudness(sound: soundfile.SoundFile) -> tuple[np.ndarray, float]:
    """Mean square of all channels in every whole step of about 10 ms, float64 [steps], and the step in seconds.

    Raises:
        RejectedRecording: the recording cannot be decoded to its end, or holds NaN.
    """
    step = max(1, round(STEP_SECONDS * sound.samplerate))
    block = 3000 * step
    energies = []
    for start in range(0, sound.frames, block):
        samples = read_samples(sound, start, min(start + block, sound.frames)).astype(np.float64)
        whole = samples[: len(samples) // step * step]
        energies.append(np.square(whole).reshape(-1, step * sound.channels).mean(axis=1))
    return np.concatenate(energies), step / sound.samplerate


def quiet_pieces(energies: np.ndarray, step: float, seconds: float, longest: float) -> list[tuple[float, float]]:
    """Pieces (start, end) in seconds that make up the whole recording, each at most `longest` seconds.

    Every cut is at the quietest moment that leaves both sides at least a third of `longest`, so that nothing is
    lost and no piece is a fragment.

    Args:
        energies: mean square of every step, [steps].
        step: seconds of one step.
        seconds: length of the recording.
        longest: seconds a piece may have.
    """
    window = min(WINDOW_STEPS, max(1, round(longest / 3 / step)))
    smooth = np.convolve(energies, np.full(window, 1.0 / window), mode="same")
    pieces = []
    start = 0.0
    while seconds - start > longest:
        earliest, latest = start + longest / 3, min(start + longest, seconds - longest / 3)
        first, last = int(np.ceil(earliest / step)), int(np.floor(latest / step))
        quiet = smooth[first : last + 1]
        cut = (first + int(np.argmin(quiet))) * step if len(quiet) else latest
        pieces.append((start, cut))
        start = cut
    return [*pieces, (start, seconds)]


def fixed_pieces(seconds: float, length: float, shortest: float) -> list[tuple[float, float]]:
    """Pieces (start, end) in seconds, each of `length`; what is left at the end is one if it has `shortest`."""
    count = int(seconds / length + 1e-9)
    pieces = [(index * length, (index + 1) * length) for index in range(count)]
    if seconds - count * length >= shortest:
        pieces.append((count * length, seconds))
    return pieces
