"""What a folder of shards holds: `manifest.json`, and how its files are opened, on disk or at a URL."""

import contextlib
import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import IO, Any

from zfaudio.errors import UserError

FORMAT_VERSION = 1


@dataclass(frozen=True)
class Shard:
    """One tar file of utterances."""

    name: str  # file name inside the folder of shards
    sha256: str
    utterances: int
    frames: int


@dataclass(frozen=True)
class SplitManifest:
    """One split: its shards in order and what they hold together."""

    shards: list[Shard]
    utterances: int
    frames: int
    dropped_samples: int  # samples after the last whole frame of each utterance
    speakers: int


@dataclass(frozen=True)
class Manifest:
    """What the shards hold. Splits without utterances are left out."""

    format_version: int
    frame_size: int  # samples a frame
    sample_rate: int  # Hz
    mean: float  # of the training part's samples, in units of the 16-bit samples
    deviation: float  # likewise
    splits: dict[str, SplitManifest] = field(default_factory=dict)
    fingerprint: str = ""  # of the settings and the list of recordings that the shards were made from

    def split(self, name: str) -> SplitManifest:
        """The split of that name.

        Raises:
            UserError: the shards have no such split.
        """
        if name not in self.splits:
            raise UserError(f"the shards hold no split {name!r}; they hold {', '.join(self.splits) or 'none'}")
        return self.splits[name]

    def to_json(self) -> str:
        """The text of manifest.json."""
        return json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str, where: str = "manifest.json") -> "Manifest":
        """Read what `to_json` wrote.

        Raises:
            UserError: the text is no manifest, is of another format version, or names files outside its folder.
        """
        try:
            fields = json.loads(text)
            if fields["format_version"] != FORMAT_VERSION:
                raise UserError(
                    f"{where}: shards of format version {fields['format_version']}, but this zfaudio reads "
                    f"version {FORMAT_VERSION}; make the shards again with `zfaudio shard`"
                )
            splits = {name: _split_from_dict(split) for name, split in fields.pop("splits").items()}
            manifest = cls(**fields, splits=splits)
            sound = manifest.frame_size > 0 and manifest.sample_rate > 0 and manifest.deviation > 0
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{where}: not a manifest of shards ({error})") from None
        if not sound:
            raise UserError(f"{where}: frame_size, sample_rate and deviation must be positive")
        return manifest


def _split_from_dict(fields: dict[str, Any]) -> SplitManifest:
    shards = [Shard(**shard) for shard in fields.pop("shards")]
    for shard in shards:
        # The name is joined to the folder's address: it must not lead anywhere else.
        if not re.fullmatch(r"[\w.-]+\.tar", shard.name):
            raise ValueError(f"{shard.name!r} is not the name of a shard")
    return SplitManifest(shards=shards, **fields)


@contextlib.contextmanager
def open_file(location: str, name: str) -> Iterator[IO[bytes]]:
    """Open a file of a folder of shards for reading.

    Args:
        location: the folder, local or at any address that fsspec knows (http://, s3://, ...).
        name: file name inside it.

    Raises:
        UserError: the file is not there or cannot be opened.
    """
    import fsspec  # here, since those that make shards open none
    from fsspec.implementations.local import LocalFileSystem

    url = f"{location.rstrip('/')}/{name}"
    try:
        filesystem, path = fsspec.url_to_fs(url)
        if isinstance(filesystem, LocalFileSystem):
            # Not fsspec's wrapper of the same file, through which tarfile's many short reads take half as long again.
            stream = open(path, "rb", buffering=1 << 20)  # noqa: SIM115
        else:
            # Over http a file is read in one request, from front to end: not every server can send parts of one.
            options = {"block_size": 0} if "http" in filesystem.protocol else {}
            stream = filesystem.open(path, "rb", **options)
    except FileNotFoundError as error:
        # fsspec says the same of a server that does not answer, but keeps the reason.
        cause = error.__cause__
        if cause is None or isinstance(cause, FileNotFoundError):
            raise UserError(f"{url}: no such file; `zfaudio shard` makes shards") from None
        raise UserError(f"{url}: cannot be opened ({cause})") from None
    except Exception as error:
        # What file systems raise (no such protocol, host, bucket, permission) is of no common class.
        raise UserError(f"{url}: cannot be opened ({error})") from None
    with stream:
        yield stream


def read_manifest(location: str) -> Manifest:
    """Read manifest.json of a folder of shards, local or at an fsspec address.

    Raises:
        UserError: there is no manifest or it does not make sense.
    """
    where = f"{location.rstrip('/')}/manifest.json"
    with open_file(location, "manifest.json") as stream:
        try:
            text = stream.read().decode()
        except Exception as error:
            raise UserError(f"{where}: cannot be read ({error})") from None
    return Manifest.from_json(text, where)


def sha256(stream: IO[bytes]) -> str:
    """SHA-256 of what is left of a stream, in hexadecimal."""
    digest = hashlib.sha256()
    while block := stream.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()


def check_shards(location: str, manifest: Manifest, splits: Iterable[str] | None = None) -> None:
    """Compare shards with the manifest's SHA-256. Reads them all: about a second a GB from a local disk.

    Args:
        location: folder or address of the shards.
        manifest: their manifest.
        splits: whose shards; all splits when left out.

    Raises:
        UserError: no such split, or a shard is missing or is not the one that was written.
    """
    for split in manifest.splits if splits is None else splits:
        for shard in manifest.split(split).shards:
            with open_file(location, shard.name) as stream:
                found = sha256(stream)
            if found != shard.sha256:
                raise UserError(
                    f"{location.rstrip('/')}/{shard.name}: damaged (its SHA-256 is not the manifest's); "
                    "copy it again or make the shards again with `zfaudio shard`"
                )
