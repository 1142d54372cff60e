"""List the utterances of what `zfaudio shard` is given: data directories, manifests of lhotse, or a folder of audio."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from zfaudio.config import FolderConfig
from zfaudio.corpus.folder import prepare_folder, split_utterances
from zfaudio.corpus.kaldi import Reject, Utterance, read_data_dir
from zfaudio.corpus.kaldi_tables import is_pipe
from zfaudio.corpus.lhotse import is_manifest, read_manifests
from zfaudio.corpus.splits import SPLITS, named_parts
from zfaudio.errors import UserError


def list_utterances(
    source: Path | None,
    folder: FolderConfig,
    parts: Mapping[str, str],
    nj: int,
    dask: str,
    strict: bool,
    allow_pipes: bool,
) -> tuple[dict[str, list[Utterance]], list[Reject]]:
    """List the utterances of each split, and the recordings that are already known to be unusable.

    Args:
        source: what is to be cut into shards. None if `parts` are paths of their own.
        folder: how to split a single part or a folder of audio.
        parts: the folders or manifests that are the splits, by split. Inside `source`, splits that are not named are
            found by their usual names. Without `source`, they are cut off the training part.
        nj, dask, strict, allow_pipes: those of `shard`.

    Raises:
        UserError: there is nothing usable at `source` or at one of the parts.
    """
    named = {split: (source or Path()) / parts[split] for split in SPLITS if split in parts}
    if len({path.resolve() for path in named.values()}) < len(named):
        where = f" of {source}" if source else ""
        raise UserError(f"--train, --valid and --test name the same folder{where} twice")
    rejects: list[Reject] = []
    if source is None:
        splits = read_parts(named, folder, allow_pipes)
    else:
        splits, rejects = list_source(source, folder, parts, nj, dask, strict, allow_pipes)
    return {split: [with_absolute_path(u) for u in splits.get(split, [])] for split in SPLITS}, rejects


def list_source(
    source: Path,
    folder: FolderConfig,
    parts: Mapping[str, str],
    nj: int,
    dask: str,
    strict: bool,
    allow_pipes: bool,
) -> tuple[dict[str, list[Utterance]], list[Reject]]:
    """List what a folder or a manifest holds, or those of its folders that are named. See `list_utterances`."""
    if not source.is_dir() and not is_manifest(source):
        raise UserError(f"{source}: no such folder")
    named = {split: parts[split] for split in SPLITS if split in parts}
    for split, name in named.items():
        if not (source / name).is_dir() and not is_manifest(source / name):
            raise UserError(f"--{split} {name}: no such folder in {source}")
    listed = listed_inside(source)
    if any(is_listed(source / name) for name in named.values()) or (not named and named_parts(listed)):
        usual = named_parts([name for name in listed if name not in named.values()])
        chosen = {split: named.get(split) or usual[split] for split in SPLITS if split in named or split in usual}
        left = [name for name in listed if name not in chosen.values()]
        if left:
            print(f"not used: the data directories {', '.join(left)} (--train, --valid and --test choose others)")
        return {split: read_listed(source / name, allow_pipes) for split, name in chosen.items()}, []
    if is_listed(source) and not named:
        return split_listed(read_listed(source, allow_pipes), folder), []
    if listed and not named:
        names = ", ".join(listed)
        raise UserError(f"{source}: holds data directories ({names}); name them with --train, --valid and --test")
    if named and "train" not in named:
        raise UserError(f"{source}: --train must name the folder of the training split")
    return prepare_folder(source, folder, nj, dask, strict, decode=False, parts=named)


def read_parts(parts: Mapping[str, Path], folder: FolderConfig, allow_pipes: bool) -> dict[str, list[Utterance]]:
    """Read parts that have paths of their own, and cut those that are missing off the training part.

    Raises:
        UserError: there is no training part, or a part cannot be read.
    """
    if "train" not in parts:
        raise UserError("give SOURCE and OUT, or only OUT and the parts: --train PATH --valid PATH --test PATH")
    for split, path in parts.items():
        if not is_listed(path):
            raise UserError(
                f"--{split} {path}: neither a Kaldi data directory (wav.scp, utt2spk) nor manifests of lhotse "
                "(recordings.jsonl and supervisions.jsonl, or cuts.jsonl)"
            )
    splits = {split: read_listed(path, allow_pipes) for split, path in parts.items()}
    missing = replace(
        folder,
        valid_fraction=0.0 if "valid" in parts else folder.valid_fraction,
        test_fraction=0.0 if "test" in parts else folder.test_fraction,
    )
    if not missing.valid_fraction and not missing.test_fraction:
        return splits
    cut = split_listed(splits.pop("train"), missing)
    return cut | splits


def is_listed(path: Path) -> bool:
    """Return whether a path is a Kaldi data directory or manifests of lhotse, which list utterances."""
    return (path / "wav.scp").is_file() or is_manifest(path)


def listed_inside(folder: Path) -> list[str]:
    """Names of the folders inside a folder that list utterances. Hidden ones are not searched."""
    folders = [path for path in sorted(folder.glob("*/")) if not path.name.startswith(".")]
    return [path.name for path in folders if is_listed(path)]


def read_listed(path: Path, allow_pipes: bool) -> list[Utterance]:
    """Read the utterances of a data directory, or of lhotse's manifests if there is no wav.scp."""
    if is_manifest(path) and not (path / "wav.scp").is_file():
        return read_manifests(path, allow_pipes)
    return read_data_dir(path, allow_pipes)


def split_listed(utterances: Sequence[Utterance], folder: FolderConfig) -> dict[str, list[Utterance]]:
    """Split the utterances of a single data directory or manifest in the same way as those of a folder."""
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
