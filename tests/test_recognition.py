"""Words recognized in speech: scores in closed form, the cutting into pieces, a classifier of synthetic words."""

import json
from dataclasses import fields
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import lfilter
from test_quality import write_samples

from zfaudio.corpus.kaldi import Utterance, write_data_dir
from zfaudio.data.manifest import read_manifest
from zfaudio.data.shard import shard
from zfaudio.errors import UserError
from zfaudio.evaluation.ctm import TimedLabel
from zfaudio.evaluation.quality import quality, read_quality
from zfaudio.evaluation.recognition import (
    LEAST_PIECES,
    Recognized,
    am_score,
    confidence,
    feature_distance,
    inception_score,
    modified_inception_score,
    summarize,
)
from zfaudio.evaluation.word_classifier import FRAMES, as_input, classify, frames_of, log_mel, train_network
from zfaudio.evaluation.word_examples import make_pool
from zfaudio.evaluation.word_labels import read_labeled_speech, read_words
from zfaudio.evaluation.word_pieces import best_cut, find_edges, overlap, spans_between

RATE = 8000

# Scores


@given(certain=st.floats(0.01, 0.99))
def test_scores_of_two_opposite_pieces_are_their_closed_forms(certain):
    other = 1 - certain
    pieces = np.log([[certain, other], [other, certain]])
    entropy = -certain * np.log(certain) - other * np.log(other)
    divergence = (certain - other) * np.log(certain / other)  # of one piece from the other
    assert inception_score(pieces) == pytest.approx(2 * np.exp(-entropy))
    assert modified_inception_score(pieces) == pytest.approx(np.exp(divergence / 2))
    assert am_score(pieces, np.array([0.5, 0.5])) == pytest.approx(entropy)
    expected = 0.25 * np.log(0.25 / 0.5) + 0.75 * np.log(0.75 / 0.5) + entropy
    assert am_score(pieces, np.array([0.25, 0.75])) == pytest.approx(expected)


@pytest.mark.parametrize("classes", [2, 10])
def test_scores_of_perfect_and_of_indifferent_pieces_are_the_extremes(classes):
    sure = np.log(np.eye(classes).clip(1e-12))
    assert inception_score(sure) == pytest.approx(classes)
    assert am_score(sure, np.full(classes, 1 / classes)) == pytest.approx(0, abs=1e-9)
    # KL of one piece from another is ln 10^12; a fraction 1 - 1/classes of the pairs are different pieces.
    assert modified_inception_score(sure) == pytest.approx(10 ** (12 * (1 - 1 / classes)), rel=1e-6)
    alike = np.log(np.full((7, classes), 1 / classes))
    assert [inception_score(alike), modified_inception_score(alike)] == pytest.approx([1, 1])
    one_word = np.repeat(sure[:1], 7, axis=0)
    assert inception_score(one_word) == pytest.approx(1)


def test_a_class_that_training_has_not_costs_nothing_but_what_is_missing_elsewhere():
    pieces = np.log([[0.25, 0.25, 0.5]])
    assert am_score(pieces, np.array([0.5, 0.5, 0])) == pytest.approx(np.log(2) + 1.5 * np.log(2))


def test_confidence_is_that_of_words_and_few_pieces_have_no_scores():
    unsure, sure, none = np.log([[0.5, 0.4, 0.1], [0.02, 0.95, 0.03], [0.01, 0.01, 0.98]])
    assert confidence(np.stack([unsure, sure, none])) == pytest.approx([0.5, 0.95, 0.01])
    features = np.random.default_rng(0).standard_normal((LEAST_PIECES, 3))
    few = Recognized(np.stack([unsure, sure, none]), features[:3], seconds=2.0)
    words = summarize(few, np.array([0.5, 0.5, 0]), None)
    assert (words.pieces, words.words_per_second) == (3, 0.5)
    assert words.recognized_fraction == pytest.approx(1 / 3)
    assert words.inception_score is words.modified_inception_score is words.am_score is None
    nothing = summarize(Recognized(np.zeros((0, 3)), features[:0], 2.0), np.array([0.5, 0.5, 0]), None)
    assert nothing.recognized_fraction == nothing.words_per_second == 0
    assert feature_distance(features[:-1], features) is None
    assert feature_distance(features + np.array([3.0, 0, 0]), features) == pytest.approx(9)


# Pieces


def bursts(gaps: list[float], rate: int) -> np.ndarray:
    """Noise of 0.3 s before, between and after gaps of some seconds, int16 [samples]."""
    rng = np.random.default_rng(0)
    level = [np.full(round(0.3 * rate), 3000.0)]
    for gap in gaps:
        level += [np.full(round(gap * rate), 30.0), level[0]]
    envelope = np.concatenate(level)
    return np.round(envelope * rng.uniform(-1, 1, len(envelope))).astype(np.int16)


@pytest.mark.parametrize("rate", [8000, 16000])
@pytest.mark.parametrize("gain", [1.0, 0.1])
def test_dips_are_in_the_gaps_whatever_the_level_and_the_rate(rate, gain):
    speech = np.round(gain * bursts([0.05, 0.1, 0.05], rate)).astype(np.int16)
    edges = find_edges(speech, rate)
    assert (edges[0], edges[-1]) == (0.0, len(speech) / rate)
    for middle in (0.325, 0.7, 1.075):
        assert min(abs(edge - middle) for edge in edges) < 0.05


def test_silence_and_a_single_sample_have_no_dips():
    assert find_edges(np.zeros(RATE, np.int16), RATE) == [0.0, 1.0]
    assert find_edges(np.ones(1, np.int16), RATE) == [0.0, 1 / RATE]


def test_spans_are_between_any_two_edges_that_a_word_may_lie_between():
    assert spans_between([0.0, 0.1, 0.3, 1.25]) == [(0.0, 0.3), (0.1, 0.3), (0.1, 1.25), (0.3, 1.25)]
    assert spans_between([0.0, 0.1]) == []


@settings(max_examples=50, deadline=None)
@given(edges=st.sets(st.integers(0, 30), min_size=2, max_size=7), data=st.data())
def test_the_best_cut_is_the_best_of_all_cuts(edges, data):
    marks = sorted(edges)
    spans = [(float(one), float(two)) for one in marks for two in marks if one < two]
    spans = data.draw(st.lists(st.sampled_from(spans), unique=True))
    weights = data.draw(st.lists(st.floats(0, 1), min_size=len(spans), max_size=len(spans)))

    def value(cut: list[int]) -> float:
        return sum((spans[index][1] - spans[index][0]) * weights[index] for index in cut)

    def greatest(start: float) -> float:
        later = [(spans[i], weights[i]) for i in range(len(spans)) if spans[i][0] >= start]
        return max([0.0, *((end - first) * weight + greatest(end) for (first, end), weight in later)])

    cut = best_cut(spans, weights)
    assert all(spans[one][1] <= spans[two][0] for one, two in pairwise(cut))
    assert value(cut) == pytest.approx(greatest(0.0))


def test_overlap_is_the_intersection_over_the_union():
    assert overlap((0, 2), (1, 3)) == pytest.approx(1 / 3)
    assert overlap((0, 1), (1, 2)) == overlap((0, 1), (3, 4)) == 0
    assert overlap((1, 2), (1, 2)) == 1


def test_frames_of_a_spectrogram_are_where_their_sound_is_and_its_level_does_not_matter():
    click = np.zeros(RATE, np.int16)
    click[5000:5040] = 8000
    mel = log_mel(click, RATE)
    assert len(mel) == 100
    assert abs(mel.sum(1).argmax() - 62.5) <= 1
    assert frames_of((0.5, 0.75)) == (50, 75)
    loud = np.round(3000 * np.random.default_rng(0).uniform(-1, 1, RATE // 2)).astype(np.int16)
    quiet = as_input(log_mel((loud // 4).astype(np.int16), RATE))
    assert quiet.shape == (FRAMES, 40)
    np.testing.assert_allclose(quiet, as_input(log_mel(loud, RATE)), atol=0.03)


# Words

WORDS = ("low", "high", "hiss")


def spoken(word: str, rng: np.random.Generator) -> np.ndarray:
    """A word of 0.25 to 0.4 s whose edges are quiet, [samples]."""
    time = np.arange(int(rng.uniform(0.25, 0.4) * RATE)) / RATE
    if word == "hiss":
        sound = lfilter([1, -0.9], [1], rng.standard_normal(len(time)))
    else:
        f0, formant = rng.uniform(90, 140), {"low": 500, "high": 2000}[word]
        pulses = (np.diff(np.floor(f0 * time), prepend=-1) > 0).astype(float)
        pole = 0.95 * np.exp(2j * np.pi * formant / RATE)
        sound = lfilter([1], np.poly([pole, pole.conjugate()]).real, pulses)
    level = np.sin(np.pi * (time / time[-1]) ** 0.4)  # played backward, it rises slowly
    return np.round(4000 * level * sound / np.abs(sound).max())


def string(seed: int) -> tuple[np.ndarray, list[tuple[float, float, str]]]:
    """Eight words joined end to end, int16 [samples], and the start, duration and name of each."""
    rng = np.random.default_rng(seed)
    parts, words, at = [], [], 0
    for word in rng.choice(WORDS, 8):
        parts.append(spoken(word, rng))
        words.append((at / RATE, len(parts[-1]) / RATE, str(word)))
        at += len(parts[-1])
    return np.concatenate(parts).astype(np.int16), words


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `data`, the data directories of strings of synthetic words, and `shards`."""
    folder = tmp_path_factory.mktemp("corpus")
    for split, seeds in {"train": range(12), "test": range(20, 24)}.items():
        utterances, lines = [], []
        for seed in seeds:
            name = f"ann-{seed:02d}"
            waveform, words = string(seed)
            soundfile.write(folder / f"{name}.wav", waveform, RATE)
            utterances.append(Utterance(name, "ann", str(folder / f"{name}.wav")))
            lines += [f"{name} 1 {start:.6f} {length:.6f} {word}\n" for start, length, word in words]
        write_data_dir(folder / "data" / split, utterances)
        (folder / "data" / split / "ctm").write_text("".join(lines))
    shard(folder / "data", folder / "shards", sample_rate=RATE, frame_size=100)
    return folder


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zfaudio.evaluation.quality.LEAST_SECONDS", 3.0)
    monkeypatch.setattr("zfaudio.evaluation.word_classifier.BATCH", 16)
    monkeypatch.setattr("zfaudio.evaluation.word_classifier.EPOCHS", 8)


@pytest.mark.usefixtures("quick")
def test_words_are_recognized_in_speech_and_not_in_noise(corpus, tmp_path, capsys):
    rng = np.random.default_rng(0)
    noises = [np.round(1000 * rng.standard_normal(22000)).astype(np.int16) for _ in range(2)]
    waveforms = [string(40)[0], noises[0], string(41)[0], noises[1]]
    samples = write_samples(tmp_path / "samples", waveforms, rate=RATE)
    words = quality(tmp_path, samples=samples, shards=corpus / "shards", words=corpus / "data").words
    assert read_quality(tmp_path / "quality.json").words == words
    assert (words.vocabulary, words.training_words, words.held_out_words) == (3, 96, 32)
    assert words.accuracy > 0.9
    assert words.real.words_per_second > 1
    # Half of what was generated is noise.
    assert 0.25 < words.generated.words_per_second / words.real.words_per_second < 0.75
    assert words.noise_fraction < 0.1
    assert words.real.inception_score > 2
    assert words.real.frechet_distance == pytest.approx(0, abs=1e-6)
    assert words.generated.frechet_distance > words.floor_frechet_distance > 0
    printed = capsys.readouterr().out
    assert "pieces recognized as words, %" in printed
    assert f"{words.accuracy:.1%} right".replace("%", " %") in printed


def test_the_same_seed_gives_the_same_classifier(corpus, monkeypatch):
    monkeypatch.setattr("zfaudio.evaluation.word_classifier.EPOCHS", 1)
    shards, rng = str(corpus / "shards"), np.random.default_rng(0)
    speech = read_labeled_speech(
        shards, read_manifest(shards), "train", read_words(corpus / "data", "train"), 99, seed=0
    )
    pool = make_pool(speech, RATE, rng)
    piece = log_mel(speech[0].waveform[:4000], RATE)
    one, again, other = (classify(train_network(4, pool.draw, seed), [piece])[0] for seed in (0, 0, 1))
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)


def test_a_result_of_an_earlier_version_has_no_words_level_and_drift(corpus, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("zfaudio.evaluation.quality.LEAST_SECONDS", 3.0)
    samples = write_samples(tmp_path / "samples", [string(seed)[0] for seed in range(3)], rate=RATE)
    result = quality(tmp_path, samples=samples, shards=corpus / "shards")
    assert result.words is None
    assert "recognized" not in capsys.readouterr().out
    old = json.loads((tmp_path / "quality.json").read_text())
    del old["words"]
    for name in ("generated", "real", "floor"):
        del old[name]["level_ratio"], old[name]["drift"]
    (tmp_path / "quality.json").write_text(json.dumps(old | {"format_version": 1}))
    read = read_quality(tmp_path / "quality.json")
    assert read.generated.drift is None
    same = {field.name for field in fields(read)} - {"generated", "real", "floor"}
    assert all(getattr(read, name) == getattr(result, name) for name in same)


# Labels


def test_a_word_per_utterance_is_enough_without_times(corpus, tmp_path):
    (tmp_path / "train").mkdir()
    (tmp_path / "train/text").write_text("ann-00 low\nann-01\nann-02 high\nelsewhere low\n")
    words = read_words(tmp_path, "train")
    assert words["ann-02"] == [TimedLabel(0.0, float("inf"), "high")]
    shards = str(corpus / "shards")
    speech = read_labeled_speech(shards, read_manifest(shards), "train", words, 100, seed=0)
    assert sorted(one.words[0].label for one in speech) == ["high", "low"]
    assert all(one.words[0].end == len(one.waveform) / RATE for one in speech)


def test_words_that_are_missing_or_useless_are_named(corpus, tmp_path):
    shards = str(corpus / "shards")
    with pytest.raises(UserError, match="neither test/ctm nor test/text"):
        read_words(tmp_path, "test")
    (tmp_path / "test").mkdir()
    (tmp_path / "test/text").write_text("u1 low high\n")
    with pytest.raises(UserError, match="u1 has several words; a file ctm must say"):
        read_words(tmp_path, "test")
    (tmp_path / "test/ctm").write_text("u1 1 0.0\n")
    with pytest.raises(UserError, match=r"ctm:1: .* is not UTTERANCE CHANNEL START DURATION WORD"):
        read_words(tmp_path, "test")
    (tmp_path / "test/ctm").write_text("u1 1 0.0 0.5 low\n")
    with pytest.raises(UserError, match="none of the 1 utterances with words is in the split 'test'"):
        read_labeled_speech(shards, read_manifest(shards), "test", read_words(tmp_path, "test"), 100, seed=0)


@pytest.mark.usefixtures("quick")
def test_a_single_word_cannot_be_told_apart(corpus, tmp_path):
    for split in ("train", "test"):
        (tmp_path / split).mkdir()
        text = (corpus / "data" / split / "ctm").read_text()
        for word in WORDS:
            text = text.replace(word, "low")
        (tmp_path / split / "ctm").write_text(text)
    samples = write_samples(tmp_path / "samples", [string(seed)[0] for seed in range(3)], rate=RATE)
    with pytest.raises(UserError, match="1 words occur at least 10 times"):
        quality(tmp_path, samples=samples, shards=corpus / "shards", words=tmp_path)
