"""Checkpoints: directories that appear whole or not at all, under EXP/checkpoints, with EXP/best and EXP/last as links.

model.safetensors, config.yaml and manifest.json (of the shards) score and generate; training.pt resumes.
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

from zfaudio.config import RunConfig, read_config, write_config
from zfaudio.data.manifest import Manifest, read_manifest
from zfaudio.distributions import Quantizer
from zfaudio.errors import UserError
from zfaudio.models import FrameModel, build_model


@dataclass
class Checkpoint:
    """A trained model and what it was trained on."""

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
    """Write EXP/checkpoints/step-XXXXXXXX and point EXP/last at it.

    Killed at any moment, `last` points at a whole checkpoint: the new one or the one before.

    Args:
        exp: the experiment's folder.
        step: steps done.
        weights: of the model, by name.
        config: of the run.
        manifest: of the shards trained on.
        training: what resuming needs: tensors, numbers, strings, lists and dicts of them.

    Raises:
        UserError: it cannot be written; the checkpoint before stays.
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
        # Of a full disk, safetensors and torch tell in exceptions of their own.
        shutil.rmtree(partial, ignore_errors=True)
        raise UserError(f"{final}: cannot be written ({str(error).splitlines()[0]}); is the disk full?") from None
    if final.exists():
        # A run that was killed after this step and resumed from before it writes the same checkpoint again.
        shutil.rmtree(final)
    partial.rename(final)
    point(exp / "last", final)
    return final


def point(link: Path, target: Path) -> None:
    """Make `link` a relative symbolic link to `target`, atomically."""
    fresh = link.with_name(link.name + ".new")
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(os.path.relpath(target, link.parent))
    fresh.replace(link)


def remove_unlinked(exp: Path) -> None:
    """Delete the checkpoints that neither EXP/best nor EXP/last points at."""
    kept = {(exp / name).resolve() for name in ("best", "last")}
    for path in (exp / "checkpoints").iterdir():
        if path.resolve() not in kept:
            shutil.rmtree(path)


def load_checkpoint(path: Path, device: str | torch.device = "cpu") -> Checkpoint:
    """The model of a checkpoint, ready to score or generate.

    Args:
        path: a checkpoint, or an experiment, whose best checkpoint is taken (or its last where none is best).
        device: where the weights go.

    Raises:
        UserError: nothing there, or its parts do not fit each other.
    """
    path = find_checkpoint(path)
    config = read_config(path / "config.yaml")
    manifest = read_manifest(str(path))
    model = build_model(config.model, manifest.frame_size, Quantizer(manifest.mean, manifest.deviation))
    load_weights(model, path)
    return Checkpoint(path, model.to(device).eval(), config, manifest, step=int(path.name.removeprefix("step-")))


def load_weights(model: FrameModel, checkpoint: Path) -> None:
    """Fill a model with a checkpoint's weights. Raises UserError where they are not this model's."""
    path = checkpoint / "model.safetensors"
    try:
        model.load_state_dict(load_file(path))
    except (OSError, SafetensorError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{path}: cannot be read as the model of its config.yaml ({reason})") from None


def find_checkpoint(path: Path) -> Path:
    """The checkpoint directory that `path` means, links resolved."""
    for candidate in (path, path / "best", path / "last"):
        if (candidate / "model.safetensors").is_file():
            return candidate.resolve()
    raise UserError(
        f"{path}: no checkpoint there (a folder with model.safetensors, or an experiment with best/ or last/)"
    )


def load_training_state(checkpoint: Path) -> dict[str, Any]:
    """What `save_checkpoint` was given as `training`; tensors on the CPU. Reads data only, never code."""
    path = checkpoint / "training.pt"
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise UserError(f"{path}: cannot be resumed from ({str(error).splitlines()[0]})") from None
