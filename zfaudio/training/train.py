"""`zfaudio train`: fit a model to shards, on one process or on many under torchrun, resumable at any step."""

import signal
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor
from tqdm import tqdm

from zfaudio.config import RunConfig, TrainConfig
from zfaudio.data.loader import DataConfig, TrainingStream, whole_utterances
from zfaudio.data.manifest import check_shards, read_manifest
from zfaudio.device import allow_tf32, pick_device
from zfaudio.distributions import Quantizer
from zfaudio.errors import UserError
from zfaudio.evaluation.collapse import collapse_warning, has_collapsed
from zfaudio.evaluation.scoring import score_utterances
from zfaudio.experiment.checkpoint import (
    find_checkpoint,
    load_training_state,
    load_weights,
    point,
    remove_unlinked,
    save_checkpoint,
)
from zfaudio.experiment.folder import begin_experiment, check_experiment
from zfaudio.experiment.metrics import Interval, MetricsLog
from zfaudio.models import ModelConfig, build_model
from zfaudio.models.base import RecurrentState
from zfaudio.seeds import torch_seed
from zfaudio.training.gradients import Gradients, clipped_gradients, recorded
from zfaudio.training.objective import ObjectiveConfig, weights_at
from zfaudio.training.optimizer import Adam


def train(
    data: DataConfig,
    model: ModelConfig,
    objective: ObjectiveConfig,
    train: TrainConfig,
    exp: Path = Path("exp"),
    resume: bool = False,
) -> None:
    """Train a model. Settings come from `--config FILE` and from options, the later one winning.

    Args:
        data: what to train on.
        model: what to train.
        objective: what to maximize.
        train: how.
        exp: folder of the experiment: checkpoints, metrics.csv, TensorBoard.
        resume: continue the run in it from its last checkpoint.
    """
    config = RunConfig(model=model, objective=objective, data=data, train=train)
    training = Training(config, exp, resume)
    signal.signal(signal.SIGTERM, training.ask_to_stop)
    training.run()


class Training:
    """A run: the model, its optimizer, its place in the data, and the state its sequences carry on."""

    def __init__(self, config: RunConfig, exp: Path, resume: bool) -> None:
        self.config, self.exp = config, exp
        self.manifest = read_manifest(config.data.shards)
        check_experiment(exp, config, resume)
        if Path(config.data.shards).is_dir():  # over a network the check would cost as much as an epoch
            check_shards(config.data.shards, self.manifest)
        self.accelerator = start_accelerator(config.train, exp)
        rank, world = self.accelerator.process_index, self.accelerator.num_processes

        torch.manual_seed(config.train.seed)
        quantizer = Quantizer(self.manifest.mean, self.manifest.deviation)
        # Without what spreads it over processes.
        self.bare_model = build_model(config.model, self.manifest.frame_size, quantizer).to(self.accelerator.device)
        self.optimizer = Adam(list(self.bare_model.parameters()), config.train.learning_rate, config.train.adam_eps)
        self.schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(
            self.optimizer,
            mode="max",
            factor=0.5,
            patience=config.train.patience,
            threshold=0.0,
            min_lr=config.train.min_learning_rate,
        )
        self.model = self.accelerator.prepare_model(self.bare_model, device_placement=False)
        self.gradients = self.start_gradients()
        self.stream = TrainingStream(
            config.data.shards,
            self.manifest,
            config.data,
            config.train.batch_size,
            config.train.segment_frames,
            config.train.seed,
            rank,
            world,
        )
        self.state = self.bare_model.initial_state(config.train.batch_size)
        self.step = 0
        self.best: float | None = None
        self.skipped = 0
        self.skipped_in_a_row = 0
        self.collapsed = False  # as the last validation of this process found
        self.stop_signal = False
        if resume:
            self.load(find_checkpoint(exp / "last"))
        if self.accelerator.is_main_process:
            begin_experiment(exp, config)
            self.metrics = MetricsLog(exp / "metrics.csv", self.step)
        self.accelerator.init_trackers("tensorboard", init_kwargs={"tensorboard": {"purge_step": self.step + 1}})
        self.interval = Interval(self.accelerator.device)

    def ask_to_stop(self, *_: Any) -> None:
        """Signal handler: finish the step under way, save, leave."""
        self.stop_signal = True

    def run(self) -> None:
        """Train to the last step, or until asked to stop."""
        limit, every = self.config.train.max_steps, self.config.train
        bar = tqdm(
            total=limit,
            initial=self.step,
            unit="step",
            disable=None if self.accelerator.is_main_process else True,
            dynamic_ncols=True,
        )
        with bar:
            while self.step < limit:
                self.train_step()
                bar.update()
                if self.step % every.log_every == 0:
                    bar.set_postfix_str(self.log_interval())
                improved = False
                if (self.step % every.validate_every == 0 or self.step == limit) and self.has_validation:
                    with self.interval.timed("apart"):
                        improved = self.validate(bar)
                stop = self.agree_on_any(self.stop_signal)
                if improved or stop or self.step % every.save_every == 0 or self.step == limit:
                    with self.interval.timed("apart"):
                        self.save(improved)
                if stop:
                    self.say(bar, f"stopped by SIGTERM after step {self.step}; --resume continues")
                    self.end()
                    sys.exit(128 + signal.SIGTERM)
        self.end()

    def end(self) -> None:
        """Close the log, leave the other processes."""
        self.accelerator.end_training()
        if self.accelerator.num_processes > 1:
            # Threads of the process group drop their last tensors only now, and wait for Python to do so; once the
            # interpreter has begun to shut down, that would abort the process (torch 2.11; its issue 190489).
            time.sleep(0.2)

    def train_step(self) -> None:
        """One step of the optimizer on the next batch."""
        with self.interval.timed("data_wait"):
            batch = next(self.stream)
        device, options = self.accelerator.device, self.config.train
        weights = weights_at(self.config.objective, self.step)
        seed_everything(options.seed, self.step, self.accelerator.process_index)
        if options.decay_steps:
            for group in self.optimizer.param_groups:
                group["lr"] = decayed_learning_rate(options, self.step)

        inputs = batch.frames.to(device), batch.lengths.to(device), restart(self.state, batch.starts.to(device))
        with self.interval.timed("computing"):
            terms, loss, norm = self.gradients(*inputs, weights)
            usable = not self.agree_on_any(~torch.isfinite(norm))
            if usable:
                self.optimizer.step()
        if usable:
            self.state = tuple(part.detach() for part in terms.state)
            self.interval.add(batch, terms, loss, norm)
            self.skipped_in_a_row = 0
        else:
            self.skip()
        self.step += 1

    def skip(self) -> None:
        """Count a step that cannot be used; its sequences start afresh. Too many in a row end the run."""
        self.skipped += 1
        self.skipped_in_a_row += 1
        self.state = self.bare_model.initial_state(self.config.train.batch_size)
        if self.skipped_in_a_row >= self.config.train.max_skipped:
            raise UserError(
                f"{self.exp}: {self.skipped_in_a_row} steps in a row to step {self.step + 1} gave a loss or gradient "
                "that is not finite; try a lower train.learning_rate, a higher model.min_deviation, "
                "data.dequantize true, or train.precision fp32"
            )

    def start_gradients(self) -> Gradients:
        """What computes the gradients of each step."""
        parameters, options = list(self.bare_model.parameters()), self.config.train
        gradients = clipped_gradients(self.model, parameters, options.clip_norm, self.accelerator.backward)
        if not options.cuda_graph:
            return gradients
        if self.accelerator.device.type != "cuda" or self.accelerator.num_processes > 1:
            raise UserError("train.cuda_graph is for training by one process on a GPU; set it to false")
        self.bare_model.fix_work()
        return recorded(gradients)

    def log_interval(self) -> str:
        """Write the averages since the last call to the log; returns them in short for the progress bar."""
        row = self.interval.averages(self.accelerator)
        weights = weights_at(self.config.objective, self.step - 1)
        row |= {
            "learning_rate": self.optimizer.param_groups[0]["lr"],
            "kl_weight": weights.kl,
            "aux_weight": weights.auxiliary,
            "skipped": self.skipped,
        }
        self.interval = Interval(self.accelerator.device)
        self.record("train", row)
        skipped = f", {self.skipped} skipped" if self.skipped else ""
        terms = {"nats/frame": "nats_per_frame", "KL": "kl", "aux": "log_auxiliary"}
        shown = [f"{row[name]:.1f} {label}" for label, name in terms.items() if name in row]
        shown += [f"{row[name]:.1%} {label}" for label, name in (("wait", "data_wait"), ("loop", "loop_overhead"))]
        return f"{row['frames_per_second']:.0f} frames/s, {', '.join(shown)}{skipped}"

    @property
    def has_validation(self) -> bool:
        """Whether the shards have a part to validate on."""
        return "valid" in self.manifest.splits and self.manifest.splits["valid"].utterances > 0

    def validate(self, bar: tqdm) -> bool:
        """Score whole validation utterances; halve the learning rate on a plateau. True where this is the best yet."""
        options = self.config.train
        self.model.eval()
        batches = whole_utterances(
            self.config.data.shards,
            self.manifest,
            "valid",
            self.config.data,
            frames_per_batch=max(8192, options.batch_size * options.segment_frames),
            seed=options.seed,
            rank=self.accelerator.process_index,
            world=self.accelerator.num_processes,
        )
        scores = score_utterances(self.bare_model, batches, self.accelerator.device, seed=options.seed)
        sums = gather_object([(score.frames, score.nats, score.kl) for score in scores])
        self.model.train()
        frames, nats, kl = (float(sum(column)) for column in zip(*sums, strict=True))
        value = nats / frames
        if not self.config.train.decay_steps:
            self.schedule.step(value)
        row = {"frames": frames, "nats_per_frame": value, "kl": kl / frames}
        if self.bare_model.bound == "elbo":  # it has latents
            was, kl_weight = self.collapsed, float(weights_at(self.config.objective, self.step - 1).kl)
            self.collapsed = has_collapsed(kl / frames, kl_weight)
            row["collapsed"] = int(self.collapsed)
            if self.collapsed and not was:
                self.say(bar, f"warning: step {self.step}: {collapse_warning(kl / frames)}")
        self.record("valid", row)
        improved = np.isfinite(value) and (self.best is None or value > self.best)
        if improved:
            self.best = value
        self.say(
            bar,
            f"step {self.step}: validation {value:.2f} nats/frame on whole utterances (KL {kl / frames:.2f})"
            f"{', best yet' if improved else ''}; learning rate {self.optimizer.param_groups[0]['lr']:.2g}",
        )
        return bool(improved)

    def save(self, improved: bool) -> None:
        """Write a checkpoint from which this run, on every process, goes on exactly."""
        own = {"stream": self.stream.state_dict(), "state": [part.cpu() for part in self.state]}
        training = {
            "step": self.step,
            "best": self.best,
            "skipped": self.skipped,
            "skipped_in_a_row": self.skipped_in_a_row,
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "processes": gather_object([own]),
        }
        if self.accelerator.is_main_process:
            weights = self.bare_model.state_dict()
            path = save_checkpoint(self.exp, self.step, weights, self.config, self.manifest, training)
            if improved or not self.has_validation:
                point(self.exp / "best", path)
            remove_unlinked(self.exp)
        self.accelerator.wait_for_everyone()

    def load(self, checkpoint: Path) -> None:
        """Go on from a checkpoint."""
        training = load_training_state(checkpoint)
        if len(training["processes"]) != self.accelerator.num_processes:
            raise UserError(
                f"{checkpoint}: saved by {len(training['processes'])} processes, resumed by "
                f"{self.accelerator.num_processes}; resume with as many"
            )
        load_weights(self.bare_model, checkpoint)
        self.optimizer.load_state_dict(training["optimizer"])
        self.schedule.load_state_dict(training["schedule"])
        self.step, self.best = training["step"], training["best"]
        self.skipped, self.skipped_in_a_row = training["skipped"], training["skipped_in_a_row"]
        own = training["processes"][self.accelerator.process_index]
        self.stream.load_state_dict(own["stream"])
        self.state = tuple(part.to(self.accelerator.device) for part in own["state"])

    def agree_on_any(self, flag: bool | Tensor) -> bool:
        """Whether the flag is set on any process."""
        if self.accelerator.num_processes == 1:
            return bool(flag)
        own = torch.as_tensor(float(bool(flag)), device=self.accelerator.device)
        return bool(self.accelerator.reduce(own, reduction="sum") > 0)

    def record(self, split: str, row: dict[str, Any]) -> None:
        """One row to metrics.csv and to TensorBoard."""
        if self.accelerator.is_main_process:
            self.metrics.append({"step": self.step, "split": split, **row})
        self.accelerator.log({f"{split}/{name}": value for name, value in row.items()}, step=self.step)

    def say(self, bar: tqdm, line: str) -> None:
        """Print a line above the progress bar, once."""
        if self.accelerator.is_main_process:
            bar.write(line, file=sys.stdout)


def decayed_learning_rate(options: TrainConfig, step: int) -> float:
    """Learning rate of a step counted from 0: constant, then falling linearly over the last `decay_steps`."""
    left = min((options.max_steps - step) / options.decay_steps, 1.0)
    return options.min_learning_rate + left * (options.learning_rate - options.min_learning_rate)


def restart(state: RecurrentState, starts: Tensor) -> RecurrentState:
    """The state with zeros in the lanes that start a recording: starts [batch]."""
    kept = ~starts.unsqueeze(1)
    return tuple(part * kept for part in state)


def seed_everything(seed: int, step: int, rank: int) -> None:
    """Make the draws of a step depend on nothing that came before, so that a resumed run repeats them."""
    torch.manual_seed(torch_seed(seed, "step", step, rank))


def start_accelerator(options: TrainConfig, exp: Path) -> Accelerator:
    """Accelerate set to the device and precision asked for."""
    device = pick_device(options.device)
    allow_tf32(options.precision == "tf32")
    return Accelerator(
        cpu=device.type == "cpu",
        mixed_precision="bf16" if options.precision == "bf16" else "no",
        log_with="tensorboard",
        project_dir=str(exp),
    )
