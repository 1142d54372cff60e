"""Prepare Picovoice/speech-to-intent-benchmark: write OUT/{train,valid,test} Kaldi data directories.

No audio is copied. The corpus (Apache-2.0) holds 619 spoken commands, 89 minutes at 16 kHz, which more than 50 people
recorded with their own microphones. It does not say who speaks, so each recording counts as a speaker.
"""

import sys
from pathlib import Path

from zfaudio.command import run_command
from zfaudio.corpus.audio import check_audio
from zfaudio.corpus.kaldi import Reject, Utterance
from zfaudio.corpus.parallel import check_recordings
from zfaudio.corpus.splits import SPLITS, write_splits
from zfaudio.errors import UserError

SUFFIXES = (".wav", ".flac")
SPEECH = Path("data/speech/clean")  # where the published repository has the recordings


def intents(
    corpus: str | Path,
    out: str | Path,
    *,
    lists: str | Path,
    strict: bool = False,
    nj: int = 1,
    dask: str = "",
) -> None:
    """Write Kaldi data directories OUT/train, OUT/valid and OUT/test, split by lists of recordings.

    Recordings that cannot be used are listed in OUT/rejects.txt.

    Args:
        corpus: clone of the published repository, or a folder with its recordings as WAV or FLAC.
        out: folder for the data directories.
        lists: folder with train.txt, valid.txt and test.txt, which list names of recordings without suffix, one per
            line.
        strict: stop at the first recording that cannot be used.
        nj: number of processes that check recordings, -1 for one per core.
        dask: address of a Dask scheduler to use instead of processes, such as tcp://host:8786.
    """
    names = {split: (Path(lists) / f"{split}.txt").read_text(encoding="utf-8").split() for split in SPLITS}
    paths = find_recordings(Path(corpus).absolute(), [name for split in SPLITS for name in names[split]])
    seconds, reasons = check_recordings(check_audio, list(paths.values()), nj, dask, strict)
    utterances = {
        split: [
            Utterance(name, name, paths[name], duration=seconds[paths[name]])
            for name in names[split]
            if paths[name] in seconds
        ]
        for split in SPLITS
    }
    write_splits(Path(out), utterances, [Reject("-", path, reason) for path, reason in reasons.items()])


def find_recordings(corpus: Path, names: list[str]) -> dict[str, str]:
    """Find the paths of recordings, by name.

    Raises:
        UserError: there is no such folder, or a recording is not in it.
    """
    folder = corpus / SPEECH if (corpus / SPEECH).is_dir() else corpus
    if not folder.is_dir():
        raise UserError(f"{corpus}: no such folder")
    found = {path.stem: str(path) for path in sorted(folder.iterdir()) if path.suffix.lower() in SUFFIXES}
    missing = [name for name in names if name not in found]
    if missing:
        raise UserError(
            f"{folder}: {len(missing)} of the {len(names)} recordings are missing ({missing[0]}, ...); give a clone "
            "of Picovoice/speech-to-intent-benchmark"
        )
    return {name: found[name] for name in names}


if __name__ == "__main__":
    run_command(intents, sys.argv[1:], prog="python -m data_prep.intents")
