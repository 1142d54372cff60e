"""Manifests of lhotse that are wrong, damaged, or a stranger's."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lhotse_files import RATE, counts, edit, lhotse, manifests, record, write_manifests, write_segments
from speech import load_utterance, write_corpus

from zfaudio.config import FolderConfig
from zfaudio.corpus.lhotse import read_manifests
from zfaudio.data.shard import shard
from zfaudio.data.shard_reader import read_utterances
from zfaudio.errors import UserError

# What is wrong


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"start": 0.2, "duration": 9.0}, "ends at 9.2 s, but its recording ends at 0.602 s"),
        ({"start": 7.0, "duration": 1.0}, "starts at 7.0 s, but its recording ends at 0.602 s"),
        ({"start": -1.0}, "starts at -1.0 s and lasts"),
        ({"duration": 0}, "starts at 0.0 s and lasts 0.0 s"),
        ({"start": float("nan")}, "starts at nan s and lasts"),
        ({"channel": 3}, "channels [3] are not in one file of its recording"),
        ({"channel": []}, "channels [] are not in one file of its recording"),
        ({"recording_id": "gone"}, "its recording gone is not listed"),
    ],
)
def test_a_wrong_supervision_is_rejected_alone(tmp_path: Path, change: dict[str, Any], problem: str) -> None:
    folder = write_manifests(tmp_path / "data", write_corpus(tmp_path / "audio", speakers=3))
    edit(folder / "supervisions.jsonl", lambda fields: fields.update(change), line=1)
    shard(None, tmp_path / "shards", train=str(folder))
    assert sum(counts(tmp_path / "shards").values()) == 8
    id, reason, _ = (tmp_path / "shards" / "rejects.txt").read_text().split("\t")
    assert id == "spk0-1"
    assert problem in reason
    with pytest.raises(UserError, match="--strict"):
        shard(None, tmp_path / "strict", train=str(folder), strict=True)


def test_a_recording_without_rate_is_rejected(tmp_path: Path) -> None:
    record(tmp_path / "a.wav")
    folder = write_segments(tmp_path / "data", tmp_path / "a.wav", [(0.25, 0.5, 0)])
    edit(folder / "recordings.jsonl", lambda fields: fields.update(sampling_rate=0))
    assert [one.problem for one in read_manifests(folder)] == ["its recording has 0 samples a second"]


def test_recordings_that_are_gone_or_damaged_are_rejected_alone(tmp_path: Path) -> None:
    paths = write_corpus(tmp_path / "audio", speakers=3)
    folder = write_manifests(tmp_path / "data", paths)
    paths[0].unlink()
    paths[4].write_bytes(paths[4].read_bytes()[:999])
    edit(folder / "recordings.jsonl", lambda fields: fields["sources"][0].update(source="a\0b"), line=8)
    shard(folder, tmp_path / "shards")
    rejects = [line.split("\t") for line in (tmp_path / "shards" / "rejects.txt").read_text().splitlines()]
    assert [id for id, _, _ in rejects] == ["spk0-0", "spk1-1", "spk2-2"]
    assert rejects[0][1] == "no such file"
    assert sum(counts(tmp_path / "shards").values()) == 6


def test_a_manifest_whose_audio_has_moved_says_so(tmp_path: Path) -> None:
    folder = write_manifests(tmp_path / "data", write_corpus(tmp_path / "audio", speakers=3))
    (tmp_path / "audio").rename(tmp_path / "elsewhere")
    with pytest.raises(UserError, match=r"none of its 9 recordings is there, such as .*spk0-0.wav; if they have moved"):
        shard(folder, tmp_path / "shards")


def test_paths_are_relative_to_the_working_folder_as_in_lhotse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = write_corpus(tmp_path / "audio", speakers=3)
    monkeypatch.chdir(tmp_path)
    folder = write_manifests(tmp_path / "data", [path.relative_to(tmp_path) for path in paths])
    assert '"audio/spk0/spk0-0.wav"' in (folder / "recordings.jsonl").read_text()
    shard(folder, tmp_path / "shards", nj=2)
    assert sum(counts(tmp_path / "shards").values()) == 9
    monkeypatch.chdir(folder)
    with pytest.raises(UserError, match="relative paths start at the working folder"):
        shard(folder, tmp_path / "others")


@pytest.mark.parametrize(
    ("name", "line", "message"),
    [
        ("recordings", "{", r"recordings.jsonl:2: not a recording of lhotse \(Expecting property name"),
        ("recordings", "[]", r"recordings.jsonl:2: not a recording of lhotse \(not a JSON object"),
        ("recordings", '{"id": "a"}', "not a recording of lhotse .field sources is missing"),
        (
            "supervisions",
            '{"id": 3}',
            "supervisions.jsonl:2: not a supervision of lhotse .field recording_id is missing",
        ),
        (
            "supervisions",
            '{"id": "a", "recording_id": "a", "start": "now", "duration": 1}',
            "field start is 'now', not float",
        ),
        (
            "supervisions",
            '{"id": "a", "recording_id": "a", "start": 0, "duration": 1, "channel": ["a"]}',
            r"field channel\[0\] is 'a', not int",
        ),
        ("supervisions", "[" * 100_000, "supervisions.jsonl:2: not a supervision of lhotse"),
    ],
)
def test_a_damaged_line_is_named(tmp_path: Path, name: str, line: str, message: str) -> None:
    folder = write_manifests(tmp_path / "data", write_corpus(tmp_path / "audio", speakers=1))
    path = folder / f"{name}.jsonl"
    lines = path.read_text().splitlines()
    lines[1] = line
    path.write_text("\n".join(lines))
    with pytest.raises(UserError, match=message) as caught:
        shard(folder, tmp_path / "shards")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("damage", [lambda content: content[:-40], lambda content: b"no gzip", lambda content: b""])
def test_a_damaged_file_is_named(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    folder = write_manifests(tmp_path / "data", write_corpus(tmp_path / "audio", speakers=1), "jsonl.gz")
    path = folder / "recordings.jsonl.gz"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UserError, match=r"recordings.jsonl.gz: (cannot be read after line \d|holds no recordings)"):
        read_manifests(folder)


def test_text_that_is_not_utf_8_is_named(tmp_path: Path) -> None:
    folder = write_manifests(tmp_path / "data", write_corpus(tmp_path / "audio", speakers=1))
    (folder / "supervisions.jsonl").write_bytes(b'{"id": "\xe9"}\n')
    with pytest.raises(UserError, match=r"supervisions.jsonl: cannot be read after line 0"):
        read_manifests(folder)


def test_an_id_that_is_there_twice_is_named(tmp_path: Path) -> None:
    folder = write_manifests(tmp_path / "data", write_corpus(tmp_path / "audio", speakers=1))
    edit(folder / "supervisions.jsonl", lambda fields: fields.update(id="spk0-0"), line=2)
    with pytest.raises(UserError, match=r"supervisions.jsonl:3: spk0-0 is listed twice"):
        read_manifests(folder)


def test_a_manifest_that_is_missing_is_named(tmp_path: Path) -> None:
    folder = write_manifests(tmp_path / "data", write_corpus(tmp_path / "audio", speakers=1))
    (folder / "supervisions.jsonl").unlink()
    with pytest.raises(UserError, match=r"recordings.jsonl: supervisions.jsonl \(or .jsonl.gz\) is missing beside it"):
        shard(folder, tmp_path / "shards")
    with pytest.raises(UserError, match="no manifest of lhotse"):
        read_manifests(tmp_path / "audio")


def test_the_partner_of_a_manifest_is_found_by_its_name(tmp_path: Path) -> None:
    recordings, supervisions = manifests(write_corpus(tmp_path / "audio", speakers=2))
    for part in ("dev-clean", "test-clean"):
        recordings.to_file(tmp_path / f"librispeech_recordings_{part}.jsonl.gz")
        supervisions.to_file(tmp_path / f"librispeech_supervisions_{part}.jsonl")
    with pytest.raises(UserError, match="holds 2 sets of lhotse's manifests; name a file, such as librispeech_rec"):
        read_manifests(tmp_path)
    assert len(read_manifests(tmp_path / "librispeech_recordings_dev-clean.jsonl.gz")) == 6
    assert len(read_manifests(tmp_path / "librispeech_supervisions_test-clean.jsonl")) == 6


# What a stranger's manifest may not do


def sources(path: Path, **fields: str) -> None:
    edit(path / "recordings.jsonl", lambda recording: recording["sources"][0].update(fields))


def test_commands_are_refused_unless_they_are_allowed(tmp_path: Path) -> None:
    samples = record(tmp_path / "a.wav")
    folder = write_segments(tmp_path / "data", tmp_path / "a.wav", [(0.25, 0.5, 0)])
    sources(folder, type="command", source=f"touch {tmp_path}/ran; cat {tmp_path}/a.wav")
    with pytest.raises(UserError, match="a is a command; --allow-pipes permits running it"):
        read_manifests(folder)
    assert not (tmp_path / "ran").exists()
    (utterance,) = read_manifests(folder, allow_pipes=True)
    expected = samples[RATE // 4 : 3 * RATE // 4, 0]
    np.testing.assert_array_equal(load_utterance(utterance, allow_pipes=True), expected)


def test_a_file_whose_name_is_a_command_is_not_run(tmp_path: Path) -> None:
    record(tmp_path / "a.wav")
    folder = write_segments(tmp_path / "data", tmp_path / "a.wav", [(0.25, 0.5, 0)])
    second = {"type": "file", "channels": [1], "source": str(tmp_path / "a.wav")}
    edit(folder / "recordings.jsonl", lambda fields: fields["sources"].append(second))
    sources(folder, source=f"touch {tmp_path}/ran |")
    (utterance,) = read_manifests(folder, allow_pipes=True)
    assert utterance.problem == "the name of its file ends like a command"


def test_a_command_does_not_hide_behind_another_recording_of_the_same_id(tmp_path: Path) -> None:
    record(tmp_path / "a.wav")
    recording = lhotse.Recording.from_file(tmp_path / "a.wav")
    cuts = [lhotse.MonoCut(id, 0.0, 0.5, 0, recording=recording) for id in ("one", "two")]
    lhotse.CutSet.from_cuts(cuts).to_file(tmp_path / "cuts.jsonl")
    edit(tmp_path / "cuts.jsonl", lambda cut: cut["recording"]["sources"][0].update(type="command", source="true"))
    with pytest.raises(UserError, match="a is a command; --allow-pipes permits running it"):
        read_manifests(tmp_path / "cuts.jsonl")


@pytest.mark.parametrize("kind", ["url", "memory", "shar"])
def test_what_is_no_file_is_refused(tmp_path: Path, kind: str) -> None:
    record(tmp_path / "a.wav")
    folder = write_segments(tmp_path / "data", tmp_path / "a.wav", [(0.25, 0.5, 0)])
    sources(folder, type=kind, source="http://localhost/a.wav")
    with pytest.raises(UserError, match=f"a is no file but of type {kind}; save its audio as files"):
        read_manifests(folder, allow_pipes=True)


def test_names_that_no_terminal_takes_become_escapes(tmp_path: Path) -> None:
    record(tmp_path / "a.wav")
    folder = write_segments(tmp_path / "data", tmp_path / "a.wav", [(0.25, 0.5, 0)])
    edit(folder / "supervisions.jsonl", lambda fields: fields.update(id="\x1b[31m/../a b", speaker="\ud800"))
    shard(folder, tmp_path / "shards", folder=FolderConfig(valid_fraction=0, test_fraction=0))
    (utterance,) = read_utterances(tmp_path / "shards", "train")
    assert (utterance.id, utterance.speaker) == (r"\x1b[31m/../a b", r"\ud800")


def test_manifests_are_read_without_lhotse_and_torch(tmp_path: Path) -> None:
    folder = write_manifests(tmp_path / "data", write_corpus(tmp_path / "audio", speakers=3))
    code = (
        "import sys; from zfaudio.data.shard import shard; shard(sys.argv[1], sys.argv[2]);"
        "print(sorted({'lhotse', 'torch'} & sys.modules.keys()))"
    )
    command = [sys.executable, "-c", code, folder, tmp_path / "shards"]
    finished = subprocess.run(command, capture_output=True, text=True, check=True)
    assert finished.stdout.splitlines()[-1] == "[]"
