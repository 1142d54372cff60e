"""The format of shards, and reading utterances from them."""

import hashlib
import io
import json
import tarfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import IO

import numpy as np
import pytest
import webdataset
from misbehaving_server import wait_for_loaders
from speech import framed, make_shards, speech

from zfaudio.config import DataConfig
from zfaudio.data import storage
from zfaudio.data.frames import to_frames
from zfaudio.data.loader import TrainingStream
from zfaudio.data.manifest import Shard, check_shards, read_manifest
from zfaudio.data.shard_format import FramedUtterance, write_shard
from zfaudio.data.shard_reader import read_shard, read_utterances
from zfaudio.errors import UserError


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """Serve tmp_path over HTTP and return the address."""
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), partial(QuietHandler, directory=str(tmp_path)))
    thread = threading.Thread(target=httpd.serve_forever, args=(0.02,))
    thread.start()
    yield f"http://127.0.0.1:{httpd.server_port}"
    httpd.shutdown()
    thread.join()
    httpd.server_close()


def write(folder: Path, utterances: list[FramedUtterance]) -> Shard:
    with (folder / "train-000000.tar").open("wb") as stream:
        write_shard(stream, utterances)
    return Shard("train-000000.tar", "", len(utterances), sum(len(utterance.frames) for utterance in utterances))


def same(a: FramedUtterance, b: FramedUtterance) -> bool:
    return (a.id, a.speaker, a.start, a.samples) == (b.id, b.speaker, b.start, b.samples) and np.array_equal(
        a.frames, b.frames
    )


def test_utterances_come_back_as_they_were_written(tmp_path):
    names = ["plain", "dots.in.name", "dots.in", "a.npy", "größe-Ω", "__meta__", "__a__/b", "UPPER", "x" * 300]
    written = [framed(name, 3 + i, 10, seed=i) for i, name in enumerate(names)]
    found = list(read_shard(str(tmp_path), write(tmp_path, written), 10))
    assert len(found) == len(written)
    assert all(map(same, found, written))
    assert {utterance.frames.dtype for utterance in found} == {np.dtype(np.int16)}


def test_webdataset_reads_the_shards(tmp_path):
    written = [framed(f"s-{i}", 5, 10, seed=i) for i in range(4)]
    write(tmp_path, written)
    dataset = webdataset.WebDataset(str(tmp_path / "train-000000.tar"), shardshuffle=False)
    samples = list(dataset)
    assert [sample["__key__"] for sample in samples] == [utterance.id for utterance in written]
    np.testing.assert_array_equal(np.load(io.BytesIO(samples[2]["npy"])), written[2].frames)


def test_a_shard_has_the_bytes_that_tarfile_and_numpy_write():
    """The ids are not ASCII or too long for a tar header; the arrays fill whole blocks or are empty."""
    utterances = [
        FramedUtterance(name, "s", 0.5, samples, to_frames(speech(samples), 32))
        for name, samples in (("ä-1", 700), ("x" * 120, 8000), ("b", 192), ("c", 0))
    ]
    ours, theirs = io.BytesIO(), io.BytesIO()
    digest = write_shard(ours, utterances)
    with tarfile.open(fileobj=theirs, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for utterance in utterances:
            description = {"utterance": utterance.id, "speaker": "s", "samples": utterance.samples, "start": 0.5}
            array = io.BytesIO()
            np.save(array, utterance.frames)
            for suffix, content in (
                ("json", json.dumps(description, ensure_ascii=False).encode()),
                ("npy", array.getvalue()),
            ):
                entry = tarfile.TarInfo(f"{utterance.id}.{suffix}")
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))
    assert ours.getvalue() == theirs.getvalue()
    assert digest == hashlib.sha256(ours.getvalue()).hexdigest()


def test_a_split_is_read_in_shard_order(tmp_path):
    location = make_shards(tmp_path, utterances=7, utterances_per_shard=2)
    names = [utterance.id for utterance in read_utterances(location, "train")]
    assert names == [f"train{i % 3}-{i:03d}" for i in range(7)]
    with pytest.raises(UserError, match="no split 'dev'"):
        list(read_utterances(location, "dev"))


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.5, 0.8])
def test_a_shard_cut_short_is_named(tmp_path, share):
    location = make_shards(tmp_path, utterances=3)
    shard = tmp_path / "train-000000.tar"
    shard.write_bytes(shard.read_bytes()[: int(share * shard.stat().st_size)])
    with pytest.raises(UserError, match=r"train-000000\.tar: damaged"):
        list(read_utterances(location, "train"))


def test_a_shard_cut_between_two_files_is_named(tmp_path):
    location = make_shards(tmp_path, utterances=3, frames=10, frame_size=20)
    shard = tmp_path / "train-000000.tar"
    one_utterance = 2 * 512 + 512 + 1024  # two headers, the description, the array of 400 + 128 bytes
    shard.write_bytes(shard.read_bytes()[:one_utterance])
    with pytest.raises(UserError, match=r"train-000000\.tar: damaged \(1 utterances of 10 frames, not 3 of 30\)"):
        list(read_utterances(location, "train"))


def test_a_shard_of_something_else_is_named(tmp_path):
    location = make_shards(tmp_path, utterances=3)
    for content in (b"no tar at all" * 100, np.random.default_rng(0).bytes(30000)):
        (tmp_path / "train-000000.tar").write_bytes(content)
        with pytest.raises(UserError, match=r"train-000000\.tar: damaged"):
            list(read_utterances(location, "train"))


def test_arrays_of_objects_are_not_unpickled(tmp_path):
    objects = np.array([[{"a": 1}]], dtype=object)
    stream = io.BytesIO()
    np.save(stream, objects, allow_pickle=True)
    with webdataset.TarWriter(str(tmp_path / "train-000000.tar"), encoder=False) as writer:
        writer.write({"__key__": "a", "json": b'{"utterance": "a"}', "npy": stream.getvalue()})
    with pytest.raises(UserError, match="damaged"):
        list(read_shard(str(tmp_path), Shard("train-000000.tar", "", 1, 1), 20))


@pytest.mark.parametrize("array", [np.zeros((3, 20), np.int32), np.zeros(60, np.int16), np.zeros((3, 2, 10), np.int16)])
def test_arrays_that_are_no_int16_frames_are_refused(tmp_path, array):
    utterance = replace(framed("a", 3, 20), frames=array)
    with pytest.raises(UserError, match="does not hold int16 frames"):
        list(read_shard(str(tmp_path), write(tmp_path, [utterance]), 20))


def test_several_threads_read_at_once(tmp_path):
    location = make_shards(tmp_path, utterances=400, frames=2, utterances_per_shard=400)
    with ThreadPoolExecutor(8) as pool:
        counts = pool.map(lambda _: sum(1 for _ in read_utterances(location, "train")), range(16))
        assert list(counts) == [400] * 16


def test_a_missing_shard_is_named(tmp_path):
    location = make_shards(tmp_path, utterances=3)
    (tmp_path / "train-000000.tar").unlink()
    with pytest.raises(UserError, match=r"train-000000\.tar: no such file"):
        list(read_utterances(location, "train"))


def test_shards_are_read_over_http(tmp_path, server):
    local = make_shards(tmp_path / "shards", utterances=5)
    remote = f"{server}/shards/"
    manifest = read_manifest(remote)
    assert manifest == read_manifest(local)
    check_shards(remote, manifest)
    assert all(map(same, read_utterances(remote, "train"), read_utterances(local, "train")))
    streams = [TrainingStream(location, manifest, DataConfig(), 3, 8, seed=0) for location in (local, remote)]
    for _ in range(10):
        near, far = map(next, streams)
        assert near.utterances == far.utterances
        assert near.frames.equal(far.frames)
    del streams
    wait_for_loaders()


def test_what_http_does_not_hold_is_named(tmp_path, server):
    with pytest.raises(UserError, match=r"nowhere/manifest\.json: cannot be opened \(404"):
        read_manifest(f"{server}/nowhere")
    location = make_shards(tmp_path, utterances=3)
    (tmp_path / "train-000000.tar").unlink()
    with pytest.raises(UserError, match=r"train-000000\.tar: cannot be opened \(404"):
        list(read_utterances(server, "train", read_manifest(location)))


def test_a_connection_that_breaks_is_no_end_of_the_shard(tmp_path, server, monkeypatch):
    make_shards(tmp_path, utterances=3, frames=2000)
    monkeypatch.setattr(storage, "RETRY", 0.5)

    def send_half(self: SimpleHTTPRequestHandler, source: IO[bytes], target: IO[bytes]) -> None:
        content = source.read()
        target.write(content if self.path.endswith(".json") else content[: len(content) // 2])

    monkeypatch.setattr(QuietHandler, "copyfile", send_half)
    with pytest.raises(UserError, match=r"train-000000\.tar: (damaged|reading broke off)"):
        list(read_utterances(server, "train"))


def test_a_server_that_does_not_answer_is_a_mistake_of_the_user():
    with pytest.raises(UserError, match="cannot be opened"):
        read_manifest("http://127.0.0.1:1/shards")
