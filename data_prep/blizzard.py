"""Blizzard 2013, Catherine Byers -> OUT/{train,valid,test} Kaldi data directories. No audio is copied.

Recordings are cut to sequences of half a second, and the sequences split 90/5/5 in the order of the recordings, as
the published experiments did.
"""

import re
import sys
from functools import partial
from pathlib import Path
from typing import Literal

from zfaudio.command import run_command
from zfaudio.corpus.audio import check_audio
from zfaudio.corpus.kaldi import Reject, Utterance
from zfaudio.corpus.parallel import examine
from zfaudio.corpus.pauses import fixed_pieces
from zfaudio.corpus.splits import split_in_order, write_splits
from zfaudio.errors import UserError

SPEAKER = "CB"

SUFFIXES = {"unsegmented": ".mp3", "segmented": ".wav"}


def blizzard(
    corpus: str,
    out: str,
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

    What is left at a recording's end is not used; how much that is gets printed. Recordings that cannot be used are
    listed in OUT/rejects.txt.

    Args:
        corpus: folder with the recordings, searched with its subfolders.
        out: folder for the data directories.
        layout: unsegmented (chapters as MP3), segmented (sentences as WAV), or auto: the first of them found.
        sequence_seconds: length of a sequence.
        valid_fraction: share of the sequences, next to the last, kept for validation.
        test_fraction: share of the sequences, the last, kept for testing.
        strict: stop at the first recording that cannot be used.
        nj: processes that look into recordings; -1: one a core.
        dask: address of a Dask scheduler to use instead of processes, such as tcp://host:8786.
    """
    if not sequence_seconds > 0:
        raise UserError(f"--sequence-seconds {sequence_seconds}: must be above 0")
    files = find_recordings(Path(corpus).absolute(), layout)
    paths = [str(path) for path in files]
    infos, reasons = examine(partial(check_audio, shortest_seconds=sequence_seconds), paths, nj, dask, strict)
    if not infos:
        raise UserError(f"{corpus}: none of {len(paths)} recordings is usable; {paths[0]}: {reasons[paths[0]]}")
    sequences = []
    unused = 0.0
    for number, path in enumerate(paths):
        if path in infos:
            name = f"{SPEAKER}-{number:05d}_{re.sub(r'[^A-Za-z0-9_.]', '_', Path(path).stem)}"
            cut = cut_recording(path, name, infos[path].seconds, sequence_seconds)
            unused += infos[path].seconds - len(cut) * sequence_seconds
            sequences += cut
    rejects = [Reject(SPEAKER, path, reason) for path, reason in reasons.items()]
    write_splits(Path(out), split_in_order(sequences, valid_fraction, test_fraction), rejects)
    print(f"not used at the ends of recordings: {unused:.1f} seconds")


def find_recordings(corpus: Path, layout: str) -> list[Path]:
    """Recordings of one layout in the order they were numbered: 2 before 10.

    Raises:
        UserError: no such folder, or nothing of the layout in it.
    """
    if not corpus.is_dir():
        raise UserError(f"{corpus}: no such folder")
    files = [path for path in corpus.rglob("*") if path.is_file() and not path.name.startswith(".")]
    for name in SUFFIXES if layout == "auto" else (layout,):
        found = [path for path in files if path.suffix.lower() == SUFFIXES[name]]
        if found:
            return sorted(found, key=lambda path: numbered(path.relative_to(corpus).as_posix()))
    raise UserError(f"{corpus}: no {' or '.join(SUFFIXES[n] for n in SUFFIXES if layout in ('auto', n))} files in it")


def numbered(name: str) -> tuple[list[tuple[int, str]], str]:
    """Sorting key: numbers in a name count by their value."""
    parts = re.findall(r"\d+|\D+", name)
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts], name


def cut_recording(path: str, id: str, seconds: float, length: float) -> list[Utterance]:
    """Sequences of `length` seconds, one after another; a shorter rest at the end is left."""
    return [
        Utterance(f"{id}-{number:06d}", SPEAKER, path, start, end, recording_id=id, duration=length)
        for number, (start, end) in enumerate(fixed_pieces(seconds, length, shortest=length))
    ]


if __name__ == "__main__":
    run_command(blizzard, sys.argv[1:], prog="python -m data_prep.blizzard")
