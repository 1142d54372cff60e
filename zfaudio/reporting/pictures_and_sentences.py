"""Pictures and sentences on a page: grids as data URIs, and lines of text."""

import io
import math
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import ClassVar

import numpy as np

from zfaudio.data.manifest import Manifest
from zfaudio.data.shard_reader import read_utterances
from zfaudio.errors import UserError
from zfaudio.generation.pictures import grid, png, size_of
from zfaudio.generation.samples import Kind, Sample
from zfaudio.generation.sentences import as_text
from zfaudio.reporting.clips import data_uri, sample_facts

REAL_PICTURES = 100  # as many as the recipes generate
LINES = 20  # of a file of sentences
LARGEST_PICTURE = 1 << 22  # bytes of a PNG file
LARGEST_TEXT = 1 << 16  # bytes that are read of a file of sentences


@dataclass(frozen=True)
class Grid:
    """Pictures in a grid."""

    medium: ClassVar[str] = "pictures"
    title: str
    caption: str
    picture: str  # data URI of a PNG
    width: int  # in pixels of a screen


@dataclass(frozen=True)
class Lines:
    """Sentences."""

    medium: ClassVar[str] = "sentences"
    title: str
    caption: str
    kind: Kind
    rows: list[list[str]]  # a sentence each; or a real one and its reconstruction; or what was given and what follows


def real_pictures(location: str, split: str, manifest: Manifest) -> Grid:
    """The first pictures of a split. Raises UserError if they cannot be read."""
    size = size_of(manifest)
    utterances = islice(read_utterances(location, split, manifest), REAL_PICTURES)
    tiles = [(utterance.frames.reshape(size) * 255).astype(np.uint8) for utterance in utterances]
    return _grid("", f"the first {len(tiles)} of the split", png(grid(tiles, math.ceil(math.sqrt(len(tiles))))))


def real_sentences(location: str, split: str, manifest: Manifest) -> Lines:
    """The first sentences of a split. Raises UserError if they cannot be read."""
    utterances = islice(read_utterances(location, split, manifest), LINES)
    rows = [[as_text(utterance.frames.ravel(), manifest)] for utterance in utterances]
    return Lines("", f"the first {len(rows)} of the split", "sample", rows)


def sample_pictures(folder: Path, sample: Sample) -> Grid:
    """The pictures of a file of `zfaudio generate` or `interpolate`. Raises UserError if it cannot be read."""
    path = folder / sample.file
    if path.stat().st_size > LARGEST_PICTURE:
        raise UserError(f"{path}: {path.stat().st_size / 1e6:.0f} MB, too large for a page; generate fewer pictures")
    return _grid(path.stem, " · ".join(sample_facts(sample)), path.read_bytes(), path)


def sample_sentences(folder: Path, sample: Sample) -> Lines:
    """The first sentences of a file of `zfaudio generate` or `interpolate`."""
    path = folder / sample.file
    with path.open("rb") as file:
        lines = file.read(LARGEST_TEXT).decode(errors="replace").splitlines()
    shown = lines if sample.kind == "interpolation" else lines[:LINES]
    facts = [f"{len(shown)} of {len(lines)}"] if len(shown) < len(lines) else []
    rows = [line.split("\t", 1) for line in shown]
    return Lines(path.stem, " · ".join([*facts, *sample_facts(sample)]), sample.kind, rows)


def _grid(title: str, caption: str, content: bytes, path: Path | None = None) -> Grid:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(content), formats=["PNG"]) as picture:
            width = picture.size[0]
    except (UnidentifiedImageError, OSError, Image.DecompressionBombError) as error:
        raise UserError(f"{path}: not a picture that can be read ({error})") from None
    return Grid(title, caption, data_uri("image/png", content), width)
