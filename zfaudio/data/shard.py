"""`zfaudio shard`: cut data directories, manifests of lhotse or a folder of audio into WebDataset shards."""

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from zfaudio.config import FolderConfig
from zfaudio.corpus.kaldi import Reject, Utterance, write_rejects
from zfaudio.corpus.kaldi_tables import is_pipe, split_offset
from zfaudio.corpus.parallel import run_parallel
from zfaudio.corpus.splits import SPLITS
from zfaudio.data.frames import Moments
from zfaudio.data.manifest import (
    FORMAT_VERSION,
    HIGHEST_SAMPLE_RATE,
    LARGEST_FRAME_SIZE,
    Manifest,
    Shard,
    SplitManifest,
    read_manifest,
)
from zfaudio.data.shard_source import list_utterances
from zfaudio.data.shard_summary import find_duplicates, summarize, write_duplicates
from zfaudio.data.shard_writer import (
    FrameSettings,
    ShardPlan,
    ShardRecord,
    explain_full_disk,
    make_shard,
)
from zfaudio.errors import UserError
from zfaudio.files import write_text
from zfaudio.folder_lock import locked_folder
from zfaudio.observations import Encoding

DEFAULT_FOLDER = FolderConfig()


def shard(
    source: str | Path | None,
    out: str | Path,
    *,
    sample_rate: int = 16000,
    frame_size: int = 200,
    utterances_per_shard: int = 256,
    nj: int = 1,
    dask: str = "",
    strict: bool = False,
    allow_pipes: bool = False,
    seed: int = 0,
    channel: int | None = None,
    encoding: Encoding = "linear",
    train: str = "",
    valid: str = "",
    test: str = "",
    folder: FolderConfig = DEFAULT_FOLDER,
) -> Manifest:
    """Cut recordings into frames and write them as WebDataset shards with a manifest.

    If a run is stopped, the same command continues it. If the shards are finished already, nothing is done. Recordings
    that cannot be used are left out and listed in OUT/rejects.txt. Utterances with the same audio are used, and listed
    in OUT/duplicates.txt.

    Args:
        source: folder with train, valid (or dev, cv) and test (or eval), each in Kaldi's form (wav.scp, utt2spk) or in
            lhotse's (recordings.jsonl and supervisions.jsonl, or cuts.jsonl; also .jsonl.gz); or a single one of these
            folders or manifests; or any folder of audio. The latter two are split into train, valid and test by
            speaker. To be left out if train, valid and test are paths of their own.
        out: folder for the shards, manifest.json and rejects.txt.
        sample_rate: rate in Hz to which recordings are resampled.
        frame_size: number of samples per frame.
        utterances_per_shard: number of utterances per tar file.
        nj: number of processes, -1 for one per core.
        dask: address of a Dask scheduler to use instead of processes. Its workers must see the same files.
        strict: stop at the first recording that cannot be used.
        allow_pipes: run entries of wav.scp that are commands.
        seed: seed of the order in which training utterances are put into shards.
        channel: channel to use of recordings with several, counted from 0, where the data directory does not choose
            one. By default it is the mean of all channels.
        encoding: linear keeps the 16 bits of each sample; mulaw makes it the nearest of the 256 levels of 8-bit mu-law,
            for model.likelihood mulaw.
        train: the data directory, manifest or folder of audio inside SOURCE that is the training split. Without SOURCE,
            the path of a data directory or manifest; splits that are not given are cut off it.
        valid: the same for the validation split.
        test: the same for the test split.
        folder: how to split a folder of audio and cut its long recordings.

    Returns:
        The manifest of the shards.

    Raises:
        UserError: there is nothing to train on, an option is out of range, the folder holds other shards, the disk is
            full, or with `strict` a recording cannot be used.
    """
    for option, value, largest in (
        ("--sample-rate", sample_rate, HIGHEST_SAMPLE_RATE),
        ("--frame-size", frame_size, LARGEST_FRAME_SIZE),
        ("--utterances-per-shard", utterances_per_shard, sys.maxsize),
    ):
        if not 1 <= value <= largest:
            raise UserError(f"{option} {value}: must be at least 1 and at most {largest}")
    if channel is not None and channel < 0:
        raise UserError(f"--channel {channel}: channels are counted from 0")
    source, out = Path(source) if source else None, Path(out).absolute()
    parts = {split: name for split, name in zip(SPLITS, (train, valid, test), strict=True) if name}
    splits, rejects = list_utterances(source, folder, parts, nj, dask, strict, allow_pipes)
    if not splits["train"]:
        raise UserError(f"{source or train}: no training utterances; --train names the folder that holds them")
    options = [FORMAT_VERSION, sample_rate, frame_size, utterances_per_shard, seed]
    options += [] if channel is None else [channel]
    fingerprint = compute_fingerprint(options if encoding == "linear" else [*options, encoding], splits)
    finished = read_finished_manifest(out, fingerprint)
    if finished is not None:
        print(f"{out}: already finished")
        return finished
    plans = plan_shards(splits, utterances_per_shard, seed)
    settings = FrameSettings(sample_rate, frame_size, allow_pipes, strict, channel, encoding)
    try:
        unfinished = prepare_output(out, fingerprint)
        with locked_folder(unfinished, "zfaudio shard"):
            delete_half_written(unfinished)
            make = partial(make_shard, out=out, unfinished=unfinished, settings=settings)
            records = list(run_parallel(make, plans, nj, dask, "sharding"))
            rejects = rejects + [reject for record in records for reject in record.rejects]
            if strict and rejects:  # an earlier run without --strict may have left them out
                raise UserError(f"{rejects[0].file}: {rejects[0].id}: {rejects[0].reason} (--strict)")
            duplicates = find_duplicates(records)
            write_duplicates(out / "duplicates.txt", duplicates)
            manifest = write_manifest(out, unfinished, records, rejects, settings, fingerprint)
    except OSError as error:
        raise explain_full_disk(out, error) from None
    print(summarize(out, manifest, records, len(rejects), duplicates))
    return manifest


def compute_fingerprint(settings: Sequence[int | str], splits: Mapping[str, Sequence[Utterance]]) -> str:
    """Hash everything that determines what the shards hold. The folders of the recordings are not part of it."""
    sizes: dict[str, int | None] = {}

    def size(recording: str) -> int | None:
        if recording not in sizes:
            path = split_offset(recording)[0]
            is_file = not is_pipe(recording) and os.path.isfile(path)
            sizes[recording] = os.path.getsize(path) if is_file else None
        return sizes[recording]

    digest = hashlib.sha256(json.dumps(list(settings)).encode())
    for split, utterances in splits.items():
        for utterance in utterances:
            name = os.path.basename(utterance.recording)
            row: tuple[str | float | None, ...] = (
                split,
                utterance.id,
                utterance.speaker,
                utterance.start,
                utterance.end,
                name,
                size(utterance.recording),
            )
            if utterance.channel is not None or utterance.side is not None:
                row = (*row, utterance.channel, utterance.side)
            digest.update(json.dumps(row).encode())
    return digest.hexdigest()


def plan_shards(splits: Mapping[str, Sequence[Utterance]], utterances_per_shard: int, seed: int) -> list[ShardPlan]:
    """Assign utterances to shards. Training utterances are shuffled first, so that each shard has many speakers."""

    def shuffled_position(utterance: Utterance) -> bytes:
        return hashlib.sha256(f"{seed} {utterance.id}".encode()).digest()

    plans = []
    for split, utterances in splits.items():
        if split == "train":
            utterances = sorted(utterances, key=shuffled_position)
        for number, first in enumerate(range(0, len(utterances), utterances_per_shard)):
            part = utterances[first : first + utterances_per_shard]
            plans.append(ShardPlan(split, f"{split}-{number:06d}.tar", part))
    return plans


def read_finished_manifest(out: Path, fingerprint: str) -> Manifest | None:
    """Read the manifest if an earlier run of the same command has finished, else return None.

    Raises:
        UserError: the folder holds other shards, or some shards are missing.
    """
    if not (out / "manifest.json").exists():
        return None
    manifest = read_manifest(out)
    if manifest.fingerprint != fingerprint:
        raise UserError(f"{out}: holds shards of other recordings or settings; delete it, or give another folder")
    for split in manifest.splits.values():
        for entry in split.shards:
            if not (out / entry.name).exists():
                raise UserError(f"{out / entry.name}: missing; delete {out / 'manifest.json'} to make the shards again")
    # A run that was killed just after it wrote the manifest may have left this folder.
    shutil.rmtree(unfinished_folder(out, fingerprint), ignore_errors=True)
    return manifest


def unfinished_folder(out: Path, fingerprint: str) -> Path:
    """Return the folder for unfinished files. It is inside OUT, so that it is on the same file system."""
    return out / f".unfinished-{fingerprint[:16]}"


def prepare_output(out: Path, fingerprint: str) -> Path:
    """Create OUT and the folder for unfinished files, or find those of a stopped run. Returns the latter folder.

    Raises:
        UserError: OUT is not a folder, or holds an unfinished run with other recordings or settings.
    """
    if out.exists() and not out.is_dir():
        raise UserError(f"{out}: not a folder")
    unfinished = unfinished_folder(out, fingerprint)
    if any(found != unfinished for found in out.glob(".unfinished-*")):
        raise UserError(
            f"{out}: holds an unfinished run with other recordings or settings; delete it to start again, "
            "or give another folder"
        )
    unfinished.mkdir(parents=True, exist_ok=True)
    return unfinished


def delete_half_written(unfinished: Path) -> None:
    """Delete the files that a killed run was writing."""
    for part in [*unfinished.glob("*.part"), *unfinished.glob(".part-*")]:
        part.unlink(missing_ok=True)


def write_manifest(
    out: Path,
    unfinished: Path,
    records: Sequence[ShardRecord],
    rejects: Sequence[Reject],
    settings: FrameSettings,
    fingerprint: str,
) -> Manifest:
    """Write rejects.txt and then manifest.json, which marks the run as finished.

    Raises:
        UserError: nothing is left to train on.
    """
    part = unfinished / "rejects.txt"
    write_rejects(part, rejects)
    part.replace(out / "rejects.txt")
    training = Moments()
    for record in records:
        if record.split == "train":
            training = training.merge(record.moments)
    if not training.count or not training.deviation:
        shutil.rmtree(unfinished, ignore_errors=True)
        problem = "all training recordings are silent" if training.count else "no training utterance is usable"
        if training.count and any(record.weak_mixes for record in records):
            problem = "the channels of the training recordings cancel each other out (--channel 0 uses the first one)"
        raise UserError(f"{out}: {problem}; {out / 'rejects.txt'} lists the {len(rejects)} that were left out")
    splits = {split: summarize_split([record for record in records if record.split == split]) for split in SPLITS}
    manifest = Manifest(
        format_version=FORMAT_VERSION,
        frame_size=settings.frame_size,
        sample_rate=settings.sample_rate,
        mean=training.mean,
        deviation=training.deviation,
        splits={name: split for name, split in splits.items() if split.utterances},
        fingerprint=fingerprint,
        encoding=settings.encoding,
    )
    write_text(out / "manifest.json", manifest.to_json())
    shutil.rmtree(unfinished, ignore_errors=True)
    return manifest


def summarize_split(records: Sequence[ShardRecord]) -> SplitManifest:
    """Add up what the shards of one split hold."""
    return SplitManifest(
        shards=[
            Shard(record.name, record.sha256, record.utterances, record.frames)
            for record in records
            if record.utterances
        ],
        utterances=sum(record.utterances for record in records),
        frames=sum(record.frames for record in records),
        dropped_samples=sum(record.dropped_samples for record in records),
        speakers=len({speaker for record in records for speaker in record.speakers}),
    )
