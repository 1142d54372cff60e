import random
import sys
from pathlib import Path

import pytest
from speech import load_utterance
from timit_tree import RATE, lay_out

from data_prep.timit import timit
from data_prep.timit_disc import CORE_TEST_SPEAKERS, DEVELOPMENT_SPEAKERS
from zfaudio.command import run_command
from zfaudio.corpus.kaldi import Utterance, read_data_dir
from zfaudio.errors import UserError


def contents(out: Path) -> dict[str, list[tuple[str, str, str | None, bytes]]]:
    """Return everything from which shards would be made, by split."""

    def key(utterance: Utterance) -> tuple[str, str, str | None, bytes]:
        return utterance.id, utterance.speaker, utterance.text, load_utterance(utterance, RATE).tobytes()

    return {split: [key(u) for u in read_data_dir(out / split)] for split in ("train", "valid", "test")}


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    return lay_out(tmp_path / "disc", ["FABC0", "MDEF0", "MGHI1"], ["FJKL0"])


def test_paper_protocol_keeps_a_share_of_training_for_validation(corpus: Path, tmp_path: Path) -> None:
    timit(str(corpus), str(tmp_path / "out"), valid_fraction=0.1)
    found = contents(tmp_path / "out")
    assert {split: len(rows) for split, rows in found.items()} == {"train": 27, "valid": 3, "test": 10}
    assert {row[1] for row in found["test"]} == {"FJKL0"}
    assert not {row[0] for row in found["train"]} & {row[0] for row in found["valid"]}
    assert ("FJKL0-SX3", "The words of SX3.") in [(row[0], row[2]) for row in found["test"]]


def test_phone_alignments_go_along_in_seconds(corpus: Path, tmp_path: Path) -> None:
    timit(str(corpus), str(tmp_path / "out"))
    lines = (tmp_path / "out" / "test" / "phones.ctm").read_text().splitlines()
    assert lines[:2] == ["FJKL0-SA1 1 0.000000 0.010000 h#", "FJKL0-SA1 1 0.010000 0.015000 sh"]
    assert len(lines) == 20


def test_utterances_without_a_phone_file_go_without(corpus: Path, tmp_path: Path) -> None:
    for path in (corpus / "TIMIT" / "TEST").rglob("SX?.PHN"):
        path.unlink()
    timit(str(corpus), str(tmp_path / "out"))
    assert len((tmp_path / "out" / "test" / "phones.ctm").read_text().splitlines()) == 10
    for path in corpus.rglob("*.PHN"):
        path.unlink()
    timit(str(corpus), str(tmp_path / "out"))
    assert not list((tmp_path / "out").rglob("phones.ctm"))
    assert len(read_data_dir(tmp_path / "out" / "test")) == 10


def test_a_line_that_is_no_phone_is_named(corpus: Path, tmp_path: Path) -> None:
    path = corpus / "TIMIT" / "TEST" / "DR1" / "FJKL0" / "SX3.PHN"
    path.write_text("0 160 h#\n160 sh\n")
    with pytest.raises(UserError, match=r"SX3\.PHN: '160 sh' is not START END PHONE"):
        timit(str(corpus), str(tmp_path / "out"))


@pytest.mark.parametrize(("lower", "riff"), [(True, False), (False, True), (True, True)])
def test_other_copies_of_the_disc_give_the_same_utterances(
    corpus: Path, tmp_path: Path, lower: bool, riff: bool
) -> None:
    copy = lay_out(tmp_path / "copy", ["FABC0", "MDEF0", "MGHI1"], ["FJKL0"], lower=lower, riff=riff)
    timit(str(corpus), str(tmp_path / "a"))
    timit(str(copy), str(tmp_path / "b"))
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_riff_copies_beside_the_originals_are_not_counted_twice(corpus: Path, tmp_path: Path) -> None:
    timit(str(corpus), str(tmp_path / "a"))
    lay_out(corpus, ["FABC0", "MDEF0", "MGHI1"], ["FJKL0"], riff=True)
    timit(str(corpus), str(tmp_path / "b"))
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


@pytest.mark.parametrize("below", ["", "TIMIT"])
def test_corpus_may_be_named_at_two_levels(corpus: Path, tmp_path: Path, below: str) -> None:
    timit(str(corpus / below), str(tmp_path / "out"))
    assert len(read_data_dir(tmp_path / "out" / "test")) == 10


def test_split_depends_on_the_seed_and_not_on_directory_order(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    timit(str(corpus), str(tmp_path / "a"), valid_fraction=0.3)
    timit(str(corpus), str(tmp_path / "other"), valid_fraction=0.3, seed=1)
    for name in ("rglob", "iterdir"):
        original = getattr(Path, name)

        def shuffled(self: Path, *pattern: str, original: object = original) -> list[Path]:
            found = list(original(self, *pattern))  # type: ignore[operator]
            random.Random(3).shuffle(found)
            return found

        monkeypatch.setattr(Path, name, shuffled)
    timit(str(corpus), str(tmp_path / "b"), valid_fraction=0.3)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert contents(tmp_path / "a")["valid"] != contents(tmp_path / "other")["valid"]


def test_kaldi_protocol_takes_the_published_speakers_and_no_sa(tmp_path: Path) -> None:
    corpus = lay_out(tmp_path / "disc", ["FABC0"], ["MDAB0", "FELC0", "FAKS0", "MZZZ0"])
    timit(str(corpus), str(tmp_path / "out"), protocol="kaldi")
    found = contents(tmp_path / "out")
    assert {split: {row[1] for row in rows} for split, rows in found.items()} == {
        "train": {"FABC0"},
        "valid": {"FAKS0"},
        "test": {"MDAB0", "FELC0"},
    }
    assert {len(rows) for rows in found.values()} == {8, 16}
    assert not any("-SA" in row[0] for rows in found.values() for row in rows)


def test_kaldi_lists_are_50_and_24_distinct_speakers() -> None:
    assert (len(DEVELOPMENT_SPEAKERS), len(CORE_TEST_SPEAKERS)) == (50, 24)
    assert not DEVELOPMENT_SPEAKERS & CORE_TEST_SPEAKERS
    assert sum(speaker.startswith("F") for speaker in CORE_TEST_SPEAKERS) == 8


def test_kaldi_protocol_without_its_speakers_is_one_line(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        run_command(timit, [str(corpus), str(tmp_path / "out"), "--protocol", "kaldi"], prog="timit")
    error = capsys.readouterr().err
    assert "use --protocol paper" in error
    assert error.count("\n") == 1


def test_what_the_disc_has_and_the_copy_lacks_is_named(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in (corpus / "TIMIT" / "TRAIN" / "DR1" / "FABC0").glob("S?1.*"):
        path.unlink()
    timit(str(corpus), str(tmp_path / "out"))
    error = capsys.readouterr().err
    assert "TRAIN has 3 of 462 speakers" in error
    assert "FABC0 has 8 of 10 sentences, missing: SA1, 1 SX" in error
    doc = corpus / "TIMIT" / "DOC"
    doc.mkdir()
    (doc / "SPKRINFO.TXT").write_text("; comment\nABC0  F  1  TRN  01/01/86\nXYZ0  M  1  TRN  01/01/86\n")
    (doc / "SPKRSENT.TXT").write_text("; comment\nABC0  1  2  1  2  3  4  5  10  11  12\n")
    timit(str(corpus), str(tmp_path / "out"))
    error = capsys.readouterr().err
    assert "TRAIN has 3 of 462 speakers, missing: MXYZ0" in error
    assert "missing: SA1, SX1" in error
    with pytest.raises(UserError, match="--strict"):
        timit(str(corpus), str(tmp_path / "out"), strict=True)


@pytest.mark.parametrize("content", [b"", b"NIST_1A\n   1024\n", b"words"])
def test_bad_recording_is_rejected_and_the_rest_kept(
    corpus: Path, tmp_path: Path, content: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = corpus / "TIMIT" / "TEST" / "DR1" / "FJKL0" / "SX3.WAV"
    bad.write_bytes(content)
    timit(str(corpus), str(tmp_path / "out"))
    assert len(read_data_dir(tmp_path / "out" / "test")) == 9
    (line,) = (tmp_path / "out" / "rejects.txt").read_text().splitlines()
    assert line.startswith("FJKL0-SX3\t")
    assert line.endswith(str(bad))
    assert "rejected: 1" in capsys.readouterr().out


def test_truncated_sphere_is_rejected(corpus: Path, tmp_path: Path) -> None:
    bad = corpus / "TIMIT" / "TEST" / "DR1" / "FJKL0" / "SX3.WAV"
    bad.write_bytes(bad.read_bytes()[:-100])
    timit(str(corpus), str(tmp_path / "out"))
    assert "its header declares 400" in (tmp_path / "out" / "rejects.txt").read_text()


def test_folder_that_is_not_timit_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="neither TRAIN nor TIMIT/TRAIN"):
        timit(str(tmp_path), str(tmp_path / "out"))
    with pytest.raises(UserError, match="no such folder"):
        timit(str(tmp_path / "nowhere"), str(tmp_path / "out"))


def test_dask_that_is_not_installed_is_named(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(UserError, match=r"zfaudio\[cluster\]"):
        timit(str(corpus), str(tmp_path / "out"), dask="tcp://127.0.0.1:1")


def test_copies_in_hidden_folders_are_no_speakers(corpus: Path, tmp_path: Path) -> None:
    timit(str(corpus), str(tmp_path / "out"))
    speaker = corpus / "TIMIT" / "TRAIN" / "DR1" / "FABC0"
    (speaker / ".ipynb_checkpoints").mkdir()
    for path in speaker.glob("SX*"):
        (speaker / ".ipynb_checkpoints" / path.name).write_bytes(path.read_bytes())
    (speaker.parent / "MGHI1").rename(tmp_path / "elsewhere")
    (speaker.parent / "MGHI1").symlink_to(tmp_path / "elsewhere")
    timit(str(corpus), str(tmp_path / "again"))
    assert contents(tmp_path / "again") == contents(tmp_path / "out")
