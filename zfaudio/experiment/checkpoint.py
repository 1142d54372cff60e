"""Checkpoints: folders in EXP/checkpoints that appear whole or not at all. EXP/best and EXP/last link to two of them.

Scoring and generation need model.safetensors, config.yaml and manifest.json (of the shards), resuming training.pt too.
"""

import os
import pickle
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from zfaudio.config import RunConfig
from zfaudio.data.manifest import Manifest, read_manifest
from zfaudio.distributions import Quantizer
from zfaudio.errors import UserError
from zfaudio.experiment.config_file import read_config, write_config
from zfaudio.models import FrameModel, build_model


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
) -> Path:
    """Write EXP/checkpoints/step-XXXXXXXX and link EXP/last to it.

    If the process is killed at any moment, EXP/last still is a whole checkpoint: the new one or the previous one.

    Args:
        exp: folder of the experiment.
        step: number of steps done.
        weights: the model's tensors by name.
        config: settings of the run.
        manifest: manifest of the training shards.
        training: what resuming needs: tensors, numbers, strings, and lists and dicts of them.

    Returns:
        The folder of the checkpoint.

    Raises:
        UserError: it cannot be written; the previous checkpoint is kept.
    """
    final = exp / "checkpoints" / f"step-{step:08d}"
    partial = final.with_name(final.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        save_file(
            {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()},
            partial / "model.safetensors",
        )
        write_config(config, partial / "config.yaml")
        (partial / "manifest.json").write_text(manifest.to_json())
        torch.save(training, partial / "training.pt")
    except (OSError, SafetensorError, RuntimeError) as error:
        # safetensors and torch raise exceptions of their own when the disk is full.
        shutil.rmtree(partial, ignore_errors=True)
        raise UserError(f"{final}: cannot be written ({str(error).splitlines()[0]}); is the disk full?") from None
    if final.exists():
        # A run that was killed after this step and resumed from an earlier one writes the same checkpoint again.
        shutil.rmtree(final)
    partial.rename(final)
    replace_link(exp / "last", final)
    return final


def mark_best(exp: Path, checkpoint: Path) -> None:
    """Link EXP/best to a checkpoint."""
    replace_link(exp / "best", checkpoint)


def replace_link(link: Path, target: Path) -> None:
    """Make `link` a relative symbolic link to `target`. It is replaced atomically."""
    fresh = link.with_name(link.name + ".new")
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(os.path.relpath(target, link.parent))
    fresh.replace(link)


def remove_old_checkpoints(exp: Path) -> None:
    """Delete the checkpoints that neither EXP/best nor EXP/last links to."""
    kept = {(exp / name).resolve() for name in ("best", "last")}
    for path in (exp / "checkpoints").iterdir():
        if path.resolve() not in kept:
            shutil.rmtree(path)


def load_checkpoint(path: Path, device: str | torch.device = "cpu") -> Checkpoint:
    """Load the model of a checkpoint, ready to score or generate.

    Args:
        path: a checkpoint, or an experiment: then its best checkpoint, or its last one if none is marked as best.
        device: device of the weights.

    Raises:
        UserError: there is no checkpoint, or its files do not fit together.
    """
    path = find_checkpoint(path)
    config = read_config(path / "config.yaml")
    manifest = read_manifest(str(path))
    model = build_model(config.model, manifest.frame_size, Quantizer(manifest.mean, manifest.deviation))
    load_weights(model, path)
    return Checkpoint(path, model.to(device).eval(), config, manifest, step=int(path.name.removeprefix("step-")))


def load_weights(model: FrameModel, checkpoint: Path) -> None:
    """Fill a model with the weights of a checkpoint. Raises UserError if they are of another model."""
    path = checkpoint / "model.safetensors"
    try:
        model.load_state_dict(load_file(path))
    except (OSError, SafetensorError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{path}: cannot be read as the model of its config.yaml ({reason})") from None


def find_checkpoint(path: Path) -> Path:
    """The folder of the checkpoint that `path` means, with links resolved. Raises UserError if there is none."""
    for candidate in (path, path / "best", path / "last"):
        if (candidate / "model.safetensors").is_file():
            return candidate.resolve()
    raise UserError(
        f"{path}: no checkpoint there (a folder with model.safetensors, or an experiment with best/ or last/)"
    )


def load_training_state(checkpoint: Path) -> dict[str, Any]:
    """What `save_checkpoint` was given as `training`, with tensors on the CPU. It reads data only, never code.

    Raises:
        UserError: training.pt is missing or damaged.
    """
    path = checkpoint / "training.pt"
    try:
        training: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        return training
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise UserError(f"{path}: cannot be resumed from ({str(error).splitlines()[0]})") from None
