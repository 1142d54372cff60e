"""Manifests of lhotse, from recordings and supervisions, or cuts, to shards."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from lhotse_files import RATE, counts, edit, lhotse, manifests, record, write_manifests, write_segments
from speech import load_utterance, write_corpus, write_data_dir

from zfaudio.corpus.lhotse import AudioSource, Recording, find_channel, read_manifests
from zfaudio.data.manifest import read_manifest
from zfaudio.data.shard import shard
from zfaudio.data.shard_reader import read_utterances
from zfaudio.errors import UserError

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
