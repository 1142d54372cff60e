"""What is spoken in utterances, and when, from the manifests of lhotse that shards were made from."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from zfaudio.corpus.lhotse import Line, find_kinds, manifests_in, read_lines
from zfaudio.errors import UserError
from zfaudio.evaluation.ctm import Alignment, TimedLabel
from zfaudio.text import printable

# Symbol, start, duration and maybe a score; before version 1.8 of lhotse by these names.
Item = list[str | float | None] | dict[str, str | float | None]


@dataclass(frozen=True)
class SpokenPart(Line):
    """What is said in a part of a recording. Times are in seconds."""

    start: float  # from the start of the recording, or of the cut
    text: str | None = None
    alignment: dict[str, list[Item]] | None = None  # by kind: word, phone; from the start of the recording, always


@dataclass(frozen=True)
class SpokenCut(Line):
    """What is said in a part of a recording, by one or several."""

    start: float = 0.0
    supervisions: list[SpokenPart] = field(default_factory=list)


def read_aligned(path: Path, kind: str) -> Alignment:
    """The labels of one kind of the utterances that have any. Silence, whose symbol is blank, is none.

    Args:
        path: a manifest, or a folder of any number of them.
        kind: which of lhotse's alignments, such as word or phone.

    Raises:
        UserError: a manifest cannot be read, or an alignment in it has another form.
    """
    alignment: Alignment = {}
    for file, utterance, start, parts in spoken(path):
        try:
            items = [item for part in parts for item in (part.alignment or {}).get(kind, [])]
            labels = [label for item in items if (label := timed_label(item, start)).label and label.end > 0]
        except ValueError as error:
            raise UserError(f"{file}: {utterance}: in its alignment of kind {kind}, {error}") from None
        if labels:
            alignment[utterance] = sorted(labels, key=lambda one: one.start)
    return alignment


def read_transcripts(path: Path) -> dict[str, str]:
    """The texts of the utterances that have one. Raises UserError if a manifest cannot be read."""
    texts = {}
    for _, utterance, _, parts in spoken(path):
        ordered = sorted((part for part in parts if part.text), key=lambda part: part.start)
        if ordered:
            texts[utterance] = " ".join(part.text or "" for part in ordered)
    return texts


def spoken(path: Path) -> Iterator[tuple[Path, str, float, list[SpokenPart]]]:
    """Yield each utterance: its manifest, its id in shards, its start in the recording, and what is said in it."""
    for kinds in manifests_in(path).values() if path.is_dir() else [find_kinds(path)]:
        if "supervisions" in kinds:
            file = kinds["supervisions"]
            for part in read_lines(file, SpokenPart, "supervision").values():
                yield file, printable(part.id), part.start, [part]
        elif "cuts" in kinds:
            file = kinds["cuts"]
            for cut in read_lines(file, SpokenCut, "cut").values():
                yield file, printable(cut.id), cut.start, cut.supervisions


def timed_label(item: Item, start: float) -> TimedLabel:
    """The label that an item of an alignment is, without spaces around it, from the start of the utterance on.

    Args:
        item: of lhotse.
        start: where the utterance starts.

    Raises:
        ValueError: the item has another form.
    """
    match list(item.values()) if isinstance(item, dict) else item:
        case [str(symbol), float(begin), float(duration), *_] if math.isfinite(begin) and 0 <= duration < math.inf:
            return TimedLabel(max(0.0, begin - start), begin - start + duration, symbol.strip())
    raise ValueError(f"{item} is not [SYMBOL, START, DURATION]")
