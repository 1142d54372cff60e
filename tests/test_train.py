"""Training through its command, in processes of its own that are killed, stopped, resumed and spread."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from small_runs import FRAME_SIZE, assert_same_weights, log_rows, run_here, small_run, small_shards, weights
from speech import make_shards

from zfaudio.config import RunConfig
from zfaudio.errors import UserError
from zfaudio.experiment.checkpoint import find_checkpoint, load_checkpoint, load_training_state
from zfaudio.experiment.checkpoint_search import checkpoint_step, holds_checkpoints
from zfaudio.experiment.config_file import write_config
from zfaudio.training.run import Training
from zfaudio.training.setup import with_sample_rate
from zfaudio.training.train import train


def command(config: RunConfig, exp: Path, *options: str, launcher: tuple[str, ...] = ()) -> list[str]:
    """The command line of a run in a process of its own."""
    file = exp.with_suffix(".yaml")
    write_config(config, file)
    return [sys.executable, *launcher, "-m", "zfaudio", "train", "--config", str(file), "--exp", str(exp), *options]


def environment() -> dict[str, str]:
    return os.environ | {"OMP_NUM_THREADS": "1"}


def last_step(exp: Path) -> int:
    return checkpoint_step(find_checkpoint(exp / "last")) if holds_checkpoints(exp) else 0


@pytest.fixture(scope="module")
def shards(tmp_path_factory) -> str:
    return small_shards(tmp_path_factory.mktemp("shards"))


def test_training_raises_the_bound_and_writes_what_an_experiment_holds(shards, tmp_path):
    config = small_run(shards, train__max_steps=80, train__learning_rate=3e-3, train__validate_every=40)
    run_here(config, tmp_path / "exp")
    rows = log_rows(tmp_path / "exp")
    first, last = (float(rows[i]["nats_per_frame"]) for i in (0, -1))
    assert last > first + 5
    valid = [float(row["nats_per_frame"]) for row in rows if row["split"] == "valid"]
    assert len(valid) == 2
    assert valid[1] > valid[0]
    assert {int(row["step"]) for row in rows} == {*range(3, 79, 3), 40, 80}
    for share in ("data_wait", "loop_overhead"):
        assert all(0 <= float(row[share]) < 1 for row in rows if row["split"] == "train")
    assert list((tmp_path / "exp" / "tensorboard").glob("events*"))
    checkpoint = load_checkpoint(tmp_path / "exp")
    assert checkpoint.step == 80
    assert checkpoint.config == with_sample_rate(config, checkpoint.manifest)
    assert (tmp_path / "exp" / "commands.txt").read_text().count("\n") == 1


@pytest.mark.parametrize("carry_state", [True, False])
def test_killed_at_any_moment_and_resumed_the_weights_are_those_of_an_undisturbed_run(shards, tmp_path, carry_state):
    config = small_run(shards, data__carry_state=carry_state, train__max_steps=200, train__save_every=1)
    run = subprocess.run(command(config, tmp_path / "whole"), env=environment(), capture_output=True)
    assert run.returncode == 0, run.stderr.decode()

    exp, kills = tmp_path / "killed", 0
    rng = np.random.default_rng(int(carry_state))
    for _ in range(3):
        options = ("--resume",) if holds_checkpoints(exp) else ()
        process = subprocess.Popen(command(config, exp, *options), env=environment(), stderr=subprocess.DEVNULL)
        started = last_step(exp)
        while process.poll() is None and last_step(exp) == started:
            time.sleep(0.005)
        time.sleep(rng.uniform(0, 0.15))
        if process.poll() is None:
            process.kill()
            kills += 1
        process.wait()
    assert kills >= 2
    assert last_step(exp) > 0
    finish = subprocess.run(command(config, exp, "--resume"), env=environment(), capture_output=True)
    assert finish.returncode == 0, finish.stderr.decode()
    assert_same_weights(tmp_path / "whole", exp)
    assert validations(tmp_path / "whole") == validations(exp)


@pytest.mark.parametrize(
    ("name", "head", "likelihood"),
    [
        ("rnn", "factorized", "gaussian_mixture"),
        ("vrnn", "factorized", "gaussian"),
        ("srnn", "autoregressive", "logistic_mixture"),
        ("sample_ar", "autoregressive", "logistic_mixture"),
    ],
)
def test_every_model_carries_its_state_on_and_resumes_with_it(shards, tmp_path, name, head, likelihood):
    model = {"model__name": name, "model__head": head, "model__likelihood": likelihood}
    settings = {**model, "model__head_window": 8, "model__head_size": 8, "train__save_every": 100}
    whole = run_here(small_run(shards, **settings, train__max_steps=8), tmp_path / "whole")
    run_here(small_run(shards, **settings, train__max_steps=5), tmp_path / "parts")
    resumed = run_here(small_run(shards, **settings, train__max_steps=8), tmp_path / "parts", resume=True)
    assert_same_weights(tmp_path / "whole", tmp_path / "parts")
    assert len(whole.state) == {"rnn": 2, "vrnn": 3, "srnn": 3, "sample_ar": 0}[name]
    assert all(torch.equal(one, other) for one, other in zip(whole.state, resumed.state, strict=True))
    assert all((part != 0).any() for part in whole.state)


def validations(exp: Path) -> list[tuple[str, str, str]]:
    return [(row["step"], row["nats_per_frame"], row["kl"]) for row in log_rows(exp) if row["split"] == "valid"]


def test_sigterm_saves_and_leaves_and_resuming_goes_on(shards, tmp_path):
    config = small_run(shards, train__max_steps=100_000, train__save_every=100_000, train__validate_every=100_000)
    exp = tmp_path / "exp"
    process = subprocess.Popen(command(config, exp), env=environment(), stdout=subprocess.PIPE, text=True)
    while not (exp / "metrics.csv").exists() or len(log_rows(exp)) < 2:
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 128 + signal.SIGTERM
    stopped = last_step(exp)
    assert f"stopped by SIGTERM after step {stopped}" in output

    config.train.max_steps = stopped + 3
    run_here(config, exp, resume=True)
    assert last_step(exp) == stopped + 3
    run_here(config, tmp_path / "undisturbed")
    assert_same_weights(exp, tmp_path / "undisturbed")


def test_two_processes_take_the_same_steps_and_resume_exactly(shards, tmp_path):
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")
    config = small_run(shards, train__max_steps=8, train__save_every=3)
    whole = command(config, tmp_path / "whole", launcher=launcher)
    run = subprocess.run(whole, env=environment(), capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    training = load_training_state(find_checkpoint(tmp_path / "whole" / "last"))
    assert len(training["processes"]) == 2
    assert training["processes"][0]["stream"] != training["processes"][1]["stream"]
    frames = [float(row["frames"]) for row in log_rows(tmp_path / "whole") if row["split"] == "train"]
    assert frames[0] > 3 * 3 * 10  # more than one process alone could have read in 3 steps

    config.train.max_steps = 5
    subprocess.run(command(config, tmp_path / "parts", launcher=launcher), env=environment(), check=True)
    config.train.max_steps = 8
    subprocess.run(command(config, tmp_path / "parts", "--resume", launcher=launcher), env=environment(), check=True)
    with pytest.raises(UserError, match="saved by 2 processes, resumed by 1"):
        run_here(config, tmp_path / "whole", resume=True)
    assert_same_weights(tmp_path / "whole", tmp_path / "parts")


def test_a_step_that_is_not_finite_is_skipped_and_counted(shards, tmp_path):
    training = Training(small_run(shards), tmp_path / "exp", resume=False)
    broken = {3, 4, 9}
    forward = training.model.forward

    def sometimes_infinite(*args, **kwargs):
        terms = forward(*args, **kwargs)
        if training.progress.step in broken and training.model.training:
            terms.log_likelihood = terms.log_likelihood * float("inf")
        return terms

    training.model.forward = sometimes_infinite
    training.run()
    assert training.progress.skipped == 3
    assert training.progress.skipped_in_a_row == 0
    assert [row["skipped"] for row in log_rows(tmp_path / "exp") if row["split"] == "train"] == ["0", "2", "2", "3"]
    assert all(torch.isfinite(value).all() for value in weights(tmp_path / "exp").values())


def test_too_many_skipped_steps_in_a_row_end_the_run_with_what_to_try(shards, tmp_path):
    config = small_run(shards, train__learning_rate=1e30, train__max_skipped=4, train__max_steps=50)
    with pytest.raises(UserError, match=r"4 steps in a row .* not finite; try a lower train\.learning_rate"):
        run_here(config, tmp_path / "exp")


def test_learning_rate_halves_without_improvement_and_not_below_its_minimum(shards, tmp_path):
    config = small_run(
        shards, train__learning_rate=4e-4, train__validate_every=1, train__max_steps=8, train__save_every=100
    )
    training = Training(config, tmp_path / "exp", resume=False)
    training.schedule.best = 1e9  # nothing will improve on that
    rates = []
    record = training.log.record
    training.log.record = lambda step, split, row: (
        rates.append(training.optimizer.param_groups[0]["lr"]),
        record(step, split, row),
    )
    training.run()
    assert sorted(set(rates), reverse=True) == pytest.approx([2e-4, 1e-4])


@pytest.mark.parametrize("precision", ["tf32", "bf16"])
def test_other_precisions_train_to_finite_weights_kept_in_float32(shards, tmp_path, precision):
    config = small_run(shards, train__precision=precision)
    subprocess.run(command(config, tmp_path / "exp"), env=environment(), check=True)
    for value in weights(tmp_path / "exp").values():
        assert value.dtype == torch.float32
        assert torch.isfinite(value).all()


@pytest.mark.parametrize("dequantize", [True, False])
def test_digital_silence_trains_to_finite_numbers_under_both_protocols(tmp_path, dequantize):
    location = make_shards(tmp_path / "shards", utterances=4, frames=40, frame_size=FRAME_SIZE)
    config = small_run(
        location,
        data__dequantize=dequantize,
        data__carry_state=dequantize,
        model__min_deviation=0.01 if dequantize else 0.0,
        train__max_steps=150,
        train__validate_every=50,
        train__learning_rate=1e-2,
    )
    training = run_here(config, tmp_path / "exp")
    assert training.progress.skipped == 0
    assert all(np.isfinite(float(row["nats_per_frame"])) for row in log_rows(tmp_path / "exp"))


def test_without_a_validation_part_the_last_checkpoint_is_the_best(tmp_path):
    location = make_shards(tmp_path / "shards", utterances={"train": 4}, frames=20, frame_size=FRAME_SIZE)
    run_here(small_run(location), tmp_path / "exp")
    assert find_checkpoint(tmp_path / "exp" / "best") == find_checkpoint(tmp_path / "exp" / "last")


def test_only_the_best_and_the_last_checkpoint_are_kept(shards, tmp_path):
    run_here(small_run(shards, train__max_steps=20, train__save_every=2), tmp_path / "exp")
    kept = {path.name for path in (tmp_path / "exp" / "checkpoints").iterdir()}
    assert kept == {find_checkpoint(tmp_path / "exp" / name).name for name in ("best", "last")}


def test_a_folder_that_holds_a_run_is_not_overwritten_and_a_resumed_run_keeps_its_settings(shards, tmp_path):
    config = small_run(shards, train__max_steps=4)
    run_here(config, tmp_path / "exp")
    with pytest.raises(UserError, match="holds a run already; continue it with --resume"):
        run_here(config, tmp_path / "exp")
    changed = small_run(shards, train__max_steps=8, train__learning_rate=0.5)
    with pytest.raises(UserError, match=r"train\.learning_rate 0\.001 -> 0\.5"):
        run_here(changed, tmp_path / "exp", resume=True)
    with pytest.raises(UserError, match="no checkpoint to resume from"):
        run_here(config, tmp_path / "elsewhere", resume=True)


def test_missing_shards_are_a_users_mistake(tmp_path):
    config = small_run(str(tmp_path / "nothing"))
    with pytest.raises(UserError, match="nothing"):
        train(config.data, config.model, config.objective, config.train, exp=tmp_path / "exp")
    assert not (tmp_path / "exp").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_asking_for_a_gpu_that_is_not_there_is_a_users_mistake(shards, tmp_path):
    with pytest.raises(UserError, match="CUDA"):
        run_here(small_run(shards, train__device="cuda"), tmp_path / "exp")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16"])
def test_a_gpu_trains_to_finite_weights(shards, tmp_path, precision):
    run_here(small_run(shards, train__device="cuda", train__precision=precision), tmp_path / "exp")
    assert all(torch.isfinite(value).all() for value in weights(tmp_path / "exp").values())
