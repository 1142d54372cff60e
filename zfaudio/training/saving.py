"""Save a training run to a checkpoint, and continue it from there."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch.optim.lr_scheduler import ReduceLROnPlateau

from zfaudio.config import RunConfig
from zfaudio.data.loader import TrainingStream
from zfaudio.data.manifest import Manifest
from zfaudio.errors import UserError
from zfaudio.experiment.checkpoint import first_line, load_training_state, load_weights, save_checkpoint
from zfaudio.experiment.checkpoint_record import TRAINING
from zfaudio.models.base import FrameModel, RecurrentState
from zfaudio.training.interval import Interval
from zfaudio.training.state import Progress, TrainingState, parse_training


def save_training(
    exp: Path,
    progress: Progress,
    config: RunConfig,
    manifest: Manifest,
    model: FrameModel,
    optimizer: torch.optim.Optimizer,
    schedule: ReduceLROnPlateau,
    stream: TrainingStream,
    state: RecurrentState,
    interval: Interval,
    accelerator: Accelerator,
    is_best: bool,
) -> None:
    """Write a checkpoint with all that a run needs to continue, and delete those that are no longer needed.

    Args:
        exp: folder of the experiment.
        progress: how far the run has come.
        config: its settings.
        manifest: of the shards it trains on.
        model: the model being trained.
        optimizer: its optimizer.
        schedule: the schedule of the learning rate.
        stream: this process's position in the data.
        state: the recurrent state that this process's sequences carry along.
        interval: what this process has added up since the last line of the log.
        accelerator: gathers what belongs to each process.
        is_best: whether this becomes the best checkpoint.
    """
    own = {
        "stream": stream.state_dict(),
        "state": [part.cpu() for part in state],
        "interval": asdict(interval.sums()),
    }
    training = {
        **asdict(progress),
        "optimizer": optimizer.state_dict(),
        "schedule": schedule.state_dict(),
        "processes": gather_object([own]),
    }
    every = config.train.keep_every
    if accelerator.is_main_process:
        save_checkpoint(
            exp,
            progress.step,
            model.state_dict(),
            config,
            manifest,
            training,
            best=progress.best,
            is_best=is_best,
            keep=every > 0 and progress.step % every == 0,
        )
    accelerator.wait_for_everyone()


def load_training(
    checkpoint: Path,
    model: FrameModel,
    optimizer: torch.optim.Optimizer,
    schedule: ReduceLROnPlateau,
    stream: TrainingStream,
    interval: Interval,
    accelerator: Accelerator,
    allow_changes: bool,
) -> tuple[Progress, RecurrentState, list[str]]:
    """Fill model, optimizer, schedule, stream and interval from a checkpoint.

    Args:
        checkpoint: folder of the checkpoint.
        model: the model of the checkpoint.
        optimizer: its optimizer.
        schedule: its schedule of the learning rate.
        stream: this process's training data.
        interval: sums of this process since the last line of the log.
        accelerator: knows the processes.
        allow_changes: accept another batch size and another number of processes.

    Returns:
        The progress, the recurrent state, and lines that say where the run does not continue exactly.

    Raises:
        UserError: the checkpoint is damaged, does not fit, or was saved by another number of processes.
    """
    load_weights(model, checkpoint)
    try:
        training = parse_training(load_training_state(checkpoint), model)
    except ValueError as error:
        raise UserError(f"{checkpoint / TRAINING}: cannot be resumed from ({first_line(error)})") from None
    saved_by, processes = len(training.processes), accelerator.num_processes
    if saved_by != processes and not allow_changes:
        raise UserError(
            f"{checkpoint}: saved by {saved_by} processes, resumed by {processes}; resume with as many, or give "
            "--allow-changes to go on with the next epoch"
        )
    restore_optimizer(optimizer, schedule, training)
    rows = len(stream.state_dict()["lanes"])
    try:
        if saved_by != processes:
            epoch, state = start_next_epoch(stream, training), model.initial_state(rows)
            notes = [f"saved by {saved_by} processes, resumed by {processes}: the data go on with epoch {epoch + 1}"]
        else:
            own = training.processes[accelerator.process_index]
            state, notes = restore_stream(stream, own.stream, own.state, rows if allow_changes else None)
            if own.interval is None:
                notes.append("the next line of metrics.csv averages over the steps from here on")
            else:
                interval.restore(own.interval)
    except UserError as error:
        raise UserError(f"{checkpoint}: {error}") from None
    return training.progress, tuple(part.to(accelerator.device) for part in state), notes


def restore_optimizer(optimizer: torch.optim.Optimizer, schedule: ReduceLROnPlateau, training: TrainingState) -> None:
    """Give an optimizer and a schedule what a stopped run had; their settings stay."""
    state = optimizer.state_dict()
    (group,) = state["param_groups"]
    optimizer.load_state_dict({"state": training.adam, "param_groups": [{**group, "lr": training.learning_rate}]})
    schedule.load_state_dict(schedule.state_dict() | asdict(training.plateau))


def restore_stream(
    stream: TrainingStream, position: dict[str, Any], state: RecurrentState, rows: int | None
) -> tuple[RecurrentState, list[str]]:
    """Continue in the data where a process stopped.

    Args:
        stream: the training data.
        position: where the process stopped.
        state: the recurrent state of its sequences.
        rows: another number of sequences to continue with; None if it must be the same.

    Returns:
        The recurrent state to continue with, and a line if the number of sequences changes.
    """
    saved_rows = len(position["lanes"])
    if rows is None or rows == saved_rows:
        stream.load_state_dict(position)
        return state, []
    lanes = [*position["lanes"], *[None] * rows][:rows]
    stream.load_state_dict(with_settings({**position, "lanes": lanes}, batch_size=rows))
    # New rows start a recording; rows that go leave the rest of theirs to the next epoch.
    resized = tuple(torch.cat([part, part.new_zeros(rows, *part.shape[1:])])[:rows] for part in state)
    unfinished = sum(lane is not None for lane in position["lanes"][rows:])
    return resized, [f"batch size {saved_rows} -> {rows}: {unfinished} recordings are left unfinished in this epoch"]


def start_next_epoch(stream: TrainingStream, training: TrainingState) -> int:
    """Put a stream at the start of the first epoch that no process has begun; returns its number, from 0."""
    fresh = stream.state_dict()
    lanes = [None] * len(fresh["lanes"])
    changed = {name: fresh["settings"][name] for name in ("rank", "world", "batch_size")}
    epochs: list[int] = []
    for process in training.processes:
        # The stream checks the position, and that all other settings are as they were.
        stream.load_state_dict(with_settings({**process.stream, "lanes": lanes}, **changed))
        epoch, index = stream.state_dict()["next"]
        epochs.append(epoch + (index > 0))
    stream.load_state_dict({**fresh, "next": [max(epochs), 0], "lanes": lanes})
    return max(epochs)


def with_settings(position: dict[str, Any], **changed: object) -> dict[str, Any]:
    """A position in the data with some of its settings changed."""
    return {**position, "settings": {**position["settings"], **changed}}
