"""Fixtures of the tests of `zfaudio compare`: scored experiments, and what is read and written of them."""

import shutil
from pathlib import Path

import pytest
from experiment import make_experiment
from speech import make_shards

from zfaudio.evaluation.comparison import ComparisonRow, compare_experiments
from zfaudio.evaluation.evaluate import evaluate
from zfaudio.experiment.results import EvaluationResult, read_result
from zfaudio.typed_json import write_json


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of scored experiments: rnn-0, rnn-1 (another seed), zforcing and biased. Tests change only copies."""
    folder = tmp_path_factory.mktemp("compare")
    shards = make_shards(folder / "shards", frames=[60, 47, 90], frame_size=20)
    for name, options in {
        "rnn-0": {"model": "rnn"},
        "rnn-1": {"model": "rnn", "seed": 1},
        "zforcing": {},
        "biased": {"bias": 0.5},
    }.items():
        exp = make_experiment(folder / "making" / name, shards=shards, **options).rename(folder / name)
        evaluate(exp, json=exp / "results/test.json", device="cpu", draws=1)
    return folder


@pytest.fixture
def exps(trained: Path, tmp_path: Path) -> Path:
    return shutil.copytree(trained, tmp_path / "exps", symlinks=True)


def result_of(exp: Path) -> EvaluationResult:
    return read_result(exp / "results/test.json")


def write(exp: Path, result: EvaluationResult) -> None:
    write_json(exp / "results/test.json", result)


def rows_of(*experiments: Path, **options: object) -> dict[str, ComparisonRow]:
    return {row.name: row for row in compare_experiments(experiments, **options).rows}
