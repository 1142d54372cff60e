"""What the report page says about latents, about samples and real speech, and about collapse."""

import csv
import json
import re
from pathlib import Path

import pytest
from experiment import make_experiment

from zfaudio.errors import UserError
from zfaudio.evaluation.ablation import LatentUsage
from zfaudio.evaluation.latents import LATENTS_FILE, latents, read_latents
from zfaudio.evaluation.quality import QUALITY_FILE, read_quality
from zfaudio.experiment.metrics import COLUMNS
from zfaudio.reporting.gather import find_collapse
from zfaudio.reporting.plots import plot_kl_by_dimension
from zfaudio.reporting.report import report

PROBE = {
    "accuracy": {"posterior mean": 0.512, "prior mean": 0.25, "state": 0.4375},
    "majority_accuracy": 0.196,
    "majority_phone": "sil",
    "phones": 39,
    "fitted_split": "train",
    "fitted_utterances": 500,
    "fitted_frames": 20000,
    "scored_split": "test",
    "scored_utterances": 500,
    "scored_frames": 19950,
}


def measures(frechet: float, voiced: float, f0: float | None) -> dict:
    voice = {"voiced_fraction": voiced, "median_f0_hz": f0, "f0_deviation_semitones": f0 and f0 / 40}
    return {"frechet_distance": frechet, "ltas_distance_db": frechet / 10, "voice": voice}


QUALITY = {
    "split": "test",
    "floor_split": "train",
    "seconds": 64.0,
    "samples": 16,
    "piece_seconds": 4.0,
    "sample_rate": 16000,
    "mel_bands": 40,
    "seed": 0,
    "checkpoint_steps": [500],
    "temperatures": [[1.0, 1.0]],
    "generated": measures(123.4, 0.0, None),
    "real": measures(0.0, 0.3125, 160.0),
    "floor": measures(12.5, 0.375, 120.0),
    "command": "zfaudio quality exp",
}


def recognized(fraction: float, score: float | None) -> dict:
    """What is recognized in samples: a fraction of their pieces. Real speech has 80 %."""

    def words(fraction: float, score: float | None) -> dict:
        scores = dict.fromkeys(("inception_score", "modified_inception_score", "am_score", "frechet_distance"), score)
        return {"pieces": 100, "recognized_fraction": fraction, "words_per_second": 2 * fraction, **scores}

    accuracies = {"accuracy": 0.99, "confident_accuracy": 0.85, "backward_fraction": 0.01, "noise_fraction": 0.0}
    counts = {"vocabulary": 10, "training_words": 2500, "held_out_words": 300, "floor_frechet_distance": 2.5}
    return counts | accuracies | {"generated": words(fraction, score), "real": words(0.8, 7.5)}


@pytest.fixture
def exp(tmp_path: Path) -> Path:
    exp = make_experiment(tmp_path)
    latents(exp, device="cpu")
    return exp


def page_of(exp: Path) -> str:
    """The text of the page without its markup."""
    report(exp)
    html = re.sub(r"<style>.*?</style>", "", (exp / "report.html").read_text(), flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]*>", " ", html).split())


def change(path: Path, **fields: object) -> dict:
    content = json.loads(path.read_text()) | fields
    path.write_text(json.dumps(content))
    return content


def text(value: float) -> str:
    return f"{value:,.2f}".replace("-", "−")


def signed(value: float) -> str:
    return f"{value:+,.2f}".replace("-", "−")


def test_the_page_shows_what_is_lost_and_what_the_latents_carry(exp):
    found = change(exp / "latents.json", probe=PROBE, command="zfaudio latents exp")
    page = page_of(exp)
    assert f"as trained ≥ {text(found['nats_per_frame'])}" in page
    for title, loss in (("drawn from the prior", "prior_drawn"), ("kept, without the state", "state_cut")):
        low, high = found[loss]["lost_nats_per_frame_ci95"]
        shown, change_ = text(found[loss]["nats_per_frame"]), signed(-found[loss]["lost_nats_per_frame"])
        assert f"latents {title} {shown} {change_} {signed(-high)} to {signed(-low)}" in page
    assert f"KL per frame {text(found['usage']['kl_per_frame'])} nats" in page
    assert f"{found['usage']['dimensions_of_90_percent']} of 4 dimensions" in page
    assert "KL by dimension" in page
    assert "posterior mean 51.2 % prior mean 25.0 % state 43.8 % always sil 19.6 %" in page
    assert "zfaudio latents exp" in page


def test_a_model_without_latents_shows_only_its_state(tmp_path):
    exp = make_experiment(tmp_path, model="rnn")
    latents(exp, device="cpu")
    page = page_of(exp)
    assert "This model has no latents." in page
    assert "drawn from the prior" not in page
    assert "KL by dimension" not in page


def test_a_loss_of_more_than_the_gain_says_so(exp):
    found = json.loads((exp / "latents.json").read_text())
    found["prior_drawn"]["lost_fraction"] = 1.5
    found["state_cut"]["lost_fraction"] = -0.2
    (exp / "latents.json").write_text(json.dumps(found))
    page = page_of(exp)
    assert page.count("all and more") == page.count(" none ") == 1
    found["state_cut"]["lost_fraction"] = None
    (exp / "latents.json").write_text(json.dumps(found))
    assert page_of(exp).count(" none ") == 0


def test_the_page_compares_samples_with_real_speech(exp):
    (exp / "quality.json").write_text(json.dumps(QUALITY))
    page = page_of(exp)
    assert "Samples and real speech" in page
    assert "64.0 s each of generated speech (16 samples)" in page
    assert "Fréchet distance, log-mel 123.40 0.00 12.50" in page
    assert "voiced frames, % 0.0 31.2 37.5" in page
    assert "median F0, Hz – 160.0 120.0" in page
    assert "zfaudio quality exp" in page


def test_the_page_shows_what_is_recognized_in_samples_beside_real_speech_and_how_samples_drift(exp):
    drift = {"level_db": 10.61, "first_voiced_fraction": 0.5, "last_voiced_fraction": 0.25, "level_range_db": 19.0}
    changed = {name: QUALITY[name] | {"level_ratio": 2.0, "drift": drift} for name in ("generated", "real", "floor")}
    (exp / "quality.json").write_text(json.dumps(QUALITY | changed | {"words": recognized(0.5, None)}))
    page = page_of(exp)
    assert "level, last third over first, dB +10.6 +10.6 +10.6" in page
    assert "pieces recognized as words, % 50.0 80.0 –" in page
    assert "recognized words per second 1.00 1.60 –" in page
    assert "inception score (IS) – 7.50 –" in page
    assert "Fréchet distance, of words – 7.50 2.50" in page
    assert "Of 300 words of test, cut as labeled, the classifier has 99.0 % right" in page


def test_the_f0_of_a_few_voiced_frames_of_an_earlier_version_is_left_out(exp):
    few = QUALITY | {"generated": measures(123.4, 0.005, 371.0)}
    (exp / "quality.json").write_text(json.dumps(few))
    page = page_of(exp)
    assert "voiced frames, % 0.5 31.2 37.5" in page
    assert "median F0, Hz – 160.0 120.0" in page
    assert "Where less than 5 % of the frames are voiced, there is no F0." in page
    (exp / "quality.json").write_text(json.dumps(QUALITY | {"generated": measures(123.4, 0.25, 140.0)}))
    assert "there is no F0" not in page_of(exp)


def test_what_was_not_asked_for_has_no_section(tmp_path):
    page = page_of(make_experiment(tmp_path))
    assert "Latents and state" not in page
    assert "Samples and real speech" not in page


@pytest.mark.parametrize("content", ["{", "[]", '{"model": "zforcing"}'])
def test_a_file_that_is_something_else_is_named(exp, content):
    for name, read in ((LATENTS_FILE, read_latents), (QUALITY_FILE, read_quality)):
        (exp / name).write_text(content)
        with pytest.raises(UserError, match=rf"{name}: not a result of this version of zfaudio {name[:-5]}"):
            read(exp / name)
        assert f"{name}: not a result" in page_of(exp)


def write_validations(path: Path, collapsed: list[str]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        for step, value in enumerate(collapsed, 1):
            writer.writerow({"step": step, "split": "train", "kl": 3.0, "skipped": 0})
            writer.writerow({"step": step, "split": "valid", "kl": 0.02, "collapsed": value})


@pytest.mark.parametrize(
    ("collapsed", "warned"), [(["0", "1"], True), (["1", "0"], False), (["", ""], False), ([], False)]
)
def test_collapse_is_what_the_last_validation_found(exp, collapsed, warned):
    write_validations(exp / "metrics.csv", collapsed)
    assert (find_collapse(exp / "metrics.csv") != "") == warned
    assert ("Step 2: posterior collapse: the latents carry 0.020 nats a frame" in page_of(exp)) == warned


def test_a_log_of_an_early_version_without_the_column_gives_no_warning(tmp_path):
    (tmp_path / "metrics.csv").write_text("step,split,kl,skipped\n5,valid,0.01,0\n")
    assert find_collapse(tmp_path / "metrics.csv") == ""
    assert find_collapse(tmp_path / "nowhere.csv") == ""


def test_dimensions_without_kl_are_not_drawn():
    usage = LatentUsage(3, 1.5, [1.0, 0.5, 0.0], 2, 2, 2, False)
    assert "<svg" in plot_kl_by_dimension(usage).svg
    usage.kl_per_dimension = [0.0, 0.0, 0.0]
    assert plot_kl_by_dimension(usage) is None
