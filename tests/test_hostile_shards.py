"""Shards that hold something else than they say: refused by name, at once, and without memory for what they declare."""

import gzip
import io
import json
import os
import resource
import socket
import subprocess
import sys
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from misbehaving_server import serve
from speech import framed, make_shards
from test_shard_reading import write

from zfaudio.config import DataConfig
from zfaudio.data.loader import TrainingStream, whole_utterances
from zfaudio.data.manifest import Shard, check_shards, read_manifest
from zfaudio.data.shard_reader import read_shard, read_utterances
from zfaudio.errors import UserError

FRAME_SIZE = 20


def utterance_files(frames: int = 3, width: int = FRAME_SIZE, **changes: object) -> dict[str, bytes]:
    """The files of one utterance; `changes` are fields of its description."""
    array = io.BytesIO()
    np.save(array, np.ones((frames, width), np.int16))
    description = {"utterance": "a", "speaker": "s", "samples": frames * width + 1, "start": 0.0} | changes
    return {"a.json": json.dumps(description).encode(), "a.npy": array.getvalue()}


def tar_of(files: dict[str, bytes], format: int = tarfile.PAX_FORMAT, **pax: str) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=format) as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            entry.pax_headers = dict(pax)
            tar.addfile(entry, io.BytesIO(content))
    return stream.getvalue()


def header(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    """A tar header that declares so many bytes."""
    entry = tarfile.TarInfo(name)
    entry.size, entry.type = size, kind
    return entry.tobuf(tarfile.GNU_FORMAT)


def read(folder: Path, content: bytes, frames: int = 3) -> list[object]:
    (folder / "train-000000.tar").write_bytes(content)
    return list(read_shard(folder, Shard("train-000000.tar", "", 1, frames), FRAME_SIZE))


def test_a_good_shard_is_read(tmp_path):
    for format in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT):
        assert len(read(tmp_path, tar_of(utterance_files(), format))) == 1


# Frames


@pytest.mark.parametrize("width", [2 * FRAME_SIZE, FRAME_SIZE // 2, 0])
def test_frames_of_another_width_never_reach_a_batch(tmp_path, width):
    """A batch has rows of the width in the manifest, and wider frames were written past its end."""
    location = make_shards(tmp_path, utterances=3, frames=40, utterances_per_shard=3)
    wide = [replace(framed(f"s-{i}", 40, FRAME_SIZE), frames=np.ones((40, width), np.int16)) for i in range(3)]
    write(tmp_path, wide)
    (tmp_path / "valid-000000.tar").write_bytes((tmp_path / "train-000000.tar").read_bytes())
    manifest = read_manifest(location)
    with pytest.raises(UserError, match=rf"train-000000\.tar: damaged \(an .npy file holds frames of {width} samples"):
        next(TrainingStream(location, manifest, DataConfig(location), 2, 8, seed=0))
    with pytest.raises(UserError, match=rf"valid-000000\.tar: damaged \(an .npy file holds frames of {width} samples"):
        list(whole_utterances(location, manifest, "valid", DataConfig(location), 100, seed=0))


def test_the_width_is_that_of_the_manifest(tmp_path):
    """As in a stranger's folder whose SHA-256 all fit."""
    location = make_shards(tmp_path, utterances=3, frames=40, frame_size=2 * FRAME_SIZE)
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"frame_size": FRAME_SIZE}))
    check_shards(location, read_manifest(location))
    with pytest.raises(UserError, match=r"damaged .an .npy file holds frames of 40 samples, not 20"):
        list(read_utterances(location, "train"))


@pytest.mark.parametrize(
    "shape",
    ["(1099511627776, 20)", "(3, 1099511627776)", "(1" + "0" * 30 + ", 20)", "(1" + "0" * 5000 + ", 20)", "(2, 20)"],
)
def test_a_shape_that_the_file_does_not_have_is_refused(tmp_path, shape):
    files = utterance_files()
    files["a.npy"] = files["a.npy"].replace(b"(3, 20), } ", f"({shape}), }} ".encode())
    with pytest.raises(UserError, match="damaged"):
        read(tmp_path, tar_of(files))


@pytest.mark.parametrize(
    "changes",
    [
        {"samples": 59},
        {"samples": 80},
        {"samples": -1},
        {"samples": "61"},
        {"samples": True},
        {"samples": 61.0},
        {"start": float("nan")},
        {"start": -1.0},
        {"start": 10**400},
        {"start": None},
        {"utterance": 7},
        {"utterance": "\ud800"},
        {"speaker": ["s"]},
    ],
)
def test_a_wrong_description_is_refused(tmp_path, changes):
    with pytest.raises(UserError, match=r"train-000000\.tar: damaged .the .* of a "):
        read(tmp_path, tar_of(utterance_files(**changes)))


@pytest.mark.parametrize("description", [b"", b"[]", b"7", b"{}", b"\xff", b"[" * 100_000, b'{"utterance": "a"}'])
def test_what_is_no_description_is_refused(tmp_path, description):
    with pytest.raises(UserError, match=r"train-000000\.tar: damaged"):
        read(tmp_path, tar_of(utterance_files() | {"a.json": description}))


def test_more_than_the_manifest_says_is_refused_before_it_is_used(tmp_path):
    written = write(tmp_path, [framed(f"s-{i}", 5, FRAME_SIZE) for i in range(10)])
    found = []
    with pytest.raises(UserError, match="more than 3 utterances of 50 frames"):
        found.extend(read_shard(tmp_path, replace(written, utterances=3), FRAME_SIZE))
    assert len(found) == 3


# Tar files


def sparse(size: int) -> bytes:
    """A GNU sparse file of `size` zeros, which tarfile would make in memory."""
    raw = bytearray(header("a.npy", 0, tarfile.GNUTYPE_SPARSE))
    raw[483:495] = b"%011o\0" % size  # the real size, after the table of what is not zero
    raw[148:156] = b" " * 8
    raw[148:156] = b"%06o\0 " % sum(raw)
    return bytes(raw)


GNU_SPARSE_1_0 = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": str(2**40)}
LONG = 1 << 22

HOSTILE: dict[str, Callable[[], bytes]] = {
    "sparse": lambda: tar_of({"a.json": utterance_files()["a.json"]})[:1024] + sparse(2**33 - 1),
    "sparse-in-a-pax-header": lambda: tar_of(utterance_files(), **GNU_SPARSE_1_0),
    "gzip": lambda: gzip.compress(tar_of(utterance_files())),
    "gzip-bomb": lambda: gzip.compress(header("a.npy", 1 << 30) + bytes(1 << 28)),
    "huge-member": lambda: header("a.npy", 2**33 - 1),
    "huge-member-in-base-256": lambda: header("a.npy", 2**60),
    "huge-member-in-a-pax-header": lambda: tar_of(utterance_files(), size=str(2**60)),
    "negative-size": lambda: header("a.npy", -512),
    "negative-size-in-a-pax-header": lambda: tar_of(utterance_files(), size="-1024"),
    "huge-description": lambda: tar_of({"a.json": bytes(LONG)}),
    "huge-pax-header": lambda: header("x", LONG, tarfile.XHDTYPE) + b"1" * LONG + tar_of(utterance_files()),
    "huge-long-name": lambda: header("x", LONG, tarfile.GNUTYPE_LONGNAME) + b"a" * LONG + tar_of(utterance_files()),
    "nested-headers": lambda: 20_000 * (header("x", 512, tarfile.XHDTYPE) + bytes(512)) + tar_of(utterance_files()),
    "a-directory-without-end": lambda: header("d", 2**60, tarfile.DIRTYPE),
}


READ_ALL = """
import json, resource, sys, time
from zfaudio.data.manifest import Shard
from zfaudio.data.shard_reader import read_shard
from zfaudio.errors import UserError

for folder in sys.argv[1:]:
    said, start, before = "read", time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        list(read_shard(folder, Shard("train-000000.tar", "", 1, 2**50), 20))
    except UserError as error:
        said = str(error)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(json.dumps([said, grown, time.monotonic() - start]))
"""


@pytest.mark.parametrize("remote", [False, True])
def test_hostile_tar_files_are_refused_at_once(tmp_path, remote):
    """In a process of its own, with a limit, so that what goes wrong goes wrong there. The manifest lies as well."""
    for name, content in HOSTILE.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "train-000000.tar").write_bytes(content())
    with serve(tmp_path) as server:
        places = [f"{server.address if remote else tmp_path}/{name}" for name in HOSTILE]
        command = [sys.executable, "-c", READ_ALL, f"{server.address}/nowhere", *places]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, preexec_fn=limit_memory)
    assert done.returncode == 0, done.stderr
    nowhere, *rest = map(json.loads, done.stdout.splitlines())
    assert "404" in nowhere[0]  # it also imports what HTTP needs, so that the memory below is that of reading
    for name, place, (said, kilobytes, seconds) in zip(HOSTILE, places, rest, strict=True):
        assert f"{place}/train-000000.tar: damaged (" in said, (name, said)
        assert kilobytes < 64_000, name
        assert seconds < 10, name


def limit_memory() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))


@pytest.mark.parametrize("kind", ["fifo", "device", "socket", "folder"])
def test_what_is_no_file_is_refused_at_once(tmp_path, kind):
    location = make_shards(tmp_path, utterances=3)
    shard = tmp_path / "train-000000.tar"
    shard.unlink()
    if kind == "fifo":
        os.mkfifo(shard)
    elif kind == "device":
        shard.symlink_to("/dev/zero")
    elif kind == "folder":
        shard.mkdir()
    else:
        with socket.socket(socket.AF_UNIX) as server:
            os.chdir(tmp_path)
            server.bind(shard.name)
    manifest = read_manifest(location)
    for use in (lambda: list(read_utterances(location, "train")), lambda: check_shards(location, manifest)):
        with pytest.raises(UserError, match=r"train-000000\.tar: not a regular file"):
            use()


# Damage


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A good shard of two utterances with bits flipped, parts moved or removed, or the end cut off."""
    content = bytearray(GOOD)
    for _ in range(draw(st.integers(1, 6))):
        kind = draw(st.sampled_from(["flip", "bytes", "cut", "repeat"]))
        at = draw(st.integers(0, max(0, len(content) - 1)) | st.sampled_from([124, 156, 257, 512, 1024]))
        if kind == "flip" and at < len(content):
            content[at] ^= 1 << draw(st.integers(0, 7))
        elif kind == "bytes":
            content[at : at + draw(st.integers(0, 16))] = draw(st.binary(max_size=16))
        elif kind == "cut":
            del content[at : at + draw(st.integers(0, 2000))]
        else:
            content[at:at] = content[at : at + 512]
    return bytes(content)


GOOD = tar_of(utterance_files() | {f"b{name[1:]}": content for name, content in utterance_files().items()})


@settings(max_examples=500)
@given(damaged())
def test_a_damaged_shard_is_refused_or_holds_frames_of_the_width(tmp_path_factory, content):
    folder = tmp_path_factory.getbasetemp() / "damaged"
    folder.mkdir(exist_ok=True)
    (folder / "train-000000.tar").write_bytes(content)
    found = []
    try:
        found.extend(read_shard(folder, Shard("train-000000.tar", "", 2, 6), FRAME_SIZE))
    except UserError as error:
        said = str(error)
    else:
        assert sum(len(utterance.frames) for utterance in found) == 6
        assert all(utterance.frames.shape[1] == FRAME_SIZE for utterance in found)
        return
    assert "train-000000.tar: damaged (" in said
    assert said.isprintable()


def test_a_file_that_is_there_twice_is_named(tmp_path):
    content = tar_of(utterance_files())
    twice = content[: content.index(b"a.npy")] + content
    with pytest.raises(UserError, match=r"damaged \(a.json: duplicate file name in tar file json"):
        read(tmp_path, twice)
