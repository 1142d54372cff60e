"""Speak the demo corpus: a TIMIT tree of NIST SPHERE files, read by espeak-ng."""

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
from tqdm import tqdm

from data_prep.demo_sentences import COMMON, SHARED, compose
from data_prep.espeak import Voice, short_data_path, speak
from zfaudio.command import run_command
from zfaudio.corpus.audio import resample
from zfaudio.errors import UserError

RATE = 16000
PEAK = 0.5  # of full scale, in each speaker's loudest sentence

# Eight accents for TIMIT's eight dialect regions.
ACCENTS = (
    "en", "en-us", "en-gb-scotland", "en-gb-x-rp", "en-gb-x-gbclan", "en-gb-x-gbcwmd", "en-029", "en-us-nyc",
)  # fmt: skip
VARIANTS = ("f1", "m1", "f2", "m2", "f3", "m3", "f4", "m4", "f5", "m5", "m7")


@dataclass(frozen=True)
class Speaker:
    """A speaker of the demo corpus: where in the tree, with what voice, and the sentences by name."""

    id: str
    part: str
    region: int
    voice: Voice
    sentences: dict[str, str]


def demo(out: str, *, minutes: float = 11.0, seed: int = 0, nj: int = 1) -> None:
    """Speak a corpus with espeak-ng, laid out as TIMIT is on its disc: OUT/TIMIT/TRAIN/DR1/FAAA0/SA1.WAV.

    One speaker in four is a test speaker. The same minutes and seed give the same files.

    Args:
        out: folder for the corpus.
        minutes: speech to make, at least.
        seed: of voices and sentences.
        nj: speakers that talk at the same time; -1: one a core.
    """
    if minutes <= 0 or nj == 0:
        raise UserError("--minutes and --nj must not be 0")
    folder = Path(out) / "TIMIT"
    if folder.exists():
        raise UserError(f"{folder}: there is something already; remove it or choose another folder")
    unfinished = folder.with_name("TIMIT.part")
    shutil.rmtree(unfinished, ignore_errors=True)  # of a run that was interrupted
    seconds = 0.0
    speakers = 0
    wanted = round(minutes * 60)
    with tqdm(total=wanted, desc="speaking", unit="s", disable=None) as bar:
        for speaker, waveforms in spoken(seed, nj):
            for name, waveform in waveforms.items():
                write_sentence(unfinished, speaker, name, waveform)
                seconds += len(waveform) / RATE
            speakers += 1
            bar.update(min(round(seconds), wanted) - bar.n)
            # Four speakers are three for training and one for testing.
            if seconds >= minutes * 60 and speakers >= 4:
                break
    unfinished.rename(folder)
    print(f"{speakers} speakers, {10 * speakers} sentences, {seconds / 60:.1f} minutes in {folder}")


def spoken(seed: int, nj: int) -> Iterator[tuple[Speaker, dict[str, np.ndarray]]]:
    """One speaker after another, without end, with their waveforms.

    A new process for each: what espeak-ng says depends on what its process said before.
    """
    processes = multiprocessing.cpu_count() if nj < 0 else nj
    with (
        short_data_path() as data,
        multiprocessing.get_context("spawn").Pool(processes, maxtasksperchild=1) as pool,
    ):
        index = 0
        while True:
            speakers = [make_speaker(number, seed) for number in range(index, index + processes)]
            yield from zip(speakers, pool.imap(partial(read_aloud, data=data), speakers), strict=True)
            index += processes


def make_speaker(number: int, seed: int) -> Speaker:
    """Voice and sentences of the speaker of that number."""
    chance = random.Random(f"{seed} {number}")
    variant = VARIANTS[number % len(VARIANTS)]
    # Every fourth speaker is a test speaker: the shift keeps test accents from being accents of their own.
    region = (number + number // 4) % len(ACCENTS)
    voice = Voice(
        name=f"{ACCENTS[region]}+{variant}",
        words_per_minute=chance.randint(150, 195),
        pitch=chance.randint(30, 65),
        pitch_range=chance.randint(35, 65),
    )
    letters = "".join(chr(ord("A") + number // power % 26) for power in (676, 26, 1))
    sentences = {"SA1": SHARED[0], "SA2": SHARED[1]}
    for turn in range(5):
        chosen = (5 * number + turn) % len(COMMON)
        sentences[f"SX{chosen + 1}"] = COMMON[chosen]
    for turn in range(3):
        sentences[f"SI{1000 + 3 * number + turn}"] = compose(chance)
    part = "TEST" if number % 4 == 3 else "TRAIN"
    return Speaker(f"{variant[0].upper()}{letters}0", part, region + 1, voice, sentences)


def read_aloud(speaker: Speaker, data: str) -> dict[str, np.ndarray]:
    """The speaker's sentences as int16 at 16 kHz by name, all with the same gain."""
    waveforms = {}
    for name, text in speaker.sentences.items():
        waveform, rate = speak(text, speaker.voice, data)
        # Halved: the voices reach full scale, which resampling would then exceed.
        waveforms[name] = resample(waveform // 2, rate, RATE).astype(np.float64)
    gain = PEAK * 32767 / max(np.abs(waveform).max() for waveform in waveforms.values())
    return {name: np.rint(gain * waveform).astype(np.int16) for name, waveform in waveforms.items()}


def write_sentence(folder: Path, speaker: Speaker, name: str, waveform: np.ndarray) -> None:
    """Write the SPHERE file and, beside it, first sample, last sample and text."""
    place = folder / speaker.part / f"DR{speaker.region}" / speaker.id
    place.mkdir(parents=True, exist_ok=True)
    soundfile.write(place / f"{name}.WAV", waveform, RATE, subtype="PCM_16", format="NIST")
    text = speaker.sentences[name]
    (place / f"{name}.TXT").write_text(f"0 {len(waveform)} {text}\n", encoding="utf-8")


if __name__ == "__main__":
    run_command(demo, sys.argv[1:], prog="python -m data_prep.demo")
