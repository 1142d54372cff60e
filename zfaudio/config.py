"""Everything that defines a training run: what `--config` files hold and what a checkpoint keeps."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from zfaudio.data.loader import DataConfig
from zfaudio.errors import UserError
from zfaudio.models import ModelConfig
from zfaudio.training.objective import ObjectiveConfig


@dataclass
class TrainConfig:
    """How to train.

    Args:
        max_steps: steps of the optimizer.
        batch_size: sequences a step, on each process.
        segment_frames: scored frames of each sequence of a step.
        learning_rate: of Adam, at the start.
        min_learning_rate: halving stops here.
        patience: validations without improvement before the learning rate halves.
        decay_steps: so many last steps lower the learning rate linearly to min_learning_rate; it then never halves.
        adam_eps: Adam's epsilon.
        clip_norm: the gradient's norm is clipped here; the loss is in nats a sequence.
        seed: of the initial weights, the order of the data and every draw.
        device: where to train; auto takes a GPU where there is one.
        precision: of the products: float32, TF32 (on a GPU), or bfloat16 (weights and densities stay in float32; on a
            CPU faster only where it multiplies bfloat16: AVX512-BF16 or AMX).
        cuda_graph: launch each step's kernels as one CUDA graph. On one GPU; it has not run on one yet.
        log_every: steps between lines of the log.
        validate_every: steps between validations on whole utterances.
        save_every: steps between checkpoints.
        max_skipped: steps with a non-finite loss or gradient in a row that end the run.
    """

    max_steps: int = 50_000
    batch_size: int = 32
    segment_frames: int = 40
    learning_rate: float = 1e-3
    min_learning_rate: float = 1e-4
    patience: int = 2
    decay_steps: int = 0
    adam_eps: float = 1e-5
    clip_norm: float = 100.0
    seed: int = 0
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["fp32", "tf32", "bf16"] = "fp32"
    cuda_graph: bool = False
    log_every: int = 20
    validate_every: int = 1000
    save_every: int = 1000
    max_skipped: int = 50

    def __post_init__(self) -> None:
        for name in (
            "max_steps",
            "batch_size",
            "segment_frames",
            "log_every",
            "validate_every",
            "save_every",
        ):
            if getattr(self, name) < 1:
                raise UserError(f"train.{name} is {getattr(self, name)}; it must be at least 1")


@dataclass
class RunConfig:
    """A training run."""

    model: ModelConfig = field(default_factory=ModelConfig)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    data: DataConfig = field(default_factory=DataConfig)
    train: TrainConfig = field(default_factory=TrainConfig)


def write_config(config: RunConfig, path: Path) -> None:
    """As YAML that `zfaudio train --config` reads."""
    path.write_text(yaml.safe_dump(asdict(config), sort_keys=False))


def read_config(path: Path) -> RunConfig:
    """Raises UserError where the file is missing, is not YAML or holds what this version does not know."""
    try:
        sections: dict[str, Any] = yaml.safe_load(path.read_text())
        return RunConfig(
            model=ModelConfig(**sections["model"]),
            objective=ObjectiveConfig(**sections["objective"]),
            data=DataConfig(**sections["data"]),
            train=TrainConfig(**sections["train"]),
        )
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; is this a checkpoint or experiment of zfaudio?") from None
    except (yaml.YAMLError, KeyError, TypeError) as error:
        raise UserError(f"{path}: not a configuration this version of zfaudio reads ({error})") from None
