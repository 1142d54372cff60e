"""The folder of an experiment: whether a run may start or continue in it."""

import dataclasses
from pathlib import Path
from typing import Any

from zfaudio.command import command_line
from zfaudio.config import RunConfig
from zfaudio.errors import UserError
from zfaudio.experiment.config_file import read_config, write_config

# Settings that a resumed run may change: those that do not change the weights of any step.
FREE_ON_RESUME = {"train.max_steps", "train.log_every", "train.device", "data.shards"}


def check_experiment(exp: Path, config: RunConfig, resume: bool) -> None:
    """Raises UserError if a run cannot start in this folder, or cannot continue there."""
    started = (exp / "last").exists()
    if started and not resume:
        raise UserError(f"{exp}: holds a run already; continue it with --resume or choose another --exp")
    if resume:
        if not started:
            raise UserError(f"{exp}: no checkpoint to resume from; start without --resume")
        check_same_run(exp, config)


def begin_experiment(exp: Path, config: RunConfig) -> None:
    """Make the folder, and write the configuration and the command line into it."""
    exp.mkdir(parents=True, exist_ok=True)
    write_config(config, exp / "config.yaml")
    with (exp / "commands.txt").open("a") as file:
        file.write(command_line() + "\n")


def check_same_run(exp: Path, config: RunConfig) -> None:
    """Raises UserError that names the settings in which a resumed run differs from the original run."""
    before = flatten(dataclasses.asdict(read_config(exp / "last" / "config.yaml")))
    now = flatten(dataclasses.asdict(config))
    changed = [key for key in now if key not in FREE_ON_RESUME and now[key] != before.get(key)]
    if changed:
        what = ", ".join(f"{key} {before.get(key)} -> {now[key]}" for key in changed)
        raise UserError(f"{exp}: a resumed run keeps its settings ({what}); give --config {exp}/config.yaml")


def flatten(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} -> {"a.b": 1}."""
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat
