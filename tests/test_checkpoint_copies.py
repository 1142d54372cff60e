"""Experiments survive any copy, what a run did not write survives the run, and a kill between any two writes."""

import contextlib
import itertools
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from experiment import make_experiment
from small_runs import assert_same_weights, log_rows, run_here, small_run, small_shards

from zfaudio.errors import UserError
from zfaudio.experiment.checkpoint import find_checkpoint, load_checkpoint, load_training_state
from zfaudio.experiment.checkpoint_search import checkpoint_step, holds_checkpoints


@pytest.fixture(scope="module")
def shards(tmp_path_factory) -> str:
    return small_shards(tmp_path_factory.mktemp("shards"))


@pytest.fixture(scope="module")
def trained(shards, tmp_path_factory) -> Path:
    """A run of 12 steps whose best checkpoint is that of step 5, and whose last one is of step 11."""
    exp = tmp_path_factory.mktemp("trained") / "exp"
    training = run_here(small_run(shards, train__max_steps=5), exp)
    assert training.progress.best is not None
    worse = small_run(shards, train__max_steps=11, train__learning_rate=3.0, train__save_every=1)
    training = run_here(worse, exp, resume=True, allow_changes=True)
    assert [step_of(exp, role) for role in ("best", "last")] == [5, 11]
    return exp


def step_of(exp: Path, role: str) -> int:
    return checkpoint_step(find_checkpoint(exp / role))


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def as_of_0_1_0(exp: Path) -> Path:
    """Turn an experiment into what zfaudio 0.1.0 would have left."""
    for role in ("best", "last"):
        checkpoint = find_checkpoint(exp / role)
        (exp / role).symlink_to(os.path.relpath(checkpoint, exp.resolve()))
    for label in exp.glob("checkpoints/*/checkpoint.json"):
        label.unlink()
    (exp / "checkpoints.json").unlink()
    return exp


# Copies


def test_there_are_no_links(trained):
    assert not any(path.is_symlink() for path in trained.rglob("*"))
    assert {path.name for path in (trained / "checkpoints").iterdir()} == {"step-00000005", "step-00000011"}


def as_it_is(exp: Path) -> None:
    pass


def without_links(exp: Path) -> None:
    for role in ("best", "last"):
        (exp / role).unlink(missing_ok=True)


def last_dangling(exp: Path) -> None:
    if (exp / "last").is_symlink():
        (exp / "last").unlink()
        (exp / "last").symlink_to("checkpoints/step-00000099")


def links_as_folders(exp: Path) -> None:
    for role in ("best", "last"):
        if (exp / role).is_symlink():
            target = (exp / role).resolve()
            (exp / role).unlink()
            shutil.copytree(target, exp / role)


def links_as_folders_alone(exp: Path) -> None:
    links_as_folders(exp)
    if (exp / "best").is_dir():
        shutil.rmtree(exp / "checkpoints")


def links_as_text(exp: Path) -> None:
    for role in ("best", "last"):
        if (exp / role).is_symlink():
            target = os.readlink(exp / role)
            (exp / role).unlink()
            (exp / role).write_text(target)


def renamed_folders(exp: Path) -> None:
    for path in sorted((exp / "checkpoints").iterdir()):
        path.rename(path.with_name(f"my {path.name[-2:]}"))
    without_links(exp)


def without_record(exp: Path) -> None:
    (exp / "checkpoints.json").unlink(missing_ok=True)
    without_links(exp)


COPIES = [
    *(as_it_is, without_links, last_dangling, links_as_folders, links_as_folders_alone, links_as_text),
    *(renamed_folders, without_record),
]


@pytest.mark.parametrize("old", [False, True], ids=["", "of 0.1.0"])
@pytest.mark.parametrize("copied", COPIES, ids=lambda copied: copied.__name__)
def test_a_copied_experiment_is_scored_and_resumed_and_not_overwritten(shards, trained, tmp_path, old, copied):
    exp = shutil.copytree(trained, tmp_path / "exp")
    if old:
        as_of_0_1_0(exp)
    copied(exp)
    assert load_checkpoint(exp).step == 5
    assert load_checkpoint(exp / "best").step == 5
    assert load_checkpoint(exp / "last").step == 11
    before = tree(exp)
    settings = {"train__max_steps": 14, "train__learning_rate": 3.0, "train__save_every": 1}
    with pytest.raises(UserError, match=r"holds a run already; continue it with --resume .*--overwrite"):
        run_here(small_run(shards, **settings), exp)
    assert tree(exp).items() >= before.items()
    run_here(small_run(shards, **settings), exp, resume=True)
    assert [step_of(exp, role) for role in ("best", "last")] == [5, 14]
    assert not any(path.is_symlink() for path in exp.rglob("*"))
    whole = shutil.copytree(trained, tmp_path / "whole")
    run_here(small_run(shards, **settings), whole, resume=True)
    assert_same_weights(exp, whole)


def test_a_checkpoint_says_its_step_under_any_name(trained, tmp_path):
    shutil.copytree(find_checkpoint(trained), tmp_path / "mine")
    assert load_checkpoint(tmp_path / "mine").step == 5


def test_an_old_checkpoint_that_says_no_step_asks_for_one(tmp_path):
    exp = make_experiment(tmp_path)  # whose training.pt is empty
    checkpoint = exp / "checkpoints" / "step-00000500"
    (checkpoint / "checkpoint.json").unlink()
    assert load_checkpoint(checkpoint).step == 500
    checkpoint.rename(tmp_path / "mine")
    with pytest.raises(UserError, match=r"mine: .* does not say which step it is of; name the folder step-00000500 if"):
        load_checkpoint(tmp_path / "mine")


def test_a_missing_checkpoint_is_named(trained, tmp_path):
    exp = shutil.copytree(trained, tmp_path / "exp")
    shutil.rmtree(exp / "checkpoints" / "step-00000005")
    assert load_checkpoint(exp / "last").step == 11
    with pytest.raises(UserError, match=r"its best checkpoint, of step 5, is missing .* holds steps: 11; copy"):
        load_checkpoint(exp)


def test_a_run_goes_on_without_its_best_checkpoint_and_says_so(shards, trained, tmp_path, capsys):
    exp = shutil.copytree(trained, tmp_path / "exp")
    shutil.rmtree(exp / "checkpoints" / "step-00000005")
    settings = {"train__max_steps": 16, "train__learning_rate": 3.0}
    training = run_here(small_run(shards, **settings), exp, resume=True)
    assert "the best checkpoint, of step 5, is gone; the next validation makes a new one" in capsys.readouterr().out
    scores = {row["step"]: float(row["nats_per_frame"]) for row in log_rows(exp) if row["split"] == "valid"}
    assert training.progress.best == max(scores["15"], scores["16"]) < scores["5"]
    assert step_of(exp, "best") in (15, 16)


DAMAGED = ["", "{}", '{"step": -1}', '{"format_version": 9}', "[" * 100_000, '{"run": 3}', "\0"]


@pytest.mark.parametrize("file", ["checkpoints.json", "checkpoints/step-00000005/checkpoint.json"])
@pytest.mark.parametrize(
    "content", ["", "{}", '{"step": -1}', '{"format_version": 9}', "[" * 100_000, '{"run": 3}', "\0"]
)
def test_a_damaged_record_is_named(trained, tmp_path, file, content):
    exp = shutil.copytree(trained, tmp_path / "exp")
    (exp / file).write_text(content)
    with pytest.raises(UserError, match=rf"{Path(file).name}: ") as raised:
        load_checkpoint(exp)
    assert "\n" not in str(raised.value)


# What a run did not write


def test_what_a_run_did_not_write_survives_and_disturbs_nothing(shards, trained, tmp_path):
    exp = tmp_path / "exp"
    run_here(small_run(shards, train__max_steps=4, train__save_every=1, train__validate_every=4), exp)
    checkpoints = exp / "checkpoints"
    (checkpoints / "notes.txt").write_text("mine")
    (checkpoints / "empty").mkdir()
    (checkpoints / "mine").mkdir()
    (checkpoints / "mine" / "model.safetensors").write_text("mine")
    (checkpoints / "step-00000006").mkdir()  # where the run is going to write
    (checkpoints / "step-00000006" / "model.safetensors").write_text("mine")
    (checkpoints / "step-00000007").write_text("mine")
    shutil.copytree(checkpoints / "step-00000004", checkpoints / "step-00000004 backup")
    shutil.copytree(trained / "checkpoints" / "step-00000011", checkpoints / "step-00000011")  # of another run
    (checkpoints / "elsewhere").symlink_to(tmp_path)
    (checkpoints / ".partial").mkdir()
    (checkpoints / ".partial" / "notes.txt").write_text("mine")
    (checkpoints / "pipe").mkdir()
    os.mkfifo(checkpoints / "pipe" / "checkpoint.json")
    (checkpoints / "broken").mkdir()
    (checkpoints / "broken" / "checkpoint.json").write_text("{")
    ours = tree(checkpoints / "step-00000004")
    before = {name: content for name, content in tree(checkpoints).items() if not name.startswith("step-00000004/")}
    (checkpoints / "step-00000004" / "why.txt").write_text("mine")
    for steps in (6, 7, 8, 9):
        config = small_run(shards, train__max_steps=steps, train__save_every=1, train__validate_every=4)
        run_here(config, exp, resume=True)
        assert step_of(exp, "last") == steps
    assert tree(checkpoints).items() >= before.items()
    assert (checkpoints / "empty").is_dir()
    assert (checkpoints / "elsewhere").is_symlink()
    assert tree(checkpoints / "step-00000004 backup") == ours
    assert (checkpoints / "step-00000004" / "why.txt").read_text() == "mine"
    run_here(small_run(shards, train__max_steps=9, train__save_every=1, train__validate_every=4), tmp_path / "whole")
    assert_same_weights(exp, tmp_path / "whole")

    run_here(small_run(shards, train__max_steps=3, train__validate_every=4), exp, overwrite=True)
    assert tree(checkpoints).items() >= before.items()
    assert step_of(exp, "last") == 3


def test_starting_over_deletes_what_the_run_wrote_and_only_if_asked(shards, trained, tmp_path):
    exp = shutil.copytree(trained, tmp_path / "exp")
    config = small_run(shards, train__max_steps=3)
    with pytest.raises(UserError, match="give one of them"):
        run_here(config, exp, resume=True, overwrite=True)
    run_here(config, exp, overwrite=True)
    assert {path.name for path in (exp / "checkpoints").iterdir()} == {"step-00000003"}
    assert {int(row["step"]) for row in log_rows(exp)} == {3}


def test_starting_over_an_old_experiment(shards, trained, tmp_path):
    exp = as_of_0_1_0(shutil.copytree(trained, tmp_path / "exp"))
    (exp / "checkpoints" / "step-00000001").mkdir()
    (exp / "checkpoints" / "step-00000001" / "notes.txt").write_text("mine")
    run_here(small_run(shards, train__max_steps=3), exp, overwrite=True)
    assert {path.name for path in (exp / "checkpoints").iterdir()} == {"step-00000001", "step-00000003"}


def test_every_nth_checkpoint_is_kept_for_good(shards, tmp_path):
    exp = tmp_path / "exp"
    config = small_run(shards, train__max_steps=10, train__save_every=100, train__keep_every=3)
    run_here(config, exp)
    assert {3, 6, 9, 10} <= steps_there(exp) <= {3, 5, 6, 9, 10}
    config = small_run(shards, train__max_steps=14, train__save_every=1)
    run_here(config, exp, resume=True)
    assert {3, 6, 9, 14} <= steps_there(exp)
    assert len(steps_there(exp)) <= 5
    assert load_checkpoint(exp / "checkpoints" / "step-00000006").step == 6


def steps_there(exp: Path) -> set[int]:
    return {checkpoint_step(path) for path in (exp / "checkpoints").iterdir()}


# Kills


class Killed(BaseException):
    """The process is gone."""


@contextlib.contextmanager
def killed_after(calls: int) -> Iterator[None]:
    """In the block, the file system takes a number of changes of names, and none after that."""
    left = calls

    def counted(call: Callable[..., object]) -> Callable[..., object]:
        def counting(*args: object, **kwargs: object) -> object:
            nonlocal left
            left -= 1
            if left < 0:
                raise Killed  # also in what cleans up: a killed process cleans up nothing
            return call(*args, **kwargs)

        return counting

    with pytest.MonkeyPatch.context() as patch:
        for name in ("rename", "replace", "unlink", "rmdir", "mkdir"):
            patch.setattr(Path, name, counted(getattr(Path, name)))
        with contextlib.suppress(Killed):
            yield


def test_killed_between_any_two_writes_nothing_is_lost_or_left_behind(shards, tmp_path):
    config = small_run(shards, train__max_steps=2, train__save_every=1, train__validate_every=1)
    whole = run_here(config, tmp_path / "whole").exp
    for calls in itertools.count():
        exp, killed = tmp_path / str(calls), True
        with killed_after(calls):
            run_here(config, exp)
            killed = False
        if not killed:
            break
        if holds_checkpoints(exp):
            best, last = load_checkpoint(exp), load_checkpoint(exp / "last")
            scores = {int(row["step"]): float(row["nats_per_frame"]) for row in validations(exp)}
            known = {step: score for step, score in scores.items() if step <= last.step}
            assert best.step == max(known, key=lambda step: known[step])
            for checkpoint in (best, last):
                assert load_training_state(checkpoint.path)["best"] == max(known.values())
        run_here(config, exp, resume=holds_checkpoints(exp))
        assert_same_weights(exp, whole)
        assert [step_of(exp, role) for role in ("best", "last")] == [step_of(whole, role) for role in ("best", "last")]
        assert names_below(exp) == names_below(whole)
    assert calls > 30


def validations(exp: Path) -> list[dict[str, str]]:
    return [row for row in log_rows(exp) if row["split"] == "valid"]


def names_below(exp: Path) -> set[str]:
    """The files and folders of an experiment, without those of TensorBoard and files that are half written."""
    paths = {str(path.relative_to(exp)) for path in exp.rglob("*")}
    return {path for path in paths if not path.startswith("tensorboard") and "/." not in f"/{path}"}
