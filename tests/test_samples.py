"""Files of generated speech: written while it is generated, and whole whatever happens."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from experiment import RATE, make_experiment
from PIL import Image
from speech import speech

from zfaudio.errors import UserError
from zfaudio.experiment.checkpoint import load_checkpoint
from zfaudio.generation import posterior
from zfaudio.generation.generate import generate
from zfaudio.generation.samples import Sample, read_sample_list
from zfaudio.generation.writing import SampleWriter


@pytest.fixture(scope="module")
def exp(tmp_path_factory):
    return make_experiment(tmp_path_factory.mktemp("model"))


def whole_samples(folder: Path) -> dict[str, Sample]:
    """Check that every file of a folder is whole and is what samples.json says; returns what it lists."""
    for path in folder.iterdir():
        if path.name.startswith("."):
            continue  # a part that nobody takes for a file
        if path.suffix == ".wav":
            with soundfile.SoundFile(path) as sound:
                assert len(sound.read()) == sound.frames > 0
                assert path.stat().st_size == 44 + 2 * sound.frames
        elif path.suffix == ".png":
            Image.open(path).load()
        else:
            assert path.name == "samples.json"
            json.loads(path.read_text())
    listed = read_sample_list(folder)
    for name, sample in listed.items():
        samples, rate = soundfile.read(folder / name, dtype="int16")
        assert sample.seconds == len(samples) / rate
        assert sample.peak == np.abs(samples.astype(int)).max()
        assert (folder / name).with_suffix(".png").exists()
    return listed


# Each child generates into the folder; it is killed at a random moment of that.
CHILDREN = """
import os, sys
from zfaudio.generation.generate import generate
generate({exp!r}, out={out!r} + "-before", num=1, seconds=0.2, device="cpu")  # the first call imports and loads
sys.stdout.write("\\nready\\n"); sys.stdout.flush()
for line in sys.stdin:
    child = os.fork()
    if child == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        for number in range(100):
            generate({exp!r}, out={out!r}, num=3, seconds=0.2 + 0.1 * (number % 3), seed=number, device="cpu")
    sys.stdout.write(str(child) + "\\n"); sys.stdout.flush()
"""


def test_nothing_is_torn_whenever_generation_is_killed(exp, tmp_path):
    out = tmp_path / "out"
    rng = random.Random(0)
    program = CHILDREN.format(exp=str(exp), out=str(out))
    parent = subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert parent.stdin is not None
    assert parent.stdout is not None
    try:
        assert "ready\n" in iter(parent.stdout.readline, "")
        listed = 0
        for kills in range(150):
            if kills >= 15 and listed:
                break
            parent.stdin.write("next\n")
            parent.stdin.flush()
            child = int(parent.stdout.readline())
            time.sleep(rng.uniform(0.02, 0.8) * (1 + kills // 15))  # a busy machine may write nothing at first
            os.kill(child, signal.SIGKILL)
            if out.exists():
                listed += len(whole_samples(out))
        assert listed > 0
    finally:
        parent.stdin.close()
        parent.wait()


def test_a_file_that_is_being_replaced_is_not_described_by_its_old_entry(exp, tmp_path):
    """Whoever reads the folder between the new file and its entry finds none, rather than that of the old file."""
    generate(exp, out=tmp_path, num=2, seconds=0.05)
    manifest = load_checkpoint(exp).manifest
    listed = read_sample_list(tmp_path)
    found = []

    class Picture(SampleWriter):
        def _disk_errors(self):  # called before the file is closed and moved to its place
            found.append(set(read_sample_list(tmp_path)))
            return super()._disk_errors()

    with Picture(tmp_path, Sample("sample", "sample-000.wav", seed=9), listed, manifest) as writer:
        writer.write(speech(800))
        assert read_sample_list(tmp_path)["sample-000.wav"].seed == 0
        writer.keep()
    assert found[-1] == {"sample-001.wav"}
    assert whole_samples(tmp_path)["sample-000.wav"].seed == 9


@pytest.mark.parametrize("failing", ["write", "keep", "elsewhere"])
def test_a_sample_that_cannot_be_written_leaves_the_old_one(exp, tmp_path, monkeypatch, failing):
    generate(exp, out=tmp_path, num=1, seconds=0.05)
    before = (tmp_path / "sample-000.wav").read_bytes()

    def fail(*arguments: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    if failing == "write":
        error = soundfile.LibsndfileError(2)
        monkeypatch.setattr(soundfile.SoundFile, "write", lambda *arguments: (_ for _ in ()).throw(error))
    elif failing == "keep":
        monkeypatch.setattr(os, "fsync", fail)
    else:
        monkeypatch.setattr("zfaudio.generation.speech.write_sample_list", fail)
        with pytest.raises(OSError, match="No space left"):
            generate(exp, out=tmp_path, num=1, seconds=0.1, seed=1)
        assert whole_samples(tmp_path)["sample-000.wav"].seed == 1
        return
    with pytest.raises(UserError, match=r"(sample-000\.wav: cannot be written|samples\.json: No space left)"):
        generate(exp, out=tmp_path, num=1, seconds=0.1, seed=1)
    assert (tmp_path / "sample-000.wav").read_bytes() == before
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("model", ["zforcing", "srnn", "vrnn", "rnn"])
def test_a_long_recording_is_read_in_chunks_and_gives_the_same_speech(tmp_path, monkeypatch, model):
    exp = make_experiment(tmp_path, model=model)
    soundfile.write(tmp_path / "spoken.wav", speech(2 * RATE), RATE)
    for name, frames_at_once in (("whole", 10_000), ("chunks", 100)):
        monkeypatch.setattr(posterior, "FRAMES_AT_ONCE", frames_at_once)
        for number, option in enumerate(("prompt", "reconstruct")):
            out = tmp_path / name / str(number)
            generate(exp, out=out, num=2, seconds=0.1, device="cpu", **{option: tmp_path / "spoken.wav"})
    for path in (tmp_path / "whole").rglob("*.wav"):
        whole = soundfile.read(path, dtype="int16")[0].astype(int)
        chunks = soundfile.read(tmp_path / "chunks" / path.relative_to(tmp_path / "whole"), dtype="int16")[0]
        assert np.abs(whole - chunks).max() <= 1, path


MEASURE = """
import resource, sys
from zfaudio.generation.generate import generate
for seconds in (1, 45):
    generate({exp!r}, out={out!r}, num=2, seconds=seconds, device="cpu")
    print("MAXRSS", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def test_memory_does_not_grow_with_the_length_of_the_speech(exp, tmp_path):
    """45 seconds of two samples are 3 MB as files, and took 20 MB in memory, with their pictures."""
    program = MEASURE.format(exp=str(exp), out=str(tmp_path / "out"))
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    short, long = (int(peak) / 1024 for peak in re.findall(r"MAXRSS (\d+)", ran.stdout))
    assert long - short < 10  # MB
    assert len(whole_samples(tmp_path / "out")) == 2
