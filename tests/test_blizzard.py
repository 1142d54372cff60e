from pathlib import Path

import numpy as np
import pytest
import soundfile
from speech import load_utterance

from data_prep.blizzard import blizzard
from zfaudio.corpus.kaldi import read_data_dir
from zfaudio.errors import UserError

SPLITS = ("train", "valid", "test")


def record(path: Path, seconds: float, rate: int = 44100, channels: int = 1) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = np.random.default_rng(0).integers(-3000, 3000, (round(seconds * rate), channels)).astype(np.int16)
    soundfile.write(path, samples, rate)


def test_unsegmented_mp3_is_cut_to_half_seconds_split_in_order(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in (1, 2, 10):
        record(tmp_path / "in" / "book" / f"chapter_{number}.mp3", 10.2)
    blizzard(str(tmp_path / "in"), str(tmp_path / "out"))
    parts = {split: read_data_dir(tmp_path / "out" / split) for split in SPLITS}
    assert {split: len(part) for split, part in parts.items()} == {"train": 54, "valid": 3, "test": 3}
    every = [utterance for split in SPLITS for utterance in parts[split]]
    assert [Path(u.recording).stem for u in every[::20]] == ["chapter_1", "chapter_2", "chapter_10"]
    assert [u.start for u in parts["test"]] == [8.5, 9.0, 9.5]
    assert all(u.end - u.start == 0.5 for u in every if u.start is not None and u.end is not None)
    assert {len(load_utterance(u, 16000)) for u in parts["valid"]} == {8000}
    assert "not used at the ends of recordings: 0.6 seconds" in capsys.readouterr().out


def test_segmented_wav_in_numeric_order(tmp_path: Path) -> None:
    for number in (9, 10, 11):
        record(tmp_path / "in" / "wavn" / f"CB-EM-{number}.wav", 2.0, rate=16000)
    blizzard(str(tmp_path / "in"), str(tmp_path / "out"), valid_fraction=0.25, test_fraction=0.25, nj=2)
    stems = [{Path(u.recording).stem for u in read_data_dir(tmp_path / "out" / split)} for split in SPLITS]
    assert stems == [{"CB-EM-9", "CB-EM-10"}, {"CB-EM-10", "CB-EM-11"}, {"CB-EM-11"}]


def test_same_speech_in_both_layouts_is_used_once(tmp_path: Path) -> None:
    record(tmp_path / "in" / "chapter.mp3", 20.0)
    record(tmp_path / "in" / "sentence.wav", 20.0)
    for layout, suffix in (("auto", ".mp3"), ("segmented", ".wav")):
        blizzard(str(tmp_path / "in"), str(tmp_path / layout), layout=layout)
        used = {Path(u.recording).suffix for split in SPLITS for u in read_data_dir(tmp_path / layout / split)}
        assert used == {suffix}


def test_bad_and_short_recordings_are_rejected(tmp_path: Path) -> None:
    record(tmp_path / "in" / "a.wav", 20.0)
    record(tmp_path / "in" / "b.wav", 0.4)
    (tmp_path / "in" / "c.wav").write_bytes(b"")
    blizzard(str(tmp_path / "in"), str(tmp_path / "out"))
    rejects = (tmp_path / "out" / "rejects.txt").read_text()
    assert "too short: 0.4000 s" in rejects
    assert "empty file" in rejects
    with pytest.raises(UserError, match=r"b.wav: too short"):
        blizzard(str(tmp_path / "in"), str(tmp_path / "out"), strict=True)


def test_folder_without_recordings_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no .mp3 or .wav files"):
        blizzard(str(tmp_path), str(tmp_path / "out"))
    with pytest.raises(UserError, match=r"no .mp3 files"):
        blizzard(str(tmp_path), str(tmp_path / "out"), layout="unsegmented")


def test_hidden_folders_are_skipped_and_links_followed(tmp_path: Path) -> None:
    record(tmp_path / "in" / "book" / "chapter_1.mp3", 10.0)
    record(tmp_path / "in" / ".Trash-1000" / "chapter_2.mp3", 10.0)
    record(tmp_path / "elsewhere" / "chapter_3.mp3", 10.0)
    (tmp_path / "in" / "more").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "in" / "book" / "up").symlink_to(tmp_path / "in")
    record(tmp_path / "in" / "book" / "line\nbreak.mp3", 1.0)
    blizzard(str(tmp_path / "in"), str(tmp_path / "out"))
    found = [utterance for split in SPLITS for utterance in read_data_dir(tmp_path / "out" / split)]
    assert {Path(u.recording).stem for u in found} == {"chapter_1", "chapter_3"}
    assert "line break in the file's name" in (tmp_path / "out" / "rejects.txt").read_text()
