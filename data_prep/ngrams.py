"""Perplexity of a unigram and a bigram model, counted on the training sentences of shards: floors for other models.

Both follow the conventions of `zfaudio evaluate`: every word counts, with </s> at the end of each sentence and <unk>
for the words that the vocabulary lacks; <s> is only ever read. So all words but <s> can come next, V of them.

    p(w)     = max(c(w) - D, 0) / C  +  D n(c > 0) / C  1/V
    p(w | v) = max(c(v w) - D, 0) / c(v)  +  D n(v) / c(v)  p'(w)

The second line is the smoothing of Kneser and Ney (1995), interpolated as by Chen and Goodman (1999): c counts, n(v) is
the number of different words behind v, and p' is the first line with c(w) replaced by the number of different words
that w follows. D is n1 / (n1 + 2 n2), where n1 and n2 are the numbers of bigrams (for the unigram model, of words) that
were seen once and twice, but at least 0.01, so that no word is impossible.
"""

import sys
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zfaudio.command import run_command
from zfaudio.data.manifest import read_manifest
from zfaudio.data.shard_reader import read_utterances
from zfaudio.errors import UserError
from zfaudio.observations import START, UNKNOWN, describe

Ids = NDArray[np.int64]

SMALLEST_DISCOUNT = 0.01


@dataclass(frozen=True)
class Bigrams:
    """Neighboring words of sentences."""

    before: Ids  # [words]; START before the first word of each sentence
    words: Ids  # [words]


class Unigram:
    """Probabilities of words whatever stands before."""

    def __init__(self, counts: NDArray[np.int64], discount: float) -> None:
        """Estimate from counts [vocabulary], of which that of START is 0."""
        left = discount * np.count_nonzero(counts)
        kept = np.maximum(counts - discount, 0)
        self.probabilities: NDArray[np.float64] = (kept + left / (len(counts) - 1)) / counts.sum()
        self.probabilities[START] = 0

    def probability(self, before: Ids, words: Ids) -> NDArray[np.float64]:
        """Probabilities of words [words]."""
        return self.probabilities[words]


class KneserNey:
    """Probabilities of words behind another."""

    def __init__(self, training: Bigrams, vocabulary: int) -> None:
        """Estimate from bigrams of a vocabulary of so many ids."""
        self.vocabulary = vocabulary
        self.keys, self.counts = np.unique(training.before * vocabulary + training.words, return_counts=True)
        self.discount = discount(self.counts)
        before, words = np.divmod(self.keys, vocabulary)
        self.totals = np.bincount(training.before, minlength=vocabulary)  # c(v)
        self.followers = np.bincount(before, minlength=vocabulary)  # n(v)
        self.lower = Unigram(np.bincount(words, minlength=vocabulary), self.discount)

    def probability(self, before: Ids, words: Ids) -> NDArray[np.float64]:
        """Probabilities of words [words] behind others [words]. Behind what training has not, it is the lower order."""
        keys = before * self.vocabulary + words
        at = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        counts = np.where(self.keys[at] == keys, self.counts[at], 0)
        lower = self.lower.probability(before, words)
        totals = np.maximum(self.totals[before], 1)
        smoothed = (np.maximum(counts - self.discount, 0) + self.discount * self.followers[before] * lower) / totals
        return np.where(self.totals[before] > 0, smoothed, lower)


def ngrams(shards: str, *, split: str = "test") -> None:
    """Print the perplexity of a unigram and of a bigram model on a split of shards of sentences.

    Args:
        shards: path or address of the folder of shards, as `python -m data_prep.text` wrote it.
        split: the split to score.
    """
    manifest = read_manifest(shards)
    if manifest.kind != "tokens":
        raise UserError(f"{shards}: holds {describe(manifest.kind)}, and n-grams are of words")
    manifest.split(split)
    vocabulary = len(manifest.vocabulary)
    training, scored = read_bigrams(shards, "train"), read_bigrams(shards, split)
    words = np.bincount(training.words, minlength=vocabulary)
    unknown = np.mean(scored.words == UNKNOWN)
    print(f"{split}: {len(scored.words)} words with </s>, {unknown:.2%} of them <unk>; {vocabulary} words are known")
    print(f"unigram:                perplexity {perplexity(Unigram(words, discount(words)), scored):.2f}")
    print(f"bigram, Kneser-Ney:     perplexity {perplexity(KneserNey(training, vocabulary), scored):.2f}")


def read_bigrams(shards: str, split: str) -> Bigrams:
    """Read the sentences of a split."""
    return join_sentences(utterance.frames[:, 0] for utterance in read_utterances(shards, split))


def join_sentences(sentences: Iterable[NDArray[np.int16]]) -> Bigrams:
    """The bigrams of sentences, each of ids [words]."""
    before, words = [], []
    for sentence in sentences:
        before.append(np.concatenate([[START], sentence[:-1]]))
        words.append(sentence)
    return Bigrams(np.concatenate(before).astype(np.int64), np.concatenate(words).astype(np.int64))


def discount(counts: NDArray[np.int64]) -> float:
    """What is taken off each count above 0 (Ney, Essen and Kneser, 1994)."""
    once, twice = np.count_nonzero(counts == 1), np.count_nonzero(counts == 2)
    return max(once / (once + 2 * twice), SMALLEST_DISCOUNT) if once else SMALLEST_DISCOUNT


def perplexity(model: Unigram | KneserNey, scored: Bigrams) -> float:
    """Perplexity per word, exp(-nats / words)."""
    return float(np.exp(-np.log(model.probability(scored.before, scored.words)).mean()))


if __name__ == "__main__":
    run_command(ngrams, sys.argv[1:], prog="python -m data_prep.ngrams")
