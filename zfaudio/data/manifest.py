"""The manifest of a folder of shards: what the shards hold, and how they were made."""

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields
from itertools import zip_longest
from pathlib import Path
from typing import IO, Any

from zfaudio.config import DataConfig
from zfaudio.data.storage import join_location, open_file
from zfaudio.errors import UserError
from zfaudio.observations import (
    Binary,
    Encoding,
    Kind,
    MuLaw,
    Observation,
    Quantizer,
    Tokens,
    describe,
    vocabulary_fault,
)
from zfaudio.typed_json import parse_json

FORMAT_VERSION = 1

# A file that declares more than these is damaged. The model's memory grows with the first, figures' with the second.
LARGEST_FRAME_SIZE = 1 << 16
HIGHEST_SAMPLE_RATE = 10_000_000

FULL_SCALE = 32768  # largest 16-bit sample
SMALLEST_DEVIATION = 1e-6  # that of one sample of 1 among 10**12 of 0

# Bytes of manifest.json; a shard takes some 200.
LARGEST_MANIFEST = 1 << 28

# The manifest is the first file that a command reads: nothing is lost if it gives up on a dead server soon.
RETRY_MANIFEST = 5.0  # seconds


@dataclass(frozen=True)
class Shard:
    """A tar file of utterances, as it is listed in the manifest."""

    name: str  # of the file, inside the folder of shards
    sha256: str
    utterances: int
    frames: int

    def __post_init__(self) -> None:
        # The name is appended to the folder's address, so it must not lead out of the folder.
        if not re.fullmatch(r"[\w.-]+\.tar", self.name):
            raise ValueError(f"name is {self.name!r}, not the name of a shard")
        if not re.fullmatch(r"([0-9a-f]{64})?", self.sha256):
            raise ValueError(f"sha256 is {self.sha256!r}, not a SHA-256")
        _require_counts(self, "utterances", "frames")


@dataclass(frozen=True)
class SplitManifest:
    """The shards of one split, in order, and what they hold in total."""

    shards: list[Shard]
    utterances: int
    frames: int
    dropped_samples: int  # samples after the last whole frame of each utterance
    speakers: int

    def __post_init__(self) -> None:
        _require_counts(self, "utterances", "frames", "dropped_samples", "speakers")
        for name in ("utterances", "frames"):
            total = sum(getattr(shard, name) for shard in self.shards)
            if getattr(self, name) != total:
                raise ValueError(f"{name} is {getattr(self, name)}, but the shards have {total}")


@dataclass(frozen=True)
class Waveform:
    """What a manifest says of recordings."""

    sample_rate: int  # Hz
    mean: float  # of the training samples, in units of 16-bit samples
    deviation: float  # standard deviation of the training samples, in the same units


OF_RECORDINGS = tuple(each.name for each in fields(Waveform))


@dataclass(frozen=True)
class Manifest:
    """What a folder of shards holds.

    The fields of `Waveform` are of recordings alone, `vocabulary` of tokens, and `image_size` of binary frames. Those
    that others have are left out of the file.
    """

    format_version: int
    frame_size: int  # samples, pixels or ids per frame
    sample_rate: int | None = None
    mean: float | None = None
    deviation: float | None = None
    splits: dict[str, SplitManifest] = field(default_factory=dict)  # by name, without empty splits
    fingerprint: str = ""  # hash of the settings and recordings that the shards were made from
    kind: Kind = "waveform"  # what a frame holds
    vocabulary: list[str] = field(default_factory=list)  # the position of a word is its id
    image_size: list[int] | None = None  # rows and columns of the picture that the frames of an utterance make
    encoding: Encoding = "linear"  # of the samples of recordings; mulaw: each is a level of 8-bit mu-law

    def __post_init__(self) -> None:
        _require_size(self, "frame_size", LARGEST_FRAME_SIZE)
        if self.kind == "waveform":
            self._check_recordings()
        else:
            for name in OF_RECORDINGS:
                if getattr(self, name) is not None:
                    raise ValueError(f"{name} is {getattr(self, name)}; {describe(self.kind)} have none")
        if self.kind == "tokens":
            if fault := vocabulary_fault(self.vocabulary):
                raise ValueError(fault)
            if self.frame_size != 1:
                raise ValueError(f"frame_size is {self.frame_size}; a frame of tokens holds 1")
        elif self.vocabulary:
            raise ValueError(f"vocabulary has {len(self.vocabulary)} words; {describe(self.kind)} have none")
        if self.image_size is not None:
            if self.kind != "binary":
                raise ValueError(f"image_size is {self.image_size}; {describe(self.kind)} have none")
            if len(self.image_size) != 2 or not all(1 <= side <= LARGEST_FRAME_SIZE for side in self.image_size):
                raise ValueError(f"image_size is {self.image_size}, not rows and columns")
        if self.encoding != "linear" and self.kind != "waveform":
            raise ValueError(f"encoding is {self.encoding}; {describe(self.kind)} have none")
        if not re.fullmatch("[0-9a-f]*", self.fingerprint):
            raise ValueError(f"fingerprint is {self.fingerprint!r}, not a hash")
        for name in self.splits:
            if not re.fullmatch(r"[\w-]+", name):
                raise ValueError(f"splits has a split {name!r}, which is no name")
        names = [shard.name for split in self.splits.values() for shard in split.shards]
        if len(names) > len(set(names)):
            raise ValueError("splits list a shard twice")

    def _check_recordings(self) -> None:
        """Raises ValueError that names the first of the fields of recordings that is wrong."""
        for name, kind in (("sample_rate", "int"), ("mean", "float"), ("deviation", "float")):
            if getattr(self, name) is None:
                raise ValueError(f"{name} is None, not {kind}")
        _require_size(self, "sample_rate", HIGHEST_SAMPLE_RATE)
        if not abs(self.waveform.mean) <= FULL_SCALE:
            raise ValueError(f"mean is {self.mean}; no 16-bit samples have such a mean")
        if not SMALLEST_DEVIATION <= self.waveform.deviation <= FULL_SCALE:
            raise ValueError(f"deviation is {self.deviation}; it must be positive and at most {FULL_SCALE}")

    @property
    def waveform(self) -> Waveform:
        """What is known of recordings.

        Raises:
            UserError: the shards hold something else.
        """
        if self.sample_rate is None or self.mean is None or self.deviation is None:
            raise UserError(f"these shards hold {describe(self.kind)}; this needs shards of recordings")
        return Waveform(self.sample_rate, self.mean, self.deviation)

    @property
    def observation(self) -> Observation:
        """What a frame holds, for models and likelihoods."""
        if self.kind == "waveform":
            quantizer = MuLaw if self.encoding == "mulaw" else Quantizer
            return quantizer(self.waveform.mean, self.waveform.deviation)
        return Binary() if self.kind == "binary" else Tokens(len(self.vocabulary))

    def is_dequantized(self, data: DataConfig) -> bool:
        """Whether noise is added to what a model reads: to 16-bit samples, if the settings of the data want it."""
        return data.dequantize and self.kind == "waveform" and self.encoding == "linear"

    def split(self, name: str) -> SplitManifest:
        """Return the split with a name.

        Raises:
            UserError: there is no such split.
        """
        if name not in self.splits:
            raise UserError(f"the shards hold no split {name!r}; they hold {', '.join(self.splits) or 'none'}")
        return self.splits[name]

    def identity(self, *splits: str) -> str:
        """Return a hash of all that defines the batches of some splits: the samples, their order and their scale."""
        scale: list[Any] = [self.frame_size, self.sample_rate, self.mean, self.deviation]
        if self.kind != "waveform":
            scale += [self.kind, self.vocabulary, self.image_size]
        if self.encoding != "linear":
            scale += [self.encoding]
        shards = [[asdict(shard) for shard in self.splits[name].shards] for name in splits]
        return hashlib.sha256(json.dumps([scale, shards]).encode()).hexdigest()

    def to_json(self) -> str:
        """Return the text of manifest.json."""
        # What is not there is left out, so that earlier versions read the manifest of recordings.
        optional = {*OF_RECORDINGS, "vocabulary", "image_size", "encoding"}
        usual = {"encoding": "linear"}
        found = {
            name: value
            for name, value in asdict(self).items()
            if name not in optional or value not in (None, [], usual.get(name))
        }
        if self.kind == "waveform":
            del found["kind"]
        return json.dumps(found, indent=1, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str, path: str = "manifest.json") -> "Manifest":
        """Read what `to_json` returned.

        Args:
            text: the text of manifest.json.
            path: where it was read from, for error messages.

        Raises:
            UserError: the text is not a manifest, has a newer format version, or a field in it is missing, unknown, of
                another type, or has a value that no shards have; the message names the field.
        """
        remedy = "copy it again or make the shards again with `zfaudio shard`"
        return parse_json(cls, text, path, "a manifest of shards", FORMAT_VERSION, _require_recordings, remedy)


def _require_recordings(found: dict[str, Any], version: int) -> None:
    """Raises ValueError that names a field of recordings that is missing in the manifest of recordings."""
    for name in OF_RECORDINGS:
        if found.get("kind", "waveform") == "waveform" and name not in found:
            raise ValueError(f"field {name} is missing")


def _require_size(sizes: object, name: str, largest: int) -> None:
    """Raises ValueError if this field is not from 1 to `largest`."""
    if not 1 <= getattr(sizes, name) <= largest:
        raise ValueError(f"{name} is {getattr(sizes, name)}; it must be positive and at most {largest}")


def _require_counts(counts: object, *names: str) -> None:
    """Raises ValueError that names the first of these fields that is below 0."""
    for name in names:
        if getattr(counts, name) < 0:
            raise ValueError(f"{name} is {getattr(counts, name)}; it must be 0 or more")


def read_manifest(location: str | Path) -> Manifest:
    """Read manifest.json of a folder of shards.

    Args:
        location: path of the folder, or an address that fsspec knows.

    Raises:
        UserError: there is no manifest, or it is not valid.
    """
    path = join_location(location, "manifest.json")
    with open_file(location, "manifest.json", RETRY_MANIFEST) as stream:
        try:
            content = stream.read(LARGEST_MANIFEST + 1)
            if len(content) > LARGEST_MANIFEST:
                raise ValueError("too large for a manifest")
            text = content.decode()
        except UserError:
            raise
        except Exception as error:
            raise UserError(f"{path}: cannot be read ({error})") from None
    return Manifest.from_json(text, path)


def check_same_data(location: str | Path, manifest: Manifest, stopped: Manifest) -> None:
    """Compare the shards of a run that is to be resumed with those that it was stopped on.

    Args:
        location: path or address of the folder of shards.
        manifest: their manifest.
        stopped: the manifest of the run's shards when it was stopped.

    Raises:
        UserError: training or validation would not go on with the same samples on the same scale.
    """
    remedy = "resume with the shards of the stopped run, or start another experiment"
    for name in ("kind", "frame_size", *OF_RECORDINGS, "image_size", "encoding"):
        before, now = getattr(stopped, name), getattr(manifest, name)
        if before != now:
            raise UserError(f"{location}: {name} was {before} in the stopped run and is {now} now; {remedy}")
    check_same_vocabulary(location, manifest, stopped, remedy)
    for split in ("train", "valid"):
        before, now = (found.splits[split].shards if split in found.splits else [] for found in (stopped, manifest))
        changed = sum(old != new for old, new in zip_longest(before, now))
        if changed:
            raise UserError(
                f"{location}: {changed} of {max(len(before), len(now))} {split} shards are not those of the stopped "
                f"run; {remedy}"
            )


def check_same_vocabulary(location: str | Path, manifest: Manifest, trained: Manifest, remedy: str) -> None:
    """Compare the vocabulary of shards with the one that a model was trained on.

    Args:
        location: path or address of the folder of shards.
        manifest: their manifest.
        trained: the manifest of the shards that the model was trained on.
        remedy: what to do if they differ, for the message.

    Raises:
        UserError: an id stands for different words.
    """
    pairs = enumerate(zip_longest(trained.vocabulary, manifest.vocabulary))
    for id, (before, now) in pairs:
        if before != now:
            words = [repr(word) if word is not None else "nothing" for word in (now, before)]
            raise UserError(
                f"{location}: another vocabulary ({len(manifest.vocabulary)} words, {len(trained.vocabulary)} in "
                f"training; id {id} is {words[0]} here and was {words[1]} in training); {remedy}"
            )


def sha256(stream: IO[bytes]) -> str:
    """Compute the SHA-256 of the rest of a stream, in hexadecimal."""
    digest = hashlib.sha256()
    while block := stream.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()


def check_shards(location: str | Path, manifest: Manifest, splits: Iterable[str] | None = None) -> None:
    """Compare the SHA-256 of shards with the manifest. This reads them all: about a second per GB from a local disk.

    Args:
        location: path or address of the folder of shards.
        manifest: their manifest.
        splits: names of the splits to check, all by default.

    Raises:
        UserError: there is no such split, or a shard is missing or differs from the one that was written.
    """
    for split in manifest.splits if splits is None else splits:
        for shard in manifest.split(split).shards:
            with open_file(location, shard.name) as stream:
                digest = sha256(stream)
            if digest != shard.sha256:
                raise UserError(
                    f"{join_location(location, shard.name)}: damaged (its SHA-256 is not the manifest's); "
                    "copy it again or make the shards again with `zfaudio shard`"
                )
