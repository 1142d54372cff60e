"""Sentences: ids of words and words, and files of generated ones."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from zfaudio.data.manifest import Manifest
from zfaudio.errors import UserError
from zfaudio.experiment.checkpoint import Checkpoint
from zfaudio.generation.request import Request
from zfaudio.generation.samples import Sample, write_listed
from zfaudio.generation.sampling import FrameRecorder
from zfaudio.generation.sequences import Drawn, Given, Values, draw_sequences
from zfaudio.observations import END, UNKNOWN

MOST_WORDS = 40  # of a sentence that is drawn, with its end, unless another number is given


def read_sentence(text: str, manifest: Manifest, whole: bool) -> Given:
    """A sentence of words between blanks, in lower case, as ids. Words that the vocabulary lacks are <unk>.

    Args:
        text: the sentence.
        manifest: of the shards that the model was trained on.
        whole: whether the sentence ends there.

    Raises:
        UserError: there are no words.
    """
    ids = {word: index for index, word in enumerate(manifest.vocabulary)}
    words = text.lower().split()
    if not words:
        raise UserError("a sentence without words is given; give some, between blanks")
    unknown = [word for word in words if word not in ids]
    if unknown:
        print(f"not in the vocabulary, read as <unk>: {' '.join(unknown)}", file=sys.stderr)
    values = [ids.get(word, UNKNOWN) for word in words] + [END] * whole
    return Given(text, np.array(values, np.int16), whole)


def as_text(values: Values, manifest: Manifest) -> str:
    """The words of ids, up to the end of the sentence."""
    ends = np.flatnonzero(values == END)
    return " ".join(manifest.vocabulary[index] for index in values[: ends[0] if len(ends) else None])


def generate_sentences(
    trained: Checkpoint,
    folder: Path,
    request: Request,
    given: list[Given],
    most_words: int,
    record: FrameRecorder | None,
) -> list[Sample]:
    """Generate sentences into a text file with one a line.

    A tab stands between the words that were given and those that continue them, or between a sentence and its
    reconstruction.
    """
    drawn = draw_sequences(trained, request, given, most_words, record)
    lines = [line_of(one, request, trained.manifest) for one in drawn]
    sample = replace(request.sample(trained.step), file=f"{request.kind}s.txt")
    write_listed(folder, sample, "".join(f"{line}\n" for line in lines).encode())
    print("\n".join(lines))
    print(f"{folder / sample.file}: {len(lines)} sentences")
    return [sample]


def line_of(drawn: Drawn, request: Request, manifest: Manifest) -> str:
    """A generated sentence, after the one that it reconstructs, or the words that it continues."""
    if drawn.given is None:
        return as_text(drawn.values, manifest)
    known = drawn.given.values if request.kind == "reconstruction" else drawn.values[: drawn.known]
    return f"{as_text(known, manifest)}\t{as_text(drawn.values[drawn.known :], manifest)}"
