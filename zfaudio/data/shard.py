"""`zfaudio shard`: a data directory or a folder of audio becomes WebDataset shards."""

import hashlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from zfaudio.corpus.folder import FolderConfig, prepare_folder, split_utterances
from zfaudio.corpus.kaldi import Reject, Utterance, read_data_dir, write_rejects
from zfaudio.corpus.kaldi_tables import is_pipe
from zfaudio.corpus.parallel import spread
from zfaudio.corpus.splits import SPLITS
from zfaudio.data.frames import Moments
from zfaudio.data.manifest import FORMAT_VERSION, Manifest, Shard, SplitManifest, read_manifest
from zfaudio.data.shard_writer import (
    Cutting,
    ShardPlan,
    ShardRecord,
    full_disk,
    make_shard,
    write_whole,
)
from zfaudio.errors import UserError

DEFAULT_FOLDER = FolderConfig()


def shard(
    source: Path,
    out: Path,
    *,
    sample_rate: int = 16000,
    frame_size: int = 200,
    utterances_per_shard: int = 256,
    nj: int = 1,
    dask: str = "",
    strict: bool = False,
    allow_pipes: bool = False,
    seed: int = 0,
    folder: FolderConfig = DEFAULT_FOLDER,
) -> None:
    """Cut recordings into frames and write them as WebDataset shards with a manifest.

    A run that was stopped, however, goes on where it stopped when the same command is given again. What
    cannot be used is left out, listed in OUT/rejects.txt and counted.

    Args:
        source: folder of train, valid and test Kaldi data directories, one Kaldi data directory, or any folder
            of audio; the last two are split by speaker.
        out: folder for the shards, manifest.json and rejects.txt.
        sample_rate: rate in Hz that recordings are resampled to.
        frame_size: samples a frame.
        utterances_per_shard: utterances a tar file.
        nj: processes; -1 for one a core.
        dask: address of a Dask scheduler whose workers do the work instead; they must see the same files.
        strict: stop at the first recording that cannot be used.
        allow_pipes: run wav.scp entries that are commands.
        seed: of the order in which training utterances are put into shards.
        folder: how a folder of audio is split and its long recordings cut.
    """
    for option, value in (
        ("--sample-rate", sample_rate),
        ("--frame-size", frame_size),
        ("--utterances-per-shard", utterances_per_shard),
    ):
        if value < 1:
            raise UserError(f"{option} {value}: must be at least 1")
    out = out.absolute()
    splits, rejects = list_utterances(source, folder, nj, dask, strict, allow_pipes)
    if not splits["train"]:
        raise UserError(f"{source}: no training utterances")
    settings = [FORMAT_VERSION, sample_rate, frame_size, utterances_per_shard, seed]
    mark = fingerprint(settings, splits)
    if is_finished(out, mark):
        print(f"{out}: already finished")
        return
    plans = plan_shards(splits, utterances_per_shard, seed)
    cutting = Cutting(sample_rate, frame_size, allow_pipes, strict)
    try:
        unfinished = begin(out, mark)
        make = partial(make_shard, out=out, unfinished=unfinished, cutting=cutting)
        records = list(spread(make, plans, nj, dask, "sharding"))
        rejects = rejects + [reject for record in records for reject in record.rejects]
        if strict and rejects:  # of a run without --strict that this one continues
            raise UserError(f"{rejects[0].file}: {rejects[0].id}: {rejects[0].reason} (--strict)")
        manifest = finish(out, unfinished, records, rejects, sample_rate, frame_size, mark)
    except OSError as error:
        raise full_disk(out, error) from None
    print(summary(out, manifest, len(rejects)))


def list_utterances(
    source: Path, folder: FolderConfig, nj: int, dask: str, strict: bool, allow_pipes: bool
) -> tuple[dict[str, list[Utterance]], list[Reject]]:
    """Utterances by split, from whatever `source` is, and the recordings already found to be unusable.

    Raises:
        UserError: there is nothing usable at `source`.
    """
    if not source.is_dir():
        raise UserError(f"{source}: no such folder")
    rejects: list[Reject] = []
    if any((source / split / "wav.scp").is_file() for split in SPLITS):
        present = [split for split in SPLITS if (source / split / "wav.scp").is_file()]
        splits = {split: read_data_dir(source / split, allow_pipes) for split in present}
    elif (source / "wav.scp").is_file():
        splits = split_data_dir(read_data_dir(source, allow_pipes), folder)
    else:
        splits, rejects = prepare_folder(source, folder, nj, dask, strict, decode=False)
    return {split: [with_absolute_path(one) for one in splits.get(split, [])] for split in SPLITS}, rejects


def split_data_dir(utterances: Sequence[Utterance], folder: FolderConfig) -> dict[str, list[Utterance]]:
    """Deal out the utterances of one data directory as those of a folder are: by speaker where there are several."""
    recordings: dict[str, list[Utterance]] = {}
    speakers: dict[str, str] = {}
    for utterance in utterances:
        key = f"{utterance.speaker} {utterance.recording}"
        recordings.setdefault(key, []).append(utterance)
        speakers[key] = utterance.speaker
    return split_utterances(recordings, speakers, folder)


def with_absolute_path(utterance: Utterance) -> Utterance:
    """The utterance with a path that holds in the working directory of any process."""
    if is_pipe(utterance.recording):
        return utterance
    return replace(utterance, recording=os.path.abspath(utterance.recording))


def fingerprint(settings: Sequence[int], splits: Mapping[str, Sequence[Utterance]]) -> str:
    """Hash of all that decides what the shards hold, but not of where the recordings lie."""
    sizes: dict[str, int | None] = {}

    def size(recording: str) -> int | None:
        if recording not in sizes:
            is_file = not is_pipe(recording) and os.path.isfile(recording)
            sizes[recording] = os.path.getsize(recording) if is_file else None
        return sizes[recording]

    digest = hashlib.sha256(json.dumps(list(settings)).encode())
    for split, utterances in splits.items():
        for one in utterances:
            name = os.path.basename(one.recording)
            row = [split, one.id, one.speaker, one.start, one.end, name, size(one.recording)]
            digest.update(json.dumps(row).encode())
    return digest.hexdigest()


def plan_shards(splits: Mapping[str, Sequence[Utterance]], utterances_per_shard: int, seed: int) -> list[ShardPlan]:
    """Which utterances go into which shard: training utterances shuffled, so that a shard mixes speakers."""
    plans = []
    for split, utterances in splits.items():
        if split == "train":
            utterances = sorted(utterances, key=lambda one: hashlib.sha256(f"{seed} {one.id}".encode()).digest())
        for number, first in enumerate(range(0, len(utterances), utterances_per_shard)):
            part = utterances[first : first + utterances_per_shard]
            plans.append(ShardPlan(split, f"{split}-{number:06d}.tar", part))
    return plans


def is_finished(out: Path, mark: str) -> bool:
    """Whether an earlier run of the same command finished. What it was killed before removing goes.

    Raises:
        UserError: the shards there are others, or some are missing.
    """
    if not (out / "manifest.json").exists():
        return False
    manifest = read_manifest(str(out))
    if manifest.fingerprint != mark:
        raise UserError(f"{out}: holds shards of other recordings or settings; delete it, or give another folder")
    for split in manifest.splits.values():
        for one in split.shards:
            if not (out / one.name).exists():
                raise UserError(f"{out / one.name}: missing; delete {out / 'manifest.json'} to make the shards again")
    shutil.rmtree(unfinished_folder(out, mark), ignore_errors=True)
    return True


def unfinished_folder(out: Path, mark: str) -> Path:
    """Where a run keeps what is not finished: in OUT, and so on the same file system."""
    return out / f".unfinished-{mark[:16]}"


def begin(out: Path, mark: str) -> Path:
    """Make OUT and the folder for unfinished files in it, or find those of a run that was stopped.

    Raises:
        UserError: OUT was begun with other recordings or settings, or is no folder.
    """
    if out.exists() and not out.is_dir():
        raise UserError(f"{out}: not a folder")
    unfinished = unfinished_folder(out, mark)
    if any(begun != unfinished for begun in out.glob(".unfinished-*")):
        raise UserError(
            f"{out}: begun with other recordings or settings and not finished; delete it to start afresh, "
            "or give another folder"
        )
    unfinished.mkdir(parents=True, exist_ok=True)
    for part in unfinished.glob("*.part"):
        part.unlink(missing_ok=True)
    return unfinished


def finish(
    out: Path,
    unfinished: Path,
    records: Sequence[ShardRecord],
    rejects: Sequence[Reject],
    sample_rate: int,
    frame_size: int,
    mark: str,
) -> Manifest:
    """Write rejects.txt and, last of all, manifest.json.

    Raises:
        UserError: nothing is left to train on.
    """
    part = unfinished / "rejects.txt"
    write_rejects(part, rejects)
    part.replace(out / "rejects.txt")
    corpus = Moments()
    for record in records:
        if record.split == "train":
            corpus = corpus.merge(record.moments)
    if not corpus.count or not corpus.deviation:
        shutil.rmtree(unfinished, ignore_errors=True)
        problem = "no training utterance is usable" if not corpus.count else "the training part is silent"
        raise UserError(f"{out}: {problem}; {out / 'rejects.txt'} lists {len(rejects)} that were left out")
    splits = {split: split_manifest([one for one in records if one.split == split]) for split in SPLITS}
    manifest = Manifest(
        format_version=FORMAT_VERSION,
        frame_size=frame_size,
        sample_rate=sample_rate,
        mean=corpus.mean,
        deviation=corpus.deviation,
        splits={split: held for split, held in splits.items() if held.utterances},
        fingerprint=mark,
    )
    part = unfinished / "manifest.json"
    write_whole(part, manifest.to_json())
    part.replace(out / "manifest.json")
    shutil.rmtree(unfinished, ignore_errors=True)
    return manifest


def split_manifest(records: Sequence[ShardRecord]) -> SplitManifest:
    """What the shards of one split hold together."""
    return SplitManifest(
        shards=[Shard(one.name, one.sha256, one.utterances, one.frames) for one in records if one.utterances],
        utterances=sum(one.utterances for one in records),
        frames=sum(one.frames for one in records),
        dropped_samples=sum(one.dropped_samples for one in records),
        speakers=len({speaker for one in records for speaker in one.speakers}),
    )


def summary(out: Path, manifest: Manifest, rejected: int) -> str:
    """What was made, in a few lines."""
    lines = []
    for name, split in manifest.splits.items():
        minutes = split.frames * manifest.frame_size / manifest.sample_rate / 60
        lines.append(
            f"{name}: {split.utterances} utterances, {split.speakers} speakers, {split.frames} frames, "
            f"{minutes:.1f} minutes, {len(split.shards)} shards"
        )
    lines.append(f"training samples: mean {manifest.mean:.4g}, deviation {manifest.deviation:.4g}")
    lines.append(f"rejected: {rejected}" + (f", listed in {out / 'rejects.txt'}" if rejected else ""))
    lines.append(f"written: {out / 'manifest.json'}")
    return "\n".join(lines)
