"""Checkpoints: folders in EXP/checkpoints that appear whole or not at all, each with a model and its settings.

Scoring and generation need model.safetensors, config.yaml and manifest.json (of the shards), resuming training.pt too.
"""

import os
import warnings
import zipfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from zfaudio.config import RunConfig
from zfaudio.data.known_shards import remember_shards
from zfaudio.data.manifest import Manifest, read_manifest
from zfaudio.errors import UserError
from zfaudio.experiment.checkpoint_record import (
    CONFIG,
    LABEL,
    MANIFEST,
    TRAINING,
    WEIGHTS,
    CheckpointLabel,
    CheckpointRecord,
    delete_files,
    delete_superseded,
    free_folder,
    new_run,
    partial_folder,
    read_record,
    write_record,
)
from zfaudio.experiment.checkpoint_search import checkpoint_step, find_checkpoint
from zfaudio.experiment.config_file import read_config, write_config
from zfaudio.models import FrameModel, build_model
from zfaudio.text import printable
from zfaudio.typed_json import write_json

__all__ = ["Checkpoint", "find_checkpoint", "load_checkpoint", "load_training_state", "save_checkpoint"]


@dataclass
class Checkpoint:
    """A trained model, with its settings and the manifest of the shards it was trained on."""

    path: Path
    model: FrameModel  # in evaluation mode
    config: RunConfig
    manifest: Manifest
    step: int


def save_checkpoint(
    exp: Path,
    step: int,
    weights: dict[str, Tensor],
    config: RunConfig,
    manifest: Manifest,
    training: dict[str, Any],
    best: float | None = None,
    is_best: bool = False,
    keep: bool = False,
) -> Path:
    """Write a checkpoint to EXP/checkpoints, and make it the last one, and the best one if it is.

    If the process is killed at any moment, EXP/checkpoints.json names whole checkpoints: the new or the previous ones.
    Those of this run that are neither the best, nor the last, nor to be kept are deleted.

    Args:
        exp: folder of the experiment.
        step: number of steps done.
        weights: the model's tensors by name.
        config: settings of the run.
        manifest: manifest of the training shards.
        training: what resuming needs: tensors, numbers, strings, and lists and dicts of them.
        best: best validation score up to this step, in nats per frame.
        is_best: whether this checkpoint becomes the best one.
        keep: whether it is never deleted by later ones.

    Returns:
        The folder of the checkpoint.

    Raises:
        UserError: it cannot be written; the previous checkpoints are kept.
    """
    remember_shards(config.data.shards)  # the user has trained on them: they may be opened to score the model
    record = read_record(exp)
    run = record.run if record is not None else new_run()
    try:
        final = free_folder(exp, run, step)
        partial = partial_folder(exp / "checkpoints")
    except OSError as error:
        raise UserError(f"{exp / 'checkpoints'}: cannot be written ({error.strerror})") from None
    try:
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}, partial / WEIGHTS)
        write_config(config, partial / CONFIG)
        (partial / MANIFEST).write_text(manifest.to_json(), encoding="utf-8")
        torch.save(training, partial / TRAINING)
        write_json(partial / LABEL, CheckpointLabel(run=run, folder=final.name, step=step, best=best, kept=keep))
        for path in partial.iterdir():
            flush_to_disk(path)
        partial.rename(final)
    except (OSError, SafetensorError, RuntimeError, UserError) as error:
        # safetensors and torch raise exceptions of their own when the disk is full.
        delete_files(partial)
        with suppress(OSError):
            partial.rmdir()
        raise UserError(f"{final}: cannot be written ({first_line(error)}); is the disk full?") from None
    previous_best = record.best if record is not None else None
    record = CheckpointRecord(run=run, last=step, best=step if is_best else previous_best)
    write_record(exp, record)
    delete_superseded(exp, record)
    return final


def flush_to_disk(path: Path) -> None:
    """Return when a file is on the disk, where it survives a crash of the machine."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def load_checkpoint(path: Path, device: str | torch.device = "cpu") -> Checkpoint:
    """Load the model of a checkpoint, ready to score or generate.

    Args:
        path: a checkpoint, or an experiment: then its best checkpoint, or its last one if none is marked as best; or
            hub:user/name.
        device: device of the weights.

    Raises:
        UserError: there is no checkpoint, or its files do not fit together.
    """
    path = find_checkpoint(path)
    config, step = read_config(path / CONFIG), checkpoint_step(path)
    manifest = read_manifest(str(path))
    model = build_for_weights(path, config, manifest, read_weights(path))
    return Checkpoint(path, model.to(device).eval(), config, manifest, step)


def build_for_weights(path: Path, config: RunConfig, manifest: Manifest, weights: dict[str, Tensor]) -> FrameModel:
    """Build the model of a checkpoint and fill it with the checkpoint's weights.

    Raises:
        UserError: the settings cannot be those of a model, or the weights are of another model.
    """
    size, observation = manifest.frame_size, manifest.observation
    try:
        # A model without memory for its weights, so that sizes of which the file has no weights are never allocated.
        # A model of another package may need real tensors, though.
        with suppress(ArithmeticError, RuntimeError, TypeError, ValueError), torch.device("meta"):
            check_weights(build_model(config.model, size, observation), weights, path)
        model = build_model(config.model, size, observation)
    except (ArithmeticError, MemoryError, RuntimeError, TypeError, ValueError) as error:
        raise UserError(f"{path / CONFIG}: its model cannot be built ({first_line(error)})") from None
    check_weights(model, weights, path)
    model.load_state_dict(weights)
    return model


def load_weights(model: FrameModel, checkpoint: Path) -> None:
    """Fill a model with the weights of a checkpoint. Raises UserError if they are of another model."""
    weights = read_weights(checkpoint)
    check_weights(model, weights, checkpoint)
    model.load_state_dict(weights)


def read_weights(checkpoint: Path) -> dict[str, Tensor]:
    """The tensors in a checkpoint's model.safetensors, on the CPU. Raises UserError if the file is damaged."""
    path = checkpoint / WEIGHTS
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    try:
        return load_file(path)
    except (OSError, SafetensorError, KeyError, RuntimeError, ValueError) as error:
        raise unreadable_weights(checkpoint, first_line(error)) from None


def check_weights(model: FrameModel, weights: dict[str, Tensor], checkpoint: Path) -> None:
    """Raises UserError that names the first tensor that is missing, unknown, or of another shape or type."""
    wanted = model.state_dict()
    for name, tensor in wanted.items():
        if name not in weights:
            raise unreadable_weights(checkpoint, f"tensor {name} is missing")
        if fault := tensor_fault(weights[name], tensor):
            raise unreadable_weights(checkpoint, f"tensor {name} {fault}")
    for name in weights:
        if name not in wanted:
            raise unreadable_weights(checkpoint, f"tensor {printable(name)} is unknown")


def tensor_fault(value: object, wanted: Tensor) -> str:
    """What keeps a value from standing in for the tensor `wanted`; empty if it can.

    Kernels take shapes, types and memory layout on trust, so nothing from a file may reach them unchecked.
    """
    if type(value) is not Tensor:
        return f"is not a tensor but {type(value).__name__}"
    if value.layout != torch.strided or value.device.type != "cpu":
        return "is not an ordinary tensor"
    if value.shape != wanted.shape:
        return f"has shape {list(value.shape)}, not {list(wanted.shape)}"
    if value.dtype != wanted.dtype:
        return f"is of {value.dtype}, not {wanted.dtype}"
    return ""


def unreadable_weights(checkpoint: Path, reason: str) -> UserError:
    """The error for weights that do not fit the settings beside them."""
    return UserError(f"{checkpoint / WEIGHTS}: cannot be read as the model of its {CONFIG} ({reason})")


def load_training_state(checkpoint: Path) -> dict[str, Any]:
    """What `save_checkpoint` was given as `training`, with tensors on the CPU. It reads data only, never code.

    The values are as unchecked as the file.

    Raises:
        UserError: training.pt is missing or damaged.
    """
    path = checkpoint / TRAINING
    try:
        if not path.is_file():
            raise UserError(f"{path}: cannot be resumed from (no such file)")
        with zipfile.ZipFile(path) as archive:
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
                raise ValueError("compressed, which could unpack to any size")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an error says enough of a damaged file
            training = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(training, dict):
            raise ValueError(f"holds {type(training).__name__}, not dict")
        return training
    except UserError:
        raise
    except Exception as error:  # torch's unpickler and tensors raise whatever the bytes of a damaged file lead to
        raise UserError(f"{path}: cannot be resumed from ({first_line(error)})") from None


def first_line(error: Exception) -> str:
    """The first line of an exception's message, or its name if it has none."""
    return printable((str(error).splitlines() or [type(error).__name__])[0])
