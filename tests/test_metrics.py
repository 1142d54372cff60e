import time

import pytest
import torch
from accelerate import Accelerator

from zfaudio.experiment.metrics import COLUMNS, MetricsLog, read_metrics
from zfaudio.training.interval import Interval


def test_rows_are_read_as_they_were_written_and_missing_columns_are_empty(tmp_path):
    log = MetricsLog(tmp_path / "metrics.csv", step=0)
    log.append({"step": 5, "split": "train", "kl": 1.25})
    log.append({"step": 5, "split": "valid", "nats_per_frame": -3.0})
    rows = read_metrics(tmp_path / "metrics.csv")
    assert [(row["step"], row["split"], row["kl"], row["nats_per_frame"]) for row in rows] == [
        ("5", "train", "1.25", ""),
        ("5", "valid", "", "-3.0"),
    ]
    assert tuple(rows[0]) == COLUMNS


def test_a_resumed_run_drops_the_rows_after_its_step(tmp_path):
    log = MetricsLog(tmp_path / "metrics.csv", step=0)
    for step in (10, 20, 30):
        log.append({"step": step, "split": "train"})
    MetricsLog(tmp_path / "metrics.csv", step=20).append({"step": 25, "split": "train"})
    assert [row["step"] for row in read_metrics(tmp_path / "metrics.csv")] == ["10", "20", "25"]


def test_a_line_that_was_cut_short_is_left_out(tmp_path):
    path = tmp_path / "metrics.csv"
    MetricsLog(path, step=0).append({"step": 10, "split": "train"})
    with path.open("a") as file:
        file.write("20,tra")
    assert [row["step"] for row in read_metrics(path)] == ["10"]
    MetricsLog(path, step=10).append({"step": 20, "split": "train"})
    assert [row["step"] for row in read_metrics(path)] == ["10", "20"]


def test_there_are_no_rows_without_a_file(tmp_path):
    assert read_metrics(tmp_path / "metrics.csv") == []


def test_time_that_is_no_training_counts_in_no_share():
    interval = Interval(torch.device("cpu"))
    interval.started -= 20.0
    interval.seconds.update(data_wait=1.0, computing=8.0, not_training=10.0)
    interval.frames += 500
    row = interval.averages(Accelerator(cpu=True))
    assert row["frames_per_second"] == pytest.approx(50, rel=0.05)
    assert row["data_wait"] == pytest.approx(0.1, rel=0.05)
    assert row["loop_overhead"] == pytest.approx(0.1, rel=0.05)


def test_time_is_counted_where_it_is_spent():
    interval = Interval(torch.device("cpu"))
    with interval.timed("computing"):
        time.sleep(0.02)
    assert interval.seconds["computing"] >= 0.02
    assert interval.seconds["data_wait"] == interval.seconds["not_training"] == 0
