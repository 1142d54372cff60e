"""The checkpoints that a run writes: their names, how they say whose they are, and which of them may be deleted.

A run writes its checkpoints to EXP/checkpoints/step-XXXXXXXX, and the steps of the best and the last one to
EXP/checkpoints.json, which is one file so that both change at once. Each checkpoint says in its checkpoint.json which
run wrote it, under which name and at which step. So a checkpoint is known by what it contains: it may be renamed or
copied, and what another run or a person puts beside it is left alone. There are no links, which many ways of copying
drop or turn into folders.
"""

import itertools
import re
import secrets
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from zfaudio.errors import UserError
from zfaudio.typed_json import read_json, write_json

FORMAT_VERSION = 1

RECORD = "checkpoints.json"
LABEL = "checkpoint.json"
WEIGHTS, CONFIG, MANIFEST, TRAINING = "model.safetensors", "config.yaml", "manifest.json", "training.pt"

PARTIAL = ".partial"  # folder of a checkpoint that is being written or deleted

# In the order in which they are deleted: what identifies a checkpoint goes last.
FILES = (WEIGHTS, TRAINING, CONFIG, MANIFEST, LABEL)

Role = Literal["best", "last"]
ROLES: tuple[Role, ...] = ("best", "last")

REMEDY = "copy it again from where it is whole"


@dataclass(frozen=True)
class CheckpointLabel:
    """What a checkpoint says about itself, in checkpoint.json."""

    format_version: int = field(default=FORMAT_VERSION, kw_only=True)
    run: str  # id of the run that wrote it
    folder: str  # the name under which the run wrote it
    step: int
    best: float | None  # best validation score of the run up to this step, in nats per frame
    kept: bool = False  # whether the run keeps it for good (train.keep_every)

    def __post_init__(self) -> None:
        _check_step("step", self.step)


@dataclass(frozen=True)
class CheckpointRecord:
    """Which checkpoints of a run are the best and the last, in EXP/checkpoints.json."""

    format_version: int = field(default=FORMAT_VERSION, kw_only=True)
    run: str
    last: int  # step
    best: int | None  # step; None before the first validation

    def __post_init__(self) -> None:
        _check_step("last", self.last)
        if self.best is not None:
            _check_step("best", self.best)


def _check_step(name: str, step: int) -> None:
    if not 0 <= step < 2**63:
        raise ValueError(f"{name} is {str(step)[:40]}, not a step")


def new_run() -> str:
    """An id for a new run."""
    return secrets.token_hex(8)


def folder_name(step: int) -> str:
    """The name under which a run writes its checkpoint of a step."""
    return f"step-{step:08d}"


def read_record(exp: Path) -> CheckpointRecord | None:
    """The record of an experiment; None if it has none. Raises UserError that names the wrong field."""
    path = exp / RECORD
    if not path.exists():
        return None
    remedy = "delete it, and what the checkpoints say themselves is used instead"
    return read_json(CheckpointRecord, path, "zfaudio train", FORMAT_VERSION, remedy=remedy)


def write_record(exp: Path, record: CheckpointRecord) -> None:
    """Write the record of an experiment, whole or not at all."""
    write_json(exp / RECORD, record)


def read_label(checkpoint: Path) -> CheckpointLabel | None:
    """The label of a checkpoint; None of one of zfaudio 0.1.0. Raises UserError if it is damaged."""
    path = checkpoint / LABEL
    return read_json(CheckpointLabel, path, "zfaudio train", FORMAT_VERSION, remedy=REMEDY) if path.exists() else None


def find_step(exp: Path, run: str, step: int) -> Path | None:
    """The checkpoint of a step of a run in EXP/checkpoints, whatever its name is; None if it is not there.

    Raises:
        UserError: it cannot be told, because the label of the folder that should be it is damaged.
    """
    own = [path for path, label in own_checkpoints(exp, run) if label.step == step and (path / WEIGHTS).is_file()]
    usual = exp / "checkpoints" / folder_name(step)
    if not own:
        read_label(usual)  # which raises if it is damaged
        return None
    return (usual if usual in own else own[0]).resolve()


def own_checkpoints(exp: Path, run: str) -> Iterator[tuple[Path, CheckpointLabel]]:
    """The folders in EXP/checkpoints whose label names this run, by name. All others are passed over."""
    for path in checkpoint_folders(exp):
        with suppress(UserError):
            label = read_label(path)
            if label is not None and label.run == run:
                yield path, label


def checkpoint_folders(exp: Path) -> list[Path]:
    """The folders in EXP/checkpoints, by name, without those that are being written."""
    folder = exp / "checkpoints"
    paths = sorted(folder.iterdir()) if folder.is_dir() else []
    return [path for path in paths if path.is_dir() and path.name[0] != "." and path.suffix != ".partial"]


# Writing and deleting


def partial_folder(checkpoints: Path) -> Path:
    """An empty folder in EXP/checkpoints for a checkpoint that is being written or deleted."""
    usual = checkpoints / PARTIAL
    numbered = (usual.with_name(f"{PARTIAL}-{number}") for number in itertools.count(2))
    for path in itertools.chain([usual], numbered):
        path.mkdir(parents=True, exist_ok=True)
        delete_files(path)
        if not any(path.iterdir()):
            return path
    raise AssertionError("there is always another name")


def free_folder(exp: Path, run: str, step: int) -> Path:
    """The folder for a checkpoint: step-XXXXXXXX, or step-XXXXXXXX-2 and so on if anything else is there.

    A run that was killed after it wrote this step, and resumed from an earlier one, writes the same checkpoint again;
    then the first one is deleted.
    """
    for path, label in list(own_checkpoints(exp, run)):
        if label.step == step and was_written_here(path, label):
            delete_checkpoint(path)
    usual = exp / "checkpoints" / folder_name(step)
    numbered = (usual.with_name(f"{usual.name}-{number}") for number in itertools.count(2))
    return next(path for path in itertools.chain([usual], numbered) if not path.exists() and not path.is_symlink())


def was_written_here(path: Path, label: CheckpointLabel) -> bool:
    """Whether a run wrote the checkpoint to this very folder: it is no copy, has not been renamed, and is no link."""
    return label.folder == path.name and not path.is_symlink()


def delete_files(path: Path, names: Sequence[str] = FILES) -> None:
    """Delete files of a checkpoint, also those half written. Other files in its folder stay."""
    for name in names:
        for half_written in path.glob(f".part-*-{name}"):
            half_written.unlink()
        (path / name).unlink(missing_ok=True)


def delete_checkpoint(path: Path) -> None:
    """Delete the files of a checkpoint, and its folder unless it holds other files."""
    delete_files(path, FILES[:-1])
    if any(entry.name != LABEL for entry in path.iterdir()):
        delete_files(path)
        return
    # The folder goes in one step. A kill would otherwise leave one that nothing says whose it is.
    partial = partial_folder(path.parent)
    path.rename(partial)
    delete_files(partial)
    with suppress(OSError):  # on a network, the file system may not be done yet
        partial.rmdir()


def delete_superseded(exp: Path, record: CheckpointRecord) -> None:
    """Delete what a run wrote to EXP/checkpoints that is neither the best, nor the last, nor kept for good."""
    for path, label in list(own_checkpoints(exp, record.run)):
        needed = label.kept or label.step in (record.best, record.last)
        if not needed and was_written_here(path, label):
            with suppress(OSError):  # such as a folder that its owner has made read-only, to keep it
                delete_checkpoint(path)


def delete_run(exp: Path) -> None:
    """Delete the record of an experiment, the checkpoints that its run wrote there, and links to them; nothing else."""
    record = read_record(exp)
    (exp / RECORD).unlink(missing_ok=True)
    for role in ROLES:
        if (exp / role).is_symlink():
            (exp / role).unlink()
    for path in checkpoint_folders(exp):
        try:
            label = read_label(path)
        except UserError:
            continue
        if label is None:
            written_here = record is None and _is_of_0_1_0(path)
        else:
            written_here = was_written_here(path, label) and (record is None or label.run == record.run)
        if written_here:
            delete_checkpoint(path)


def _is_of_0_1_0(path: Path) -> bool:
    """Whether a folder is a checkpoint of zfaudio 0.1.0 where its run wrote it."""
    files = {entry.name for entry in path.iterdir()}
    return bool(re.fullmatch(r"step-\d{8,}", path.name)) and files == {*FILES} - {LABEL} and not path.is_symlink()
