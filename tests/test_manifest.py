"""The manifest of a folder of shards."""

import json
from pathlib import Path

import pytest
from speech import make_shards

from zfaudio.data.manifest import Manifest, check_shards, read_manifest
from zfaudio.errors import UserError


def edit(location: str, **changes: object) -> None:
    path = Path(location) / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_manifest_comes_back_as_it_was_written(tmp_path):
    manifest = read_manifest(make_shards(tmp_path))
    assert Manifest.from_json(manifest.to_json()) == manifest


def test_a_missing_manifest_says_what_makes_one(tmp_path):
    with pytest.raises(UserError, match=r"manifest\.json: no such file; `zfaudio shard`"):
        read_manifest(str(tmp_path))


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", "null", '{"format_version": 1}', '{"format_version": 1, "splits": 3}']
)
def test_what_is_no_manifest_is_named(tmp_path, text):
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(UserError, match=r"manifest\.json: not a manifest"):
        read_manifest(str(tmp_path))


def test_another_format_version_is_refused(tmp_path):
    location = make_shards(tmp_path)
    edit(location, format_version=99)
    with pytest.raises(UserError, match="format version 99"):
        read_manifest(location)


def test_a_deviation_of_zero_is_refused(tmp_path):
    location = make_shards(tmp_path)
    edit(location, deviation=0.0)
    with pytest.raises(UserError, match="must be positive"):
        read_manifest(location)


@pytest.mark.parametrize("name", ["../train.tar", "/etc/passwd", "a/b.tar", "simplecache::http://host/x.tar", ""])
def test_a_shard_outside_its_folder_is_refused(tmp_path, name):
    location = make_shards(tmp_path)
    splits = json.loads((tmp_path / "manifest.json").read_text())["splits"]
    splits["train"]["shards"][0]["name"] = name
    edit(location, splits=splits)
    with pytest.raises(UserError, match="not the name of a shard"):
        read_manifest(location)


def test_a_missing_split_says_which_there_are(tmp_path):
    manifest = read_manifest(make_shards(tmp_path, utterances={"train": 2}))
    with pytest.raises(UserError, match="no split 'test'; they hold train"):
        manifest.split("test")


def test_a_changed_shard_is_found(tmp_path):
    location = make_shards(tmp_path)
    manifest = read_manifest(location)
    check_shards(location, manifest)
    shard = tmp_path / "valid-000000.tar"
    content = bytearray(shard.read_bytes())
    content[3000] ^= 1
    shard.write_bytes(content)
    check_shards(location, manifest, ["train"])
    with pytest.raises(UserError, match=r"valid-000000\.tar: damaged"):
        check_shards(location, manifest)


def test_an_unknown_kind_of_address_is_a_mistake_of_the_user():
    with pytest.raises(UserError, match="cannot be opened"):
        read_manifest("nosuchprotocol://somewhere/shards")


def test_an_address_is_never_run_as_a_command(tmp_path):
    for address in (f"pipe:touch {tmp_path}/made", f"pipe://touch {tmp_path}/made"):
        with pytest.raises(UserError):
            read_manifest(address)
    assert not (tmp_path / "made").exists()
