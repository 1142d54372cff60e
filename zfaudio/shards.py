"""`zfaudio shard`: a data directory or a folder of audio becomes WebDataset shards."""

from zfaudio.manifest import Manifest, Shard, SplitManifest, check_shards, read_manifest
from zfaudio.shard_files import FramedUtterance, read_utterances

__all__ = [
    "FramedUtterance",
    "Manifest",
    "Shard",
    "SplitManifest",
    "check_shards",
    "read_manifest",
    "read_utterances",
    "shard",
]


def shard() -> None:
    """Placeholder of the command."""
    raise NotImplementedError
