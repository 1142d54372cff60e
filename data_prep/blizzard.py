"""Prepare Blizzard 2013 (Catherine Byers): write OUT/{train,valid,test} Kaldi data directories. No audio is copied.

As in the published experiments, recordings are cut into sequences of half a second, which are split 90/5/5 in the order
of the recordings.
"""

import re
import sys
from functools import partial
from pathlib import Path
from typing import Literal

from zfaudio.command import run_command
from zfaudio.corpus.audio import check_audio
from zfaudio.corpus.kaldi import Reject, Utterance
from zfaudio.corpus.parallel import check_recordings
from zfaudio.corpus.pauses import cut_at_fixed_length
from zfaudio.corpus.search import find_files, suffix_of
from zfaudio.corpus.splits import split_in_order, write_splits
from zfaudio.errors import UserError

SPEAKER = "CB"

SUFFIXES = {"unsegmented": ".mp3", "segmented": ".wav"}


def blizzard(
    corpus: str | Path,
    out: str | Path,
    *,
    layout: Literal["auto", "unsegmented", "segmented"] = "auto",
    sequence_seconds: float = 0.5,
    valid_fraction: float = 0.05,
    test_fraction: float = 0.05,
    strict: bool = False,
    nj: int = 1,
    dask: str = "",
) -> None:
    """Write Kaldi data directories OUT/train, OUT/valid and OUT/test from the Blizzard 2013 recordings.

    The rest of each recording that is shorter than a sequence is not used; the total is printed. Recordings that cannot
    be used are listed in OUT/rejects.txt.

    Args:
        corpus: folder with the recordings, searched with its subfolders.
        out: folder for the data directories.
        layout: unsegmented (chapters as MP3), segmented (sentences as WAV), or auto, which takes chapters if there are
            any and sentences otherwise.
        sequence_seconds: length of a sequence in seconds.
        valid_fraction: fraction of the sequences used for validation. They come just before the test sequences.
        test_fraction: fraction of the sequences used for testing. They come last.
        strict: stop at the first recording that cannot be used.
        nj: number of processes that check recordings, -1 for one per core.
        dask: address of a Dask scheduler to use instead of processes, such as tcp://host:8786.
    """
    if not sequence_seconds > 0:
        raise UserError(f"--sequence-seconds {sequence_seconds}: must be above 0")
    paths = [str(path) for path in find_recordings(Path(corpus).absolute(), layout)]
    check = partial(check_audio, shortest_seconds=sequence_seconds)
    seconds, reasons = check_recordings(check, paths, nj, dask, strict)
    if not seconds:
        raise UserError(f"{corpus}: none of {len(paths)} recordings is usable; {paths[0]}: {reasons[paths[0]]}")
    sequences: list[Utterance] = []
    unused = 0.0
    for number, path in enumerate(paths):
        if path in seconds:
            recording_id = f"{SPEAKER}-{number:05d}_{re.sub(r'[^A-Za-z0-9_.]', '_', Path(path).stem)}"
            pieces = cut_sequences(path, recording_id, seconds[path], sequence_seconds)
            unused += seconds[path] - len(pieces) * sequence_seconds
            sequences += pieces
    rejects = [Reject(SPEAKER, path, reason) for path, reason in reasons.items()]
    write_splits(Path(out), split_in_order(sequences, valid_fraction, test_fraction), rejects)
    print(f"not used at the ends of recordings: {unused:.1f} seconds")


def find_recordings(corpus: Path, layout: str) -> list[Path]:
    """Find the recordings of a layout in the order of their numbers: 2 comes before 10.

    Raises:
        UserError: there is no such folder, or no recording of the layout in it.
    """
    files = find_files(corpus)
    for name in SUFFIXES if layout == "auto" else (layout,):
        found = [file for file in files.audio if suffix_of(file) == SUFFIXES[name]]
        if found:
            for line in files.describe_rest():
                print(line)
            return [corpus / file for file in sorted(found, key=natural_key)]
    raise UserError(f"{corpus}: no {' or '.join(SUFFIXES[n] for n in SUFFIXES if layout in ('auto', n))} files in it")


def natural_key(name: str) -> tuple[list[tuple[int, str]], str]:
    """Return a sorting key that compares the numbers in a name by their values."""
    parts = re.findall(r"\d+|\D+", name)
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts], name


def cut_sequences(path: str, recording_id: str, seconds: float, length: float) -> list[Utterance]:
    """Cut a recording into sequences of `length` seconds. A shorter rest at the end is not used."""
    return [
        Utterance(f"{recording_id}-{number:06d}", SPEAKER, path, start, end, recording_id=recording_id, duration=length)
        for number, (start, end) in enumerate(cut_at_fixed_length(seconds, length, shortest=length))
    ]


if __name__ == "__main__":
    run_command(blizzard, sys.argv[1:], prog="python -m data_prep.blizzard")
