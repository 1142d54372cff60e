"""The folder of an experiment: whether a run may start or continue in it."""

import dataclasses
from pathlib import Path
from typing import Any

from zfaudio.command import command_line
from zfaudio.config import RunConfig
from zfaudio.errors import UserError
from zfaudio.experiment.checkpoint_record import (
    CONFIG,
    delete_run,
    delete_superseded,
    find_step,
    read_record,
    write_record,
)
from zfaudio.experiment.checkpoint_search import adopt_checkpoints, find_checkpoint, holds_checkpoints
from zfaudio.experiment.config_file import read_config, write_config
from zfaudio.files import explain_write_error

# Settings that a resumed run may change: those that do not change the weights of any step. The sample rate is that of
# the shards; runs of earlier versions did not write it down.
FREE_ON_RESUME = {
    *("train.max_steps", "train.log_every", "train.save_every", "train.keep_every", "train.device", "data.shards"),
    *("train.tracker", "train.samples", "model.sample_rate"),
}

# Settings that a resumed run may change if it is asked to. Its steps are then well defined, but no longer those of a
# run without a stop. All other settings decide what the weights are or where in the data the run is.
CHANGEABLE_ON_RESUME = {
    *("train.learning_rate", "train.min_learning_rate", "train.patience", "train.decay_steps", "train.adam_eps"),
    *("train.clip_norm", "train.max_skipped", "train.batch_size", "train.validate_every"),
    *("train.precision", "train.cuda_graph"),
    *("objective.kl_weight_start", "objective.kl_weight_step", "objective.backward_weight"),
    *("objective.aux_weight_start", "objective.aux_weight_end", "objective.aux_weight_step"),
}


def check_experiment(
    exp: Path, config: RunConfig, resume: bool, overwrite: bool = False, allow_changes: bool = False
) -> dict[str, str]:
    """Check whether a run can start in this folder, or continue there.

    Args:
        exp: the folder.
        config: settings of the run.
        resume: continue the run in the folder.
        overwrite: start even if the folder holds checkpoints.
        allow_changes: continue also with settings of CHANGEABLE_ON_RESUME that have changed.

    Returns:
        The settings that a resumed run changes beyond the free ones, by name, as "old value -> new value".

    Raises:
        UserError: it cannot.
    """
    if resume and overwrite:
        raise UserError("--resume continues a run and --overwrite starts over; give one of them")
    if resume:
        if not holds_checkpoints(exp):
            raise UserError(f"{exp}: no checkpoint to resume from; start without --resume")
        return check_same_run(exp, config, allow_changes)
    if not overwrite and holds_checkpoints(exp):
        raise UserError(
            f"{exp}: holds a run already; continue it with --resume or choose another --exp "
            "(--overwrite deletes its checkpoints and starts over)"
        )
    return {}


def begin_experiment(exp: Path, config: RunConfig, resume: bool) -> None:
    """Make the folder, and write the configuration and the command line into it.

    If a run starts over, the checkpoints of the previous run are deleted.
    """
    exp.mkdir(parents=True, exist_ok=True)
    if not resume:
        delete_run(exp)
    write_config(config, exp / "config.yaml")
    commands = exp / "commands.txt"
    try:
        with commands.open("a", encoding="utf-8") as file:
            file.write(command_line() + "\n")
    except OSError as error:
        raise explain_write_error(commands, error) from None


def prepare_to_resume(exp: Path) -> str:
    """Make sure that an experiment has a record of its checkpoints; returns a line to tell the user, or nothing.

    Checkpoints that a killed run had no time to delete are deleted. If the best checkpoint is gone, the next validation
    makes a new one.
    """
    adopt_checkpoints(exp)
    record = read_record(exp)
    if record is None:
        return ""
    find_checkpoint(exp / "last")  # before anything is deleted, see that it is there
    if record.best is None or find_step(exp, record.run, record.best) is not None:
        delete_superseded(exp, record)
        return ""
    write_record(exp, dataclasses.replace(record, best=None))
    return f"warning: {exp}: the best checkpoint, of step {record.best}, is gone; the next validation makes a new one"


def check_same_run(exp: Path, config: RunConfig, allow_changes: bool) -> dict[str, str]:
    """Compare the settings of a resumed run with those of the original run, as `check_experiment` says."""
    before = flatten(dataclasses.asdict(read_config(find_checkpoint(exp / "last") / CONFIG)))
    now = flatten(dataclasses.asdict(config))
    changed = {
        key: f"{before.get(key)} -> {now[key]}"
        for key in now
        if key not in FREE_ON_RESUME and now[key] != before.get(key)
    }
    fixed = [key for key in changed if key not in CHANGEABLE_ON_RESUME]
    refused = fixed if allow_changes else list(changed)
    if refused:
        what = ", ".join(f"{key} {changed[key]}" for key in refused)
        remedy = f"give --config {exp}/config.yaml"
        if fixed:
            remedy += f", or start a new run with --train.init_from {exp}"
        else:
            remedy += ", or --allow-changes to go on differently"
        raise UserError(f"{exp}: a resumed run keeps its settings ({what}); {remedy}")
    return changed


def flatten(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} -> {"a.b": 1}."""
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat
