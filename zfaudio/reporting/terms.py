"""The words in which a page speaks of recordings, of pictures, or of sentences."""

from dataclasses import dataclass

from zfaudio.data.manifest import Manifest, SplitManifest
from zfaudio.observations import Kind
from zfaudio.reporting.formatting import format_duration, page_number


@dataclass(frozen=True)
class Terms:
    """What things are called on a page about one kind of frames."""

    examples: str  # heading of what is real and generated
    sequences: str
    speakers: str  # what a sequence has in place of a speaker
    reconstruction: str  # what is said of reconstructions
    continuation: str
    note: str = ""  # about all examples
    few_steps: int = 1_000  # a model with fewer training steps has only begun to learn


TERMS: dict[Kind, Terms] = {
    "waveform": Terms(
        examples="Speech",
        sequences="utterances",
        speakers="speakers",
        reconstruction="from the posterior’s latents alone",
        continuation="the line marks the end of the prompt",
        note="All pictures have the same scales: the height of a waveform is twenty standard deviations of the corpus, "
        "and a spectrogram spans 75 dB.",
        few_steps=8_000,
    ),
    "binary": Terms(
        examples="Pictures",
        sequences="images",
        speakers="labels",
        reconstruction="from the posterior’s latents alone, each after the real one",
        continuation="each after the real one; what was given is gray",
    ),
    "tokens": Terms(
        examples="Sentences",
        sequences="sentences",
        speakers="sources",
        reconstruction="from the posterior’s latents alone",
        continuation="what was given is gray",
    ),
}


def describe_frames(manifest: Manifest) -> str:
    """What the model is of, in a sentence for the head of a page."""
    size = manifest.frame_size
    if manifest.kind == "waveform":
        rate = manifest.waveform.sample_rate
        length = page_number(1000 * size / rate, 1)
        return f"A model of raw speech in frames of {size} samples at {rate:,} Hz ({length} ms)"
    if manifest.kind == "tokens":
        return f"A model of sentences, a word a frame, with a vocabulary of {len(manifest.vocabulary):,} words"
    pixels = f"{size} pixels" if size > 1 else "one pixel"
    if manifest.image_size is None:
        return f"A model of sequences of 0 and 1 in frames of {pixels}"
    rows, columns = manifest.image_size
    return f"A model of pictures of {rows} × {columns} pixels, 0 or 1, in frames of {pixels}"


def describe_amount(split: SplitManifest, manifest: Manifest) -> str:
    """How much a split holds: its duration, or how many pictures or sentences."""
    if manifest.kind == "waveform":
        return format_duration(split.frames * manifest.frame_size / manifest.waveform.sample_rate)
    return f"{split.utterances:,} {TERMS[manifest.kind].sequences}"


def corpus_table(manifest: Manifest) -> list[list[str]]:
    """The splits in rows; the first row has the titles of the columns."""
    terms, heard = TERMS[manifest.kind], manifest.kind == "waveform"
    frames = "words" if manifest.kind == "tokens" else "frames"
    rows = [["", terms.sequences, terms.speakers, frames, *(["duration"] if heard else [])]]
    for name, split in manifest.splits.items():
        counts = [f"{count:,}" for count in (split.utterances, split.speakers, split.frames)]
        rows.append([name, *counts, *([describe_amount(split, manifest)] if heard else [])])
    return rows


def corpus_facts(manifest: Manifest) -> dict[str, str]:
    """Facts below the table of the splits."""
    if manifest.kind == "waveform":
        return {
            "mean of the samples": page_number(manifest.waveform.mean, 2),
            "deviation": f"{page_number(manifest.waveform.deviation, 1)} 16-bit steps",
        }
    if manifest.kind == "tokens":
        return {"vocabulary": f"{len(manifest.vocabulary):,} words, with <s>, </s> and <unk>"}
    return {} if manifest.image_size is None else {"pixels of an image": " × ".join(map(str, manifest.image_size))}
