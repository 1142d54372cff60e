"""The floors of words: values computed by hand, and probabilities that sum to one."""

from pathlib import Path

import numpy as np
import pytest

from data_prep.mnist import Digits, frame_digits
from data_prep.ngrams import KneserNey, Unigram, discount, join_sentences, ngrams, perplexity
from data_prep.text import text
from zfaudio.data.frame_shards import write_frame_shards
from zfaudio.errors import UserError

# With <s> 0, </s> 1, <unk> 2, a 3, b 4: "a b a", "a a b", "b".
SENTENCES = [np.array(ids, np.int16) for ids in ([3, 4, 3, 1], [3, 3, 4, 1], [4, 1])]
VOCABULARY = 5
A, B, END, UNKNOWN, START = 3, 4, 1, 2, 0


def probability(model: Unigram | KneserNey, before: int, word: int) -> float:
    return float(model.probability(np.array([before]), np.array([word]))[0])


def test_bigrams_have_the_values_of_the_formula():
    # Counts: <s>a 2, <s>b 1, ab 2, aa 1, a</s> 1, ba 1, b</s> 2: four once, three twice, so D = 4 / (4 + 2 * 3) = 0.4.
    # Seven kinds of bigrams; a follows <s>, b and a, b follows <s> and a, </s> follows a and b; V = 4.
    model = KneserNey(join_sentences(SENTENCES), VOCABULARY)
    assert model.discount == pytest.approx(0.4)
    rest = 0.4 * 3 / 7 / 4
    lower = {A: 2.6 / 7 + rest, B: 1.6 / 7 + rest, END: 1.6 / 7 + rest, UNKNOWN: rest}
    assert probability(model, START, A) == pytest.approx(1.6 / 3 + 0.4 * 2 / 3 * lower[A])
    assert probability(model, START, END) == pytest.approx(0.4 * 2 / 3 * lower[END])
    assert probability(model, A, B) == pytest.approx(1.6 / 4 + 0.4 * 3 / 4 * lower[B])
    assert probability(model, B, UNKNOWN) == pytest.approx(0.4 * 2 / 3 * lower[UNKNOWN])
    assert probability(model, UNKNOWN, A) == pytest.approx(lower[A])  # nothing stood behind <unk>


def test_unigrams_have_the_values_of_the_formula():
    # Counts: </s> 3, a 4, b 3.
    model = Unigram(np.array([0, 3, 0, 4, 3]), 0.5)
    for word, expected in {A: 3.5 / 10 + 0.15 / 4, B: 2.5 / 10 + 0.15 / 4, UNKNOWN: 0.15 / 4, START: 0}.items():
        assert probability(model, A, word) == pytest.approx(expected)


def test_discounts():
    assert discount(np.array([0, 1, 1, 2, 3])) == pytest.approx(2 / 4)
    assert discount(np.array([0, 2, 5])) == 0.01


def test_probabilities_of_the_next_word_sum_to_one_behind_every_word():
    rng = np.random.default_rng(0)
    sentences = [np.append(rng.geometric(0.1, 12).clip(1, 38) + 1, 1).astype(np.int16) for _ in range(50)]
    words = np.arange(40)
    bigrams = join_sentences(sentences)
    for model in (KneserNey(bigrams, 40), Unigram(np.bincount(bigrams.words, minlength=40), 0.3)):
        for before in words:
            probabilities = model.probability(np.full(40, before), words)
            assert probabilities[START] == 0
            assert np.all(probabilities[1:] > 0)
            assert probabilities.sum() == pytest.approx(1)


def test_sentences_are_scored_with_their_ends_and_apart_from_each_other():
    model = Unigram(np.array([0, 4, 0, 2, 2]), 0.0)
    assert perplexity(model, join_sentences(SENTENCES[:1])) == pytest.approx((0.5 * 0.25**3) ** (-1 / 4))
    bigrams = join_sentences(SENTENCES)
    assert bigrams.before.tolist() == [0, 3, 4, 3, 0, 3, 3, 4, 0, 4]
    assert bigrams.words.tolist() == [3, 4, 3, 1, 3, 3, 4, 1, 4, 1]


def test_the_script_prints_both_floors(tmp_path: Path, capsys):
    (tmp_path / "in").mkdir()
    (tmp_path / "in/train.txt").write_text("a b a\na a b\nb\n")
    (tmp_path / "in/test.txt").write_text("a b\nc\n")
    text(tmp_path / "in", tmp_path / "out")
    capsys.readouterr()
    ngrams(str(tmp_path / "out"))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "test: 5 words with </s>, 20.00% of them <unk>; 5 words are known"
    printed = [float(line.split()[-1]) for line in lines[1:]]
    training, scored = join_sentences(SENTENCES), join_sentences([np.array([3, 4, 1]), np.array([2, 1])])
    expected = [Unigram(np.array([0, 3, 0, 4, 3]), 0.01), KneserNey(training, VOCABULARY)]
    assert printed == [pytest.approx(perplexity(model, scored), abs=0.005) for model in expected]


def test_shards_of_something_else_are_refused(tmp_path: Path):
    digits = Digits(np.zeros((2, 784), np.uint8), ["0", "1"])
    write_frame_shards(tmp_path, {"train": frame_digits("train", digits, 28)}, kind="binary", frame_size=28)
    with pytest.raises(UserError, match="holds binary frames, and n-grams are of words"):
        ngrams(str(tmp_path))
