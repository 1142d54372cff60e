"""Read and check the manifest of a folder of shards, and open the folder's files, on disk or at a URL."""

import contextlib
import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

from zfaudio.errors import UserError

FORMAT_VERSION = 1


@dataclass(frozen=True)
class Shard:
    """A tar file of utterances, as it is listed in the manifest."""

    name: str  # of the file, inside the folder of shards
    sha256: str
    utterances: int
    frames: int


@dataclass(frozen=True)
class SplitManifest:
    """The shards of one split, in order, and what they hold in total."""

    shards: list[Shard]
    utterances: int
    frames: int
    dropped_samples: int  # samples after the last whole frame of each utterance
    speakers: int


@dataclass(frozen=True)
class Manifest:
    """What a folder of shards holds."""

    format_version: int
    frame_size: int  # samples per frame
    sample_rate: int  # Hz
    mean: float  # of the training samples, in units of 16-bit samples
    deviation: float  # standard deviation of the training samples, in the same units
    splits: dict[str, SplitManifest] = field(default_factory=dict)  # by name, without empty splits
    fingerprint: str = ""  # hash of the settings and recordings that the shards were made from

    def split(self, name: str) -> SplitManifest:
        """Return the split with a name.

        Raises:
            UserError: there is no such split.
        """
        if name not in self.splits:
            raise UserError(f"the shards hold no split {name!r}; they hold {', '.join(self.splits) or 'none'}")
        return self.splits[name]

    def to_json(self) -> str:
        """Return the text of manifest.json."""
        return json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str, path: str = "manifest.json") -> "Manifest":
        """Read what `to_json` returned.

        Args:
            text: the text of manifest.json.
            path: where it was read from, for error messages.

        Raises:
            UserError: the text is not a manifest, has another format version, or names files outside its folder.
        """
        try:
            fields = json.loads(text)
            if fields["format_version"] != FORMAT_VERSION:
                raise UserError(
                    f"{path}: the shards have format version {fields['format_version']}, but this zfaudio reads "
                    f"version {FORMAT_VERSION}; make the shards again with `zfaudio shard`"
                )
            splits = {name: _split_from_dict(split) for name, split in fields.pop("splits").items()}
            manifest = cls(**fields, splits=splits)
            positive = manifest.frame_size > 0 and manifest.sample_rate > 0 and manifest.deviation > 0
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{path}: not a manifest of shards ({error})") from None
        if not positive:
            raise UserError(f"{path}: frame_size, sample_rate and deviation must be positive")
        return manifest


def _split_from_dict(fields: dict[str, Any]) -> SplitManifest:
    shards = [Shard(**shard) for shard in fields.pop("shards")]
    for shard in shards:
        # The name is appended to the folder's address, so it must not lead out of the folder.
        if not re.fullmatch(r"[\w.-]+\.tar", shard.name):
            raise ValueError(f"{shard.name!r} is not the name of a shard")
    return SplitManifest(shards=shards, **fields)


@contextlib.contextmanager
def open_file(location: str | Path, name: str) -> Iterator[IO[bytes]]:
    """Open a file of a folder of shards for reading.

    Args:
        location: path of the folder, or an address that fsspec knows (http://, s3://, ...).
        name: name of the file inside it.

    Raises:
        UserError: the file does not exist or cannot be opened.
    """
    import fsspec  # here, because making shards does not need it
    from fsspec.implementations.local import LocalFileSystem

    url = join_location(location, name)
    try:
        filesystem, path = fsspec.url_to_fs(url)
        if isinstance(filesystem, LocalFileSystem):
            # Through fsspec's wrapper of a local file, tarfile's many short reads take 1.5 times as long.
            stream = open(path, "rb", buffering=1 << 20)  # noqa: SIM115
        else:
            # Over HTTP, read the file in one request from start to end: not every server can send parts of a file.
            options = {"block_size": 0} if "http" in filesystem.protocol else {}
            stream = filesystem.open(path, "rb", **options)
    except FileNotFoundError as error:
        # fsspec raises the same error if a server does not answer, but with the reason as its cause.
        cause = error.__cause__
        if cause is None or isinstance(cause, FileNotFoundError):
            raise UserError(f"{url}: no such file; `zfaudio shard` makes shards") from None
        raise UserError(f"{url}: cannot be opened ({cause})") from None
    except Exception as error:
        # The errors of file systems (unknown protocol, host or bucket, no permission) have no common class.
        raise UserError(f"{url}: cannot be opened ({error})") from None
    with stream:
        yield stream


def join_location(location: str | Path, name: str) -> str:
    """Return the path or address of a file in a folder of shards."""
    return f"{str(location).rstrip('/')}/{name}"


def read_manifest(location: str | Path) -> Manifest:
    """Read manifest.json of a folder of shards.

    Args:
        location: path of the folder, or an address that fsspec knows.

    Raises:
        UserError: there is no manifest, or it is not valid.
    """
    path = join_location(location, "manifest.json")
    with open_file(location, "manifest.json") as stream:
        try:
            text = stream.read().decode()
        except Exception as error:
            raise UserError(f"{path}: cannot be read ({error})") from None
    return Manifest.from_json(text, path)


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
