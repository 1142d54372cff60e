"""Prepare SC09: write OUT/{train,valid,test} Kaldi data directories of the ten digits of Speech Commands, in 8 bits.

Speech Commands (Warden, 2018, CC BY 4.0) holds recordings of single words at 16 kHz, most of them one second long, and
the lists of its validation and its test part. SC09 is its digits zero to nine, on which unconditional models of speech
are compared by their bits per sample of 8-bit mu-law. To be comparable with the published numbers, samples are those
that the code of SaShiMi makes of a recording (Goel et al., 2022; HazyResearch/state-spaces, src/dataloaders/audio.py):

- It is cut every 16,000 samples. A shorter one keeps its length: what that code appends is not scored.
- It is stretched and shifted so that its lowest sample is -1 and its highest 1, each recording for itself.
- After mu-law, the range is cut into 256 bins of equal width. The number of the bin is the code.

A code is stored as its level, the 16-bit sample that stands for it in zfaudio (`zfaudio shard --encoding mulaw` keeps
levels as they are). The published code plays its codes at other levels, within 0.4 % of the companded range. The
probability of a code does not depend on that.

Each directory has `text`, the word of each utterance.
"""

import re
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data_prep.fixed_rate import read_at_rate
from zfaudio.command import run_command
from zfaudio.corpus.audio import write_wav
from zfaudio.corpus.kaldi import Reject, Utterance
from zfaudio.corpus.parallel import check_recordings
from zfaudio.corpus.splits import SPLITS, write_splits
from zfaudio.errors import UserError
from zfaudio.mulaw import CODES, decode

RATE = 16000  # Hz
LONGEST = 16000  # samples of an utterance
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
NAME = re.compile(r"([0-9a-z]+)_nohash_([0-9]+)\.wav", re.IGNORECASE)  # SPEAKER_nohash_INDEX.wav
LISTS = {"valid": "validation_list.txt", "test": "testing_list.txt"}


@dataclass(frozen=True)
class Digit:
    """A recording of one digit."""

    word: str
    speaker: str
    index: int
    path: str
    split: str

    @property
    def id(self) -> str:
        """Its id. `-` sorts before all letters and digits, so that Kaldi's two sorting orders agree."""
        return f"{self.speaker}-{self.word}-{self.index:03d}"


def sc09(
    corpus: str | Path,
    out: str | Path,
    *,
    strict: bool = False,
    nj: int = 1,
    dask: str = "",
) -> None:
    """Write Kaldi data directories OUT/train, OUT/valid and OUT/test, and the recordings in 8-bit mu-law to OUT/wav.

    The corpus's own lists say which recordings are for validation and testing. Those that cannot be used are listed in
    OUT/rejects.txt.

    Args:
        corpus: folder of Speech Commands, version 0.02, with a folder for each word, validation_list.txt and
            testing_list.txt.
        out: folder for the data directories.
        strict: stop at the first recording that cannot be used.
        nj: number of processes that read recordings, -1 for one per core.
        dask: address of a Dask scheduler to use instead of processes, such as tcp://host:8786.
    """
    digits, rejects = find_digits(Path(corpus).absolute())
    if strict and rejects:
        raise UserError(f"{rejects[0].file}: {rejects[0].reason} (--strict)")
    out = Path(out).absolute()
    (out / "wav").mkdir(parents=True, exist_ok=True)
    paths = {digit.path: digit.id for digit in digits}
    lengths, reasons = check_recordings(
        partial(write_pieces, ids=paths, folder=out / "wav"), [*paths], nj, dask, strict
    )
    rejects += [Reject("-", path, reason) for path, reason in reasons.items()]
    splits: dict[str, list[Utterance]] = {split: [] for split in SPLITS}
    for digit in digits:
        pieces = lengths.get(digit.path, [])
        for id, samples in zip(piece_ids(digit.id, len(pieces)), pieces, strict=True):
            wav = str(out / "wav" / f"{id}.wav")
            splits[digit.split].append(Utterance(id, digit.speaker, wav, text=digit.word, duration=samples / RATE))
    write_splits(out, splits, rejects)


def find_digits(corpus: Path) -> tuple[list[Digit], list[Reject]]:
    """Find the recordings of digits, in the order of their names, and those that are not what their names say.

    Raises:
        UserError: there is no such folder, a list is missing, or there are no recordings.
    """
    if not corpus.is_dir():
        raise UserError(f"{corpus}: no such folder")
    listed = {split: read_list(corpus / name) for split, name in LISTS.items()}
    digits, rejects = [], []
    for word in WORDS:
        for path in sorted((corpus / word).glob("*.wav")):
            match, name = NAME.fullmatch(path.name), f"{word}/{path.name}"
            if match is None:
                rejects.append(Reject("-", str(path), "its name is not SPEAKER_nohash_INDEX.wav"))
                continue
            split = next((split for split, names in listed.items() if name in names), "train")
            digits.append(Digit(word, match[1].lower(), int(match[2]), str(path), split))
    if not digits:
        raise UserError(f"{corpus}: no recordings zero/SPEAKER_nohash_INDEX.wav; give the folder of Speech Commands")
    found = {f"{digit.word}/{Path(digit.path).name}" for digit in digits}
    for split, names in listed.items():
        lost = sorted(name for name in names - found if name.split("/")[0] in WORDS)
        rejects += [Reject("-", str(corpus / name), f"listed in {LISTS[split]}, but not there") for name in lost]
    return digits, rejects


def read_list(path: Path) -> set[str]:
    """The recordings, WORD/NAME.wav, that a list of the corpus names. Raises UserError if it cannot be read."""
    try:
        return {line.strip() for line in path.read_text(encoding="utf-8").splitlines()}
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"{path}: cannot be read ({error}); give the folder of Speech Commands, with its lists"
        ) from None


def write_pieces(path: str, ids: dict[str, str], folder: Path) -> list[int]:
    """Write a recording in pieces of at most LONGEST samples, in 8-bit mu-law.

    Args:
        path: the recording.
        ids: of all recordings, by path.
        folder: where to write the pieces, under their ids.

    Returns:
        The number of samples of each.

    Raises:
        RejectedRecording: it cannot be decoded, or is too short.
        UserError: its sample rate is another one.
    """
    waveform = read_at_rate(path, RATE, "Speech Commands")
    pieces = [waveform[start : start + LONGEST] for start in range(0, len(waveform), LONGEST)]
    for piece, id in zip(pieces, piece_ids(ids[path], len(pieces)), strict=True):
        write_wav(folder / f"{id}.wav", decode(published_codes(piece)), RATE)
    return [len(piece) for piece in pieces]


def piece_ids(id: str, count: int) -> list[str]:
    """The ids of the pieces of a recording, of which there is nearly always one."""
    return [id if piece == 0 else f"{id}-{piece}" for piece in range(count)]


def published_codes(waveform: NDArray[np.int16]) -> NDArray[np.uint8]:
    """The codes, uint8 [samples], of a piece of a recording, int16 [samples], as the published code has them."""
    samples = waveform / 32768
    lowest, highest = samples.min(), samples.max()
    scaled = 2 * (samples - lowest) / (highest - lowest + 1e-6) - 1
    companded = np.sign(scaled) * np.log1p((CODES - 1) * np.abs(scaled + 1e-8)) / np.log(CODES)
    codes: NDArray[np.uint8] = np.floor((companded + 1) / 2 * (CODES - 0.01) + 0.005).astype(np.uint8)
    return codes


if __name__ == "__main__":
    run_command(sc09, sys.argv[1:], prog="python -m data_prep.sc09")
