"""A good file of every format that zfaudio reads, and what reads it."""

from functools import partial
from pathlib import Path

import soundfile
from experiment import make_experiment
from small_runs import run_here, small_run, small_shards
from speech import make_shards, speech, write_corpus, write_data_dir

from tests.faults.mutations import Format
from zfaudio.config import RunConfig
from zfaudio.corpus.audio import open_audio, read_samples
from zfaudio.corpus.kaldi import load_utterances, read_data_dir
from zfaudio.data.manifest import read_manifest
from zfaudio.data.shard_reader import read_utterances
from zfaudio.evaluation.evaluate import evaluate
from zfaudio.experiment.checkpoint import find_checkpoint, load_checkpoint
from zfaudio.experiment.config_file import read_config
from zfaudio.experiment.metrics import MetricsLog, read_metrics
from zfaudio.experiment.results import read_result
from zfaudio.generation.generate import generate
from zfaudio.generation.samples import read_sample_list
from zfaudio.training.run import Training

# Name, suffix, and what soundfile calls the format.
AUDIO = (
    ("wav", ".wav", {"format": "WAV", "subtype": "PCM_16"}),
    ("wav-float", ".wav", {"format": "WAV", "subtype": "FLOAT"}),
    ("flac", ".flac", {"format": "FLAC"}),
    ("ogg", ".ogg", {"format": "OGG", "subtype": "VORBIS"}),
    ("opus", ".opus", {"format": "OGG", "subtype": "OPUS"}),
    ("mp3", ".mp3", {"format": "MP3"}),
    ("sphere", ".sph", {"format": "NIST", "subtype": "PCM_16"}),
    ("aiff", ".aiff", {"format": "AIFF", "subtype": "PCM_16"}),
    ("au", ".au", {"format": "AU", "subtype": "PCM_16"}),
    ("w64", ".w64", {"format": "W64", "subtype": "PCM_16"}),
    ("caf", ".caf", {"format": "CAF", "subtype": "ALAC_16"}),
    ("gsm", ".wav", {"format": "WAV", "subtype": "GSM610"}),
)


def read_recording(path: Path) -> None:
    with open_audio(path) as sound:
        read_samples(sound)


def read_shards_of(folder: Path) -> None:
    for _ in read_utterances(str(folder), "train"):
        pass


def read_tables(folder: Path) -> None:
    for _ in load_utterances(read_data_dir(folder), 16000):
        pass


def resume_run(config: RunConfig, exp: Path) -> None:
    """Continue a stopped run for a step, which uses all that its checkpoint holds."""
    training = Training(config, exp, resume=True)
    training.train_step()
    training.close()


def make_formats(folder: Path) -> list[Format]:
    """Good files in a folder."""
    formats = []
    for name, suffix, options in AUDIO:
        path = folder / f"{name}{suffix}"
        soundfile.write(path, speech(16000) / 32768, 16000, **options)
        formats.append(Format(name, path, "", read_recording))

    shards = Path(make_shards(folder / "shards", frames=40, frame_size=20))
    shard = next(shards.glob("train-*.tar")).name
    formats.append(Format("shard", shards, shard, read_shards_of))
    formats.append(Format("manifest", shards, "manifest.json", lambda path: read_manifest(str(path))))

    exp = make_experiment(folder / "experiment")
    checkpoint = load_checkpoint(exp).path
    formats.append(Format("weights", checkpoint, "model.safetensors", load_checkpoint))
    formats.append(Format("configuration", checkpoint, "config.yaml", load_checkpoint))
    formats.append(Format("run's settings", exp, "config.yaml", lambda path: read_config(path / "config.yaml")))
    formats.append(Format("label", checkpoint, "checkpoint.json", load_checkpoint))
    formats.append(Format("record", exp, "checkpoints.json", load_checkpoint))
    stopped = folder / "stopped"
    run_here(small_run(small_shards(folder / "small"), train__max_steps=5), stopped)
    training = find_checkpoint(stopped / "last").relative_to(stopped.resolve()) / "training.pt"
    resume_small = partial(resume_run, small_run(str(folder / "small"), train__max_steps=6))
    formats.append(Format("training state", stopped, str(training), resume_small))
    evaluate(exp, json=folder / "result.json")
    formats.append(Format("result", folder / "result.json", "", read_result))
    generate(exp, out=folder / "samples", num=2, seconds=0.05)
    formats.append(Format("samples", folder / "samples", "samples.json", read_sample_list))
    log = MetricsLog(folder / "metrics.csv", 0)
    for step in range(1, 50):
        log.append({"step": step, "split": "train", "nats_per_frame": -1.5 * step, "skipped": 0})
    formats.append(Format("metrics", folder / "metrics.csv", "", read_metrics))

    tables = write_data_dir(folder / "tables", write_corpus(folder / "recordings"))
    formats += [Format(f"kaldi {name}", tables, name, read_tables) for name in ("wav.scp", "utt2spk")]
    return formats
