"""Every benchmark runs, at sizes too small to measure anything, and reports what benchmarks/README.md promises."""

import json

import pytest

from benchmarks.decoder import decoder
from benchmarks.generate import generate
from benchmarks.heads import heads
from benchmarks.loader import loader
from benchmarks.shard import shard_folder
from benchmarks.startup import startup
from benchmarks.timing import medians_in_alternation, report
from benchmarks.train_step import train_step


@pytest.mark.parametrize(
    ("benchmark", "options", "keys"),
    [
        (
            train_step,
            {"tiny": True, "growth": False},
            {"processor", "speedup_vs_published", "fraction_of_gemm_bound", "frames_per_second", "time_vs_lstm_pair"},
        ),
        (
            generate,
            {"hidden_size": 16, "seconds": 0.05, "voices": (1, 3)},
            {"processor", "voices", "gb_per_second_of_memory"},
        ),
        (
            heads,
            {"rates": (8000,), "frames": 2, "by_operators": 1, "size": 8},
            {"processor", "rates", "gigaflops_of_cached_products"},
        ),
        (
            decoder,
            {"batch": 2, "frames": 3, "tiny": True},
            {"processor", "implementations", "multiply_adds_per_sample", "largest_difference_in_float64"},
        ),
        (shard_folder, {"hours": 0.0}, {"processor", "of_the_speed_of_decoding", "speedup_of_two_processes"}),
        (loader, {"hours": 0.0}, {"processor", "whole recordings", "half a second"}),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_benchmark_runs_and_prints_what_it_writes(tmp_path, capsys, benchmark, options, keys):
    file = tmp_path / "result.json"
    benchmark(json=str(file), turns=1, **options)
    table, printed = capsys.readouterr().out.strip().rsplit("\n", 1)
    results = json.loads(file.read_text())
    assert json.loads(printed) == results
    assert keys <= results.keys()
    assert len(table.splitlines()) > 1


def test_the_benchmark_of_starting_runs(tmp_path, capsys, monkeypatch):
    def once(tasks, turns):
        return medians_in_alternation(tasks, 0)

    monkeypatch.setattr("benchmarks.startup.medians_in_alternation", once)
    startup(json=str(tmp_path / "result.json"))
    results = json.loads((tmp_path / "result.json").read_text())
    # The other processes are timed only once and while other tests run: which of them is faster is not tested here.
    assert results["help_s"] < results["seconds"]["import torch"]
    assert {"processor", "first_batch_vs_torch_import", "first_step_vs_torch_import"} <= results.keys()


def test_the_first_turn_is_not_counted_and_what_runs_between_tasks_is_not_timed():
    called = []
    seconds = medians_in_alternation(
        {"a": lambda: called.append("a"), "b": lambda: called.append("b")}, turns=2, between=lambda: called.append("-")
    )
    assert "".join(called) == "-a-b" * 3
    assert seconds.keys() == {"a", "b"}


def test_a_table_has_straight_columns(capsys):
    report({"x": 1}, [("", "speed"), ("one", 1.23456), ("three", 1000)], json="")
    assert capsys.readouterr().out == '       speed\none     1.23\nthree   1000\n{"x": 1}\n'
