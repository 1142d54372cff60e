"""Whether shards fit a trained model."""

from zfaudio.data.manifest import check_same_vocabulary, read_manifest
from zfaudio.errors import UserError
from zfaudio.experiment.checkpoint import Checkpoint
from zfaudio.observations import describe


def check_shards_fit(trained: Checkpoint, location: str, split: str) -> None:
    """Raises UserError if the model cannot score these shards, or if they have no such split."""
    manifest = read_manifest(location)
    if manifest.kind != trained.manifest.kind:
        raise UserError(
            f"{location}: shards of {describe(manifest.kind)}, but {trained.path} was trained on "
            f"{describe(trained.manifest.kind)}; give shards of those"
        )
    if manifest.encoding != trained.manifest.encoding:
        raise UserError(
            f"{location}: shards of encoding {manifest.encoding}, but {trained.path} was trained on "
            f"{trained.manifest.encoding}; make them again with zfaudio shard --encoding {trained.manifest.encoding}"
        )
    check_same_vocabulary(
        location, manifest, trained.manifest, f"make the shards with the vocabulary that {trained.path} was trained on"
    )
    for name in ("frame_size", "sample_rate", "image_size"):
        trained_with, found = getattr(trained.manifest, name), getattr(manifest, name)
        if trained_with != found:
            raise UserError(
                f"{location}: shards of {name} {found}, but {trained.path} was trained at {trained_with}; "
                + (
                    f"make them again with zfaudio shard --{name.replace('_', '-')} {trained_with}"
                    if manifest.kind == "waveform"
                    else f"make them again at {trained_with}"
                )
            )
    manifest.split(split)
