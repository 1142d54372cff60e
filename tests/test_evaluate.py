import json
import math
from pathlib import Path

import numpy as np
import pytest
import soundfile
from experiment import FRAME_SIZE, make_experiment
from speech import make_shards, speech

from zfaudio.data.frames import to_frames
from zfaudio.data.shard_reader import read_utterances
from zfaudio.errors import UserError
from zfaudio.evaluation.evaluate import evaluate
from zfaudio.evaluation.kept_frames import KeptFrames
from zfaudio.evaluation.latents import latents
from zfaudio.evaluation.lossless_coders import flac_size
from zfaudio.evaluation.references import measure_scored_audio
from zfaudio.evaluation.units import Units
from zfaudio.experiment.checkpoint import load_checkpoint
from zfaudio.experiment.results import read_result
from zfaudio.reporting.comparison_table import compare
from zfaudio.reporting.formatting import page_number
from zfaudio.reporting.report import report


def result_of(exp: Path, file: Path, **options: object) -> dict:
    returned = evaluate(str(exp), json=str(file), device="cpu", **options)
    assert read_result(file) == returned
    return json.loads(file.read_text())


def test_result_holds_what_the_contract_says_and_its_units_agree(tmp_path, capsys):
    exp = make_experiment(tmp_path)
    result = result_of(exp, tmp_path / "results" / "test.json", split="test")
    trained = load_checkpoint(exp)
    utterances = list(read_utterances(trained.config.data.shards, "test"))
    assert result["format_version"] == 2
    assert result["model"] == "zforcing"
    assert result["split"] == "test"
    assert result["utterances"] == len(utterances)
    assert result["frames"] == sum(len(one.frames) - 1 for one in utterances)  # the first frame is given
    assert result["frame_size"] == FRAME_SIZE
    assert result["sample_rate"] == 16000
    assert result["bound"] == "elbo"
    assert result["importance_samples"] == 1
    assert result["protocol"] == "whole"
    assert (result["likelihood"], result["head"]) == ("gaussian", "factorized")
    assert result["parameters"] == sum(weights.numel() for weights in trained.model.parameters())
    assert result["dequantized"] is True
    assert result["constant_frames"] == sum(
        int((one.frames[1:] == one.frames[1:, :1]).all(1).sum()) for one in utterances
    )
    low, high = result["nats_per_frame_ci95"]
    assert low <= result["nats_per_frame"] <= high
    units = Units(FRAME_SIZE, trained.manifest.deviation)
    assert result["nats_per_sample"] == pytest.approx(result["nats_per_frame"] / FRAME_SIZE)
    assert result["bits_per_sample"] == pytest.approx(units.bits_per_sample(result["nats_per_frame"]))
    assert result["nats_per_utterance"] == pytest.approx(
        result["nats_per_frame"] * result["frames"] / result["utterances"]
    )
    assert result["kl_per_frame"] > 0
    assert math.isfinite(result["worst_permille_share"])
    assert math.isfinite(result["median_frame_nats"])
    assert set(result["references"]) == {
        "iid_gaussian_nats_per_frame",
        "flac_bits_per_sample",
        "wavpack_bits_per_sample",
    }
    assert f"{result['nats_per_frame']:.2f} nats" in capsys.readouterr().out


def test_scores_of_the_utterances_make_up_the_average(tmp_path):
    exp = make_experiment(tmp_path)
    result = result_of(exp, tmp_path / "r.json")
    trained = load_checkpoint(exp)
    utterances = {one.id: len(one.frames) - 1 for one in read_utterances(trained.config.data.shards, "test")}
    assert {score["utterance"]: score["frames"] for score in result["scores"]} == utterances
    total = sum(score["nats"] for score in result["scores"])
    assert total / result["frames"] == pytest.approx(result["nats_per_frame"])
    assert result["conventions"]["per utterance, averaged over utterances"] == result["nats_per_utterance"]


def test_the_fingerprint_of_the_audio_is_that_of_the_scored_frames(tmp_path):
    exp = make_experiment(tmp_path)
    result = result_of(exp, tmp_path / "a.json")
    assert result_of(exp, tmp_path / "b.json", seed=1)["audio_sha256"] == result["audio_sha256"]
    assert result_of(exp, tmp_path / "c.json", split="train")["audio_sha256"] != result["audio_sha256"]
    frames = [np.full((3, 20), value, np.int16) for value in (1, 2)]
    forward, backward = (
        measure_scored_audio(order, 0.0, 1.0, 20, 16_000, dequantized=True) for order in (frames, frames[::-1])
    )
    assert forward.sha256 == backward.sha256
    frames[1][2, 19] = 3
    assert measure_scored_audio(frames, 0.0, 1.0, 20, 16_000, dequantized=True).sha256 != forward.sha256


def test_an_exact_likelihood_is_computed_once_whatever_draws_are_asked_for(tmp_path):
    exp = make_experiment(tmp_path, model="rnn")
    result = result_of(exp, tmp_path / "a.json", draws=8, importance_samples=16)
    assert (result["bound"], result["draws"], result["importance_samples"]) == ("exact", 1, 1)
    assert result["kl_per_frame"] == 0
    assert result_of(exp, tmp_path / "b.json", draws=1)["nats_per_frame"] == result["nats_per_frame"]


def test_the_published_cutting_of_utterances_is_labeled_and_changes_the_score(tmp_path, capsys):
    shards = make_shards(tmp_path / "shards", frames=[90, 47, 60], frame_size=FRAME_SIZE)
    exp = make_experiment(tmp_path, shards=shards)
    whole = result_of(exp, tmp_path / "a.json", draws=1)
    cut = result_of(exp, tmp_path / "b.json", draws=1, protocol="zforcing2017")
    assert cut["protocol"] == "zforcing2017"
    assert cut["frames"] == whole["frames"] == 89 + 46 + 59
    assert cut["nats_per_frame"] != whole["nats_per_frame"]
    total = sum(score["nats"] for score in cut["scores"])
    padded = cut["conventions"]["zforcing2017: averaged over utterances and rows of padding"]
    assert padded == pytest.approx(total / 32)
    assert not any("padding" in name for name in whole["conventions"])
    assert "cut every 40 frames" in capsys.readouterr().out


def test_a_result_is_reproducible_whatever_the_batches(tmp_path):
    exp = make_experiment(tmp_path)
    first = result_of(exp, tmp_path / "a.json", frames_per_batch=10_000)
    second = result_of(exp, tmp_path / "b.json", frames_per_batch=64)
    assert second["nats_per_frame"] == pytest.approx(first["nats_per_frame"], rel=1e-5)
    other_seed = result_of(exp, tmp_path / "c.json", seed=1)
    assert other_seed["nats_per_frame"] != first["nats_per_frame"]


def test_a_single_utterance_has_no_interval(tmp_path, capsys):
    shards = make_shards(tmp_path / "shards", utterances={"train": 4, "test": 1}, frame_size=FRAME_SIZE)
    exp = make_experiment(tmp_path, shards=shards)
    result = result_of(exp, exp / "results/test.json")
    assert result["utterances"] == 1
    assert result["nats_per_frame_ci95"] is None
    assert "(no interval from a single utterance; elbo, 4 draws)" in capsys.readouterr().out
    # Neither has the comparison of two experiments on it, nor what the model loses without its latents.
    evaluate(exp, json=exp / "results/again.json", seed=1, device="cpu")
    comparison = compare([exp, exp / "results/again.json"], csv=tmp_path / "t.csv")
    for row in comparison.rows:
        assert (row.nats_per_frame_ci95, row.bits_per_sample_ci95, row.difference_ci95) == (None, None, None)
    assert "a single utterance has no interval" in capsys.readouterr().out
    without = latents(exp, device="cpu")
    assert without.state_cut.lost_nats_per_frame_ci95 is None
    assert "no interval from a single utterance, at the median frame" in capsys.readouterr().out
    report(exp, compare=(exp / "results/again.json",))
    html = " ".join((exp / "report.html").read_text().split())
    # Two evaluations of one experiment agree up to float32, which may be a different last decimal.
    assert f'{page_number(result["nats_per_frame"], 2)}</td> <td class="right whole">–</td>' in html
    assert f'{page_number(without.nats_per_frame, 2)}</td> <td class="right">–</td>' in html


def test_importance_weighting_tightens_the_bound(tmp_path):
    exp = make_experiment(tmp_path)
    elbo = result_of(exp, tmp_path / "elbo.json", draws=16)
    weighted = result_of(exp, tmp_path / "iwae.json", importance_samples=16)
    assert weighted["bound"] == "iwae"
    assert weighted["importance_samples"] == 16
    assert weighted["nats_per_frame"] > elbo["nats_per_frame"]


def test_the_published_protocol_is_labeled_and_claims_no_bits(tmp_path, capsys):
    exp = make_experiment(tmp_path)
    result = result_of(exp, tmp_path / "r.json", dequantize=False)
    assert result["dequantized"] is False
    assert result["bits_per_sample"] is None
    assert result["constant_frames"] > 0
    assert f"{result['constant_frames']} constant frames" in capsys.readouterr().out


def test_shards_of_another_frame_size_or_rate_are_refused_with_what_to_do(tmp_path):
    exp = make_experiment(tmp_path)
    other = make_shards(tmp_path / "other", frame_size=FRAME_SIZE + 5)
    with pytest.raises(UserError, match=r"frame_size 25.*trained at 20.*--frame-size 20"):
        evaluate(exp, shards=other)
    manifest = Path(other) / "manifest.json"
    fields = json.loads(manifest.read_text()) | {"frame_size": FRAME_SIZE, "sample_rate": 8000}
    manifest.write_text(json.dumps(fields))
    with pytest.raises(UserError, match=r"sample_rate 8000.*trained at 16000"):
        evaluate(exp, shards=other)


def test_other_mistakes_name_what_is_wrong(tmp_path):
    exp = make_experiment(tmp_path)
    with pytest.raises(UserError, match="nope"):
        evaluate(exp, split="nope")
    with pytest.raises(UserError, match="no checkpoint"):
        evaluate(tmp_path / "nowhere")
    with pytest.raises(UserError, match="at least 1"):
        evaluate(exp, draws=0)
    with pytest.raises(UserError, match="split 'test' has no utterance with a frame to score"):
        evaluate(exp, shards=make_shards(tmp_path / "single", frames=1, frame_size=FRAME_SIZE), device="cpu")


def test_scores_on_other_shards_are_standardized_as_in_training(tmp_path):
    exp = make_experiment(tmp_path)
    same = load_checkpoint(exp).config.data.shards
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in Path(same).iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    fields = json.loads((copy / "manifest.json").read_text()) | {"mean": 100.0, "deviation": 9.0}
    (copy / "manifest.json").write_text(json.dumps(fields))
    ours = result_of(exp, tmp_path / "a.json")
    theirs = result_of(exp, tmp_path / "b.json", shards=str(copy))
    assert theirs["nats_per_frame"] == ours["nats_per_frame"]


def test_flac_reference_is_the_size_of_a_flac_file(tmp_path):
    waveform = speech(16_000, seed=3)
    soundfile.write(tmp_path / "a.flac", waveform, 16_000, subtype="PCM_16", compression_level=1.0)
    assert flac_size(waveform, 16_000) == (tmp_path / "a.flac").stat().st_size
    audio = measure_scored_audio([to_frames(waveform, 200)], 0.0, 1000.0, 200, 16_000, dequantized=True)
    assert audio.references.flac_bits_per_sample == 8 * flac_size(waveform, 16_000) / 16_000


def test_gaussian_reference_counts_the_noise_of_dequantization():
    rng = np.random.default_rng(0)
    frames = np.round(2 * rng.standard_normal((500, 20))).astype(np.int16)
    mean, deviation = float(frames.mean()), float(frames.std())
    noisy = (frames + rng.uniform(-0.5, 0.5, (400, *frames.shape)) - mean) / deviation
    expected = -0.5 * 20 * (math.log(2 * math.pi) + (noisy**2).mean())
    audio = measure_scored_audio([frames], mean, deviation, 20, 16_000, dequantized=True)
    assert audio.references.iid_gaussian_nats_per_frame == pytest.approx(expected, abs=5e-3)


def test_what_is_kept_of_each_frame_lies_in_one_array_made_before_scoring():
    given = [np.arange(n, dtype=float) for n in (3, 5, 2)]
    frames = KeptFrames(8)
    kept = [frames.keep(values) for values in given]
    for values, of_batch in zip(kept, given, strict=True):
        assert np.array_equal(values, of_batch)
    assert kept[0].base is kept[1].base
    assert not np.shares_memory(kept[0], given[0])
    assert kept[2] is given[2]  # beyond what the manifest has told
