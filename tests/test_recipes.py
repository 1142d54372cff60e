"""Recipes, run as a user runs them, on a few seconds of speech."""

import csv
import json
import os
import shlex
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from speech import speech, write_corpus

from data_prep.mnist import Digits, frame_digits
from zfaudio.data.frame_shards import write_frame_shards

RECIPES = Path(__file__).parents[1] / "recipes"
NAMES = ("timit", "blizzard", "custom", "demo")
SHORT = shlex.split(
    "--train.max_steps 4 --train.batch_size 4 --train.validate_every 2 --train.save_every 2 --train.device cpu"
)
SMALL = shlex.split("--model.hidden_size 16 --model.latent_size 4 --model.embedding_size 16 --model.mlp_size 16")
TINY = [*SMALL, *SHORT]


def run(name: str, *arguments: object, cwd: Path, training: list[str] = TINY) -> subprocess.CompletedProcess[str]:
    """Run recipes/NAME/run.sh ARGUMENTS --nj 1 -- TRAINING, with the zfaudio that is tested."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    command = [RECIPES / name / "run.sh", *arguments, "--nj", 1, "--", *training]
    return subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env=os.environ | {"PATH": path},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def assert_complete(exp: Path) -> None:
    """Check that the stages have left all their outputs."""
    result = json.loads((exp / "results/test.json").read_text())
    assert result["split"] == "test"
    assert result["checkpoint_step"] in (2, 4)
    assert (exp / "checkpoints.json").is_file()
    made = [sample["kind"] for sample in json.loads((exp / "samples/samples.json").read_text())["samples"]]
    assert sorted(set(made)) == ["continuation", "reconstruction", "recording", "sample"]
    page = (exp / "report.html").read_text()
    assert "run.sh" in page
    assert "zfaudio train" in page


def assert_one_line(finished: subprocess.CompletedProcess[str], *said: str) -> None:
    """Check that a command failed and gave the reason in one line."""
    assert finished.returncode > 0, finished.stdout
    assert finished.stderr.count("\n") == 1, finished.stderr
    assert "error: " in finished.stderr
    for words in said:
        assert words in finished.stderr


def write_timit(root: Path) -> Path:
    """Write sentences of three training speakers and a test speaker, four each, as on the disc."""
    for number, speaker in enumerate(("TRAIN/DR1/FAAA0", "TRAIN/DR2/MBBB0", "TRAIN/DR2/MCCC0", "TEST/DR1/FDDD0")):
        for sentence, name in enumerate(("SA1", "SI10", "SX1", "SX2")):
            path = root / "TIMIT" / speaker / f"{name}.WAV"
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, speech(9000, seed=4 * number + sentence), 16000, "PCM_16", format="NIST")
    return root


# End to end


def test_timit_stage_by_stage(tmp_path: Path) -> None:
    corpus, data, exp = write_timit(tmp_path / "disc"), tmp_path / "data", tmp_path / "exp"
    left = {
        0: data / "test/wav.scp",
        1: data / "shards/manifest.json",
        2: exp / "checkpoints.json",
        3: exp / "results/test.json",
        4: exp / "samples/samples.json",
        5: exp / "report.html",
    }
    options = ("--corpus", corpus, "--data", data, "--exp", exp)
    for stage, path in left.items():
        assert not path.exists()
        finished = run("timit", *options, "--stage", stage, "--stop-stage", stage, cwd=tmp_path)
        assert finished.returncode == 0, finished.stderr
        assert path.exists()
    assert_complete(exp)
    assert "average log-likelihood per frame: >= " in finished.stdout
    assert str(exp / "report.html") in finished.stdout

    # Continued where it was, also in a copy as version 0.1.0 left experiments and as a drive keeps them: without links.
    for label in exp.glob("checkpoints/*/checkpoint.json"):
        label.unlink()
    (exp / "checkpoints.json").unlink()
    longer = [*TINY, "--train.max_steps", "6"]
    finished = run("timit", *options, "--stage", 2, "--stop-stage", 2, cwd=tmp_path, training=longer)
    assert finished.returncode == 0, finished.stderr
    assert "--resume" in finished.stdout
    with (exp / "metrics.csv").open() as file:
        assert [row["step"] for row in csv.DictReader(file) if row["split"] == "valid"] == ["2", "4", "6"]

    finished = run("timit", *options, "--stage", 2, "--stop-stage", 2, cwd=tmp_path, training=[*TINY, "--overwrite"])
    assert finished.returncode == 0, finished.stderr
    assert "--resume" not in finished.stdout
    with (exp / "metrics.csv").open() as file:
        assert [row["step"] for row in csv.DictReader(file) if row["split"] == "valid"] == ["2", "4"]


def test_blizzard_in_one_go(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    soundfile.write(tmp_path / "in/chapter_1.mp3", speech(8 * 16000), 16000)
    soundfile.write(tmp_path / "in/chapter_2.mp3", speech(8 * 16000, seed=1), 16000)
    options = ("--corpus", tmp_path / "in", "--data", tmp_path / "data", "--exp", tmp_path / "exp")
    finished = run("blizzard", *options, cwd=tmp_path)
    assert finished.returncode == 0, finished.stderr
    assert_complete(tmp_path / "exp")


def test_any_folder_in_one_go_by_paths_from_where_the_user_is(tmp_path: Path) -> None:
    write_corpus(tmp_path / "my speech", speakers=4, suffix="flac", rate=22050)
    (tmp_path / "mine.yaml").write_text(f"base: {RECIPES / 'custom/conf/small.yaml'}\n")
    options = ("--corpus", "my speech", "--data", "a/data", "--exp=an exp", "--conf", "mine.yaml")
    finished = run("custom", *options, "--sample-rate", 8000, cwd=tmp_path)
    assert finished.returncode == 0, finished.stderr
    assert_complete(tmp_path / "an exp")
    assert json.loads((tmp_path / "a/data/shards/manifest.json").read_text())["sample_rate"] == 8000


def test_digits_to_a_score(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for index in (0, 5, *range(7, 15)):
        for digit in range(3):
            path = tmp_path / f"in/{digit}_ann_{index}.wav"
            soundfile.write(path, speech(6000, seed=3 * index + digit, rate=8000), 8000)
    options = ("--corpus", tmp_path / "in", "--data", tmp_path / "data", "--exp", tmp_path / "exp")
    finished = run("digits", *options, "--stop-stage", 3, cwd=tmp_path)
    assert finished.returncode == 0, finished.stderr
    result = json.loads((tmp_path / "exp/results/test.json").read_text())
    assert result["sample_rate"] == 8000
    assert result["frame_size"] == 100


def test_sc09_to_a_score_of_mulaw(tmp_path: Path) -> None:
    corpus = tmp_path / "in"
    for number, word in enumerate(("zero", "one")):
        for speaker in range(4):
            path = corpus / word / f"{speaker}_nohash_0.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, speech(16000, seed=4 * number + speaker), 16000)
    (corpus / "validation_list.txt").write_text("zero/2_nohash_0.wav\none/2_nohash_0.wav\n")
    (corpus / "testing_list.txt").write_text("zero/3_nohash_0.wav\none/3_nohash_0.wav\n")
    options = ("--corpus", corpus, "--data", tmp_path / "data", "--exp", tmp_path / "exp")
    row = ("--conf", RECIPES / "sc09/conf/wavenet.yaml", "--stop-stage", 3)
    training = [*SHORT, *shlex.split("--model.head_channels 4 --model.head_size 8 --train.segment_frames 8")]
    finished = run("sc09", *options, *row, cwd=tmp_path, training=training)
    assert finished.returncode == 0, finished.stderr
    result = json.loads((tmp_path / "exp/results/test.json").read_text())
    assert (result["encoding"], result["frames"]) == ("mulaw", 160)
    assert "bits per sample of 8-bit mu-law" in finished.stdout


def test_mnist_from_images_to_shards(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for part, images in (("train", 10_002), ("t10k", 1)):
        (tmp_path / f"in/{part}-images-idx3-ubyte").write_bytes(
            struct.pack(">4I", 2051, images, 28, 28) + bytes(784 * images)
        )
        (tmp_path / f"in/{part}-labels-idx1-ubyte").write_bytes(struct.pack(">2I", 2049, images) + bytes(images))
    options = ("--corpus", tmp_path / "in", "--data", tmp_path / "data", "--exp", tmp_path / "exp")
    finished = run("mnist", *options, "--layout", "rows", "--stop-stage", 1, cwd=tmp_path)
    assert finished.returncode == 0, finished.stderr
    manifest = json.loads((tmp_path / "data/rows/manifest.json").read_text())
    assert {name: split["utterances"] for name, split in manifest["splits"].items()} == {
        "train": 2,
        "valid": 10_000,
        "test": 1,
    }


@pytest.mark.parametrize(("row", "stop"), [("pixels-rnn", 3), ("rows-zforcing", 5)])
def test_mnist_from_shards_to_images(tmp_path: Path, row: str, stop: int) -> None:
    layout, frame_size = ("rows", 28) if row.startswith("rows") else ("pixels", 1)
    drawn = np.random.default_rng(0).integers(0, 2, (3, 6, 784), np.uint8)
    splits = {
        split: frame_digits(split, Digits(pixels, [*"012345"]), frame_size)
        for split, pixels in zip(("train", "valid", "test"), drawn, strict=True)
    }
    shards = tmp_path / "data" / layout
    write_frame_shards(shards, splits, kind="binary", frame_size=frame_size, image_size=(28, 28))
    options = ("--conf", RECIPES / f"mnist/conf/{row}.yaml", "--data", tmp_path / "data", "--exp", tmp_path / "exp")
    stages = ("--stage", 2, "--stop-stage", stop, "--importance-samples", 2)
    training = [*SHORT, "--model.hidden_size", "8"]
    finished = run("mnist", *options, *stages, cwd=tmp_path, training=training)
    assert finished.returncode == 0, finished.stderr
    assert "nats per image" in finished.stdout
    latents = "rnn" not in row
    assert json.loads((tmp_path / "exp/results/test.json").read_text())["bound"] == ("iwae" if latents else "exact")
    assert (tmp_path / "exp/results/elbo.json").exists() == latents
    if stop == 5:
        assert_sampled(tmp_path / "exp")
        assert "nats per image" in (tmp_path / "exp/report.html").read_text()


def test_imdb_from_text_to_sentences(tmp_path: Path) -> None:
    for number in range(20):
        for part in ("train", "test"):
            path = tmp_path / f"in/{part}/pos/{number}_7.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"I saw this film. It is number {number % 4}, and good!")
    options = ("--corpus", tmp_path / "in", "--data", tmp_path / "data", "--exp", tmp_path / "exp")
    stages = ("--importance-samples", 2)
    training = [*SHORT, "--model.hidden_size", "8"]
    finished = run("imdb", *options, *stages, cwd=tmp_path, training=training)
    assert finished.returncode == 0, finished.stderr
    assert "bigram, Kneser-Ney:     perplexity" in finished.stdout
    assert "perplexity per word" in finished.stdout
    assert (tmp_path / "exp/results/elbo.json").exists()
    assert_sampled(tmp_path / "exp")
    assert "perplexity" in (tmp_path / "exp/report.html").read_text()


def assert_sampled(exp: Path) -> None:
    """Check that stage 4 has left all that a model of pixels or words with latents can make."""
    made = [sample["kind"] for sample in json.loads((exp / "samples/samples.json").read_text())["samples"]]
    assert sorted(made) == ["continuation", "interpolation", "reconstruction", "sample"]


def test_demo_in_one_go(tmp_path: Path) -> None:
    pytest.importorskip("espeakng_loader")
    options = ("--minutes", 0.1, "--data", tmp_path / "data", "--exp", tmp_path / "exp")
    finished = run("demo", *options, cwd=tmp_path)
    assert finished.returncode == 0, finished.stderr
    assert_complete(tmp_path / "exp")


def test_folders_of_the_corpus_are_the_splits_and_a_channel_is_chosen(tmp_path: Path) -> None:
    for path in write_corpus(tmp_path / "in", speakers=6, recordings=1):
        part = {"0": "eval", "1": "dev"}.get(path.stem[3], "train")
        (tmp_path / "corpus" / part).mkdir(parents=True, exist_ok=True)
        samples, rate = soundfile.read(path, dtype="int16")
        soundfile.write(tmp_path / "corpus" / part / path.name, np.stack([samples, -samples], axis=1), rate)
    options = ("--corpus", tmp_path / "corpus", "--data", tmp_path / "data", "--exp", tmp_path / "exp")
    parts = ("--train", "train", "--valid", "dev", "--test", "eval", "--channel", 1, "--allow-pipes")
    finished = run("custom", *options, *parts, "--stop-stage", 1, cwd=tmp_path)
    assert finished.returncode == 0, finished.stderr
    assert "cancel" not in finished.stdout
    splits = json.loads((tmp_path / "data/shards/manifest.json").read_text())["splits"]
    assert {name: split["utterances"] for name, split in splits.items()} == {"train": 4, "valid": 1, "test": 1}
    finished = run("custom", *options, *parts, "--stage", 1, "--stop-stage", 1, cwd=tmp_path)
    assert "already finished" in finished.stdout, finished.stderr


# Mistakes


@pytest.mark.parametrize("name", [*NAMES, "digits", "mnist", "imdb"])
def test_help(name: str, tmp_path: Path) -> None:
    finished = run(name, "--help", cwd=tmp_path)
    assert finished.returncode == 0
    assert finished.stdout.startswith("Z-forcing on ")
    assert "--stop-stage" in finished.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--stages", 3], "no option --stages"),
        (["3"], "no option 3"),
        (["--stage", "two"], "numbers from 0 to 5"),
        (["--stage", 3, "--stop-stage", 2], "--stage 3 comes after --stop-stage 2"),
        (["--stage", 0], "stage 0 needs --corpus DIR, the folder of the LDC93S1 disc"),
        (["--corpus", "nowhere"], "nowhere: no such folder"),
        (["--stage", 1], "data/train/wav.scp is missing; stage 0 makes it"),
        (["--stage", 2], "data/shards/manifest.json is missing; stage 1 makes it"),
        (["--stage", 2, "--conf", "nowhere.yaml"], "nowhere.yaml: no such file"),
        (["--stage", 3], "data/shards/manifest.json is missing; stage 1 makes it"),
        (["--stage", 5], "exp holds no checkpoint; stage 2 trains one"),
    ],
)
def test_what_is_wrong_or_missing_is_said_in_one_line(tmp_path: Path, options: list[object], said: str) -> None:
    places = ("--data", tmp_path / "data", "--exp", tmp_path / "exp")
    assert_one_line(run("timit", *places, *options, cwd=tmp_path), said)


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("mnist", [], "stage 0 needs --corpus DIR, the folder of MNIST's train-images-idx3-ubyte.gz"),
        ("mnist", ["--layout", "columns"], "--layout columns: must be pixels or rows"),
        ("mnist", ["--stage", 2], "data/pixels/manifest.json is missing; stage 0 makes it"),
        ("mnist", ["--stage", 2, "--conf", RECIPES / "mnist/conf/rows-rnn.yaml"], "data/rows/manifest.json is missing"),
        ("imdb", [], "stage 0 needs --corpus DIR, a folder of text"),
        ("imdb", ["--stage", 4], "data/shards/manifest.json is missing; stage 0 makes it"),
    ],
)
def test_what_is_missing_for_pixels_and_words(tmp_path: Path, name: str, options: list[object], said: str) -> None:
    places = ("--data", tmp_path / "data", "--exp", tmp_path / "exp")
    assert_one_line(run(name, *places, *options, cwd=tmp_path), said)


def test_an_option_without_its_value(tmp_path: Path) -> None:
    command = [RECIPES / "timit/run.sh", "--exp", tmp_path / "exp", "--stage"]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    assert_one_line(finished, "--stage needs a value")


@pytest.mark.parametrize("stage", [3, 4])
def test_scoring_and_generating_before_training(tmp_path: Path, stage: int) -> None:
    (tmp_path / "data/shards").mkdir(parents=True)
    (tmp_path / "data/shards/manifest.json").touch()
    places = ("--data", tmp_path / "data", "--exp", tmp_path / "exp")
    assert_one_line(run("timit", *places, "--stage", stage, cwd=tmp_path), "exp holds no checkpoint; stage 2 trains")


def test_a_corpus_that_holds_nothing(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    places = ("--data", tmp_path / "data", "--exp", tmp_path / "exp", "--corpus", tmp_path / "empty")
    for name in ("timit", "blizzard", "custom"):
        assert_one_line(run(name, *places, cwd=tmp_path), "empty:")
