"""The manifest of a folder of shards."""

import json
import os
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings
from speech import make_shards

from zfaudio.data.manifest import Manifest, check_same_data, check_shards, read_manifest
from zfaudio.data.shard import shard
from zfaudio.errors import UserError

# As version 0.1.0 wrote it.
OLD = """{
 "format_version": 1, "frame_size": 200, "sample_rate": 16000, "mean": -0.4565299498377102, "deviation": 1077.52785,
 "splits": {
  "train": {
   "shards": [{"name": "train-000000.tar", "sha256": "%s", "utterances": 2, "frames": 40}],
   "utterances": 2, "frames": 40, "dropped_samples": 183, "speakers": 6
  }
 },
 "fingerprint": "6b4e15db992ed9b7d5e96bb17243f2170473f23cc7c03f27e48ad4994536043b"
}""" % ("0123456789abcdef" * 4)


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
    with pytest.raises(UserError, match="format_version is 99"):
        read_manifest(location)


def test_a_manifest_of_version_0_1_0_is_read():
    manifest = Manifest.from_json(OLD)
    assert (manifest.format_version, manifest.frame_size, manifest.sample_rate) == (1, 200, 16000)
    assert (manifest.mean, manifest.deviation) == (-0.4565299498377102, 1077.52785)
    (shard,) = manifest.split("train").shards
    assert (shard.name, shard.sha256[:16], shard.frames) == ("train-000000.tar", "0123456789abcdef", 40)


SHARD = "splits.train.shards[0]."


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("frame_size", 0, "field frame_size is 0; it must be positive"),
        ("frame_size", 2**40, "field frame_size is 1099511627776; it must be positive and at most 65536"),
        ("frame_size", 200.5, "field frame_size is 200.5, not int"),
        ("frame_size", "200", "field frame_size is '200', not int"),
        ("sample_rate", -16000, "field sample_rate is -16000; it must be positive"),
        ("mean", float("nan"), "field mean is nan"),
        ("mean", 1e6, "field mean is 1000000.0"),
        ("mean", None, "field mean is None, not float"),
        ("deviation", 1e-300, "field deviation is 1e-300; it must be positive"),
        ("deviation", float("inf"), "field deviation is inf; it must be positive"),
        ("deviation", float("nan"), "field deviation is nan; it must be positive"),
        ("deviation", 10**400, "field deviation is 1000.*, not float"),
        ("splits.a b", {}, "field splits.a b.shards is missing"),
        ("fingerprint", "\ud800", r"field fingerprint is '\\ud800', not a hash"),
        ("splits", [], r"field splits is \[\], not dict"),
        ("more\x1b[31m\n", 1, r"field more\\x1b\[31m\\n is unknown"),
        (SHARD + "utterances", -1, r"field splits.train.shards\[0\].utterances is -1"),
        (SHARD + "frames", True, r"field splits.train.shards\[0\].frames is True, not int"),
        (SHARD + "frames", 41, "field splits.train.frames is 40, but the shards have 41"),
        (SHARD + "sha256", "abc", r"field splits.train.shards\[0\].sha256 is 'abc', not a SHA-256"),
        ("splits.train.utterances", 3, "field splits.train.utterances is 3, but the shards have 2"),
        ("splits.train.speakers", None, "field splits.train.speakers is None, not int"),
        ("splits.test", json.loads(OLD)["splits"]["train"], "field splits list a shard twice"),
    ],
)
def test_the_wrong_field_is_named(tmp_path, field, value, said):
    fields: Any = json.loads(OLD)
    parts = field.replace("[0]", ".0").split(".")
    holder = fields
    for part in parts[:-1]:
        holder = holder[int(part) if part.isdigit() else part]
    holder[parts[-1]] = value
    (tmp_path / "manifest.json").write_text(json.dumps(fields))
    with pytest.raises(UserError, match=rf"manifest\.json: not a manifest of shards \({said}") as caught:
        read_manifest(tmp_path)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(("option", "value"), [("frame_size", 65537), ("frame_size", 0), ("sample_rate", 10**7 + 1)])
def test_no_shards_are_made_that_could_not_be_read(tmp_path, option, value):
    with pytest.raises(UserError, match=f"--{option.replace('_', '-')} {value}: must be at least 1 and at most"):
        shard(tmp_path, tmp_path / "shards", **{option: value})


def test_a_missing_field_is_named():
    for name in ("frame_size", "mean", "deviation", "splits.train.shards"):
        fields: Any = json.loads(OLD)
        *above, last = name.split(".")
        holder = fields
        for part in above:
            holder = holder[part]
        del holder[last]
        with pytest.raises(UserError, match=f"field {name} is missing"):
            Manifest.from_json(json.dumps(fields))


# Damage

EXTREMES = ["x.tar", "\ud800", 2**63, -1, 1e308, 10**400]
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from(["x.tar", "\ud800", 2**63, -1, 1e308]),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(), children, max_size=3),
    max_leaves=4,
)


def places(tree: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of every node below the root."""
    children = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    return [found for key, child in children for found in [(*path, key), *places(child, (*path, key))]]


@st.composite
def mutated_json(draw: st.DrawFn) -> str:
    """The text of a good manifest in which some values are replaced, removed or added."""
    tree = deepcopy(json.loads(OLD))
    for _ in range(draw(st.integers(1, 3))):
        paths = places(tree)
        *above, last = draw(st.sampled_from(paths))
        holder = tree
        for key in above:
            holder = holder[key]
        change = draw(st.sampled_from(["replace", "remove", "add"]))
        if change == "remove":
            del holder[last]
        elif change == "replace" or isinstance(holder, list):
            holder[last] = draw(values)
        else:
            holder[draw(st.text())] = draw(values)
        if not places(tree):
            break
    return json.dumps(tree)


@st.composite
def mutated_bytes(draw: st.DrawFn) -> bytes:
    """The bytes of a good manifest with some bytes replaced, removed or inserted, or cut short."""
    content = bytearray(OLD.encode())
    for _ in range(draw(st.integers(1, 4))):
        first = draw(st.integers(0, max(0, len(content) - 1)))
        content[first : first + draw(st.integers(0, 8))] = draw(st.binary(max_size=8))
    return bytes(content[: draw(st.integers(0, len(content)) | st.just(len(content)))])


@settings(max_examples=500)
@given(mutated_json().map(str.encode) | mutated_bytes() | st.binary(max_size=40) | st.just(b"[" * 100_000))
def test_a_damaged_manifest_is_refused_or_holds_plausible_values(tmp_path_factory, content):
    folder = tmp_path_factory.getbasetemp() / "damaged"
    folder.mkdir(exist_ok=True)
    (folder / "manifest.json").write_bytes(content)
    try:
        manifest = read_manifest(folder)
    except UserError as error:
        said = str(error)
    else:
        assert Manifest.from_json(manifest.to_json()) == manifest
        manifest.to_json().encode()
        check_plausible(manifest)
        return
    assert said.startswith(str(folder / "manifest.json"))
    assert said.isprintable()


def check_plausible(manifest: Manifest) -> None:
    assert 1 <= manifest.frame_size <= 2**16
    assert 1 <= manifest.sample_rate <= 10**7
    assert abs(manifest.mean) <= 2**15
    assert 1e-6 <= manifest.deviation <= 2**15
    for split in manifest.splits.values():
        assert split.frames == sum(shard.frames for shard in split.shards)
        assert all(type(shard.frames) is int and shard.frames >= 0 for shard in split.shards)


def test_a_manifest_that_is_no_file_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "manifest.json")
    with pytest.raises(UserError, match=r"manifest\.json: not a regular file"):
        read_manifest(tmp_path)
    (tmp_path / "manifest.json").unlink()
    (tmp_path / "manifest.json").symlink_to("/dev/zero")
    with pytest.raises(UserError, match=r"manifest\.json: not a regular file"):
        read_manifest(tmp_path)


# Resuming


def test_the_same_shards_are_those_of_the_stopped_run(tmp_path):
    stopped = read_manifest(make_shards(tmp_path / "a"))
    copied = read_manifest(make_shards(tmp_path / "b"))
    assert stopped.identity("train", "valid") == copied.identity("train", "valid")
    check_same_data("b", replace(copied, fingerprint="1"), stopped)
    without_test = replace(copied, splits={name: copied.splits[name] for name in ("train", "valid")})
    check_same_data("b", without_test, stopped)


def test_shards_of_other_audio_are_not_those_of_the_stopped_run(tmp_path):
    stopped = read_manifest(make_shards(tmp_path / "a"))
    other = read_manifest(make_shards(tmp_path / "b", seed=1))
    assert other.split("train").frames == stopped.split("train").frames
    assert other.identity("train") != stopped.identity("train")
    with pytest.raises(UserError, match=r"^b: mean was .* in the stopped run and is .* now; resume with the shards"):
        check_same_data("b", other, stopped)
    same_scale = replace(other, mean=stopped.mean, deviation=stopped.deviation)
    with pytest.raises(UserError, match="3 of 3 train shards are not those of the stopped run"):
        check_same_data("b", same_scale, stopped)
    regrouped = read_manifest(make_shards(tmp_path / "c", utterances_per_shard=4))
    assert regrouped.mean == stopped.mean
    with pytest.raises(UserError, match="3 of 3 train shards"):
        check_same_data("c", regrouped, stopped)
    other_valid = replace(stopped, splits={**stopped.splits, "valid": other.splits["valid"]})
    with pytest.raises(UserError, match="1 of 1 valid shards"):
        check_same_data("d", other_valid, stopped)
    for name in ("frame_size", "sample_rate"):
        with pytest.raises(UserError, match=f"{name} was"):
            check_same_data("d", replace(stopped, **{name: 7}), stopped)


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
