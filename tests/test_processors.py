"""A processor that cannot multiply bfloat16, simulated by telling oneDNN and torch to use AVX2 only."""

import os
import subprocess
import sys

import pytest
from small_runs import log_rows, small_shards


@pytest.fixture(scope="module")
def shards(tmp_path_factory) -> str:
    return small_shards(tmp_path_factory.mktemp("shards"))


@pytest.mark.parametrize("core", ["plain", "fast"])
def test_training_in_bfloat16_needs_no_avx512(shards, tmp_path, core):
    options = {
        "data.shards": shards,
        "model.name": "srnn",
        "model.hidden_size": 12,
        "model.latent_size": 4,
        "model.embedding_size": 8,
        "model.mlp_size": 8,
        "model.core": core,
        "train.device": "cpu",
        "train.precision": "bf16",
        "train.batch_size": 3,
        "train.max_steps": 2,
        "train.log_every": 1,
    }
    command = [sys.executable, "-m", "zfaudio", "train", "--exp", str(tmp_path / "exp")]
    run = subprocess.run(
        command + [f"--{name}={value}" for name, value in options.items()],
        env=os.environ | {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    steps = [row["step"] for row in log_rows(tmp_path / "exp") if row["split"] == "train"]
    assert steps == ["1", "2"]
