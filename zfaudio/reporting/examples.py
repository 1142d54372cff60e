"""What a page shows of an experiment's samples, and the real thing beside it: sound, pictures or sentences."""

from pathlib import Path

import numpy as np

from zfaudio.data.manifest import Manifest, read_manifest
from zfaudio.errors import UserError
from zfaudio.generation.samples import Kind, Sample
from zfaudio.observations import Kind as FrameKind
from zfaudio.observations import describe
from zfaudio.reporting.clips import Clip, real_clips, sample_clip
from zfaudio.reporting.pictures_and_sentences import (
    Grid,
    Lines,
    real_pictures,
    real_sentences,
    sample_pictures,
    sample_sentences,
)

Example = Clip | Grid | Lines

FILES = 4  # of each kind
STEPS = 12  # of an interpolation of speech, which has a file for each


def real_examples(location: str, split: str, kind: FrameKind) -> list[Example]:
    """Real speech, pictures or sentences of a split of shards.

    Raises:
        UserError: the shards cannot be read, or hold frames of another kind.
    """
    manifest = read_manifest(location)
    if manifest.kind != kind:
        raise UserError(f"{location}: shards of {describe(manifest.kind)}, but the model is of {describe(kind)}")
    if kind == "binary":
        return [real_pictures(location, split, manifest)]
    if kind == "tokens":
        return [real_sentences(location, split, manifest)]
    return [*real_clips(location, split, FILES)]


def generated_examples(
    folder: Path, samples: dict[str, Sample], manifest: Manifest | None
) -> dict[Kind, list[Example]]:
    """The first samples of each kind, and the steps of an interpolation.

    Args:
        folder: folder of the samples.
        samples: the samples, by file name.
        manifest: of the shards that the model was trained on; None if it is not known.

    Raises:
        UserError: a file cannot be read.
    """
    by_kind: dict[Kind, list[Sample]] = {}
    for _, sample in sorted(samples.items()):
        by_kind.setdefault(sample.kind, []).append(sample)
    return {
        kind: [read_sample(folder, sample, manifest) for sample in chosen(kind, found)]
        for kind, found in by_kind.items()
    }


def chosen(kind: Kind, samples: list[Sample]) -> list[Sample]:
    """The samples to show: the first few, or steps from one end of an interpolation to the other."""
    if kind != "interpolation" or len(samples) <= STEPS:
        return samples[: STEPS if kind == "interpolation" else FILES]
    return [samples[index] for index in np.linspace(0, len(samples) - 1, STEPS).round().astype(int)]


def read_sample(folder: Path, sample: Sample, manifest: Manifest | None) -> Example:
    """A file of samples. Raises UserError if it cannot be read."""
    ending = Path(sample.file).suffix
    if ending == ".png":
        return sample_pictures(folder, sample)
    if ending == ".txt":
        return sample_sentences(folder, sample)
    return sample_clip(folder, sample, manifest.deviation if manifest else None)
