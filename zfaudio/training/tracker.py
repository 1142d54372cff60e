"""Where a run can be watched: TensorBoard, or Weights & Biases."""

import dataclasses
import io
import uuid
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import Accelerator
from numpy.typing import NDArray

from zfaudio.config import RunConfig
from zfaudio.data.manifest import Manifest
from zfaudio.errors import UserError
from zfaudio.figures import draw_speech
from zfaudio.files import whole_file
from zfaudio.training.listening import Content

FULL_SCALE = 32768
WANDB_RUN = "wandb-run.txt"  # in the folder of an experiment, the id under which a resumed run continues its page


def start_tracker(accelerator: Accelerator, config: RunConfig, exp: Path, step: int) -> None:
    """Start the tracker of a run that has done `step` steps.

    Raises:
        UserError: wandb is not installed, or refuses to start.
    """
    tracker = config.train.tracker
    if tracker == "tensorboard":
        accelerator.init_trackers(tracker, init_kwargs={tracker: {"purge_step": step + 1}})
        return
    options = {"name": exp.resolve().name, "dir": str(exp), "id": wandb_run(exp, step), "resume": "allow"}
    try:
        accelerator.init_trackers("zfaudio", dataclasses.asdict(config), {tracker: options})
    except Exception as error:  # of wandb's own kinds, such as a missing login; each says in words what to do
        raise UserError(f"--train.tracker wandb: {' '.join(str(error).split())}") from None


def wandb_run(exp: Path, step: int) -> str:
    """The id of a run on Weights & Biases: a new one for a run that starts, that of the stopped run afterwards."""
    path = exp / WANDB_RUN
    if step and path.is_file():
        return path.read_text(encoding="utf-8").strip()
    name = uuid.uuid4().hex
    with whole_file(path) as part:
        part.write_text(name, encoding="utf-8")
    return name


def show(accelerator: Accelerator, name: str, content: Content, manifest: Manifest, step: int) -> None:
    """Show something that was heard, see listening.py, on the page of a run: speech as audio with its spectrogram."""
    if isinstance(content, str):
        accelerator.log({name: content}, step=step)
    elif manifest.kind == "binary":
        show_picture(accelerator, name, np.repeat(content[..., None] * np.uint8(255), 3, axis=-1), step)
    else:
        rate = manifest.waveform.sample_rate
        show_sound(accelerator, f"{name}/sound", content, rate, step)
        picture = picture_of(content, rate, manifest.waveform.deviation)
        show_picture(accelerator, f"{name}/spectrogram", picture, step)


def picture_of(waveform: NDArray[Any], rate: int, deviation: float) -> NDArray[np.uint8]:
    """A waveform [samples] above its spectrogram, [rows, columns, 3]."""
    from PIL import Image

    file = io.BytesIO()
    draw_speech(waveform, rate, deviation).savefig(file, format="png")
    with Image.open(file) as picture:
        return np.asarray(picture.convert("RGB"))


def show_picture(accelerator: Accelerator, name: str, picture: NDArray[np.uint8], step: int) -> None:
    """Show a picture [rows, columns, 3]."""
    for tracker in accelerator.trackers:
        if tracker.name == "wandb":
            tracker.log_images({name: [picture]}, step=step)
        elif tracker.name == "tensorboard":
            tracker.writer.add_image(name, picture, step, dataformats="HWC")


def show_sound(accelerator: Accelerator, name: str, waveform: NDArray[Any], rate: int, step: int) -> None:
    """Offer int16 samples [n] to be played."""
    for tracker in accelerator.trackers:
        if tracker.name == "wandb":
            import wandb

            tracker.log({name: wandb.Audio(waveform, sample_rate=rate)}, step=step)
        elif tracker.name == "tensorboard":
            tracker.writer.add_audio(name, (waveform / FULL_SCALE).astype(np.float32)[None], step, sample_rate=rate)
