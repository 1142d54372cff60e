"""Save a training run to a checkpoint, and continue it from there."""

from dataclasses import asdict, dataclass, fields
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch.optim.lr_scheduler import ReduceLROnPlateau

from zfaudio.config import RunConfig
from zfaudio.data.loader import TrainingStream
from zfaudio.data.manifest import Manifest
from zfaudio.errors import UserError
from zfaudio.experiment.checkpoint import (
    load_training_state,
    load_weights,
    mark_best,
    remove_old_checkpoints,
    save_checkpoint,
)
from zfaudio.models.base import FrameModel, RecurrentState


@dataclass
class Progress:
    """How far a run has come."""

    step: int = 0
    best: float | None = None  # best validation score, nats per frame
    skipped: int = 0  # steps whose loss or gradient was not finite
    skipped_in_a_row: int = 0
    collapsed: bool = False  # whether the last validation found the posterior collapsed


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
    accelerator: Accelerator,
    is_best: bool,
) -> None:
    """Write a checkpoint with all that a run needs to continue, and delete those that are neither best nor last.

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
        accelerator: gathers what belongs to each process.
        is_best: whether EXP/best becomes this checkpoint.
    """
    own = {"stream": stream.state_dict(), "state": [part.cpu() for part in state]}
    training = {
        **asdict(progress),
        "optimizer": optimizer.state_dict(),
        "schedule": schedule.state_dict(),
        "processes": gather_object([own]),
    }
    if accelerator.is_main_process:
        path = save_checkpoint(exp, progress.step, model.state_dict(), config, manifest, training)
        if is_best:
            mark_best(exp, path)
        remove_old_checkpoints(exp)
    accelerator.wait_for_everyone()


def load_training(
    checkpoint: Path,
    model: FrameModel,
    optimizer: torch.optim.Optimizer,
    schedule: ReduceLROnPlateau,
    stream: TrainingStream,
    accelerator: Accelerator,
) -> tuple[Progress, RecurrentState]:
    """Fill model, optimizer, schedule and stream from a checkpoint; returns the progress and the recurrent state.

    Raises:
        UserError: the checkpoint was saved by another number of processes, or does not fit.
    """
    training = load_training_state(checkpoint)
    if len(training["processes"]) != accelerator.num_processes:
        raise UserError(
            f"{checkpoint}: saved by {len(training['processes'])} processes, resumed by "
            f"{accelerator.num_processes}; resume with as many"
        )
    load_weights(model, checkpoint)
    optimizer.load_state_dict(training["optimizer"])
    schedule.load_state_dict(training["schedule"])
    own = training["processes"][accelerator.process_index]
    stream.load_state_dict(own["stream"])
    state = tuple(part.to(accelerator.device) for part in own["state"])
    # Checkpoints of earlier versions lack the newest of these fields.
    known = {field.name: training[field.name] for field in fields(Progress) if field.name in training}
    return Progress(**known), state
