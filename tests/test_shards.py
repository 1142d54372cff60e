"""`zfaudio shard`, as a command and from Python."""

import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from speech import load_utterance, speech, write_corpus, write_data_dir

from zfaudio.corpus.folder import FolderConfig
from zfaudio.corpus.kaldi import read_data_dir
from zfaudio.data.frames import moments
from zfaudio.data.manifest import check_shards, read_manifest
from zfaudio.data.shard import shard
from zfaudio.data.shard_reader import read_utterances
from zfaudio.errors import UserError


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def ids(location: Path, split: str) -> list[str]:
    return [utterance.id for utterance in read_utterances(location, split)]


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "zfaudio", "shard", *map(str, arguments)]


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*arguments), capture_output=True, text=True, check=False)


@pytest.fixture
def splits(tmp_path: Path) -> Path:
    """Data directories of 8 training, 2 validation and 2 test recordings."""
    recordings = write_corpus(tmp_path / "audio")
    for split, part in {"train": recordings[:8], "valid": recordings[8:10], "test": recordings[10:]}.items():
        write_data_dir(tmp_path / "data" / split, part)
    return tmp_path / "data"


# What the shards hold


def test_shards_hold_the_recordings_sample_for_sample(tmp_path, splits, capsys):
    out = tmp_path / "shards"
    shard(splits, out, utterances_per_shard=3)
    manifest = read_manifest(str(out))
    check_shards(str(out), manifest)
    assert {name: len(split.shards) for name, split in manifest.splits.items()} == {
        "train": 3,
        "valid": 1,
        "test": 1,
    }
    corpus = []
    for split in manifest.splits:
        expected = {u.id: (u, load_utterance(u)) for u in read_data_dir(splits / split)}
        found = list(read_utterances(str(out), split))
        assert sorted(ids(out, split)) == sorted(expected)
        for framed in found:
            utterance, waveform = expected[framed.id]
            assert (framed.speaker, framed.samples, framed.start) == (utterance.speaker, len(waveform), 0.0)
            assert framed.frames.shape == (len(waveform) // 200, 200)
            np.testing.assert_array_equal(framed.frames.reshape(-1), waveform[: framed.frames.size])
        entry = manifest.splits[split]
        assert entry.utterances == len(found)
        assert entry.frames == sum(len(utterance.frames) for utterance in found)
        assert entry.frames == sum(tar.frames for tar in entry.shards)
        assert entry.dropped_samples == sum(utterance.samples - utterance.frames.size for utterance in found)
        assert entry.speakers == len({utterance.speaker for utterance in found})
        if split == "train":
            corpus = [utterance.frames.reshape(-1) for utterance in found]
    whole = moments(np.concatenate(corpus))
    assert manifest.mean == pytest.approx(whole.mean, rel=1e-9)
    assert manifest.deviation == pytest.approx(whole.deviation, rel=1e-12)
    assert sorted(contents(out)) == [
        "manifest.json",
        "rejects.txt",
        "test-000000.tar",
        "train-000000.tar",
        "train-000001.tar",
        "train-000002.tar",
        "valid-000000.tar",
    ]
    assert [path for path in out.iterdir() if path.is_dir()] == []
    printed = capsys.readouterr().out
    assert "train: 8 utterances, 3 speakers" in printed
    assert "rejected: 0" in printed


def test_training_utterances_are_mixed_and_the_others_in_order(tmp_path, splits):
    shard(splits, tmp_path / "a")
    shard(splits, tmp_path / "b", seed=1)
    training = [ids(tmp_path / name, "train") for name in ("a", "b")]
    validation = [ids(tmp_path / name, "valid") for name in ("a", "b")]
    assert sorted(training[0]) != training[0] != training[1]
    assert sorted(validation[0]) == validation[0] == validation[1]


def test_any_frame_size_and_rate(tmp_path, splits):
    shard(splits, tmp_path / "shards", sample_rate=8000, frame_size=33)
    manifest = read_manifest(str(tmp_path / "shards"))
    assert (manifest.sample_rate, manifest.frame_size) == (8000, 33)
    for utterance in read_utterances(str(tmp_path / "shards"), "test"):
        assert utterance.frames.shape == (utterance.samples // 33, 33)
        assert utterance.samples == pytest.approx(0.6 * 8000, abs=300)


def test_segments_begin_where_the_data_directory_says(tmp_path):
    recording = tmp_path / "long.wav"
    soundfile.write(recording, speech(32000), 16000)
    data = tmp_path / "data" / "train"
    data.mkdir(parents=True)
    (data / "wav.scp").write_text(f"long {recording}\n")
    (data / "segments").write_text("s-a long 0.25 0.75\ns-b long 1.0 1.5\n")
    (data / "utt2spk").write_text("s-a s\ns-b s\n")
    (data / "spk2utt").write_text("s s-a s-b\n")
    shard(tmp_path / "data", tmp_path / "shards")
    found = {utterance.id: utterance for utterance in read_utterances(str(tmp_path / "shards"), "train")}
    assert {name: utterance.start for name, utterance in found.items()} == {"s-a": 0.25, "s-b": 1.0}
    np.testing.assert_array_equal(found["s-b"].frames.reshape(-1), speech(32000)[16000:24000])


def test_one_data_directory_is_split_by_speaker(tmp_path):
    data = write_data_dir(tmp_path / "data", write_corpus(tmp_path / "audio", speakers=6))
    shard(data, tmp_path / "shards", folder=FolderConfig(valid_fraction=0.2, test_fraction=0.2))
    speakers = [
        {utterance.speaker for utterance in read_utterances(str(tmp_path / "shards"), split)}
        for split in ("train", "valid", "test")
    ]
    assert [len(part) for part in speakers] == [4, 1, 1]
    assert len(set.union(*speakers)) == 6


def test_a_folder_of_audio_is_one_command_away(tmp_path):
    write_corpus(tmp_path / "audio", speakers=5, suffix="flac", rate=22050)
    finished = run(tmp_path / "audio", tmp_path / "shards", "--nj", 2, "--folder.test-fraction", 0.3)
    assert finished.returncode == 0, finished.stderr
    manifest = read_manifest(str(tmp_path / "shards"))
    assert {name: split.speakers for name, split in manifest.splits.items()} == {"train": 2, "valid": 1, "test": 2}
    assert "rejected: 0" in finished.stdout


# What cannot be used


def spoil(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:20])


def test_unusable_recordings_are_left_out_listed_and_counted(tmp_path, splits, capsys):
    bad = [tmp_path / "audio" / "spk0" / "spk0-1.wav", tmp_path / "audio" / "spk3" / "spk3-0.wav"]
    spoil(bad[0])
    soundfile.write(bad[1], speech(150), 16000)
    shard(splits, tmp_path / "shards")
    assert read_manifest(str(tmp_path / "shards")).splits["train"].utterances == 7
    rows = [line.split("\t") for line in (tmp_path / "shards" / "rejects.txt").read_text().splitlines()]
    assert [(row[0], row[2]) for row in rows] == [("spk0-1", str(bad[0])), ("spk3-0", str(bad[1]))]
    assert "shorter than one frame" in rows[1][1]
    assert "rejected: 2" in capsys.readouterr().out


def test_what_only_decoding_shows_is_found_in_a_folder_too(tmp_path, capsys):
    write_corpus(tmp_path / "audio", speakers=1, recordings=6, seconds=1.0, suffix="flac")
    bad = tmp_path / "audio" / "spk0" / "spk0-2.flac"
    bad.write_bytes(bad.read_bytes()[:9000])
    shard(tmp_path / "audio", tmp_path / "shards")
    assert sum(split.utterances for split in read_manifest(str(tmp_path / "shards")).splits.values()) == 5
    (row,) = (tmp_path / "shards" / "rejects.txt").read_text().splitlines()
    assert row.endswith(f"\t{bad}")
    assert "rejected: 1" in capsys.readouterr().out
    with pytest.raises(UserError, match=r"spk0-2\.flac: .*--strict"):
        shard(tmp_path / "audio", tmp_path / "strict", strict=True)


def test_strict_stops_at_the_first(tmp_path, splits):
    spoil(tmp_path / "audio" / "spk0" / "spk0-1.wav")
    with pytest.raises(UserError, match=r"spk0-1\.wav: .*--strict"):
        shard(splits, tmp_path / "shards", strict=True)
    assert not (tmp_path / "shards" / "manifest.json").exists()


def test_a_shard_of_which_nothing_is_usable_is_not_written(tmp_path, splits):
    for name in ("spk2-2", "spk3-0"):
        spoil(tmp_path / "audio" / name[:4] / f"{name}.wav")
    shard(splits, tmp_path / "shards")
    assert list(read_manifest(str(tmp_path / "shards")).splits) == ["train", "test"]
    assert not (tmp_path / "shards" / "valid-000000.tar").exists()


def test_nothing_usable_is_a_mistake_of_the_user(tmp_path, splits):
    for path in (tmp_path / "audio").glob("*/*.wav"):
        spoil(path)
    with pytest.raises(UserError, match="no training utterance is usable"):
        shard(splits, tmp_path / "shards")
    assert len((tmp_path / "shards" / "rejects.txt").read_text().splitlines()) == 12


def test_silence_alone_is_a_mistake_of_the_user(tmp_path):
    paths = write_corpus(tmp_path / "audio")
    for path in paths:
        soundfile.write(path, np.zeros(4000, np.int16), 16000)
    write_data_dir(tmp_path / "data" / "train", paths)
    with pytest.raises(UserError, match="silent"):
        shard(tmp_path / "data", tmp_path / "shards")


def test_no_training_part_is_a_mistake_of_the_user(tmp_path):
    write_data_dir(tmp_path / "data" / "test", write_corpus(tmp_path / "audio"))
    with pytest.raises(UserError, match="no training utterances"):
        shard(tmp_path / "data", tmp_path / "shards")


def test_missing_and_empty_sources_are_named(tmp_path):
    (tmp_path / "empty").mkdir()
    for name, reason in (("missing", "no such folder"), ("empty", "no audio files")):
        with pytest.raises(UserError, match=f"{name}: {reason}"):
            shard(tmp_path / name, tmp_path / "shards")


def test_commands_run_only_when_allowed(tmp_path):
    recording = write_corpus(tmp_path / "audio", speakers=1, recordings=1)[0]
    data = write_data_dir(tmp_path / "data" / "train", [recording])
    (data / "wav.scp").write_text(f"spk0-0 cat {recording} |\n")
    with pytest.raises(UserError, match="--allow-pipes"):
        shard(tmp_path / "data", tmp_path / "shards")
    shard(tmp_path / "data", tmp_path / "shards", allow_pipes=True)
    assert read_manifest(str(tmp_path / "shards")).splits["train"].utterances == 1


@pytest.mark.parametrize("option", ["frame_size", "sample_rate", "utterances_per_shard"])
def test_sizes_below_one_are_refused(tmp_path, splits, option):
    with pytest.raises(UserError, match=option.replace("_", "-")):
        shard(splits, tmp_path / "shards", **{option: 0})


# Reproducibility


def test_processes_and_place_change_no_byte(tmp_path, splits):
    shard(splits, tmp_path / "one", utterances_per_shard=2)
    shard(splits, tmp_path / "two", utterances_per_shard=2, nj=2)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    shutil.move(tmp_path / "audio", tmp_path / "moved")
    moved = sorted((tmp_path / "moved").glob("*/*.wav"))
    for split, part in {"train": moved[:8], "valid": moved[8:10], "test": moved[10:]}.items():
        write_data_dir(tmp_path / "again" / split, part)
    shard(tmp_path / "again", tmp_path / "three", utterances_per_shard=2)
    assert contents(tmp_path / "one") == contents(tmp_path / "three")


def test_a_dask_cluster_changes_no_byte(tmp_path, splits):
    distributed = pytest.importorskip("distributed")
    shard(splits, tmp_path / "here", utterances_per_shard=2)
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        shard(splits, tmp_path / "there", utterances_per_shard=2, dask=cluster.scheduler_address)
    assert contents(tmp_path / "here") == contents(tmp_path / "there")


@pytest.mark.parametrize("nj", [1, 2])
def test_a_run_killed_at_any_moment_is_finished_by_the_next(tmp_path, nj):
    write_data_dir(tmp_path / "data" / "train", write_corpus(tmp_path / "audio", speakers=20, recordings=4))
    spoil(tmp_path / "audio" / "spk7" / "spk7-1.wav")
    arguments = ("--utterances-per-shard", 2, "--nj", nj)
    assert run(tmp_path / "data", tmp_path / "whole", *arguments).returncode == 0
    out, rng = tmp_path / "killed", random.Random(nj)
    for shards_before_the_kill in (0, 3, 17):
        process = subprocess.Popen(command(tmp_path / "data", out, *arguments), stderr=subprocess.DEVNULL)
        while process.poll() is None and len(list(out.glob("*.tar"))) < shards_before_the_kill:
            time.sleep(0.001)
        time.sleep(rng.uniform(0, 0.01))
        process.send_signal(signal.SIGKILL)
        process.wait()
        for path in out.glob("*.tar"):  # each shard under its final name is complete
            assert path.read_bytes() == (tmp_path / "whole" / path.name).read_bytes()
    assert not (out / "manifest.json").exists()
    finished = run(tmp_path / "data", out, *arguments)
    assert finished.returncode == 0, finished.stderr
    assert contents(out) == contents(tmp_path / "whole")


def test_what_a_stopped_run_finished_is_not_made_again(tmp_path, splits):
    shard(splits, tmp_path / "whole", utterances_per_shard=2)
    spoiled = tmp_path / "audio" / "spk3" / "spk3-2.wav"  # a test utterance, because training shards are made first
    original = spoiled.read_bytes()
    spoiled.write_bytes(bytes(len(original)))
    with pytest.raises(UserError):
        shard(splits, tmp_path / "out", utterances_per_shard=2, strict=True)
    spoiled.write_bytes(original)
    finished = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*.tar")}
    assert len(finished) == 5
    shard(splits, tmp_path / "out", utterances_per_shard=2)
    assert {path: path.stat().st_mtime_ns for path in finished} == finished
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_a_stale_shard_under_the_final_name_is_replaced(tmp_path, splits):
    shard(splits, tmp_path / "whole")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "train-000000.tar").write_bytes(b"of something else")
    shard(splits, tmp_path / "out")
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_a_finished_run_is_left_alone(tmp_path, splits, capsys):
    out = tmp_path / "shards"
    manifest = shard(splits, out)
    assert manifest == read_manifest(out)
    before = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    assert shard(str(splits), str(out)) == manifest
    assert "already finished" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in out.iterdir()} == before
    with pytest.raises(UserError, match="other recordings or settings"):
        shard(splits, out, frame_size=100)
    (out / "test-000000.tar").unlink()
    with pytest.raises(UserError, match=r"test-000000\.tar: missing"):
        shard(splits, out)


def test_an_unfinished_run_of_other_settings_or_recordings_is_not_continued(tmp_path, splits):
    out, bad = tmp_path / "shards", tmp_path / "audio" / "spk0" / "spk0-0.wav"
    spoil(bad)
    with pytest.raises(UserError):
        shard(splits, out, strict=True)
    with pytest.raises(
        UserError, match="holds an unfinished run with other recordings or settings; delete it to start again"
    ):
        shard(splits, out, frame_size=100)
    soundfile.write(bad, speech(9000), 16000)
    with pytest.raises(
        UserError, match="holds an unfinished run with other recordings or settings; delete it to start again"
    ):
        shard(splits, out)


def test_a_full_disk_leaves_no_half_shard_and_one_clear_line(tmp_path, splits):
    out = tmp_path / "shards"

    def small_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))

    arguments = command(splits, out, "--utterances-per-shard", 2)
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    full = subprocess.run(
        arguments, capture_output=True, text=True, check=False, preexec_fn=small_files, env=environment
    )
    assert full.returncode == 1
    assert full.stderr.strip().splitlines()[-1].startswith("zfaudio shard: error:")
    assert "make room and run the same command again" in full.stderr
    assert "Traceback" not in full.stderr
    assert list(out.glob("*.tar")) == []
    assert not (out / "manifest.json").exists()
    finished = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    shard(splits, tmp_path / "whole", utterances_per_shard=2)
    assert contents(out) == contents(tmp_path / "whole")


def test_a_file_in_the_way_is_named(tmp_path, splits):
    (tmp_path / "shards").write_text("")
    with pytest.raises(UserError, match="shards: not a folder"):
        shard(splits, tmp_path / "shards")


def test_a_second_run_in_the_same_folder_is_refused_and_names_the_first(tmp_path, splits, monkeypatch):
    module = sys.modules["zfaudio.data.shard"]
    run_parallel = module.run_parallel

    def while_another_starts(*args, **kwargs):
        with pytest.raises(UserError, match=rf"\.unfinished-.*: in use by zfaudio shard, process {os.getpid()} on "):
            shard(splits, tmp_path / "shards")
        return run_parallel(*args, **kwargs)

    monkeypatch.setattr(module, "run_parallel", while_another_starts)
    shard(splits, tmp_path / "shards")
    assert not list((tmp_path / "shards").glob(".*"))
