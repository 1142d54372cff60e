"""Preparation of text, on a few sentences in each layout."""

from pathlib import Path

import numpy as np
import pytest

from data_prep.text import text
from zfaudio.data import read_manifest, read_utterances
from zfaudio.errors import UserError

SPLITS = ("train", "valid", "test")


def write(path: Path, content: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")
    return path


def read(shards: Path, split: str) -> list[tuple[str, str]]:
    """The file and the words of each sentence."""
    words = read_manifest(shards).vocabulary
    return [(one.speaker, " ".join(words[id] for id in one.frames[:, 0])) for one in read_utterances(shards, split)]


@pytest.fixture
def reviews(tmp_path: Path) -> Path:
    """Twelve training reviews and two others in the layout of aclImdb, with its lists beside them."""
    folder = tmp_path / "aclImdb"
    for number in range(6):
        for mood in ("pos", "neg"):
            write(folder / f"train/{mood}/{number}_1.txt", f"The film is {mood}.<br /><br />I saw film {number}!")
    longer = "I saw it twice, and it is still as good as the book that it is of."
    write(folder / "test/pos/0_9.txt", f"The film is good. {longer}")
    write(folder / "test/neg/0_2.txt", "Neg is the film?")
    write(folder / "train/urls_pos.txt", "http://somewhere\n")
    write(folder / "README.txt", "no review")
    return folder


def test_reviews_become_sentences_of_known_words(reviews, tmp_path):
    text(reviews, tmp_path / "out", valid_fraction=0.2)
    manifest = read_manifest(tmp_path / "out")
    assert (manifest.kind, manifest.frame_size) == ("tokens", 1)
    assert manifest.vocabulary[:4] == ["<s>", "</s>", "<unk>", "film"]
    assert read(tmp_path / "out", "test") == [
        ("test/neg/0_2", "neg is the film <unk> </s>"),
        ("test/pos/0_9", "the film is <unk> . </s>"),
    ]
    train, valid = ([source for source, _ in read(tmp_path / "out", split)] for split in ("train", "valid"))
    assert (len(train), len(valid)) == (20, 4)
    assert not set(train) & set(valid)
    assert {source.split("/")[0] for source in train + valid} == {"train"}
    assert train != sorted(train)


def test_words_are_chosen_by_count_and_then_alphabetically(tmp_path):
    write(tmp_path / "in/train.txt", "b b b c c\na a d d\ne\n")
    write(tmp_path / "in/valid.txt", "a e\n")
    text(tmp_path / "in", tmp_path / "out")
    assert read_manifest(tmp_path / "out").vocabulary == ["<s>", "</s>", "<unk>", "b", "a", "c", "d"]
    assert read(tmp_path / "out", "valid") == [("valid", "a <unk> </s>")]
    text(tmp_path / "in", tmp_path / "few", vocabulary=5)
    assert read_manifest(tmp_path / "few").vocabulary == ["<s>", "</s>", "<unk>", "b", "a"]
    text(tmp_path / "in", tmp_path / "all", least_count=1)
    assert read_manifest(tmp_path / "all").vocabulary[3:] == ["b", "a", "c", "d", "e"]


def test_one_file_a_split_has_a_sentence_a_line(tmp_path, capsys):
    write(tmp_path / "in/ptb.train.txt", " mr. a . the <unk> \n mr. a . the b \n")
    write(tmp_path / "in/ptb.valid.txt", " the b . b \n")
    write(tmp_path / "in/ptb.test.txt", " a <unk> a \n")
    text(tmp_path / "in", tmp_path / "out")
    assert read(tmp_path / "out", "valid") == [("ptb.valid", "the <unk> . <unk> </s>")]
    assert read(tmp_path / "out", "test") == [("ptb.test", "a <unk> a </s>")]
    assert len(read(tmp_path / "out", "train")) == 2
    assert "test: 25.00% of the words are <unk>" in capsys.readouterr().out


def test_any_folder_is_split_by_file_at_random(tmp_path):
    for number in range(20):
        write(tmp_path / f"in/{number % 2}/text {number}.txt", f"This is text {number}. This is it.")
    write(tmp_path / "in/.hidden/text.txt", "This is hidden.")
    for out, seed in (("a", 0), ("b", 0), ("c", 1)):
        text(tmp_path / "in", tmp_path / out, valid_fraction=0.1, test_fraction=0.2, seed=seed)
    sources = [{source for source, _ in read(tmp_path / "a", split)} for split in SPLITS]
    assert [len(found) for found in sources] == [14, 2, 4]
    assert len(set.union(*sources)) == 20
    assert "1/text 3" in set.union(*sources)
    assert read(tmp_path / "a", "train") == read(tmp_path / "b", "train")
    assert {source for source, _ in read(tmp_path / "c", "test")} != sources[2]


def test_longer_sentences_are_left_out(tmp_path, capsys):
    write(tmp_path / "in/train.txt", "a b c\na b\na b c d\n")
    write(tmp_path / "in/test.txt", "a b\n")
    text(tmp_path / "in", tmp_path / "out", longest=3)
    assert sorted(words for _, words in read(tmp_path / "out", "train")) == ["a b </s>", "a b <unk> </s>"]
    assert "train: 2 of 3 sentences, 5 words, from 1 files" in capsys.readouterr().out


def test_every_id_is_an_int16_frame_of_its_own(reviews, tmp_path):
    text(reviews, tmp_path / "out")
    for utterance in read_utterances(tmp_path / "out", "train"):
        assert utterance.frames.dtype == np.int16
        assert utterance.frames.shape == (utterance.samples, 1)
        assert utterance.frames[-1] == 1
        assert np.all(utterance.frames[:-1] > 1)


def test_another_encoding_is_read_if_it_is_named(reviews, tmp_path):
    (reviews / "test/pos/0_9.txt").write_bytes("The film is passé.".encode("latin-1"))
    for path in (reviews / "train").rglob("0_1.txt"):
        path.write_bytes("Passé.".encode("latin-1"))
    text(reviews, tmp_path / "out", encoding="latin-1", valid_fraction=0)
    assert ("test/pos/0_9", "the film is passé . </s>") in read(tmp_path / "out", "test")


# Mistakes


def assert_said(corpus: Path, tmp_path: Path, said: str, **options: object) -> None:
    with pytest.raises(UserError, match=said) as caught:
        text(corpus, tmp_path / "out", **options)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out/manifest.json").exists()


def test_files_that_are_no_text_are_named(reviews, tmp_path):
    path = reviews / "train/pos/3_1.txt"
    path.write_bytes("passé".encode("latin-1"))
    assert_said(reviews, tmp_path, r"train/pos/3_1\.txt: no text in utf-8 \(byte 4\); name its encoding")
    path.write_bytes("a film".encode("utf-16-le"))
    assert_said(reviews, tmp_path, r"train/pos/3_1\.txt: no text in utf-8 \(it holds NUL characters\)")
    for content in (b"", b" \n", "\ufeff".encode()):
        path.write_bytes(content)
        assert_said(reviews, tmp_path, r"train/pos/3_1\.txt: empty")


def test_folders_without_text_are_named(reviews, tmp_path):
    assert_said(tmp_path / "nowhere", tmp_path, "nowhere: no such folder")
    (tmp_path / "empty").mkdir()
    assert_said(tmp_path / "empty", tmp_path, r"empty: no text files \(\*\.txt\)")
    for path in (reviews / "test").rglob("*.txt"):
        path.unlink()
    assert_said(reviews, tmp_path, r"aclImdb/test: no text files")
    write(tmp_path / "single/train.txt", "One file. It cannot be split.")
    assert_said(tmp_path / "single", tmp_path, "1 files.* too few to split")


def test_a_split_without_any_sentence_is_named(reviews, tmp_path):
    assert_said(reviews, tmp_path, r"aclImdb: train: nothing is left; of 2\d sentences .* at most 1 words", longest=1)
    for path in (reviews / "test").rglob("*.txt"):
        path.write_text("* * *")
    assert_said(reviews, tmp_path, "aclImdb: test: nothing is left; of 0 sentences in 2 files")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"vocabulary": 3}, "--vocabulary 3: must be from 4 to 32768"),
        ({"vocabulary": 40_000}, "--vocabulary 40000"),
        ({"least_count": 0}, "--least-count 0"),
        ({"longest": 0}, "--longest 0"),
        ({"encoding": "klingon"}, "--encoding klingon: no such encoding"),
        ({"valid_fraction": 1.0}, "valid-fraction 1.0"),
    ],
)
def test_options_out_of_range(reviews, tmp_path, options, said):
    assert_said(reviews, tmp_path, said, **options)
