"""Preparation and recipe of the open corpus of spoken commands, on a few recordings in its layout."""

import csv
import json
from pathlib import Path

import pytest
import soundfile
from speech import speech
from test_recipes import SHORT, assert_one_line, run

from data_prep.intents import intents
from zfaudio.corpus.kaldi import read_data_dir
from zfaudio.errors import UserError

RECIPE = Path(__file__).parents[1] / "recipes/intents"
LISTS = {"train": ["aa-01", "bb-02", "cc-03", "dd-04"], "valid": ["ee-05"], "test": ["ff-06", "gg-07"]}


@pytest.fixture
def lists(tmp_path: Path) -> Path:
    folder = tmp_path / "lists"
    folder.mkdir()
    for split, names in LISTS.items():
        (folder / f"{split}.txt").write_text("".join(f"{name}\n" for name in names))
    return folder


def write_recordings(folder: Path, suffix: str = "wav", seconds: float = 0.7) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(name for names in LISTS.values() for name in names):
        soundfile.write(folder / f"{name}.{suffix}", speech(int(seconds * 16000), seed=number), 16000)
    return folder


@pytest.mark.parametrize(("below", "suffix"), [("data/speech/clean", "wav"), ("", "flac")])
def test_recordings_are_split_by_the_lists_in_the_repository_or_a_plain_folder(tmp_path, lists, below, suffix):
    write_recordings(tmp_path / "corpus" / below, suffix)
    soundfile.write(tmp_path / "corpus" / below / "unlisted.wav", speech(16000), 16000)
    intents(tmp_path / "corpus", tmp_path / "out", lists=lists)
    for split, names in LISTS.items():
        utterances = list(read_data_dir(tmp_path / "out" / split))
        assert [utterance.id for utterance in utterances] == names
        assert all(Path(utterance.recording).is_file() for utterance in utterances)


def test_a_recording_that_is_not_there_is_named(tmp_path, lists):
    (write_recordings(tmp_path / "corpus") / "cc-03.wav").unlink()
    with pytest.raises(UserError, match="1 of the 7 recordings are missing \\(cc-03"):
        intents(tmp_path / "corpus", tmp_path / "out", lists=lists)


def test_a_recording_that_cannot_be_read_is_left_out_and_listed(tmp_path, lists):
    (write_recordings(tmp_path / "corpus") / "cc-03.wav").write_bytes(b"no sound")
    intents(tmp_path / "corpus", tmp_path / "out", lists=lists)
    assert [utterance.id for utterance in read_data_dir(tmp_path / "out/train")] == ["aa-01", "bb-02", "dd-04"]
    assert "cc-03" in (tmp_path / "out/rejects.txt").read_text()


def test_the_lists_hold_every_recording_once_and_every_tenth_for_testing():
    parts = {split: (RECIPE / f"lists/{split}.txt").read_text().split() for split in LISTS}
    names = sorted(name for part in parts.values() for name in part)
    assert len(set(names)) == len(names) == 619
    assert parts["test"] == names[9::10]
    assert parts["valid"] == names[4::20]


@pytest.fixture
def options(tmp_path: Path, lists: Path) -> list[object]:
    """Options of run.sh for a corpus in `tmp_path`, with settings that make the models small."""
    write_recordings(tmp_path / "corpus")
    sizes = "{hidden_size: 16, latent_size: 4, embedding_size: 16, mlp_size: 16}"
    (tmp_path / "small.yaml").write_text(f"base: {RECIPE / 'conf/default.yaml'}\nmodel: {sizes}\n")
    places = ["--corpus", "corpus", "--data", "data", "--exp", "exp"]
    return [*places, "--conf", "small.yaml", "--lists", lists]


def test_rows_are_trained_scored_and_compared_by_one_command_that_resumes(tmp_path, options):
    options = [*options, "--rows", "sample-ar zforcing-kl"]
    parts = [*options, "--seeds", "0 1", "--jobs", 2, "--stop-stage", 3]
    finished = run("intents", *parts, cwd=tmp_path, training=SHORT)
    assert finished.returncode == 0, finished.stderr
    for name in ("sample-ar-0", "sample-ar-1", "zforcing-kl-0", "zforcing-kl-1"):
        assert json.loads((tmp_path / "exp" / name / "results/test.json").read_text())["utterances"] == 2
    assert json.loads((tmp_path / "exp/zforcing-kl-0/latents.json").read_text())["split"] == "test"

    finished = run("intents", *options, "--stage", 5, cwd=tmp_path, training=SHORT)
    assert finished.returncode == 0, finished.stderr
    with (tmp_path / "exp/comparison.csv").open() as file:
        assert [row["name"] for row in csv.DictReader(file)] == ["sample-ar", "zforcing-kl"]

    longer = [*SHORT, "--train.max_steps", "6"]
    again = run("intents", *options, "--seeds", "0", "--stage", 2, "--stop-stage", 2, cwd=tmp_path, training=longer)
    assert again.returncode == 0, again.stderr
    assert "step 6" in (tmp_path / "exp/zforcing-kl-0/log.txt").read_text()


def test_a_run_that_fails_ends_the_command_with_the_name_of_its_log(tmp_path, options):
    bad = [*SHORT, "--model.head_stride", "3"]
    parts = [*options, "--rows", "rnn-ar", "--seeds", 0, "--stop-stage", 2]
    finished = run("intents", *parts, cwd=tmp_path, training=bad)
    assert_one_line(finished, "a run failed", "log.txt")
    assert "model.head_stride is 3" in (tmp_path / "exp/rnn-ar-0/log.txt").read_text()


def test_help_names_its_own_options(tmp_path):
    finished = run("intents", "--help", cwd=tmp_path)
    assert finished.returncode == 0
    assert "--rows" in finished.stdout
    assert list(tmp_path.iterdir()) == []
