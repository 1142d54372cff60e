"""A training run: the loop over steps, with validation and checkpoints in between."""

import contextlib
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from zfaudio.config import RunConfig
from zfaudio.data.loader import TrainingStream, check_scorable
from zfaudio.data.manifest import check_same_data, check_shards, read_manifest
from zfaudio.errors import UserError
from zfaudio.evaluation.collapse import collapse_warning, frames_judged, has_collapsed
from zfaudio.experiment.checkpoint import Checkpoint, find_checkpoint
from zfaudio.experiment.checkpoint_record import read_record
from zfaudio.experiment.folder import begin_experiment, check_experiment, prepare_to_resume
from zfaudio.experiment.metrics import MetricsLog
from zfaudio.folder_lock import locked_folder
from zfaudio.models.registry import build_model
from zfaudio.training.expectation import what_to_expect
from zfaudio.training.gradients import Gradients, clipped_gradients, recorded
from zfaudio.training.initialize import initialize_from
from zfaudio.training.interval import Interval
from zfaudio.training.listening import hear
from zfaudio.training.log import TrainingLog, in_short, progress_bar
from zfaudio.training.objective import weights_at
from zfaudio.training.saving import load_training, save_training
from zfaudio.training.setup import build_optimizer, build_schedule, start_accelerator, with_sample_rate
from zfaudio.training.state import Progress
from zfaudio.training.steps import decayed_learning_rate, restart, seed_step
from zfaudio.training.tracker import show, start_tracker
from zfaudio.training.validation import has_validation, validate


class Training:
    """A run: the model, its optimizer, its position in the data, and the state its sequences carry along.

    It holds the lock of its folder until `close`.

    Args:
        config: settings of the run.
        exp: folder of the experiment.
        resume: continue from the last checkpoint in it.
        overwrite: start over if the folder holds checkpoints, and delete them.
        allow_changes: resume also with another learning rate, batch size or number of processes.

    Raises:
        UserError: the shards, the folder or the settings cannot be used.
    """

    def __init__(
        self, config: RunConfig, exp: Path, resume: bool, overwrite: bool = False, allow_changes: bool = False
    ) -> None:
        self.manifest = read_manifest(config.data.shards)
        self.config, self.exp = with_sample_rate(config, self.manifest), exp
        if resume and not exp.is_dir():
            raise UserError(f"{exp}: no checkpoint to resume from; start without --resume")
        self.accelerator = start_accelerator(config.train, exp)
        self.lock = contextlib.ExitStack()
        if self.accelerator.is_main_process:
            self.lock.enter_context(locked_folder(exp, "a training run"))
        try:
            self._prepare(resume, overwrite, allow_changes)
        except BaseException:
            self.close()
            raise

    def _prepare(self, resume: bool, overwrite: bool, allow_changes: bool) -> None:
        """Build everything that a run needs, and continue from the last checkpoint if asked to."""
        config, exp = self.config, self.exp
        changes = check_experiment(exp, config, resume, overwrite, allow_changes)
        if Path(config.data.shards).is_dir():  # over a network the check would cost as much as an epoch
            check_shards(config.data.shards, self.manifest)
        check_scorable(config.data, self.manifest, self.accelerator.num_processes)

        torch.manual_seed(config.train.seed)
        model = build_model(config.model, self.manifest.frame_size, self.manifest.observation)
        self.model = model.to(self.accelerator.device)
        self.optimizer = build_optimizer(self.model, config.train)
        self.schedule = build_schedule(self.optimizer, config.train)
        # The same model, wrapped to average the gradients of several processes.
        self.parallel_model = self.accelerator.prepare_model(self.model, device_placement=False)
        self.gradients = self._build_gradients()
        self.stream = TrainingStream(
            config.data.shards,
            self.manifest,
            config.data,
            config.train.batch_size,
            config.train.segment_frames,
            config.train.seed,
            self.accelerator.process_index,
            self.accelerator.num_processes,
        )
        self.state = self.model.initial_state(config.train.batch_size)
        self.progress = Progress()
        self.interval = Interval(self.accelerator.device)
        self.stop_signal: signal.Signals | None = None
        notes: list[str] = []
        if resume:
            notes = self._load(changes, allow_changes)
        elif config.train.init_from:
            source = Path(config.train.init_from)
            notes = [initialize_from(self.model, source, config.data.shards, self.manifest)]
        self.log = self._start_log(resume)
        for note in notes:
            self.log.say(note)
        if not resume:
            self._say_what_to_expect()

    def request_stop(self, number: int, *_: Any) -> None:
        """Signal handler: finish the current step, save and leave. The same signal again leaves at once."""
        self.stop_signal = signal.Signals(number)
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
        if number == signal.SIGINT and self.accelerator.is_main_process:
            # Not by print, which a signal may interrupt and which then must not be called again.
            os.write(2, b"\nsaving after this step; press Ctrl-C again to leave at once\n")

    def run(self) -> None:
        """Train to the last step, or until a signal asks to stop.

        Raises:
            SystemExit: stopped by SIGTERM.
            KeyboardInterrupt: stopped by SIGINT.
        """
        try:
            self._run()
        finally:
            self.close()

    def close(self) -> None:
        """Release the folder."""
        self.lock.close()

    def _run(self) -> None:
        options = self.config.train
        with self.log.bar:
            while self.progress.step < options.max_steps:
                self.train_step()
                self.log.bar.update()
                if self._is_due(options.log_every):
                    self.log.bar.set_postfix_str(self._log_interval())
                validated = improved = False
                last = self.progress.step == options.max_steps
                if (last or self._is_due(options.validate_every)) and has_validation(self.manifest):
                    with self.interval.timed("not_training"):
                        improved, validated = self.validate(), True
                stop = self._any_process(self.stop_signal is not None)
                due = self._is_due(options.save_every) or (options.keep_every and self._is_due(options.keep_every))
                if last or improved or stop or due:
                    with self.interval.timed("not_training"):
                        self.save(improved)
                if validated:
                    with self.interval.timed("not_training"):
                        self._show_samples()
                if stop:
                    self._stop(self.stop_signal or signal.SIGTERM)
        self._end()

    def _stop(self, stopped_by: signal.Signals) -> None:
        """Leave after a signal, with its exit status."""
        self.log.say(f"stopped by {stopped_by.name} after step {self.progress.step}; --resume continues")
        self._end()
        if stopped_by == signal.SIGINT:
            raise KeyboardInterrupt
        sys.exit(128 + stopped_by)

    def train_step(self) -> None:
        """One step of the optimizer on the next batch."""
        with self.interval.timed("data_wait"):
            batch = next(self.stream)
        device, options, step = self.accelerator.device, self.config.train, self.progress.step
        seed_step(options.seed, step, self.accelerator.process_index)
        if options.decay_steps:
            for group in self.optimizer.param_groups:
                group["lr"] = decayed_learning_rate(options, step)

        frames, lengths = batch.frames.to(device), batch.lengths.to(device)
        state = restart(self.state, batch.starts.to(device))
        with self.interval.timed("computing"):
            terms, loss, norm = self.gradients(frames, lengths, state, weights_at(self.config.objective, step))
            is_finite = not self._any_process(~torch.isfinite(norm))
            if is_finite:
                self.optimizer.step()
        if is_finite:
            self.state = tuple(part.detach() for part in terms.state)
            self.interval.add(batch, terms, loss, norm)
            self.progress.skipped_in_a_row = 0
        else:
            self._skip_step()
        self.progress.step += 1

    def validate(self) -> bool:
        """Score the validation part and adapt the learning rate. Returns whether this is the best score so far."""
        progress = self.progress
        found = validate(self.model, self.manifest, self.config, self.accelerator)
        if not self.config.train.decay_steps:
            self.schedule.step(found.nats_per_frame)
        row = {"frames": found.frames, "nats_per_frame": found.nats_per_frame, "kl": found.kl_per_frame}
        if self.model.bound == "elbo":  # a model with latents
            row["collapsed"] = int(self._check_collapse(found.kl_per_frame))
        self.log.record(progress.step, "valid", row)
        improved = np.isfinite(found.nats_per_frame) and (progress.best is None or found.nats_per_frame > progress.best)
        if improved:
            progress.best = found.nats_per_frame
        self.log.say(
            f"step {progress.step}: validation {found.nats_per_frame:.2f} nats/frame on whole utterances "
            f"(KL {found.kl_per_frame:.2f}){', best yet' if improved else ''}; "
            f"learning rate {self._learning_rate():.2g}{self.log.time_left(progress.step, self.config.train.max_steps)}"
        )
        return bool(improved)

    def _show_samples(self) -> None:
        """Show what the model says now where the run can be watched."""
        num, step = self.config.train.samples, self.progress.step
        if not (num and self.accelerator.is_main_process):
            return
        self.model.eval()
        for heard in hear(Checkpoint(self.exp, self.model, self.config, self.manifest, step), num):
            show(self.accelerator, heard.name, heard.content, self.manifest, step)
        self.model.train()

    def save(self, improved: bool) -> None:
        """Write a checkpoint from which this run, on every process, continues exactly."""
        is_best = improved or not has_validation(self.manifest)
        save_training(
            self.exp,
            self.progress,
            self.config,
            self.manifest,
            self.model,
            self.optimizer,
            self.schedule,
            self.stream,
            self.state,
            self.interval,
            self.accelerator,
            is_best,
        )

    def _load(self, changes: dict[str, str], allow_changes: bool) -> list[str]:
        """Continue from the last checkpoint; returns lines that say where this is not exactly the stopped run."""
        warning = prepare_to_resume(self.exp) if self.accelerator.is_main_process else ""
        self.accelerator.wait_for_everyone()
        checkpoint = find_checkpoint(self.exp / "last")
        check_same_data(self.config.data.shards, self.manifest, read_manifest(checkpoint))
        self.progress, self.state, notes = load_training(
            checkpoint,
            self.model,
            self.optimizer,
            self.schedule,
            self.stream,
            self.interval,
            self.accelerator,
            allow_changes,
        )
        record = read_record(self.exp)
        if record is not None and record.best is None:
            self.progress.best = None
        if "train.learning_rate" in changes:
            for group in self.optimizer.param_groups:
                group["lr"] = self.config.train.learning_rate
        if changes:
            what = ", ".join(f"{name} {change}" for name, change in changes.items())
            notes.insert(0, f"step {self.progress.step}: continues with {what}")
        return [warning, *notes] if warning else notes

    def _start_log(self, resume: bool) -> TrainingLog:
        metrics, step = None, self.progress.step
        if self.accelerator.is_main_process:
            begin_experiment(self.exp, self.config, resume)
            metrics = MetricsLog(self.exp / "metrics.csv", step)
        start_tracker(self.accelerator, self.config, self.exp, step)
        bar = progress_bar(self.accelerator, step, self.config.train.max_steps)
        return TrainingLog(self.accelerator, metrics, bar, step)

    def _say_what_to_expect(self) -> None:
        """Before the first step, tell what a sensible score is."""
        if self.accelerator.is_main_process and self.manifest.kind == "waveform" and has_validation(self.manifest):
            self.log.say(what_to_expect(self.manifest, self.config.data))

    def _build_gradients(self) -> Gradients:
        parameters, options = list(self.model.parameters()), self.config.train
        gradients = clipped_gradients(self.parallel_model, parameters, options.clip_norm, self.accelerator.backward)
        if not options.cuda_graph:
            return gradients
        self.model.use_fixed_shapes()
        return recorded(gradients)

    def _skip_step(self) -> None:
        """Count a step that is not finite; its sequences start from zero. Too many in a row end the run."""
        progress = self.progress
        progress.skipped += 1
        progress.skipped_in_a_row += 1
        self.state = self.model.initial_state(self.config.train.batch_size)
        if progress.skipped_in_a_row >= self.config.train.max_skipped:
            raise UserError(
                f"{self.exp}: {progress.skipped_in_a_row} steps in a row up to step {progress.step + 1} gave a loss or "
                "gradient that is not finite; try a lower train.learning_rate, a higher model.min_deviation, "
                "data.dequantize true, or train.precision fp32"
            )

    def _log_interval(self) -> str:
        """Write the averages since the last call to the log; returns them in short for the progress bar."""
        weights = weights_at(self.config.objective, self.progress.step - 1)
        row = self.interval.averages(self.accelerator) | {
            "learning_rate": self._learning_rate(),
            "kl_weight": weights.kl,
            "aux_weight": weights.auxiliary,
            "skipped": self.progress.skipped,
        }
        self.interval = Interval(self.accelerator.device)
        self.log.record(self.progress.step, "train", row)
        return in_short(row)

    def _check_collapse(self, kl_per_frame: float) -> bool:
        """Whether the posterior has collapsed; says so if it had not before."""
        kl_weight = float(weights_at(self.config.objective, self.progress.step - 1).kl)
        frames = frames_judged(self.manifest, "valid")
        collapsed = has_collapsed(kl_per_frame, kl_weight, frames)
        if collapsed and not self.progress.collapsed:
            self.log.say(f"warning: step {self.progress.step}: {collapse_warning(kl_per_frame, frames)}")
        self.progress.collapsed = collapsed
        return collapsed

    def _any_process(self, flag: bool | Tensor) -> bool:
        """Whether the flag is set on any process."""
        if self.accelerator.num_processes == 1:
            return bool(flag)
        own = torch.as_tensor(float(bool(flag)), device=self.accelerator.device)
        return bool(self.accelerator.reduce(own, reduction="sum") > 0)

    def _is_due(self, every: int) -> bool:
        return self.progress.step % every == 0

    def _learning_rate(self) -> float:
        return float(self.optimizer.param_groups[0]["lr"])

    def _end(self) -> None:
        """Close the log and leave the other processes."""
        self.accelerator.end_training()
        if self.accelerator.num_processes > 1:
            # The threads of the process group release their last tensors only now, and need the interpreter for it.
            # If it has begun to shut down by then, the process aborts (torch 2.11; its issue 190489).
            time.sleep(0.2)
