"""A server that misbehaves in many ways while training reads its shards."""

import random
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from unittest import mock

import misbehaving_server as bad

from zfaudio.config import DataConfig
from zfaudio.data import http_stream, storage
from zfaudio.data.loader import TrainingStream
from zfaudio.data.manifest import read_manifest
from zfaudio.errors import UserError

SECONDS = 10.0  # that one batch may take, with the shorter waits below
PASSING: list[Callable[[], bad.Fault]] = [
    *[partial(bad.status, code) for code in (500, 502, 503, 504, 429)],
    *[partial(bad.cut, share) for share in (0.0, 0.1, 0.5, 0.9)],
    *[partial(bad.stall, share) for share in (0.0, 0.5)],
    lambda: bad.silence,
    lambda: bad.hang_up,
    lambda: bad.chunked_cut,
]
LASTING: dict[str, bad.Fault] = {
    "404": bad.status(404),
    "500": bad.status(500),
    "stalled": bad.silence,
    "closed the connection": bad.hang_up,
    "another part": bad.wrong_part,
    "damaged": bad.unmarked_cut,
}


def http_faults(folder: Path, seed: int) -> list[str]:
    """What went wrong: other batches than from the disk, a hang, or another error than the one that is meant."""
    from speech import make_shards

    make_shards(folder, utterances=40, frames=400, utterances_per_shard=4)
    waits = {"CONNECT_TIMEOUT": 1.0, "READ_TIMEOUT": 0.5, "FIRST_WAIT": 0.05, "LONGEST_WAIT": 0.5}
    with mock.patch.multiple(http_stream, **waits), mock.patch.object(storage, "RETRY", 3.0):
        return survived(folder, random.Random(seed)) + said(folder)


def survived(folder: Path, rng: random.Random) -> list[str]:
    """Each shard is first sent with a fault that passes, by a server with ranges and by one without."""
    manifest, problems = read_manifest(folder), []
    for ranges in (True, False):
        with bad.serve(folder, ranges) as server:
            faults = [make() for make in PASSING]
            rng.shuffle(faults)
            names = [shard.name for shard in manifest.split("train").shards]
            for i, fault in enumerate(faults):
                server.faults[names[i % len(names)]].append(fault)
            near, far = (
                TrainingStream(place, manifest, DataConfig(), 4, 20, seed=0) for place in (folder, server.address)
            )
            for _ in range(300):
                expected, started = next(near), time.monotonic()
                if not next(far).frames.equal(expected.frames):
                    problems.append("a batch differs from the one that is read from the disk")
                if time.monotonic() - started > SECONDS:
                    problems.append("a batch took too long")
            del near, far
            bad.wait_for_loaders()
            if any(server.faults.values()):
                problems.append("not all faults happened")
    return problems


def said(folder: Path) -> list[str]:
    """A fault that lasts ends in an error that says what it is."""
    problems = []
    manifest = read_manifest(folder)
    for word, fault in LASTING.items():
        with bad.serve(folder) as server:
            for shard in manifest.split("train").shards:
                server.always[shard.name] = fault
            started = time.monotonic()
            try:
                next(TrainingStream(server.address, manifest, DataConfig(), 4, 20, seed=0))
                problems.append(f"{word}: read")
            except UserError as error:
                if word not in str(error):
                    problems.append(f"{word}: {error}")
            if time.monotonic() - started > SECONDS:
                problems.append(f"{word}: took too long")
    return problems
