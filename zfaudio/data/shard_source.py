"""List the utterances of what `zfaudio shard` is given: data directories, or a folder of audio."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from zfaudio.config import FolderConfig
from zfaudio.corpus.folder import prepare_folder, split_utterances
from zfaudio.corpus.kaldi import Reject, Utterance, read_data_dir
from zfaudio.corpus.kaldi_tables import is_pipe
from zfaudio.corpus.splits import SPLITS, named_parts
from zfaudio.errors import UserError


def list_utterances(
    source: Path,
    folder: FolderConfig,
    parts: Mapping[str, str],
    nj: int,
    dask: str,
    strict: bool,
    allow_pipes: bool,
) -> tuple[dict[str, list[Utterance]], list[Reject]]:
    """List the utterances of each split, and the recordings that are already known to be unusable.

    Args:
        source: what is to be cut into shards.
        folder: how to split a single data directory or a folder of audio.
        parts: names of the folders inside `source` that are the splits, by split. Splits that are not named are found
            by their usual names.
        nj, dask, strict, allow_pipes: those of `shard`.

    Raises:
        UserError: there is nothing usable at `source`.
    """
    if not source.is_dir():
        raise UserError(f"{source}: no such folder")
    rejects: list[Reject] = []
    data_dirs = sorted(path.parent.name for path in source.glob("*/wav.scp") if path.is_file())
    data_dirs = [name for name in data_dirs if not name.startswith(".")]
    named = {split: parts[split] for split in SPLITS if split in parts}
    for split, name in named.items():
        if not (source / name).is_dir():
            raise UserError(f"--{split} {name}: no such folder in {source}")
    if len({(source / name).resolve() for name in named.values()}) < len(named):
        raise UserError(f"--train, --valid and --test name the same folder of {source} twice")
    if any((source / name / "wav.scp").is_file() for name in named.values()) or (not named and named_parts(data_dirs)):
        usual = named_parts([name for name in data_dirs if name not in named.values()])
        chosen = {split: named.get(split) or usual[split] for split in SPLITS if split in named or split in usual}
        left = [name for name in data_dirs if name not in chosen.values()]
        if left:
            print(f"not used: the data directories {', '.join(left)} (--train, --valid and --test choose others)")
        splits = {split: read_data_dir(source / name, allow_pipes) for split, name in chosen.items()}
    elif (source / "wav.scp").is_file() and not named:
        splits = split_data_dir(read_data_dir(source, allow_pipes), folder)
    elif data_dirs and not named:
        names = ", ".join(data_dirs)
        raise UserError(f"{source}: holds data directories ({names}); name them with --train, --valid and --test")
    else:
        if named and "train" not in named:
            raise UserError(f"{source}: --train must name the folder of the training split")
        splits, rejects = prepare_folder(source, folder, nj, dask, strict, decode=False, parts=named)
    return {split: [with_absolute_path(u) for u in splits.get(split, [])] for split in SPLITS}, rejects


def split_data_dir(utterances: Sequence[Utterance], folder: FolderConfig) -> dict[str, list[Utterance]]:
    """Split the utterances of a single data directory in the same way as those of a folder."""
    utterances_of_recordings: dict[str, list[Utterance]] = {}
    speakers: dict[str, str] = {}
    for utterance in utterances:
        key = f"{utterance.speaker} {utterance.recording}"
        utterances_of_recordings.setdefault(key, []).append(utterance)
        speakers[key] = utterance.speaker
    return split_utterances(utterances_of_recordings, speakers, folder)


def with_absolute_path(utterance: Utterance) -> Utterance:
    """Make the path of an utterance's recording absolute, so that a process may have any working directory."""
    if is_pipe(utterance.recording) or not utterance.recording:
        return utterance
    return replace(utterance, recording=os.path.abspath(utterance.recording))
