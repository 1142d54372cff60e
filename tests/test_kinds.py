"""Latents, comparison and report of pictures and sentences, each in its own terms."""

import base64
import csv
import io
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from experiment import make_experiment
from frame_sources import bit_shards, sentence_shards
from PIL import Image
from small_runs import run_here, small_run
from speech import speech
from test_report import read

from zfaudio.command import run_command
from zfaudio.data.known_shards import remember_shards
from zfaudio.data.shard_reader import read_utterances
from zfaudio.errors import UserError
from zfaudio.evaluation.collapse import has_collapsed
from zfaudio.evaluation.comparison import Comparison, compare_experiments
from zfaudio.evaluation.evaluate import evaluate
from zfaudio.evaluation.latents import latents, read_latents
from zfaudio.experiment.config_file import read_config
from zfaudio.experiment.results import read_result, write_result
from zfaudio.generation.generate import generate
from zfaudio.generation.interpolate import interpolate
from zfaudio.generation.pictures import SCALE
from zfaudio.generation.samples import Sample
from zfaudio.reporting.comparison_table import compare, describe, tabulate_comparison
from zfaudio.reporting.examples import FILES, STEPS, chosen
from zfaudio.reporting.report import report

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


# Report


@pytest.fixture(scope="module")
def shown(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copies of two experiments with samples, and their pages."""
    folder = tmp_path_factory.mktemp("shown")
    for name in ("rows-0", "words-0", "speech"):
        exp = shutil.copytree(made / name, folder / name, symlinks=True)
        remember_shards(read_config(exp / "config.yaml").data.shards)
        first, last = "test:0", "test:1"
        if name == "speech":
            first, last = folder / "first.wav", folder / "last.wav"
            for seed, path in enumerate((first, last)):
                soundfile.write(path, speech(600, seed=seed), 16000)
        else:
            latents(exp, device="cpu")
            for options in ({"num": 30}, {"num": 3, "prompt": "test"}, {"num": 3, "reconstruct": "test"}):
                generate(exp, out=exp / "samples", device="cpu", **options)
        interpolate(exp, out=exp / "interpolations", first=first, last=last, steps=5, device="cpu")
        report(exp)
    return folder


def test_a_page_of_pictures_is_in_its_own_terms(shown):
    page = read(shown / "rows-0/report.html")
    result = read_result(shown / "rows-0/results/test.json")
    assert "A model of pictures of 6 × 4 pixels, 0 or 1, in frames of 4 pixels" in page.text
    assert f"test, nats per image ≤ {-result.nats_per_utterance:.2f}" in page.text
    assert "trained on 200 images" in page.text
    assert "Pictures Real (test) the first 60 of the split Generated (from the prior) seed 0" in page.text
    assert "test:0 to test:1 · seed 0 · temperature 0 of frames" in page.text
    sizes = [picture_of(source).size for source in page.sources["img"]]
    names = (
        *(f"samples/{kind}s.png" for kind in ("sample", "reconstruction", "continuation")),
        "interpolations/interpolations.png",
    )
    drawn = [Image.open(shown / "rows-0" / name).size for name in names]
    assert sizes[1:] == drawn
    assert "Missing" not in page.text


def picture_of(source: str) -> Image.Image:
    head, data = source.split(",")
    assert head == "data:image/png;base64"
    return Image.open(io.BytesIO(base64.b64decode(data)))


def test_real_pictures_are_those_of_the_split(shown):
    first = next(read_utterances(read_config(shown / "rows-0/config.yaml").data.shards, "test")).frames
    board = np.asarray(picture_of(read(shown / "rows-0/report.html").sources["img"][0]))[1::SCALE, 1::SCALE]
    assert np.array_equal(board[1:7, 1:5], first * 255)


def test_a_page_of_sentences_is_in_its_own_terms(shown):
    exp = shown / "words-0"
    page = read(exp / "report.html")
    result = read_result(exp / "results/test.json")
    assert "A model of sentences, a word a frame, with a vocabulary of 6 words" in page.text
    assert f"test, perplexity per word ≤ {result.word_perplexity:.2f}" in page.text
    assert "<unk> 8.94 % of the words" in page.text
    assert "20 of 30 · seed 0" in page.text
    for name in ("samples/samples.txt", "samples/continuations.txt", "interpolations/interpolations.txt"):
        for line in (exp / name).read_text().splitlines()[:20]:
            assert " ".join(line.split()) in page.text
    assert "img" not in page.sources
    assert "Missing" not in page.text


@pytest.mark.parametrize("name", ["rows-0", "words-0"])
def test_nothing_of_recordings_is_shown_of_other_kinds(shown, name):
    page = read(shown / name / "report.html")
    for word in ("FLAC", "i.i.d.", "bits", "Hz", "duration", "16-bit", "speaker", "recording", "constant", "Speech"):
        assert word not in page.text.partition("Configuration")[0], word
    assert "audio" not in page.sources


def test_the_steps_of_speech_have_a_player_each(shown):
    page = read(shown / "speech/report.html")
    assert [f"step {number} " in page.text for number in range(1, 7)] == [True] * 5 + [False]
    assert "first.wav to last.wav" in page.text
    assert len(page.sources["audio"]) == len(page.sources["img"]) == 3 + 5


def test_markup_in_sentences_is_escaped(shown, tmp_path):
    exp = shutil.copytree(shown / "words-0", tmp_path / "exp", symlinks=True)
    nasty = "<script>alert('&')</script> \x1b[31m \u202e"
    (exp / "samples/samples.txt").write_text(nasty + "\n", encoding="utf-8")
    (exp / "samples/reconstructions.txt").write_text(f"{nasty}\t{nasty}\n", encoding="utf-8")
    report(exp)
    text = read(exp / "report.html").text
    assert text.count("<script>alert('&')</script> \\x1b[31m \\u202e") == 3


def test_a_picture_that_is_none_is_named(shown, tmp_path):
    exp = shutil.copytree(shown / "rows-0", tmp_path / "exp", symlinks=True)
    (exp / "samples/samples.png").write_bytes(b"<svg onload='alert(1)'/>")
    report(exp)
    assert "samples.png: not a picture that can be read" in read(exp / "report.html").text


def test_a_long_interpolation_is_shown_from_end_to_end():
    steps = [Sample("interpolation", f"{index:03d}.wav", index=index) for index in range(50)]
    assert [sample.index for sample in chosen("interpolation", steps)][:: STEPS - 1] == [0, 49]
    assert len(chosen("interpolation", steps)) == STEPS
    assert len(chosen("sample", steps)) == FILES
