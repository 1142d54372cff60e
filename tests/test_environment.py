"""What is set for the libraries beneath, and what is left to the user."""

import os
import platform
import subprocess
import sys

import pytest

from zfaudio.environment import SETTINGS, prepare_environment


def clear(monkeypatch):
    for name in (*SETTINGS, "OMP_WAIT_POLICY"):
        monkeypatch.setenv(name, "")  # so that it is put back
        monkeypatch.delenv(name)


def test_what_is_not_set_is_set(monkeypatch):
    clear(monkeypatch)
    prepare_environment()
    assert {name: os.environ[name] for name in SETTINGS} == SETTINGS


def test_what_the_user_has_set_stays(monkeypatch):
    clear(monkeypatch)
    monkeypatch.setenv("GOMP_SPINCOUNT", "7")
    prepare_environment()
    assert os.environ["GOMP_SPINCOUNT"] == "7"


def test_a_policy_of_the_users_is_not_overridden(monkeypatch):
    clear(monkeypatch)
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    prepare_environment()
    assert "GOMP_SPINCOUNT" not in os.environ
    assert "THP_MEM_ALLOC_ENABLE" in os.environ


def page_faults(source: str, **environment: str) -> int:
    """Of a fresh process that calls `source` ten times after the first: memory it took from the system anew."""
    program = f"""
import resource
from zfaudio.environment import prepare_environment
prepare_environment()
{source}
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    {source}
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
    # Dask, which another test starts, leaves a MALLOC_ variable in the environment.
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    done = subprocess.run(
        [sys.executable, "-c", program], env=clean | environment, capture_output=True, text=True, check=True
    )
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries decide for themselves")
def test_memory_that_a_tensor_left_serves_the_next():
    taken = "bytearray(80_000_000)"  # 20,000 pages, or 40 where the system's pages are large
    assert page_faults(taken) < 100
    assert page_faults(taken, MALLOC_ARENA_MAX="2") > 300  # who sets up malloc is left alone
