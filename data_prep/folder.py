"""Any folder of audio -> OUT/{train,valid,test} Kaldi data directories. No audio is copied."""

import sys
from pathlib import Path

from zfaudio.command import run_command
from zfaudio.corpus.folder import FolderConfig, prepare_folder
from zfaudio.corpus.splits import write_splits

DEFAULT_FOLDER = FolderConfig()


def audio_folder(
    corpus: str,
    out: str,
    *,
    folder: FolderConfig = DEFAULT_FOLDER,
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
        folder: how it is split and long recordings are cut.
        strict: stop at the first recording that cannot be used.
        nj: processes that look into recordings; -1: one a core.
        dask: address of a Dask scheduler to use instead of processes, such as tcp://host:8786.
    """
    splits, rejects = prepare_folder(Path(corpus), folder, nj=nj, dask=dask, strict=strict)
    write_splits(Path(out), splits, rejects)


if __name__ == "__main__":
    run_command(audio_folder, sys.argv[1:], prog="python -m data_prep.folder")
