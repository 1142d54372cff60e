"""Pixels and words from Markov chains: trained and scored by the commands, models come to the chain's entropy."""

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from frame_sources import BITS, SENTENCES, WORDS, bit_shards, exact_nats, sentence_shards
from small_runs import assert_same_weights, run_here, small_run

from zfaudio.config import RunConfig
from zfaudio.data.shard_reader import read_utterances
from zfaudio.errors import UserError
from zfaudio.evaluation.evaluate import evaluate
from zfaudio.experiment.results import OF_KIND, EvaluationResult, read_result
from zfaudio.training.train import train

MODELS = ("rnn", "vrnn", "srnn", "zforcing")
PIXELS = {"model__likelihood": "bernoulli", "data__score_first_frame": True}
ROWS = {**PIXELS, "model__head": "autoregressive", "model__head_window": 4, "model__head_size": 12}
TOKENS = {"model__likelihood": "categorical", "model__encoder": "lookup", "data__score_first_frame": True}
TRAINED = {
    "train__max_steps": 250,
    "train__batch_size": 32,
    "train__segment_frames": 24,
    "train__decay_steps": 200,
    "train__validate_every": 250,
    "train__save_every": 250,
}


@pytest.fixture(scope="module")
def shards(tmp_path_factory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("shards")
    return {
        "rows": bit_shards(folder / "rows"),
        "pixels": bit_shards(folder / "pixels", layout="pixels"),
        "words": sentence_shards(folder / "words"),
    }


SETTINGS: dict[str, dict[str, Any]] = {"rows": ROWS, "pixels": PIXELS, "words": TOKENS}
CHAINS = {"rows": BITS, "pixels": BITS, "words": SENTENCES}


def run_of(shards: dict[str, str], source: str, model: str = "rnn", **options: Any) -> RunConfig:
    return small_run(shards[source], model, **(SETTINGS[source] | options))


def score(exp: Path, **options: Any) -> EvaluationResult:
    return evaluate(exp, device="cpu", **options)


def nats_of(result: EvaluationResult) -> dict[str, float]:
    return {score.utterance: score.nats for score in result.scores}


@pytest.mark.parametrize("source", SETTINGS)
def test_a_trained_rnn_comes_to_the_entropy_of_the_chain(shards, tmp_path, source):
    """The score of each test utterance is that of the chain that it was drawn from, but for what training missed."""
    rate = 0.03 if source == "words" else 0.01
    run_here(run_of(shards, source, train__learning_rate=rate, **TRAINED), tmp_path / "exp")
    result = score(tmp_path / "exp")
    utterances = read_utterances(shards[source], "test")
    exact = {utterance.id: exact_nats(CHAINS[source], utterance.frames) for utterance in utterances}
    values = result.frames * result.frame_size
    gaps = [(exact[one.utterance] - one.nats) / values * result.utterances for one in result.scores]
    error = np.std(gaps) / math.sqrt(len(gaps))
    assert result.utterances == len(exact)
    assert -3 * error < np.mean(gaps) < 0.015  # nats a pixel or word


@pytest.mark.parametrize("source", SETTINGS)
@pytest.mark.parametrize("model", MODELS)
def test_every_model_trains_resumes_and_is_scored_on_every_kind_of_frames(shards, tmp_path, model, source):
    run_here(run_of(shards, source, model), tmp_path / "whole")
    run_here(run_of(shards, source, model, train__max_steps=8), tmp_path / "parts")
    run_here(run_of(shards, source, model), tmp_path / "parts", resume=True)
    assert_same_weights(tmp_path / "whole", tmp_path / "parts")
    file = tmp_path / "result.json"
    result = score(tmp_path / "whole", json=file, draws=2)
    assert read_result(file) == result
    chunked = score(tmp_path / "whole", draws=2, frames_per_batch=17)
    assert nats_of(chunked) == pytest.approx(nats_of(result), rel=1e-5)
    if model != "rnn":
        weighted = score(tmp_path / "whole", importance_samples=5)
        assert (weighted.bound, weighted.importance_samples) == ("iwae", 5)
        assert weighted.nats_per_utterance > result.nats_per_utterance


@pytest.mark.parametrize("source", SETTINGS)
def test_a_result_has_the_fields_of_its_kind_and_no_others(shards, tmp_path, capsys, source):
    run_here(run_of(shards, source, "zforcing"), tmp_path / "exp")
    result = score(tmp_path / "exp", json=tmp_path / "result.json")
    written = json.loads((tmp_path / "result.json").read_text())
    own = OF_KIND[result.kind]
    foreign = {name for names in OF_KIND.values() for name in names if name not in own}
    assert {*own} <= {*written}
    assert not foreign & {*written}
    assert result.score_first_frame
    said = capsys.readouterr().out
    nats = np.array([one.nats for one in result.scores])
    assert result.nats_per_utterance == pytest.approx(nats.mean())
    low, high = result.nats_per_utterance_ci95
    assert low < result.nats_per_utterance < high
    if source == "words":
        utterances = list(read_utterances(shards[source], "test"))
        words = np.concatenate([utterance.frames.ravel() for utterance in utterances])
        assert result.frames == len(words)
        assert result.word_perplexity == pytest.approx(math.exp(-nats.sum() / len(words)))
        assert result.word_perplexity_ci95[0] < result.word_perplexity < result.word_perplexity_ci95[1]
        assert result.unknown_share == pytest.approx((words == 2).mean())
        assert result.vocabulary == len(WORDS)
        assert f"perplexity per word                <= {result.word_perplexity:.2f}" in said
        assert f"{100 * result.unknown_share:.2f} % of the words are <unk>" in said
        assert f"{result.utterances} are ends of sentences" in said
    else:
        assert result.image_size == [6, 4]
        assert f"nats per image                     <= {-result.nats_per_utterance:.2f}" in said


def test_without_a_first_frame_the_first_value_does_not_count(shards, tmp_path, capsys):
    run_here(run_of(shards, "words", data__score_first_frame=False), tmp_path / "exp")
    result = score(tmp_path / "exp")
    words = sum(len(one.frames) for one in read_utterances(shards["words"], "test"))
    longer = [one for one in read_utterances(shards["words"], "test") if len(one.frames) > 1]
    assert (
        result.frames
        == words - sum(1 for _ in read_utterances(shards["words"], "test"))
        == sum(len(one.frames) - 1 for one in longer)
    )
    assert "the first word of each sentence is only read" in capsys.readouterr().out


def test_backward_reconstruction_is_of_pixels_or_words(shards, tmp_path):
    for source in SETTINGS:
        config = run_of(shards, source, "zforcing")
        model = dataclasses.replace(config.model, backward_reconstruction=True)
        run_here(dataclasses.replace(config, model=model), tmp_path / source)


# Mistakes


@pytest.mark.parametrize(
    ("source", "options", "said"),
    [
        (
            "words",
            {"model__likelihood": "gaussian"},
            "model.likelihood is gaussian, which is for recordings, but these "
            "shards hold tokens; set it to categorical",
        ),
        (
            "words",
            {"model__encoder": "linear"},
            "model.encoder is linear, which is for recordings and binary frames, "
            "but these shards hold tokens; set it to lookup",
        ),
        (
            "words",
            {"model__head": "autoregressive"},
            "model.head is autoregressive, which is for recordings, but these shards hold tokens; set it to factorized",
        ),
        (
            "rows",
            {"model__likelihood": "logistic_mixture"},
            "model.likelihood is logistic_mixture, which is for "
            "recordings, but these shards hold binary frames; set it to bernoulli",
        ),
        (
            "rows",
            {"model__likelihood": "categorical"},
            "model.likelihood is categorical, which is for tokens, but these "
            "shards hold binary frames; set it to bernoulli",
        ),
        (
            "rows",
            {"model__head": "tiered"},
            "model.head is tiered, which is for recordings, but these shards hold "
            "binary frames; set it to factorized or autoregressive",
        ),
        ("rows", {"model__head": "dilated"}, "model.head is dilated, which is for recordings"),
        (
            "rows",
            {"model__encoder": "mel"},
            "model.encoder is mel, which is for recordings, but these shards hold binary frames; set it to linear",
        ),
        ("rows", {"model__encoder": "lookup"}, "model.encoder is lookup, which is for tokens"),
        ("rows", {"model__head_stride": 3}, "model.head_stride is 3; it must divide the frame size, 4"),
        ("rows", {"model__sample_rate": 16000}, "model.sample_rate is 16000, but .* holds binary frames; leave it out"),
    ],
)
def test_what_does_not_fit_the_frames_is_refused_by_name(shards, tmp_path, source, options, said):
    with pytest.raises(UserError, match=said):
        run_here(run_of(shards, source, **options), tmp_path / "exp")


def test_a_model_of_recordings_alone_and_spectra_are_refused(shards, tmp_path):
    config = small_run(shards["rows"], "samplernn")
    with pytest.raises(
        UserError, match=r"model.name is samplernn, which is for recordings, but these shards hold binary"
    ):
        run_here(config, tmp_path / "samplernn")
    config = run_of(shards, "rows", "zforcing", model__auxiliary_target="mel")
    with pytest.raises(UserError, match="a mel spectrum is for recordings, but these shards hold binary frames"):
        run_here(config, tmp_path / "mel")


def test_other_shards_than_those_of_training_are_refused_by_name(shards, tmp_path):
    run_here(run_of(shards, "words", train__max_steps=4), tmp_path / "words")
    run_here(run_of(shards, "rows", train__max_steps=4), tmp_path / "rows")
    other = sentence_shards(tmp_path / "other", [*WORDS[:-1], "movie"])
    with pytest.raises(
        UserError,
        match=r"other: another vocabulary \(6 words, 6 in training; id 5 is 'movie' here and "
        r"was 'film' in training\)",
    ):
        score(tmp_path / "words", shards=other)
    longer = sentence_shards(tmp_path / "longer", [*WORDS, "movie"])
    with pytest.raises(UserError, match=r"7 words, 6 in training; id 6 is 'movie' here and was nothing in training"):
        score(tmp_path / "words", shards=longer)
    with pytest.raises(UserError, match="another vocabulary"):
        run_here(run_of({"words": other}, "words", train__max_steps=6), tmp_path / "words", resume=True)
    with pytest.raises(UserError, match="another vocabulary"):
        run_here(run_of({"words": other}, "words", train__init_from=str(tmp_path / "words")), tmp_path / "new")
    with pytest.raises(UserError, match=r"shards of binary frames, but .* was trained on tokens"):
        score(tmp_path / "words", shards=shards["rows"])
    with pytest.raises(UserError, match=r"shards of frame_size 1, but .* was trained at 4"):
        score(tmp_path / "rows", shards=shards["pixels"])


def test_options_for_recordings_are_refused(shards, tmp_path):
    run_here(run_of(shards, "rows", train__max_steps=4), tmp_path / "exp")
    with pytest.raises(UserError, match=r"--dequantize: for recordings, but .* was trained on binary frames"):
        score(tmp_path / "exp", dequantize=True)
    with pytest.raises(UserError, match="--protocol zforcing2017: for recordings"):
        score(tmp_path / "exp", protocol="zforcing2017")


def test_the_command_trains_on_them(shards, tmp_path):
    config = run_of(shards, "words", train__max_steps=2)
    assert train(config.data, config.model, config.objective, config.train, exp=tmp_path / "exp").steps == 2
