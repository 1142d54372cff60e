"""Latents, comparison and report of pictures and sentences, each in its own terms."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest
from experiment import make_experiment
from frame_sources import bit_shards, sentence_shards
from small_runs import run_here, small_run

from zfaudio.command import run_command
from zfaudio.errors import UserError
from zfaudio.evaluation.collapse import has_collapsed
from zfaudio.evaluation.comparison import Comparison, compare_experiments
from zfaudio.evaluation.evaluate import evaluate
from zfaudio.evaluation.latents import latents, read_latents
from zfaudio.experiment.results import read_result, write_result
from zfaudio.reporting.comparison_table import compare, describe, tabulate_comparison

PIXELS = {"model__likelihood": "bernoulli", "data__score_first_frame": True}
TOKENS = {"model__likelihood": "categorical", "model__encoder": "lookup", "data__score_first_frame": True}
SHORT = {"train__max_steps": 3, "train__validate_every": 3, "train__save_every": 3, "train__batch_size": 4}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of scored experiments: pictures by rows and by pixels, sentences, and speech."""
    folder = tmp_path_factory.mktemp("kinds")
    rows = bit_shards(folder / "shards-rows")
    pixels = bit_shards(folder / "shards-pixels", layout="pixels")
    words = sentence_shards(folder / "shards-words")
    for name, shards, model, settings in (
        ("rows-0", rows, "zforcing", PIXELS),
        ("rows-1", rows, "zforcing", PIXELS | {"train__seed": 1}),
        ("pixels", pixels, "rnn", PIXELS),
        ("words-0", words, "zforcing", TOKENS),
        ("words-1", words, "rnn", TOKENS),
    ):
        run_here(small_run(shards, model, **settings, **SHORT), folder / name)
    make_experiment(folder / "making").rename(folder / "speech")
    for name in ("rows-0", "rows-1", "pixels", "words-0", "words-1", "speech"):
        evaluate(folder / name, json=folder / name / "results/test.json", device="cpu", draws=1)
    return folder


# Latents


@pytest.mark.parametrize("name", ["rows-0", "words-0"])
def test_latents_of_pictures_and_sentences_are_measured_without_what_belongs_to_recordings(made, tmp_path, name):
    result = latents(made / name, json=tmp_path / "latents.json", device="cpu")
    assert result.usage.latent_size == 4
    assert result.usage.kl_per_frame == pytest.approx(result.log_likelihood - result.nats_per_frame)
    assert result.prior_drawn.lost_fraction is None
    written = json.loads((tmp_path / "latents.json").read_text())
    assert not {"dequantized", "iid_gaussian_nats_per_frame"} & set(written)
    assert read_latents(tmp_path / "latents.json") == result


def test_recordings_must_have_what_belongs_to_them(made, tmp_path):
    latents(made / "speech", json=tmp_path / "latents.json", device="cpu")
    written = json.loads((tmp_path / "latents.json").read_text())
    del written["iid_gaussian_nats_per_frame"]
    (tmp_path / "latents.json").write_text(json.dumps(written))
    with pytest.raises(UserError, match="iid_gaussian_nats_per_frame is None"):
        read_latents(tmp_path / "latents.json")


def test_phones_are_of_recordings(made, capsys):
    with pytest.raises(SystemExit):
        run_command(latents, [str(made / "rows-0"), "--phones", "data"], "zfaudio latents")
    assert capsys.readouterr().err == (
        "zfaudio latents: error: --phones is for recordings, but these shards hold binary frames\n"
    )


def test_the_latents_of_a_picture_are_judged_as_a_whole():
    assert not has_collapsed(0.03, frames=784)  # of one pixel each, 24 nats a picture
    assert has_collapsed(0.0003, frames=784)
    assert has_collapsed(0.03)


# Comparison


def lines_of(comparison: Comparison) -> list[str]:
    return describe(tabulate_comparison(comparison)).splitlines()


def row_of(lines: list[str], name: str) -> list[str]:
    return next(line for line in lines if line.startswith(f"{name} ")).split()


def test_pictures_are_compared_in_nats_an_image_whatever_their_frames_are(made):
    comparison = compare_experiments([made / "pixels", made / "rows-0"])
    pixels, rows = (read_result(made / name / "results/test.json") for name in ("pixels", "rows-0"))
    _, row = comparison.rows
    assert row.remark == ""
    assert row.nats_per_utterance == pytest.approx(rows.nats_per_utterance)
    assert row.nats_per_utterance_ci95 == pytest.approx(rows.nats_per_utterance_ci95)
    assert row.difference == pytest.approx(rows.nats_per_utterance - pixels.nats_per_utterance)
    assert row.difference_ci95[0] < row.difference < row.difference_ci95[1]
    lines = lines_of(comparison)
    assert lines[0] == "test: 60 images of 6 x 4 pixels"
    shown = row_of(lines, "rows-0")
    assert shown[:6] == ["rows-0", "zforcing", "Bernoulli", "elbo", "<=", f"{-rows.nats_per_utterance:.2f}"]
    assert f"{-row.difference:+.2f}" in shown  # fewer nats are better
    assert "frame: its pixels" in lines
    assert not any(word in "\n".join(lines) for word in ("FLAC", "Gaussian", "bits", " s/s"))


def test_sentences_are_compared_by_perplexity(made):
    comparison = compare_experiments([made / "words-1", made / "words-0"])
    first, second = (read_result(made / name / "results/test.json") for name in ("words-1", "words-0"))
    rnn, row = comparison.rows
    assert (rnn.word_perplexity, row.word_perplexity) == pytest.approx((first.word_perplexity, second.word_perplexity))
    assert row.word_perplexity_ci95 == pytest.approx(second.word_perplexity_ci95)
    lines = lines_of(comparison)
    assert lines[0].startswith("test: 180 sentences, 682 words, 8.94 % of them <unk>; a vocabulary of 6 words")
    change = 100 * (second.word_perplexity / first.word_perplexity - 1)
    assert f"{change:+.2f}" in row_of(lines, "words-0")
    assert f"{first.word_perplexity:.2f}" in row_of(lines, "words-1")


def test_seeds_of_pictures_are_averaged(made):
    comparison = compare_experiments([made / "rows-0", made / "rows-1"], group_seeds=True)
    (row,) = comparison.rows
    results = [read_result(made / name / "results/test.json") for name in ("rows-0", "rows-1")]
    each = sorted(result.nats_per_utterance for result in results)
    assert row.seed_range == pytest.approx(each)
    assert f"{-each[1]:.2f} to {-each[0]:.2f}" in "\n".join(lines_of(comparison))


@pytest.mark.parametrize(("names", "absent"), [(["rows-0"], "word_perplexity"), (["words-0"], "bits_per_sample")])
def test_the_csv_leaves_out_numbers_of_other_kinds(made, tmp_path, names, absent):
    compare([made / name for name in names], csv=tmp_path / "table.csv")
    with (tmp_path / "table.csv").open(newline="") as file:
        (record,) = csv.DictReader(file)
    assert absent not in record
    assert float(record["nats_per_utterance"]) < 0


def test_different_kinds_are_not_compared(made, capsys):
    with pytest.raises(SystemExit):
        run_command(compare, [str(made / "rows-0"), str(made / "words-0")], "zfaudio compare")
    assert capsys.readouterr().err == (
        "zfaudio compare: error: words-0 is scored on tokens and rows-0 on binary frames; compare experiments of one "
        "kind\n"
    )


def test_another_vocabulary_is_not_comparable(made, tmp_path):
    result = read_result(made / "words-0/results/test.json")
    write_result(tmp_path / "other.json", replace(result, vocabulary=7))
    _, other = compare_experiments([made / "words-0", tmp_path / "other.json"]).rows
    assert other.remark.endswith("words-0: another vocabulary")
