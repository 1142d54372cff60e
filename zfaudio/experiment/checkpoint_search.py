"""Find the checkpoint that a path means: in an experiment, by its record, or by what its checkpoints contain.

zfaudio 0.1.0 wrote no record, and made EXP/best and EXP/last links. Its experiments are still read, also when the links
have been lost or turned into folders in copying.
"""

import re
import shutil
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from zfaudio.errors import UserError
from zfaudio.experiment.checkpoint_record import (
    CONFIG,
    FILES,
    LABEL,
    MANIFEST,
    RECORD,
    ROLES,
    TRAINING,
    WEIGHTS,
    CheckpointLabel,
    CheckpointRecord,
    Role,
    checkpoint_folders,
    find_step,
    folder_name,
    free_folder,
    new_run,
    own_checkpoints,
    partial_folder,
    read_label,
    read_record,
    write_record,
)
from zfaudio.experiment.hub_checkpoint import find_on_hub
from zfaudio.hub import on_hub
from zfaudio.typed_json import write_json


def find_checkpoint(path: Path) -> Path:
    """The folder of the checkpoint that `path` means, with links resolved.

    Args:
        path: a checkpoint; an experiment, of which the best checkpoint is meant, or the last one before the first
            validation; or EXP/best or EXP/last; or hub:user/name, a model on the Hugging Face hub, which is
            downloaded.

    Raises:
        UserError: there is no checkpoint, or the one that is meant is missing.
    """
    if on_hub(path):
        return find_on_hub(str(path)).resolve()
    exp, role = path.parent, next((role for role in ROLES if role == path.name), None)
    if role is not None and not (path / RECORD).exists() and (exp / RECORD).exists():
        return _find_recorded(exp, role)
    if (path / WEIGHTS).is_file():
        return path.resolve()
    if (path / RECORD).exists():
        return _find_recorded(path, None)
    found = _find_without_record(path, "best") or _find_without_record(path, "last")
    if found is None and role is not None:
        found = _find_without_record(exp, role)
    if found is None:
        raise UserError(f"{path}: no checkpoint there (a folder with {WEIGHTS}, or an experiment that holds some)")
    return found


def holds_checkpoints(exp: Path) -> bool:
    """Whether a run has left checkpoints in this folder."""
    return (exp / RECORD).exists() or any(_find_without_record(exp, role) is not None for role in ROLES)


def _find_recorded(exp: Path, role: Role | None) -> Path:
    """The best or the last checkpoint of an experiment with a record; by default the best one if there is one yet."""
    record = read_record(exp)
    assert record is not None
    if role is None:
        role = "last" if record.best is None else "best"
    step = record.best if role == "best" else record.last
    if step is None:
        raise UserError(f"{exp}: no checkpoint is the best before the first validation; give {exp / 'last'}")
    found = find_step(exp, record.run, step)
    if found is None:
        others = ", ".join(str(label.step) for _, label in own_checkpoints(exp, record.run)) or "none"
        raise UserError(
            f"{exp}: its {role} checkpoint, of step {step}, is missing from {exp / 'checkpoints'}, which holds steps: "
            f"{others}; copy it back, or delete {exp / RECORD} to make do with these"
        )
    return found


def checkpoint_step(checkpoint: Path) -> int:
    """The step of a checkpoint.

    Raises:
        UserError: it does not say, and its name does not either.
    """
    label = read_label(checkpoint)
    if label is not None:
        return label.step
    if match := re.fullmatch(r"step-(\d{1,18})", checkpoint.name):
        return int(match[1])
    step, _ = _training_facts(checkpoint)
    if step is None:
        raise UserError(
            f"{checkpoint}: a checkpoint of zfaudio 0.1.0 that does not say which step it is of; "
            "name the folder step-00000500 if it is of step 500"
        )
    return step


# Experiments without a record: those of zfaudio 0.1.0, and those whose record was not copied


def _find_without_record(exp: Path, role: Role) -> Path | None:
    """The best or last checkpoint by the links of zfaudio 0.1.0, or else by what the checkpoints contain."""
    if (exp / role / WEIGHTS).is_file():
        return (exp / role).resolve()
    steps = {path: _step_or_none(path) for path in checkpoint_folders(exp) if _is_whole(path)}
    known = sorted((step, path) for path, step in steps.items() if step is not None)
    if not known:
        return None
    _, last = known[-1]
    run, best = _run_and_best(last)
    if role == "last" or best is None:
        return last.resolve()
    # A run saves as soon as it scores best. So its best checkpoint is the first one that knows the best score.
    knowing = (path for _, path in known if _run_and_best(path) in ((run, best), (None, best)))
    return next(knowing).resolve()


def _is_whole(path: Path) -> bool:
    """Whether a folder holds what scoring and generation need."""
    return all((path / name).is_file() for name in (WEIGHTS, CONFIG, MANIFEST))


def _step_or_none(checkpoint: Path) -> int | None:
    try:
        return checkpoint_step(checkpoint)
    except UserError:
        return None


def _run_and_best(checkpoint: Path) -> tuple[str | None, float | None]:
    """The run of a checkpoint and its best validation score so far, as far as they are known."""
    with suppress(UserError):
        label = read_label(checkpoint)
        if label is not None:
            return label.run, label.best
    _, best = _training_facts(checkpoint)
    return None, best


def _training_facts(checkpoint: Path) -> tuple[int | None, float | None]:
    """Step and best validation score in training.pt; None if it is missing or damaged."""
    from zfaudio.experiment.checkpoint import load_training_state  # here, because only old checkpoints need torch

    try:
        training = load_training_state(checkpoint)
    except UserError:
        return None, None
    step, best = training.get("step"), training.get("best")
    return step if type(step) is int and step >= 0 else None, best if type(best) is float else None


def adopt_checkpoints(exp: Path) -> None:
    """Give an experiment without a record one, so that a run can continue in it. With a record, do nothing.

    The best and the last checkpoint get labels. If they are elsewhere than in EXP/checkpoints, because links were
    turned into folders, they are copied there. The links of zfaudio 0.1.0 are removed.
    """
    if (exp / RECORD).exists():
        return
    last, best = _find_without_record(exp, "last"), _find_without_record(exp, "best")
    if last is None:
        return
    run = _run_and_best(last)[0] or new_run()
    steps = {path: _adopt(exp, path, run) for path in {last, best or last}}
    write_record(exp, CheckpointRecord(run=run, last=steps[last], best=steps[best] if best else None))
    for role in ROLES:
        if (exp / role).is_symlink():
            (exp / role).unlink()


def _adopt(exp: Path, checkpoint: Path, run: str) -> int:
    """Make a checkpoint one of this run; returns its step."""
    step = checkpoint_step(checkpoint)
    label = CheckpointLabel(run=run, folder=folder_name(step), step=step, best=_run_and_best(checkpoint)[1])
    if find_step(exp, run, step) is not None:
        return step
    unlabeled = [path for path in checkpoint_folders(exp) if _is_whole(path) and not (path / LABEL).exists()]
    for path in unlabeled:
        if path.resolve() == checkpoint or (_step_or_none(path) == step and (path / TRAINING).is_file()):
            write_json(path / LABEL, label)
            return step
    partial, copy = partial_folder(exp / "checkpoints"), free_folder(exp, run, step)
    for name in FILES:
        if (checkpoint / name).is_file():
            shutil.copy2(checkpoint / name, partial / name)
    write_json(partial / LABEL, replace(label, folder=copy.name))
    partial.rename(copy)
    return step
