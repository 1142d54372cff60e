"""Kill commands at random moments, run them again, and see that nothing is torn and the end is the same."""

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import soundfile

ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}


def start(words: list[str]) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "zfaudio", *words]
    # A session of its own, so that worker processes die with it.
    return subprocess.Popen(
        command, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )


def kill_until_done(
    words: Callable[[], list[str]], check: Callable[[], list[str]], kills: int, rng: random.Random, seconds: float
) -> tuple[int, list[str]]:
    """Start a command, kill it after a random time, look at what it left; until so many kills.

    Args:
        words: the command line of the next start, which may depend on what is there.
        check: what is torn, in words.
        kills: how many.
        rng: source of the moments.
        seconds: the longest time a run is left alive.

    Returns:
        How many runs were killed, and everything that was torn.
    """
    torn: list[str] = []
    killed = 0
    while killed < kills:
        process = start(words())
        time.sleep(rng.uniform(0, seconds))
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            killed += 1
        process.wait()
        torn += check()
    return killed, torn


def finish(words: list[str]) -> list[str]:
    """Run a command to its end; what went wrong."""
    run = subprocess.run([sys.executable, "-m", "zfaudio", *words], env=ENVIRONMENT, capture_output=True, text=True)
    return [] if run.returncode == 0 else [f"{' '.join(words)}: {run.stderr.strip().splitlines()[-1]}"]


def hashes(folder: Path, pattern: str) -> dict[str, str]:
    """SHA-256 of the files of a folder by their names."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.glob(pattern))}


def torn_shards(out: Path) -> list[str]:
    """Shards that stand under their final names and cannot be read, or a manifest that names what is not there."""
    from zfaudio.data.manifest import read_manifest
    from zfaudio.data.shard_reader import read_utterances
    from zfaudio.errors import UserError

    if not (out / "manifest.json").exists():
        return []
    try:
        for split in read_manifest(str(out)).splits:
            for _ in read_utterances(str(out), split):
                pass
    except UserError as error:
        return [str(error)]
    return []


def torn_experiment(exp: Path) -> list[str]:
    """What of an experiment cannot be read, where it has a checkpoint."""
    from zfaudio.errors import UserError
    from zfaudio.experiment.checkpoint import find_checkpoint, load_checkpoint
    from zfaudio.experiment.metrics import read_metrics

    try:
        read_metrics(exp / "metrics.csv")
        if (exp / "checkpoints").is_dir() and any((exp / "checkpoints").glob("step-*[0-9]")):
            find_checkpoint(exp)
            load_checkpoint(exp)
    except UserError as error:
        return [str(error)]
    return []


def torn_samples(folder: Path) -> list[str]:
    """WAV files, pictures and the list of samples that cannot be read, and files that the list names in vain."""
    from zfaudio.errors import UserError
    from zfaudio.generation.samples import read_sample_list

    torn = []
    for path in folder.glob("[!.]*.wav"):
        try:
            soundfile.read(path)
        except soundfile.LibsndfileError as error:
            torn.append(f"{path}: {error}")
    for path in folder.glob("[!.]*.png"):
        if not path.read_bytes().endswith(b"IEND\xaeB`\x82"):
            torn.append(f"{path}: cut short")
    listed = folder / "samples.json"
    if listed.exists():
        try:
            read_sample_list(folder)
            names = [sample["file"] for sample in json.loads(listed.read_text())["samples"]]
            torn += [f"{listed}: names {name}, which is not there" for name in names if not (folder / name).exists()]
        except (UserError, ValueError, KeyError) as error:
            torn.append(str(error))
    return torn
