"""Latents, comparison and report of pictures and sentences, each in its own terms."""

import json
from pathlib import Path

import pytest
from experiment import make_experiment
from frame_sources import bit_shards, sentence_shards
from small_runs import run_here, small_run

from zfaudio.command import run_command
from zfaudio.errors import UserError
from zfaudio.evaluation.collapse import has_collapsed
from zfaudio.evaluation.evaluate import evaluate
from zfaudio.evaluation.latents import latents, read_latents

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
