"""`zfaudio interpolate`: from one recording, picture or sentence to another, through the latents of both."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np

from zfaudio.command import command_line
from zfaudio.data.manifest import Manifest
from zfaudio.device import DeviceName, pick_device
from zfaudio.errors import UserError
from zfaudio.experiment.checkpoint import Checkpoint, load_checkpoint
from zfaudio.generation.generate import DEFAULT_SECONDS
from zfaudio.generation.given import Source, read_values
from zfaudio.generation.latent_paths import decode, mix, read_latents, require_latents
from zfaudio.generation.pictures import grid, png, size_of
from zfaudio.generation.recordings import AudioInput
from zfaudio.generation.samples import Sample, read_sample_list, write_listed
from zfaudio.generation.sampling import (
    GeneratedWaveform,
    Temperatures,
    join_blocks,
    sample_speech,
    to_blocks,
    whole_frames,
)
from zfaudio.generation.sentences import MOST_WORDS, as_text
from zfaudio.generation.sequences import Values
from zfaudio.generation.writing import SampleWriter
from zfaudio.observations import END


def interpolate(
    checkpoint: str | Path,
    *,
    out: str | Path,
    first: AudioInput | None = None,
    last: AudioInput | None = None,
    steps: int = 7,
    temperature: float | None = None,
    seed: int = 0,
    shards: str = "",
    device: DeviceName = "auto",
) -> list[Sample]:
    """Mix the latents of two recordings, pictures or sentences in equal steps, and decode each mixture.

    Speech becomes one WAV file a step, pictures a PNG file with the steps side by side, sentences a text file with one
    a line. If one of the two is longer, the latents of the other are stretched in time to its length.

    Args:
        checkpoint: a checkpoint, or an experiment, of which the best checkpoint is taken; or hub:user/name, a model on
            the Hugging Face hub.
        out: folder for the files.
        first: where to begin: a recording, a picture file, a sentence, or one of a split, as test:12 for the twelfth
            after the first. By default a sample of the model.
        last: where to end, likewise.
        steps: number of mixtures, with both ends.
        temperature: how freely frames are drawn, from the same random numbers in all steps; 0 takes what is most
            probable. By default 1 for speech and 0 otherwise.
        seed: seed of all random draws.
        shards: folder or address of the shards of the split; by default those that the model was trained on, if they
            were named on this machine before.
        device: where to compute; auto takes a GPU if there is one.

    Returns:
        The files that were written.

    Raises:
        UserError: an option makes no sense, the model has no latents, or a file cannot be read or written.
    """
    check_options(steps, temperature, seed)
    trained = load_checkpoint(Path(checkpoint), pick_device(device))
    if temperature is None:
        temperature = default_temperature(trained)
    mixtures = draw_mixtures(trained, first, last, steps, temperature, seed, shards)
    template = Sample(
        kind="interpolation",
        seed=seed,
        observation_temperature=temperature,
        source=" to ".join(map(name_of, (first, last))),
        checkpoint_step=trained.step,
        command=command_line(),
    )
    write = {"waveform": write_speech, "binary": write_pictures, "tokens": write_sentences}[trained.manifest.kind]
    return write(Path(out), template, mixtures, trained.manifest)


def check_options(steps: int, temperature: float | None, seed: int) -> None:
    """Raises UserError if an option makes no sense."""
    if steps < 2:
        raise UserError(f"--steps {steps}: must be 2 or more")
    if temperature is not None and not 0 <= temperature < float("inf"):
        raise UserError(f"--temperature {temperature}: must be 0 or more")
    if seed < 0:
        raise UserError(f"--seed {seed}: must be 0 or more")


def name_of(given: AudioInput | None) -> str:
    """What samples.json calls an end."""
    if given is None:
        return "a sample"
    return str(given) if isinstance(given, str | Path) else "a waveform"


def default_temperature(trained: Checkpoint) -> float:
    """That of frames: the mean of a density of speech is silence, but the most probable picture is a picture."""
    return 1.0 if trained.manifest.kind == "waveform" else 0.0


def draw_mixtures(
    trained: Checkpoint,
    first: Source | None,
    last: Source | None,
    steps: int,
    temperature: float,
    seed: int,
    shards: str = "",
) -> list[GeneratedWaveform]:
    """Decode mixtures of the latents of two recordings, pictures or sentences; the arguments are those of the command.

    Raises:
        UserError: the model has no latents, or what is given cannot be read.
    """
    model, manifest = trained.model, trained.manifest
    require_latents(model)
    begin, end = (
        read_latents(
            model, manifest, draw_end(trained, seed, index) if given is None else read_end(given, trained, shards)
        )
        for index, given in enumerate((first, last))
    )
    paths = mix(begin, end, steps)
    samples = paths.shape[1] * manifest.frame_size
    return join_blocks(to_blocks(decode(model, paths, temperature, seed), samples, manifest), samples, steps)


def read_end(given: Source, trained: Checkpoint, shards: str) -> Values:
    """The values of a recording, a picture or a sentence, whole frames. Raises UserError if it cannot be read."""
    values = read_values(given, trained, shards)
    return np.pad(values, (0, -len(values) % trained.manifest.frame_size))


def draw_end(trained: Checkpoint, seed: int, index: int) -> Values:
    """A sample of the model: sample 0 or 1 of the seed."""
    manifest = trained.manifest
    length = MOST_WORDS
    if manifest.kind == "waveform":
        length = whole_frames(DEFAULT_SECONDS, manifest)
    elif manifest.kind == "binary":
        length = math.prod(size_of(manifest))
    values = list(sample_speech(trained.model, manifest, length, Temperatures(), seed, index + 1))[index].waveform
    if manifest.kind == "tokens" and END in values:
        return values[: int(np.argmax(values == END)) + 1]
    return values


def write_speech(folder: Path, template: Sample, mixtures: list[GeneratedWaveform], manifest: Manifest) -> list[Sample]:
    """Write each step as a WAV file with its picture."""
    listed = read_sample_list(folder)
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for index, mixture in enumerate(mixtures):
        sample = replace(template, file=f"interpolation-{index:03d}.wav", index=index)
        with SampleWriter(folder, sample, listed, manifest) as writer:
            writer.write(mixture.waveform, mixture.clipped, mixture.diverged_at)
            written.append(writer.keep())
    return [sample for sample in written if sample is not None]


def write_pictures(
    folder: Path, template: Sample, mixtures: list[GeneratedWaveform], manifest: Manifest
) -> list[Sample]:
    """Write all steps side by side as one PNG file."""
    tiles = [(mixture.waveform.reshape(size_of(manifest)) * 255).astype(np.uint8) for mixture in mixtures]
    sample = replace(template, file="interpolations.png")
    write_listed(folder, sample, png(grid(tiles, len(tiles))))
    print(f"{folder / sample.file}: {len(tiles)} pictures side by side")
    return [sample]


def write_sentences(
    folder: Path, template: Sample, mixtures: list[GeneratedWaveform], manifest: Manifest
) -> list[Sample]:
    """Write each step as a line of a text file, and print it."""
    text = "\n".join(as_text(mixture.waveform, manifest) for mixture in mixtures)
    print(text)
    sample = replace(template, file="interpolations.txt")
    write_listed(folder, sample, f"{text}\n".encode())
    print(f"{folder / sample.file}: {len(mixtures)} sentences")
    return [sample]
