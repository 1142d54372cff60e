"""Prepare TIMIT (LDC93S1): write OUT/{train,valid,test} Kaldi data directories. No audio is copied.

If the corpus has .PHN files, each directory also gets `phones.ctm`. Its fields are the utterance, the channel (1), the
start and the duration in seconds, and the phone.
"""

import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from data_prep.timit_disc import CORE_TEST_SPEAKERS, DEVELOPMENT_SPEAKERS, find_missing
from zfaudio.command import run_command
from zfaudio.corpus.audio import check_audio
from zfaudio.corpus.kaldi import Reject, Utterance
from zfaudio.corpus.parallel import check_recordings
from zfaudio.corpus.search import FoundFiles, walk
from zfaudio.corpus.splits import write_splits
from zfaudio.errors import UserError

RATE = 16000  # Hz; .PHN files count samples

# If there are several files of one sentence, the first of these is used: the disc's own file before a copy of it.
AUDIO_SUFFIXES = (".wav", ".sph", ".wav.wav", ".flac")


@dataclass(frozen=True)
class Sentence:
    """One sentence of one speaker. Names are in capitals, as on the disc."""

    part: str  # TRAIN or TEST
    speaker: str
    name: str  # such as SX37
    audio: Path
    transcript: Path | None
    phones: Path | None

    @property
    def id(self) -> str:
        """Utterance id. `-` sorts before all letters and digits, so that Kaldi's two sorting orders agree."""
        return f"{self.speaker}-{self.name}"


def timit(
    corpus: str | Path,
    out: str | Path,
    *,
    protocol: Literal["paper", "kaldi"] = "paper",
    seed: int = 0,
    valid_fraction: float = 0.05,
    strict: bool = False,
    nj: int = 1,
    dask: str = "",
) -> None:
    """Write Kaldi data directories OUT/train, OUT/valid and OUT/test from TIMIT.

    Reads the LDC93S1 disc, lower-case copies of it, and copies converted to RIFF (.WAV.wav). Recordings that cannot be
    used are listed in OUT/rejects.txt.

    Args:
        corpus: folder that contains TRAIN and TEST, or TIMIT with both in it.
        out: folder for the data directories.
        protocol: paper uses all training sentences, of which a random fraction is for validation, and all test
            sentences. kaldi uses no SA sentences, 50 development speakers and the core test set of 24 speakers.
        seed: seed of the random split (protocol paper).
        valid_fraction: fraction of the training sentences used for validation (protocol paper).
        strict: stop if speakers or sentences of the disc are missing, or at the first recording that cannot be used.
        nj: number of processes that check recordings, -1 for one per core.
        dask: address of a Dask scheduler to use instead of processes, such as tcp://host:8786.
    """
    root = find_root(Path(corpus).absolute())
    sentences = find_sentences(root)
    splits = split_paper(sentences, valid_fraction, seed) if protocol == "paper" else split_kaldi(sentences)
    report_missing(root, sentences, strict)
    paths = [str(sentence.audio) for sentence in sentences]
    seconds, reasons = check_recordings(check_audio, paths, nj, dask, strict)
    rejects = [Reject(s.id, str(s.audio), reasons[str(s.audio)]) for s in sentences if str(s.audio) in reasons]
    usable = {split: [s for s in part if str(s.audio) in seconds] for split, part in splits.items()}
    utterances = {
        split: [
            Utterance(s.id, s.speaker, str(s.audio), text=read_transcript(s), duration=seconds[str(s.audio)])
            for s in part
        ]
        for split, part in usable.items()
    }
    write_splits(Path(out), utterances, rejects)
    for split, part in usable.items():
        write_phones(Path(out) / split, part)


def find_root(corpus: Path) -> Path:
    """Find the folder that contains TRAIN: the corpus itself or TIMIT in it, in capitals or not.

    Raises:
        UserError: there is none.
    """
    if not corpus.is_dir():
        raise UserError(f"{corpus}: no such folder")
    for folder in (corpus, find_child(corpus, "TIMIT")):
        if folder is not None and find_child(folder, "TRAIN") is not None:
            return folder
    raise UserError(f"{corpus}: neither TRAIN nor TIMIT/TRAIN in it; give the folder of the LDC93S1 disc")


def find_child(folder: Path, name: str) -> Path | None:
    """Find a file or folder by its name in capitals."""
    return next((path for path in sorted(folder.iterdir()) if path.name.upper() == name), None)


def find_sentences(root: Path) -> list[Sentence]:
    """Find all sentences below TRAIN and TEST, sorted by id. The order of the directories does not matter.

    Raises:
        UserError: there is none.
    """
    sentences: dict[str, Sentence] = {}
    for part in ("TRAIN", "TEST"):
        folder = find_child(root, part)
        files = walk(folder, FoundFiles()) if folder else []
        speakers = sorted({(folder / file).parent for file in files}) if folder else []
        for speaker in speakers:
            for sentence in sentences_of_speaker(part, speaker):
                sentences.setdefault(sentence.id, sentence)
    if not sentences:
        raise UserError(f"{root}: no recordings (.WAV, .WAV.wav) below TRAIN and TEST")
    return [sentences[id] for id in sorted(sentences)]


def sentences_of_speaker(part: str, folder: Path) -> list[Sentence]:
    """Find the sentences in a speaker's folder."""
    files: dict[tuple[str, str], Path] = {}  # by name in capitals and suffix in lower case
    for path in sorted(folder.iterdir()):
        name, dot, suffix = path.name.partition(".")
        if name and path.is_file():
            files.setdefault((name.upper(), (dot + suffix).lower()), path)
    found = []
    for name in sorted({name for name, _ in files}):
        audio = next((files[name, suffix] for suffix in AUDIO_SUFFIXES if (name, suffix) in files), None)
        if audio is not None:
            speaker = folder.name.upper()
            found.append(Sentence(part, speaker, name, audio, files.get((name, ".txt")), files.get((name, ".phn"))))
    return found


def split_paper(sentences: Sequence[Sentence], valid_fraction: float, seed: int) -> dict[str, list[Sentence]]:
    """Split the training sentences at random into training and validation. All test sentences are for testing."""
    if not 0 <= valid_fraction < 1:
        raise UserError(f"--valid-fraction {valid_fraction}: must be at least 0 and below 1")
    training = [sentence for sentence in sentences if sentence.part == "TRAIN"]
    count = round(valid_fraction * len(training))
    valid = {sentence.id for sentence in random.Random(seed).sample(training, count)}
    return {
        "train": [sentence for sentence in training if sentence.id not in valid],
        "valid": [sentence for sentence in training if sentence.id in valid],
        "test": [sentence for sentence in sentences if sentence.part == "TEST"],
    }


def split_kaldi(sentences: Sequence[Sentence]) -> dict[str, list[Sentence]]:
    """Split as Kaldi does: without the SA sentences, which all speakers read, and with two sets of test speakers."""
    sentences = [sentence for sentence in sentences if not sentence.name.startswith("SA")]
    testing = [sentence for sentence in sentences if sentence.part == "TEST"]
    splits = {
        "train": [sentence for sentence in sentences if sentence.part == "TRAIN"],
        "valid": [sentence for sentence in testing if sentence.speaker in DEVELOPMENT_SPEAKERS],
        "test": [sentence for sentence in testing if sentence.speaker in CORE_TEST_SPEAKERS],
    }
    if not splits["valid"] or not splits["test"]:
        raise UserError(
            "--protocol kaldi: the corpus has none of its development or core test speakers; use --protocol paper"
        )
    return splits


def report_missing(root: Path, sentences: Sequence[Sentence], strict: bool) -> None:
    """Print which speakers and sentences of the disc are missing here.

    Raises:
        UserError: with `strict`, if anything is missing.
    """
    names: dict[tuple[str, str], list[str]] = {}
    for sentence in sentences:
        names.setdefault((sentence.part, sentence.speaker), []).append(sentence.name)
    missing = find_missing(find_child(root, "DOC"), names)
    if missing and strict:
        more = f"; and {len(missing) - 1} more differences" if len(missing) > 1 else ""
        raise UserError(f"{root}: {missing[0]}{more} (--strict)")
    for line in missing:
        print(f"{root}: {line}", file=sys.stderr)


def read_transcript(sentence: Sentence) -> str | None:
    """Read the words of a .TXT file, which begins with the first and the last sample. None if there is no such file."""
    if sentence.transcript is None:
        return None
    words = sentence.transcript.read_text(encoding="utf-8", errors="replace").split()
    return " ".join(words[2:] if len(words) > 1 and words[0].isdigit() and words[1].isdigit() else words)


def write_phones(data_dir: Path, sentences: Sequence[Sentence]) -> None:
    """Write DATA_DIR/phones.ctm from .PHN files, whose lines are the first sample, the last sample and the phone.

    Raises:
        UserError: a line of a .PHN file is something else.
    """
    lines = []
    for sentence in sentences:
        if sentence.phones is None:
            continue
        for line in sentence.phones.read_text(encoding="utf-8", errors="replace").splitlines():
            fields = line.split()
            if len(fields) != 3 or not fields[0].isdigit() or not fields[1].isdigit():
                raise UserError(f"{sentence.phones}: {line!r} is not START END PHONE in samples")
            start, end = int(fields[0]), int(fields[1])
            lines.append(f"{sentence.id} 1 {start / RATE:.6f} {(end - start) / RATE:.6f} {fields[2]}\n")
    if lines:
        (data_dir / "phones.ctm").write_text("".join(lines), encoding="utf-8")
    else:
        (data_dir / "phones.ctm").unlink(missing_ok=True)


if __name__ == "__main__":
    run_command(timit, sys.argv[1:], prog="python -m data_prep.timit")
