"""What `zfaudio compare` finds about experiments; test_comparison_table.py is about how it is shown."""

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from compare_fixtures import result_of, rows_of, write
from test_diagnostics import QUALITY, recognized

from zfaudio.errors import UserError
from zfaudio.evaluation.comparison import compare_experiments
from zfaudio.evaluation.evaluate import evaluate
from zfaudio.evaluation.units import paired_interval
from zfaudio.experiment.metrics import COLUMNS
from zfaudio.experiment.results import EvaluationResult
from zfaudio.generation.generate import generate
from zfaudio.generation.samples import Sample, read_sample_list, write_sample_list
from zfaudio.reporting.comparison_table import describe, tabulate_comparison


def shifted(result: EvaluationResult, nats_per_frame: float) -> EvaluationResult:
    scores = [replace(score, nats=score.nats + nats_per_frame * score.frames) for score in result.scores]
    return replace(result, scores=scores, nats_per_frame=result.nats_per_frame + nats_per_frame)


def change_training(exp: Path, **settings: object) -> None:
    config = yaml.safe_load((exp / "config.yaml").read_text())
    config["train"] |= settings
    (exp / "config.yaml").write_text(yaml.safe_dump(config))


# Numbers


def test_rows_are_the_experiments_results(trained):
    rows = rows_of(trained / "rnn-0", trained / "zforcing")
    for name, row in rows.items():
        result = result_of(trained / name)
        assert row.model == result.model
        assert row.nats_per_frame == pytest.approx(result.nats_per_frame)
        assert row.nats_per_frame_ci95 == pytest.approx(result.nats_per_frame_ci95)
        assert row.bits_per_sample == pytest.approx(result.bits_per_sample)
        assert row.flac_bits_per_sample == result.references.flac_bits_per_sample
        assert (row.parameters, row.steps) == (result.parameters, 500)
    assert (rows["rnn-0"].bound, rows["rnn-0"].kl_per_frame) == ("exact", None)
    assert (rows["zforcing"].bound, rows["zforcing"].kl_per_frame) == ("elbo", result.kl_per_frame)


def test_differences_are_to_the_first_with_paired_intervals(trained):
    rows = rows_of(trained / "rnn-0", trained / "zforcing", trained / "biased")
    first = result_of(trained / "rnn-0")
    assert rows["rnn-0"].difference is None
    for name in ("zforcing", "biased"):
        other = result_of(trained / name)
        assert rows[name].difference == pytest.approx(other.nats_per_frame - first.nats_per_frame)
        nats, base = (np.array([score.nats for score in one.scores]) for one in (other, first))
        frames = np.array([score.frames for score in first.scores])
        assert rows[name].difference_ci95 == pytest.approx(paired_interval(nats, base, frames))


def test_another_reference_changes_the_sign_of_the_differences(trained):
    forward = rows_of(trained / "rnn-0", trained / "biased")["biased"]
    back = rows_of(trained / "rnn-0", trained / "biased", reference=trained / "biased")["rnn-0"]
    assert back.difference == pytest.approx(-forward.difference)
    assert back.difference_ci95 == pytest.approx((-forward.difference_ci95[1], -forward.difference_ci95[0]))
    with pytest.raises(UserError, match="zforcing: not among the experiments"):
        compare_experiments([trained / "rnn-0"], reference=trained / "zforcing")


def test_a_constant_advantage_has_no_width_whatever_the_order_of_utterances(exps):
    better = shifted(result_of(exps / "rnn-0"), 2.25)
    write(exps / "rnn-1", replace(better, scores=better.scores[::-1]))
    row = rows_of(exps / "rnn-0", exps / "rnn-1")["rnn-1"]
    assert row.difference == pytest.approx(2.25)
    assert row.difference_ci95 == pytest.approx((2.25, 2.25))
    assert row.nats_per_frame_ci95[1] - row.nats_per_frame_ci95[0] > 0.1


# Experiments that cannot be compared


def test_other_utterances_are_refused(exps):
    result = result_of(exps / "rnn-1")
    for scores in (
        [replace(result.scores[0], utterance="someone-else"), *result.scores[1:]],
        [replace(result.scores[0], frames=result.scores[0].frames + 1), *result.scores[1:]],
        result.scores[1:],
        [*result.scores, result.scores[0]],
    ):
        write(exps / "rnn-1", replace(result, scores=scores))
        with pytest.raises(UserError, match=r"rnn-1.*not scored on the same utterances"):
            compare_experiments([exps / "rnn-0", exps / "rnn-1"])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"audio_sha256": "another"}, "another audio"),
        ({"protocol": "zforcing2017"}, "another protocol"),
        ({"dequantized": False, "bits_per_sample": None}, "another dequantization"),
        ({"mean": 1.0, "deviation": 3.0}, "another standardization"),
        ({"split": "valid", "audio_sha256": "another"}, "another split and audio"),
    ],
)
def test_results_of_other_conditions_are_marked_and_have_no_difference(exps, change, said):
    write(exps / "biased", replace(result_of(exps / "biased"), **change))
    comparison = compare_experiments([exps / "rnn-0", exps / "biased", exps / "zforcing"])
    _, biased, zforcing = comparison.rows
    assert biased.remark == f"not comparable with rnn-0: {said}"
    assert biased.difference is None
    assert zforcing.difference is not None
    text = describe(tabulate_comparison(comparison))
    assert "biased*" in text
    assert f"* biased: {biased.remark}" in text


def test_a_protocol_of_an_experiment_stands_beside_the_usual_one(exps):
    evaluate(exps / "rnn-0", json=exps / "rnn-0/results/cut.json", device="cpu", protocol="zforcing2017")
    rows = rows_of(exps / "rnn-0", exps / "rnn-0/results/cut.json")
    assert list(rows) == ["rnn-0", "rnn-0 (cut)"]
    assert rows["rnn-0 (cut)"].remark == "not comparable with rnn-0: another protocol"


def test_what_is_missing_is_named_with_the_command_that_makes_it(exps):
    (exps / "biased/results/test.json").unlink()
    with pytest.raises(UserError) as missing:
        compare_experiments([exps / "rnn-0", exps / "biased"])
    assert str(missing.value) == (
        f"{exps}/biased: no result on test; "
        f"make it: zfaudio evaluate {exps}/biased --split test --json {exps}/biased/results/test.json"
    )
    with pytest.raises(UserError, match="nowhere: no such experiment"):
        compare_experiments([exps / "rnn-0", exps / "nowhere"])
    old = json.loads((exps / "rnn-0/results/test.json").read_text())
    del old["scores"]
    (exps / "biased/results/test.json").write_text(json.dumps(old))
    with pytest.raises(UserError, match=r"biased/results/test.json.*make it again: zfaudio evaluate"):
        compare_experiments([exps / "rnn-0", exps / "biased"])


# Seeds


def test_seeds_are_averaged_and_their_range_shown(trained):
    comparison = compare_experiments([trained / "zforcing", trained / "rnn-0", trained / "rnn-1"], group_seeds=True)
    zforcing, rnn = comparison.rows
    results = [result_of(trained / name) for name in ("rnn-0", "rnn-1")]
    each = [result.nats_per_frame for result in results]
    assert (rnn.name, rnn.seeds) == ("rnn", [0, 1])
    assert rnn.nats_per_frame == pytest.approx(np.mean(each))
    assert rnn.seed_range == (min(each), max(each))
    assert rnn.bits_per_sample == pytest.approx(np.mean([result.bits_per_sample for result in results]))
    assert rnn.difference == pytest.approx(np.mean(each) - result_of(trained / "zforcing").nats_per_frame)
    assert (zforcing.name, zforcing.seeds, zforcing.seed_range) == ("zforcing", None, None)
    assert "over seeds" in describe(tabulate_comparison(comparison))


def test_any_seed_of_the_reference_stands_for_its_group(trained):
    experiments = [trained / name for name in ("zforcing", "rnn-0", "rnn-1")]
    comparison = compare_experiments(experiments, reference=trained / "rnn-1", group_seeds=True)
    assert comparison.reference == "rnn"
    assert [row.difference is None for row in comparison.rows] == [False, True]


def test_experiments_that_differ_in_more_than_their_seed_stay_apart(exps):
    change_training(exps / "rnn-1", learning_rate=0.5)
    assert list(rows_of(exps / "rnn-0", exps / "rnn-1", group_seeds=True)) == ["rnn-0", "rnn-1"]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("srnn-s0", "srnn-s1"), "srnn"),
        (("srnn-256-1", "srnn-256-10"), "srnn-256"),
        (("vrnn/seed-0", "vrnn/seed-1"), "vrnn"),
        (("a", "b"), "a"),
    ],
)
def test_a_group_is_named_by_what_its_names_share(exps, names, expected):
    for name, source in zip(names, ("rnn-0", "rnn-1"), strict=True):
        shutil.copytree(exps / source, exps / "named" / name, symlinks=True)
    shutil.copytree(exps / "zforcing", exps / "named/zforcing", symlinks=True)
    rows = rows_of(*(exps / "named" / name for name in (*names, "zforcing")), group_seeds=True)
    assert list(rows) == [expected, "zforcing"]


# Speeds


def write_speeds(exp: Path, *speeds: float) -> None:
    with (exp / "metrics.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        for speed in speeds:
            writer.writerow({"step": 1, "split": "train", "frames_per_second": speed, "skipped": 0})
        writer.writerow({"step": 1, "split": "valid", "skipped": ""})


def write_samples(exp: Path, *samples: Sample) -> None:
    (exp / "samples").mkdir()
    for sample in samples:
        (exp / "samples" / sample.file).touch()
    write_sample_list(exp / "samples", {sample.file: sample for sample in samples})


def test_speeds_are_those_of_training_and_of_the_samples(exps):
    write_speeds(exps / "rnn-0", 10.0, 400.0, 500.0)
    write_samples(
        exps / "rnn-0",
        Sample("sample", "a.wav", seconds=3.0, computing_per_second=0.5),
        Sample("sample", "b.wav", seconds=1.0, computing_per_second=2.5),
        Sample("sample", "c.wav", seconds=1.0),  # of an earlier version
        Sample("reconstruction", "d.wav", seconds=1.0, computing_per_second=70.0),
    )
    row = rows_of(exps / "rnn-0")["rnn-0"]
    assert (row.training_frames_per_second, row.computing_per_second) == (400.0, 1.0)


def test_batch_size_learning_rate_and_draws_are_shown_where_they_differ(exps):
    experiments = [exps / name for name in ("rnn-0", "rnn-1", "zforcing", "biased")]

    def titles(*chosen: Path) -> list[str]:
        return [column.title for column in tabulate_comparison(compare_experiments(chosen or experiments)).columns]

    settings = {"batch", "learning rate", "draws"}
    assert not settings & set(titles())  # exact likelihoods have no draws to differ in
    change_training(exps / "rnn-1", batch_size=7)
    change_training(exps / "zforcing", learning_rate=0.0123)
    evaluate(exps / "biased", json=exps / "biased/results/test.json", device="cpu", draws=2)
    assert settings <= set(titles())
    assert {"batch"} == settings & set(titles(*experiments[:2]))
    assert {"learning rate", "draws"} == settings & set(titles(*experiments[2:]))
    rows = rows_of(*experiments)
    assert (rows["rnn-1"].batch_size, rows["zforcing"].learning_rate, rows["biased"].draws) == (7, 0.0123, 2)
    assert "draws: of the posterior" in describe(tabulate_comparison(compare_experiments(experiments)))
    (exps / "rnn-1/config.yaml").unlink()
    assert "batch" not in titles()


def test_what_an_experiment_lacks_stays_empty(exps):
    write_speeds(exps / "rnn-0", 100.0)
    rows = rows_of(exps / "rnn-0", exps / "rnn-1", exps / "zforcing")
    assert rows["rnn-1"].training_frames_per_second is None
    assert rows["rnn-0"].computing_per_second is None
    # The mean of a group is over the experiments that have the number.
    assert rows_of(exps / "rnn-0", exps / "rnn-1", group_seeds=True)["rnn"].training_frames_per_second == 100


def test_the_quality_of_samples_is_shown_where_it_was_measured(exps):
    def titles() -> list[str]:
        comparison = compare_experiments([exps / "rnn-0", exps / "rnn-1"])
        return [column.title for column in tabulate_comparison(comparison).columns]

    assert not {"Fréchet", "words, %", "words/s"} & set(titles())
    (exps / "rnn-0/quality.json").write_text(json.dumps(QUALITY))
    assert {"Fréchet"} == {"Fréchet", "words, %", "words/s"} & set(titles())
    (exps / "rnn-1/quality.json").write_text(json.dumps(QUALITY | {"words": recognized(0.5, 7.5)}))
    assert {"Fréchet", "words, %", "words/s"} <= set(titles())
    rows = rows_of(exps / "rnn-0", exps / "rnn-1")
    assert rows["rnn-0"].samples_frechet_distance == QUALITY["generated"]["frechet_distance"]
    assert rows["rnn-0"].samples_recognized_fraction is None
    assert (rows["rnn-1"].samples_recognized_fraction, rows["rnn-1"].samples_words_per_second) == (0.5, 1.0)


def test_generation_notes_what_it_costs(exps):
    generate(exps / "rnn-0", out=exps / "rnn-0/samples", num=2, seconds=0.1, device="cpu")
    samples = read_sample_list(exps / "rnn-0/samples").values()
    (cost,) = {sample.computing_per_second for sample in samples}
    assert cost > 0
    assert rows_of(exps / "rnn-0")["rnn-0"].computing_per_second == pytest.approx(cost)
