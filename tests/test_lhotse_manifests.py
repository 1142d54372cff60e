"""Manifests of lhotse, from recordings and supervisions, or cuts, to shards."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from speech import load_utterance, speech, write_corpus, write_data_dir

from zfaudio.config import FolderConfig
from zfaudio.corpus.lhotse import AudioSource, Recording, find_channel, read_manifests
from zfaudio.data.manifest import read_manifest
from zfaudio.data.shard import shard
from zfaudio.data.shard_reader import read_utterances
from zfaudio.errors import UserError

lhotse = pytest.importorskip("lhotse", reason="lhotse is an extra: pip install 'zfaudio[lhotse]'")

RATE = 16000


def manifests(paths: list[Path], **fields: Any) -> tuple[Any, Any]:
    """lhotse's recordings, and a supervision of the whole of each, whose speaker is the name of its folder."""
    recordings = [lhotse.Recording.from_file(path) for path in paths]
    supervisions = [
        lhotse.SupervisionSegment(
            one.id, one.id, 0.0, one.duration, **{"speaker": path.parent.name, "text": f"Text of {one.id}", **fields}
        )
        for one, path in zip(recordings, paths, strict=True)
    ]
    return (
        lhotse.RecordingSet.from_recordings(recordings),
        lhotse.SupervisionSet.from_segments(supervisions),
    )


def write_manifests(folder: Path, paths: list[Path], suffix: str = "jsonl", **fields: Any) -> Path:
    """Have lhotse write recordings and supervisions."""
    recordings, supervisions = manifests(paths, **fields)
    folder.mkdir(parents=True, exist_ok=True)
    recordings.to_file(folder / f"recordings.{suffix}")
    supervisions.to_file(folder / f"supervisions.{suffix}")
    return folder


def write_segments(folder: Path, path: Path, segments: list[tuple[float, float, int | list[int]]]) -> Path:
    """Have lhotse write one recording, and supervisions u0, u1, ... of it with start, duration and channels."""
    folder.mkdir(parents=True, exist_ok=True)
    recording = lhotse.Recording.from_file(path)
    supervisions = [
        lhotse.SupervisionSegment(f"u{i}", recording.id, start, duration, channel=channel, speaker=f"s{i}")
        for i, (start, duration, channel) in enumerate(segments)
    ]
    lhotse.RecordingSet.from_recordings([recording]).to_file(folder / "recordings.jsonl")
    lhotse.SupervisionSet.from_segments(supervisions).to_file(folder / "supervisions.jsonl")
    return folder


def record(path: Path, channels: int = 1, rate: int = RATE) -> np.ndarray:
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = np.stack([speech(rate, channel, rate) for channel in range(channels)], axis=1)
    soundfile.write(path, samples, rate, subtype="PCM_16")
    return samples


def edit(path: Path, change: Callable[[dict[str, Any]], Any], line: int = 0) -> None:
    """Change the fields of a line of a manifest."""
    lines = path.read_text().splitlines()
    fields = json.loads(lines[line])
    change(fields)
    lines[line] = json.dumps(fields)
    path.write_text("".join(f"{text}\n" for text in lines))


def counts(folder: Path) -> dict[str, int]:
    return {name: split.utterances for name, split in read_manifest(folder).splits.items()}


# What is read


@pytest.mark.parametrize("suffix", ["jsonl", "jsonl.gz"])
def test_shards_are_those_of_the_same_audio_in_a_data_directory(tmp_path: Path, suffix: str) -> None:
    paths = write_corpus(tmp_path / "audio", speakers=4, recordings=3, rate=22050)
    shard(write_data_dir(tmp_path / "kaldi", paths), tmp_path / "expected")
    shard(write_manifests(tmp_path / "lhotse", paths, suffix), tmp_path / "shards")
    expected, found = read_manifest(tmp_path / "expected"), read_manifest(tmp_path / "shards")
    assert found == expected  # with the hash of each shard, and that of what it was made from
    assert counts(tmp_path / "shards") == {"train": 6, "valid": 3, "test": 3}


def test_cuts_are_read_as_recordings_and_supervisions_are(tmp_path: Path) -> None:
    paths = write_corpus(tmp_path / "audio", speakers=2)
    folder = write_manifests(tmp_path / "both", paths)
    cuts = lhotse.CutSet.from_manifests(*manifests(paths))
    cuts.to_file(tmp_path / "cuts.jsonl.gz")
    expected, found = read_manifests(folder), read_manifests(tmp_path / "cuts.jsonl.gz")
    assert [replace(one, id="") for one in found] == [replace(one, id="") for one in expected]
    assert found[0].text == "Text of spk0-0"
    assert [one.speaker for one in found] == ["spk0"] * 3 + ["spk1"] * 3


def test_segments_are_cut_out_of_their_recording(tmp_path: Path) -> None:
    samples = record(tmp_path / "a.flac")
    folder = write_segments(tmp_path / "data", tmp_path / "a.flac", [(0.25, 0.5, 0), (0.5, 0.5, 0), (0.0, 1.0, 0)])
    first, second, whole = read_manifests(folder)
    np.testing.assert_array_equal(load_utterance(first), samples[RATE // 4 : 3 * RATE // 4, 0])
    np.testing.assert_array_equal(load_utterance(second), samples[RATE // 2 :, 0])
    np.testing.assert_array_equal(load_utterance(whole), samples[:, 0])
    assert (second.start, second.end, second.recording_id) == (0.5, None, "a")
    assert (whole.start, whole.end, whole.recording_id) == (None, None, None)


def test_a_channel_is_chosen_and_several_are_mixed(tmp_path: Path) -> None:
    samples = record(tmp_path / "a.wav", channels=2)
    folder = write_segments(tmp_path / "data", tmp_path / "a.wav", [(0.0, 1.0, 0), (0.5, 0.5, 1), (0.0, 1.0, [0, 1])])
    first, second, both = read_manifests(folder)
    np.testing.assert_array_equal(load_utterance(first), samples[:, 0])
    np.testing.assert_array_equal(load_utterance(second), samples[RATE // 2 :, 1])
    np.testing.assert_array_equal(load_utterance(both), np.rint(samples.mean(axis=1)).astype(np.int16))


def test_channels_may_be_in_files_of_their_own(tmp_path: Path) -> None:
    left, right = record(tmp_path / "left.wav"), record(tmp_path / "right.wav", channels=2)[:, 1:]
    soundfile.write(tmp_path / "right.wav", right, RATE, subtype="PCM_16")
    folder = write_segments(
        tmp_path / "data", tmp_path / "left.wav", [(0.0, 1.0, 0), (0.0, 1.0, 1), (0.0, 1.0, [0, 1])]
    )
    second = {"type": "file", "channels": [1], "source": str(tmp_path / "right.wav")}
    edit(folder / "recordings.jsonl", lambda fields: fields["sources"].append(second))
    one, other, both = read_manifests(folder)
    np.testing.assert_array_equal(load_utterance(one), left[:, 0])
    np.testing.assert_array_equal(load_utterance(other), right[:, 0])
    assert both.problem == "channels [0, 1] are not in one file of its recording"


def test_cuts_of_any_kind_are_read_or_say_why_not(tmp_path: Path) -> None:
    record(tmp_path / "a.wav", channels=3)
    recording = lhotse.Recording.from_file(tmp_path / "a.wav")
    one = recording.to_cut().truncate(duration=0.5)
    cuts = {
        "mono": lhotse.MonoCut("", 0.5, 0.5, 2, recording=recording),
        "multi": lhotse.MultiCut("", 0.0, 1.0, [0, 1, 2], recording=recording),
        "some": lhotse.MultiCut("", 0.0, 1.0, [0, 2], recording=recording),
        "mixed": one.append(one),
        "bare": lhotse.MonoCut("", 0.0, 1.0, 0),
        "fast": lhotse.MonoCut("", 0.0, 0.5, 0, recording=recording.perturb_speed(1.1)),
        "resampled": lhotse.MonoCut("", 0.0, 0.5, 0, recording=recording.resample(8000)),
    }
    lhotse.CutSet.from_cuts(cut.with_id(id) for id, cut in cuts.items()).to_file(tmp_path / "cuts.jsonl")
    found = {one.id: one for one in read_manifests(tmp_path / "cuts.jsonl")}
    assert {id: one.problem for id, one in found.items()} == {
        "mono": None,
        "multi": None,
        "some": "channels [0, 2] are neither one nor all of its file",
        "mixed": "a MixedCut is no part of one recording",
        "bare": "a cut without a recording",
        "fast": "lhotse would change its recording by Speed, which is not done here",
        "resampled": None,
    }
    assert (found["mono"].start, found["mono"].end, found["mono"].channel) == (0.5, None, 2)
    assert found["multi"].channel is None
    assert load_utterance(found["resampled"]).shape == (RATE // 2,)


def test_a_cut_with_several_supervisions_has_their_text_in_order(tmp_path: Path) -> None:
    record(tmp_path / "a.wav")
    recording = lhotse.Recording.from_file(tmp_path / "a.wav")
    supervisions = [
        lhotse.SupervisionSegment(f"s{start}", "a", start, 0.2, text=f"at {start}", speaker=speaker)
        for start, speaker in ((0.5, "ann"), (0.1, "bob"))
    ]
    cut = lhotse.MonoCut("c", 0.0, 1.0, 0, supervisions=supervisions, recording=recording)
    lhotse.CutSet.from_cuts([cut]).to_file(tmp_path / "cuts.jsonl")
    (utterance,) = read_manifests(tmp_path / "cuts.jsonl")
    assert (utterance.text, utterance.speaker) == ("at 0.1 at 0.5", "a")


def test_a_supervision_without_speaker_has_its_recording_as_one(tmp_path: Path) -> None:
    paths = write_corpus(tmp_path / "audio", speakers=1, recordings=2)
    found = read_manifests(write_manifests(tmp_path / "data", paths, speaker=None, text=None))
    assert [(one.speaker, one.text) for one in found] == [("spk0-0", None), ("spk0-1", None)]


def test_recordings_without_supervision_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_manifests(tmp_path / "data", write_corpus(tmp_path / "audio", speakers=2))
    lines = (folder / "supervisions.jsonl").read_text().splitlines(keepends=True)
    (folder / "supervisions.jsonl").write_text("".join(lines[:4]) + "\n")
    assert len(read_manifests(folder)) == 4
    assert "2 recordings without supervision are not used" in capsys.readouterr().out


@given(st.data())
def test_the_channel_of_a_file_is_the_one_at_its_place(data: st.DataObject) -> None:
    channels = data.draw(st.lists(st.integers(0, 20), min_size=1, max_size=8, unique=True))
    cut = data.draw(st.integers(0, len(channels)))
    sources = [AudioSource("file", part, f"{i}.wav") for i, part in enumerate((channels[:cut], channels[cut:])) if part]
    wanted = data.draw(st.sampled_from(channels))
    path, index = find_channel(Recording("r", sources, RATE, 1.0), {wanted})
    (source,) = (source for source in sources if source.source == path)
    assert source.channels[index or 0] == wanted
    assert (index is None) == (len(source.channels) == 1)


# Parts


def parts(folder: Path) -> dict[str, Path]:
    """Recordings of six speakers as a data directory of four, a folder of manifests and a file of cuts of one each."""
    paths = write_corpus(folder / "audio", speakers=6, recordings=2)
    lhotse.CutSet.from_manifests(*manifests(paths[10:])).to_file(folder / "x_cuts_test-clean.jsonl.gz")
    return {
        "train": write_data_dir(folder / "si284", paths[:8]),
        "valid": write_manifests(folder / "dev-clean", paths[8:10], "jsonl.gz"),
        "test": folder / "x_cuts_test-clean.jsonl.gz",
    }


def test_parts_are_given_by_their_paths_in_either_form(tmp_path: Path) -> None:
    given = {split: str(path) for split, path in parts(tmp_path).items()}
    command = [sys.executable, "-m", "zfaudio", "shard"]
    options = [word for split, path in given.items() for word in (f"--{split}", path)]
    finished = subprocess.run([*command, *options, tmp_path / "shards"], capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    assert counts(tmp_path / "shards") == {"train": 8, "valid": 2, "test": 2}
    shard(None, tmp_path / "again", **given)
    assert read_manifest(tmp_path / "again") == read_manifest(tmp_path / "shards")
    shard(tmp_path, tmp_path / "inside", train="si284", valid="dev-clean", test="x_cuts_test-clean.jsonl.gz")
    assert read_manifest(tmp_path / "inside") == read_manifest(tmp_path / "shards")


def test_parts_that_are_missing_are_cut_off_the_training_part_by_speaker(tmp_path: Path) -> None:
    given = {split: str(path) for split, path in parts(tmp_path).items()}
    shard(None, tmp_path / "one", train=given["train"])
    assert counts(tmp_path / "one") == {"train": 4, "valid": 2, "test": 2}
    shard(None, tmp_path / "two", train=given["train"], test=given["test"])
    assert counts(tmp_path / "two") == {"train": 6, "valid": 2, "test": 2}
    assert {one.speaker for one in read_utterances(tmp_path / "two", "test")} == {"spk5"}


def test_folders_of_manifests_are_found_by_their_usual_names(tmp_path: Path) -> None:
    paths = write_corpus(tmp_path / "audio", speakers=3, recordings=2)
    for index, name in enumerate(("train", "dev", "test", "other")):
        write_manifests(tmp_path / "data" / name, paths[2 * index : 2 * index + 2] or paths[:1])
    shard(tmp_path / "data", tmp_path / "shards")
    assert counts(tmp_path / "shards") == {"train": 2, "valid": 2, "test": 2}


def test_a_single_manifest_is_split_by_speaker(tmp_path: Path) -> None:
    folder = write_manifests(tmp_path / "data", write_corpus(tmp_path / "audio", speakers=3))
    for name, source in (("folder", folder), ("file", folder / "supervisions.jsonl")):
        shard(source, tmp_path / name)
        assert counts(tmp_path / name) == {"train": 3, "valid": 3, "test": 3}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "give SOURCE and OUT, or only OUT and the parts: --train PATH"),
        ({"valid": "dev-clean"}, "give SOURCE and OUT, or only OUT and the parts: --train PATH"),
        ({"train": "nowhere"}, "--train nowhere: neither a Kaldi data directory"),
        ({"train": "si284", "test": "audio"}, "--test audio: neither a Kaldi data directory"),
        ({"train": "si284", "test": "./si284"}, "name the same folder twice"),
    ],
)
def test_parts_that_are_wrong_are_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: dict[str, str], message: str
) -> None:
    parts(tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message):
        shard(None, tmp_path / "shards", **given)


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
