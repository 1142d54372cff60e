"""TIMIT (LDC93S1) -> OUT/{train,valid,test} Kaldi data directories. No audio is copied.

Each directory also gets `phones.ctm` where the corpus has .PHN files: utterance, channel 1, start and duration in
seconds, phone.
"""

import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from data_prep.timit_disc import CORE_TEST_SPEAKERS, DEVELOPMENT_SPEAKERS, missing_from
from zfaudio.command import run_command
from zfaudio.corpus.audio import check_audio
from zfaudio.corpus.kaldi import Reject, Utterance
from zfaudio.corpus.parallel import examine
from zfaudio.corpus.splits import write_splits
from zfaudio.errors import UserError

RATE = 16000  # of the sample counts in .PHN files

# Which of several files of one sentence is taken: the disc's own before a copy of it.
AUDIO_SUFFIXES = (".wav", ".sph", ".wav.wav", ".flac")


@dataclass(frozen=True)
class Sentence:
    """One sentence of one speaker, names in capitals as on the disc: part TRAIN or TEST, name as in SX37."""

    part: str
    speaker: str
    name: str
    audio: Path
    transcript: Path | None
    phones: Path | None

    @property
    def id(self) -> str:
        """Utterance id. `-` sorts before every letter and digit, so that Kaldi's two orders agree."""
        return f"{self.speaker}-{self.name}"


def timit(
    corpus: str,
    out: str,
    *,
    protocol: Literal["paper", "kaldi"] = "paper",
    seed: int = 0,
    valid_fraction: float = 0.05,
    shortest_seconds: float = 0.0125,
    strict: bool = False,
    nj: int = 1,
    dask: str = "",
) -> None:
    """Write Kaldi data directories OUT/train, OUT/valid and OUT/test from TIMIT.

    Takes the LDC93S1 disc as it is, lower-case copies, and copies converted to RIFF (.WAV.wav). Recordings that
    cannot be used are listed in OUT/rejects.txt.

    Args:
        corpus: folder with TRAIN and TEST in it, or with TIMIT above them.
        out: folder for the data directories.
        protocol: paper: all training sentences less a random share for validation, all test sentences. kaldi: no
            SA sentences, 50 development speakers, 24-speaker core test set.
        seed: of the random split.
        valid_fraction: share of the training sentences kept for validation (protocol paper).
        shortest_seconds: recordings shorter than this (one frame) are rejected.
        strict: stop where speakers or sentences of the disc are missing, and at the first unusable recording.
        nj: processes that look into recordings; -1: one a core.
        dask: address of a Dask scheduler to use instead of processes, such as tcp://host:8786.
    """
    root = find_root(Path(corpus).absolute())
    sentences = find_sentences(root)
    splits = split_paper(sentences, valid_fraction, seed) if protocol == "paper" else split_kaldi(sentences)
    report_missing(root, sentences, strict)
    paths = [str(sentence.audio) for sentence in sentences]
    infos, reasons = examine(
        partial(check_audio, shortest_seconds=shortest_seconds), paths, nj=nj, dask=dask, strict=strict
    )
    rejects = [Reject(s.id, str(s.audio), reasons[str(s.audio)]) for s in sentences if str(s.audio) in reasons]
    kept = {split: [s for s in part if str(s.audio) in infos] for split, part in splits.items()}
    utterances = {
        split: [
            Utterance(s.id, s.speaker, str(s.audio), text=read_transcript(s), duration=infos[str(s.audio)].seconds)
            for s in part
        ]
        for split, part in kept.items()
    }
    write_splits(Path(out), utterances, rejects)
    for split, part in kept.items():
        write_phones(Path(out) / split, part)


def find_root(corpus: Path) -> Path:
    """The folder that holds TRAIN: the corpus or TIMIT in it, in capitals or not."""
    if not corpus.is_dir():
        raise UserError(f"{corpus}: no such folder")
    for folder in (corpus, child(corpus, "TIMIT")):
        if folder is not None and child(folder, "TRAIN") is not None:
            return folder
    raise UserError(f"{corpus}: neither TRAIN nor TIMIT/TRAIN in it; give the folder of the LDC93S1 disc")


def child(folder: Path, name: str) -> Path | None:
    """The file or folder of that name, whatever its case."""
    return next((path for path in sorted(folder.iterdir()) if path.name.upper() == name), None)


def find_sentences(root: Path) -> list[Sentence]:
    """Every sentence below TRAIN and TEST once, sorted by id, whatever the order of directories."""
    sentences: dict[str, Sentence] = {}
    for part in ("TRAIN", "TEST"):
        folder = child(root, part)
        speakers = sorted({path.parent for path in folder.rglob("*") if path.is_file()}) if folder else []
        for speaker in speakers:
            for sentence in sentences_of(part, speaker):
                sentences.setdefault(sentence.id, sentence)
    if not sentences:
        raise UserError(f"{root}: no recordings (.WAV, .WAV.wav) below TRAIN and TEST")
    return [sentences[id] for id in sorted(sentences)]


def sentences_of(part: str, folder: Path) -> list[Sentence]:
    """The sentences in a speaker's folder."""
    files: dict[tuple[str, str], Path] = {}  # (name, suffix) in capitals and in lower case
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
    """All training sentences less a random share, and all test sentences."""
    if not 0 <= valid_fraction < 1:
        raise UserError(f"--valid-fraction {valid_fraction}: from 0 to below 1")
    training = [sentence for sentence in sentences if sentence.part == "TRAIN"]
    count = round(valid_fraction * len(training))
    valid = {sentence.id for sentence in random.Random(seed).sample(training, count)}
    return {
        "train": [sentence for sentence in training if sentence.id not in valid],
        "valid": [sentence for sentence in training if sentence.id in valid],
        "test": [sentence for sentence in sentences if sentence.part == "TEST"],
    }


def split_kaldi(sentences: Sequence[Sentence]) -> dict[str, list[Sentence]]:
    """Kaldi's parts: no sentence that all speakers read (SA), and two sets of test speakers."""
    own = [sentence for sentence in sentences if not sentence.name.startswith("SA")]
    testing = [sentence for sentence in own if sentence.part == "TEST"]
    splits = {
        "train": [sentence for sentence in own if sentence.part == "TRAIN"],
        "valid": [sentence for sentence in testing if sentence.speaker in DEVELOPMENT_SPEAKERS],
        "test": [sentence for sentence in testing if sentence.speaker in CORE_TEST_SPEAKERS],
    }
    if not splits["valid"] or not splits["test"]:
        raise UserError(
            "--protocol kaldi: the corpus has none of its development or core test speakers; use --protocol paper"
        )
    return splits


def report_missing(root: Path, sentences: Sequence[Sentence], strict: bool) -> None:
    """Print by name what the disc has and this corpus has not; with `strict` that is an error."""
    spoken: dict[tuple[str, str], list[str]] = {}
    for sentence in sentences:
        spoken.setdefault((sentence.part, sentence.speaker), []).append(sentence.name)
    missing = missing_from(child(root, "DOC"), spoken)
    if missing and strict:
        more = f"; and {len(missing) - 1} more differences" if len(missing) > 1 else ""
        raise UserError(f"{root}: {missing[0]}{more} (--strict)")
    for line in missing:
        print(f"{root}: {line}", file=sys.stderr)


def read_transcript(sentence: Sentence) -> str | None:
    """The words of a .TXT file, which begins with the first and the last sample; None without one."""
    if sentence.transcript is None:
        return None
    words = sentence.transcript.read_text(encoding="utf-8", errors="replace").split()
    return " ".join(words[2:] if len(words) > 1 and words[0].isdigit() and words[1].isdigit() else words)


def write_phones(data_dir: Path, sentences: Sequence[Sentence]) -> None:
    """Write DATA_DIR/phones.ctm from the .PHN files, each line of which is first sample, last sample, phone."""
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
