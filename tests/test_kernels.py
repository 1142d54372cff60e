"""The kernels that numba compiles stay inside their arrays, whatever they are given."""

import os
import subprocess
import sys
from pathlib import Path


def test_the_kernels_stay_inside_their_arrays(tmp_path):
    # Kernels are cached without regard to bounds checking, so this process has a cache of its own.
    environment = {**os.environ, "NUMBA_BOUNDSCHECK": "1", "NUMBA_CACHE_DIR": str(tmp_path)}
    tests = Path(__file__).with_name("kernel_inputs.py")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tests)]
    done = subprocess.run(command, env=environment, cwd=tests.parents[1], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "17 passed" in done.stdout
