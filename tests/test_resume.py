"""Stopping and continuing: signals, locks, changed settings, other weights, and a log as if there had been no stop."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from small_runs import assert_same_weights, log_rows, run_here, small_run, small_shards, weights

from zfaudio.config import RunConfig
from zfaudio.errors import UserError
from zfaudio.experiment.checkpoint import find_checkpoint, load_checkpoint, load_training_state
from zfaudio.experiment.config_file import write_config
from zfaudio.folder_lock import locked_folder
from zfaudio.training.run import Training

ENDLESS = {"train__max_steps": 100_000, "train__save_every": 100_000, "train__validate_every": 100_000}


@pytest.fixture(scope="module")
def shards(tmp_path_factory) -> str:
    return small_shards(tmp_path_factory.mktemp("shards"))


def start(config: RunConfig, exp: Path, *options: str, launcher: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    """Start a run in a process group of its own."""
    write_config(config, exp.with_suffix(".yaml"))
    words = [
        *launcher,
        "-m",
        "zfaudio",
        "train",
        "--config",
        str(exp.with_suffix(".yaml")),
        "--exp",
        str(exp),
        *options,
    ]
    return subprocess.Popen(
        [sys.executable, *words],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_for_rows(process: subprocess.Popen[str], exp: Path, rows: int = 2) -> None:
    while not (exp / "metrics.csv").exists() or len(log_rows(exp)) < rows:
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)


# Signals


def test_ctrl_c_saves_and_leaves_and_resuming_goes_on(shards, tmp_path):
    config, exp = small_run(shards, **ENDLESS), tmp_path / "exp"
    process = start(config, exp)
    wait_for_rows(process, exp)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    stopped = load_checkpoint(exp / "last").step
    assert f"stopped by SIGINT after step {stopped}; --resume continues" in output
    assert "saving after this step; press Ctrl-C again to leave at once" in errors
    assert "zfaudio train: interrupted" in errors
    config.train.max_steps = stopped + 2
    run_here(config, exp, resume=True)
    run_here(config, tmp_path / "undisturbed")
    assert_same_weights(exp, tmp_path / "undisturbed")


@pytest.mark.parametrize(("number", "second"), [(signal.SIGINT, signal.default_int_handler), (signal.SIGTERM, 0)])
def test_a_second_signal_leaves_at_once(shards, tmp_path, number, second):
    training = Training(small_run(shards), tmp_path / "exp", resume=False)
    before = signal.signal(number, training.request_stop)
    try:
        os.kill(os.getpid(), number)
        assert signal.getsignal(number) == second
        if number == signal.SIGINT:
            with pytest.raises(KeyboardInterrupt):
                os.kill(os.getpid(), number)
    finally:
        signal.signal(number, before)
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        training.run()
    assert load_checkpoint(tmp_path / "exp" / "last").step == 1


def test_ctrl_c_stops_several_processes_after_the_same_step(shards, tmp_path):
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")
    exp = tmp_path / "exp"
    process = start(small_run(shards, **ENDLESS), exp, launcher=launcher)
    wait_for_rows(process, exp)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode != 0
    checkpoint = load_checkpoint(exp / "last")
    assert len(load_training_state(checkpoint.path)["processes"]) == 2


# One run at a time


def test_a_second_run_in_a_folder_is_refused_and_names_the_first(shards, tmp_path):
    exp = tmp_path / "exp"
    process = start(small_run(shards, **ENDLESS), exp)
    wait_for_rows(process, exp)
    for resume in (False, True):
        with pytest.raises(UserError) as raised:
            run_here(small_run(shards), exp, resume=resume)
        assert f"{exp}: in use by a training run, process {process.pid} on {os.uname().nodename}; wait" in str(
            raised.value
        )
    process.kill()
    process.communicate()
    run_here(small_run(shards), exp)


def test_a_lock_is_released_and_other_folders_are_free(tmp_path):
    with locked_folder(tmp_path / "one", "a test"), locked_folder(tmp_path / "other", "a test"):
        for name in ("one", "other"):
            with pytest.raises(UserError, match=f"{name}: in use by a test, process {os.getpid()} on "):
                locked_folder(tmp_path / name, "another test").__enter__()
    with locked_folder(tmp_path / "one", "a test"):
        pass
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"file/\.lock: cannot be written"):
        locked_folder(tmp_path / "file", "a test").__enter__()


def test_a_folder_is_free_after_a_run_that_could_not_start(shards, tmp_path):
    exp = tmp_path / "exp"
    run_here(small_run(shards, train__max_steps=3), exp)
    with pytest.raises(UserError, match="holds a run already"):
        Training(small_run(shards), exp, resume=False)
    run_here(small_run(shards, train__max_steps=4), exp, resume=True)


# Other settings than before


def test_a_resumed_run_may_take_another_learning_rate_if_asked(shards, tmp_path, capsys):
    exp, other = tmp_path / "exp", small_run(shards, train__max_steps=8, train__learning_rate=5e-3)
    run_here(small_run(shards, train__max_steps=5), exp)
    with pytest.raises(UserError, match=r"train\.learning_rate 0\.001 -> 0\.005\); .* or --allow-changes to go on"):
        run_here(other, exp, resume=True)
    run_here(other, exp, resume=True, allow_changes=True)
    assert "step 5: continues with train.learning_rate 0.001 -> 0.005" in capsys.readouterr().out

    by_hand = Training(small_run(shards, train__max_steps=8), tmp_path / "by hand", resume=False)
    step_without_change = by_hand.train_step

    def train_step() -> None:
        if by_hand.progress.step == 5:
            for group in by_hand.optimizer.param_groups:
                group["lr"] = 5e-3
        step_without_change()

    by_hand.train_step = train_step
    by_hand.run()
    assert_same_weights(exp, tmp_path / "by hand")


@pytest.mark.parametrize("rows", [2, 5])
@pytest.mark.parametrize("carry_state", [True, False])
def test_a_resumed_run_may_take_another_batch_size_if_asked(shards, tmp_path, capsys, rows, carry_state):
    exp = tmp_path / "exp"
    run_here(small_run(shards, train__max_steps=5, data__carry_state=carry_state), exp)
    other = small_run(shards, train__max_steps=9, data__carry_state=carry_state, train__batch_size=rows)
    with pytest.raises(UserError, match=rf"train\.batch_size 3 -> {rows}\); .*--allow-changes"):
        run_here(other, exp, resume=True)
    lanes = load_training_state(find_checkpoint(exp / "last"))["processes"][0]["stream"]["lanes"]
    training = Training(other, exp, resume=True, allow_changes=True)
    unfinished = sum(lane is not None for lane in lanes[rows:])
    assert f"batch size 3 -> {rows}: {unfinished} recordings are left unfinished" in capsys.readouterr().out
    state = training.stream.state_dict()
    assert state["lanes"] == [*lanes, None, None][:rows]
    assert all(len(part) == rows for part in training.state)
    assert all((part[3:] == 0).all() for part in training.state)
    training.run()
    run_here(small_run(shards, train__max_steps=11, data__carry_state=carry_state, train__batch_size=rows), exp, True)


def test_a_resumed_run_may_have_another_number_of_processes_if_asked(shards, tmp_path):
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")
    exp, config = tmp_path / "exp", small_run(shards, train__max_steps=5)
    assert start(config, exp, launcher=launcher).wait(timeout=60) == 0
    epochs = [each["stream"]["next"] for each in load_training_state(find_checkpoint(exp / "last"))["processes"]]
    config.train.max_steps = 8
    with pytest.raises(UserError, match="saved by 2 processes, resumed by 1; resume with as many, or give --allow-ch"):
        run_here(config, exp, resume=True)
    training = Training(config, exp, resume=True, allow_changes=True)
    assert training.stream.state_dict()["next"] == [max(epoch + (index > 0) for epoch, index in epochs), 0]
    assert all((part == 0).all() for part in training.state)
    training.run()
    config.train.max_steps = 10
    process = start(config, exp, "--resume", "--allow-changes", launcher=launcher)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert "saved by 1 processes, resumed by 2: the data go on with epoch" in output


def test_what_a_resumed_run_cannot_change_is_refused_even_if_asked(shards, tmp_path):
    exp = tmp_path / "exp"
    run_here(small_run(shards, train__max_steps=3), exp)
    changes = {"model__hidden_size": 13, "train__seed": 1, "train__segment_frames": 5, "data__dequantize": False}
    for name, value in changes.items():
        with pytest.raises(
            UserError, match=rf"{name.replace('__', '.')} .*; .*start a new run with --train\.init_from"
        ):
            run_here(small_run(shards, train__max_steps=9, **{name: value}), exp, resume=True, allow_changes=True)
    free = {"train__save_every": 1, "train__keep_every": 2, "train__log_every": 1, "train__max_steps": 5}
    run_here(small_run(shards, **free), exp, resume=True)


# Other weights to start from


def test_a_run_starts_from_the_weights_of_another_one(shards, tmp_path, capsys):
    run_here(small_run(shards, train__max_steps=3), tmp_path / "source")
    config = small_run(shards, train__init_from=str(tmp_path / "source"), train__seed=5)
    training = Training(config, tmp_path / "exp", resume=False)
    source = load_checkpoint(tmp_path / "source").model.state_dict()
    assert all(torch.equal(value, source[name]) for name, value in training.model.state_dict().items())
    said = capsys.readouterr().out
    assert (
        f"weights from {tmp_path / 'source'} (step 3): {len(source)} of the model's {len(source)} tensors fit" in said
    )
    assert "100.0% of its numbers\n" in said
    training.run()
    (tmp_path / "source").rename(tmp_path / "gone")
    config.train.max_steps = 14
    run_here(config, tmp_path / "exp", resume=True)


def test_what_does_not_fit_is_said(shards, tmp_path, capsys):
    run_here(small_run(shards, train__max_steps=3), tmp_path / "source")
    capsys.readouterr()
    config = small_run(shards, train__init_from=str(tmp_path / "source" / "last"), model__auxiliary="none")
    config.model.mlp_size = 9
    training = Training(config, tmp_path / "exp", resume=False)
    training.close()
    source, own = weights(tmp_path / "source"), training.model.state_dict()
    fitting = [name for name in own if name in source and own[name].shape == source[name].shape]
    assert 0 < len(fitting) < len(own)
    assert all(torch.equal(own[name], source[name]) for name in fitting)
    said = capsys.readouterr().out
    assert f": {len(fitting)} of the model's {len(own)} tensors fit" in said
    assert re.search(r"; newly drawn: [\w.]+ \(9 x 12, there 8 x 12\), ", said)
    assert re.search(r"; not used: auxiliary[\w.]+, auxiliary[\w., ]+\n", said)


def test_weights_that_do_not_fit_at_all_are_refused(shards, tmp_path):
    run_here(small_run(shards, "sample_ar", train__max_steps=3, model__head_window=8), tmp_path / "source")
    with pytest.raises(UserError, match=r"train\.init_from .*source: none of its \d+ tensors fits this model"):
        run_here(small_run(shards, "rnn", train__init_from=str(tmp_path / "source")), tmp_path / "exp")
    with pytest.raises(UserError, match="nowhere: no checkpoint there"):
        run_here(small_run(shards, train__init_from=str(tmp_path / "nowhere")), tmp_path / "exp")


# The log


@pytest.mark.parametrize("stopped", [4, 5, 6])
def test_the_log_of_a_resumed_run_averages_over_whole_intervals(shards, tmp_path, stopped):
    settings = {"train__log_every": 3, "train__save_every": 100}
    run_here(small_run(shards, **settings, train__max_steps=9), tmp_path / "whole")
    run_here(small_run(shards, **settings, train__max_steps=stopped), tmp_path / "parts")
    run_here(small_run(shards, **settings, train__max_steps=9), tmp_path / "parts", resume=True)
    timing = {"frames_per_second", "data_wait", "loop_overhead"}
    rows = [
        [{name: value for name, value in row.items() if name not in timing} for row in log_rows(tmp_path / name)]
        for name in ("whole", "parts")
    ]
    extra = [row for row in rows[1] if row not in rows[0]]
    assert [row["split"] for row in extra] in ([], ["valid"])  # of the last step before the stop
    assert [row for row in rows[1] if row not in extra] == rows[0]
    for row in log_rows(tmp_path / "parts"):
        assert row["split"] == "valid" or (0 <= float(row["data_wait"]) < 1 and float(row["frames_per_second"]) > 0)


def test_the_log_says_where_an_old_checkpoint_lacks_the_sums(shards, tmp_path, capsys):
    exp = tmp_path / "exp"
    run_here(small_run(shards, train__max_steps=4), exp)
    checkpoint = find_checkpoint(exp / "last")
    training = load_training_state(checkpoint)
    del training["processes"][0]["interval"]
    torch.save(training, checkpoint / "training.pt")
    run_here(small_run(shards, train__max_steps=6), exp, resume=True)
    assert "the next line of metrics.csv averages over the steps from here on" in capsys.readouterr().out
