import base64
import csv
import io
import json
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
import soundfile
from experiment import FRAME_SIZE, RATE, make_experiment
from PIL import Image
from speech import speech

from zfaudio.data.frames import to_frames
from zfaudio.data.shard_format import FramedUtterance
from zfaudio.errors import UserError
from zfaudio.evaluation.evaluate import evaluate
from zfaudio.experiment.checkpoint import find_checkpoint
from zfaudio.experiment.metrics import COLUMNS
from zfaudio.generation.generate import generate
from zfaudio.generation.samples import read_sample_list, write_sample_list
from zfaudio.reporting.clips import CLIP_SAMPLES, loudest_part, make_clip, one_of_each_speaker
from zfaudio.reporting.report import report

RESULT = {
    "format_version": 2,
    "model": "zforcing",
    "likelihood": "gaussian",
    "head": "factorized",
    "parameters": 2480,
    "checkpoint_step": 500,
    "split": "test",
    "utterances": 3,
    "frames": 1177,
    "frame_size": FRAME_SIZE,
    "sample_rate": RATE,
    "bound": "elbo",
    "importance_samples": 1,
    "draws": 4,
    "seed": 0,
    "protocol": "whole",
    "dequantized": True,
    "score_first_frame": False,
    "mean": 0.5,
    "deviation": 500.0,
    "audio_sha256": "0123",
    "constant_frames": 12,
    "nats_per_frame": -10.0,
    "nats_per_frame_ci95": [-12.5, -8.25],
    "nats_per_sample": -0.5,
    "nats_per_waveform_sample": -6.7,
    "nats_per_utterance": -3300.0,
    "conventions": {"timit: summed over a whole utterance, averaged over utterances": -3300.0},
    "bits_per_sample": 9.0,
    "kl_per_frame": 1.5,
    "median_frame_nats": -9.0,
    "worst_permille_share": -0.125,
    "references": {"iid_gaussian_nats_per_frame": -20.0, "flac_bits_per_sample": 5.75},
    "command": "zfaudio evaluate exp --json exp/results/test.json",
    "scores": [{"utterance": "a", "frames": 1177, "nats": -11770.0}],
}


class Reader(HTMLParser):
    """Collects the text and the sources of a page, and checks that every element is closed."""

    VOID = frozenset({"meta", "img", "br", "link", "input"})

    def __init__(self):
        super().__init__()
        self.open, self.text, self.sources = [], "", {}

    def handle_starttag(self, tag, attributes):
        if tag not in self.VOID:
            self.open.append(tag)
        for name, value in attributes:
            assert name not in ("href", "srcset", "onclick", "xlink:href") or value.startswith("#")
            if name == "src":
                self.sources.setdefault(tag, []).append(value)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("style", "script"):
            self.text += data + " "


def read(page):
    reader = Reader()
    html = page.read_text()
    reader.feed(html)
    reader.close()
    assert not reader.open
    assert not re.search(r"""(?:src|url\(|@import)[="'( ]*http""", html)
    assert "<script" not in html
    reader.text = " ".join(reader.text.split())
    return reader


def write_metrics(path, steps):
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        for step in range(1, steps + 1):
            writer.writerow({"step": step, "split": "train", "nats_per_frame": 1 - 1 / step, "kl": 2, "skipped": 0})
        writer.writerow({"step": steps, "split": "valid", "nats_per_frame": 0.5, "kl": "nan", "skipped": ""})


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A complete experiment; tests that change it use a copy."""
    folder = tmp_path_factory.mktemp("report")
    exp = make_experiment(folder)
    soundfile.write(folder / "spoken.wav", speech(3000), RATE)
    for options in ({}, {"prompt": folder / "spoken.wav"}, {"reconstruct": folder / "spoken.wav"}):
        generate(exp, out=exp / "samples", num=1, seconds=0.1, **options)
    write_metrics(exp / "metrics.csv", 40)
    (exp / "results").mkdir()
    (exp / "results/test.json").write_text(json.dumps(RESULT))
    (exp / "commands.txt").write_text("zfaudio train --config conf.yaml\n")
    return exp


@pytest.fixture
def exp(made, tmp_path):
    return shutil.copytree(made, tmp_path / "exp", symlinks=True, ignore=shutil.ignore_patterns("report.html"))


@pytest.fixture(scope="module")
def whole_page(made):
    assert report(str(made)) == made / "report.html"
    return read(made / "report.html")


def test_the_page_has_every_part_and_lacks_nothing(whole_page):
    for part in ("Result", "Speech", "Training", "Corpus", "Configuration", "Command lines"):
        assert part in whole_page.text
    assert "Missing" not in whole_page.text
    assert "hidden_size 8" in whole_page.text
    assert "zfaudio train --config conf.yaml" in whole_page.text
    assert RESULT["command"] in whole_page.text


def test_the_result_stands_beside_its_references(whole_page):
    assert "zforcing ≥ −10.00 −12.50 to −8.25 ≤ 9.000" in whole_page.text
    # Ten nats per frame of twenty samples are 0.721 bits per sample.
    assert "i.i.d. Gaussian −20.00 – 9.721" in whole_page.text
    assert "FLAC – – 5.750" in whole_page.text
    assert "median frame −9.0 nats" in whole_page.text
    assert "worst 0.1 % of frames −12.5 % of the average" in whole_page.text


def test_sound_and_pictures_inside_the_page_decode(whole_page):
    # Three real utterances, a sample, a continuation, a recording and its reconstruction.
    assert len(whole_page.sources["audio"]) == len(whole_page.sources["img"]) == 7
    for source in whole_page.sources["audio"]:
        head, data = source.split(",")
        assert head == "data:audio/wav;base64"
        samples, rate = soundfile.read(io.BytesIO(base64.b64decode(data)))
        assert rate == RATE
        assert len(samples) > 0
    for source in whole_page.sources["img"]:
        head, data = source.split(",")
        assert head == "data:image/webp;base64"
        assert Image.open(io.BytesIO(base64.b64decode(data))).size == (768, 384)


def test_the_page_is_headed_by_the_model_and_names_the_experiment(made, whole_page):
    html = (made / "report.html").read_text()
    assert "<h1>Z-forcing, Gaussian</h1>" in html
    assert f"<title>Z-forcing, Gaussian · {made.parent.name}/exp</title>" in html
    assert f"experiment {made.parent.name}/exp" in whole_page.text


def test_corpora_of_published_tables_are_not_named_on_a_page_of_another_corpus(exp):
    evaluate(exp, json=exp / "results/test.json", device="cpu", draws=1)
    report(exp)
    text = read(exp / "report.html").text
    assert "per utterance, averaged over utterances" in text
    assert "per half second" in text
    assert "timit" not in text.lower()
    assert "blizzard" not in text.lower()


@pytest.mark.parametrize(("step", "few"), [(500, True), (7_999, True), (8_000, False)])
def test_a_model_of_few_steps_is_called_so(exp, step, few):
    label = find_checkpoint(exp) / "checkpoint.json"
    label.write_text(label.read_text().replace('"step": 500', f'"step": {step}'))
    record = exp / "checkpoints.json"
    record.write_text(record.read_text().replace(": 500", f": {step}"))
    report(exp)
    text = read(exp / "report.html").text
    assert (f"This model has had {step:,} training steps, which is few" in text) == few


def test_titles_of_plots_stand_above_them_where_they_can_wrap(made, whole_page):
    html = (made / "report.html").read_text()
    title = "KL of the posterior from the prior, nats per frame"
    assert f"<h4>{title}</h4>" in html
    assert f">{title}</text>" not in html


def test_the_page_can_go_elsewhere(exp, tmp_path):
    report(exp, out=tmp_path / "pages/page.html")
    assert read(tmp_path / "pages/page.html").text
    assert not (exp / "report.html").exists()


def test_the_published_protocol_is_labeled(exp):
    published = RESULT | {"dequantized": False, "bits_per_sample": None, "bound": "iwae", "importance_samples": 50}
    (exp / "results/a.json").write_text(json.dumps(published))
    report(exp)
    text = read(exp / "report.html").text
    assert "Published protocol, not dequantized: a density, unbounded on 12 constant frames" in text
    assert "importance-weighted bound, 50 samples" in text
    assert text.index("Dequantized: bounds") < text.index("Published protocol")


def test_an_exact_likelihood_is_no_bound(exp):
    (exp / "results/test.json").write_text(json.dumps(RESULT | {"bound": "exact"}))
    report(exp)
    text = read(exp / "report.html").text
    assert "exact likelihood" in text
    assert "≥" not in text


def test_what_an_experiment_lacks_is_named(exp, capsys):
    for name in ("checkpoints.json", "metrics.csv", "config.yaml", "commands.txt"):
        (exp / name).unlink()
    for name in ("checkpoints", "results"):
        shutil.rmtree(exp / name)
    report(exp)
    page, printed = read(exp / "report.html").text, capsys.readouterr().out
    for lack in ("no checkpoint there", "no training curves", "config.yaml: no such file", "no result", "real speech"):
        assert lack in page
        assert lack in printed


def test_shards_out_of_reach_are_named_and_the_rest_is_shown(tmp_path):
    exp = make_experiment(tmp_path)
    shutil.rmtree(tmp_path / "shards")
    report(exp)
    text = read(exp / "report.html").text
    assert "shards/manifest.json: no such file" in text
    assert "hidden_size" in text


def test_a_file_that_is_no_result_is_named(exp):
    (exp / "results/broken.json").write_text('{"model": "zforcing"}')
    (exp / "results/cut.json").write_text('{"model": ')
    report(exp)
    text = read(exp / "report.html").text
    assert "broken.json: not a result" in text
    assert "cut.json: not a result" in text
    assert "zforcing ≥ −10.00" in text


def test_special_characters_are_escaped(exp):
    nasty = "<script>alert('&')</script>"
    (exp / "commands.txt").write_text(nasty + "\n")
    (exp / "results/test.json").write_text(json.dumps(RESULT | {"model": nasty}))
    samples = read_sample_list(exp / "samples")
    samples["sample-000.wav"] = replace(samples["sample-000.wav"], source=nasty.replace("/", "|"))
    write_sample_list(exp / "samples", samples)
    report(exp)
    assert f"{nasty} ≥ −10.00" in read(exp / "report.html").text


@pytest.mark.parametrize("name", ["nowhere", "empty", "file"])
def test_what_is_no_experiment_is_refused(tmp_path, name):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=f"{name}: no"):
        report(tmp_path / name)
    assert not (tmp_path / "empty/report.html").exists()


def test_clips_of_long_recordings_are_cut_and_say_so():
    waveform = np.zeros(CLIP_SAMPLES + RATE, np.int16)
    clip = make_clip("long", ["seed 0"], waveform, RATE, 1000.0, starts_at=3.0, first=RATE)
    samples, _ = soundfile.read(io.BytesIO(base64.b64decode(clip.audio.split(",")[1])))
    assert len(samples) == CLIP_SAMPLES
    assert clip.caption == "1.0 to 6.0 s of 6.0 s · seed 0"


def test_the_loudest_part_is_found():
    waveform = np.zeros(3 * CLIP_SAMPLES, np.int16)
    waveform[CLIP_SAMPLES + 500 : 2 * CLIP_SAMPLES + 500] = -30000
    assert loudest_part(waveform) == CLIP_SAMPLES + 500
    assert loudest_part(waveform[:CLIP_SAMPLES]) == 0


def test_clips_are_of_many_speakers():
    frames = to_frames(speech(100), 20)
    utterances = [FramedUtterance(name, name[0], 0.0, 100, frames) for name in ("a1", "a2", "b1")]
    empty = FramedUtterance("c1", "c", 0.0, 3, frames[:0])
    assert [one.id for one in one_of_each_speaker([*utterances, empty])] == ["a1", "b1", "a2"]
