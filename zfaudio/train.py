"""`zfaudio train`: fit a model to shards, on one process or on many under torchrun, resumable at any step."""

import dataclasses
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

from zfaudio.checkpoint import (
    find_checkpoint,
    load_training_state,
    load_weights,
    point,
    remove_unlinked,
    save_checkpoint,
)
from zfaudio.command import command_line
from zfaudio.config import RunConfig, TrainConfig, read_config, write_config
from zfaudio.device import pick_device
from zfaudio.errors import UserError
from zfaudio.loader import Batch, DataConfig, TrainingStream, whole_utterances
from zfaudio.manifest import read_manifest
from zfaudio.metrics import MetricsLog
from zfaudio.models import FrameModel, ModelConfig, build_model
from zfaudio.models.base import FrameTerms
from zfaudio.objective import ObjectiveConfig, elbo, training_loss, weights_at
from zfaudio.ops.cells import State
from zfaudio.scoring import score_utterances

# What may differ from the first run when it is resumed: nothing that changes the weights step by step.
FREE_ON_RESUME = {"train.max_steps", "train.log_every", "train.device", "data.shards"}

# Sums over an interval of training, in this order.
SUMS = ("nats_per_frame", "log_likelihood", "kl", "log_auxiliary", "log_backward")


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
        objective: what to maximise.
        train: how.
        exp: folder of the experiment: checkpoints, metrics.csv, TensorBoard.
        resume: continue the run in it from its last checkpoint.
    """
    config = RunConfig(model=model, objective=objective, data=data, train=train)
    training = Training(config, exp, resume)
    signal.signal(signal.SIGTERM, training.ask_to_stop)
    training.run()


class Training:
    """A run: the model, its optimiser, its place in the data, and the state its sequences carry on."""

    def __init__(self, config: RunConfig, exp: Path, resume: bool) -> None:
        self.config, self.exp = config, exp
        self.manifest = read_manifest(config.data.shards)
        check_experiment(exp, config, resume)
        self.accelerator = start_accelerator(config.train, exp)
        rank, world = self.accelerator.process_index, self.accelerator.num_processes

        torch.manual_seed(config.train.seed)
        model = build_model(config.model, self.manifest.frame_size)
        self.optimizer = torch.optim.Adam(model.parameters(), lr=config.train.learning_rate, eps=config.train.adam_eps)
        self.schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(
            self.optimizer,
            mode="max",
            factor=0.5,
            patience=config.train.patience,
            threshold=0.0,
            min_lr=config.train.min_learning_rate,
        )
        self.model = self.accelerator.prepare(model)
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
        self.batches = iter(self.stream)
        self.state = self.bare_model.initial_state(config.train.batch_size)
        self.step = 0
        self.best: float | None = None
        self.skipped = 0
        self.skipped_in_a_row = 0
        self.stop_signal = False
        if resume:
            self.load(find_checkpoint(exp / "last"))
        if self.accelerator.is_main_process:
            self.metrics = MetricsLog(exp / "metrics.csv", self.step)
        self.accelerator.init_trackers("tensorboard", init_kwargs={"tensorboard": {"purge_step": self.step + 1}})
        self.interval = Interval(self.accelerator.device)

    @property
    def bare_model(self) -> FrameModel:
        """The model without what spreads it over processes."""
        return self.accelerator.unwrap_model(self.model)

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
                    improved = self.validate(bar)
                stop = self.agree_on_any(self.stop_signal)
                if improved or stop or self.step % every.save_every == 0 or self.step == limit:
                    self.save(improved)
                if stop:
                    self.say(bar, f"stopped by SIGTERM after step {self.step}; --resume continues")
                    self.accelerator.end_training()
                    sys.exit(128 + signal.SIGTERM)
        self.accelerator.end_training()

    def train_step(self) -> None:
        """One step of the optimiser on the next batch."""
        asked = time.perf_counter()
        batch = next(self.batches)
        self.interval.data_wait += time.perf_counter() - asked
        device, options = self.accelerator.device, self.config.train
        weights = weights_at(self.config.objective, self.step)
        seed_everything(options.seed, self.step, self.accelerator.process_index)

        terms = self.model(
            batch.frames.to(device), batch.lengths.to(device), restart(self.state, batch.starts.to(device))
        )
        loss = training_loss(terms, weights)
        norm = torch.tensor(float("nan"))
        if not self.agree_on_any(not torch.isfinite(loss)):
            self.accelerator.backward(loss)
            norm = self.accelerator.clip_grad_norm_(self.model.parameters(), options.clip_norm)
        if torch.isfinite(norm):
            self.optimizer.step()
            self.state = State(*(part.detach() for part in terms.state))
            self.interval.add(batch, terms, loss, norm)
            self.skipped_in_a_row = 0
        else:
            self.skip()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1

    def skip(self) -> None:
        """Count a step that cannot be used; its sequences start afresh. Too many in a row end the run."""
        self.skipped += 1
        self.skipped_in_a_row += 1
        self.state = self.bare_model.initial_state(self.config.train.batch_size)
        if self.skipped_in_a_row >= self.config.train.max_skipped:
            raise UserError(
                f"{self.exp}: {self.skipped_in_a_row} steps in a row up to step {self.step + 1} gave a loss or gradient "
                "that is not finite; try a lower train.learning_rate, a higher model.min_deviation, "
                "data.dequantize true, or train.precision fp32"
            )

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
        return (
            f"{row['frames_per_second']:.0f} frames/s, {row['nats_per_frame']:.1f} nats/frame, "
            f"KL {row['kl']:.1f}, aux {row['log_auxiliary']:.1f}{skipped}"
        )

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
        self.schedule.step(value)
        self.record("valid", {"frames": frames, "nats_per_frame": value, "kl": kl / frames})
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
        self.batches = iter(self.stream)
        self.state = State(*(part.to(self.accelerator.device) for part in own["state"]))

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


class Interval:
    """Sums over the steps since the last line of the log, kept on the device so that nothing waits for them."""

    def __init__(self, device: torch.device) -> None:
        self.sums = torch.zeros(len(SUMS), dtype=torch.float64, device=device)  # nats
        self.frames = torch.zeros((), dtype=torch.float64, device=device)
        self.loss = torch.zeros((), dtype=torch.float64, device=device)
        self.norm = torch.zeros((), dtype=torch.float64, device=device)
        self.steps = 0
        self.data_wait = 0.0  # seconds
        self.started = time.perf_counter()

    @torch.no_grad()
    def add(self, batch: Batch, terms: FrameTerms, loss: Tensor, norm: Tensor) -> None:
        """Count a step."""
        parts = (elbo(terms), terms.log_likelihood, terms.kl, terms.log_auxiliary, terms.log_backward)
        zero = loss.new_zeros(())
        self.sums += torch.stack([zero if part is None else part.sum() for part in parts])
        self.frames += (batch.lengths - 1).sum().to(self.frames.device)
        self.loss += loss
        self.norm += norm
        self.steps += 1

    def averages(self, accelerator: Accelerator) -> dict[str, Any]:
        """Averages over all processes: nats a frame, loss in nats a sequence, frames a second."""
        total = accelerator.reduce(torch.cat([self.sums, torch.stack([self.frames, self.loss, self.norm])]))
        *sums, frames, loss, norm = total.tolist()
        seconds = time.perf_counter() - self.started
        steps = max(self.steps, 1) * accelerator.num_processes
        row: dict[str, Any] = {name: value / max(frames, 1) for name, value in zip(SUMS, sums, strict=True)}
        return row | {
            "frames": frames,
            "loss": loss / steps,
            "gradient_norm": norm / steps,
            "frames_per_second": frames / seconds,
            "data_wait": self.data_wait / seconds,
        }


def restart(state: State, starts: Tensor) -> State:
    """The state with zeros in the lanes that start a recording: starts [batch]."""
    kept = ~starts.unsqueeze(1)
    return State(state.hidden * kept, state.cell * kept)


def seed_everything(seed: int, step: int, rank: int) -> None:
    """Make the draws of a step depend on nothing that came before, so that a resumed run repeats them."""
    (mixed,) = np.random.SeedSequence([seed, step, rank]).generate_state(1, np.uint64)
    torch.manual_seed(int(mixed) >> 1)


def start_accelerator(options: TrainConfig, exp: Path) -> Accelerator:
    """Accelerate set to the device and precision asked for."""
    device = pick_device(options.device)
    torch.set_float32_matmul_precision("high" if options.precision == "tf32" else "highest")
    torch.backends.cudnn.allow_tf32 = options.precision == "tf32"
    return Accelerator(
        cpu=device.type == "cpu",
        mixed_precision="bf16" if options.precision == "bf16" else "no",
        log_with="tensorboard",
        project_dir=str(exp),
    )


def check_experiment(exp: Path, config: RunConfig, resume: bool) -> None:
    """Make the experiment's folder, or see that it can be resumed; note the configuration and the command line."""
    started = (exp / "last").exists()
    if started and not resume:
        raise UserError(f"{exp}: holds a run already; continue it with --resume or choose another --exp")
    if resume:
        if not started:
            raise UserError(f"{exp}: no checkpoint to resume from; start without --resume")
        check_same_run(exp, config)
    exp.mkdir(parents=True, exist_ok=True)
    write_config(config, exp / "config.yaml")
    with (exp / "commands.txt").open("a") as file:
        file.write(command_line() + "\n")


def check_same_run(exp: Path, config: RunConfig) -> None:
    """Raises UserError naming the settings in which a resumed run differs from what it resumes."""
    before = flatten(dataclasses.asdict(read_config(exp / "last" / "config.yaml")))
    now = flatten(dataclasses.asdict(config))
    changed = [key for key in now if key not in FREE_ON_RESUME and now[key] != before[key]]
    if changed:
        what = ", ".join(f"{key} {before[key]} -> {now[key]}" for key in changed)
        raise UserError(f"{exp}: a resumed run keeps its settings ({what}); give --config {exp}/config.yaml")


def flatten(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} -> {"a.b": 1}."""
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat
