"""What is set for the libraries beneath, and what is left to the user."""

import os

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
