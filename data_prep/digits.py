"""Prepare the Free Spoken Digit Dataset: write OUT/{train,valid,test} Kaldi data directories of strings of digits.

The corpus (Jackson et al., CC BY-SA 4.0) holds 3,000 recordings of single English digits, 22 minutes at 8 kHz, by six
speakers. They are trimmed tightly, so an utterance made of one recording would not say what follows a word. Here an
utterance is a string of digits of one speaker, as in corpora of connected digits: recordings in random order, joined
end to end with nothing added. Each recording is used once.

Each directory has `text`, such as "seven three one", and `ctm`, where each digit lies: the utterance, the channel (1),
the start and the duration in seconds, and the word.
"""

import random
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from data_prep.fixed_rate import read_at_rate
from zfaudio.command import run_command
from zfaudio.corpus.audio import write_wav
from zfaudio.corpus.kaldi import Reject, Utterance, format_seconds
from zfaudio.corpus.parallel import check_recordings
from zfaudio.corpus.splits import SPLITS, write_splits
from zfaudio.errors import UserError
from zfaudio.files import write_text

RATE = 8000  # Hz
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
NAME = re.compile(r"([0-9])_([A-Za-z][A-Za-z0-9]*)_([0-9]+)\.wav", re.IGNORECASE)  # DIGIT_SPEAKER_INDEX.wav

# By custom, the first five recordings of each digit and speaker are for testing.
TEST_INDICES = range(5)
VALID_INDICES = range(5, 7)


@dataclass(frozen=True)
class Recording:
    """A recording of one digit."""

    digit: int
    speaker: str
    index: int
    path: str

    @property
    def split(self) -> str:
        """The split that the recording is for."""
        if self.index in TEST_INDICES:
            return "test"
        return "valid" if self.index in VALID_INDICES else "train"


@dataclass(frozen=True)
class DigitString:
    """Recordings of one speaker that follow each other in an utterance."""

    id: str
    speaker: str
    recordings: list[Recording]


def digits(
    corpus: str | Path,
    out: str | Path,
    *,
    seconds: float = 4.0,
    seed: int = 0,
    strict: bool = False,
    nj: int = 1,
    dask: str = "",
) -> None:
    """Write Kaldi data directories OUT/train, OUT/valid and OUT/test, and the joined recordings to OUT/wav.

    Recordings 0 to 4 of each digit and speaker are for testing, 5 and 6 for validation, the others for training. Those
    that cannot be used are listed in OUT/rejects.txt.

    Args:
        corpus: clone of the published repository, or a folder with its recordings (DIGIT_SPEAKER_INDEX.wav).
        out: folder for the data directories.
        seconds: least length of an utterance, but for what is left over at the end. With 0, each recording is an
            utterance of its own.
        seed: seed of the order of the recordings.
        strict: stop at the first recording that cannot be used.
        nj: number of processes that read recordings, -1 for one per core.
        dask: address of a Dask scheduler to use instead of processes, such as tcp://host:8786.
    """
    if not 0 <= seconds < float("inf"):
        raise UserError(f"--seconds {seconds}: must be 0 or more")
    recordings, rejects = find_recordings(Path(corpus).absolute())
    read = partial(read_at_rate, rate=RATE, corpus="the Free Spoken Digit Dataset")
    waveforms, reasons = check_recordings(read, [one.path for one in recordings], nj, dask, strict)
    rejects += [Reject("-", path, reason) for path, reason in reasons.items()]
    lengths = {path: len(waveform) / RATE for path, waveform in waveforms.items()}
    out = Path(out).absolute()
    (out / "wav").mkdir(parents=True, exist_ok=True)
    utterances: dict[str, list[Utterance]] = {}
    ctm: dict[str, str] = {}
    for split in SPLITS:
        usable = [one for one in recordings if one.split == split and one.path in waveforms]
        strings = make_strings(usable, lengths, split, seconds, seed)
        for string in strings:
            joined = np.concatenate([waveforms[one.path] for one in string.recordings])
            write_wav(out / "wav" / f"{string.id}.wav", joined, RATE)
        utterances[split] = [as_utterance(string, lengths, out / "wav") for string in strings]
        ctm[split] = "".join(line for string in strings for line in ctm_lines(string, lengths))
    write_splits(out, utterances, rejects)
    for split, lines in ctm.items():
        if lines:
            write_text(out / split / "ctm", lines)
        else:
            (out / split / "ctm").unlink(missing_ok=True)  # an earlier run may have written it


def find_recordings(corpus: Path) -> tuple[list[Recording], list[Reject]]:
    """Find the recordings, in the order of their names, and WAV files whose names say nothing.

    Raises:
        UserError: there is no such folder, or it holds no recording.
    """
    folder = corpus / "recordings" if (corpus / "recordings").is_dir() else corpus
    if not folder.is_dir():
        raise UserError(f"{corpus}: no such folder")
    recordings, rejects = [], []
    for path in sorted(folder.iterdir()):
        match = NAME.fullmatch(path.name)
        if match is not None:
            recordings.append(Recording(int(match[1]), match[2].lower(), int(match[3]), str(path)))
        elif path.suffix.lower() == ".wav":
            rejects.append(Reject("-", str(path), "its name is not DIGIT_SPEAKER_INDEX.wav"))
    if not recordings:
        raise UserError(f"{folder}: no recordings DIGIT_SPEAKER_INDEX.wav; give a clone of free-spoken-digit-dataset")
    return recordings, rejects


def make_strings(
    recordings: Sequence[Recording], lengths: dict[str, float], split: str, seconds: float, seed: int
) -> list[DigitString]:
    """Join the recordings of each speaker in random order, until a string is long enough.

    Args:
        recordings: of one split.
        lengths: in seconds, by path.
        split: name of the split, for the ids.
        seconds: least length of a string.
        seed: seed of the order.
    """
    strings = []
    for speaker in sorted({one.speaker for one in recordings}):
        own = [one for one in recordings if one.speaker == speaker]
        random.Random(f"{seed} {split} {speaker}").shuffle(own)
        groups: list[list[Recording]] = [[]]
        for one in own:
            if groups[-1] and sum(lengths[before.path] for before in groups[-1]) >= seconds:
                groups.append([])
            groups[-1].append(one)
        # `-` sorts before all letters and digits, so that Kaldi's two sorting orders agree.
        strings += [DigitString(f"{speaker}-{split}-{n:04d}", speaker, group) for n, group in enumerate(groups)]
    return strings


def as_utterance(string: DigitString, lengths: dict[str, float], folder: Path) -> Utterance:
    """The utterance of a string whose joined recordings are in a folder."""
    return Utterance(
        string.id,
        string.speaker,
        str(folder / f"{string.id}.wav"),
        text=" ".join(WORDS[one.digit] for one in string.recordings),
        duration=sum(lengths[one.path] for one in string.recordings),
    )


def ctm_lines(string: DigitString, lengths: dict[str, float]) -> list[str]:
    """The lines of a string in NIST's ctm format."""
    lines, start = [], 0.0
    for one in string.recordings:
        length = lengths[one.path]
        lines.append(f"{string.id} 1 {format_seconds(start)} {format_seconds(length)} {WORDS[one.digit]}\n")
        start += length
    return lines


if __name__ == "__main__":
    run_command(digits, sys.argv[1:], prog="python -m data_prep.digits")
