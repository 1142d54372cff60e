"""`zfaudio train`: fit a model to shards, in one process or in several under torchrun, resumable at any step."""

import signal
import threading
from dataclasses import dataclass
from pathlib import Path

from zfaudio.config import DataConfig, ModelConfig, ObjectiveConfig, RunConfig, TrainConfig
from zfaudio.errors import UserError
from zfaudio.experiment.checkpoint import find_checkpoint
from zfaudio.training.run import Training


@dataclass(frozen=True)
class TrainingResult:
    """What a training run left behind."""

    exp: Path  # folder of the experiment
    checkpoint: Path  # the best one
    steps: int
    nats_per_frame: float | None  # best validation score; None without a validation part


def train(
    data: DataConfig,
    model: ModelConfig,
    objective: ObjectiveConfig,
    train: TrainConfig,
    exp: Path = Path("exp"),
    resume: bool = False,
    overwrite: bool = False,
    allow_changes: bool = False,
) -> TrainingResult:
    """Train a model. Settings come from --config FILE; options such as --train.max_steps 1000 win over the file.

    The settings under --model depend on the model: `zfaudio train --model.name rnn --help` lists those of rnn. Models
    are zforcing (the default), vrnn, srnn, rnn, samplernn, wavenet, sample_ar, and any other by its import path:
    my_package.MyModel.

    Args:
        data: the data to train on.
        model: the model to train.
        objective: the objective to maximize.
        train: how to train.
        exp: folder of the experiment, for checkpoints, metrics.csv and TensorBoard.
        resume: continue the run in that folder from its last checkpoint.
        overwrite: start over in a folder that holds a run, and delete its checkpoints.
        allow_changes: with --resume, go on with another learning rate, schedule, objective, batch size or number of
            processes than before. The run is then no longer what it would have been without a stop.
    """
    if not data.shards:
        raise UserError("--data.shards is missing; give the folder that `zfaudio shard` made")
    config = RunConfig(model=model, objective=objective, data=data, train=train)
    training = Training(config, Path(exp), resume, overwrite, allow_changes)
    if threading.current_thread() is threading.main_thread():
        handlers = {number: signal.signal(number, training.request_stop) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            training.run()
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
    else:
        training.run()
    return TrainingResult(Path(exp), find_checkpoint(Path(exp)), training.progress.step, training.progress.best)
