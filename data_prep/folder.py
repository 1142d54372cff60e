"""Any folder of audio -> OUT/{train,valid,test} Kaldi data directories. No audio is copied."""

import sys
from pathlib import Path
from typing import Literal

from zfaudio.command import run_command
from zfaudio.folder import FolderConfig, prepare_folder
from zfaudio.splits import write_splits


def folder(
    corpus: str,
    out: str,
    *,
    split_by: Literal["auto", "speaker", "file"] = "auto",
    speaker_pattern: str = "",
    lists: str = "",
    valid_fraction: float = 0.05,
    test_fraction: float = 0.05,
    seed: int = 0,
    cut: Literal["silence", "fixed", "none"] = "silence",
    max_seconds: float = 15.0,
    shortest_seconds: float = 0.0125,
    strict: bool = False,
    nj: int = 1,
    dask: str = "",
) -> None:
    """Write Kaldi data directories OUT/train, OUT/valid and OUT/test from any folder of audio.

    Any format, rate and channel count that libsndfile reads. Recordings that cannot be used are listed in
    OUT/rejects.txt.

    Args:
        corpus: folder of audio, searched with its subfolders.
        out: folder for the data directories.
        split_by: what stays together: speaker, file, or auto (speaker where there are three or more, else file).
        speaker_pattern: regular expression with a group called speaker, searched in each file's path below the
            corpus, as in '^(?P<speaker>[^/]+)/'. Without it the speaker is the name of the file's folder.
        lists: folder with train.txt, valid.txt and test.txt, each line the path of a file below the corpus.
        valid_fraction: share of the speakers or files kept for validation.
        test_fraction: share of the speakers or files kept for testing.
        seed: of the random split.
        cut: cut recordings longer than max_seconds at their quietest moments (silence), every max_seconds
            (fixed), or not (none).
        max_seconds: the most a piece may last.
        shortest_seconds: recordings shorter than this (one frame) are rejected.
        strict: stop at the first recording that cannot be used.
        nj: processes that look into recordings; -1: one a core.
        dask: address of a Dask scheduler to use instead of processes, such as tcp://host:8786.
    """
    config = FolderConfig(
        split_by=split_by,
        speaker_pattern=speaker_pattern,
        lists=lists,
        valid_fraction=valid_fraction,
        test_fraction=test_fraction,
        seed=seed,
        cut=cut,
        max_seconds=max_seconds,
        shortest_seconds=shortest_seconds,
    )
    splits, rejects = prepare_folder(Path(corpus), config, nj=nj, dask=dask, strict=strict)
    write_splits(Path(out), splits, rejects)


if __name__ == "__main__":
    run_command(folder, sys.argv[1:], prog="python -m data_prep.folder")
