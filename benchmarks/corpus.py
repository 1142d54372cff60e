"""Synthesize speech-like recordings, so that benchmarks that need a corpus run in a fresh clone."""

from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

RATE = 16000


def speech(seconds: float, seed: int) -> NDArray[np.int16]:
    """Voiced syllables with a little noise, int16 [samples]. As for real speech, FLAC needs 5 to 6 bits per sample."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * RATE)) / RATE
    phase = 2 * np.pi * np.cumsum(rng.uniform(90, 220) * (1 + 0.1 * np.sin(2 * np.pi * 0.7 * time))) / RATE
    voice = sum(np.sin(k * phase + rng.uniform(0, 6)) / k**1.5 for k in range(1, 14))
    syllables = np.clip(np.sin(2 * np.pi * 3 * time + rng.uniform(0, 6)), 0, None) ** 2
    noise = rng.standard_normal(len(time))
    waveform: NDArray[np.float64] = syllables * (2500 * voice + 40 * noise) + 4 * noise
    return np.round(waveform).astype(np.int16)


def recordings(folder: Path, count: int = 60, seconds: float = 8.6) -> list[Path]:
    """Write `count` FLAC files into the folder, of different lengths around `seconds`."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"speaker{number % 10}-{number:04d}.flac" for number in range(count)]
    for number, path in enumerate(paths):
        soundfile.write(path, speech(seconds * (0.5 + number / count), seed=number), RATE)
    return paths


def repeated(paths: list[Path], folder: Path, hours: float) -> list[Path]:
    """Link the recordings under several names each, so that together they last `hours`; at least one name each."""
    seconds = sum(soundfile.info(path).duration for path in paths)
    times = max(1, round(hours * 3600 / seconds))
    folder.mkdir(parents=True, exist_ok=True)
    links = [folder / f"{path.stem}-{time:03d}{path.suffix}" for time in range(times) for path in paths]
    for link, path in zip(links, paths * times, strict=True):
        link.symlink_to(path.absolute())
    return links
