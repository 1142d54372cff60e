"""Fixtures of the tests of 8-bit mu-law: a small corpus, and shards of it."""

from pathlib import Path

import pytest
from speech import write_corpus

import zfaudio


@pytest.fixture(scope="module")
def spoken_corpus(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    write_corpus(folder, speakers=4, recordings=3)
    return folder


@pytest.fixture(scope="module")
def mulaw_shards(spoken_corpus, tmp_path_factory) -> str:
    out = tmp_path_factory.mktemp("shards") / "mulaw"
    zfaudio.shard(spoken_corpus, out, frame_size=20, encoding="mulaw")
    return str(out)
