"""`zfaudio push` to a stand-in for the hub: what is uploaded, the card, and who may."""

import json
import shutil

import pytest
import yaml
from frame_sources import bit_shards, sentence_shards
from hub_server import OTHER_TOKEN, TOKEN
from huggingface_hub import constants
from small_runs import run_here, small_run

import zfaudio
from zfaudio.errors import UserError
from zfaudio.experiment.checkpoint import find_checkpoint

# Pushing


def test_the_card_says_what_the_model_is_and_how_it_scores(pushed, made, hub):
    _, head, text = pushed.files()["README.md"].decode().split("---\n", 2)
    assert yaml.safe_load(head) == {
        "license": "apache-2.0",
        "library_name": "zfaudio",
        "tags": ["zfaudio", "zforcing", "density-estimation", "audio", "speech", "raw-waveform"],
    }
    result = json.loads((made / "results/test.json").read_text())
    nats = zfaudio.reporting.formatting.page_number(result["nats_per_frame"], 2)
    interval = zfaudio.reporting.formatting.page_interval(tuple(result["nats_per_frame_ci95"]), 2)
    for part in (
        'zfaudio.load("user/name")',
        "zfaudio generate hub:user/name --out samples",
        f"| zforcing | ≥ {nats} | {interval} |",
        "| i.i.d. Gaussian |",
        "| FLAC |",
        "evidence lower bound. Dequantized",
        "frames of 20 samples at 16,000 Hz",
        "after 500 training steps",
        "| train |",
        "![sample-001](samples/sample-001.png)",
        f'<audio controls src="{hub.endpoint}/user/name/resolve/main/samples/sample-000.wav"></audio>',
    ):
        assert part in text
    assert "\n\n\n" not in text


@pytest.mark.parametrize(("kind", "file"), [("images", "samples.png"), ("text", "samples.txt")])
def test_the_card_shows_pictures_and_sentences(hub, tmp_path, kind, file):
    exp = tmp_path / "exp"
    options = {"data__score_first_frame": True, "train__max_steps": 3}
    if kind == "images":
        config = small_run(bit_shards(tmp_path / "shards"), model__likelihood="bernoulli", **options)
    else:
        options |= {"model__likelihood": "categorical", "model__encoder": "lookup"}
        config = small_run(sentence_shards(tmp_path / "shards"), **options)
    run_here(config, exp)
    zfaudio.evaluate(exp, json=exp / "results/test.json", draws=1, device="cpu")
    zfaudio.generate(exp, out=exp / "samples", num=40, device="cpu")
    zfaudio.push(exp, "user/name", license="mit")
    found = hub.models["user/name"].files()
    text = found["README.md"].decode()
    first = (exp / "samples" / file).read_bytes().splitlines()[0].decode(errors="replace")
    assert ("\n![samples](samples/samples.png)\n" if kind == "images" else f"\n\n    {first}\n") in text
    assert f"- {kind}\n" in text
    assert "| zforcing | ≤ " in text
    assert "\n\n\n" not in text
    assert "seconds=" not in text
    assert [name for name in found if name.startswith("samples/")] == [f"samples/{file}"]
    assert repr(zfaudio.load("user/name", device="cpu")) == repr(zfaudio.load(exp, device="cpu"))


def test_results_and_samples_of_another_checkpoint_are_left_out(hub, made, tmp_path, capsys):
    exp = shutil.copytree(made, tmp_path / "exp")
    checkpoint = find_checkpoint(exp)
    label = checkpoint / "checkpoint.json"
    label.write_text(label.read_text().replace("500", "400"))
    zfaudio.push(checkpoint, "user/name", license="mit")
    files = hub.models["user/name"].files()
    assert "This model has not been scored." in files["README.md"].decode()
    assert not any(name.startswith("samples") for name in files)
    printed = capsys.readouterr().out
    assert "results of step 500, but none of step 400" in printed
    assert "no samples of step 400" in printed


def test_a_checkpoint_without_a_label_gets_one(hub, made, tmp_path):
    """Those of zfaudio 0.1.0 have none; their folder says the step."""
    checkpoint = shutil.copytree(find_checkpoint(made), tmp_path / "step-00000070")
    (checkpoint / "checkpoint.json").unlink()
    zfaudio.push(checkpoint, "user/name", license="mit")
    assert zfaudio.load("user/name", device="cpu").checkpoint.step == 70


def test_a_private_model_is_seen_by_its_owner_only(hub, made, monkeypatch):
    zfaudio.push(made, "user/name", license="mit", private=True)
    assert zfaudio.load("user/name", device="cpu").checkpoint.step == 500
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(made / "another"))
    monkeypatch.setenv("HF_TOKEN", OTHER_TOKEN)
    with pytest.raises(UserError, match="has no such model"):
        zfaudio.load("user/name")


def test_a_model_that_is_public_is_not_pushed_to_as_private(pushed, made, hub):
    with pytest.raises(UserError, match="already on the hub, and public; make it private on http"):
        zfaudio.push(made, "user/name", license="mit", private=True)
    assert len(pushed.commits) == 2


@pytest.mark.parametrize(
    ("name", "token", "license", "said"),
    [
        ("user/name", None, "mit", "hub:user/name: to push, log in with `hf auth login`, or set HF_TOKEN"),
        ("user/name", "hf_wrong", "mit", "hub:user/name: {hub} does not know your token; log in"),
        ("user/name", OTHER_TOKEN, "mit", "hub:user/name: your token may not do this; .* one that may write to user"),
        ("user/name", TOKEN, "unheard-of", "hub:user/name: {hub}: .*"),
        ("user/name", TOKEN, "mit\nx: y", "not a name of a license"),
        ("name", TOKEN, "mit", "name: not the name of a model on the hub"),
    ],
)
def test_what_cannot_be_pushed_is_one_line(hub, made, monkeypatch, name, token, license, said):
    monkeypatch.delenv("HF_TOKEN")
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(UserError, match=said.format(hub=hub.endpoint)):
        zfaudio.push(made, name, license=license)
    assert not any("config.yaml" in model.files() for model in hub.models.values())


def test_nothing_is_pushed_without_a_network(hub, made):
    hub.close()
    with pytest.raises(UserError, match=r"hub:user/name: http.*: .*refused"):
        zfaudio.push(made, "user/name", license="mit")


def test_a_model_of_another_package_is_not_pushed(hub, made, tmp_path, monkeypatch):
    exp = shutil.copytree(made, tmp_path / "exp")
    path = find_checkpoint(exp) / "config.yaml"
    path.write_text(path.read_text().replace("name: zforcing", "name: zfaudio.models.zforcing.ZForcing"))
    with pytest.raises(UserError, match="only models of zfaudio itself can be pushed"):
        zfaudio.push(exp, "user/name", license="mit")


def test_what_is_on_the_hub_is_not_pushed(hub):
    with pytest.raises(UserError, match="on the hub already"):
        zfaudio.push("hub:user/name", "user/other", license="mit")
