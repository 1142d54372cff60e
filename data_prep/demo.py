"""Make the demo corpus: sentences spoken by espeak-ng, as NIST SPHERE files in the layout of TIMIT."""

import multiprocessing
import random
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray
from tqdm import tqdm

from data_prep.demo_sentences import COMMON, SHARED, compose
from data_prep.espeak import Voice, short_data_path, speak
from zfaudio.command import run_command
from zfaudio.corpus.audio import resample
from zfaudio.errors import UserError

RATE = 16000  # Hz
PEAK = 0.5  # of full scale, in the loudest sentence of each speaker

# One accent for each of TIMIT's eight dialect regions.
ACCENTS = (
    "en", "en-us", "en-gb-scotland", "en-gb-x-rp", "en-gb-x-gbclan", "en-gb-x-gbcwmd", "en-029", "en-us-nyc",
)  # fmt: skip
VARIANTS = ("f1", "m1", "f2", "m2", "f3", "m3", "f4", "m4", "f5", "m5", "m7")


@dataclass(frozen=True)
class Speaker:
    """A speaker of the demo corpus."""

    id: str
    part: str  # TRAIN or TEST
    region: int  # dialect region, 1 to 8
    voice: Voice
    sentences: dict[str, str]  # text by name


def demo(out: str | Path, *, minutes: float = 11.0, seed: int = 0, nj: int = 1) -> None:
    """Make a corpus of synthetic speech with espeak-ng, in the layout of TIMIT: OUT/TIMIT/TRAIN/DR1/FAAA0/SA1.WAV.

    One speaker in four is a test speaker. The same minutes and seed give the same files.

    Args:
        out: folder for the corpus.
        minutes: minimum amount of speech, in minutes.
        seed: seed of the voices and sentences.
        nj: number of processes, each of which speaks for one speaker at a time; -1 for one per core.
    """
    if minutes <= 0:
        raise UserError(f"--minutes {minutes}: must be above 0")
    if nj == 0:
        raise UserError("--nj 0: give the number of processes, or -1 for one per core")
    folder = Path(out) / "TIMIT"
    if folder.exists():
        raise UserError(f"{folder}: exists already; remove it or choose another folder")
    unfinished = folder.with_name("TIMIT.part")
    shutil.rmtree(unfinished, ignore_errors=True)  # a run that was interrupted may have left it
    seconds = 0.0
    speakers = 0
    target = round(minutes * 60)
    with tqdm(total=target, desc="speaking", unit="s", disable=None) as bar:
        for speaker, waveforms in speak_all(seed, nj):
            for name, waveform in waveforms.items():
                write_sentence(unfinished, speaker, name, waveform)
                seconds += len(waveform) / RATE
            speakers += 1
            bar.update(min(round(seconds), target) - bar.n)
            # Four speakers are the least that gives both training and test speakers.
            if seconds >= minutes * 60 and speakers >= 4:
                break
    unfinished.rename(folder)
    print(f"{speakers} speakers, {10 * speakers} sentences, {seconds / 60:.1f} minutes in {folder}")


def speak_all(seed: int, nj: int) -> Iterator[tuple[Speaker, dict[str, NDArray[np.int16]]]]:
    """Yield speakers without end, each with the waveforms of its sentences by name.

    Each speaker gets a new process, because the output of espeak-ng depends on what its process has spoken before.
    """
    processes = multiprocessing.cpu_count() if nj < 0 else nj
    with (
        short_data_path() as data,
        multiprocessing.get_context("spawn").Pool(processes, maxtasksperchild=1) as pool,
    ):
        index = 0
        while True:
            speakers = [make_speaker(number, seed) for number in range(index, index + processes)]
            yield from zip(speakers, pool.imap(partial(speak_sentences, data=data), speakers), strict=True)
            index += processes


def make_speaker(number: int, seed: int) -> Speaker:
    """Choose the voice and the sentences of a speaker."""
    rng = random.Random(f"{seed} {number}")
    variant = VARIANTS[number % len(VARIANTS)]
    # Every fourth speaker is a test speaker. Without the shift, test speakers would have accents that no other has.
    region = (number + number // 4) % len(ACCENTS)
    voice = Voice(
        name=f"{ACCENTS[region]}+{variant}",
        words_per_minute=rng.randint(150, 195),
        pitch=rng.randint(30, 65),
        pitch_range=rng.randint(35, 65),
    )
    letters = "".join(chr(ord("A") + number // power % 26) for power in (676, 26, 1))
    sentences = {"SA1": SHARED[0], "SA2": SHARED[1]}
    for turn in range(5):
        chosen = (5 * number + turn) % len(COMMON)
        sentences[f"SX{chosen + 1}"] = COMMON[chosen]
    for turn in range(3):
        sentences[f"SI{1000 + 3 * number + turn}"] = compose(rng)
    part = "TEST" if number % 4 == 3 else "TRAIN"
    return Speaker(f"{variant[0].upper()}{letters}0", part, region + 1, voice, sentences)


def speak_sentences(speaker: Speaker, data: str) -> dict[str, NDArray[np.int16]]:
    """Speak a speaker's sentences: int16 waveforms at 16 kHz by name, all with the same gain.

    Args:
        speaker: who speaks.
        data: folder of the voices, see `espeak.speak`.
    """
    waveforms = {}
    for name, text in speaker.sentences.items():
        waveform, rate = speak(text, speaker.voice, data)
        # Halved, because the voices reach full scale, which resampling would exceed.
        waveforms[name] = resample(waveform // 2, rate, RATE).astype(np.float64)
    gain = PEAK * 32767 / max(np.abs(waveform).max() for waveform in waveforms.values())
    return {name: np.rint(gain * waveform).astype(np.int16) for name, waveform in waveforms.items()}


def write_sentence(folder: Path, speaker: Speaker, name: str, waveform: NDArray[np.int16]) -> None:
    """Write a sentence as a SPHERE file, and a .TXT file with its first sample, last sample and text."""
    directory = folder / speaker.part / f"DR{speaker.region}" / speaker.id
    directory.mkdir(parents=True, exist_ok=True)
    soundfile.write(directory / f"{name}.WAV", waveform, RATE, subtype="PCM_16", format="NIST")
    text = speaker.sentences[name]
    (directory / f"{name}.TXT").write_text(f"0 {len(waveform)} {text}\n", encoding="utf-8")


if __name__ == "__main__":
    run_command(demo, sys.argv[1:], prog="python -m data_prep.demo")
