"""Shards over HTTP from a server that misbehaves: what can pass is waited for, and the rest is said as it is."""

import logging
import re
import time
from collections.abc import Iterator
from pathlib import Path

import misbehaving_server as bad
import numpy as np
import pytest
from misbehaving_server import Server, serve
from speech import make_shards

from zfaudio.config import DataConfig
from zfaudio.data import http_stream, manifest, storage
from zfaudio.data.loader import TrainingStream
from zfaudio.data.manifest import check_shards, read_manifest
from zfaudio.data.shard_reader import read_utterances
from zfaudio.errors import UserError

SHARD = "train-000000.tar"


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_stream, "CONNECT_TIMEOUT", 1.0)
    monkeypatch.setattr(http_stream, "READ_TIMEOUT", 0.5)
    monkeypatch.setattr(http_stream, "FIRST_WAIT", 0.02)
    monkeypatch.setattr(http_stream, "LONGEST_WAIT", 0.2)
    monkeypatch.setattr(storage, "RETRY", 1.5)
    monkeypatch.setattr(manifest, "RETRY_MANIFEST", 1.0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards of some 100 kB each."""
    return Path(make_shards(tmp_path_factory.mktemp("shards"), utterances=6, frames=800))


@pytest.fixture(params=[True, False], ids=["ranges", "no ranges"])
def server(request: pytest.FixtureRequest, folder: Path) -> Iterator[Server]:
    """A server that can send parts of files, and one that cannot."""
    with serve(folder, ranges=request.param) as server:
        yield server


def frames(location: str | Path) -> np.ndarray:
    return np.concatenate([utterance.frames for utterance in read_utterances(location, "train")])


def check_read(server: Server) -> None:
    """All training frames arrive as they are on the disk."""
    np.testing.assert_array_equal(frames(server.address), frames(server.folder))


def failure(server: Server) -> str:
    """What is said when the training frames cannot be read."""
    with pytest.raises(UserError) as caught:
        frames(server.address)
    message = str(caught.value)
    assert message.startswith(f"{server.address}/{SHARD}: ")
    assert message.isprintable()
    return message


# What passes


@pytest.mark.parametrize(
    "faults",
    [
        [bad.status(500)],
        [bad.status(503), bad.status(502), bad.status(429)],
        [bad.cut(0.5)],
        [bad.cut(0.9), bad.cut(0.5), bad.status(500), bad.cut(0.0)],
        [bad.stall(0.5)],
        [bad.silence],
        [bad.hang_up],
        [bad.chunked_cut, bad.hang_up],
    ],
    ids=["500 once", "busy", "cut", "cut again and again", "stall", "silence", "hung up", "cut in chunks"],
)
def test_what_passes_is_waited_for(server, faults):
    server.faults[SHARD] = list(faults)
    check_read(server)
    assert not server.faults[SHARD]


@pytest.mark.parametrize("faults", [[bad.status(500)], [bad.cut(0.5)], [bad.stall(0.5)]], ids=["500", "cut", "stall"])
def test_the_manifest_is_waited_for_as_well(server, faults):
    server.faults["manifest.json"] = list(faults)
    assert read_manifest(server.address) == read_manifest(server.folder)


@pytest.mark.parametrize("ranges", [True, False])
def test_only_the_rest_is_requested_again(tmp_path, ranges):
    make_shards(tmp_path, utterances=3, frames=40_000)  # much more than what is lost when a connection breaks
    with serve(tmp_path, ranges) as server:
        server.faults[SHARD] = [bad.cut(0.5), bad.cut(0.5)]
        check_read(server)
    first, *rest = [part for name, part in server.requests if name == SHARD]
    assert first is None
    starts = [int(part.removeprefix("bytes=").removesuffix("-")) for part in rest]
    size = (tmp_path / SHARD).stat().st_size
    assert len(starts) == 2
    assert 0 < starts[0] <= size // 2
    if ranges:  # the second cut is at half of the rest
        assert starts[0] < starts[1] <= size


def test_a_shard_is_requested_once_if_all_is_well(server):
    check_read(server)
    assert server.requests == [("manifest.json", None), (SHARD, None), ("train-000001.tar", None)]


def test_training_goes_on_through_failures(server):
    manifest = read_manifest(server.folder)
    for name in (SHARD, "train-000001.tar"):
        server.faults[name] = [bad.status(500), bad.cut(0.3), bad.stall(0.3), bad.cut(0.3)]
    streams = [
        TrainingStream(where, manifest, DataConfig(), 3, 50, seed=0) for where in (server.folder, server.address)
    ]
    for _ in range(60):
        near, far = map(next, streams)
        assert near.utterances == far.utterances
        assert near.frames.equal(far.frames)
    assert not any(server.faults.values())
    del streams
    bad.wait_for_loaders()


def test_the_sums_of_shards_are_checked_through_failures(server):
    server.faults[SHARD] = [bad.cut(0.5)]
    check_shards(server.address, read_manifest(server.folder))


def test_each_retry_is_said(server, caplog):
    server.faults[SHARD] = [bad.status(503), bad.cut(0.5)]
    with caplog.at_level(logging.WARNING):
        check_read(server)
    first, second = (record.getMessage() for record in caplog.records)
    assert first == f"{server.address}/{SHARD}: 503 Service Unavailable; trying again in 0.0 s"
    assert "the server closed the connection before the end; trying again" in second


def test_the_wait_that_a_server_asks_for_is_kept(server):
    server.faults[SHARD] = [bad.status(503, Retry_After="1")]
    assert bad.seconds_of(lambda: check_read(server)) > 1


def test_a_slow_reader_is_no_stall(tmp_path):
    """The reader stops for longer than any time-out, as training does for a validation."""
    make_shards(tmp_path, utterances=3, frames=24_000)
    found = []
    with serve(tmp_path) as server:
        for utterance in read_utterances(server.address, "train"):
            time.sleep(0.8)
            found.append(utterance.frames)
    np.testing.assert_array_equal(np.concatenate(found), frames(tmp_path))


# What does not pass


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (bad.status(500), r"cannot be opened \(500 Internal Server Error, \d+ times in \d s\)"),
        (bad.status(404), r"cannot be opened \(404 Not Found\)"),
        (bad.status(403), r"cannot be opened \(403 Forbidden\)"),
        (bad.status(204), r"cannot be opened \(204 No Content\)"),
        (bad.silence, r"cannot be opened \(the server stalled: no data for 0 s, \d times in \d s\)"),
        (bad.hang_up, r"cannot be opened \(the server closed the connection before the end, \d+ times in \d s\)"),
        (bad.drip, r"reading broke off after [\d,]+ of [\d,]+ bytes \(the server stalled: [\d,]+ bytes in \d s\)"),
        (bad.unmarked_cut, r"damaged \("),
        (bad.wrong_part, "cannot be opened .the server sent another part of the file"),
    ],
    ids=["500", "404", "403", "204", "silence", "hung up", "drip", "unmarked cut", "wrong part"],
)
def test_what_lasts_is_said_as_it_is(server, fault, said):
    server.always[SHARD] = fault
    start = time.monotonic()
    message = failure(server)
    assert time.monotonic() - start < 6
    assert re.search(said, message), message


@pytest.mark.parametrize(
    ("then", "said"),
    [
        (bad.status(500), r"\(500 Internal Server Error, \d+ times in \d s\)"),
        (bad.status(404), r"\(404 Not Found\)"),
        (bad.silence, r"\(the server stalled: no data for 0 s, \d times in \d s\)"),
        (bad.cut(0.0), r"\(the server closed the connection before the end, \d+ times in \d s\)"),
        (bad.other_version, r"\(the file changed on the server while it was read\)"),
    ],
    ids=["500", "404", "silence", "cut", "other version"],
)
def test_a_body_that_breaks_off_for_good_is_said_as_it_is(server, then, said):
    server.faults[SHARD] = [bad.cut(0.5)]
    server.always[SHARD] = then
    start = time.monotonic()
    message = failure(server)
    assert time.monotonic() - start < 6
    size = (server.folder / SHARD).stat().st_size
    assert re.search(rf"reading broke off after [\d,]+ of {size:,} bytes {said}", message), message


def test_a_body_that_stalls_for_good_ends_in_bounded_time(server):
    server.always[SHARD] = bad.stall(0.5)
    start = time.monotonic()
    message = failure(server)
    assert "stalled" in message or "broke off" in message
    assert time.monotonic() - start < 15


def test_a_file_that_is_shorter_than_it_says_is_a_cut_body(server):
    def too_long(request: bad.Request, content: bytes) -> None:
        request.answer(200, content, length=len(content) + 10_000)
        request.hang_up()

    server.always["test-000000.tar"] = too_long
    with pytest.raises(UserError, match=r"test-000000\.tar: reading broke off after .* \(the server"):
        check_shards(server.address, read_manifest(server.folder), ["test"])


def test_a_file_that_is_longer_than_it_says_is_damaged(server):
    def too_short(request: bad.Request, content: bytes) -> None:
        request.answer(200, content[: len(content) // 2])

    server.always[SHARD] = too_short
    assert "damaged (" in failure(server)


def test_a_dead_server_is_given_up_soon():
    start = time.monotonic()
    with pytest.raises(UserError, match=r"http://127.0.0.1:1/shards/manifest.json: cannot be opened \(.*Connect call"):
        read_manifest("http://127.0.0.1:1/shards")
    assert time.monotonic() - start < 6
