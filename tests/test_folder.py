import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from speech import load_utterance

from data_prep.folder import audio_folder
from zfaudio.config import FolderConfig
from zfaudio.corpus.folder import prepare_folder
from zfaudio.corpus.kaldi import read_data_dir, validate_data_dir
from zfaudio.corpus.pauses import cut_at_fixed_length, cut_at_pauses
from zfaudio.corpus.splits import split_in_order
from zfaudio.errors import UserError

RATE = 16000


def record(path: Path, seconds: float = 0.2, rate: int = RATE, channels: int = 1) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = np.random.default_rng(0).integers(-9000, 9000, (round(seconds * rate), channels)).astype(np.int16)
    soundfile.write(path, samples, rate)


def ids(splits: dict) -> dict[str, list[str]]:
    return {split: [utterance.id for utterance in utterances] for split, utterances in splits.items()}


def test_formats_rates_and_channels_mix(tmp_path: Path) -> None:
    record(tmp_path / "a.wav", rate=44100, channels=2)
    record(tmp_path / "b.FLAC", rate=8000)
    record(tmp_path / "c.ogg", rate=22050)
    record(tmp_path / "d.mp3", rate=48000)
    (tmp_path / "notes.txt").write_text("no audio")
    splits, rejects = prepare_folder(tmp_path, FolderConfig())
    assert rejects == []
    assert sorted(id for split in ids(splits).values() for id in split) == ["a", "b", "c", "d"]
    for utterances in splits.values():
        for utterance in utterances:
            assert len(load_utterance(utterance, RATE)) == pytest.approx(0.2 * RATE, abs=2)


def test_speakers_stay_together_and_are_named_by_their_folder(tmp_path: Path) -> None:
    for speaker in range(6):
        for number in range(3):
            record(tmp_path / f"speaker {speaker}" / f"take-{number}.wav")
    splits, _ = prepare_folder(tmp_path, FolderConfig(valid_fraction=0.2, test_fraction=0.2))
    found = {split: {utterance.speaker for utterance in utterances} for split, utterances in splits.items()}
    assert {split: len(speakers) for split, speakers in found.items()} == {"train": 4, "valid": 1, "test": 1}
    assert len(set.union(*found.values())) == 6
    assert all(utterance.id.startswith(f"{utterance.speaker}-") for utterance in splits["train"])


def test_speaker_pattern(tmp_path: Path) -> None:
    for name in ("x/p1_a", "x/p2_a", "y/p1_b", "y/p3_a"):
        record(tmp_path / f"{name}.wav")
    splits, _ = prepare_folder(tmp_path, FolderConfig(speaker_pattern=r"(?P<speaker>p\d)_"))
    assert {u.speaker for part in splits.values() for u in part} == {"p1", "p2", "p3"}


@pytest.mark.parametrize(
    ("pattern", "problem"), [("(p", "speaker-pattern"), ("p.", "no group"), ("(?P<speaker>q)", "no speaker in a.wav")]
)
def test_wrong_speaker_pattern_is_explained(tmp_path: Path, pattern: str, problem: str) -> None:
    record(tmp_path / "a.wav")
    with pytest.raises(UserError, match=problem):
        prepare_folder(tmp_path, FolderConfig(speaker_pattern=pattern))


def test_split_by_speaker_needs_speakers(tmp_path: Path) -> None:
    for name in "abcd":
        record(tmp_path / f"{name}.wav")
    with pytest.raises(UserError, match="fewer than two speakers"):
        prepare_folder(tmp_path, FolderConfig(split_by="speaker"))


def test_split_does_not_depend_on_directory_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in range(12):
        record(tmp_path / f"{name}.wav", 0.05)
    config = FolderConfig(valid_fraction=0.25, test_fraction=0.25)
    first, _ = prepare_folder(tmp_path, config)

    def shuffled_walk(folder: str, onerror: object) -> Iterator[tuple[str, list[str], list[str]]]:
        yield str(folder), [], random.Random(1).sample(names, len(names))

    names = [path.name for path in tmp_path.iterdir()]
    monkeypatch.setattr("zfaudio.corpus.search.os.walk", shuffled_walk)
    second, _ = prepare_folder(tmp_path, config)
    other, _ = prepare_folder(tmp_path, FolderConfig(valid_fraction=0.25, test_fraction=0.25, seed=1))
    assert ids(first) == ids(second)
    assert ids(first) != ids(other)


def test_given_lists_decide(tmp_path: Path) -> None:
    for name in ("a", "sub/b", "c", "d"):
        record(tmp_path / "audio" / f"{name}.wav")
    lists = tmp_path / "lists"
    lists.mkdir()
    (lists / "train.txt").write_text("c.wav\n./sub/b.wav\n")
    (lists / "test.txt").write_text("a.wav\n")
    splits, _ = prepare_folder(tmp_path / "audio", FolderConfig(lists=str(lists)))
    paths = {split: [Path(u.recording).name for u in part] for split, part in splits.items()}
    assert {split: sorted(part) for split, part in paths.items()} == {
        "train": ["b.wav", "c.wav"],
        "valid": [],
        "test": ["a.wav"],
    }
    (lists / "valid.txt").write_text("a.wav\n")
    with pytest.raises(UserError, match="a second time"):
        prepare_folder(tmp_path / "audio", FolderConfig(lists=str(lists)))
    (lists / "valid.txt").write_text("e.wav\n")
    with pytest.raises(UserError, match=r"valid.txt: e.wav"):
        prepare_folder(tmp_path / "audio", FolderConfig(lists=str(lists)))


def test_names_that_kaldi_cannot_take_become_unique_ids(tmp_path: Path) -> None:
    for name in ("a b.wav", "a_b.wav", "a-b.wav", "a.wav", "a.flac", "ü.wav"):
        record(tmp_path / "in" / name)
    everything = FolderConfig(valid_fraction=0, test_fraction=0)
    audio_folder(str(tmp_path / "in"), str(tmp_path / "out"), folder=everything)
    assert validate_data_dir(tmp_path / "out" / "train") == []
    assert len(read_data_dir(tmp_path / "out" / "train")) == 6


def test_bad_recordings_are_left_out_with_their_reason(tmp_path: Path) -> None:
    source = tmp_path / "in"
    for name in "abcd":
        record(source / f"{name}.wav")
    (source / "empty.wav").write_bytes(b"")
    (source / "words.wav").write_text("not a recording")
    (source / "phone.m4a").write_bytes(b"....ftyp")
    record(source / "short.wav", 0.01)
    record(source / "line\nbreak.wav")
    record(source / "cut.flac", 2.0)
    (source / "cut.flac").write_bytes((source / "cut.flac").read_bytes()[:9000])
    soundfile.write(source / "nan.wav", np.full(9000, np.nan), RATE, subtype="FLOAT")
    audio_folder(str(source), str(tmp_path / "out"))
    lines = (tmp_path / "out" / "rejects.txt").read_text()
    for reason in (
        "empty file",
        "not readable as audio",
        "NaN",
        "too short",
        "line break",
        "libsndfile cannot read .m4a",
    ):
        assert reason in lines
    assert "cut.flac" in lines
    assert sum(len(read_data_dir(tmp_path / "out" / split)) for split in ("train", "valid", "test")) == 4
    with pytest.raises(UserError, match="--strict"):
        audio_folder(str(source), str(tmp_path / "out"), strict=True)


def test_folders_without_anything_usable_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere: no such folder"):
        prepare_folder(tmp_path / "nowhere", FolderConfig())
    with pytest.raises(UserError, match="no audio files"):
        prepare_folder(tmp_path, FolderConfig())
    (tmp_path / "a.wav").write_bytes(b"")
    with pytest.raises(UserError, match="none of 1 recordings is usable"):
        prepare_folder(tmp_path, FolderConfig())


def test_long_recording_is_cut_in_its_pauses(tmp_path: Path) -> None:
    speech = np.random.default_rng(0).integers(-9000, 9000, 2 * RATE).astype(np.int16)
    pause = np.zeros(RATE // 2, dtype=np.int16)
    soundfile.write(tmp_path / "a.wav", np.concatenate([speech, pause, speech, pause, speech, pause, speech]), RATE)
    splits, _ = prepare_folder(tmp_path, FolderConfig(max_seconds=3.0, valid_fraction=0.25, test_fraction=0.25))
    pieces = [utterance for split in ("train", "valid", "test") for utterance in splits[split]]
    assert [len(part) for part in splits.values()] == [2, 1, 1]
    assert [piece.start for piece in pieces][1:] == [piece.end for piece in pieces][:-1]
    for piece, pause_at in zip(pieces, (2.0, 4.5, 7.0), strict=False):
        assert piece.end is not None
        assert pause_at < piece.end < pause_at + 0.5
    assert {piece.recording for piece in pieces} == {str(tmp_path / "a.wav")}


def test_cut_at_a_fixed_length_writes_segments(tmp_path: Path) -> None:
    for name in "abc":
        record(tmp_path / "in" / f"{name}.wav", 1.25)
    half_seconds = FolderConfig(cut="fixed", max_seconds=0.5)
    audio_folder(str(tmp_path / "in"), str(tmp_path / "out"), folder=half_seconds)
    utterances = read_data_dir(tmp_path / "out" / "train")
    assert [(u.start, u.end) for u in utterances] == [(0.0, 0.5), (0.5, 1.0), (1.0, 1.25)]


@given(st.integers(1, 4000), st.floats(0.5, 20.0), st.integers(0, 2**32 - 1))
def test_pieces_cut_at_pauses_cover_everything_and_are_never_too_long(steps: int, longest: float, seed: int) -> None:
    energies = np.random.default_rng(seed).exponential(size=steps)
    seconds = steps * 0.01 + 0.004
    pieces = cut_at_pauses(energies, 0.01, seconds, longest)
    assert pieces[0][0] == 0.0
    assert pieces[-1][1] == seconds
    assert [end for _, end in pieces[:-1]] == [start for start, _ in pieces[1:]]
    lengths = [end - start for start, end in pieces]
    assert max(lengths) <= longest + 1e-6
    assert len(pieces) == 1 or min(lengths) >= longest / 3 - 1e-6


@given(st.floats(0.01, 100.0), st.floats(0.1, 10.0))
def test_pieces_of_fixed_length_are_equal_but_for_the_last(seconds: float, length: float) -> None:
    pieces = cut_at_fixed_length(seconds, length, shortest=0.0125)
    covered = sum(end - start for start, end in pieces)
    assert seconds - 0.0125 - 1e-6 <= covered <= seconds + 1e-6
    assert all(end - start == pytest.approx(length) for start, end in pieces[:-1])


@given(st.integers(1, 500), st.floats(0, 0.4), st.floats(0, 0.4))
def test_split_in_order_loses_nothing(count: int, valid: float, test: float) -> None:
    if count < 3:
        return
    parts = split_in_order(range(count), valid, test)
    assert [*parts["train"], *parts["valid"], *parts["test"]] == list(range(count))
    assert (len(parts["valid"]) > 0) == (valid > 0)
    assert len(parts["train"]) > 0


def test_impossible_fractions_are_refused() -> None:
    with pytest.raises(UserError, match="valid-fraction"):
        split_in_order(range(100), 0.5, 0.5)
    with pytest.raises(UserError, match="too few"):
        split_in_order(range(2), 0.05, 0.05)
