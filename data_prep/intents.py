"""Picovoice/speech-to-intent-benchmark -> OUT/{train,valid,test} Kaldi data directories. No audio is copied.

Spoken commands, recorded by more than 50 people with microphones of their own (Apache-2.0): 619 recordings, 89 minutes,
16 kHz. Who speaks is not said: each recording counts as a speaker.
"""

import sys
from functools import partial
from pathlib import Path

from zfaudio.command import run_command
from zfaudio.corpus.audio import check_audio
from zfaudio.corpus.folder import FolderConfig
from zfaudio.corpus.kaldi import Reject, Utterance
from zfaudio.corpus.parallel import examine
from zfaudio.corpus.splits import SPLITS, write_splits
from zfaudio.errors import UserError

SUFFIXES = (".wav", ".flac")
SPEECH = Path("data/speech/clean")  # in the published repository


def intents(corpus: Path, out: Path, *, lists: Path, strict: bool = False, nj: int = 1, dask: str = "") -> None:
    """Write Kaldi data directories OUT/train, OUT/valid and OUT/test, split by lists of recordings.

    Recordings that cannot be used are listed in OUT/rejects.txt.

    Args:
        corpus: the published repository, or a folder with its recordings as WAV or FLAC.
        out: folder for the data directories.
        lists: folder with train.txt, valid.txt and test.txt: a recording's name without suffix on each line.
        strict: stop at the first recording that cannot be used.
        nj: processes that look into recordings; -1: one a core.
        dask: address of a Dask scheduler to use instead of processes, such as tcp://host:8786.
    """
    parts = {split: (lists / f"{split}.txt").read_text(encoding="utf-8").split() for split in SPLITS}
    paths = find_recordings(corpus.absolute(), [name for names in parts.values() for name in names])
    check = partial(check_audio, shortest_seconds=FolderConfig.shortest_seconds)
    infos, reasons = examine(check, list(paths.values()), nj, dask, strict)
    splits = {
        split: [
            Utterance(name, name, paths[name], duration=infos[paths[name]].seconds)
            for name in names
            if paths[name] in infos
        ]
        for split, names in parts.items()
    }
    write_splits(out, splits, [Reject("-", path, reason) for path, reason in reasons.items()])


def find_recordings(corpus: Path, names: list[str]) -> dict[str, str]:
    """Paths of the recordings, by name.

    Raises:
        UserError: no such folder, or a recording that is not in it.
    """
    folder = corpus / SPEECH if (corpus / SPEECH).is_dir() else corpus
    if not folder.is_dir():
        raise UserError(f"{corpus}: no such folder")
    found = {path.stem: str(path) for path in sorted(folder.iterdir()) if path.suffix.lower() in SUFFIXES}
    missing = [name for name in names if name not in found]
    if missing:
        raise UserError(
            f"{folder}: {len(missing)} of the {len(names)} recordings are not there ({missing[0]}, ...); give a clone "
            "of Picovoice/speech-to-intent-benchmark"
        )
    return {name: found[name] for name in names}


if __name__ == "__main__":
    run_command(intents, sys.argv[1:], prog="python -m data_prep.intents")
