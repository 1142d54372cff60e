import shutil
import stat
import subprocess

import numpy as np
import pytest
from speech import speech

from zfaudio.evaluation.lossless_coders import AT_ONCE, WavPack, wavpack_size


def put_on_path(folder, monkeypatch, script):
    """Make a program wavpack the only one that is found; the script is run by sh."""
    program = folder / "wavpack"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(shutil, "which", lambda name: str(program) if name == "wavpack" else None)


def total_of(waveforms):
    with WavPack(16_000) as coder:
        for waveform in waveforms:
            coder.add(waveform)
        return coder.size()


def test_sizes_of_all_waveforms_are_added(tmp_path, monkeypatch):
    put_on_path(tmp_path, monkeypatch, "cat")
    assert total_of(np.zeros(n, np.int16) for n in range(2 * AT_ONCE)) == sum(2 * n for n in range(2 * AT_ONCE))


def test_there_is_no_size_without_the_program(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert total_of([np.zeros(5, np.int16)]) is None


def test_there_is_no_size_if_the_program_fails_at_one(tmp_path, monkeypatch):
    put_on_path(tmp_path, monkeypatch, 'size=$(wc -c); [ "$size" -eq 10 ] && exit 1; echo "$size"')
    assert total_of([np.zeros(n, np.int16) for n in (4, 5, 6)]) is None


@pytest.mark.skipif(shutil.which("wvunpack") is None, reason="WavPack is not installed")
def test_a_coded_waveform_can_be_decoded():
    waveform = speech(8_000, seed=3)
    options = ["-hh", "-x6", "-q", "-y", "--raw-pcm=16000,16,1", "-", "-o", "-"]
    coded = subprocess.run(["wavpack", *options], input=waveform.tobytes(), capture_output=True, check=True).stdout
    decoded = subprocess.run(["wvunpack", "-q", "-r", "-", "-o", "-"], input=coded, capture_output=True, check=True)
    assert decoded.stdout == waveform.tobytes()
    assert wavpack_size(shutil.which("wavpack"), waveform, 16_000) == len(coded)
