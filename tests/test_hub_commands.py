"""Commands on a model of the hub, and on a checkpoint that stands alone."""

import os
import shutil
import subprocess
import sys

import pytest
from hub_server import TOKEN, Hub

import zfaudio
from zfaudio.errors import UserError
from zfaudio.experiment.checkpoint import find_checkpoint
from zfaudio.experiment.config_file import read_config

# Commands


def test_commands_without_an_experiment_to_write_to_say_what_to_give(pushed, made, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shards = read_config(made / "config.yaml").data.shards
    with pytest.raises(UserError, match="give --samples, --shards and --json"):
        zfaudio.quality("hub:user/name")
    with pytest.raises(UserError, match="a model on the hub, whose page is its card"):
        zfaudio.report("hub:user/name")
    with pytest.raises(UserError, match="hub:user/name: no such experiment"):
        zfaudio.compare(["hub:user/name"])
    assert zfaudio.latents("hub:user/name", shards=shards, device="cpu").checkpoint_step == 500
    assert zfaudio.interpolate("hub:user/name", out=tmp_path / "out", steps=2, device="cpu")
    assert [path.name for path in tmp_path.iterdir() if path.name not in ("cache", "token")] == ["out"]


def test_the_command_line_finds_the_hub_by_its_environment(made, tmp_path):
    with Hub() as hub:
        environment = os.environ | {
            "HF_ENDPOINT": hub.endpoint,
            "HF_HOME": str(tmp_path / "home"),
            "HF_TOKEN": TOKEN,
            "HF_HUB_DISABLE_XET": "1",
        }

        def run(*words: str, **more: str) -> subprocess.CompletedProcess[str]:
            command = [sys.executable, "-m", "zfaudio", *words]
            return subprocess.run(command, env=environment | more, capture_output=True, text=True)

        done = run("push", str(made), "user/name", "--license", "mit")
        assert done.returncode == 0, done.stderr
        assert f"{hub.endpoint}/user/name: model.safetensors, config.yaml" in done.stdout
        assert done.stderr == ""
        options = ["--num", "1", "--seconds", "0.1", "--device", "cpu", "--out"]
        done = run("generate", "hub:user/name", *options, str(tmp_path / "first"))
        assert (done.returncode, done.stderr) == (0, "")
        missing = run("generate", "hub:user/missing", *options, str(tmp_path / "missing"))
        assert (missing.returncode, missing.stdout) == (1, "")
        assert missing.stderr.count("\n") == 1
        assert missing.stderr.startswith("zfaudio generate: error: hub:user/missing: ")
    done = run("generate", "hub:user/name", *options, str(tmp_path / "again"), HF_HUB_OFFLINE="1")
    assert done.returncode == 0, done.stderr
    first, again = ((tmp_path / name / "sample-000.wav").read_bytes() for name in ("first", "again"))
    assert first == again


def test_huggingface_hub_is_imported_only_when_it_is_used():
    program = "import sys, zfaudio.cli, zfaudio.experiment.hub_checkpoint; print('huggingface_hub' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout == "False\n"


# Checkpoints


def test_a_checkpoint_that_was_moved_alone_needs_nothing_else(made, tmp_path, monkeypatch):
    exp = shutil.copytree(made, tmp_path / "exp")
    shards = shutil.copytree(read_config(made / "config.yaml").data.shards, tmp_path / "shards")
    moved = tmp_path / "elsewhere/mine"
    moved.parent.mkdir()
    find_checkpoint(exp).rename(moved)
    shutil.rmtree(exp)
    score = zfaudio.evaluate(moved, shards=shards, draws=1, device="cpu").nats_per_frame
    assert score == zfaudio.evaluate(made, draws=1, device="cpu").nats_per_frame
    assert zfaudio.generate(moved, out=tmp_path / "out", num=1, seconds=0.1, device="cpu")
    assert zfaudio.latents(moved, shards=shards, device="cpu").checkpoint_step == 500
    page = zfaudio.report(moved, shards=shards).read_text()
    assert "Z-forcing" in page
    assert "frames of 20 samples at 16,000 Hz" in page
    assert page.count('src="data:audio/wav') == 3  # real speech
