"""`zfaudio generate`: speech, pictures or sentences; new ones, continued ones, or real ones through their latents."""

import math
from pathlib import Path
from typing import Literal

import torch

from zfaudio.command import command_line
from zfaudio.device import DeviceName, pick_device
from zfaudio.errors import UserError
from zfaudio.experiment.checkpoint import load_checkpoint
from zfaudio.generation.given import read_given
from zfaudio.generation.pictures import generate_pictures
from zfaudio.generation.recordings import AudioInput
from zfaudio.generation.request import Request
from zfaudio.generation.samples import Kind, Sample
from zfaudio.generation.sampling import Temperatures
from zfaudio.generation.sentences import MOST_WORDS, generate_sentences
from zfaudio.generation.speech import generate_speech
from zfaudio.observations import describe
from zfaudio.ops.cuda_graph import record_cuda_graph

DEFAULT_SECONDS = 3.0  # of speech


def generate(
    checkpoint: str | Path,
    *,
    out: str | Path,
    num: int = 4,
    seconds: float | None = None,
    words: int = MOST_WORDS,
    temperature: float = 1.0,
    latent_temperature: float | None = None,
    observation_temperature: float | None = None,
    seed: int = 0,
    prompt: AudioInput | None = None,
    reconstruct: AudioInput | None = None,
    shards: str = "",
    device: DeviceName = "auto",
    precision: Literal["fp32", "bf16"] = "fp32",
    cuda_graph: bool = False,
) -> list[Sample]:
    """Generate speech as WAV files with a picture of each, pictures as one PNG file, or sentences as a text file.

    What a model generates is what it was trained on. samples.json lists how the files were made. Sample i depends on
    the seed and on i, not on how many samples are made. Files of earlier calls stay in the folder unless they have the
    same names. From Python, `prompt` and `reconstruct` may also be tuples (waveform, sample rate), see
    `read_recording`.

    Args:
        checkpoint: a checkpoint, or an experiment, of which the best checkpoint is taken; or hub:user/name, a model on
            the Hugging Face hub.
        out: folder for the files.
        num: number of samples, continuations or reconstructions.
        seconds: of speech: length of each sample, or of each continuation without its prompt, rounded to whole frames;
            3 by default. A reconstruction is as long as its recording.
        words: the most words of a sentence, with its end.
        temperature: how freely latents and frames are drawn: 1 as the model has it, 0 for what is most probable. It
            scales deviations, and divides the logits of alternatives: words, pixels, components of a mixture.
        latent_temperature: the same for the latents only; by default `temperature`.
        observation_temperature: the same for the frames only; by default `temperature`.
        seed: seed of all random draws.
        prompt: what to continue. A recording of any format, sample rate and number of channels; a picture file, of
            which the upper half is kept; the first words of a sentence; or for pictures and sentences a split, such as
            test, of which the first half of each of the first `num` is kept.
        reconstruct: what to reconstruct: a recording, a picture file, a sentence or a split. The latents are drawn from
            the posterior, which knows it; the decoder reads the frames that it generated.
        shards: folder or address of the shards of that split; by default those that the model was trained on, if they
            were named on this machine before.
        device: where to compute; auto takes a GPU if there is one.
        precision: precision of the matrix products, float32 or bfloat16. bfloat16 is faster on a GPU, and on a CPU
            with AVX512-BF16 or AMX.
        cuda_graph: launch the kernels of each frame as one CUDA graph. Needs a GPU; not yet tried on one.

    Returns:
        The samples that were written, without those that diverged.

    Raises:
        UserError: an option makes no sense, a file cannot be read or written, or every sample diverged.
    """
    temperatures = Temperatures(
        latent=temperature if latent_temperature is None else latent_temperature,
        observation=temperature if observation_temperature is None else observation_temperature,
    )
    check_options(num, seconds, words, temperatures, seed, prompt, reconstruct)
    torch_device = pick_device(device)
    if cuda_graph and torch_device.type != "cuda":
        raise UserError("--cuda_graph is for a GPU, and this runs on the CPU; leave it out")
    trained = load_checkpoint(Path(checkpoint), torch_device)
    given = reconstruct if prompt is None else prompt
    kind: Kind = "continuation" if prompt is not None else "reconstruction" if reconstruct is not None else "sample"
    source = str(given) if isinstance(given, str | Path) else ""
    request = Request(kind, num, temperatures, seed, source, command_line())
    record = record_cuda_graph if cuda_graph else None
    folder = Path(out)
    autocast = torch.autocast(torch_device.type, torch.bfloat16, enabled=precision == "bf16")
    holds = trained.manifest.kind
    if holds == "waveform":
        return generate_speech(trained, folder, request, given, seconds or DEFAULT_SECONDS, record, autocast)
    if seconds is not None:
        raise UserError(f"--seconds is for speech, and {trained.path} generates {describe(holds)}; leave it out")
    sources = [] if given is None else read_given(given, trained, shards, num, whole=kind == "reconstruction")
    with autocast:
        if holds == "binary":
            return generate_pictures(trained, folder, request, sources, record)
        return generate_sentences(trained, folder, request, sources, words, record)


def check_options(
    num: int,
    seconds: float | None,
    words: int,
    temperatures: Temperatures,
    seed: int,
    prompt: AudioInput | None,
    reconstruct: AudioInput | None,
) -> None:
    """Raises UserError if an option makes no sense."""
    if num < 1:
        raise UserError(f"--num {num}: must be 1 or more")
    if words < 1:
        raise UserError(f"--words {words}: must be 1 or more")
    if seconds is not None and not (math.isfinite(seconds) and seconds > 0):
        raise UserError(f"--seconds {seconds}: must be more than 0")
    for name, value in (("latent", temperatures.latent), ("observation", temperatures.observation)):
        if not (math.isfinite(value) and value >= 0):
            raise UserError(f"--temperature or --{name}-temperature {value}: must be 0 or more")
    if seed < 0:
        raise UserError(f"--seed {seed}: must be 0 or more")
    if prompt is not None and reconstruct is not None:
        raise UserError("--prompt and --reconstruct: give only one of them")
