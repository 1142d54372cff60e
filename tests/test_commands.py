"""Commands as users meet them: help, and one line for each mistake."""

import json
import resource
import runpy
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import pytest
from experiment import make_experiment
from speech import make_shards

from zfaudio.command import run_command
from zfaudio.data.frames import dequantize
from zfaudio.evaluation.evaluate import evaluate
from zfaudio.evaluation.latents import latents

COMMANDS = ("shard", "train", "evaluate", "generate", "compare", "report")
PREPARATIONS = ("timit", "blizzard", "folder", "demo")
TINY = shlex.split(
    "--model.hidden_size 8 --model.latent_size 4 --model.embedding_size 8 --model.mlp_size 8 "
    "--train.max_steps 2 --train.batch_size 2 --train.segment_frames 10 --train.device cpu"
)


@dataclass
class Finished:
    """What a command left."""

    status: int
    stdout: str
    stderr: str


class Run(Protocol):
    """Runs a command; see `run`."""

    def __call__(self, *arguments: object, module: str = "zfaudio") -> Finished: ...


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Runs `python -m MODULE ARGUMENTS...`, in this process: a new one would import torch each time."""

    def call(*arguments: object, module: str = "zfaudio") -> Finished:
        monkeypatch.setattr(sys, "argv", [module, *map(str, arguments)])
        if module != "zfaudio":
            monkeypatch.delitem(sys.modules, module, raising=False)  # runpy warns of what is imported already
        try:
            runpy.run_module(module, run_name="__main__", alter_sys=False)
            status = 0
        except SystemExit as exit:
            status = exit.code if isinstance(exit.code, int) else int(exit.code is not None)
        printed = capfd.readouterr()
        return Finished(status, printed.out, printed.err)

    return call


def run_apart(*arguments: object, file_size: int | None = None) -> Finished:
    """Runs `python -m zfaudio ARGUMENTS...` in a process of its own, which may write no file beyond a size in bytes."""

    def limit_files() -> None:
        if file_size is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (file_size, file_size))

    finished = subprocess.run(
        [sys.executable, "-m", "zfaudio", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=limit_files,
    )
    return Finished(finished.returncode, finished.stdout, finished.stderr)


def assert_one_line(finished: Finished, *said: str) -> None:
    """It failed, and what it had to say about that is one line."""
    assert finished.status > 0, finished.stdout
    errors = finished.stderr.splitlines()
    assert len(errors) == 1, finished.stderr
    assert "error: " in errors[0]
    for words in said:
        assert words in errors[0]


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> str:
    return make_shards(tmp_path_factory.mktemp("shards"))


@pytest.fixture(scope="module")
def exp(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_experiment(tmp_path_factory.mktemp("experiment"))


# Help


def test_help_answers_within_a_second() -> None:
    def seconds() -> float:
        began = time.perf_counter()
        finished = run_apart("--help")
        assert finished.status == 0
        assert all(name in finished.stdout for name in COMMANDS)
        return time.perf_counter() - began

    assert min(seconds() for _ in range(3)) < 1


def modules_loaded(*arguments: object, among: tuple[str, ...]) -> set[str]:
    """Which of some modules `zfaudio ARGUMENTS...` loads in a process of its own, and all else it writes to stderr."""
    program = (
        "import sys; from zfaudio.cli import main; among, *sys.argv[1:] = sys.argv[1:]\n"
        "try: main()\n"
        "finally: print(*set(among.split()) & set(sys.modules), file=sys.stderr)"
    )
    command = [sys.executable, "-c", program, " ".join(among), *map(str, arguments)]
    return set(subprocess.run(command, capture_output=True, text=True, check=True).stderr.split())


def test_help_imports_nothing_heavy() -> None:
    assert modules_loaded("--help", among=("torch", "numpy", "librosa", "numba", "jsonargparse")) == set()


def test_generating_loads_neither_torchs_compiler_nor_scipys_filters(exp: Path, tmp_path: Path) -> None:
    command = ("generate", exp, "--out", tmp_path, "--num", 1, "--seconds", 0.1, "--device", "cpu")
    assert modules_loaded(*command, among=("torch", "torch._dynamo", "scipy.signal")) == {"torch"}
    assert (tmp_path / "sample-000.png").exists()  # with its spectrogram


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(run: Run, name: str) -> None:
    finished = run(name, "--help")
    assert finished.status == 0, finished.stderr
    assert finished.stdout.startswith(f"usage: zfaudio {name}")
    assert finished.stderr == ""


@pytest.mark.parametrize("name", PREPARATIONS)
def test_every_preparation_has_help(run: Run, name: str) -> None:
    finished = run("--help", module=f"data_prep.{name}")
    assert finished.status == 0, finished.stderr
    assert finished.stdout.startswith("usage: ")


# Mistakes


def test_no_command_or_an_unknown_one(run: Run) -> None:
    assert run().status == 2
    assert_one_line(run("trian"), "no command 'trian'", "train")


@pytest.mark.parametrize("name", ["timit", "blizzard", "folder"])
def test_preparing_a_missing_or_an_empty_corpus(run: Run, tmp_path: Path, name: str) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    assert_one_line(run(tmp_path / "nowhere", tmp_path / "out", module=f"data_prep.{name}"), "nowhere: no such folder")
    assert_one_line(run(empty, tmp_path / "out", module=f"data_prep.{name}"), f"{empty}:")
    assert not (tmp_path / "out").exists()


def test_sharding_a_missing_or_an_empty_folder(run: Run, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    assert_one_line(run("shard", tmp_path / "nowhere", tmp_path / "out"), "nowhere: no such folder")
    assert_one_line(run("shard", empty, tmp_path / "out"), f"{empty}:")


def test_options_that_do_not_exist_or_make_no_sense(run: Run, tmp_path: Path) -> None:
    assert_one_line(run("shard", tmp_path, tmp_path / "out", "--color", "red"), "--color")
    assert_one_line(run("shard", tmp_path, tmp_path / "out", "--nj", "many"), "nj", "many")
    assert_one_line(run("shard"), "source")


def test_training_without_shards(run: Run, tmp_path: Path) -> None:
    arguments = ("--data.shards", tmp_path / "nowhere", "--exp", tmp_path / "exp")
    assert_one_line(run("train", *TINY, *arguments), "nowhere/manifest.json", "no such file")
    assert not (tmp_path / "exp" / "checkpoints").exists()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("model: {hiden_size: 8}", "hiden_size"),
        ("train: {learning_rate: fast}", "learning_rate"),
        ("train: {device: gpu}", "train.device"),
        ("train: {max_steps: 0}", "train.max_steps"),
        ("model: [", "config"),
    ],
)
def test_a_configuration_that_cannot_be_used(run: Run, tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "conf.yaml").write_text(text)
    assert_one_line(run("train", "--config", tmp_path / "conf.yaml", "--exp", tmp_path / "exp"), said)
    assert not (tmp_path / "exp").exists()


def test_a_configuration_that_is_not_there(run: Run, tmp_path: Path) -> None:
    assert_one_line(run("train", "--config", tmp_path / "conf.yaml", "--exp", tmp_path / "exp"), "conf.yaml")


@pytest.mark.parametrize("command", ["evaluate", "generate"])
def test_a_checkpoint_that_is_not_there(run: Run, tmp_path: Path, command: str) -> None:
    out = ("--out", tmp_path / "out") if command == "generate" else ()
    assert_one_line(run(command, tmp_path / "nowhere", *out), "nowhere: no checkpoint there")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("file", ["model.safetensors", "config.yaml", "manifest.json"])
def test_a_checkpoint_that_is_damaged(run: Run, tmp_path: Path, exp: Path, file: str) -> None:
    shutil.copytree(exp / "checkpoints" / "step-00000500", tmp_path / "step-00000500")
    damaged = tmp_path / "step-00000500" / file
    damaged.write_bytes(damaged.read_bytes()[:20])
    assert_one_line(run("evaluate", tmp_path / "step-00000500"), file)


def test_a_split_that_is_not_there(run: Run, exp: Path) -> None:
    assert_one_line(run("evaluate", exp, "--split", "dev"), "no split 'dev'", "train, valid, test")


def test_shards_of_another_frame_size_or_rate_than_the_checkpoints(run: Run, tmp_path: Path, exp: Path) -> None:
    frames = make_shards(tmp_path / "frames", frame_size=25)
    assert_one_line(run("evaluate", exp, "--shards", frames), "frame_size 25", "--frame-size 20")
    rate = Path(make_shards(tmp_path / "rate"))
    manifest = json.loads((rate / "manifest.json").read_text())
    (rate / "manifest.json").write_text(json.dumps(manifest | {"sample_rate": 8000}))
    assert_one_line(run("evaluate", exp, "--shards", rate), "sample_rate 8000", "--sample-rate 16000")


def test_a_prompt_that_is_no_recording(run: Run, tmp_path: Path, exp: Path) -> None:
    prompt = tmp_path / "prompt.wav"
    prompt.write_bytes(b"RIFF, but no more of it")
    assert_one_line(run("generate", exp, "--out", tmp_path / "out", "--prompt", prompt), "prompt.wav")


def test_a_report_on_nothing(run: Run, tmp_path: Path) -> None:
    assert_one_line(run("report", tmp_path / "nowhere"), "nowhere: no such folder")
    assert_one_line(run("report", tmp_path), "not an experiment")


@pytest.mark.parametrize(
    "name",
    ["x y", "1.5", "null.json", "#1.json", "&a", "[x]", "$x$", "\x1b[31m", "caf\udce9", "two\nlines", "😀", "@x"],
)
def test_a_name_arrives_as_it_was_typed(name: str) -> None:
    arrived: list[tuple[list[str | Path], tuple[str | Path, ...], str | Path | None]] = []

    def command(
        many: Sequence[str | Path], *, more: tuple[str | Path, ...] = (), one: str | Path | None = None
    ) -> None:
        arrived.append((list(many), more, one))

    run_command(command, [name, "other", "--more", name, "--one", name], prog="command")
    assert arrived == [([name, "other"], (name,), name)]


def test_a_mistake_in_a_name_that_controls_a_terminal_only_shows_it(run: Run, tmp_path: Path, exp: Path) -> None:
    name = tmp_path / "\x1b[2Jgone\rnot"
    assert_one_line(run("evaluate", name), r"\x1b[2Jgone\rnot: no checkpoint there")
    assert_one_line(run("evaluate", exp, "--split", "\x1b[2J"), r"no split")
    finished = run("evaluate", exp, "--draws", 1, "--json", name / "r.json")
    assert finished.status == 0
    assert "\x1b" not in finished.stdout + finished.stderr


# A full disk: no file may grow beyond a size, so that what is written fails half-way.


def test_training_on_a_full_disk(tmp_path: Path, shards: str) -> None:
    arguments = ("train", *TINY, "--data.shards", shards, "--exp", tmp_path / "exp")
    dequantize(np.zeros((1, 4), np.int16), 0.0, 1.0, seed=0)  # a kernel's cache file would meet the limit first
    for size in (4_000, 12_000):  # weights, and what resuming needs
        shutil.rmtree(tmp_path / "exp", ignore_errors=True)
        finished = run_apart(*arguments, file_size=size)
        assert finished.status == 1
        assert "Traceback" not in finished.stderr
        assert "step-00000002: cannot be written" in finished.stderr
        assert list((tmp_path / "exp" / "checkpoints").iterdir()) == []


def test_generating_on_a_full_disk(tmp_path: Path, exp: Path) -> None:
    finished = run_apart("generate", exp, "--out", tmp_path / "out", "--seconds", 1, file_size=6_000)
    assert_one_line(finished, "sample-000.wav: cannot be written")


@pytest.mark.parametrize(
    ("command", "file"),
    [
        (("evaluate", "{exp}", "--draws", 1, "--json", "{exp}/results/again.json"), "results/again.json"),
        (("latents", "{exp}", "--json", "{exp}/latents.json"), "latents.json"),
        (("compare", "{exp}", "--csv", "{exp}/table.csv"), "table.csv"),
        (("report", "{exp}"), "report.html"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_results_on_a_full_disk(tmp_path: Path, exp: Path, command: tuple[object, ...], file: str) -> None:
    """The message names the file, of which nothing is left; what stood there before stays."""
    exp = shutil.copytree(exp, tmp_path / "exp", symlinks=True)
    evaluate(exp, json=exp / "results/test.json", device="cpu", draws=1)  # also compiles the kernels and caches them
    latents(exp, device="cpu")
    (exp / file).write_text("before")
    arguments = [str(word).format(exp=exp) for word in command]
    finished = run_apart(*arguments, file_size=100)
    assert finished.status == 1
    assert finished.stderr.splitlines()[-1].endswith(
        f"error: {exp}/{file}: File too large; make room and run the same command again"
    )
    assert command[0] == "report" or "nats" in finished.stdout  # the result itself is not lost
    assert (exp / file).read_text() == "before"
    assert not list(exp.rglob(".part-*"))
