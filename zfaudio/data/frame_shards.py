"""Write shards of frames that come from no recording: pictures, or sentences."""

import hashlib
import json
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from pathlib import Path

import numpy as np

from zfaudio.data.manifest import FORMAT_VERSION, Manifest, Shard, SplitManifest, read_manifest
from zfaudio.data.shard_format import FramedUtterance, write_shard
from zfaudio.data.shard_writer import explain_full_disk
from zfaudio.errors import UserError
from zfaudio.files import whole_file, write_text
from zfaudio.folder_lock import locked_folder
from zfaudio.observations import Kind, value_fault
from zfaudio.text import printable

UNFINISHED = ".unfinished-frames"  # folder inside OUT


def write_frame_shards(
    out: str | Path,
    splits: Mapping[str, Iterable[FramedUtterance]],
    *,
    kind: Kind,
    frame_size: int,
    vocabulary: Sequence[str] = (),
    image_size: tuple[int, int] | None = None,
    utterances_per_shard: int = 1000,
) -> Manifest:
    """Write shards with a manifest. The same frames always give the same files.

    Every shard appears under its name whole or not at all, and the manifest after all of them. If OUT holds the same
    shards already, nothing changes.

    Args:
        out: folder for the shards and manifest.json.
        splits: the utterances of train, and of valid and test if there are any. They are read once, in order. Those of
            train should come in random order: training draws from a buffer of `data.shuffle_utterances`.
        kind: binary or tokens.
        frame_size: values per frame; 1 for tokens.
        vocabulary: of tokens, the words by id; it begins with <s>, </s> and <unk>.
        image_size: of binary frames, rows and columns of the picture that the frames of each utterance make.
        utterances_per_shard: number of utterances per tar file.

    Returns:
        The manifest of the shards.

    Raises:
        UserError: a frame holds a value that its kind does not have, an utterance does not fit or its id is wrong or
            used twice, nothing is left to train on, OUT holds other shards, or the disk is full.
    """
    out = Path(out).absolute()
    if out.exists() and not out.is_dir():
        raise UserError(f"{out}: not a folder")
    if utterances_per_shard < 1:
        raise UserError(f"utterances_per_shard is {utterances_per_shard}; it must be at least 1")
    picture = None if image_size is None else list(image_size)
    try:
        empty = Manifest(
            FORMAT_VERSION, frame_size, kind=kind, vocabulary=list(vocabulary), image_size=picture, splits={}
        )
    except ValueError as error:
        raise UserError(f"{out}: {printable(str(error))}") from None
    unfinished = out / UNFINISHED
    try:
        with locked_folder(unfinished, "writing shards"):
            checked = CheckedUtterances(empty)
            made = {
                split: write_split(unfinished, split, checked.of(split, utterances), utterances_per_shard)
                for split, utterances in splits.items()
            }
            made = {name: split for name, split in made.items() if split.utterances}
            if "train" not in made:
                raise UserError(f"{out}: nothing to train on")
            manifest = with_splits(empty, made)
            if not is_finished(out, manifest):
                for split in made.values():
                    for shard in split.shards:
                        (unfinished / shard.name).replace(out / shard.name)
                write_text(out / "manifest.json", manifest.to_json())
    except OSError as error:
        raise explain_full_disk(out, error) from None
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return manifest


class CheckedUtterances:
    """Sees that utterances are what the manifest of their shards says, and counts their speakers."""

    def __init__(self, manifest: Manifest) -> None:
        self.manifest = manifest
        self.ids: set[str] = set()

    def of(self, split: str, utterances: Iterable[FramedUtterance]) -> Iterator[FramedUtterance]:
        """Yield the utterances of a split. Raises UserError for the first one that is wrong."""
        for utterance in utterances:
            if fault := self.fault(utterance):
                raise UserError(f"{split}: {printable(utterance.id)}: {fault}")
            self.ids.add(utterance.id)
            yield utterance

    def fault(self, utterance: FramedUtterance) -> str:
        """What is wrong with an utterance; empty if nothing is."""
        size, image_size = self.manifest.frame_size, self.manifest.image_size
        frames = utterance.frames
        if not utterance.id.isprintable() or utterance.id.split() != [utterance.id] or "/" in utterance.id:
            return "an id must be printable, without blanks or slashes"
        if utterance.id in self.ids:
            return "there are two utterances of this id"
        if frames.dtype != np.int16 or frames.ndim != 2 or frames.shape[1] != size or not len(frames):
            return f"frames are {frames.dtype} {list(frames.shape)}, not int16 [frames, {size}]"
        if utterance.samples != frames.size:
            return f"samples is {utterance.samples}, but the frames hold {frames.size} values"
        if image_size is not None and frames.size != image_size[0] * image_size[1]:
            return f"{frames.size} pixels, but pictures of {image_size[0]} x {image_size[1]}"
        return value_fault(frames, self.manifest.observation)


def write_split(folder: Path, split: str, utterances: Iterator[FramedUtterance], per_shard: int) -> SplitManifest:
    """Write the shards of one split, and return what they hold."""
    shards: list[Shard] = []
    speakers: set[str] = set()
    while (first := next(utterances, None)) is not None:
        name, counts = f"{split}-{len(shards):06d}.tar", [0, 0]

        def counted(part: Iterable[FramedUtterance], counts: list[int] = counts) -> Iterator[FramedUtterance]:
            for utterance in part:
                counts[0] += 1
                counts[1] += len(utterance.frames)
                speakers.add(utterance.speaker)
                yield utterance

        with whole_file(folder / name) as part, part.open("wb") as stream:
            digest = write_shard(stream, counted(chain([first], islice(utterances, per_shard - 1))))
        shards.append(Shard(name, digest, *counts))
    utterances_written = sum(shard.utterances for shard in shards)
    return SplitManifest(shards, utterances_written, sum(shard.frames for shard in shards), 0, len(speakers))


def with_splits(manifest: Manifest, splits: dict[str, SplitManifest]) -> Manifest:
    """The manifest with its splits, and with a hash of all that the shards hold as its fingerprint."""
    contents = [[shard.sha256 for shard in split.shards] for split in splits.values()]
    described = [manifest.kind, manifest.frame_size, manifest.vocabulary, manifest.image_size, list(splits), contents]
    return Manifest(
        manifest.format_version,
        manifest.frame_size,
        kind=manifest.kind,
        vocabulary=manifest.vocabulary,
        image_size=manifest.image_size,
        splits=splits,
        fingerprint=hashlib.sha256(json.dumps(described).encode()).hexdigest(),
    )


def is_finished(out: Path, manifest: Manifest) -> bool:
    """Whether OUT holds these very shards. Raises UserError if it holds others."""
    if not (out / "manifest.json").exists():
        return False
    if read_manifest(out).fingerprint != manifest.fingerprint:
        raise UserError(f"{out}: holds other shards; delete it, or give another folder")
    return all((out / shard.name).exists() for split in manifest.splits.values() for shard in split.shards)
