"""Fixtures of all tests of the hub: an experiment, a stand-in for the hub, and the experiment on it."""

import pytest
from hub_server import Hub, made_experiment, talk_to

import zfaudio


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return made_experiment(tmp_path_factory.mktemp("made"))


@pytest.fixture
def hub(tmp_path, monkeypatch):
    with Hub() as running:
        talk_to(running, tmp_path, monkeypatch)
        yield running


@pytest.fixture
def pushed(hub, made):
    zfaudio.push(made, "user/name", license="apache-2.0")
    return hub.models["user/name"]
