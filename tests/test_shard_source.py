"""What `zfaudio shard` takes for the splits, and what it says about the audio."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
from speech import speech, write_corpus, write_data_dir

from zfaudio.corpus.folder import FolderConfig
from zfaudio.data.manifest import read_manifest
from zfaudio.data.shard import shard
from zfaudio.data.shard_reader import read_utterances
from zfaudio.data.shard_writer import ShardRecord, read_finished_record
from zfaudio.errors import UserError


def counts(folder: Path) -> dict[str, int]:
    return {name: split.utterances for name, split in read_manifest(folder).splits.items()}


def data_dirs(folder: Path, audio: Path, names: tuple[str, ...]) -> Path:
    """Write data directories: the first of 4 recordings, all others of 2."""
    recordings = write_corpus(audio, speakers=len(names) + 1, recordings=2)
    parts = [recordings[:4]] + [recordings[i : i + 2] for i in range(4, len(recordings), 2)]
    for name, part in zip(names, parts, strict=False):
        write_data_dir(folder / name, part)
    return folder


# Splits


@pytest.mark.parametrize("valid", ["valid", "dev", "cv", "validation", "val"])
@pytest.mark.parametrize("test", ["test", "eval"])
def test_data_directories_are_found_by_their_usual_names(tmp_path: Path, valid: str, test: str) -> None:
    data = data_dirs(tmp_path / "data", tmp_path / "audio", ("train", valid, test))
    shard(data, tmp_path / "shards")
    assert counts(tmp_path / "shards") == {"train": 4, "valid": 2, "test": 2}


def test_other_names_are_given_and_what_is_not_used_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ("train_si284", "test_dev93", "test_eval92", "test")
    data = data_dirs(tmp_path / "data", tmp_path / "audio", names)
    with pytest.raises(UserError, match="no training utterances; --train names"):
        shard(data, tmp_path / "shards")
    assert "not used: the data directories test_dev93, test_eval92, train_si284" in capsys.readouterr().out
    shard(data, tmp_path / "shards", train="train_si284", valid="test_dev93", test="test_eval92")
    assert counts(tmp_path / "shards") == {"train": 4, "valid": 2, "test": 2}
    assert "not used: the data directories test (" in capsys.readouterr().out
    shard(data, tmp_path / "one", train="train_si284")
    assert counts(tmp_path / "one") == {"train": 4, "test": 2}


def test_data_directories_of_unknown_names_are_not_searched_as_a_folder_of_audio(tmp_path: Path) -> None:
    data = data_dirs(tmp_path / "data", tmp_path / "data" / "audio", ("one", "two"))
    with pytest.raises(UserError, match=r"holds data directories \(one, two\); name them with --train"):
        shard(data, tmp_path / "shards")


def test_folders_of_audio_may_be_the_splits(tmp_path: Path) -> None:
    write_corpus(tmp_path / "audio", speakers=4, recordings=3)
    for name in ("spk2", "spk3"):
        shutil.move(tmp_path / "audio" / name, tmp_path / "audio" / f"held-{name}")
    shard(tmp_path / "audio", tmp_path / "shards", train="spk0", test="held-spk3")
    assert counts(tmp_path / "shards") == {"train": 3, "test": 3}
    with pytest.raises(UserError, match="--train must name"):
        shard(tmp_path / "audio", tmp_path / "shards", test="held-spk3")
    with pytest.raises(UserError, match="--valid nowhere: no such folder"):
        shard(tmp_path / "audio", tmp_path / "shards", train="spk0", valid="nowhere")
    with pytest.raises(UserError, match="the same folder"):
        shard(tmp_path / "audio", tmp_path / "shards", train="spk0", valid="./spk0")


# Equal audio


def test_equal_audio_under_different_names_is_found_in_all_splits(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recordings = write_corpus(tmp_path / "audio")
    copy, converted = tmp_path / "audio/spk3/spk3-8.wav", tmp_path / "audio/spk3/spk3-9.flac"
    shutil.copy(recordings[0], copy)
    soundfile.write(converted, *soundfile.read(recordings[1], dtype="int16"), subtype="PCM_16")
    again = tmp_path / "audio/spk0/spk0-9.wav"
    shutil.copy(recordings[2], again)
    silent = [tmp_path / f"audio/spk{number}/spk{number}-s.wav" for number in (0, 3)]
    for path in silent:
        soundfile.write(path, np.zeros(4000, np.int16), 16000)
    write_data_dir(tmp_path / "data/train", [*recordings[:6], again, silent[0]])
    write_data_dir(tmp_path / "data/valid", [*recordings[6:9], copy])
    write_data_dir(tmp_path / "data/test", [*recordings[9:], converted, silent[1]])
    shard(tmp_path / "data", tmp_path / "shards", utterances_per_shard=2)
    assert (tmp_path / "shards/duplicates.txt").read_text() == (
        "test spk3-9\ttrain spk0-1\ntrain spk0-0\tvalid spk3-8\ntrain spk0-2\ttrain spk0-9\n"
    )
    said = capsys.readouterr().out
    assert (
        "warning: 4 utterances have the same audio as one of another split (spk3-9 of test is spk0-1 of train)" in said
    )
    assert "same audio within a split: 2 utterances" in said
    assert counts(tmp_path / "shards") == {"train": 8, "valid": 4, "test": 5}


def test_without_equal_audio_nothing_is_said_of_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "shards").mkdir()
    (tmp_path / "shards/duplicates.txt").write_text("of an earlier run")
    write_corpus(tmp_path / "audio")
    shard(tmp_path / "audio", tmp_path / "shards")
    assert not (tmp_path / "shards/duplicates.txt").exists()
    assert "same audio" not in capsys.readouterr().out


# Levels and channels


def test_samples_at_full_scale_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = write_corpus(tmp_path / "audio", speakers=1, recordings=4)
    loud = speech(9600)
    loud[100:130], loud[5000:5012] = 32767, -32768
    loud[-1] = 32766
    soundfile.write(paths[0], loud, 16000)
    shard(tmp_path / "audio", tmp_path / "shards", folder=FolderConfig(valid_fraction=0, test_fraction=0))
    samples = 200 * read_manifest(tmp_path / "shards").splits["train"].frames
    assert f"at full scale: 42 of {samples} samples (0.11 %)" in capsys.readouterr().out


def test_channels_of_opposite_phase_are_warned_of_and_one_can_be_chosen(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = write_corpus(tmp_path / "audio", speakers=1, recordings=4)
    left = speech(9600)
    soundfile.write(paths[1], np.stack([left, -left], axis=1), 16000)
    everything = FolderConfig(valid_fraction=0, test_fraction=0)
    shard(tmp_path / "audio", tmp_path / "mixed", folder=everything)
    assert "warning: in 1 utterances the channels cancel each other out" in capsys.readouterr().out
    soundfile.write(paths[1], np.stack([left, -left], axis=1), 16000)
    for path in (paths[0], *paths[2:]):
        path.unlink()
    with pytest.raises(UserError, match=r"cancel each other out \(--channel 0"):
        shard(tmp_path / "audio", tmp_path / "silent", folder=everything)
    for channel, sign in ((0, 1), (1, -1)):
        out = tmp_path / f"channel-{channel}"
        shard(tmp_path / "audio", out, channel=channel, folder=everything)
        (utterance,) = read_utterances(str(out), "train")
        np.testing.assert_array_equal(utterance.frames.reshape(-1), sign * left)
        assert "cancel" not in capsys.readouterr().out
    with pytest.raises(UserError, match="other recordings or settings"):
        shard(tmp_path / "audio", tmp_path / "channel-0", channel=1, folder=everything)
    with pytest.raises(UserError, match="no training utterance is usable"):
        shard(tmp_path / "audio", tmp_path / "channel-2", channel=2, folder=everything)
    assert "no channel 2 (counted from 0): it has 2" in (tmp_path / "channel-2/rejects.txt").read_text()
    with pytest.raises(UserError, match="--channel -1"):
        shard(tmp_path / "audio", tmp_path / "shards", channel=-1)


# Names, and files that are no recordings


@pytest.mark.parametrize("nj", [1, 2])
def test_names_of_any_bytes_are_cut_into_shards_and_listed(tmp_path: Path, nj: int) -> None:
    paths = write_corpus(tmp_path / "audio", speakers=1, recordings=4)
    good, bad = (os.fsdecode(os.fsencode(paths[0].parent) + name) for name in (b"/caf\xe9.wav", b"/b\xe0d.wav"))
    paths[1].rename(good)
    Path(bad).write_bytes(b"RIFF")
    everything = FolderConfig(valid_fraction=0, test_fraction=0)
    shard(tmp_path / "audio", tmp_path / "shards", folder=everything, nj=nj)
    ids = [utterance.id for utterance in read_utterances(str(tmp_path / "shards"), "train")]
    assert sorted(ids) == ["caf_", "spk0_0", "spk0_2", "spk0_3"]
    (line,) = (tmp_path / "shards/rejects.txt").read_text(encoding="utf-8").splitlines()
    assert line.endswith(r"/b\xe0d.wav")


def test_ids_of_any_bytes_are_cut_into_shards(tmp_path: Path) -> None:
    data = write_data_dir(tmp_path / "data/train", write_corpus(tmp_path / "audio", speakers=1))
    for table in data.iterdir():
        table.write_bytes(table.read_bytes().replace(b"spk0-1", b"spk0-\xe9") if table.name != "wav.scp" else b"")
    (data / "wav.scp").write_bytes(
        b"".join(
            key + f" {tmp_path}/audio/spk0/spk0-{number}.wav\n".encode()
            for key, number in ((b"spk0-0", 0), (b"spk0-2", 2), (b"spk0-\xe9", 1))
        )
    )
    for table in ("utt2spk", "spk2utt"):
        (data / table).write_bytes(
            b"spk0-0 spk0\nspk0-2 spk0\nspk0-\xe9 spk0\n" if table == "utt2spk" else b"spk0 spk0-0 spk0-2 spk0-\xe9\n"
        )
    shard(tmp_path / "data", tmp_path / "shards")
    ids = [utterance.id for utterance in read_utterances(str(tmp_path / "shards"), "train")]
    assert sorted(ids) == ["spk0-0", "spk0-2", r"spk0-\xe9"]


def test_pipes_and_devices_among_recordings_are_rejected_at_once(tmp_path: Path) -> None:
    paths = write_corpus(tmp_path / "audio", speakers=1, recordings=4)
    os.mkfifo(tmp_path / "audio/spk0/pipe.wav")
    everything = FolderConfig(valid_fraction=0, test_fraction=0)
    shard(tmp_path / "audio", tmp_path / "shards", folder=everything)
    assert "not a file but a pipe" in (tmp_path / "shards/rejects.txt").read_text()
    data = write_data_dir(tmp_path / "data/train", paths)
    (data / "wav.scp").write_text((data / "wav.scp").read_text().replace(str(paths[0]), "/dev/zero"))
    shard(tmp_path / "data", tmp_path / "others")
    assert "not a file but a pipe, a socket or a device\t/dev/zero" in (tmp_path / "others/rejects.txt").read_text()


def test_one_wrong_segment_is_listed(tmp_path: Path) -> None:
    recordings = write_corpus(tmp_path / "audio", speakers=1, recordings=1, seconds=2.0)
    data = write_data_dir(tmp_path / "data/train", recordings)
    (data / "segments").write_text("spk0-a spk0-0 0 0.5\nspk0-b spk0-0 0.5 9.5\nspk0-c spk0-0 1.5 -1\n")
    (data / "utt2spk").write_text("spk0-a spk0\nspk0-b spk0\nspk0-c spk0\n")
    (data / "spk2utt").unlink()
    shard(tmp_path / "data", tmp_path / "shards")
    assert counts(tmp_path / "shards") == {"train": 2}
    (line,) = (tmp_path / "shards/rejects.txt").read_text().splitlines()
    assert line == f"spk0-b\tends at 9.5 s, but its recording ends at 2.000 s\t{recordings[0]}"
    with pytest.raises(UserError, match=r"spk0-b: ends at 9\.5 s"):
        shard(tmp_path / "data", tmp_path / "strict", strict=True)


# Records of finished shards


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "null", '{"split": 3, "name": "a"}', '{"name": "a", "moments": 1}', "\udce9"]
)
def test_damaged_record_means_that_the_shard_is_made_again(tmp_path: Path, content: str) -> None:
    (tmp_path / "a.json").write_bytes(content.encode("utf-8", "surrogateescape"))
    assert read_finished_record(tmp_path / "a.json", tmp_path / "a.tar") is None
    record = ShardRecord("train", "a.tar", digests={"a-\udce9": "0"})
    assert ShardRecord.from_json(record.to_json()) == record
