"""Which files of a folder are recordings, and what is said of the others."""

import os
from pathlib import Path

import numpy as np
import pytest
import soundfile
from speech import speech

from zfaudio.config import FolderConfig
from zfaudio.corpus.audio import read_audio
from zfaudio.corpus.folder import prepare_folder
from zfaudio.corpus.search import AUDIO_SUFFIXES, FOREIGN_SUFFIXES, find_files
from zfaudio.errors import UserError

RATE = 16000
TOGETHER = FolderConfig(valid_fraction=0, test_fraction=0)


@pytest.fixture(autouse=True)
def without_ffmpeg(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")


def record(path: Path, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(os.fsencode(path), speech(4000, seed), RATE, subtype="PCM_16", format="WAV")
    return path


def names(folder: Path) -> list[str]:
    return find_files(folder).audio


@pytest.mark.parametrize(
    "hidden", [".git/annex/objects/xx", ".ipynb_checkpoints", ".Trash-1000/files", "a/.cache", "__MACOSX"]
)
def test_hidden_folders_are_not_searched(tmp_path: Path, hidden: str, capsys: pytest.CaptureFixture[str]) -> None:
    record(tmp_path / "a" / "u0.wav")
    record(tmp_path / hidden / "u1.wav")
    record(tmp_path / "a" / ".u2.wav")
    assert names(tmp_path) == ["a/u0.wav"]
    splits, rejects = prepare_folder(tmp_path, TOGETHER)
    assert [utterance.id for utterance in splits["train"]] == ["u0"]
    assert rejects == []
    named = hidden.split("/")[0] if not hidden.startswith("a/") else hidden
    assert f"not searched: 1 hidden folders ({named})" in capsys.readouterr().out


def test_links_to_files_in_hidden_folders_are_recordings(tmp_path: Path) -> None:
    kept = record(tmp_path / ".git" / "annex" / "k0.wav")
    (tmp_path / "u0.wav").symlink_to(kept)
    (tmp_path / "u1.wav").symlink_to(tmp_path / ".git" / "annex" / "gone.wav")
    splits, rejects = prepare_folder(tmp_path, TOGETHER)
    assert [utterance.id for utterance in splits["train"]] == ["u0"]
    assert [(reject.id, reject.reason) for reject in rejects] == [("u1", "a link to a file that does not exist")]


def test_folders_behind_links_are_searched_once(tmp_path: Path) -> None:
    record(tmp_path / "corpus" / "a" / "u0.wav")
    record(tmp_path / "elsewhere" / "spk" / "v0.wav", 1)
    (tmp_path / "corpus" / "more").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "corpus" / "same").symlink_to(tmp_path / "corpus" / "a")
    (tmp_path / "corpus" / "a" / "up").symlink_to(tmp_path / "corpus")
    (tmp_path / "elsewhere" / "spk" / "back").symlink_to(tmp_path / "corpus" / "a")
    (tmp_path / "corpus" / "self").symlink_to(tmp_path / "corpus" / "self")
    (tmp_path / "corpus" / "gone").symlink_to(tmp_path / "nowhere")
    assert names(tmp_path / "corpus") == ["a/u0.wav", "more/spk/v0.wav"]
    (tmp_path / "corpus" / "above").symlink_to(tmp_path)
    assert sum(name.endswith("u0.wav") for name in names(tmp_path / "corpus")) == 1
    (tmp_path / "linked").symlink_to(tmp_path / "elsewhere")
    assert names(tmp_path / "linked") == ["spk/back/u0.wav", "spk/v0.wav"]


def test_folder_that_cannot_be_searched_is_a_reject(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record(tmp_path / "a" / "u0.wav")
    record(tmp_path / "locked" / "u1.wav")
    scandir = os.scandir

    def refusing(path: str) -> object:
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr("os.scandir", refusing)
    _, rejects = prepare_folder(tmp_path, TOGETHER)
    assert [(reject.file, reject.reason) for reject in rejects] == [
        (str(tmp_path / "locked"), "cannot be searched: Permission denied")
    ]


FORMATS = {
    ".wave": "WAV", ".bwf": "WAV", ".amb": "WAVEX", ".wv1": "NIST", ".wv2": "NIST", ".adc": "NIST", ".nist": "NIST",
    ".rf64": "RF64", ".aifc": "AIFF", ".snd": "AU", ".voc": "VOC", ".caf": "CAF", ".w64": "W64", ".avr": "AVR",
    ".sf": "IRCAM", ".ircam": "IRCAM", ".paf": "PAF", ".pvf": "PVF", ".8svx": "SVX", ".iff": "SVX", ".WAV": "WAV",
}  # fmt: skip


@pytest.mark.parametrize("suffix", FORMATS)
def test_every_suffix_that_libsndfile_reads_is_taken(tmp_path: Path, suffix: str) -> None:
    soundfile.write(tmp_path / f"a{suffix}", speech(4000), RATE, subtype="PCM_16", format=FORMATS[suffix])
    splits, _ = prepare_folder(tmp_path, TOGETHER)
    assert [Path(utterance.recording).name for utterance in splits["train"]] == [f"a{suffix}"]
    np.testing.assert_array_equal(read_audio(tmp_path / f"a{suffix}")[0][:, 0], speech(4000))


def test_no_suffix_is_both_readable_and_foreign() -> None:
    assert not AUDIO_SUFFIXES & FOREIGN_SUFFIXES


def test_what_is_no_recording_is_counted_and_foreign_formats_are_rejects(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record(tmp_path / "a.wav")
    for name in ("b.m4a", "c.mka", "d.WMA", "e.raw"):
        (tmp_path / name).write_bytes(b"...")
    for name in ("a.txt", "b.txt", "a.TextGrid", "README"):
        (tmp_path / name).write_text("words")
    (tmp_path / "a.wav.bak").write_bytes((tmp_path / "a.wav").read_bytes())
    (tmp_path / "nothing.bak").write_bytes(b"")
    os.mkfifo(tmp_path / "pipe.fifo")
    _, rejects = prepare_folder(tmp_path, TOGETHER)
    assert [(Path(reject.file).name, reject.reason) for reject in rejects] == [
        ("a.wav.bak", "audio under the suffix of something else; rename it to use it"),
        ("b.m4a", "libsndfile cannot read .m4a; install ffmpeg, or convert it to FLAC"),
        ("c.mka", "libsndfile cannot read .mka; install ffmpeg, or convert it to FLAC"),
        ("d.WMA", "libsndfile cannot read .wma; install ffmpeg, or convert it to FLAC"),
        ("e.raw", "samples without a header (.raw): nothing says their rate; convert it to FLAC"),
    ]
    said = capsys.readouterr().out
    assert "no audio: 6 files (2 .txt, " in said
    for part in ("1 .textgrid", "1 without suffix", "1 .bak", "1 .fifo"):
        assert part in said


def test_folder_of_foreign_formats_alone_says_so(tmp_path: Path) -> None:
    (tmp_path / "a.m4a").write_bytes(b"...")
    with pytest.raises(UserError, match=r"no audio files .*a\.m4a: libsndfile cannot read \.m4a; install ffmpeg"):
        prepare_folder(tmp_path, TOGETHER)


def test_foreign_formats_are_taken_where_ffmpeg_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded = record(tmp_path / "decoded" / "x.wav")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.m4a").write_bytes(b"\0\0\0\x20ftypM4A ")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "ffmpeg").write_text(f"#!/bin/sh\nexec /bin/cat '{decoded}'\n")
    (tmp_path / "bin" / "ffmpeg").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    splits, rejects = prepare_folder(tmp_path / "in", TOGETHER)
    assert [utterance.id for utterance in splits["train"]] == ["a"]
    assert rejects == []


def test_names_of_any_bytes(tmp_path: Path) -> None:
    folder = os.fsencode(tmp_path)
    for name in (b"caf\xe9", b"caf\xe8", b"na\xc3\xafve", b"\xff\xfe", b"-a", b"tab\there"):
        record(Path(os.fsdecode(folder + b"/" + name + b".wav")))
    record(tmp_path / "line\nbreak.wav")
    splits, rejects = prepare_folder(tmp_path, TOGETHER)
    ids = [utterance.id for utterance in splits["train"]]
    assert len(set(ids)) == 6
    assert "naïve" in ids
    assert all(id.encode() for id in ids)
    assert [reject.reason for reject in rejects] == ["line break in the file's name"]


def test_lists_may_hold_any_bytes_and_a_byte_order_mark(tmp_path: Path) -> None:
    record(Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.wav")))
    record(tmp_path / "a.wav")
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "train.txt").write_bytes(b"\xef\xbb\xbfa.wav\r\n")
    (tmp_path / "lists" / "test.txt").write_bytes(b"caf\xe9.wav\n")
    splits, _ = prepare_folder(tmp_path, FolderConfig(lists=tmp_path / "lists"))
    assert {split: [u.id for u in part] for split, part in splits.items()} == {
        "train": ["a"],
        "valid": [],
        "test": ["caf_"],
    }


def test_recordings_that_no_list_names_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in "abc":
        record(tmp_path / f"{name}.wav")
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "train.txt").write_text("a.wav\n")
    prepare_folder(tmp_path, FolderConfig(lists=tmp_path / "lists"))
    assert "not in any split: 2 recordings" in capsys.readouterr().out


def test_subfolders_named_like_splits_are_pointed_out_and_can_be_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for part, count in (("train", 4), ("dev", 2), ("test", 2)):
        for number in range(count):
            record(tmp_path / part / f"{part}-{number}.wav")
    prepare_folder(tmp_path, FolderConfig(valid_fraction=0.25, test_fraction=0.25))
    assert "--train train --valid dev --test test keeps them as splits" in capsys.readouterr().out
    splits, _ = prepare_folder(tmp_path, FolderConfig(), parts={"train": "train", "valid": "dev", "test": "test/"})
    assert {split: len(part) for split, part in splits.items()} == {"train": 4, "valid": 2, "test": 2}
    assert all(Path(u.recording).parent.name == "dev" for u in splits["valid"])
    with pytest.raises(UserError, match="--test eval: no audio files in"):
        prepare_folder(tmp_path, FolderConfig(), parts={"train": "train", "test": "eval"})
