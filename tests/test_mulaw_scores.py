"""From training on 8-bit mu-law to a page: scores that say what their bits are of, and draws that are levels."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from small_runs import run_here, small_run
from speech import speech

import zfaudio
from zfaudio.corpus.audio import write_wav
from zfaudio.data.manifest import read_manifest
from zfaudio.data.shard_reader import read_utterances
from zfaudio.errors import UserError
from zfaudio.experiment.results import read_result
from zfaudio.mulaw import decode, encode, to_levels

MULAW = {"model__likelihood": "mulaw", "model__head": "autoregressive", "model__head_window": 8, "model__head_size": 16}


@pytest.fixture(scope="module")
def exp(mulaw_shards, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("exp") / "mulaw"
    run_here(small_run(mulaw_shards, "rnn", **MULAW), folder)
    zfaudio.evaluate(folder, json=folder / "results/test.json", device="cpu")
    return folder


def test_a_result_says_that_its_bits_are_those_of_mulaw(exp, mulaw_shards, capsys):
    result = zfaudio.evaluate(exp, device="cpu")
    said = capsys.readouterr().out
    assert result.encoding == "mulaw"
    assert f"bits per sample of 8-bit mu-law    {result.bits_per_sample:.3f}" in said
    assert "FLAC" not in said
    assert "16-bit sample  " not in said
    deviation = read_manifest(mulaw_shards).deviation
    nats = result.nats_per_frame / 20 - math.log(deviation)
    assert result.bits_per_sample == pytest.approx(-nats / math.log(2))
    assert result.bits_per_sample < 8 + 1
    assert result.references is None
    assert "references" not in json.loads((exp / "results/test.json").read_text())
    codes = np.concatenate([encode(one.frames)[1:].ravel() for one in read_utterances(mulaw_shards, "test")])
    shares = np.unique(codes, return_counts=True)[1] / len(codes)
    entropy = -(shares * np.log2(shares)).sum()
    assert (math.log(deviation) - result.iid_levels_nats_per_frame / 20) / math.log(2) == pytest.approx(entropy)
    assert f"i.i.d. levels {entropy:.3f}" in said
    assert read_result(exp / "results/test.json") == result


def test_training_begins_with_what_levels_cost_without_a_model(mulaw_shards, tmp_path, capsys):
    run_here(small_run(mulaw_shards, "rnn", **MULAW), tmp_path / "exp")
    said = capsys.readouterr().out
    assert "by i.i.d. levels (" in said
    assert "bits a sample of 8-bit mu-law)" in said
    assert "FLAC" not in said


def test_every_sample_that_is_generated_is_a_level(exp):
    model = zfaudio.load(exp, device="cpu")
    recording = speech(2000), 16000
    for spoken in (model.sample(2, seconds=0.05), model.continue_from(recording, seconds=0.05)):
        assert np.array_equal(spoken.waveforms, to_levels(spoken.waveforms))
    score = model.score(recording)
    assert np.isfinite(score.frame_nats).all()
    assert score.nats == pytest.approx(model.score((to_levels(speech(2000)), 16000)).nats)


def test_a_model_of_mulaw_scores_no_16_bit_shards_and_the_other_way_round(exp, spoken_corpus, tmp_path):
    zfaudio.shard(spoken_corpus, tmp_path / "linear", frame_size=20)
    with pytest.raises(UserError, match=r"shards of encoding linear, but .* was trained on mulaw; .*--encoding mulaw"):
        zfaudio.evaluate(exp, shards=tmp_path / "linear", device="cpu")
    with pytest.raises(UserError, match="--dequantize true: for 16-bit samples"):
        zfaudio.evaluate(exp, dequantize=True, device="cpu")


def test_tables_keep_bits_of_mulaw_and_of_16_bits_apart(exp, spoken_corpus, tmp_path, capsys):
    zfaudio.shard(spoken_corpus, tmp_path / "shards", frame_size=20)
    linear = tmp_path / "linear"
    run_here(small_run(str(tmp_path / "shards"), "rnn", model__likelihood="logistic_mixture"), linear)
    zfaudio.evaluate(linear, json=linear / "results/test.json", device="cpu")
    capsys.readouterr()
    comparison = zfaudio.compare([exp, linear], csv=tmp_path / "both.csv")
    said = capsys.readouterr().out
    assert "bits/sample" in said
    assert "bits/mu-law: bits per sample of 8-bit mu-law" in said
    assert "encoding of samples" in comparison.rows[1].remark
    assert comparison.rows[1].difference is None
    assert "FLAC" not in said
    assert (tmp_path / "both.csv").read_text().count("mulaw") >= 1
    zfaudio.compare([exp])
    said = capsys.readouterr().out
    assert "bits/mu-law" in said
    assert "bits/sample" not in said
    assert "i.i.d. levels" in said
    zfaudio.compare([linear])
    assert "bits/mu-law" not in capsys.readouterr().out


def test_a_page_says_which_bits_it_shows(exp, mulaw_shards):
    zfaudio.report(exp, shards=mulaw_shards)
    page = (exp / "report.html").read_text()
    assert "bits per sample of 8-bit mu-law" in page
    assert "bits per 16-bit sample" not in page
    assert "i.i.d. levels" in page


def test_latents_of_a_model_of_mulaw_have_no_gaussian_beside_them(mulaw_shards, tmp_path):
    run_here(small_run(mulaw_shards, "zforcing", **MULAW), tmp_path / "exp")
    result = zfaudio.latents(tmp_path / "exp", device="cpu")
    assert (result.encoding, result.iid_gaussian_nats_per_frame) == ("mulaw", None)


# A source whose entropy is known


CHAIN_CODES = np.array([60, 128, 200], np.uint8)
CHAIN = np.array([[0.7, 0.2, 0.1], [0.1, 0.6, 0.3], [0.3, 0.3, 0.4]])  # row i: what follows i


def test_a_trained_model_comes_to_the_entropy_of_a_chain_over_levels(tmp_path):
    """The bits of each test recording are those of the chain that it was drawn from, but for what training missed."""
    rng = np.random.default_rng(0)
    for number in range(60):
        places = [1]
        while len(places) < 800:
            places.append(int(rng.choice(3, p=CHAIN[places[-1]])))
        path = tmp_path / "in" / f"s{number}" / f"s{number}.wav"
        path.parent.mkdir(parents=True)
        write_wav(path, decode(CHAIN_CODES[places]), 16000)
    shards = str(tmp_path / "shards")
    zfaudio.shard(
        tmp_path / "in", shards, frame_size=20, encoding="mulaw", folder=zfaudio.FolderConfig(test_fraction=0.3)
    )
    trained = {"max_steps": 400, "batch_size": 16, "segment_frames": 20, "learning_rate": 0.02, "decay_steps": 350}
    config = small_run(
        shards,
        "sample_ar",
        model__likelihood="mulaw",
        model__head_window=4,
        model__head_size=16,
        **{f"train__{name}": value for name, value in trained.items()},
        train__validate_every=400,
        train__save_every=400,
        train__clip_norm=1e4,
    )
    run_here(config, tmp_path / "exp")
    result = zfaudio.evaluate(tmp_path / "exp", device="cpu")
    bits = 0.0
    for utterance in read_utterances(shards, "test"):
        places = np.searchsorted(CHAIN_CODES, encode(utterance.frames.ravel()))
        bits -= np.log2(CHAIN[places[19:-1], places[20:]]).sum()
    assert bits / (20 * result.frames) - 1e-3 < result.bits_per_sample < bits / (20 * result.frames) + 0.02
