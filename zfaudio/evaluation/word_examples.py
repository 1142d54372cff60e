"""What a word classifier is trained on: words, and as many pieces of sound that are no word."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from zfaudio.errors import UserError
from zfaudio.evaluation.word_classifier import FRAMES, Example, Mel, frames_of, log_mel
from zfaudio.evaluation.word_labels import LabeledSpeech
from zfaudio.evaluation.word_pieces import (
    LONGEST_SECONDS,
    TOLERANCE,
    Span,
    find_edges,
    overlap,
    smooth_power,
    spans_between,
)

LEAST_EXAMPLES = 10  # of a word that is to be recognized

# How many examples of each kind a pass has, relative to the number of words. Half as many words again are those that
# the cut at dips finds.
FOUND_WORDS = 0.5
WRONG_CUTS, BACKWARD, NOISE, FROZEN = 0.6, 0.15, 0.15, 0.1

OVERLAP = 0.7  # of a piece with a word, above which the piece is neither the word nor a wrong cut
FROZEN_FRAMES = 5  # of speech that is repeated
SHORTEST_FRAMES = 15  # of noise and of frozen speech
NOISES, NOISE_SECONDS = 40, 2.0
ENVELOPE_SECONDS = 0.05
NOISE_DEVIATION = 1000.0  # of noise; its level does not matter


@dataclass(frozen=True)
class ExamplePool:
    """All examples of a kind, or what they are drawn from. The last class stands for what is no word."""

    labels: list[str]  # the words, in order; their indices are the classes
    words: list[Example]
    found_words: list[Example]  # words as they are cut at dips
    wrong_cuts: list[Example]  # pieces between dips that are parts of words, or of several words
    noises: list[Mel]

    @property
    def frequencies(self) -> np.ndarray:
        """The fraction of each class among the words, [classes]."""
        counts = np.bincount([one.label for one in self.words], minlength=len(self.labels) + 1)
        fractions: np.ndarray = counts / counts.sum()
        return fractions

    def draw(self, rng: np.random.Generator) -> list[Example]:
        """The examples of a pass: all words, and random other ones."""
        no_word, count = len(self.labels), len(self.words)
        drawn = [*self.words, *sample(self.found_words, FOUND_WORDS * count, rng)]
        drawn += sample(self.wrong_cuts, WRONG_CUTS * count, rng)
        for one in sample(self.words, BACKWARD * count, rng):
            mel = one.mel[one.first : one.stop][::-1]
            drawn.append(Example(mel, 0, len(mel), no_word))
        for one in sample(self.words, FROZEN * count, rng):
            first = int(rng.integers(one.first, one.stop))
            moment = one.mel[first : min(first + int(rng.integers(1, FROZEN_FRAMES + 1)), one.stop)]
            length = int(rng.integers(SHORTEST_FRAMES, FRAMES))
            drawn.append(Example(np.tile(moment, (length // len(moment) + 1, 1))[:length], 0, length, no_word))
        for _ in range(round(NOISE * count)):
            mel = self.noises[rng.integers(len(self.noises))]
            length = int(rng.integers(SHORTEST_FRAMES, FRAMES))
            first = int(rng.integers(0, len(mel) - length))
            drawn.append(Example(mel, first, first + length, no_word))
        return drawn


def sample(examples: Sequence[Example], number: float, rng: np.random.Generator) -> list[Example]:
    """Different examples at random, at most `number` (rounded)."""
    return [examples[index] for index in rng.permutation(len(examples))[: round(number)]]


def make_pool(speech: Sequence[LabeledSpeech], rate: int, rng: np.random.Generator) -> ExamplePool:
    """The examples in some speech.

    Raises:
        UserError: fewer than two words occur often enough.
    """
    counts = Counter(word.label for one in speech for word in one.words if word.end - word.start <= LONGEST_SECONDS)
    labels = sorted(word for word, count in counts.items() if count >= LEAST_EXAMPLES)
    if len(labels) < 2:
        raise UserError(
            f"--words: {len(labels)} words occur at least {LEAST_EXAMPLES} times in the training split; "
            "at least two are needed to tell them apart"
        )
    index = {label: number for number, label in enumerate(labels)}
    pool = ExamplePool(labels, [], [], [], [log_mel(noise, rate) for noise in make_noises(speech, rate, rng)])
    for one in speech:
        mel = log_mel(one.waveform, rate)
        spans: list[tuple[Span, str]] = [((word.start, word.end), word.label) for word in one.words]
        for span, label in spans:
            if label in index and span[1] - span[0] <= LONGEST_SECONDS:
                pool.words.append(clip_to(mel, span, index[label]))
        for piece in spans_between(find_edges(one.waveform, rate)):
            nearest, label = max(spans, key=lambda word: overlap(piece, word[0]), default=(piece, ""))
            if max(abs(piece[0] - nearest[0]), abs(piece[1] - nearest[1])) <= TOLERANCE:
                if label in index:
                    pool.found_words.append(clip_to(mel, piece, index[label]))
            elif overlap(piece, nearest) < OVERLAP:
                pool.wrong_cuts.append(clip_to(mel, piece, len(labels)))
    return pool


def clip_to(mel: Mel, span: Span, label: int) -> Example:
    """A span of a spectrogram as an example: at least one frame of it."""
    first, stop = frames_of(span)
    first = min(first, len(mel) - 1)
    return Example(mel, first, max(first + 1, min(stop, len(mel))), label)


def make_noises(speech: Sequence[LabeledSpeech], rate: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Noises, int16 [samples]: every third one white, the others with the spectrum of speech; every other one steady,
    the others with the envelope of an utterance.
    """
    length = round(NOISE_SECONDS * rate)
    spectrum = np.sqrt(np.mean([np.square(np.abs(np.fft.rfft(one.waveform, length))) for one in speech], axis=0))
    noises = []
    for number in range(NOISES):
        noise = rng.standard_normal(length)
        if number % 3:
            noise = np.fft.irfft(np.fft.rfft(noise) * spectrum, length)
        if number % 2:
            spoken = np.resize(speech[int(rng.integers(len(speech)))].waveform, length)
            noise *= np.sqrt(smooth_power(spoken, rate, ENVELOPE_SECONDS))
        noises.append(np.clip(noise * NOISE_DEVIATION / max(noise.std(), 1e-9), -32768, 32767).astype(np.int16))
    return noises
