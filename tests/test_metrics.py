import os
import random
import time
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator

from zfaudio.errors import UserError
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


GOOD = (
    "3",
    "train",
    "12",
    "-1.5",
    "nan",
    "",
    "inf",
    "-inf",
    "1e-05",
    "2.",
    ".5",
    "1E+3",
    "0",
    "1",
    "0.1",
    "0",
    "",
    "0",
)


def write_rows(path, *rows: tuple[str, ...], header: tuple[str, ...] = COLUMNS) -> None:
    path.write_text("".join(",".join(row) + "\r\n" for row in (header, *rows)))


def test_numbers_of_every_spelling_are_read(tmp_path):
    write_rows(tmp_path / "metrics.csv", GOOD)
    (row,) = read_metrics(tmp_path / "metrics.csv")
    assert tuple(row.values()) == GOOD


def test_columns_of_other_versions_are_left_out_or_empty(tmp_path):
    write_rows(tmp_path / "metrics.csv", ("7", "x", "valid", "2.5"), header=("step", "new", "split", "kl"))
    (row,) = read_metrics(tmp_path / "metrics.csv")
    assert tuple(row) == COLUMNS
    assert {name: value for name, value in row.items() if value} == {"step": "7", "split": "valid", "kl": "2.5"}


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("step", "-1", "line 3: step is '-1', not a step"),
        ("step", "1.5", "line 3: step is '1.5', not a step"),
        ("step", "9" * 99, "line 3: step is '9999"),
        ("split", "test", "line 3: split is 'test', not train or valid"),
        ("kl", "much", "line 3: kl is 'much', not a number"),
        ("kl", "1_0", "line 3: kl is '1_0', not a number"),
        ("kl", "=1+1", "line 3: kl is '=1+1', not a number"),
        ("loss", "\x1b[31m", r"line 3: loss is '\x1b[31m', not a number"),
        ("loss", "1,2", "line 3 has 19 columns, not 18"),
        ("loss", '"1', "unexpected end of data"),
        ("loss", "\0", "line 3: loss is "),
        ("loss", "1" * 200_000, "field larger than field limit"),
    ],
)
def test_what_is_no_log_is_named(tmp_path, column, value, message):
    path = tmp_path / "metrics.csv"
    bad = [value if name == column else good for name, good in zip(COLUMNS, GOOD, strict=True)]
    write_rows(path, GOOD, tuple(bad))
    with pytest.raises(UserError) as raised:
        read_metrics(path)
    assert str(raised.value).startswith(f"{path}: not the log of a training run (")
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("content", [b"a,b\n1,2\n", b"\xff\xfe\n", b"step\n3\n"])
def test_a_file_of_another_kind_is_named(tmp_path, content):
    (tmp_path / "metrics.csv").write_bytes(content)
    with pytest.raises(UserError, match=r"metrics\.csv: not the log of a training run"):
        read_metrics(tmp_path / "metrics.csv")


def test_what_is_no_file_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "metrics.csv")
    with pytest.raises(UserError, match=r"metrics\.csv: not a file"):
        read_metrics(tmp_path / "metrics.csv")


def test_any_bytes_are_a_log_or_one_line(tmp_path):
    path, rng = tmp_path / "metrics.csv", random.Random(0)
    write_rows(path, *[GOOD] * 5)
    good = path.read_bytes()
    for _ in range(500):
        data = bytearray(good)
        for _ in range(rng.choice([1, 2, 10])):
            at = rng.randrange(len(data))
            data[at : at + rng.choice([0, 1, 30])] = rng.choice([b"", b",", b'"', b"\n", rng.randbytes(3)])
        path.write_bytes(data)
        try:
            rows = read_metrics(path)
        except UserError as error:
            message = str(error)
        else:
            message = ""
            assert all(float(value or 0) is not None for row in rows for name, value in row.items() if name != "split")
        assert "\n" not in message


def test_a_full_disk_names_the_log(tmp_path):
    log = MetricsLog(tmp_path / "metrics.csv", step=0)
    log.path = Path("/dev/full")
    with pytest.raises(UserError, match="/dev/full: No space left on device; make room"):
        log.append({"step": 5, "split": "train"})


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
