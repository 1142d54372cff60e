"""Prepare any folder of audio: write OUT/{train,valid,test} Kaldi data directories. No audio is copied."""

import sys
from pathlib import Path

from zfaudio.command import run_command
from zfaudio.config import FolderConfig
from zfaudio.corpus.folder import prepare_folder
from zfaudio.corpus.splits import SPLITS, write_splits

DEFAULT_FOLDER = FolderConfig()


def audio_folder(
    corpus: str | Path,
    out: str | Path,
    *,
    folder: FolderConfig = DEFAULT_FOLDER,
    train: str = "",
    valid: str = "",
    test: str = "",
    strict: bool = False,
    nj: int = 1,
    dask: str = "",
) -> None:
    """Write Kaldi data directories OUT/train, OUT/valid and OUT/test from any folder of audio.

    Recordings may have any format, rate and number of channels that libsndfile reads, and formats that ffmpeg or
    sph2pipe reads where these are installed. Those that cannot be used are listed in OUT/rejects.txt.

    Args:
        corpus: folder of audio, searched with its subfolders but not with hidden ones.
        out: folder for the data directories.
        folder: how to split the recordings and cut long ones.
        train: subfolder of the corpus that is the training split. If none is named, the recordings are split.
        valid: subfolder that is the validation split.
        test: subfolder that is the test split.
        strict: stop at the first recording that cannot be used.
        nj: number of processes that check recordings, -1 for one per core.
        dask: address of a Dask scheduler to use instead of processes, such as tcp://host:8786.
    """
    parts = {split: name for split, name in zip(SPLITS, (train, valid, test), strict=True) if name}
    splits, rejects = prepare_folder(corpus, folder, nj=nj, dask=dask, strict=strict, parts=parts)
    write_splits(Path(out), splits, rejects)


if __name__ == "__main__":
    run_command(audio_folder, sys.argv[1:], prog="python -m data_prep.folder")
